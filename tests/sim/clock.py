"""The clock of a process of the simulated machine: faster than ours, so that a hang costs a test little, or set wrong.

Only its own waiting is quicker; what it starts takes its real time, which it sees as many times as long.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REAL: dict[str, Any] = {"monotonic": time.monotonic, "time": time.time, "sleep": time.sleep}
REAL_POLL = select.poll
# How many seconds of the process pass in one of ours.
SPEED = [1.0]


class Poll:
    """select.poll() whose time-outs are in the process's own milliseconds."""

    def __init__(self) -> None:
        self._poll = REAL_POLL()
        self.register = self._poll.register

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        return self._poll.poll(None if milliseconds is None else milliseconds / SPEED[0])


def install(speed: float, step: float) -> None:
    """``step``: seconds by which the time of day is wrong."""
    SPEED[0] = speed
    simulated: dict[str, Any] = {
        "monotonic": lambda: REAL["monotonic"]() * speed,
        "time": lambda: REAL["time"]() + step,
        "sleep": lambda seconds: REAL["sleep"](seconds / speed),
    }
    vars(time).update(simulated)
    vars(select)["poll"] = Poll


def restore() -> None:
    SPEED[0] = 1.0
    vars(time).update(REAL)
    vars(select)["poll"] = REAL_POLL
