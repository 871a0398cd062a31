"""Lock files, whose locks go with their process (docs/promises.md, 10)."""

from __future__ import annotations

import fcntl
import posix

from envstart.system import rundir


def claim(name: str) -> tuple[int | None, str]:
    """Return (descriptor, "") of a lock that was free, or (None, what its holder has noted).

    The lock goes with its descriptor, and stays as long as a child keeps a copy of that, whatever becomes of us.
    OSError, PermissionDeniedError, NotFoundError.
    """
    path = f"{rundir.directory()}/{name}.lock"
    descriptor = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = holder(descriptor)
        posix.close(descriptor)
        return None, told
    return descriptor, ""


def holder(descriptor: int) -> str:
    """Return what the holder of a lock has noted."""
    try:
        return posix.pread(descriptor, 200, 0).decode("utf-8", "replace")
    except IsADirectoryError:
        return "another hook"


def note(descriptor: int, text: str) -> None:
    """Tell those who find it locked why; a full disk keeps them ignorant."""
    try:
        posix.ftruncate(descriptor, 0)
        posix.pwrite(descriptor, text.encode(), 0)
    except OSError:
        pass
