"""An end for what spins instead of waiting."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def waiting(seconds: int) -> Iterator[None]:
    """Fail a test that spins instead of waiting."""

    def too_long(*_: object) -> NoReturn:
        raise AssertionError("it waits for ever")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
