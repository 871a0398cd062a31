"""What iscsid(8) and hastd(8) of a machine have done since somebody last looked."""

from __future__ import annotations

import time

from . import box, resources, sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import State


def settle(state: State, machine: Machine) -> None:
    now = time.time()
    # Twice, because a discovery adds sessions.
    for _ in range(2):
        known = box.read(state["storage"])
        dues = [*sessions.settle(state, machine, known, now), *resources.settle(state, machine, known, now)]
    state["due"] = min(dues, default=0.0)
