"""The only door to the machine. Everything that can block has an end here (docs/promises.md, 5).

It is made of the order of a run (scheduler.py), commands (runner.py), calls that may hang (prober.py), the mount
table (mount_cache.py), each built on those before it, and what is to be taken back (journal.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.system.journal import Journal
from envstart.system.mount_cache import MountCache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envstart.system.journal import Undo
    from envstart.system.log import Report
    from envstart.system.process import Child


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

    def on_failure(self, undo: Undo) -> None:
        """Journal how to take back what is about to be done."""
        self.journal.add(undo)

    def roll_back(self) -> list[str]:
        """Take back what was journalled, within the reserve and whatever signal comes; return what could not be."""
        self.deadline.use_reserve()
        self.signals.deaf = True
        self._workers.dismiss()
        return self.journal.roll_back(self)
