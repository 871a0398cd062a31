"""The only door to the machine. Everything that can block has an end here (docs/promises.md, 5).

It is made of the order of a run (scheduler.py), commands (runner.py), calls that may hang (prober.py) and the mount
table (mount_cache.py), each built on those before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from envstart.errors import EnvstartError, exhausted
from envstart.system.log import Report
from envstart.system.mount_cache import MountCache
from envstart.system.process import Child
from envstart.system.scheduler import Scheduler

# Seconds that the last look has before the deadline: it would only say that it had no time, and hide what was seen.
_LAST_LOOK = 0.25
_Undo = Callable[[], Coroutine[Any, Any, None]]


class Journal:
    """What a run has begun, in stages of acts that can be taken back side by side."""

    def __init__(self) -> None:
        """Begin with nothing that could be taken back."""
        self._stages: list[list[_Undo]] = []

    def begin_stage(self) -> None:
        """Have what is added from here on taken back before what was added so far."""
        self._stages.append([])

    def add(self, undo: _Undo) -> None:
        """Add how to take back what is about to be done."""
        if not self._stages:
            self.begin_stage()
        self._stages[-1].append(undo)

    def is_empty(self) -> bool:
        """Tell whether this run has begun nothing that roll_back() undoes."""
        return not any(self._stages)

    def roll_back(self, scheduler: Scheduler) -> list[str]:
        """Take back what was begun, newest first, and return as text what could not be."""
        failures: list[str] = []
        short: list[_Undo] = []

        async def guarded(undo: _Undo, *, alone: bool = False) -> None:
            try:
                await undo()
            except Exception as error:
                if exhausted(error) and not alone:
                    # Side by side there was not enough for all of them.
                    short.append(undo)
                    return
                # Whatever it is, it must not keep the others from being taken back.
                failures.append(str(error) if isinstance(error, (EnvstartError, OSError)) else repr(error))

        # What taking back does is added here too, and is not taken back.
        stages, self._stages = self._stages, []
        for stage in reversed(stages):
            scheduler.gather([guarded(undo) for undo in reversed(stage)])
            while short:
                scheduler.complete(guarded(short.pop(0), alone=True))
        return failures


class Host(MountCache):
    """This machine, for one run since ``began`` (time.monotonic)."""

    rehearsing = False  # What changes something by other means than a command must not be done.

    def __init__(self, report: Report, began: float | None = None, left_behind: Sequence[Child] = ()) -> None:
        """Begin a run."""
        super().__init__(report, began, left_behind)
        self.journal = Journal()
        # A person has said that the other host is down: what it holds may be taken over.
        self.takeover = False
        # Somebody is at it: what an earlier run has noted about a server is not taken for granted.
        self.interactive = False
        # What others have answered, for one who changes nothing (steps/observe.py).
        self.looked: dict[str, Any] = {}
        # What steps have done and seen in this run: (step, word) -> value.
        self.learnt: dict[tuple[object, str], Any] = {}

    def on_failure(self, undo: _Undo) -> None:
        """Journal how to take back what is about to be done."""
        self.journal.add(undo)

    def roll_back(self) -> list[str]:
        """Take back what was journalled, within the reserve and whatever signal comes; return what could not be."""
        self.deadline.use_reserve()
        self.signals.deaf = True
        self._workers.dismiss()
        return self.journal.roll_back(self)


class Polling:
    """Pauses between looks at ``what``: the ``first`` short, growing to the ``longest``, for ``timeout`` seconds."""

    def __init__(self, host: Host, timeout: float, what: str, *, first: float = 0.01, longest: float = 0.5) -> None:
        """Begin to count the time."""
        self.what = what
        self._host = host
        self._timeout = timeout
        self._began = time.monotonic()
        self._until = host.deadline.elapsed() + timeout
        self._pause = first
        self._longest = longest

    async def again(self) -> bool:
        """Wait; false if the time is over. What is known about the host is forgotten."""
        left = min(self._until - self._host.deadline.elapsed(), self._host.deadline.left() - _LAST_LOOK)
        if left <= 0:
            return False
        until = min(self._began + self._timeout, self._host.deadline.limit)
        with self._host.waiting(self.what, until, self._began):
            await self._host.sleep(min(self._pause, left))
        self._pause = min(self._pause * 1.5, self._longest)
        self._host.invalidate()
        return True
