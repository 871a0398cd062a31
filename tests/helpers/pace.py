"""The speed of this machine: tests that wait by the clock wait longer on one that is slow, as emulated guests are."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
import time
from collections.abc import Mapping

# Seconds of processor time that an interpreter and what a hook imports take at most where a pace of 1 is right.
_USUAL = 0.15
_PROGRAM = "import asyncio, ctypes, json, sqlite3, subprocess"


@functools.cache
def pace() -> int:
    """Return how many times the usual length a wait has here, 1 or more.

    The processor's time is measured, not the clock's: what else runs just now says nothing about the machine.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-c", _PROGRAM], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return pace_of(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def pace_of(seconds: float) -> int:
    return max(1, round(seconds / _USUAL))


def in_time(began: float, slack: float, *, waiting: float = 0.0) -> bool:
    """Tell whether no more than ``waiting`` and ``slack`` seconds have passed since that time.monotonic().

    ``waiting`` is what the clock measures of it, at any load of the machine, and ``slack`` is for what has to be done:
    if it was not enough, it grows with what the machine takes at this moment for what it would do in a known time.
    """
    seconds = time.monotonic() - began - waiting * pace()
    return seconds < slack * pace() or seconds < slack * burden()


def burden() -> float:
    """Return how many times the usual time an interpreter takes by the clock, beside all that runs just now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-c", _PROGRAM], check=True)
    return (time.monotonic() - began) / _USUAL


def paced(keys: Mapping[str, str]) -> dict[str, str]:
    """Return keys of a configuration, with those that are lengths of time multiplied."""
    return {
        key: str(int(value) * pace()) if key.endswith("TIMEOUT") and value.isdigit() else value
        for key, value in keys.items()
    }
