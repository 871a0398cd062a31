"""Pauses between looks at what comes by itself."""

from __future__ import annotations

import time

from envstart.system.host import Host

# Seconds that the last look has before the deadline: it would only say that it had no time, and hide what was seen.
_LAST_LOOK = 0.25


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
