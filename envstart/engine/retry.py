"""Try again what can heal, with back-off and jitter, until as late as the deadline allows (docs/promises.md, 6)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from envstart.errors import DeadlineExceededError, TemporaryError, UnavailableError
from envstart.system import site_packages
from envstart.system.host import Host

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 15.0
# Seconds that an attempt is begun earlier than one as long as that before it would have to be. With less time than this
# it could only say that it had none.
_MARGIN = 0.5


async def until_it_heals(act: Callable[[], Awaitable[None]], host: Host, what: str, attempts: int = 0) -> None:
    """Await ``act()``; after a TemporaryError again, at most ``attempts`` times in all (0: no limit but the time).

    ``what``: the directory or the device that is waited for then, for people.
    The last TemporaryError that is more than a lack of time is raised. tenacity is imported when the first attempt has
    failed: it takes longer to import than all else that a start does, and most starts never need it.
    """
    trial, began = _Trial(act, host), time.monotonic()
    try:
        await trial.attempt()
        return
    except TemporaryError as error:
        first = [error]
    if attempts == 1 or trial.is_too_late():
        raise first[0]
    site_packages.reach()
    from envstart.system import progress

    try:
        from tenacity import retry_if_exception_type, wait_random_exponential
        from tenacity.asyncio import AsyncRetrying
    except ImportError:
        remedy = site_packages.how_to_install("tenacity")
        raise UnavailableError(
            f"{first[0]}; it is not tried again, since Python's tenacity is missing: {remedy}"
        ) from None
    backoff = wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE)

    async def again() -> None:
        if first:
            raise first.pop()
        await trial.attempt()

    def pause(state: Any) -> float:
        waiting.what = f"{what}: {progress.reason(state.outcome.exception())}"
        return min(backoff(state), trial.longest_pause())

    def stop(state: Any) -> bool:
        return bool(0 < attempts <= state.attempt_number or trial.is_too_late())

    with host.waiting(what, since=began) as waiting:
        await AsyncRetrying(
            sleep=host.sleep, stop=stop, wait=pause, retry=retry_if_exception_type(TemporaryError), reraise=True
        )(again)


class _Trial:
    """The attempts so far: why the last one failed, and how long it took."""

    def __init__(self, act: Callable[[], Awaitable[None]], host: Host) -> None:
        self._act, self._host = act, host
        self._took = 0.0
        self._reason: TemporaryError | None = None

    async def attempt(self) -> None:
        """Await the act; that there was no time left for it does not hide why it failed before."""
        began = self._host.deadline.elapsed()
        try:
            await self._act()
        except DeadlineExceededError:
            if self._reason is None:
                raise
            raise self._reason from None
        except TemporaryError as error:
            self._reason = error
            raise
        finally:
            self._took = self._host.deadline.elapsed() - began

    def longest_pause(self) -> float:
        """Return the seconds after which another attempt, as long as the last one, still has its time."""
        return max(0.0, self._host.deadline.left() - self._took - _MARGIN)

    def is_too_late(self) -> bool:
        """Tell whether another attempt is hopeless: one that hung for long can succeed at once next time."""
        return self._host.deadline.left() <= min(self._took, _MARGIN) + _MARGIN
