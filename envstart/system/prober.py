"""Call what may hang in children, which can be left behind (docs/promises.md, 5).

A fork costs more than most of the questions of filesystem.py: one child answers what a start or a stop asks, as long as
it answers at once. A directory that hangs holds nobody up who asks about another one, and its child is ended, or left
behind, like any other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from envstart.errors import DeadlineExceededError, NoResponseError, TemporaryError, no_child
from envstart.system import filesystem, probe, process
from envstart.system.log import Report
from envstart.system.loop import WaitUntil
from envstart.system.runner import Runner

_T = TypeVar("_T")

# Seconds to wait for a child that answers somebody else, before there is another one.
_TURN = 0.02
# Whose functions leave nothing behind in a child that is asked again.
_WELL_KNOWN = (filesystem.__name__, probe.__name__)


class Worker:
    """A child that calls ``function`` (see process.call()), and ``again`` what it is asked to afterwards. OSError."""

    __slots__ = ("child", "pipe", "_questions")

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Any], keep: Iterable[int] = (), *, again: bool = False
    ) -> None:
        """Let a new child make its first call."""
        read: int | None = None
        self._questions: int | None = None
        if again:
            read, self._questions = os.pipe()
        try:
            self.child, answers = process.call(function, arguments, keep, read)
        except OSError:
            if self._questions is not None:
                os.close(self._questions)
            raise
        finally:
            if read is not None:
                os.close(read)
        self.pipe = process.Pipe(answers)
        if self._questions is not None:
            os.set_blocking(self._questions, False)

    def ask(self, function: Callable[..., Any], arguments: Sequence[Any]) -> bool:
        """Let it call this one; tell whether it could be told: it may be gone, or have no room."""
        if self._questions is None:
            return False
        self.child.what = process.named(function, arguments)
        try:
            data = process.framed((function.__module__, function.__name__, tuple(arguments)))
            return os.write(self._questions, data) == len(data)
        except (OSError, ValueError):
            return False

    def answered(self) -> bool:
        """Tell whether its answer has come. One that is not asked again has let go of all that it had open, too."""
        self.pipe.fill()
        return self.pipe.closed or (self._questions is not None and bool(process.answers(self.pipe.data)[0]))

    def answer(self) -> Any:
        """Return the result; raise its OSError or EnvstartError, EOFError if it ended before."""
        answers, self.pipe.data = process.answers(self.pipe.data)
        if not answers:
            raise EOFError
        number, value = answers[0]
        if error := process.raised(number, value):
            raise error
        return value

    def close(self) -> None:
        """Ask no more: it ends, if it does not hang."""
        if self._questions is not None:
            os.close(self._questions)
        os.close(self.pipe.descriptor)


class WorkerPool:
    """The workers of those who ask side by side."""

    def __init__(self) -> None:
        """Begin without a child."""
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._again = True

    async def ask(
        self, function: Callable[..., Any], arguments: Sequence[Any], keep: Sequence[int], limit: float
    ) -> Worker:
        """Return the worker that was asked: for filesystem.py and probe.py a free one that has answered before, if any.

        ``limit``: the time (time.monotonic) from which on nobody is waited for. OSError.
        """
        if keep or not self._again or function.__module__ not in _WELL_KNOWN:
            return Worker(function, arguments, keep)
        if self._busy and not self._idle:
            await WaitUntil(min(time.monotonic() + _TURN, limit), lambda: bool(self._idle))
        while self._idle:
            worker = self._idle.pop()
            if worker.ask(function, arguments):
                break
            worker.close()
        else:
            try:
                worker = Worker(function, arguments, again=True)
            except OSError:
                # That takes two descriptors more.
                worker = Worker(function, arguments)
        self._busy.add(worker)
        return worker

    def dismiss(self) -> None:
        """Let each child answer once from here on: those who wait for another question hold descriptors."""
        self._again = False
        while self._idle:
            self._idle.pop().close()

    def done(self, worker: Worker, *, answered: bool) -> None:
        """Take a worker back whose answer was taken, or is not waited for any more."""
        if self._again and worker in self._busy and answered and not worker.pipe.closed:
            self._idle.append(worker)
        else:
            worker.close()
        self._busy.discard(worker)


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
