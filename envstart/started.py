"""When an environment was last started on this host: between the hook's end and the moment in which CBSD's database and
the kernel say that it runs, nobody else can tell that it is about to (contract §1.1)."""

from __future__ import annotations

import os
import time

from . import state


def note(name: str) -> None:
    """Say that the environment of this lock was started now. Without room for that, nobody is told."""
    # The clock that nobody sets; it begins anew at each boot, when this is emptied.
    state.write(f"{name}.started", f"{time.monotonic():.3f} {os.getpid()}\n".encode())


def mark(name: str) -> bytes:
    """What is another one after each start."""
    return state.read(f"{name}.started")


def within(name: str, seconds: float) -> bool:
    """Whether it was started less than so many seconds ago."""
    try:
        age = time.monotonic() - float(mark(name).split()[0])
    except (ValueError, IndexError):
        return False
    return 0 <= age < seconds
