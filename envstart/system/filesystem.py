"""Touch directories that may lie on a dead server, beside probe.py; only in a child, by Host.call_with_timeout.

Arguments and results are plain values; an OSError is passed on to the parent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

# MAXSYMLINKS of FreeBSD (sys/sys/param.h).
_LINKS_MAX = 32
# How often a missing directory is made whose parent others take away.
_TRIES = 5


def resolve(paths: list[str], mounted: Collection[str]) -> list[tuple[str, bool]]:
    """Return of each path its name without links, as in the mount table, and whether it is an empty directory.

    What is ``mounted`` is no link, and is not touched: it can be dead, and mounted under this name all the same.
    """
    names = [_real(path, mounted) for path in paths]
    return [(real, real not in mounted and _is_empty(real)) for real in names]


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


def survey(point: str, given: str | None, create_below: str | None) -> tuple[list[str], list[str]]:
    """Return of a mount point (directories that must be made, outermost first; three names that are in it).

    ``given`` is its name as CBSD knows it, None if it is not to be made: a link there that leads nowhere is not made
    good. Parents are made only below ``create_below``, which may be a link, as /var/run of Linux is.
    FileNotFoundError, NotADirectoryError and the like are passed on.
    """
    try:
        if not stat.S_ISDIR(os.stat(point).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with os.scandir(point) as entries:
            return [], sorted(entry.name for entry, _ in zip(entries, range(3)))
    except FileNotFoundError:
        return _missing(point, given, create_below), []


def _missing(point: str, given: str | None, create_below: str | None) -> list[str]:
    """Return what must be made of a missing mount point, outermost first; FileNotFoundError if it may not be made."""
    if given is None or os.path.islink(given):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    missing = [point]
    while not os.path.isdir(os.path.dirname(missing[0])):
        missing.insert(0, os.path.dirname(missing[0]))
        if create_below is None or not missing[0].startswith(os.path.realpath(create_below) + "/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return missing


def survey_file(point: str, given: str | None, create_below: str | None) -> tuple[list[str], list[str]]:
    """Look at the mount point of a file as survey() does at that of a directory; what is in it is told by its size.

    FreeBSD mounts on no file that has a second hard link (vfs_domount_first() in sys/kern/vfs_mount.c).
    """
    try:
        status = os.stat(point)
    except FileNotFoundError:
        return _missing(point, given, create_below), []
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EEXIST, "it is no file, and the source is one")
    if status.st_nlink != 1:
        raise OSError(errno.EMLINK, "it has another hard link")
    return [], [f"{status.st_size} bytes"] if status.st_size else []


def bare(points: list[str]) -> list[tuple[list[str], bool]]:
    """Return of each mount point without a mount three names that are in it, and whether its local.sqlite is a stub.

    That is one without a table, as CBSD leaves it in a system directory that is not mounted (docs/cbsd.md#stubs).
    """
    contents = []
    for point in points:
        try:
            with os.scandir(point) as entries:
                names = sorted(entry.name for entry, _ in zip(entries, range(3)))
        except OSError:
            names = []
        contents.append((names, bool(names) and _is_stub(f"{point}/local.sqlite")))
    return contents


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
    """Let the link NAME in each directory lead to its target; return the paths of those that did not yet."""
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
    """Take the link NAME away where it leads to a file of this program's name; return the paths."""
    os.stat(system)
    paths = {f"{system}/{directory}/{name}": program for directory, program in programs.items()}
    links = [path for path in paths if os.path.islink(path) and not os.path.islink(os.path.dirname(path))]
    taken = [path for path in links if os.path.basename(os.readlink(path)) == paths[path]]
    for path in taken:
        os.unlink(path)
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


def make_file(paths: list[str], mode: int) -> None:
    """Make an empty file, the last of the paths, and the directories before it, with this mode."""
    make_directories(paths[:-1], mode)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(paths[-1], flags, 0o644))


def remove_empty(paths: list[str]) -> None:
    """Remove empty directories and files, the last one first; what is in use by now stays."""
    for path in reversed(paths):
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                os.rmdir(path)
            elif status.st_size == 0:
                os.unlink(path)
            else:
                return
        except OSError:
            return


def wrong_links(directory: str, targets: dict[str, str]) -> list[str]:
    """Return the names below ``directory`` that are no relative links to their ``targets`` below it. OSError."""
    with os.scandir(directory):
        pass
    return [name for name, target in targets.items() if not _leads(directory, name, target)]


def _leads(directory: str, name: str, target: str) -> bool:
    try:
        link = os.readlink(f"{directory}/{name}")
    except OSError:
        return False
    # An absolute one leads elsewhere on the host than in the jail.
    return not link.startswith("/") and os.path.normpath(f"{os.path.dirname(name)}/{link}".lstrip("/")) == target


def opens(path: str) -> None:
    """Open a file to read it, and close it again. OSError."""
    # NONBLOCK: it can be a FIFO.
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def is_file(path: str) -> bool:
    """Return whether a path leads to a regular file. FileNotFoundError, OSError."""
    return stat.S_ISREG(os.stat(path).st_mode)


def is_directory(path: str) -> bool:
    """Tell whether it is a directory, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
