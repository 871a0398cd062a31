"""The coroutines of one run, side by side until its deadline: a signal ends them, and who asks is told what they do."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from typing import Any

from envstart.system.deadline import Deadline
from envstart.system.log import Report, erase
from envstart.system.loop import WaitUntil, gather
from envstart.system.progress import Waiting, Waits
from envstart.system.signals import Signals


class Scheduler:
    """One run since ``began`` (time.monotonic)."""

    def __init__(self, report: Report, began: float | None = None) -> None:
        """Begin to count the time."""
        self.report = report
        self.deadline = Deadline(began)
        self.signals = Signals()
        self._waits = Waits(report, self.deadline)

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
        return self._waits.add(what, until, since)

    async def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline."""
        await WaitUntil(min(time.monotonic() + seconds, self.deadline.limit))

    def _interruption(self) -> BaseException | None:
        if self.signals.asked:
            self.signals.asked = False
            self._waits.answer()
        return self.signals.interruption()
