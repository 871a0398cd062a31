"""``envstart check``: report problems to people, cron and monitoring. It ends with 0, 1, 2 or 3, whatever happens."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence

from envstart import lifecycle
from envstart.cbsd import survey
from envstart.cbsd.records import Record
from envstart.cli import metrics, output, select
from envstart.cli.arguments import EITHER, Verbs, add_verb
from envstart.engine.plan import Plan
from envstart.errors import EnvstartError
from envstart.paths import path_digest
from envstart.steps import observe
from envstart.system import locks, rundir
from envstart.system.host import Host
from envstart.system.log import Report, printable, tell
from envstart.system.polling import Polling

# Seconds that another check is waited for. Most take less than one; one at a dead server can take PROBE_TIMEOUT, but
# check_nrpe(8) gives up after ten, and ours comes after the wait.
_TURN = 5.0
_UNKNOWN = output.SEVERITY["unknown"]


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    parser = add_verb(verbs, "check", "report problems, and nothing else", run, [EITHER])
    parser.add_argument(
        "--level",
        choices=observe.LEVELS,
        default="read",
        help="table: ask nobody; read: each directory must answer; write: and take a file (default: read)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON document")
    form.add_argument("--nagios", action="store_true", help="as a monitoring plugin, with performance data")
    parser.add_argument("--prometheus", metavar="FILE", help="write the metrics to a file, for node_exporter")
    parser.add_argument("--changed", action="store_true", help="say nothing unless it differs from the last time")


def run(options: argparse.Namespace, report: Report) -> int:
    """Check all jails and VMs, or those that the command line names."""
    return look(options, report, select.plans_if_given(options, report))


def guarded(report: Report, argv: Sequence[str], body: Callable[[], int]) -> int:
    """Run a check. What keeps it from an answer is UNKNOWN, 3, also for who reads only standard output; a signal ends
    it with 128 and its number, but not with --nagios, whose readers know no such status."""
    try:
        return body()
    except (Exception, KeyboardInterrupt) as caught:
        error = lifecycle.failure(caught, report)
    try:
        if "--nagios" in argv:
            tell(f"ENVSTART UNKNOWN - {_one_line(str(error))}\n")
        elif "--json" in argv:
            output.document(report, level="unknown", reason=str(error), directories=[])
    except EnvstartError as second:
        report.warn(str(second))
    report.fail(error)
    return error.status if error.status > lifecycle.SIGNALLED and "--nagios" not in argv else _UNKNOWN


def _one_line(text: str) -> str:
    """A text without the bar, which begins the performance data of a plugin."""
    return printable(text).replace("|", "/")


class Outcome:
    """What a check has found: its records, and what they are of, in words. ``reason``: why there are none."""

    def __init__(self, records: Sequence[Record], summary: str, reason: str = "") -> None:
        self.records = list(records)
        self.summary = summary
        self.reason = reason
        self.level = metrics.worst(self.records)


def look(arguments: argparse.Namespace, report: Report, plans: Sequence[Plan] | None) -> int:
    """Check all jails and VMs, those that are named, or those of ``plans``."""
    host = select.machine(report)
    lock, other = host.complete(_alone(host)) if plans is None else (None, "")
    if other:
        return _left_to(other, arguments, report)
    began = time.monotonic()
    try:
        outcome = _of_plans(host, plans, arguments.level) if plans is not None else _of_all(arguments, host)
    except EnvstartError as error:
        if error.status <= lifecycle.SIGNALLED:
            _metrics(arguments, report, [metrics.unknown(str(error))], time.monotonic() - began)
        raise
    seconds = time.monotonic() - began
    _metrics(arguments, report, outcome.records, seconds)
    # A plugin always has its line.
    told = not arguments.changed or _differs(arguments, report, outcome.records) or arguments.nagios
    if lock is not None:
        # A reader can take its time.
        os.close(lock)
    status = output.SEVERITY[outcome.level]
    if arguments.nagios and outcome.reason:
        status = _UNKNOWN
    try:
        if told:
            _tell(arguments, report, outcome, seconds)
    except EnvstartError as error:
        report.fail(error)
        if arguments.changed:
            # Nobody has read it: the next one tells it again.
            _forget(arguments)
        # What nobody could read was not told; what is critical stays that.
        return output.SEVERITY[outcome.level] if outcome.level == "critical" else _UNKNOWN
    return status


def _of_plans(host: Host, plans: Sequence[Plan], level: str) -> Outcome:
    seen = survey.running(host, [survey.Monitored.given(one) for one in plans], level)
    records = [one.record(one.monitored.record.workdir if one.monitored else "") for one in seen]
    return Outcome(records, f"{_count(len(plans), 'jail')}, {metrics.things(records)}")


def _of_all(arguments: argparse.Namespace, host: Host) -> Outcome:
    inventories = select.inventories(arguments, host)
    records = [row for one in inventories for row in survey.records(host, one, arguments.names, arguments.level)]
    managed = [record for one in inventories for record in one.chosen(arguments.names)]
    if not managed and not records:
        return Outcome(records, output.NOTHING, output.NOTHING)
    running = [record for record in managed if record.running]
    kinds = [(sum(record.is_jail for record in running), "jail"), (sum(not record.is_jail for record in running), "VM")]
    summary = ", ".join(_count(number, kind) for number, kind in kinds if number) or "none running"
    return Outcome(records, f"{summary}, {metrics.things(records)}")


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


async def _alone(host: Host) -> tuple[int | None, str]:
    """Return a lock that others see, and "", or why this check is not made: another one runs (docs/faults.md, 121)."""
    polling = Polling(host, _TURN, "another check")
    while True:
        try:
            descriptor, holder = locks.claim("check")
        except (EnvstartError, OSError):
            # Not root, who alone can say so.
            return None, ""
        if descriptor is not None:
            locks.note(descriptor, f"pid {os.getpid()}")
            return descriptor, ""
        holder = holder or "it has just begun"
        polling.what = f"another check: {holder}"
        if not await polling.again():
            return None, f"another check is at work ({holder}); nothing was done"


def _left_to(other: str, arguments: argparse.Namespace, report: Report) -> int:
    """Leave the report to another check; whoever asks for an answer has none, and gets UNKNOWN."""
    if arguments.nagios:
        tell(f"ENVSTART UNKNOWN - {_one_line(other)}\n")
    elif arguments.json:
        output.document(report, level="unknown", reason=other, directories=[])
    else:
        if not arguments.changed:
            # cron would mail it, as long as a server is dead.
            report.note(other)
        if not (arguments.names or arguments.prometheus):
            return os.EX_OK
    return _UNKNOWN


def _metrics(arguments: argparse.Namespace, report: Report, records: Sequence[Record], seconds: float) -> None:
    """Write the file for Prometheus if there is to be one; that it cannot be written is told, and changes nothing."""
    if arguments.prometheus:
        try:
            metrics.replace(arguments.prometheus, metrics.prometheus(records, seconds))
        except EnvstartError as error:
            report.warn(str(error))


def _last(arguments: argparse.Namespace) -> str:
    """Return the path of what a check of the same ones has told last; EnvstartError if nobody can keep that."""
    scope = (arguments.workdirs, arguments.names, arguments.level, arguments.list, arguments.config, arguments.name)
    return f"{rundir.directory()}/check.{path_digest(repr(scope))}.last"


def _differs(arguments: argparse.Namespace, report: Report, records: Sequence[Record]) -> bool:
    """Tell whether the last check of the same ones said something else. Where that cannot be kept, problems count."""
    try:
        return metrics.changed(_last(arguments), records)
    except EnvstartError as error:
        report.warn(str(error))
        return metrics.worst(records) != "ok"


def _forget(arguments: argparse.Namespace) -> None:
    with contextlib.suppress(EnvstartError, OSError):
        os.unlink(_last(arguments))


def _tell(arguments: argparse.Namespace, report: Report, outcome: Outcome, seconds: float) -> None:
    records = outcome.records
    if arguments.json:
        reason = {"reason": outcome.reason} if outcome.reason else {}
        output.document(report, level=outcome.level, **reason, seconds=round(seconds, 3), directories=records)
    elif arguments.nagios and outcome.reason:
        tell(f"ENVSTART UNKNOWN - {outcome.reason}\n")
    elif arguments.nagios:
        tell(metrics.nagios(records, output.problems(records), seconds, outcome.summary))
    elif arguments.changed:
        tell(output.problems(records) or "OK: no problems left\n")
    else:
        tell(output.problems(records) or (f"{outcome.reason}\n" if outcome.reason else ""))
