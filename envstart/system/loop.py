"""Coroutines side by side in one thread: what asyncio would do, at none of its import time (40 ms, four hooks' worth).

A coroutine waits by ``await WaitUntil(...)``. There are no threads, so that a child can be forked at any moment.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from types import coroutine
from typing import Any


class CancelledError(BaseException):
    """Thrown into a coroutine whose work is no longer wanted; it may still wait to clean up behind itself."""


class WaitUntil:
    """Until ``ready()`` says so or the clock (time.monotonic, seconds) reaches ``until``; true if ready.

    ``descriptor`` becoming readable ends the sleep early; ``ready`` is asked then. ``finish``: the failure of another
    coroutine does not cancel this one before the wait is over, a signal does.
    """

    __slots__ = ("ready", "until", "descriptor", "finish")

    def __init__(
        self,
        until: float,
        ready: Callable[[], bool] | None = None,
        descriptor: int | None = None,
        *,
        finish: bool = False,
    ) -> None:
        """Keep what ends the wait."""
        self.until, self.ready, self.descriptor, self.finish = until, ready, descriptor, finish

    def __await__(self) -> Generator[WaitUntil, None, bool]:
        """Wait."""
        while True:
            if self.ready is not None and self.ready():
                return True
            if time.monotonic() >= self.until:
                return False
            yield self


@coroutine
def checkpoint() -> Generator[WaitUntil, None, None]:
    """Let all others do first what they can do at once."""
    yield WaitUntil(0.0)


class _Task:
    __slots__ = ("coroutine", "wait", "result", "error", "done", "cancelled")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.wait: WaitUntil | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.cancelled = False

    @property
    def finishes(self) -> bool:
        return self.wait is not None and self.wait.finish

    @property
    def failure(self) -> BaseException | None:
        return None if isinstance(self.error, CancelledError) else self.error

    def proceed(self, *, cancel: bool) -> None:
        if not self.done and cancel and not self.cancelled:
            self.cancel()
        elif not self.done:
            self.step()

    def step(self, throw: BaseException | None = None) -> None:
        try:
            self.wait = self.coroutine.throw(throw) if throw is not None else self.coroutine.send(None)
        except StopIteration as end:
            self.result, self.done = end.value, True
        except BaseException as error:
            self.error, self.done = error, True

    def cancel(self) -> None:
        self.cancelled = True
        if self.wait is None:
            self.coroutine.close()
            self.done = True
        else:
            self.step(CancelledError())


def gather(
    coroutines: Sequence[Coroutine[Any, Any, Any]],
    interruption: Callable[[], BaseException | None] = lambda: None,
    wake: Callable[[], int | None] = lambda: None,
    tick: Callable[[], float] = lambda: float("inf"),
) -> list[Any]:
    """Run all to their end and return their results in order.

    The first one that fails, or ``interruption()``, ends the others by CancelledError, after a failure only when a
    wait that is to ``finish`` is over; the cause is raised when all of them have ended. ``wake()`` is a descriptor
    that becomes readable when a signal came in (a child's end among them). ``tick()`` is called before each sleep, and
    tells when it wants to be called again (time.monotonic).
    """
    tasks = [_Task(coroutine) for coroutine in coroutines]
    cause: BaseException | None = None
    interrupted: BaseException | None = None
    while True:
        before = [(task.wait, task.done) for task in tasks]
        for task in tasks:
            task.proceed(cancel=interrupted is not None or (cause is not None and not task.finishes))
            cause = cause or task.failure
        waiting = [task for task in tasks if not task.done]
        if not waiting:
            break
        if cause is None or any(task.finishes for task in waiting):
            interrupted = interrupted or interruption()
        cause = cause or interrupted
        if cause and not all(task.cancelled or (task.finishes and not interrupted) for task in waiting):
            continue
        if any(task.done != done or task.wait is not wait for task, (wait, done) in zip(tasks, before)):
            # What a task has done can be what another waits for.
            continue
        _sleep([task.wait for task in waiting if task.wait is not None], wake(), tick())
    if cause is not None:
        raise cause
    return [task.result for task in tasks]


def _sleep(waits: list[WaitUntil], wake: int | None, tick: float) -> None:
    poller = select.poll()
    for wait in waits:
        if wait.descriptor is not None:
            poller.register(wait.descriptor, select.POLLIN)
    if wake is not None:
        poller.register(wake, select.POLLIN)
    seconds = min(tick, *(wait.until for wait in waits)) - time.monotonic()
    # Rounded up to the millisecond that poll(2) knows, so that it does not turn around idle.
    ready = poller.poll(max(0, int(seconds * 1000) + 1))
    if wake is not None and any(descriptor == wake for descriptor, _ in ready):
        with suppress(BlockingIOError):
            while os.read(wake, 4096):
                pass
