"""``envstart status``: what is mounted, and does it answer."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from envstart.cbsd import links, monitored, survey
from envstart.cbsd.inventory import EnvironmentRecord
from envstart.cbsd.monitored import CONFIGURATION, Monitored, Record, Row, by_environment
from envstart.cli import output, select
from envstart.cli.arguments import EITHER, JSON, Verbs, add_verb
from envstart.config import remedies
from envstart.engine import plan
from envstart.engine.plan import Observation
from envstart.system.host import Host
from envstart.system.log import Report, tell

_HEADER = {"directory": "DIRECTORY", "state": "STATE", "source": "SOURCE", "point": "MOUNT POINT", "found": "FOUND"}


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    add_verb(verbs, "status", "what is mounted, and does it answer", run, [EITHER, JSON])


def run(options: argparse.Namespace, report: Report) -> int:
    """Print the state of all jails and VMs, or of those that the command line names; 1 if any is not well."""
    given = select.given(options, report)
    return _all(options, report) if given is None else _given(options, report, given)


@dataclass
class Group:
    """Records of a jail's or VM's steps; without one (``record`` is None), mounts of those that CBSD does not know.

    ``lacking``: directories without the links by which CBSD would stop it. ``active``: it runs, or may be about to.
    """

    record: EnvironmentRecord | None
    records: Sequence[Record]
    lacking: Sequence[str] = ()
    active: bool = False

    @property
    def well(self) -> bool:
        """Tell whether all is there while it runs, and nothing when it does not."""
        return all(record["level"] in ("ok", "warning" if self.active else "") for record in self.records)

    def plain(self) -> Record:
        """Return the values for JSON, whose keys are stable."""
        own = self.record
        return {
            "environment": own.name if own else "",
            **{key: getattr(own, key, "") for key in ("workdir", "emulator", "backend")},
            **{key: getattr(own, key, False) for key in ("registered", "running")},
            "well": self.well,
            "links_lacking": list(self.lacking),
            "directories": self.records,
        }

    def heading(self) -> str:
        """Return the line above its directories."""
        record = self.record
        if record is None:
            return "not known to CBSD"
        state = "running" if record.running else "not running" if record.registered else "not registered"
        text = f"{record.name} ({record.emulator}, {record.backend or 'no hook of ours'}): {state}"
        if self.active and not record.running:
            text += ", was started a moment ago"
        if self.lacking:
            install = remedies.known("install", [record.name], [record.workdir])
            text += f"; warning: storage is not unmounted on stop: {install}"
        return text


def _given(options: argparse.Namespace, report: Report, given: Sequence[Monitored]) -> int:
    records = [row.record() for row in survey.running(Host(report), given, "read")]
    if options.json:
        output.document(report, directories=records)
    else:
        ordered = sorted(records, key=lambda record: record["level"] == "ok")
        tell("".join(f"{line}\n" for line in output.table([_HEADER, *ordered])))
    return os.EX_OK if all(record["level"] in ("ok", "warning") for record in records) else 1


def _all(options: argparse.Namespace, report: Report) -> int:
    host = select.machine(report)
    groups: list[Group] = []
    listings = select.inventories(options, host)
    for listing in listings:
        rows = by_environment(_rows(host, monitored.chosen(listing, options.names)))
        # A system directory that has just given no answer is not asked for links.
        systems = {
            watched: watched.record.environment.system
            for watched, own in rows.items()
            if watched.record.running
            and watched.record.environment
            and all(row.state.status != plan.NO_ANSWER for row in own)
        }
        lacking = host.complete(links.lacking(host, list(systems.values())))
        for watched, own in rows.items():
            # What all share says nothing about one that does not run.
            records = [row.record(listing.workdir) for row in own if watched.record.running or not row.shared]
            without = lacking.get(systems.get(watched, ""), ())
            groups.append(Group(watched.record, records, without, active=watched.active))
        lost = [] if options.names else [row.record(listing.workdir) for row in survey.of_unknown(host, listing)]
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


def _rows(host: Host, environments: Sequence[Monitored]) -> list[Row]:
    """Return the state of every step, looked at as `check` does; of what is not running also what is left of it."""
    rows = survey.running(host, [watched for watched in environments if watched.active], "read")
    idle = [watched for watched in environments if not watched.active]
    left = {(row.monitored, row.step): row for row in survey.of_idle(host, idle)}
    for row in survey.running(host, idle, "table"):
        if row.state.status == CONFIGURATION and (row.monitored, None) not in left:
            # As long as nothing is mounted, doctor tells it.
            row = Row(row.monitored, None, Observation(plan.NOT_MOUNTED, row.state.detail))
        rows.append(left.pop((row.monitored, row.step), row))
    return rows + list(left.values())


def _overview(groups: Sequence[Group]) -> str:
    """Return jails and VMs with their directories, those with a problem first."""
    ordered = sorted(groups, key=lambda group: (group.well, group.record.name if group.record else ""))
    lines = iter(output.table([record for group in ordered for record in group.records]))
    rows = []
    for group in ordered:
        rows.append(output.coloured("ok" if group.well else "critical", group.heading()))
        rows += [f"  {next(lines)}" for _ in group.records]
    return "".join(f"{row}\n" for row in rows)
