"""Plan and status as text and as plain values for JSON."""

from __future__ import annotations

import os

from . import packages
from . import plan as plans
from .errors import Error
from .report import paste, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .host import Host
    from .inventory import Found
    from .plan import Plan

    Record = dict[str, Any]


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
    if packages.needs_locking(plan):
        where = f"{plan.environment.data}/{packages.CONF}"
        lines.append(f"# pkg(8) in there needs a line in {where}: {packages.LINE}  (envstart doctor looks for it)")
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
        if verb != "start":
            return "not mounted; nothing to do"
        return f"not mounted; {state.found}" if state.found else "not mounted"
    if state.word in (plans.READY, plans.DEGRADED):
        return f"{state}; nothing to do" if verb == "start" or not state.stop else str(state)
    if state.word == plans.NOT_READY:
        return str(state) if verb == "start" else f"{state}; nothing to do"
    return f"{state.word}: {state.found}; {verb} would refuse and leave it alone"


def rows(plan: Plan, found: Sequence[plans.State]) -> list[Record]:
    """One record for each wanted directory."""
    name, levels = plan.environment.name, plans.LEVELS
    return [
        record(name, plan.backend, step, step.point, state, levels.get(state.word, "critical"))
        for step, state in zip(plan.steps, found)
    ]


def record(
    environment: str, backend: str, step: plans.Step | None, point: str, state: plans.State, level: str
) -> Record:
    """Plain values of a step, or of a directory that belongs to none; the keys are stable."""
    return {
        "environment": environment,
        "backend": backend,
        "directory": step.name if step else "",
        "point": point,
        "source": step.source if step else "",
        "fstype": step.fstype if step else "",
        "state": state.word,
        "found": state.found,
        "level": level,
    }


# Exit statuses of monitoring plugins, the worst first: unknown is less than what is known to be wrong.
SEVERITY = {"critical": 2, "unknown": 3, "warning": 1, "ok": 0}


def problems(records: Sequence[Record]) -> str:
    """A line for each record that is not well, the worst first; nothing if all is."""
    order = list(SEVERITY)
    bad = sorted((record for record in records if record["level"] != "ok"), key=lambda one: order.index(one["level"]))
    keys = ("environment", "directory", "source", "state", "found")
    return "".join(
        f"{_coloured(record['level'], record['level'].upper())}: "
        f"{printable(': '.join(record[key] for key in keys if record[key]))}\n"
        for record in bad
    )


_COLOURS = {"critical": "31;1", "unknown": "35", "warning": "33", "ok": "32"}


def _coloured(level: str, text: str) -> str:
    """In colour on a terminal, unless somebody does not want that (NO_COLOR, and CBSD's own NOCOLOR)."""
    if not os.isatty(1) or os.environ.get("NO_COLOR") or os.environ.get("NOCOLOR"):
        return text
    return f"\033[{_COLOURS[level]}m{text}\033[0m"


class Group:
    """An environment (None: mounts of environments that are no more) and the records of its steps. ``lacking``: where
    the links are not by which CBSD would stop it."""

    def __init__(self, found: Found | None, records: Sequence[Record], lacking: Sequence[str] = ()) -> None:
        self.found = found
        self.records = list(records)
        self.lacking = list(lacking)

    @property
    def running(self) -> bool:
        """Whether the environment runs."""
        return self.found is not None and self.found.running

    @property
    def well(self) -> bool:
        """All is there while it runs, and nothing is when it does not."""
        if self.running:
            return all(record["level"] in ("ok", "warning") for record in self.records)
        return all(record["state"] in (plans.NOT_MOUNTED, plans.NOT_READY, plans.READY) for record in self.records)

    def plain(self) -> Record:
        """For JSON; the keys are stable."""
        found = self.found
        return {
            "environment": found.name if found else "",
            "workdir": found.workdir if found else "",
            "emulator": found.emulator if found else "",
            "backend": found.backend if found else "",
            "registered": bool(found and found.registered),
            "running": self.running,
            "well": self.well,
            "links_lacking": self.lacking,
            "directories": self.records,
        }


def overview(groups: Sequence[Group]) -> str:
    """Environments with their directories, those that are not well first."""
    rows = []
    widths = {key: max((len(str(row[key])) for group in groups for row in group.records), default=0) for key in _SHOWN}
    for group in sorted(groups, key=lambda one: (one.well, one.found.name if one.found else "")):
        found = group.found
        word = "runs" if group.running else "does not run" if found and found.registered else "is not registered"
        kind = f"{found.emulator}, {found.backend or 'no hook of ours'}" if found else ""
        heading = f"{found.name} ({kind}) {word}" if found else "not known to CBSD"
        if group.lacking:
            heading += f"; CBSD will not stop it: envstart install {found.name if found else ''}".rstrip()
        rows.append(_coloured("ok" if group.well else "critical", heading))
        for row in group.records:
            words = "  ".join(str(row[key]).ljust(widths[key]) for key in _SHOWN)
            rest = f"  {row['found']}" if row["state"] != plans.MOUNTED and row["found"] else ""
            rows.append(printable(f"  {words}{rest}".rstrip()))
    return "".join(f"{row}\n" for row in rows)


_SHOWN = ("directory", "state", "source", "point")


def status(records: Sequence[Record]) -> str:
    """The records as an aligned table, what is not mounted first."""
    header = {"directory": "DIRECTORY", "state": "STATE", "source": "SOURCE", "point": "MOUNT POINT", "found": "FOUND"}
    ordered = sorted(records, key=lambda record: record["level"] == "ok")
    shown = [{**record, "found": "" if record["state"] == plans.MOUNTED else record["found"]} for record in ordered]
    table = [header, *shown]
    widths = {key: max(len(str(row[key])) for row in table) for key in header}
    return "".join("  ".join(str(row[key]).ljust(widths[key]) for key in header).rstrip() + "\n" for row in table)
