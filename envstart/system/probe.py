"""Probe whether a mounted directory is usable; only in a child, by Host.call_with_timeout: it may never come back.

Arguments and results are plain values; an OSError is passed on to the parent.
"""

from __future__ import annotations

import errno
import posix
import stat
import time

# What a broken mount answers (the "corrupt mount" errors of Kubernetes' mount-utils, and FreeBSD's ENXIO).
_BROKEN = frozenset(
    getattr(errno, name) for name in "ESTALE ENOTCONN EIO ENXIO EHOSTDOWN ETIMEDOUT ENODEV ECONNREFUSED".split()
)
# A fixed name, so that what a crash leaves is taken away by the next probe (docs/faults.md, 118).
_PROBE = ".envstart.probe"
IN_THE_WAY = f"{_PROBE} in it is a directory"
_CREATE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC

# Why an empty directory of this host takes no file, and is as it should be.
_HARMLESS = frozenset(posix.strerror(number) for number in (errno.EROFS, errno.EACCES, errno.EPERM))
_LOCAL = ("nullfs", "zfs", "ufs", "ext4")

# What probe() says first. The other words tell which name is missing, or the system's own words.
USABLE, EMPTY, BROKEN, DENIED, LACKING = "usable", "empty", "broken", "denied", "lacking"
# It answers, and cannot be listed.
UNREADABLE = "unreadable"


class ProbeResult:
    """The answer of a mounted directory (see examine).

    ``verdict``: one of the words above, or HUNG or FAILED; with the ``detail``, the ``other`` node's lease, and why it
    takes no file (``refusal``).
    """

    __slots__ = ("verdict", "detail", "other", "refusal")

    HUNG = "hung"
    FAILED = "failed"

    def __init__(
        self, verdict: str = "", detail: str = "", other: tuple[str, int] | None = None, refusal: str = ""
    ) -> None:
        """Keep what examine() returns."""
        self.verdict, self.detail, self.other, self.refusal = verdict, detail, other, refusal


def probe(
    point: str, required: tuple[str, ...], lease: tuple[str, str] | None
) -> tuple[str, str, tuple[str, int] | None]:
    """Return whether a mounted directory is usable: (verdict, detail, lease).

    ``lease`` names two files, CBSD's ``locked`` and the file with this node's name; what comes back is the other
    node's name and the age in seconds of its lease, or None when there is none or it is ours (docs/cbsd.md#lease).
    """
    try:
        verdict, detail = _look(point, required)
    except OSError as error:
        if error.errno in _BROKEN:
            return BROKEN, error.strerror or str(error), None
        if error.errno in (errno.EACCES, errno.EPERM):
            return DENIED, error.strerror or str(error), None
        raise
    return verdict, detail, other_node(*lease) if lease and verdict == USABLE else None


def _look(point: str, required: tuple[str, ...]) -> tuple[str, str]:
    answered = _ask(point)
    try:
        with posix.scandir(point) as entries:
            empty = all(entry.name == _PROBE for entry in entries)
    except NotADirectoryError:
        # A line of THIN_FSTAB can mount a file on a file.
        posix.close(open_regular(point))
        if was_removed(point):
            return BROKEN, "the file that it shows was removed"
        empty = False
    except OSError as error:
        if answered and error.errno == errno.EIO:
            return UNREADABLE, error.strerror or str(error)
        raise
    if refused := refusal(point) if empty else "":
        return (BROKEN, "the directory that it shows was removed") if was_removed(point) else (EMPTY, refused)
    for name in required:
        try:
            posix.lstat(f"{point}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return LACKING, name
    return USABLE, ""


def may_be_empty(fstype: str, detail: str, *, read_only: bool) -> bool:
    """Tell whether a directory that is EMPTY, with this detail, can be what is meant.

    It is not to be written to, or no server is asked for it, which could show like that what it does not export.
    """
    return read_only or (fstype in _LOCAL and detail in _HARMLESS)


def _ask(point: str) -> bool:
    """Have the server itself answer, and tell whether it did; a stale directory is an OSError.

    What the kernel has kept of a directory it shows for seconds, with some options a minute, after the server has died
    (acdirmin of mount_nfs(8); nfs_open() and nfs_getattr() look there first). A name that nobody has asked for yet is
    not among that.
    """
    try:
        posix.lstat(f"{point}/.envstart.{posix.getpid()}.{time.monotonic_ns()}")
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise
        return error.errno == errno.ENOENT
    return True


def was_removed(point: str) -> bool:
    """Tell whether a mount shows a file or an empty directory that was removed, be there a new one of its name."""
    # A nullfs of FreeBSD keeps what it has mounted (nullm_lowerrootvp in sys/fs/nullfs/null_vfsops.c).
    return posix.stat(point).st_nlink == 0


def refusal(point: str) -> str:
    """Return why a directory takes no file, in the system's words; "" if it does. A stale one is an OSError."""
    path = f"{point}/{_PROBE}"
    try:
        # Root of a jail owns what is in there: it can be a FIFO, or a link to anywhere.
        status = _lstat(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            return IN_THE_WAY
        if status is not None:
            posix.unlink(path)
        descriptor = posix.open(path, _CREATE, 0o600)
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise
        return error.strerror or str(error)
    posix.close(descriptor)
    posix.unlink(path)
    return ""


def _lstat(path: str) -> posix.stat_result | None:
    try:
        return posix.lstat(path)
    except OSError:
        return None


def examine(
    item: tuple[str, tuple[str, ...], tuple[str, str] | None, bool],
) -> tuple[str, str, tuple[str, int] | None, str]:
    """Return what probe() says of one of many directories (point, required, lease, write), and its refusal()."""
    point, required, lease, write = item
    verdict, detail, other = probe(point, required, lease)
    written = write and verdict == USABLE and stat.S_ISDIR(posix.stat(point).st_mode)
    return verdict, detail, other, refusal(point) if written else ""


def open_regular(path: str, *, follow: bool = False) -> int:
    """Open a file where others may have laid a FIFO, a device, or a link, which only ``follow`` allows. OSError."""
    flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | (0 if follow else posix.O_NOFOLLOW)
    try:
        descriptor = posix.open(path, flags)
        if stat.S_ISREG(posix.fstat(descriptor).st_mode):
            return descriptor
        posix.close(descriptor)
    except OSError as error:
        # What a link gives: FreeBSD, Linux. A socket, or a device without a driver.
        if error.errno not in (errno.EMLINK, errno.ELOOP, errno.EOPNOTSUPP, errno.ENXIO):
            raise
    raise OSError(errno.EINVAL, f"{path} is no regular file")


def other_node(locked: str, own_name_file: str) -> tuple[str, int] | None:
    """Return the other node that holds the lease, and since how many seconds; None if nobody else does."""
    try:
        with open(open_regular(locked), encoding="utf-8", errors="replace") as file:
            holder = file.read(256).strip()
            touched = posix.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        with open(own_name_file, encoding="utf-8", errors="replace") as file:
            own = file.read(256).strip()
    except FileNotFoundError:
        own = posix.uname().nodename
    # A clock that is behind the server's makes the age negative: the lease is then as fresh as can be.
    return (holder, max(0, int(time.time() - touched))) if holder and holder != own else None
