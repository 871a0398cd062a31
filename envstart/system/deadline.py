"""One point in time for the whole run (docs/promises.md, 5), with a reserve before it for the roll back."""

from __future__ import annotations

import time

# Seconds of the whole time that belong to the roll back; a quarter of a short one.
_RESERVE = 15.0


class Deadline:
    """``timeout`` seconds after ``began``. All times are of time.monotonic(), which no clock step moves."""

    def __init__(self, began: float | None = None, timeout: float = 120) -> None:
        """Set a length that does until the configuration is read."""
        self._began = time.monotonic() if began is None else began
        self.set(timeout)

    def set(self, timeout: float) -> None:
        """Set the length, by the configuration."""
        self.end = self._began + timeout
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
        return time.monotonic() - self._began
