"""Run commands to their end, and keep what those have answered that only read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from envstart import errors
from envstart.mounts import commands
from envstart.system import command, files
from envstart.system.command import Result
from envstart.system.log import Report
from envstart.system.loop import WaitUntil
from envstart.system.process import Child
from envstart.system.scheduler import Scheduler

# CBSD puts directories with its own geli, jls and service first (docs/cbsd.md#process): its PATH is not used.
SYSTEM_PATH = ("/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin")
# Seconds that a killed child of our own making gets: it has nothing to put in order, and if it does not go it hangs.
_KILLED = 0.25
_T = TypeVar("_T")


class Runner(Scheduler):
    """Runs commands, and keeps account of the children that nothing could end."""

    def __init__(self, report: Report, began: float | None = None, left_behind: Sequence[Child] = ()) -> None:
        """Begin with the children that an earlier part of this process has left behind."""
        super().__init__(report, began)
        self.platform = "freebsd" if sys.platform.startswith("freebsd") else "linux"
        # Descriptors of our locks; of all children only a command with ``keep_locks`` has them.
        self.lock_fds: set[int] = set()
        self._left_behind = list(left_behind)
        # How often invalidate() was called: an answer that was asked for before it is not kept.
        self._changes = 0
        # What commands that only read have answered since the last one that changed something, and for this run.
        self._answers: dict[tuple[str, ...], Any] = {}
        self._lasting: dict[tuple[str, ...], Any] = {}
        self._asking: set[tuple[str, ...]] = set()

    def find(self, name: str) -> str | None:
        """Return the absolute path of a system command, or of what has one already; None if it cannot be run."""
        paths = [name] if name.startswith("/") else [f"{directory}/{name}" for directory in SYSTEM_PATH]
        return next((path for path in paths if os.access(path, os.X_OK)), None)

    def require(self, name: str) -> str:
        """Return the absolute path of a command; UnavailableError if it is missing."""
        return self.find(name) or commands.missing(name)

    def invalidate(self) -> None:
        """Let the next reading, of mounts and of all else, be a new one: somebody may have changed it."""
        self._answers.clear()
        self._changes += 1

    async def run(  # noqa: PLR0913 (each is given by name, or left out)
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        stdin: str | None = None,
        secret: bool = False,
        read_only: bool = False,
        keep_locks: bool = False,
        use_rollback_reserve: bool = False,
        detach_on_timeout: bool = False,
        wait_if_unkillable: bool = False,
    ) -> Result:
        """Run a command to its end, for ``timeout`` seconds and what is left of the deadline at most.

        One that does not end gets TERM, then KILL, with its group; one that ignores KILL is left behind and noted.
        ``stdin``: what it reads there, from a nameless file. ``secret``: what it prints is never shown. ``read_only``:
        it changes nothing, so that what is known stays known. ``keep_locks``: should this process be killed, the
        command keeps our locks until it ends. ``use_rollback_reserve``: the time kept for the roll back counts too.
        ``detach_on_timeout``: it is left behind at once, and does good in its own time (``umount -N``). Neither is cut
        off when what runs beside it fails. ``wait_if_unkillable``: one that ignores KILL is waited for as long as there
        is time, since it can still come about.
        """
        path = self.require(argv[0])
        self.signals.arm()
        began = time.monotonic()
        # Files, not pipes: a client that makes itself a daemon keeps a pipe open for ever.
        out, err = files.for_output(), files.for_output()
        try:
            child = _start(path, argv, stdin, (out, err), self.lock_fds if keep_locks else ())
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
            status, seconds = child.status if ended else None, time.monotonic() - began
            alive = child in self._left_behind
            result = Result(status, files.output(out), files.output(err), seconds, alive)
        finally:
            if not read_only:
                self.invalidate()
            os.close(out)
            os.close(err)
        self.report.ended(argv, result, secret=secret)
        return result

    async def ask(
        self,
        argv: Sequence[str],
        parse: Callable[[Result], _T],
        *,
        timeout: float | None = None,
        lasting: bool = False,
        secret: bool = False,
    ) -> _T:
        """Return what ``parse`` makes of a command that only reads.

        It is kept until a command changes something, or, ``lasting``, for this run. TemporaryError when it cannot be
        told: ``parse`` raises ValueError, or stumbles; NoResponseError when the command does not end, be it in time
        or, asked once, within ``timeout`` seconds.
        """
        key = tuple(argv)
        while key in self._asking:
            # Somebody else is at it, side by side with us.
            if not await WaitUntil(self.deadline.end, lambda: key not in self._asking):
                raise errors.DeadlineExceededError(f"cannot tell what {argv[0]} knows: there was no time left")
        for answers in (self._lasting, self._answers):
            if key in answers:
                kept: _T = answers[key]
                return kept
        self._asking.add(key)
        last, kind = "", errors.TemporaryError
        try:
            for _ in range(2 if timeout is None else 1):
                # A quarter of what is left, for the same reasons as for the mount table.
                limit = min(self.deadline.to_the_end() / 4, float("inf") if timeout is None else timeout)
                changes = self._changes
                result = await self.run(argv, timeout=limit, use_rollback_reserve=True, read_only=True, secret=secret)
                try:
                    answer = parse(result)
                except errors.UNREADABLE as error:
                    kind = errors.TemporaryError if result.status is not None else errors.NoResponseError
                    last = errors.unreadable(error)
                    continue
                if lasting:
                    self._lasting[key] = answer
                elif changes == self._changes:
                    self._answers[key] = answer
                return answer
        finally:
            self._asking.remove(key)
        raise kind(f"cannot tell what {argv[0]} knows: {last}; nothing was changed because of it")

    def unfinished(self) -> list[int]:
        """Return the pids of commands with our locks that nothing could end: what they do can still come about."""
        return [child.pid for child in self._left_behind if child.holds and not child.ended()]

    def left_behind(self) -> list[str]:
        """Return pid and purpose of the children that nothing could end, and that are still there."""
        return [f"pid {child.pid} ({child.what})" for child in self._left_behind if not child.ended()]

    async def _waited(self, child: Child, wait: WaitUntil, what: str = "") -> bool:
        with self.waiting(what or child.what, wait.until):
            return await wait

    async def _end(self, child: Child, *, gently: bool, detach: bool = False) -> None:
        """Send TERM if ``gently``, then KILL; a child that outlives both, and one to ``detach``, is left behind."""

        def is_over() -> bool:
            if not child.ended():
                return False
            if child.group_is_gone():
                return True
            from envstart.system import process_table

            return process_table.only_zombies(child.pid)

        grace = min(command.GRACE if gently else _KILLED, max(0.05, self.deadline.to_the_end() / 4))
        if detach or not await command.end_gradually(child.kill, is_over, gently=gently, grace=grace):
            self._left_behind.append(child)


def _start(path: str, argv: Sequence[str], text: str | None, output: tuple[int, int], keep: Collection[int]) -> Child:
    """Start a command that reads ``text``, if any; ResourceError if there is no room for it."""
    environment = {"LC_ALL": "C", "PATH": ":".join(SYSTEM_PATH), "HOME": "/"}
    given = None
    try:
        given = None if text is None else files.for_input(text)
        return command.start(path, argv, environment, (given, *output), keep)
    except OSError as error:
        raise errors.ResourceError(f"cannot run {argv[0]}: {errors.reason(error)}") from None
    finally:
        if given is not None:
            os.close(given)
