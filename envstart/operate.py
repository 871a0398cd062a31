"""The verbs for all environments of a host: CBSD is asked which there are, and each is looked at, or acted on."""

from __future__ import annotations

import os
import time

from . import (
    check,
    commands,
    executor,
    guests,
    hook,
    install,
    inventory,
    locks,
    monitoring,
    occupancy,
    processes,
    show,
    started,
    state,
)
from .errors import Error, Misconfigured, Temporary, Usage
from .host import Host
from .mount import Mount
from .plan import BROKEN, NO_ANSWER, NOT_MOUNTED, NOT_READY, short, waves
from .report import paste, tell, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import Any

    from .check import Seen, Watched
    from .inventory import Inventory
    from .plan import Plan
    from .report import Report
    from .show import Record

# Seconds that a look at everything may take.
_LOOK = 600.0
# Seconds that another check is waited for. Most take less than one; one at a dead server can take PROBE_TIMEOUT, but
# check_nrpe(8) gives up after ten, and ours comes after the wait.
_TURN = 5.0
_PAUSE = 0.1
# Seconds that the recovery of one environment may take: umount -N of a dead server takes about a minute (transcript
# nfs-dead-server), and there are three of them.
_RECOVERY = 240.0


def _inventories(arguments: argparse.Namespace, host: Host) -> list[Inventory]:
    """What CBSD knows in each workdir that is meant; Usage if there is nothing that a name or a pattern fits."""
    found = [host.wait(inventory.read(host, path)) for path in inventory.workdirs(arguments.workdirs)]
    for name in arguments.names:
        # All can be none.
        if name != "*" and not any(one.chosen([name]) for one in found):
            problems = "; ".join(problem for one in found for problem in one.problems)
            places = ", ".join(one.workdir for one in found)
            raise Usage(f"cannot find environment {name} in {places}{': ' + problems if problems else ''}")
    return found


def _warn(report: Report, found: Sequence[Inventory]) -> int:
    """Say what could not be read; EX_TEMPFAIL if CBSD can know of more environments than those that are acted on."""
    for one in found:
        for problem in one.problems:
            report.warn(problem)
    return os.EX_OK if all(one.complete for one in found) else os.EX_TEMPFAIL


def _look(report: Report) -> Host:
    host = Host(report)
    host.deadline.set(_LOOK)
    # So that ^T is answered from the first.
    host.signals.arm()
    return host


# Looking.


def look(arguments: argparse.Namespace, report: Report, plans: Sequence[Plan] | None) -> int:
    """``envstart check``: what is not well, for people, cron and monitoring; of all, or of ``plans``."""
    host = _look(report)
    lock, other = host.wait(_alone(host)) if plans is None else (None, "")
    if other:
        return _left_to(other, arguments, report)
    began = time.monotonic()
    if plans is None:
        found = _inventories(arguments, host)
        records = [row for one in found for row in check.records(host, one, arguments.names, arguments.level)]
    else:
        seen = check.running(host, [check.Watched.given(one) for one in plans], arguments.level)
        records = [one.record(one.watched.found.workdir if one.watched else "") for one in seen]
    seconds = time.monotonic() - began
    if arguments.prometheus:
        monitoring.replace(arguments.prometheus, monitoring.prometheus(records, seconds))
    told = not arguments.changed or _differs(arguments, report, records)
    if lock is not None:
        # A reader can take its time.
        os.close(lock)
    if told:
        _tell(arguments, records, seconds)
    return show.SEVERITY[monitoring.worst(records)]


async def _alone(host: Host) -> tuple[int | None, str]:
    """A lock that others see, and "", or why this check is not to be made: another one is at work (fault 121)."""
    began = time.monotonic()
    until = began + _TURN
    while True:
        try:
            descriptor, holder = locks.claim("check")
        except (Error, OSError):
            # Not root, who alone can say so.
            return None, ""
        if descriptor is not None:
            locks.note(descriptor, f"pid {os.getpid()}")
            return descriptor, ""
        if time.monotonic() >= until:
            return None, f"another check is at work ({holder or 'it has just begun'}); nothing was done"
        with host.waiting(f"another check: {holder or 'it has just begun'}", until, began):
            await host.sleep(_PAUSE)


def _left_to(other: str, arguments: argparse.Namespace, report: Report) -> int:
    """Who runs it now and then is told by the other one; who asks for an answer has none."""
    if arguments.nagios:
        tell(f"ENVSTART UNKNOWN - {other}\n")
    elif arguments.json:
        document(level="unknown", reason=other, directories=[])
    else:
        if not arguments.changed:
            # cron would mail it, as long as a server is dead.
            report.note(other)
        if not (arguments.names or arguments.prometheus):
            return os.EX_OK
    return show.SEVERITY["unknown"]


