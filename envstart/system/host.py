"""The only door to the machine. Everything that can block has an end here (docs/promises.md, 5).

It is made of the order of a run (scheduler.py), commands (runner.py) and calls that may hang (prober.py), each built on
those before it; and of the mount table and the real names of directories, which are kept until a command may have
changed them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from envstart.errors import UNREADABLE, EnvstartError, TemporaryError, exhausted, unreadable
from envstart.mounts import table
from envstart.system import filesystem
from envstart.system.log import Report
from envstart.system.loop import checkpoint
from envstart.system.prober import Prober
from envstart.system.process import Child
from envstart.system.scheduler import Scheduler

# Seconds that the last look has before the deadline: it would only say that it had no time, and hide what was seen.
_LAST_LOOK = 0.25
# Seconds that following symbolic links may take.
_RESOLVE = 5.0
_Undo = Callable[[], Coroutine[Any, Any, None]]


class Journal:
    """Acts that a run has begun, in stages that can be taken back side by side."""

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


class Host(Prober):
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
        self._table: table.Table | None = None
        self._real: dict[str, str] = {}
        self._empty: dict[str, table.Entry | None] = {}

    def on_failure(self, undo: _Undo) -> None:
        """Journal how to take back what is about to be done."""
        self.journal.add(undo)

    def roll_back(self) -> list[str]:
        """Take back what was journalled, within the reserve and whatever signal comes; return what could not be."""
        self.deadline.use_reserve()
        self.signals.deaf = True
        self._workers.dismiss()
        return self.journal.roll_back(self)

    async def mounts(self) -> table.Table:
        """Return the mount table as it is now, read without touching a mount point; TemporaryError if that fails."""
        last = ""
        if self._table is None:
            # Others may be about to invalidate it, at the end of a command that ended with ours: one reading for all.
            await checkpoint()
        for _ in range(3):
            if self._table is not None:
                return self._table
            changes = self._changes
            try:
                mounts = table.Table(await self._read_table())
            except (*UNREADABLE, OSError) as error:
                last = unreadable(error) if isinstance(error, UNREADABLE) else str(error)
                await self.sleep(0.05)
                continue
            if changes == self._changes:
                self._table = mounts
            return mounts
        raise TemporaryError(f"cannot read the mount table: {last}; nothing was changed because of it")

    def invalidate(self) -> None:
        """Let the next reading, of mounts and of all else, be a new one: somebody may have changed it."""
        self._table = None
        super().invalidate()

    async def resolve(self, paths: Sequence[str]) -> bool:
        """Find the real names of paths that the table does not have, by one child; tell whether there were any."""
        mounts = await self.mounts()
        unknown = [path for path in dict.fromkeys(paths) if path not in self._real and not mounts.at(path)]
        if unknown:
            points = frozenset(mounts.points)
            answers = await self.call_with_timeout(filesystem.resolve, unknown, points, timeout=_RESOLVE)
            for path, (real, empty) in zip(unknown, answers):
                self._real[path] = real
                if empty:
                    self._empty[real] = mounts.mount_of(real)
        return bool(unknown)

    async def real(self, path: str) -> str:
        """Return the path as the mount table has it, without links; it is touched only if the table lacks it."""
        if (await self.mounts()).at(path):
            return path
        await self.resolve([path])
        return self._real[path]

    async def stack(self, path: str) -> list[table.Entry]:
        """Return what is mounted on this directory, be there links in its name; the visible mount last."""
        return (await self.mounts()).at(await self.real(path))

    async def was_empty(self, real: str) -> bool:
        """Tell whether it was an empty directory when its name was resolved, on the mount that still holds it."""
        return real in self._empty and self._empty[real] == (await self.mounts()).mount_of(real)

    async def _read_table(self) -> list[table.Entry]:
        if self.platform == "linux":
            from envstart.mounts.table_linux import mount_table

            return mount_table()
        from envstart.mounts.table_freebsd import mount_table

        try:
            return mount_table()
        except (ImportError, AttributeError, OSError, ValueError) as error:
            self.report.trace(f"getfsstat(2): {error}; asking mount(8)", level=2)
        # Not -p and not -v, which ask every file system and hang on a dead one (docs/freebsd.md#listing).
        # A quarter of what is left, the reserve included: one that hangs leaves time for another and for the roll back.
        quarter, argv = self.deadline.to_the_end() / 4, ("mount", "--libxo", "json")
        result = await self.run(argv, timeout=quarter, use_rollback_reserve=True, read_only=True)
        if result.status != 0:
            raise ValueError(result.words)
        return table.parse_libxo(result.out)


class Polling:
    """Pauses between looks at ``what``: the ``first`` short, growing to the ``longest``, for ``timeout`` seconds."""

    def __init__(self, host: Host, timeout: float, what: str, *, first: float = 0.01, longest: float = 0.5) -> None:
        """Begin to count the time."""
        self.what, self._host, self._timeout = what, host, timeout
        self._began, self._until = time.monotonic(), host.deadline.elapsed() + timeout
        self._pause, self._longest = first, longest

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
