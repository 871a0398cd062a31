"""Record what a start that found all mounted took that from, so that the next one can take the short way."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from envstart.config import places
from envstart.engine import circuit_breaker, record
from envstart.engine.plan import Plan, Step
from envstart.errors import EnvstartError
from envstart.hooks import unchanged
from envstart.hooks.unchanged import identity
from envstart.mounts.table import Table
from envstart.paths import ancestors
from envstart.steps.mount import Mount
from envstart.steps.mountpoint import drift
from envstart.system import rundir
from envstart.system.host import Host

# Seconds that a file must have been left alone: two changes within one tick of the file system's clock look the same.
SETTLED = 2.0


def save(program: str, argv: Sequence[str], plan: Plan, host: Host) -> None:
    """Write the record after a good start, if the next one can tell by it; else that takes the long way."""
    with contextlib.suppress(EnvstartError, OSError, ValueError):
        made = _record(argv, plan, host)
        if made is not None:
            rundir.write(unchanged.record_name(program, argv), unchanged.seal(made))


def _record(argv: Sequence[str], plan: Plan, host: Host) -> tuple[Any, ...] | None:
    path = plan.config.path
    table = host.complete(host.mounts())
    rows = [row(step, table, linux=unchanged.LINUX) for step in plan.steps]
    if path is None or len(plan.locks) != 1 or None in rows:
        return None
    # What has changed since the plan was made would pass for what it was made of.
    makers, settled = _makers(), time.time() - SETTLED - host.deadline.elapsed()
    if any(os.stat(file).st_ctime > settled for file in (path, *makers)):
        return None
    candidates = places.candidates(plan.backend, plan.environment.workdir)
    # Those before the file in use would be used instead, should they come. None are if it was given by -c.
    absent = candidates[: candidates.index(path)] if path in candidates else []
    absent += [rundir.path(circuit_breaker.record(server)) for step in plan.steps for server in step.servers]
    recorded = record.path(plan.environment)
    if any(map(identity, absent)) or identity(recorded) is None:
        # Each start tries to write its record.
        return None
    ground = table.at("/")[-1]
    return (
        list(argv),
        [(file, identity(file)) for file in (*absent, path, recorded, *makers)],
        plan.locks[0],
        (ground.device, ground.root),
        touched_paths([each for each in rows if each]),
        rows,
    )


def row(step: Step, table: Table, *, linux: bool) -> tuple[Any, ...] | None:
    """Return what the table must show for a step; None if the table alone cannot tell."""
    stack = table.at(step.point)
    if type(step) is not Mount or step.lower is not None or step.shared or len(stack) != 1:
        return None
    if drift(stack[0], step.options) or not table.shows(stack[0], step.fstype, step.source, linux=linux):
        return None
    if step.fstype == "nullfs" and table.below(step.source if linux else stack[0].source):
        # What is not shown of it is told by each start (sources.py).
        return None
    question = (step.point, tuple(step.required), step.lease(step.point), False)
    return step.point, step.fstype, step.source, stack[0].read_only, question


def touched_paths(rows: list[Any]) -> set[str]:
    """Return the directories on which a mount matters: the mount points, sources on this host, all that they lie in."""
    own = [row[0] for row in rows] + [row[2] for row in rows if row[1] == "nullfs"]
    return {place for path in own for place in (path, *ancestors(path))}


def _makers() -> list[str]:
    """Return the files of all modules of the package that are loaded: another version of any can make another plan."""
    package = __name__.partition(".")[0]
    return [str(module.__file__) for name, module in sys.modules.items() if name.partition(".")[0] == package]
