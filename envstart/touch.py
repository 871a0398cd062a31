"""What touches directories that may lie on a dead server. Run only in a child, by Host.bounded.

Arguments and results are plain values; an OSError is passed on to the parent.
"""

from __future__ import annotations

import errno
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

# What a broken mount answers (field/peers: the "corrupt mount" errors of Kubernetes, and FreeBSD's ENXIO).
_BROKEN = frozenset(
    getattr(errno, name) for name in "ESTALE ENOTCONN EIO ENXIO EHOSTDOWN ETIMEDOUT ENODEV ECONNREFUSED".split()
)
# A fixed name, so that what a crash leaves is taken away by the next probe (fault 118).
_PROBE = ".envstart.probe"
# MAXSYMLINKS of FreeBSD (sys/param.h).
_LINKS_MAX = 32
# How often a missing directory is made whose parent others take away.
_TRIES = 5

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
        _ask(point)
        with os.scandir(point) as entries:
            empty = all(entry.name == _PROBE for entry in entries)
        if empty and refusal(point):
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


def _ask(point: str) -> None:
    """Have the server itself answer, whatever it says; a stale directory is an OSError.

    What the kernel has kept of a directory it shows for seconds, with some options a minute, after the server has died
    (acdirmin of mount_nfs(8); nfs_open() and nfs_getattr() look there first). A name that nobody has asked for yet is
    not among that. What is not exported has an input/output error for each.
    """
    try:
        os.lstat(f"{point}/.envstart.{os.getpid()}.{time.monotonic_ns()}")
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise


def glance(point: str) -> None:
    """Read a mounted directory, and change nothing in it. OSError."""
    with os.scandir(point) as entries:
        next(entries, None)


def refusal(point: str) -> str:
    """Why a directory takes no file, in the system's words; "" if it does. A stale one is an OSError."""
    path = f"{point}/{_PROBE}"
    try:
        # Root of a jail owns what is in there: it can be a FIFO, or a link to anywhere.
        if os.path.lexists(path):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise
        return error.strerror or str(error)
    os.close(descriptor)
    os.unlink(path)
    return ""


def examine(
    item: tuple[str, tuple[str, ...], tuple[str, str] | None, bool],
) -> tuple[str, str, tuple[str, int] | None, str]:
    """look() at one of many directories (point, required, lease, write); and, with ``write``, its refusal()."""
    point, required, lease, write = item
    verdict, detail, other = look(point, required, lease)
    return verdict, detail, other, refusal(point) if write and verdict == USABLE else ""


