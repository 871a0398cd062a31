"""What touches directories that may lie on a dead server. Run only in a child, by Host.bounded.

Arguments and results are plain values; an OSError is passed on to the parent.
"""

from __future__ import annotations

import errno
import os
import stat

# What a broken mount answers (field/peers: the "corrupt mount" errors of Kubernetes, and FreeBSD's ENXIO).
_BROKEN = frozenset(
    getattr(errno, name) for name in "ESTALE ENOTCONN EIO ENXIO EHOSTDOWN ETIMEDOUT ENODEV ECONNREFUSED".split()
)
# A fixed name, so that what a crash leaves is taken away by the next probe (fault 118).
_PROBE = ".envstart.probe"

# What look() says first. The other words tell which name is missing, or the system's own words.
USABLE, EMPTY, BROKEN, DENIED, LACKING = "usable", "empty", "broken", "denied", "lacking"


def look(
    point: str, required: tuple[str, ...], lease: tuple[str, str] | None
) -> tuple[str, str, tuple[str, int] | None]:
    """Is a mounted directory usable: (verdict, detail, lease).

    ``lease`` names two files, CBSD's ``locked`` and the file with this node's name; what comes back is the other
    node's name and the age in seconds of its lease, or None when there is none or it is ours (contract §2.3).
    """
    try:
        with os.scandir(point) as entries:
            empty = all(entry.name == _PROBE for entry in entries)
        if empty and not _takes_a_file(point):
            return EMPTY, "", None
        for name in required:
            try:
                os.lstat(f"{point}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                return LACKING, name, None
    except OSError as error:
        if error.errno in _BROKEN:
            return BROKEN, error.strerror or str(error), None
        if error.errno in (errno.EACCES, errno.EPERM):
            return DENIED, error.strerror or str(error), None
        raise
    return USABLE, "", other_node(*lease) if lease else None


def glance(point: str) -> None:
    """Read a mounted directory, and change nothing in it. OSError."""
    with os.scandir(point) as entries:
        next(entries, None)


def _takes_a_file(point: str) -> bool:
    path = f"{point}/{_PROBE}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise
        return False
    os.close(descriptor)
    os.unlink(path)
    return True


def other_node(locked: str, own_name_file: str) -> tuple[str, int] | None:
    """Which other node holds the lease, and since how many seconds; None if nobody else does."""
    import time

    try:
        with open(locked, encoding="utf-8", errors="replace") as file:
            holder = file.read(256).strip()
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        with open(own_name_file, encoding="utf-8", errors="replace") as file:
            own = file.read(256).strip()
    except FileNotFoundError:
        own = os.uname().nodename
    # A clock that is behind the server's makes the age negative: the lease is then as fresh as can be.
    return (holder, max(0, int(time.time() - touched))) if holder and holder != own else None


def resolve(paths: list[str]) -> list[tuple[str, bool]]:
    """For each path: it without symbolic links, as the mount table has it; and whether it is an empty directory."""
    return [(real, _is_empty(real)) for real in map(os.path.realpath, paths)]


def _is_empty(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def survey(point: str, given: str, create_below: str | None, create: bool) -> tuple[list[str], list[str]]:
    """A mount point before the mount: (directories that must be made, outermost first; three names that are in it).

    ``given`` is its name as CBSD knows it: a link there that leads nowhere is not made good. Parents are made only
    below ``create_below``. FileNotFoundError, NotADirectoryError and the like are passed on.
    """
    try:
        if not stat.S_ISDIR(os.stat(point).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with os.scandir(point) as entries:
            return [], sorted(entry.name for entry, _ in zip(entries, range(3)))
    except FileNotFoundError:
        if not create or os.path.islink(given):
            raise
    missing = [point]
    while not os.path.isdir(os.path.dirname(missing[0])):
        missing.insert(0, os.path.dirname(missing[0]))
        if create_below is None or not missing[0].startswith(create_below + "/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return missing, []


def make_directories(directories: list[str], mode: int) -> None:
    """Make them in this order, with this mode whatever the umask is."""
    for directory in directories:
        os.mkdir(directory, mode)
        os.chmod(directory, mode)


def remove_directories(directories: list[str]) -> None:
    """Take away empty directories, the last one first; one that is in use by now stays."""
    for directory in reversed(directories):
        try:
            os.rmdir(directory)
        except OSError:
            return


def holders(point: str) -> list[int]:
    """Processes with a working directory, root or open file at or below ``point`` (Linux: from /proc alone)."""
    found = []
    prefix = point.rstrip("/") + "/"
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        links = [f"/proc/{name}/cwd", f"/proc/{name}/root", f"/proc/{name}/exe"]
        try:
            links += [f"/proc/{name}/fd/{descriptor}" for descriptor in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        for link in links:
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target == point or target.startswith(prefix):
                found.append(int(name))
                break
    return found
