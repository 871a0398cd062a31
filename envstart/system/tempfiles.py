"""Files without a name: for what a command prints, and for what it is to read and nobody else."""

from __future__ import annotations

import os

from envstart.system import native, rundir

_OUTPUT_MAX = 8 << 20


def anonymous() -> int:
    """Return a descriptor to read and write; where there is no room anywhere, what is written is lost."""
    descriptor = native.anonymous_file((rundir.DIR, "/tmp", "/var/tmp"))
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if descriptor is None else descriptor


def with_text(text: str) -> int:
    """Return a descriptor to read ``text`` from, which can be a secret: its file has no name. OSError."""
    descriptor = native.anonymous_file((rundir.directory(),))
    if descriptor is None:
        raise OSError(0, f"no private file can be made in {rundir.DIR}")
    try:
        data = text.encode()
        while data:
            data = data[os.write(descriptor, data) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def text(descriptor: int) -> str:
    """Return the last part of what was printed; os.fsdecode keeps every byte of a path."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, _OUTPUT_MAX, max(0, size - _OUTPUT_MAX))
    return os.fsdecode(data)
