"""Read files of others with care, write files of our own whole or not at all, and make some without a name."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from envstart.errors import TemporaryError, reason
from envstart.system import rundir
from envstart.system.probe import open_regular

_SIZE_MAX = 1 << 20
_OUTPUT_MAX = 8 << 20


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


def load_note(name: str) -> str:
    """Return the text of a note, which keeps what no table of the host tells; "" if there is none. TemporaryError."""
    try:
        with open(rundir.path(f"{name}.note"), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise TemporaryError(f"cannot read {rundir.path(name)}.note: {reason(error)}", hint="run it as root") from None


def save_note(name: str, text: str) -> None:
    """Keep ``text``, whole or not at all; "" takes the note away. TemporaryError if it cannot be kept."""
    file_name = f"{rundir.directory()}/{name}.note"
    try:
        if text:
            atomic_write(file_name, text.encode("utf-8", "surrogateescape"))
        else:
            with suppress(FileNotFoundError):
                os.unlink(file_name)
    except OSError as error:
        raise TemporaryError(f"cannot write {file_name}: {reason(error)}") from None


def for_output() -> int:
    """Return a descriptor for what a command prints; where there is no room anywhere, what is written is lost."""
    descriptor = _nameless((rundir.DIR, "/tmp", "/var/tmp"))
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if descriptor is None else descriptor


def output(descriptor: int) -> str:
    """Return the last part of what was printed; os.fsdecode keeps every byte of a path."""
    size = os.fstat(descriptor).st_size
    return os.fsdecode(os.pread(descriptor, _OUTPUT_MAX, max(0, size - _OUTPUT_MAX)))


def for_input(text: str) -> int:
    """Return a descriptor to read ``text`` from, which can be a secret: nobody else can read it. OSError."""
    descriptor = _nameless((rundir.directory(),))
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


def _nameless(directories: Sequence[str]) -> int | None:
    """Return a new file that only we can read and that has no name (any more); None where there is no room."""
    if sys.platform.startswith("linux"):
        # In memory.
        return os.memfd_create("envstart")
    for directory in directories:
        for number in range(10):
            path = f"{directory}/.envstart.{os.getpid()}.{number}"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileExistsError:
                continue
            except OSError:
                break
            os.unlink(path)
            return descriptor
    return None
