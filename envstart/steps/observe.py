"""Look at steps by one reading of the mount table, and by one look into each mounted directory.

`check`, `status`, `plan` and `recover` read this; a start judges what it sees by the same rules (health.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from envstart.engine import plan
from envstart.engine.plan import Observation, Step
from envstart.errors import EnvstartError
from envstart.steps import health
from envstart.steps.mount import Mount
from envstart.system import bulk_probe
from envstart.system.host import Host

# How much is asked of a mounted directory: nothing, to show its entries, to take a file.
LEVELS = ("table", "read", "write")


def states(host: Host, steps: Sequence[Step], level: str = "read", places: Sequence[str] = ()) -> list[Observation]:
    """Return what there is of each step, looked at as closely as ``level`` says; of ``places`` the real names too."""
    try:
        host.complete(host.mounts())
    except EnvstartError as error:
        return [Observation(plan.UNKNOWN, str(error)) for _ in steps]
    resolve(host, [*filter(None, places), *(place for step in steps for place in step.touched_paths)])
    observed: list[Observation] = host.gather([step.observe(host) for step in steps])
    if level != "table":
        observed = _look(host, steps, observed, writing=level == "write")
    return observed


def resolve(host: Host, places: Sequence[str]) -> None:
    """Find the real names of all that the table does not know, by one child."""
    with contextlib.suppress(EnvstartError, OSError):
        # After a failure each is asked for by itself, so that the right one is told.
        host.complete(host.resolve(places))


async def _down(host: Host, step: Mount) -> tuple[str | EnvstartError, str]:
    """Return why a mount cannot answer ("": nothing says so; an error: that cannot be told), and its real directory."""
    try:
        down = await step.why_down(host)
    except EnvstartError as error:
        return error, ""
    return down, "" if down else await host.real(step.point)


def _look(host: Host, steps: Sequence[Step], states: Sequence[Observation], *, writing: bool) -> list[Observation]:
    """Look into what is mounted: one child for each server, and none where something tells that it cannot answer."""
    table = host.complete(host.mounts())
    observed = list(states)
    asked: list[tuple[int, Mount, str, bulk_probe.Probe]] = []
    mounted = [
        (number, step)
        for number, (step, state) in enumerate(zip(steps, states))
        if isinstance(step, Mount) and state.status in (plan.MOUNTED, plan.DEGRADED)
    ]
    for (number, step), (down, point) in zip(mounted, host.gather([_down(host, step) for _, step in mounted])):
        if isinstance(down, EnvstartError):
            observed[number] = Observation(plan.UNKNOWN, str(down))
        elif down:
            observed[number] = Observation(plan.NO_ANSWER, down)
        else:
            write = writing and "ro" not in step.options
            probe = bulk_probe.Probe(step.server(table), point, tuple(step.required), step.lease(point), write=write)
            asked.append((number, step, point, probe))
    timeout = max((step.probe_timeout for _, step, *_ in asked), default=0.0)
    bulk_probe.ask(host, [probe for *_, probe in asked], timeout)
    for number, step, point, probe in asked:
        host.looked[point] = probe.answer
        if probe.answer.verdict == probe.answer.HUNG:
            host.unresponsive.add(point)
        seen = health.interpret(step, host.platform, point, probe.answer)
        if seen.status != plan.MOUNTED:
            observed[number] = seen
    return observed
