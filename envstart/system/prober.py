"""Call what may hang in children, which can be left behind (docs/promises.md, 5)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from envstart.errors import DeadlineExceededError, NoResponseError, TemporaryError, no_child
from envstart.system import process
from envstart.system.log import Report
from envstart.system.loop import WaitUntil
from envstart.system.runner import Runner
from envstart.system.workers import WorkerPool

_T = TypeVar("_T")


class Prober(Runner):
    """Calls functions that touch a file system or a server which may be dead."""

    def __init__(self, report: Report, began: float | None = None, left_behind: Sequence[process.Child] = ()) -> None:
        """Begin without a child."""
        super().__init__(report, began, left_behind)
        # Mount points that have not answered in this run.
        self.unresponsive: set[str] = set()
        self._workers = WorkerPool()

    async def call_with_timeout(
        self,
        function: Callable[..., _T],
        *arguments: Any,
        timeout: float,
        keep: Sequence[int] = (),
        what: str = "",
        finish: bool = False,
    ) -> _T:
        """Call a function in a child; NoResponseError after ``timeout``, DeadlineExceededError at an earlier deadline.

        Such a call cannot be ended, only left behind. The result goes through marshal; an OSError or an EnvstartError
        is raised here as it was there. ``keep``: descriptors that the child gets. ``what`` is told to be waited for in
        place of an answer of its first argument. ``finish``: it is not cut off (see run()).
        """
        try:
            worker = await self._workers.ask(function, arguments, keep, self.deadline.limit)
        except OSError as error:
            raise no_child(error) from None
        until, answered = time.monotonic() + timeout, False
        try:
            wait = WaitUntil(min(until, self.deadline.limit), worker.answered, worker.pipe.descriptor, finish=finish)
            answered = await self._waited(worker.child, wait, what or process.answer_of(arguments))
        finally:
            self._workers.done(worker, answered=answered)
            if not answered:
                await self._end(worker.child, gently=False)
        if not answered and self.deadline.limit < until:
            raise DeadlineExceededError("no answer in the time that was left")
        if not answered:
            raise NoResponseError(f"no answer in {timeout:.1f} s")
        # If it is not yet over, init(8) takes it after us.
        worker.child.ended()
        try:
            answer: _T = worker.answer()
            return answer
        except EOFError:
            raise TemporaryError(f"a child ended without an answer: {worker.child.what}") from None

    async def map_with_timeout(
        self, function: Callable[[Any], Any], items: Sequence[Any], timeout: float, keep: Sequence[int] = ()
    ) -> tuple[list[tuple[int, Any]], int]:
        """Call a function with one item after the other in one child; return the answers, and 0.

        An answer is (0, result), or what process.raised() reads. They end with the first item that has none in time;
        the child is left behind with ``keep`` then, and its pid is returned.
        """
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

    async def probe(self, function: Callable[..., _T], point: str, *arguments: Any, timeout: float) -> _T:
        """``call_with_timeout()`` for a mounted directory; one that has not answered is not asked again by this run."""
        if point in self.unresponsive:
            raise NoResponseError("no answer")
        try:
            return await self.call_with_timeout(function, point, *arguments, timeout=timeout)
        except NoResponseError:
            self.unresponsive.add(point)
            raise