def _differs(arguments: argparse.Namespace, report: Report, records: Sequence[Record]) -> bool:
    """Whether it is not what a check of the same ones has told last. Where that cannot be kept, what is wrong is."""
    scope = (arguments.workdirs, arguments.names, arguments.level, arguments.list, arguments.config, arguments.name)
    try:
        return monitoring.changed(f"{state.directory()}/check.{short(repr(scope))}.last", records)
    except Error as error:
        report.warn(str(error))
        return monitoring.worst(records) != "ok"


def document(**values: Any) -> None:
    """Print one JSON document."""
    import json

    tell(json.dumps(values, indent=2) + "\n")


def _tell(arguments: argparse.Namespace, records: Sequence[Record], seconds: float) -> None:
    if arguments.json:
        document(level=monitoring.worst(records), seconds=round(seconds, 3), directories=records)
    elif arguments.nagios:
        tell(monitoring.nagios(records, show.problems(records), seconds))
    else:
        tell(show.problems(records) or ("OK: all is well again\n" if arguments.changed else ""))


def status(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart status``: every environment with its directories, those with a problem first."""
    host = _look(report)
    groups: list[show.Group] = []
    inventories = _inventories(arguments, host)
    for found in inventories:
        seen = check.by_environment(check.running(host, check.watched(found, arguments.names), "table"))
        systems = {one: one.found.environment.system for one in seen if one.found.running and one.found.environment}
        lacking = host.wait(install.lacking(host, list(systems.values())))
        for one, rows in seen.items():
            # What all share says nothing about one that does not run.
            records = [row.record(found.workdir) for row in rows if one.found.running or not row.shared]
            groups.append(show.Group(one.found, records, lacking.get(systems.get(one, ""), ())))
        if not arguments.names:
            left = [row.record(found.workdir) for row in check.lost(host, found)]
            if left:
                groups.append(show.Group(None, left))
    if arguments.json:
        document(environments=[group.plain() for group in groups])
    else:
        tell(show.overview(groups))
    _warn(report, inventories)
    problems = any(found.problems for found in inventories)
    return os.EX_OK if not problems and all(group.well for group in groups) else 1


def doctor(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart doctor``: what will go wrong later; the status is that of a check."""
    from . import doctor as examination

    host = _look(report)
    findings = examination.examine(_inventories(arguments, host), arguments.names, host)
    if arguments.json:
        document(findings=examination.records(findings))
    else:
        tell(examination.text(findings))
    return max((show.SEVERITY.get(one.level, 0) for one in findings), default=0)


# Acting.


def recover(arguments: argparse.Namespace, report: Report, plans: Sequence[Plan] | None) -> int:
    """``envstart recover``: take mounts away that do not answer or are broken, and, with --remount, start again."""
    host = _look(report)
    status = os.EX_OK
    if plans is None:
        inventories = _inventories(arguments, host)
        status = _warn(report, inventories)
        environments = [one for found in inventories for one in check.watched(found, arguments.names)]
    else:
        environments = [check.Watched.given(one) for one in plans]
        for one in environments:
            one.found.running = host.wait(guests.runs(host, one.found.name))
    words = (NO_ANSWER, BROKEN, *((NOT_MOUNTED, NOT_READY) if arguments.remount and arguments.names else ()))
    seen = check.running(host, environments, "read")
    broken = check.by_environment([one for one in seen if one.state.word in words])
    status = max(status, _without_plan(report, seen))
    return max([status, *(_recover(arguments, report, one, mine) for one, mine in broken.items())])


def _without_plan(report: Report, seen: Sequence[Seen]) -> int:
    """Tell for which environments nothing can be done; EX_CONFIG if there are any."""
    environments = [one.watched for one in seen if one.state.word == check.CONFIGURATION and one.watched is not None]
    for one in environments:
        report.warn(f"{one.found.name}: {one.error}")
    return os.EX_CONFIG if environments else os.EX_OK


def _recover(arguments: argparse.Namespace, report: Report, one: Watched, broken: list[Seen]) -> int:
    plan = one.plan
    assert plan is not None
    report.about(plan.environment.name, plan.config["LOG_FACILITY"])
    host = Host(report)
    host.deadline.set(max(plan.config["TIMEOUT"], _RECOVERY))
    order = [step for group in reversed(waves(plan.steps)) for step in group]
    states = {seen.step: seen.state for seen in broken if seen.state.word in (NO_ANSWER, BROKEN)}
    steps = [step for step in order if isinstance(step, Mount) and step in states]
    try:
        # All are asked before one is touched.
        host.together([step.before_take_away(host) for step in steps])
    except Error as error:
        report.fail(error)
        return error.status
    for step in steps:
        dead = states[step].word == NO_ANSWER
        argv = (
            commands.unmount_dead(host.platform, step.fstype, step.point)
            if dead
            else commands.unmount(host.platform, step.fstype, step.point)
        )
        write(1, f"# {plan.environment.name}: {step.name}: {states[step]}\n{paste(argv)}\n")
    if arguments.remount:
        own, workdir = plan.environment, one.found.workdir
        place = ("-w", workdir) if workdir else ("-d", own.data, "-s", own.system)
        write(1, paste(("envstart", "start", plan.backend, *place, "-j", own.name)) + "\n")
    if arguments.dry_run:
        return os.EX_OK
    try:
        users = "it runs" if one.found.running else host.wait(_users(host, plan, steps))
        if users and not arguments.running:
            raise Temporary(
                f"cannot recover {plan.environment.name}: {users}, and would write to this host's own disk below the "
                "mount point from then on; stop it first, or give --running"
            )
        hook.only_root("recover", plan.environment.name, host)
        executor.take_away(plan, host, steps)
        if arguments.remount:
            hook.act("start", plan, Host(report))
    except Error as error:
        report.fail(error)
        return error.status
    return os.EX_OK


async def _users(host: Host, plan: Plan, steps: Sequence[Mount]) -> str:
    """Return who uses one of the mounts, "" if nobody does."""
    for step in steps:
        users = await occupancy.users(host, plan.environment, await host.real(step.point))
        if users:
            return users
    return ""


def orphans(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart orphans``: what stopped or removed environments have left mounted; with --stop it is taken away."""
    host = _look(report)
    host.deadline.set(arguments.timeout)
    # Servers that gave no answer to a stop: the next one would wait for them as long.
    silent: set[str] = set()
    left: list[str] = []
    inventories = _inventories(arguments, host)
    status = _warn(report, inventories)
    for found in inventories:
        every = check.orphans(host, found, arguments.names, arguments.grace)
        status = max(status, _without_plan(report, every))
        seen = [row for row in every if row.state.word == check.ORPHAN]
        left += [row.state.found for row in seen if not arguments.stop or row.watched is None]
        if arguments.stop:
            for one in dict.fromkeys(row.watched for row in seen if row.watched is not None):
                status = max(status, _stop(report, one, arguments.grace, host.deadline.left(), silent))
    tell("".join(f"{line}\n" for line in left))
    return status


def _stop(report: Report, one: Watched, grace: float, left: float, silent: set[str]) -> int:
    plan = one.plan
    assert plan is not None
    report.about(plan.environment.name, plan.config["LOG_FACILITY"])
    host = Host(report)
    servers: dict[str, str] = {}

    def unless() -> str:
        if started.within(plan.locks[0], grace):
            return "it was started a moment ago"
        now = host.wait(inventory.read(host, one.found.workdir)).get(one.found.name)
        if now is not None and now.running:
            return "it runs"
        at_work = processes.working(("/sudoexec/",), one.found.name)
        if at_work:
            return f"CBSD is at work on it (pid {at_work})"
        table = host.wait(host.mounts())
        servers.update({step.point: table.server(step.point) for step in plan.steps if table.at(step.point)})
        dead = sorted(silent.intersection(servers.values()))
        return f"{dead[0]} gave no answer a moment ago" if dead and not plan.config["STOP_FORCE"] else ""

    try:
        hook.act("stop", plan, host, unless, left)
        report.note("was left mounted; stopped")
    except Error as error:
        silent.update(server for point, server in servers.items() if point in host.silent)
        report.fail(error)
        return error.status
    return os.EX_OK


def links(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart install`` and ``uninstall``."""
    host = _look(report)
    act: Callable[[Host, str], list[str]] = install.put if arguments.verb == "install" else install.take
    hook.only_root(arguments.verb, "for " + " ".join(arguments.names), host)
    inventories = _inventories(arguments, host)
    status = _warn(report, inventories)
    for found in inventories:
        targets = [f"{found.workdir}/jails-system/{one.name}" for one in install.chosen(found, arguments.names)]
        if "*" in arguments.names:
            targets += install.skeletons(found.workdir)
        for target in targets:
            try:
                _refuse_bare(host, found, target, arguments.verb)
                for link in act(host, target):
                    write(1, f"{link}\n")
            except Error as error:
                report.fail(error)
                status = max(status, error.status)
    return status


def _refuse_bare(host: Host, found: Inventory, system: str, verb: str) -> None:
    """A link in a bare mount point would be hidden by the next start."""
    one = found.get(os.path.basename(system)) if os.path.dirname(system).endswith("/jails-system") else None
    if one is None:
        return
    watched = check.Watched(one)
    if watched.plan is None:
        if verb == "uninstall":
            # A link that is there can be taken away, whatever the configuration has become.
            return
        raise Misconfigured(f"cannot use {system}: whether it must be mounted cannot be told: {watched.error}")
    wanted = any(step.point == system for step in watched.plan.steps)
    if wanted and not host.wait(host.stack(system)):
        raise Temporary(f"cannot use {system}: it is not mounted; start the environment first")
