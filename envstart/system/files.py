"""Read files of others with care, and write files of our own whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from envstart.system.probe import open_regular

_SIZE_MAX = 1 << 20


def read_text(path: str, *, follow: bool = True) -> str:
    """Return the text of a regular file, "" if it is missing; ``follow``: see open_regular(). May hang. OSError."""
    try:
        with open(open_regular(path, follow=follow), encoding="utf-8", errors="replace") as file:
            return file.read(_SIZE_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def atomic_write(path: str, data: bytes, *, mode: int = 0o600, sync: bool = False, shared: bool = False) -> None:
    """Replace a file so that no reader and no crash ever sees a part of it. OSError.

    ``sync`` keeps it through a power failure, at the price of waiting for the disk; only the directory's own entry is
    then the caller's to sync. ``shared``: several processes may write it at the same time.
    """
    new = f"{path}.{os.getpid()}.new" if shared else f"{path}.new"
    with suppress(FileNotFoundError):
        # What a crash has left, or somebody else has put there.
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            while data:
                data = data[file.write(data) :]
            if sync:
                os.fsync(descriptor)
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
