"""When an environment was last started on this host: between the hook's end and the moment in which CBSD's database and
the kernel say that it runs, nobody else can tell that it is about to (contract §1.1)."""

from __future__ import annotations

from . import state


def note(name: str) -> None:
    """Say that the environment of this lock was started now. Without room for that, nobody is told."""
    state.stamp(f"{name}.started")


def mark(name: str) -> bytes:
    """What is another one after each start."""
    return state.read(f"{name}.started")


def within(name: str, seconds: float) -> bool:
    """Whether it was started less than so many seconds ago."""
    age = state.age(f"{name}.started")
    return age is not None and age < seconds
