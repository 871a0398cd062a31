"""Files without a name: for what a command prints, and for what it is to read and nobody else."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from envstart.system import rundir

if TYPE_CHECKING:
    from collections.abc import Sequence

_OUTPUT_MAX = 8 << 20


def anonymous() -> int:
    """A descriptor to read and write; where there is no room anywhere, what is written is lost."""
    descriptor = _new((rundir.DIR, "/tmp", "/var/tmp"))
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if descriptor is None else descriptor


def with_text(text: str) -> int:
    """A descriptor to read ``text`` from. It can be a secret: its file has no name that could outlive us. OSError."""
    descriptor = _new((rundir.directory(),))
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
    """The last part of what was printed; os.fsdecode keeps every byte of a path."""
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, _OUTPUT_MAX, max(0, size - _OUTPUT_MAX))
    return os.fsdecode(data)


def _new(directories: Sequence[str]) -> int | None:
    """A new file that only we can read and that has no name any more; None where none can be made."""
    if sys.platform.startswith("linux"):
        return os.memfd_create("envstart")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    for directory in directories:
        for number in range(10):
            path = f"{directory}/.envstart.{os.getpid()}.{number}"
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileExistsError:
                continue
            except OSError:
                break
            os.unlink(path)
            return descriptor
    return None
