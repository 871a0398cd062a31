"""Keep how to take back what a run has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.errors import EnvstartError, exhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from envstart.system.scheduler import Scheduler

    Undo = Callable[[], Coroutine[Any, Any, None]]


class Journal:
    """Stages of acts that can be taken back, those of one stage side by side."""

    def __init__(self) -> None:
        """Begin with nothing that could be taken back."""
        self._stages: list[list[Undo]] = []

    def begin_stage(self) -> None:
        """Have what is added from here on taken back before what was added so far."""
        self._stages.append([])

    def add(self, undo: Undo) -> None:
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
        short: list[Undo] = []

        async def guarded(undo: Undo, *, alone: bool = False) -> None:
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
