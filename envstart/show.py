"""Plan and status as text and as plain values for JSON."""

from __future__ import annotations

from . import plan as plans
from .errors import Error
from .report import paste

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .host import Host
    from .plan import Plan


def states(plan: Plan, host: Host) -> list[plans.State]:
    """What the mount table says of each step; one reading of it for all."""
    try:
        host.wait(host.mounts())
    except Error as error:
        return [plans.State(plans.UNKNOWN, str(error)) for _ in plan.steps]
    found: list[plans.State] = host.together([step.state(host) for step in plan.steps])
    return found


def plan(plan: Plan, host: Host, verb: str) -> str:
    """What is there, and the commands that ``verb`` would run, as lines that can be pasted."""
    lines = [f"# {verb} {plan.environment.name} ({plan.backend}, {plan.config.path or 'no configuration file'})"]
    lines += [f"# warning: {warning}" for warning in plan.warnings]
    found = dict(zip((step.name for step in plan.steps), states(plan, host)))
    steps = [step for group in plans.waves(plan.steps) for step in group]
    for step in steps if verb == "start" else reversed(steps):
        state = found[step.name]
        commands = state.start if verb == "start" else state.stop
        on = f" on {step.point}" if step.point else ""
        lines.append(f"# {step.name}: {step.source}{on}: {_why(state, verb)}")
        lines += [paste(argv) for argv in commands]
    return "\n".join(lines) + "\n"


def _why(state: plans.State, verb: str) -> str:
    if state.word == plans.MOUNTED:
        if verb == "start":
            return "mounted; nothing to do"
        return "mounted" if state.stop else "mounted; stays, because another environment has mounts from there"
    if state.word == plans.NOT_MOUNTED:
        return "not mounted" if verb == "start" else "not mounted; nothing to do"
    if state.word in (plans.READY, plans.DEGRADED):
        return f"{state}; nothing to do" if verb == "start" or not state.stop else str(state)
    if state.word == plans.NOT_READY:
        return str(state) if verb == "start" else f"{state}; nothing to do"
    return f"{state.word}: {state.found}; {verb} would refuse and leave it alone"


def rows(plan: Plan, found: Sequence[plans.State]) -> list[dict[str, Any]]:
    """One record for each wanted directory; the keys are stable."""
    return [
        {
            "environment": plan.environment.name,
            "backend": plan.backend,
            "directory": step.name,
            "point": step.point,
            "source": step.source,
            "fstype": step.fstype,
            "state": state.word,
            "found": state.found,
            "level": plans.LEVELS.get(state.word, "critical"),
        }
        for step, state in zip(plan.steps, found)
    ]


# Exit statuses of monitoring plugins, the worst first: unknown is less than what is known to be wrong.
SEVERITY = {"critical": 2, "unknown": 3, "warning": 1, "ok": 0}


def problems(records: Sequence[dict[str, Any]]) -> str:
    """A line for each record that is not well, the worst first; nothing if all is."""
    order = list(SEVERITY)
    bad = sorted((record for record in records if record["level"] != "ok"), key=lambda one: order.index(one["level"]))
    return "".join(
        f"{record['level'].upper()}: {record['environment']}: {record['directory']}: {record['source']}: "
        f"{record['state']}{': ' + record['found'] if record['found'] else ''}\n"
        for record in bad
    )


def status(records: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table, what is not mounted first."""
    header = {"directory": "DIRECTORY", "state": "STATE", "source": "SOURCE", "point": "MOUNT POINT", "found": "FOUND"}
    ordered = sorted(records, key=lambda record: record["level"] == "ok")
    shown = [{**record, "found": "" if record["state"] == plans.MOUNTED else record["found"]} for record in ordered]
    table = [header, *shown]
    widths = {key: max(len(str(row[key])) for row in table) for key in header}
    return "".join("  ".join(str(row[key]).ljust(widths[key]) for key in header).rstrip() + "\n" for row in table)