def regular(path: str, links: bool = False) -> int:
    """A descriptor to read a file where somebody else may have laid a FIFO, a device, or a link to a file of the host
    (``links``: that one is followed). FileNotFoundError, OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        # What a link gives: FreeBSD, Linux. A socket, or a device without a driver.
        if error.errno not in (errno.EMLINK, errno.ELOOP, errno.EOPNOTSUPP, errno.ENXIO):
            raise
    raise OSError(errno.EINVAL, f"{path} is no regular file")


def other_node(locked: str, own_name_file: str) -> tuple[str, int] | None:
    """Which other node holds the lease, and since how many seconds; None if nobody else does."""
    try:
        with open(regular(locked), encoding="utf-8", errors="replace") as file:
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


def resolve(paths: list[str], mounted: Collection[str]) -> list[tuple[str, bool]]:
    """For each path: it without symbolic links, as the mount table has it; and whether it is an empty directory.

    What is ``mounted`` is no link, and is not touched: it can be dead, and found by this name all the same.
    """
    found = [_real(path, mounted) for path in paths]
    return [(real, real not in mounted and _is_empty(real)) for real in found]


def _real(path: str, mounted: Collection[str]) -> str:
    real, links = "", 0
    parts = path.split("/")[::-1]
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            real = real.rpartition("/")[0]
            continue
        here = f"{real}/{part}"
        target = None if here in mounted else _target(here)
        if target is None:
            real = here
            continue
        links += 1
        if links > _LINKS_MAX:
            # Whoever uses it is told so by the system.
            return path
        if target.startswith("/"):
            real = ""
        parts += target.split("/")[::-1]
    return real or "/"


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        # No link, or nothing at all.
        return None


def _is_empty(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def survey(point: str, given: str, create_below: str | None, create: bool) -> tuple[list[str], list[str]]:
    """A mount point before the mount: (directories that must be made, outermost first; three names that are in it).

    ``given`` is its name as CBSD knows it: a link there that leads nowhere is not made good. Parents are made only
    below ``create_below``, which may be a link, as /var/run of Linux is. FileNotFoundError, NotADirectoryError and the
    like are passed on.
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
        if create_below is None or not missing[0].startswith(os.path.realpath(create_below) + "/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return missing, []


def bare(points: list[str]) -> list[tuple[list[str], bool]]:
    """Of each mount point without a mount: three names that are in it, and whether its local.sqlite has no table, as
    CBSD leaves one that writes to a system directory which is not mounted (contract §2.4)."""
    found = []
    for point in points:
        try:
            with os.scandir(point) as entries:
                names = sorted(entry.name for entry, _ in zip(entries, range(3)))
        except OSError:
            names = []
        found.append((names, bool(names) and _is_stub(f"{point}/local.sqlite")))
    return found


def _is_stub(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    from urllib.parse import quote

    try:
        import sqlite3
    except ImportError:
        # Whoever asked for this has been told by the inventory.
        return False
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
        try:
            return not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone()
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError):
        # The words of an error can have bytes of the file in them.
        return True


def put_links(system: str, targets: dict[str, str], name: str) -> list[str]:
    """Let the link NAME in each directory lead to its target; returns the paths of those that did not yet."""
    os.stat(system)
    made = []
    for directory, target in targets.items():
        path = f"{system}/{directory}/{name}"
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if os.path.islink(os.path.dirname(path)):
            raise OSError(errno.ENOTDIR, f"{os.path.dirname(path)} is a link")
        if os.path.islink(path):
            if os.readlink(path) == target:
                continue
            os.unlink(path)
        os.symlink(target, path)
        made.append(path)
    return made


def take_links(system: str, programs: dict[str, str], name: str) -> list[str]:
    """Take the link NAME away where it leads to a file of this program's name; returns the paths."""
    os.stat(system)
    taken = []
    for directory, program in programs.items():
        path = f"{system}/{directory}/{name}"
        if os.path.islink(os.path.dirname(path)):
            continue
        if os.path.islink(path) and os.path.basename(os.readlink(path)) == program:
            os.unlink(path)
            taken.append(path)
    return taken


def make_directories(directories: list[str], mode: int) -> None:
    """Make them in this order, with this mode whatever the umask is.

    Environments share parents: what the start of another one has made meanwhile is as good, and what its end takes away
    is made again.
    """
    # Not chmod, which would change whatever somebody has put in its place by then.
    before = os.umask(0)
    try:
        for left in reversed(range(_TRIES)):
            try:
                for directory in directories:
                    _make_directory(directory, mode)
                return
            except FileNotFoundError:
                if not left:
                    raise
    finally:
        # The child may be asked for something else.
        os.umask(before)


def _make_directory(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def remove_directories(directories: list[str]) -> None:
    """Take away empty directories, the last one first; one that is in use by now stays."""
    for directory in reversed(directories):
        try:
            os.rmdir(directory)
        except OSError:
            return


def wrong_links(directory: str, wanted: dict[str, str]) -> list[str]:
    """Names below ``directory`` that are no relative links to where ``wanted`` says, itself relative to ``directory``.

    FileNotFoundError, NotADirectoryError and the like are passed on if ``directory`` itself is none.
    """
    with os.scandir(directory):
        pass
    return [name for name, target in wanted.items() if not _leads(directory, name, target)]


def _leads(directory: str, name: str, target: str) -> bool:
    try:
        link = os.readlink(f"{directory}/{name}")
    except OSError:
        return False
    # An absolute one leads elsewhere on the host than in the jail.
    return not link.startswith("/") and os.path.normpath(f"{os.path.dirname(name)}/{link}".lstrip("/")) == target


def is_directory(path: str) -> bool:
    """Whether it is a directory, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


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
