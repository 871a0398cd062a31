"""The state of the storage box, as the commands of a machine reach it. A machine's lock is always taken before it."""

from __future__ import annotations

from .machine import Machine
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .shapes import Box

    T = TypeVar("T")

NOTHING: Box = {"worlds": {}, "portals": {}, "targets": {}, "resources": {}, "images": {}, "cluster": "up"}


def read(path: str) -> Box:
    """Return the present state; the caller must not change it. A machine without a box sees an empty one."""
    state: Any = Store(path).read() if path else NOTHING
    found: Box = state
    return found


def change(path: str, act: Callable[[Box], T]) -> T:
    blind: Any = act
    result: T = Store(path).change(blind)
    return result


def publish(path: str) -> None:
    """Every machine notices at once what has changed. No lock may be held by then."""
    for world in read(path)["worlds"].values():
        try:
            Machine(world).settle(at_once=True)
        except FileNotFoundError:
            # A machine whose test is over has no state any more.
            continue
