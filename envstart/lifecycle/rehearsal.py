"""Offer a host on which a run decides as on the real one, and changes nothing: it notes the commands that would."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from envstart.mounts.table import Entry
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.log import Report

# How the names of functions begin that change something, of those that a child is given (Host.call_with_timeout).
_CHANGING = ("make", "remove", "write", "unmount", "detach", "end")


class _Collecting(Report):
    """Keeps the warnings of a run for whoever prints what it would do."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.program)
        # What is told to be typed is made of the last two.
        self.verbose, self.argv, self.planned = report.verbose, report.argv, report.planned

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    def note(self, text: str) -> None:
        """Drop what a run would say about what it does."""


class Rehearsal(Host):
    """This machine, read only. ``commands``: what would have been run since take() was called."""

    rehearsing = True

    def __init__(self, report: Report) -> None:
        """Collect the warnings instead of printing them."""
        super().__init__(_Collecting(report))
        self.commands: list[tuple[str, ...]] = []
        # Mount points from which a command of these would have unmounted something, as often as they are here.
        self._unmounted: list[str] = []

    def take(self) -> list[tuple[str, ...]]:
        """Return the commands so far, and begin anew."""
        commands, self.commands = self.commands, []
        return commands

    async def run(self, argv: Sequence[str], *arguments: Any, **options: Any) -> Result:
        """Run a command that only reads; note any other, as if it had succeeded."""
        if options.get("read_only"):
            return await super().run(argv, *arguments, **options)
        self.require(argv[0])
        self.commands.append(tuple(argv))
        if argv[0] == "umount":
            self._unmounted.append(argv[-1])
            # The table has known it by this name; it must not be touched for it.
            self._real[argv[-1]] = argv[-1]
        self.invalidate()
        return Result(0, "", "", 0.0, alive=False)

    async def call_with_timeout(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function that only reads; note what others would make, of which each lies in the one before it."""
        name = function.__name__
        if name == "make_directories":
            self.commands.append(("mkdir", "-p", arguments[0][-1]))
        elif name == "make_file":
            *directories, file = arguments[0]
            self.commands += [("mkdir", "-p", os.path.dirname(file))] if directories else []
            self.commands.append(("touch", file))
        if name.startswith(_CHANGING):
            return None
        return await super().call_with_timeout(function, *arguments, **options)

    async def _read_table(self) -> list[Entry]:
        entries = await super()._read_table()
        for point in self._unmounted:
            newest = next((place for place in reversed(range(len(entries))) if entries[place].point == point), None)
            if newest is not None:
                del entries[newest]
        return entries
