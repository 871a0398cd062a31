"""Try again what can heal, with exponential back-off and jitter, until the deadline says stop (promise 6)."""

from __future__ import annotations

from . import libraries
from .errors import Temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .host import Host

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 15.0
# An attempt with less time than this (seconds) could only say that it had none, and hide why the one before it failed.
_SHORTEST_ATTEMPT = 0.5


async def until_it_heals(act: Callable[[], Awaitable[None]], host: Host, attempts: int = 0) -> None:
    """``await act()``; after a Temporary again, at most ``attempts`` times in all (0: no limit but the time).

    The last Temporary is raised. tenacity is imported when the first attempt has failed: it takes longer to import
    than all else that a start does, and most starts never need it.
    """
    try:
        await act()
        return
    except Temporary as error:
        first = [error]
    if attempts == 1 or host.deadline.left() <= _SHORTEST_ATTEMPT:
        raise first[0]
    libraries.reach()
    try:
        from tenacity import retry_if_exception_type, wait_random_exponential
        from tenacity.asyncio import AsyncRetrying
    except ImportError:
        first[0].also("it is not tried again, because Python's tenacity is missing: make env")
        raise first[0] from None

    async def again() -> None:
        if first:
            raise first.pop()
        await act()

    def enough(state: Any) -> bool:
        too_late = host.deadline.left() <= state.upcoming_sleep + _SHORTEST_ATTEMPT
        return bool(0 < attempts <= state.attempt_number or too_late)

    await AsyncRetrying(
        sleep=host.sleep,
        stop=enough,
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        retry=retry_if_exception_type(Temporary),
        reraise=True,
    )(again)
