"""The coroutines of one run, side by side until its deadline (docs/promises.md, 5): a signal ends them all."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from typing import Any

from envstart.system.log import Report, erase
from envstart.system.loop import WaitUntil, gather
from envstart.system.progress import Waiting, Waits
from envstart.system.signals import Signals

# Seconds of the whole time that belong to the roll back; a quarter of a short one.
_RESERVE = 15.0


class Deadline:
    """``timeout`` seconds after ``began``. All times are of time.monotonic(), which no clock step moves."""

    def __init__(self, began: float | None = None, timeout: float = 120) -> None:
        """Set a length that does until the configuration is read."""
        self.began = time.monotonic() if began is None else began
        self.set(timeout)

    def set(self, timeout: float) -> None:
        """Set the length, by the configuration."""
        self.end = self.began + timeout
        self.limit = self.end - min(_RESERVE, timeout / 4)

    def use_reserve(self) -> None:
        """Let the time that is kept for the roll back count too: there is nothing else to come."""
        self.limit = self.end

    def left(self) -> float:
        """Return the seconds until the limit, the reserve not counted unless it is in use."""
        return max(0.0, self.limit - time.monotonic())

    def to_the_end(self) -> float:
        """Return the seconds until the very end, reserve included."""
        return max(0.0, self.end - time.monotonic())

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began


class Scheduler:
    """One run since ``began`` (time.monotonic)."""

    def __init__(self, report: Report, began: float | None = None) -> None:
        """Begin to count the time."""
        self.report = report
        self.deadline = Deadline(began)
        self.signals = Signals()
        self._waits = Waits(report, self.deadline.began)

    def gather(self, coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run them side by side to their end; the first failure, or a signal, ends all and is raised."""
        try:
            return gather(coroutines, self._interruption, self.signals.wake, self._waits.tick)
        finally:
            erase()

    def complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end and return its result."""
        return self.gather([coroutine])[0]

    def waiting(self, what: str, until: float | None = None, since: float | None = None) -> Waiting:
        """``with host.waiting(WHAT):`` tell who asks, by ^T or on a terminal, what is waited for; see Waits.add()."""
        self.signals.arm()
        return self._waits.add(what, self.deadline.limit if until is None else until, since)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline."""
        await WaitUntil(min(time.monotonic() + seconds, self.deadline.limit))

    def _interruption(self) -> BaseException | None:
        if self.signals.asked:
            self.signals.asked = False
            self._waits.answer()
        return self.signals.interruption()
