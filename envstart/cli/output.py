"""Plan and status as text and as plain values for JSON."""

from __future__ import annotations

import os
import time

from envstart import __version__
from envstart.cli.doctor import pkg
from envstart.config import remedies
from envstart.engine import plan as plans
from envstart.system.log import paste, printable, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envstart.cbsd.inventory import Found
    from envstart.engine.plan import Plan
    from envstart.errors import EnvstartError
    from envstart.lifecycle.forecast import Act
    from envstart.system.log import Report

    Record = dict[str, Any]


# What is said where there is nothing to show.
NOTHING = "no jail or VM uses an envstart hook"


def document(report: Report, **values: Any) -> None:
    """Print one JSON document: ``values``, and what every document has."""
    import json

    head = {
        "version": __version__,
        "host": os.uname().nodename,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    tell(json.dumps({**head, **values, "warnings": report.warnings}, indent=2) + "\n")


def plan(plan: Plan, report: Report, verb: str) -> EnvstartError | None:
    """Print what there is and the commands that ``verb`` would run now, as lines that can be pasted; return the error
    that it would end with."""
    from envstart.lifecycle.forecast import Forecast
    from envstart.lifecycle.rehearsal import Rehearsal

    report.plan = plan
    host = Rehearsal(report)
    host.by_hand = report.program == "envstart"
    lines = [f"# {verb} {plan.environment.name} ({plan.backend}, {plan.config.path or 'no configuration file'})"]
    lines += [f"# warning: {warning}" for warning in plan.warnings]
    if pkg.needs_locking(plan):
        where = f"{plan.environment.data}/{pkg.CONF}"
        lines.append(f"# pkg(8) in there needs a line in {where}: {pkg.LINE}  (doctor looks for it)")
    forecast = Forecast(plan, host, verb)
    error = forecast.error
    lines += [f"# warning: {printable(warning)}" for warning in forecast.warnings]
    for act in forecast.backwards:
        if act.first:
            lines.append(f"# {_what(act)}: {act.state}; unmount it first")
            lines += _commands(act, act.first, error)
    for act in forecast.acts:
        lines.append(f"# {_what(act)}: {_why(act, verb)}")
        lines += _commands(act, act.commands, error)
    if error is not None:
        lines.append(f"# {verb} would end with exit status {error.status}: {printable(str(error))}")
    tell("\n".join(lines) + "\n")
    return error


def _what(act: Act) -> str:
    return printable(f"{act.step.name}: {act.step.source}{' on ' + act.step.point if act.step.point else ''}")


def _commands(act: Act, commands: Sequence[tuple[str, ...]], error: EnvstartError | None) -> list[str]:
    """Lines to paste; those that nothing would run, or that say less than the run knows, are comments."""
    return [
        f"{'# ' if error is not None or not act.state.pastable or plans.is_guess(argv) else ''}{paste(argv)}"
        for argv in commands
    ]


def _why(act: Act, verb: str) -> str:
    state = act.state
    if act.error is not None:
        if state.word in (plans.NOT_MOUNTED, plans.NOT_READY):
            return f"{state}; {verb} would fail"
        return f"{state.word}: {state.found}; {verb} would refuse and not touch it"
    if verb == "stop":
        if act.first:
            return "unmounted by then"
        if state.word == plans.MOUNTED:
            return "mounted" if act.commands else "mounted; stays, because another environment has mounts from there"
        return str(state) if act.commands else f"{state}; nothing to do"
    if act.lack is None:
        return f"{'mounted' if state.word == plans.MOUNTED else state}; nothing to do"
    if act.first:
        return "mounted anew"
    if act.step.point and not act.commands:
        return f"{state}; looked at again when what it lies on is back"
    if state.word == plans.NOT_MOUNTED:
        return f"not mounted; {state.found}" if state.found else "not mounted"
    return str(state)


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
    the links are not by which CBSD would stop it. ``active``: it runs, or may be about to."""

    def __init__(
        self, found: Found | None, records: Sequence[Record], lacking: Sequence[str] = (), *, active: bool = False
    ) -> None:
        self.found = found
        self.records = list(records)
        self.lacking = list(lacking)
        self.active = active

    @property
    def running(self) -> bool:
        """Whether the environment runs."""
        return self.found is not None and self.found.running

    @property
    def well(self) -> bool:
        """All is there while it runs, and nothing is when it does not."""
        return all(record["level"] in (("ok", "warning") if self.active else ("ok",)) for record in self.records)

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
        word = "running" if group.running else "not running" if found and found.registered else "not registered"
        word += ", was started a moment ago" if group.active and not group.running else ""
        kind = f"{found.emulator}, {found.backend or 'no hook of ours'}" if found else ""
        heading = f"{found.name} ({kind}): {word}" if found else "not known to CBSD"
        if group.lacking:
            install = remedies.known("install", [found.name], [found.workdir]) if found else ""
            heading += f"; warning: storage is not unmounted on stop: {install}".rstrip(": ")
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
