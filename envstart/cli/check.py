"""``envstart check``: report problems to people, cron and monitoring. It ends with 0, 1, 2 or 3, whatever happens."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from envstart import lifecycle
from envstart.cbsd import survey
from envstart.cbsd.monitored import Monitored, Record
from envstart.cli import output, select
from envstart.cli.arguments import EITHER, Verbs, add_verb
from envstart.errors import EnvstartError
from envstart.paths import path_digest
from envstart.steps import observe
from envstart.system import rundir
from envstart.system.host import Host, Polling
from envstart.system.log import Report, tell

# Seconds that another check is waited for. Most take less than one; one at a dead server can take PROBE_TIMEOUT, but
# check_nrpe(8) gives up after ten, and ours comes after the wait.
_TURN = 5.0
_UNKNOWN = output.SEVERITY["unknown"]


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    parser = add_verb(verbs, "check", "report problems, and nothing else", run, [EITHER])
    text = "table: ask nobody; read: each directory must answer; write: and take a file (default: read)"
    parser.add_argument("--level", choices=observe.LEVELS, default="read", help=text)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON document")
    form.add_argument("--nagios", action="store_true", help="as a monitoring plugin, with performance data")
    parser.add_argument("--prometheus", metavar="FILE", help="write the metrics to a file, for node_exporter")
    parser.add_argument("--changed", action="store_true", help="say nothing unless it differs from the last time")


def run(options: argparse.Namespace, report: Report) -> int:
    """Check all jails and VMs, or those that the command line names."""
    return look(options, report, select.given(options, report))


def guarded(report: Report, argv: Sequence[str], body: Callable[[], int]) -> int:
    """Run a check; what keeps it from an answer is UNKNOWN, 3, also for who reads only standard output."""
    try:
        return body()
    except (Exception, KeyboardInterrupt) as caught:
        error = lifecycle.failure(caught, report)
    try:
        output.unknown(report, str(error), for_nagios="--nagios" in argv, for_json="--json" in argv)
    except EnvstartError as second:
        report.warn(str(second))
    report.fail(error)
    # A signal ends it with 128 and its number, but readers of --nagios know no such status.
    return error.status if error.status > lifecycle.SIGNALLED and "--nagios" not in argv else _UNKNOWN


@dataclass
class Outcome:
    """Records of a check, and the jails and VMs that they are of, in words. ``reason``: why there are none."""

    records: Sequence[Record]
    summary: str
    reason: str = ""


def look(options: argparse.Namespace, report: Report, given: Sequence[Monitored] | None) -> int:
    """Check all jails and VMs, those that CBSD knows by these names, or those that are ``given``."""
    host = select.machine(report)
    lock, other = host.complete(_alone(host)) if given is None else (None, "")
    if other:
        return _left_to(other, options, report)
    began = time.monotonic()
    try:
        outcome = _of_given(host, given, options.level) if given is not None else _of_all(options, host)
    except EnvstartError as error:
        if error.status <= lifecycle.SIGNALLED:
            _metrics(options, report, [output.no_answer(str(error))], time.monotonic() - began)
        raise
    seconds = time.monotonic() - began
    _metrics(options, report, outcome.records, seconds)
    # A plugin always has its line.
    told = not options.changed or _differs(options, report, outcome.records) or options.nagios
    if lock is not None:
        # A reader can take its time.
        os.close(lock)
    level = output.worst(outcome.records)
    status = _UNKNOWN if options.nagios and outcome.reason else output.SEVERITY[level]
    try:
        if told:
            _tell(options, report, outcome, seconds)
    except EnvstartError as error:
        report.fail(error)
        if options.changed:
            # Nobody has read it: the next one tells it again.
            with contextlib.suppress(EnvstartError, OSError):
                os.unlink(_last(options))
        # What nobody could read was not told; what is critical stays that.
        return status if level == "critical" else _UNKNOWN
    return status


def _of_given(host: Host, given: Sequence[Monitored], level: str) -> Outcome:
    rows = survey.running(host, given, level)
    records = [row.record(row.monitored.record.workdir if row.monitored else "") for row in rows]
    return Outcome(records, output.count(len(given), "jail"))


def _of_all(options: argparse.Namespace, host: Host) -> Outcome:
    listings = select.inventories(options, host)
    records = [
        row.record(listing.workdir)
        for listing in listings
        for row in survey.everything(host, listing, options.names, options.level)
    ]
    managed = [record for listing in listings for record in listing.chosen(options.names)]
    if not managed and not records:
        return Outcome(records, output.NOTHING, output.NOTHING)
    running = [record for record in managed if record.running]
    kinds = [(sum(record.is_jail for record in running), "jail"), (sum(not record.is_jail for record in running), "VM")]
    return Outcome(records, ", ".join(output.count(*kind) for kind in kinds if kind[0]) or "none running")


async def _alone(host: Host) -> tuple[int | None, str]:
    """Return a lock that others see, and "", or why this check is not made: another one runs (docs/faults.md, 121)."""
    polling = Polling(host, _TURN, "another check")
    while True:
        try:
            descriptor, holder = rundir.claim_lock("check")
        except (EnvstartError, OSError):
            # Not root, who alone can say so.
            return None, ""
        if descriptor is not None:
            rundir.sign_lock(descriptor, f"pid {os.getpid()}")
            return descriptor, ""
        holder = holder or "it has just begun"
        polling.what = f"another check: {holder}"
        if not await polling.again():
            return None, f"another check is at work ({holder}); nothing was done"


def _left_to(other: str, options: argparse.Namespace, report: Report) -> int:
    """Leave the report to another check; whoever asks for an answer has none, and gets UNKNOWN."""
    output.unknown(report, other, for_nagios=options.nagios, for_json=options.json)
    if options.nagios or options.json:
        return _UNKNOWN
    if not options.changed:
        # cron would mail it, as long as a server is dead.
        report.note(other)
    return _UNKNOWN if options.names or options.prometheus else os.EX_OK


def _metrics(options: argparse.Namespace, report: Report, records: Sequence[Record], seconds: float) -> None:
    """Write the file for Prometheus if there is to be one; that it cannot be written is told, and changes nothing."""
    if options.prometheus:
        try:
            output.replace(options.prometheus, output.prometheus(records, seconds))
        except EnvstartError as error:
            report.warn(str(error))


def _last(options: argparse.Namespace) -> str:
    """Return the path of what a check of the same ones has told last; EnvstartError if nobody can keep that."""
    scope = (options.workdirs, options.names, options.level, options.list, options.config, options.name)
    return f"{rundir.directory()}/check.{path_digest(repr(scope))}.last"


def _differs(options: argparse.Namespace, report: Report, records: Sequence[Record]) -> bool:
    """Tell whether the last check of the same ones said something else. Where that cannot be kept, problems count."""
    try:
        return output.changed(_last(options), records)
    except EnvstartError as error:
        report.warn(str(error))
        return output.worst(records) != "ok"


def _tell(options: argparse.Namespace, report: Report, outcome: Outcome, seconds: float) -> None:
    records, reason = outcome.records, outcome.reason
    if options.json:
        given = {"reason": reason} if reason else {}
        output.document(report, level=output.worst(records), **given, seconds=round(seconds, 3), directories=records)
    elif options.nagios and reason:
        output.unknown(report, reason, for_nagios=True, for_json=False)
    elif options.nagios:
        tell(output.nagios(records, seconds, outcome.summary))
    else:
        fine = "OK: no problems left\n" if options.changed else f"{reason}\n" if reason else ""
        tell(output.problems(records) or fine)
