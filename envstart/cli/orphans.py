"""``envstart orphans``: what is mounted for jails and VMs that are not running, and, with --stop, its unmount."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from envstart import lifecycle
from envstart.cbsd import inventory, monitored, survey
from envstart.cbsd.inventory import Inventory
from envstart.cbsd.monitored import GRACE, ORPHAN, UNREGISTERED, Monitored
from envstart.cli import select
from envstart.cli.arguments import LISTED, Verbs, add_verb, seconds
from envstart.config import common
from envstart.engine import start_marks
from envstart.errors import EnvstartError
from envstart.steps.mount import Mount
from envstart.system import process_table
from envstart.system.host import Host
from envstart.system.log import Report, tell


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    parser = add_verb(verbs, "orphans", "what is mounted for jails and VMs that are not running", run, [LISTED])
    text = "unmount what the configuration or the record of a start names"
    parser.add_argument("--stop", action="store_true", help=text)
    text = "do not touch what was started so short a time ago (default: %(default).0f)"
    parser.add_argument("--grace", metavar="SECONDS", type=seconds, default=GRACE, help=text)
    text = "for all of them together (default: %(default).0f)"
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=600.0, help=text)


def run(options: argparse.Namespace, report: Report) -> int:
    """Print what stopped or removed jails and VMs have left mounted; with --stop unmount it."""
    host = select.machine(report)
    host.deadline.set(options.timeout)
    # Servers that gave no answer to a stop: the next one would wait for them as long.
    silent: set[str] = set()
    left: list[str] = []
    listings = select.inventories(options, host)
    status = select.warn_of_problems(report, listings)
    for listing in listings:
        rows = survey.orphans(host, listing, options.names, options.grace)
        status = max(status, select.warn_of_unplanned(report, rows))
        rows = [row for row in rows if row.state.status in (ORPHAN, UNREGISTERED)]
        if not options.stop:
            left += [row.state.detail for row in rows]
            _note_recent(host, listing, options.names, options.grace)
            continue
        left += [row.state.detail for row in rows if row.monitored is None or row.monitored.plan is None]
        for each in monitored.by_environment([row for row in rows if row.monitored and row.monitored.plan]):
            status = max(status, _stop(report, each, silent, grace=options.grace, timeout=host.deadline.left()))
    tell("".join(f"{line}\n" for line in left))
    return status


def _stop(report: Report, watched: Monitored, silent: set[str], *, grace: float, timeout: float) -> int:
    """Unmount what is left of one, unless it is in use by now; ``silent``: servers that have given no answer so far."""
    plan, record = watched.plan, watched.record
    assert plan is not None
    report.about(plan.environment.name, plan.config[common.LOG_FACILITY])
    host = Host(report)
    servers: dict[str, str] = {}

    def unless() -> str:
        if start_marks.within(plan.locks[0], grace):
            return "it was started a moment ago"
        now = host.complete(inventory.read(host, record.workdir)).get(record.name)
        if now is not None and now.running:
            return "it runs"
        if pid := process_table.find_cbsd_process(("/sudoexec/",), record.name):
            return f"CBSD is at work on it (pid {pid})"
        if pid := process_table.creating():
            return f"CBSD makes a jail or VM that pid {pid} does not name"
        table = host.complete(host.mounts())
        servers.update({step.point: table.server(step.point) for step in plan.steps if table.at(step.point)})
        dead = sorted(silent.intersection(servers.values()))
        return f"{dead[0]} gave no answer a moment ago" if dead and not plan.config[common.STOP_FORCE] else ""

    try:
        lifecycle.act("stop", plan, host, unless=unless, timeout=timeout)
        count = len(servers)
        report.note(f"not running: unmounted {count} director{'y' if count == 1 else 'ies'}")
    except EnvstartError as error:
        silent.update(server for point, server in servers.items() if point in host.unresponsive)
        report.fail(error)
        return error.status
    return 0


def _note_recent(host: Host, listing: Inventory, names: Sequence[str], grace: float) -> None:
    """Tell of each one with mounts that does not run, and was started too short a time ago for an orphan."""
    for watched in monitored.chosen(listing, names):
        age = watched.age
        if watched.record.running or watched.plan is None or age >= grace:
            continue
        points = [step.point for step in watched.plan.steps if isinstance(step, Mount) and not step.shared]
        if any(host.complete(host.stack(point)) for point in points):
            since = f"{watched.record.name}: not running, started {age:.0f} s ago"
            host.report.note(f"{since}: its mounts are no orphans before {grace:.0f} s have passed (--grace)")
