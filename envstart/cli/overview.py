"""What `status`, `orphans` and `recover` tell of what `check` reports: the same states, and which command helps."""

from __future__ import annotations

from envstart.cbsd import survey
from envstart.cbsd.survey import Seen
from envstart.config import remedies
from envstart.engine import plan, start_marks
from envstart.engine.plan import State
from envstart.environment import file_name
from envstart.steps.mount import Mount
from envstart.system.log import paste

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.cbsd.inventory import Inventory
    from envstart.cbsd.survey import Watched
    from envstart.system.host import Host


def active(one: Watched, grace: float = survey.GRACE) -> bool:
    """Tell whether a jail or VM is running, may be about to run, or is being changed by CBSD."""
    return one.found.running or one.changing or one.starting(grace)


def rows(host: Host, environments: Sequence[Watched]) -> list[Seen]:
    """Return the state of every step, looked at as `check` does; of what is not running also what is left of it."""
    seen = survey.running(host, [one for one in environments if active(one)], "read")
    idle = [one for one in environments if not active(one)]
    instead = {(row.watched, row.step): row for row in survey.resting(host, idle)}
    for row in survey.running(host, idle, "table"):
        if row.state.word == survey.CONFIGURATION and (row.watched, None) not in instead:
            # As long as nothing is mounted, doctor tells it.
            row = Seen(row.watched, None, State(plan.NOT_MOUNTED, row.state.found))
        seen.append(instead.pop((row.watched, row.step), row))
    return seen + list(instead.values())


def recent(host: Host, inventory: Inventory, names: Sequence[str], grace: float) -> list[str]:
    """Return a line for each jail or VM that has mounts, does not run, and was started too short a time ago to be an
    orphan."""
    lines = []
    for one in survey.watched(inventory, names):
        if one.found.running or one.plan is None or not one.starting(grace):
            continue
        points = [step.point for step in one.plan.steps if isinstance(step, Mount) and not step.shared]
        if any(host.wait(host.stack(point)) for point in points):
            age = start_marks.age(file_name(one.plan.environment)) or 0.0
            lines.append(
                f"{one.found.name}: not running, started {age:.0f} s ago: its mounts are no orphans before "
                f"{grace:.0f} s have passed (--grace)"
            )
    return lines


def advice(seen: Seen) -> str:
    """Return what helps against a state that recover does nothing about; "" if there is nothing to do."""
    name = seen.watched.found.name if seen.watched else ""
    workdirs = [seen.watched.found.workdir] if seen.watched and seen.watched.found.workdir else []
    remount, doctor = _remount(seen.watched), remedies.known("doctor", [name], workdirs)
    return (
        {
            plan.NOT_MOUNTED: remount,
            plan.NOT_READY: remount,
            plan.STACKED: f"umount what lies on it, as in: {paste(('umount', seen.point))}",
            plan.WRONG_SOURCE: f"{paste(('umount', seen.point))}, or correct the configuration",
            plan.NOT_USABLE: "correct that where the files are, or in the configuration",
            plan.NOT_WRITABLE: "correct that where the files are, or in the configuration",
            plan.LOST: f"look at the other host; see {doctor}",
            plan.DEGRADED: f"stop and start {name}; see {doctor}",
            survey.CONFIGURATION: _check_configuration(seen.watched),
        }.get(seen.state.word, "")
        if seen.level != "ok"
        else ""
    )


def _remount(watched: Watched | None) -> str:
    """Return the command line for a jail or VM that CBSD knows, or that was given by its directories."""
    if watched is not None and watched.found.workdir:
        return remedies.known("recover", [watched.found.name], [watched.found.workdir], "--remount")
    return remedies.of_plan(watched.plan, "recover", "--remount") if watched is not None else ""


def _check_configuration(watched: Watched | None) -> str:
    if watched is None or not watched.found.backend:
        return ""
    return remedies.known("config check", [watched.found.backend], [watched.found.workdir])


def left_to_others(
    host: Host, environments: Sequence[Watched], seen: Sequence[Seen], words: Sequence[str]
) -> list[str]:
    """Return a line for each problem that `check` reports and recover, which acts on the states ``words``, does not."""
    idle = [one for one in environments if not active(one)]
    orphans = [row for row in survey.resting(host, idle, bare=False) if row.state.word not in words]
    acted_on = {row.step for row in seen if row.state.word in words}
    lines = [f"{_named(row)}{row.state}" for row in orphans if row.step not in acted_on and row.step is not None]
    for row in seen:
        if row.watched in idle or row.state.word in words or row.state.word == survey.CONFIGURATION:
            continue
        if remedy := advice(row):
            lines.append(f"{_named(row)}{row.state}; recover does nothing about it: {remedy}")
    return lines


def _named(row: Seen) -> str:
    name = row.watched.found.name if row.watched else ""
    return "".join(f"{word}: " for word in (name, row.step.name if row.step else "") if word)
