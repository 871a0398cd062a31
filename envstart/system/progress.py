"""Tell what a run waits for: a line for who asks (^T), and one that is renewed on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Self

from envstart.errors import EnvstartError
from envstart.system import log
from envstart.system.log import Report

# Seconds of a run before a terminal shows what is waited for.
_QUIET = 1.0

# Seconds between two renewals of the line.
_RENEWAL = 1.0
# Columns of a terminal that does not tell how many it has.
_WIDTH = 80
_CUT = "..."


class Waiting:
    """A wait, told to who wants to know while ``with waits.add(WHAT, ...):`` lasts; ``what`` can change."""

    __slots__ = ("what", "since", "until", "_all")

    def __init__(self, all_: list[Waiting], what: str, since: float, until: float) -> None:
        """Keep what is waited for, and those that it belongs to."""
        self.what, self.since, self.until, self._all = what, since, until, all_

    def __enter__(self) -> Self:
        """Begin to wait."""
        self._all.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait no more."""
        self._all.remove(self)


class Waits:
    """The waits of a run: told to who asks, and on a terminal by a line that is renewed."""

    def __init__(self, report: Report, began: float) -> None:
        """Wait for nothing yet in a run that ``began`` then (time.monotonic)."""
        self._report = report
        self._began = began
        self._all: list[Waiting] = []
        self._renewal = began + _QUIET

    def add(self, what: str, until: float, since: float | None) -> Waiting:
        """Add a wait; ``since`` is now if it is None (time.monotonic, as ``until``)."""
        return Waiting(self._all, what, time.monotonic() if since is None else since, until)

    def answer(self) -> None:
        """Tell what is waited for to the one who has asked."""
        now = time.monotonic()
        self._report.answer(full(now - self._began, self._all, now))

    def tick(self) -> float:
        """Renew the line on the terminal when it is time; return when that is again (time.monotonic)."""
        now = time.monotonic()
        if now < self._renewal:
            return self._renewal
        self._renewal = float("inf")
        if os.isatty(2):
            self._renewal = renew(self._report, self._all, now)
        return self._renewal


def reason(error: EnvstartError) -> str:
    """Return why something failed, without what did: a message is ``cannot X: reason``."""
    text = error.message
    if text.startswith("cannot "):
        text = text.partition(": ")[2] or text
    return text.removeprefix("it is ")


def full(elapsed: float, waits: Sequence[Waiting], now: float) -> str:
    """Return all that is waited for, the oldest first, for the one who asks ``elapsed`` seconds after the run began."""
    told = "; ".join(
        f"waiting for {wait.what}{_clock(wait, now)}" for wait in sorted(waits, key=lambda wait: wait.since)
    )
    return f"{elapsed:.1f} s so far" + (f"; {told}" if told else "")


def renew(to: Report, waits: Sequence[Waiting], now: float) -> float:
    """Renew the line on the terminal, and return when that is to be done again (time.monotonic, as ``now``)."""
    try:
        width = os.get_terminal_size(2).columns or _WIDTH
    except OSError:
        return float("inf")
    if _in_foreground() and waits:
        # What fills the last column makes some terminals begin a new line.
        text = line(to.line(""), waits, now, width - 1)
        log.renew(text, _columns(text))
    return now + _RENEWAL


def _in_foreground() -> bool:
    """Tell whether the terminal is this process's to write to: the shell's, if that has put it into the background."""
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        # It is no terminal that has jobs.
        return True


def line(prefix: str, waits: Sequence[Waiting], now: float, width: int) -> str:
    """Return one line of at most ``width`` columns; the time is what is never cut."""
    oldest, *others = sorted(waits, key=lambda wait: wait.since)
    clock = _clock(oldest, now) + (f" (and {len(others)} more)" if others else "")
    start = f"{prefix}waiting for "
    text = log.printable(oldest.what)
    if _columns(start + text + clock) > width:
        room = width - _columns(start + _CUT + clock)
        # Where there is no room for a subject, who waits need not be told either.
        start = start if room > 0 else ""
        text = _cut(text, max(0, room)) + _CUT if start else ""
        clock = clock if start else clock.removeprefix(", ")
    return _cut(start + text + clock, width)


def _clock(wait: Waiting, now: float) -> str:
    return f", {now - wait.since:.0f} of {max(wait.until, now) - wait.since:.0f} s"


def _columns(text: str) -> int:
    """Return how many columns a text takes: Chinese characters take two."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, width: int) -> str:
    while _columns(text) > width:
        text = text[:-1]
    return text
