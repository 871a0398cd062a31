"""The only door to the machine: commands, the mount table, children that may hang, other processes.

Everything that can block has an end here (docs/promises.md, 5). What is slow to import is imported when first needed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from envstart.errors import (
    UNREADABLE,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    ResourceError,
    TemporaryError,
    exhausted,
    no_child,
    reason,
    unreadable,
)
from envstart.mounts import commands, table
from envstart.system import command, filesystem, process, process_table, tempfiles
from envstart.system.command import Result
from envstart.system.deadline import Deadline
from envstart.system.locks import Locks
from envstart.system.log import erase
from envstart.system.loop import Checkpoint, Waiting, Waits, WaitUntil, gather
from envstart.system.signals import Signals
from envstart.system.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from envstart.system.log import Report

    Undo = Callable[[], Coroutine[Any, Any, None]]

# CBSD puts directories with its own geli, jls and service first (docs/cbsd.md#process): its PATH is not used.
SYSTEM_PATH = ("/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin")
# Seconds that a killed child of our own making gets: it has nothing to put in order, and if it does not go it hangs.
_KILLED = 0.25
# Seconds that following symbolic links may take.
_RESOLVE = 5.0


class Host:
    """This machine, for one run since ``began`` (time.monotonic)."""

    rehearsing = False  # Whether what changes something by other means than a command must not be done.

    def __init__(self, report: Report, began: float | None = None, left_behind: Sequence[process.Child] = ()) -> None:
        self.report = report
        self.platform = "freebsd" if sys.platform.startswith("freebsd") else "linux"
        self.deadline = Deadline(began)
        self.signals = Signals()
        # A person has said that the other host is down: what it holds may be taken over.
        self.takeover = False
        # Somebody is at it: what an earlier run has noted about a server is not taken for granted.
        self.interactive = False
        # Mount points that have not answered in this run.
        self.unresponsive: set[str] = set()
        self.looked: dict[str, Any] = {}  # What others have answered, for one who changes nothing (observe.py).
        # Descriptors of our locks; of all children only a command with ``hold`` keeps them.
        self.lock_fds: set[int] = set()
        self._left_behind = list(left_behind)
        self._workers = WorkerPool()
        self._waits = Waits(report, self.deadline)
        self._table: table.Table | None = None
        # How often invalidate() was called: an answer that was asked for before it is not kept.
        self._changes = 0
        # What commands that only read have answered since the last one that changed something.
        self._answers: dict[tuple[str, ...], Any] = {}
        self._lasting: dict[tuple[str, ...], Any] = {}
        self._asking: set[tuple[str, ...]] = set()
        self._real: dict[str, str] = {}
        self._empty: dict[str, table.Entry | None] = {}
        self._journal: list[list[Undo]] = []

    # Order: side by side, and what to do when it fails.

    def gather(self, coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run them side by side to their end; the first failure, or a signal, ends all and is raised."""
        try:
            return gather(coroutines, self._interruption, self.signals.wake, self._waits.tick)
        finally:
            erase()

    def _interruption(self) -> BaseException | None:
        if self.signals.asked:
            self.signals.asked = False
            self._waits.answer()
        return self.signals.interruption()

    def waiting(self, what: str, until: float | None = None, since: float | None = None) -> Waiting:
        """``with host.waiting(WHAT):`` who wants to know is told, by ^T or on a terminal; see Waits.add()."""
        self.signals.arm()
        return self._waits.add(what, until, since)

    def complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run one to its end and return its result."""
        return self.gather([coroutine])[0]

    async def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline."""
        await WaitUntil(min(time.monotonic() + seconds, self.deadline.limit))

    def begin_stage(self) -> None:
        """What is journalled from here on can be taken back side by side, before what was journalled so far."""
        self._journal.append([])

    def on_failure(self, undo: Undo) -> None:
        """Journal how to take back what is about to be done."""
        if not self._journal:
            self.begin_stage()
        self._journal[-1].append(undo)

    def has_journalled(self) -> bool:
        """Tell whether this run has begun anything that roll_back() undoes."""
        return any(self._journal)

    def roll_back(self) -> list[str]:
        """Take back what was journalled, newest first, within the reserve; what could not be is returned as text."""
        self.deadline.use_reserve()
        self.signals.deaf = True
        self._workers.dismiss()
        failures: list[str] = []
        short: list[Undo] = []

        async def guarded(undo: Undo, alone: bool = False) -> None:
            try:
                await undo()
            except Exception as error:
                if exhausted(error) and not alone:
                    # Side by side there was not enough for all of them.
                    short.append(undo)
                    return
                # Whatever it is, it must not keep the others from being taken back.
                failures.append(str(error) if isinstance(error, (EnvstartError, OSError)) else repr(error))

        # What taking back does journals too, and is not taken back.
        journal, self._journal = self._journal, []
        for stage in reversed(journal):
            self.gather([guarded(undo) for undo in reversed(stage)])
            while short:
                self.complete(guarded(short.pop(0), alone=True))
        return failures

    def locks(self, names: Sequence[str], *, needed: bool = True) -> Locks:
        """``with host.locks(NAMES):`` one at a time on this host, taken in this order; ``needed``: see Locks."""
        return Locks(self, names, needed=needed)

    # Commands.

    def find(self, name: str) -> str | None:
        """The absolute path of a system command, or of what has one already; None if it cannot be run."""
        places = [name] if name.startswith("/") else [f"{directory}/{name}" for directory in SYSTEM_PATH]
        return next((path for path in places if os.access(path, os.X_OK)), None)

    def require(self, name: str) -> str:
        """Return the absolute path of a command; UnavailableError if it is missing."""
        return self.find(name) or commands.missing(name)

    async def run(
        self,
        argv: Sequence[str],
        timeout: float | None = None,
        detach_on_timeout: bool = False,
        use_rollback_reserve: bool = False,
        keep_locks: bool = False,
        read_only: bool = False,
        stdin: str | None = None,
        secret: bool = False,
        wait_if_unkillable: bool = False,
    ) -> Result:
        """Run a command to its end, for ``timeout`` seconds and what is left of the deadline at most.

        One that does not end gets TERM, then KILL, with its group; one that ignores KILL is left behind and noted.
        ``detach_on_timeout``: it is left behind at once, and does good in its own time (``umount -N``).
        ``use_rollback_reserve``: the time kept for the roll back counts too. Neither is cut off when what runs beside
        it fails. ``keep_locks``: should this process be killed, the command keeps our locks until it ends.
        ``read_only``: it changes nothing, so that what is known stays known. ``stdin``: what it reads there, from a
        nameless file. ``secret``: what it prints is never shown. ``wait_if_unkillable``: one that ignores KILL is
        waited for as long as there is time, since it can still come about.
        """
        path = self.require(argv[0])
        self.signals.arm()
        began = time.monotonic()
        # Files, not pipes: a client that makes itself a daemon keeps a pipe open for ever.
        out, err = tempfiles.anonymous(), tempfiles.anonymous()
        try:
            environment = {"LC_ALL": "C", "PATH": ":".join(SYSTEM_PATH), "HOME": "/"}
            try:
                given = None if stdin is None else tempfiles.with_text(stdin)
                try:
                    child = command.start(
                        path, argv, environment, (given, out, err), self.lock_fds if keep_locks else ()
                    )
                finally:
                    if given is not None:
                        os.close(given)
            except OSError as error:
                raise ResourceError(f"cannot run {argv[0]}: {reason(error)}") from None
            self.report.command(argv)
            limit = self.deadline.end if use_rollback_reserve else self.deadline.limit
            until = min(began + timeout, limit) if timeout is not None else limit
            ended = False
            try:
                wait = WaitUntil(until, child.ended, finish=use_rollback_reserve or detach_on_timeout)
                ended = await self._waited(child, wait)
            finally:
                if not ended:
                    await self._end(child, gently=True, detach=detach_on_timeout)
            unkillable = wait_if_unkillable and child in self._left_behind
            if unkillable and await self._waited(child, WaitUntil(limit, child.over)):
                self._left_behind.remove(child)
            alive = child in self._left_behind
            status, seconds = child.status if ended else None, time.monotonic() - began
            result = Result(status, tempfiles.text(out), tempfiles.text(err), seconds, alive)
        finally:
            if not read_only:
                self.invalidate()
            os.close(out)
            os.close(err)
        self.report.ended(argv, result, secret)
        return result

    async def ask(
        self,
        argv: Sequence[str],
        parse: Callable[[Result], Any],
        lasting: bool = False,
        secret: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """What ``parse`` makes of a command that only reads; kept until a command changes something, or, ``lasting``,
        for this run. TemporaryError when it cannot be told: ``parse`` raises ValueError, or stumbles; NoResponseError
        when it does not end, be it in time or, asked once, within ``timeout`` seconds."""
        key = tuple(argv)
        while key in self._asking:
            # Somebody else is at it, side by side with us.
            if not await WaitUntil(self.deadline.end, lambda: key not in self._asking):
                raise DeadlineExceededError(f"cannot tell what {argv[0]} knows: there was no time left")
        for answers in (self._lasting, self._answers):
            if key in answers:
                return answers[key]
        self._asking.add(key)
        last, kind = "", TemporaryError
        try:
            for _ in range(2 if timeout is None else 1):
                # A quarter of what is left, for the same reasons as for the mount table.
                limit = min(self.deadline.to_the_end() / 4, float("inf") if timeout is None else timeout)
                changes = self._changes
                result = await self.run(argv, timeout=limit, use_rollback_reserve=True, read_only=True, secret=secret)
                try:
                    answer = parse(result)
                except UNREADABLE as error:
                    last, kind = unreadable(error), TemporaryError if result.status is not None else NoResponseError
                    continue
                if lasting:
                    self._lasting[key] = answer
                elif changes == self._changes:
                    self._answers[key] = answer
                return answer
        finally:
            self._asking.remove(key)
        raise kind(f"cannot tell what {argv[0]} knows: {last}; nothing was changed because of it")

    async def _waited(self, child: process.Child, wait: WaitUntil, what: str = "") -> bool:
        with self.waiting(what or child.what, wait.until):
            return await wait

    async def _end(self, child: process.Child, gently: bool, detach: bool = False) -> None:
        """TERM if ``gently``, then KILL; one that outlives both is left behind."""

        def is_over() -> bool:
            return child.ended() and (child.group_is_gone() or process_table.only_zombies(child.pid))

        grace = min(process_table.GRACE if gently else _KILLED, max(0.05, self.deadline.to_the_end() / 4))
        if not detach and await process_table.end_gradually(child.kill, is_over, gently=gently, grace=grace):
            return
        self._left_behind.append(child)

    # The mount table.

    async def mounts(self) -> table.Table:
        """The mount table as it is now, read without touching a mount point; TemporaryError if it cannot be told."""
        last = ""
        if self._table is None:
            # Others may be about to invalidate it, at the end of a command that ended with ours: one reading for all.
            await Checkpoint()
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
        """The next reading, of mounts and of all else, is a new one: somebody may have changed it."""
        self._table = None
        self._answers.clear()
        self._changes += 1

    async def resolve(self, paths: Sequence[str]) -> bool:
        """Find the real names of these paths by one child, as far as the table does not know them (see real()); whether
        any had to be touched."""
        mounts = await self.mounts()
        unknown = [path for path in dict.fromkeys(paths) if path not in self._real and not mounts.at(path)]
        if unknown:
            answers = await self.call_with_timeout(
                filesystem.resolve, unknown, frozenset(mounts.points), timeout=_RESOLVE
            )
            for path, (real, empty) in zip(unknown, answers):
                self._real[path] = real
                if empty:
                    self._empty[real] = mounts.mount_of(real)
        return bool(unknown)

    async def real(self, path: str) -> str:
        """The path as the mount table has it, without symbolic links. It is touched only if the table lacks it."""
        if (await self.mounts()).at(path):
            return path
        await self.resolve([path])
        return self._real[path]

    async def stack(self, path: str) -> list[table.Entry]:
        """What is mounted on this directory, be there links in its name; the visible one last."""
        return (await self.mounts()).at(await self.real(path))

    async def was_empty(self, real: str) -> bool:
        """Whether it was an empty directory when its name was resolved, on the mount that still holds it."""
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

    # What may hang.

    async def call_with_timeout(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        timeout: float,
        keep: Sequence[int] = (),
        what: str = "",
        finish: bool = False,
    ) -> Any:
        """Call a function in a child; NoResponseError after ``timeout``, DeadlineExceededError at an earlier deadline.

        For all that touches a file system which may be dead: such a call cannot be ended, only left behind. The result
        goes through marshal; an OSError or an EnvstartError is raised here as it was there. ``keep``: descriptors that
        the child gets. ``what`` is told to be waited for in place of an answer of its first argument. ``finish``: it is
        not cut off (see run()).
        """
        try:
            worker = await self._workers.ask(function, arguments, keep, self.deadline.limit)
        except OSError as error:
            raise no_child(error) from None
        until, answered = time.monotonic() + timeout, False
        try:
            wait = WaitUntil(min(until, self.deadline.limit), worker.answered, worker.pipe.descriptor, finish)
            answered = await self._waited(worker.child, wait, what or process.answer_of(arguments))
        finally:
            self._workers.done(worker, answered)
            if not answered:
                await self._end(worker.child, gently=False)
        if not answered and self.deadline.limit < until:
            raise DeadlineExceededError("no answer in the time that was left")
        if not answered:
            raise NoResponseError(f"no answer in {timeout:.1f} s")
        # If it is not yet over, init(8) takes it after us.
        worker.child.ended()
        try:
            return worker.answer()
        except EOFError:
            raise TemporaryError(f"a child ended without an answer: {worker.child.what}") from None

    async def map_with_timeout(
        self, function: Callable[[Any], Any], items: Sequence[Any], timeout: float, keep: Sequence[int] = ()
    ) -> tuple[list[tuple[int, Any]], int]:
        """Call a function with one item after the other in one child: (0, result), or what children.raised() reads, for
        each, and 0. They end with the first that gives none in time; the child is left behind with ``keep``, its pid is
        returned."""
        try:
            child, descriptor = process.each(function, items, keep)
        except OSError as error:
            raise no_child(error) from None
        pipe = process.Pipe(descriptor)
        results: list[tuple[int, Any]] = []
        alive = True
        try:
            while alive and not pipe.closed:
                wait = WaitUntil(min(time.monotonic() + timeout, self.deadline.limit), pipe.fill, pipe.descriptor)
                alive = await self._waited(child, wait, process.answer_of(items[len(results) :]))
                new, pipe.data = process.answers(pipe.data)
                results += new
        finally:
            os.close(pipe.descriptor)
            if not pipe.closed:
                await self._end(child, gently=False)
        return results, 0 if child.ended() or len(results) == len(items) else child.pid

    async def probe(self, function: Callable[..., Any], point: str, *arguments: Any, timeout: float) -> Any:
        """``call_with_timeout()`` for a mounted directory; one that has not answered is not asked again by this run."""
        if point in self.unresponsive:
            raise NoResponseError("no answer")
        try:
            return await self.call_with_timeout(function, point, *arguments, timeout=timeout)
        except NoResponseError:
            self.unresponsive.add(point)
            raise

    def unfinished(self) -> list[int]:
        """Pids of commands with ``hold`` that nothing could end: what they have begun can still come about."""
        return [child.pid for child in self._left_behind if child.holds and not child.ended()]

    def left_behind(self) -> list[str]:
        """Children that nothing could end, and that are still there: pid and what they do."""
        return [f"pid {child.pid} ({child.what})" for child in self._left_behind if not child.ended()]
