"""``envstart status``: what is mounted, and does it answer."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from envstart.cbsd import links, survey
from envstart.cbsd.inventory import Found
from envstart.cbsd.records import Record, rows
from envstart.cbsd.survey import Seen, Watched
from envstart.cli import output, select
from envstart.cli.arguments import EITHER, JSON, Verbs, add_verb
from envstart.config import remedies
from envstart.engine import plan
from envstart.engine.plan import Plan, State
from envstart.steps import observe
from envstart.system.host import Host
from envstart.system.log import Report, printable, tell

_HEADER = {"directory": "DIRECTORY", "state": "STATE", "source": "SOURCE", "point": "MOUNT POINT", "found": "FOUND"}


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    add_verb(verbs, "status", "what is mounted, and does it answer", run, [EITHER, JSON])


def run(options: argparse.Namespace, report: Report) -> int:
    """Print the state of all jails and VMs, or of those that the command line names; 1 if any is not well."""
    plans = select.plans_if_given(options, report)
    return _all(options, report) if plans is None else _given(options, report, plans)


@dataclass
class Group:
    """Records of a jail's or VM's steps; without one (``found`` is None), mounts of those that CBSD does not know.

    ``lacking``: directories without the links by which CBSD would stop it. ``active``: it runs, or may be about to.
    """

    found: Found | None
    records: Sequence[Record]
    lacking: Sequence[str] = ()
    active: bool = False

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self.found is not None and self.found.running

    @property
    def well(self) -> bool:
        """Tell whether all is there while it runs, and nothing when it does not."""
        return all(record["level"] in (("ok", "warning") if self.active else ("ok",)) for record in self.records)

    def plain(self) -> Record:
        """Return the values for JSON, whose keys are stable."""
        found = self.found
        return {
            "environment": found.name if found else "",
            "workdir": found.workdir if found else "",
            "emulator": found.emulator if found else "",
            "backend": found.backend if found else "",
            "registered": bool(found and found.registered),
            "running": self.running,
            "well": self.well,
            "links_lacking": list(self.lacking),
            "directories": self.records,
        }

    def heading(self) -> str:
        """Return the line above its directories."""
        found = self.found
        if found is None:
            return "not known to CBSD"
        state = "running" if found.running else "not running" if found.registered else "not registered"
        text = f"{found.name} ({found.emulator}, {found.backend or 'no hook of ours'}): {state}"
        if self.active and not found.running:
            text += ", was started a moment ago"
        if self.lacking:
            install = remedies.known("install", [found.name], [found.workdir])
            text += f"; warning: storage is not unmounted on stop: {install}"
        return text


def _given(options: argparse.Namespace, report: Report, plans: Sequence[Plan]) -> int:
    host = Host(report)
    records = [record for plan in plans for record in rows(plan, observe.states(host, plan.steps))]
    if options.json:
        output.document(report, directories=records)
    else:
        header = {
            "directory": "DIRECTORY",
            "state": "STATE",
            "source": "SOURCE",
            "point": "MOUNT POINT",
            "found": "FOUND",
        }
        ordered = sorted(records, key=lambda record: record["level"] == "ok")
        tell("".join(f"{line}\n" for line in output.table([header, *ordered])))
    return os.EX_OK if all(record["level"] in ("ok", "warning") for record in records) else 1


def _all(options: argparse.Namespace, report: Report) -> int:
    host = select.machine(report)
    groups: list[Group] = []
    listings = select.inventories(options, host)
    for listing in listings:
        rows = survey.by_environment(_rows(host, survey.watched(listing, options.names)))
        # A system directory that has just given no answer is not asked for links.
        systems = {
            watched: watched.found.environment.system
            for watched, own in rows.items()
            if watched.found.running
            and watched.found.environment
            and all(row.state.word != plan.NO_ANSWER for row in own)
        }
        lacking = host.wait(links.lacking(host, list(systems.values())))
        for watched, own in rows.items():
            # What all share says nothing about one that does not run.
            records = [row.record(listing.workdir) for row in own if watched.found.running or not row.shared]
            without = lacking.get(systems.get(watched, ""), ())
            groups.append(Group(watched.found, records, without, active=watched.is_active()))
        lost = [] if options.names else [row.record(listing.workdir) for row in survey.lost(host, listing)]
        if lost:
            groups.append(Group(None, lost))
    if options.json:
        select.warn_of_problems(report, listings)
        reason = {} if groups else {"reason": output.NOTHING}
        output.document(report, environments=[group.plain() for group in groups], **reason)
    else:
        tell(_overview(groups) or f"{output.NOTHING}\n")
        select.warn_of_problems(report, listings)
    problems = any(listing.problems for listing in listings)
    return os.EX_OK if not problems and all(group.well for group in groups) else 1


def _rows(host: Host, environments: Sequence[Watched]) -> list[Seen]:
    """Return the state of every step, looked at as `check` does; of what is not running also what is left of it."""
    rows = survey.running(host, [watched for watched in environments if watched.is_active()], "read")
    idle = [watched for watched in environments if not watched.is_active()]
    left = {(row.watched, row.step): row for row in survey.resting(host, idle)}
    for row in survey.running(host, idle, "table"):
        if row.state.word == survey.CONFIGURATION and (row.watched, None) not in left:
            # As long as nothing is mounted, doctor tells it.
            row = Seen(row.watched, None, State(plan.NOT_MOUNTED, row.state.found))
        rows.append(left.pop((row.watched, row.step), row))
    return rows + list(left.values())


def _overview(groups: Sequence[Group]) -> str:
    """Return jails and VMs with their directories, those with a problem first."""
    ordered = sorted(groups, key=lambda group: (group.well, group.found.name if group.found else ""))
    lines = iter(output.table([record for group in ordered for record in group.records]))
    rows = []
    for group in ordered:
        rows.append(output.coloured("ok" if group.well else "critical", group.heading()))
        rows += [printable(f"  {next(lines)}") for _ in group.records]
    return "".join(f"{row}\n" for row in rows)
