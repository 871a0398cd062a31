"""When an environment was last started on this host: between the hook's end and the moment in which CBSD's database and
the kernel say that it runs, nobody else can tell that it is about to (contract §1.1)."""

from __future__ import annotations

import os
import time

from . import host as machine
from .locks import private_directory
from .plan import file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .environment import Environment


def note(environment: Environment) -> None:
    """Say that it was started now. Without room for that, nobody is told."""
    try:
        private_directory(machine.STATE_DIR)
        descriptor = os.open(
            _path(environment), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            # The clock that nobody sets; it begins anew at each boot, when this directory is emptied.
            os.write(descriptor, f"{time.monotonic():.3f} {os.getpid()}\n".encode())
        finally:
            os.close(descriptor)
    except OSError:
        pass


def mark(environment: Environment) -> str:
    """A text that is another one after each start."""
    try:
        with open(_path(environment), encoding="ascii", errors="replace") as file:
            return file.read(100)
    except OSError:
        return ""


def within(environment: Environment, seconds: float) -> bool:
    """Whether it was started less than so many seconds ago."""
    try:
        age = time.monotonic() - float(mark(environment).split()[0])
    except (ValueError, IndexError):
        return False
    return 0 <= age < seconds


def _path(environment: Environment) -> str:
    return f"{machine.STATE_DIR}/{file_name(environment)}.started"
