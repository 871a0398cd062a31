"""Files of our own from one run to another: in a directory that only root can write, and that each boot empties.

Without most of them a start takes longer, or nobody knows what the last run has seen: read() and write() do what they
can. Locks go with their process (docs/promises.md, 10). Notes, without which nothing may be done, are in files.py.
"""

from __future__ import annotations

import errno
import fcntl
import posix
import stat
import time

DIR = "/var/run/envstart"


def directory() -> str:
    """Return DIR, made if missing. NoSpaceError, NotFoundError, PermissionDeniedError if others can write there."""
    try:
        return _directory()
    except OSError as error:
        from envstart.errors import NoSpaceError, NotFoundError, PermissionDeniedError, full, reason

        if isinstance(error, PermissionError):
            # Never to be removed with what is in it: volumes of an older version can be mounted below.
            remedy = f"look at who made it, then: chown root {DIR} && chmod 700 {DIR}"
            raise PermissionDeniedError(f"cannot use {DIR}: {reason(error)}", hint=remedy) from None
        raise (NoSpaceError if full(error) else NotFoundError)(f"cannot make {DIR}: {reason(error)}") from None


def _directory() -> str:
    make_private(DIR)
    return DIR


def make_private(path: str) -> None:
    """Make a directory for root alone; PermissionError if another one is there that others can write. OSError."""
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        require_private(path)


def require_private(path: str) -> None:
    """Raise PermissionError unless it is a directory that only root can write. OSError."""
    status = posix.lstat(path)
    if status.st_uid != posix.geteuid() or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(errno.EPERM, "it must be a directory that only root can write")


def path(name: str) -> str:
    """Return the path of a file of ours."""
    return f"{DIR}/{name}"


def read(name: str) -> bytes:
    """Return what was written last; nothing, if that is not to be had."""
    try:
        with open(path(name), "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def write(name: str, data: bytes) -> None:
    """Keep it, if there is room; a reader can meet a part of it."""
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
        descriptor = posix.open(f"{_directory()}/{name}", flags, 0o600)
        try:
            posix.write(descriptor, data)
        finally:
            posix.close(descriptor)
    except OSError:
        pass


def touch(name: str) -> None:
    """Keep the moment. By the clock that nobody sets; it begins anew at each boot, when all this is gone."""
    # Rounded down: what lies in the future is of another boot.
    write(name, f"{int(time.monotonic() * 1000) / 1000:.3f} {posix.getpid()}\n".encode())


def age(name: str) -> float | None:
    """Return the seconds since its touch(); None if there is none."""
    try:
        seconds = time.monotonic() - float(read(name).split()[0])
    except (ValueError, IndexError):
        return None
    return seconds if seconds >= 0 else None


def claim_lock(name: str) -> tuple[int | None, str]:
    """Return (descriptor, "") of a lock that was free, or (None, what its holder has noted).

    The lock goes with its descriptor, and stays as long as a child keeps a copy of that, whatever becomes of us.
    OSError, PermissionDeniedError, NotFoundError.
    """
    path = f"{directory()}/{name}.lock"
    descriptor = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = lock_holder(descriptor)
        posix.close(descriptor)
        return None, told
    return descriptor, ""


def lock_holder(descriptor: int) -> str:
    """Return what the holder of a lock has noted."""
    try:
        return posix.pread(descriptor, 200, 0).decode("utf-8", "replace")
    except IsADirectoryError:
        return "another hook"


def sign_lock(descriptor: int, text: str) -> None:
    """Tell those who find it locked why; a full disk keeps them ignorant."""
    try:
        posix.ftruncate(descriptor, 0)
        posix.pwrite(descriptor, text.encode(), 0)
    except OSError:
        pass
