"""The verbs for all environments of a host: CBSD is asked which there are, and each is looked at, or acted on."""

from __future__ import annotations

import os

from envstart import backends, lifecycle
from envstart.cbsd import inventory, survey, unregistered
from envstart.cbsd import links as install
from envstart.cli import output, overview
from envstart.config import remedies
from envstart.engine import executor, start_marks
from envstart.engine.plan import BROKEN, NO_ANSWER, NOT_MOUNTED, NOT_READY, waves
from envstart.errors import ConfigError, EnvstartError, NoResponseError, TemporaryError, UsageError
from envstart.lifecycle import stopping
from envstart.steps import occupancy, recovery
from envstart.steps.mount import Mount
from envstart.system import guests, process_table
from envstart.system.host import Host
from envstart.system.log import paste, tell, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from envstart.cbsd.inventory import Inventory
    from envstart.cbsd.survey import Seen, Watched
    from envstart.engine.plan import Plan
    from envstart.system.log import Report

# Seconds that a look at everything may take.
_LOOK = 600.0
# Seconds that the recovery of one environment may take: umount -N of a dead server takes about a minute (transcript
# nfs-dead-server), and there are three of them.
_RECOVERY = 240.0


def inventories(arguments: argparse.Namespace, host: Host) -> list[Inventory]:
    """What CBSD knows in each workdir that is meant; UsageError if there is nothing that a name or a pattern fits."""
    found = [host.wait(inventory.read(host, path)) for path in inventory.workdirs(arguments.workdirs)]
    for name in arguments.names:
        # All can be none.
        if name != "*" and not any(one.chosen([name]) for one in found):
            problems = "; ".join(problem for one in found for problem in one.problems)
            places = ", ".join(one.workdir for one in found)
            hint = f"; give -j NAME with the backend {name}" if name in backends.NAMES else ""
            raise UsageError(f"cannot find jail or VM {name} in {places}{': ' + problems if problems else ''}{hint}")
    return found


def _warn(report: Report, found: Sequence[Inventory]) -> int:
    """Say what could not be read; EX_TEMPFAIL if CBSD can know of more environments than those that are acted on."""
    for one in found:
        for problem in one.problems:
            report.warn(problem)
    return os.EX_OK if all(one.complete for one in found) else os.EX_TEMPFAIL


def looking(report: Report) -> Host:
    """Return the machine, for a look at everything."""
    host = Host(report)
    host.deadline.set(_LOOK)
    # So that ^T is answered from the first.
    host.signals.arm()
    return host


# Looking.


def status(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart status``: every environment with its directories, those with a problem first."""
    host = looking(report)
    groups: list[output.Group] = []
    listings = inventories(arguments, host)
    for found in listings:
        seen = survey.by_environment(overview.rows(host, survey.watched(found, arguments.names)))
        # A system directory that has just given no answer is not asked for links.
        systems = {
            one: one.found.environment.system
            for one, rows in seen.items()
            if one.found.running and one.found.environment and all(row.state.word != NO_ANSWER for row in rows)
        }
        lacking = host.wait(install.lacking(host, list(systems.values())))
        for one, rows in seen.items():
            # What all share says nothing about one that does not run.
            records = [row.record(found.workdir) for row in rows if one.found.running or not row.shared]
            links = lacking.get(systems.get(one, ""), ())
            groups.append(output.Group(one.found, records, links, active=overview.active(one)))
        if not arguments.names:
            left = [row.record(found.workdir) for row in survey.lost(host, found)]
            if left:
                groups.append(output.Group(None, left))
    if arguments.json:
        _warn(report, listings)
        reason = {} if groups else {"reason": output.NOTHING}
        output.document(report, environments=[group.plain() for group in groups], **reason)
    else:
        tell(output.overview(groups) or f"{output.NOTHING}\n")
        _warn(report, listings)
    problems = any(found.problems for found in listings)
    return os.EX_OK if not problems and all(group.well for group in groups) else 1


def doctor(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart doctor``: what will go wrong later; the status is that of a check."""
    from envstart.cli import doctor as examination

    host = looking(report)
    findings = examination.examine(inventories(arguments, host), arguments.names, host)
    if arguments.json:
        output.document(report, findings=examination.records(findings))
    else:
        tell(examination.text(findings))
    return max((output.SEVERITY.get(one.level, 0) for one in findings), default=0)


# Acting.


def recover(arguments: argparse.Namespace, report: Report, plans: Sequence[Plan] | None) -> int:
    """``envstart recover``: take mounts away that do not answer or are broken, and, with --remount, start again."""
    host = looking(report)
    status = os.EX_OK
    if plans is None:
        listings = inventories(arguments, host)
        status = _warn(report, listings)
        planner = stopping.planner(host)
        environments = [one for found in listings for one in survey.watched(found, arguments.names, planner)]
    else:
        environments = [survey.Watched.given(one) for one in plans]
        for one in environments:
            one.found.running = host.wait(guests.runs(host, one.found.name))
    words = (NO_ANSWER, BROKEN, *((NOT_MOUNTED, NOT_READY) if arguments.remount and arguments.names else ()))
    seen = survey.running(host, environments, "read")
    broken = survey.by_environment([one for one in seen if one.state.word in words])
    status = max(status, _without_plan(report, seen))
    for line in overview.left_to_others(host, environments, seen, words):
        write(1, f"# {line}\n")
    return max([status, *(_recover(arguments, report, one, mine) for one, mine in broken.items())])


def _without_plan(report: Report, seen: Sequence[Seen]) -> int:
    """Tell for which environments nothing can be done; EX_CONFIG if there are any."""
    environments = [one.watched for one in seen if one.state.word == survey.CONFIGURATION and one.watched is not None]
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
        lines = host.together([recovery.lines(step, host) for step in steps])
    except EnvstartError as error:
        report.fail(error)
        return error.status
    told: set[tuple[str, ...]] = set()
    for step, argvs in zip(steps, lines):
        write(1, f"# {plan.environment.name}: {step.name}: {states[step]}\n")
        # What lies on two of them is unmounted once.
        write(1, "".join(f"{paste(argv)}\n" for argv in argvs if argv not in told))
        told.update(argvs)
    if arguments.remount:
        write(1, remedies.of_plan(plan, "start") + "\n")
    if arguments.dry_run:
        return os.EX_OK
    try:
        users = "it runs" if one.found.running else host.wait(_users(host, plan, steps))
        if users and not arguments.running:
            by_force = remedies.of_plan(plan, "recover", "--running")
            raise TemporaryError(
                f"cannot recover {plan.environment.name}: {users}, and would write to this host's own disk below the "
                "mount point from then on",
                hint=f"stop it first, or: {by_force}",
            )
        lifecycle.only_root("recover", plan.environment.name, host)
        executor.take_away(plan, host, steps)
        if arguments.remount:
            # As strictly as any start: what was taken away is not mounted by a record.
            lifecycle.act("start", lifecycle.load(plan.backend, plan.environment, arguments.config), Host(report))
    except EnvstartError as error:
        report.fail(error)
        return error.status
    return os.EX_OK


async def _users(host: Host, plan: Plan, steps: Sequence[Mount]) -> str:
    """Return who uses one of the mounts, "" if nobody does."""
    for step in steps:
        try:
            point = await host.real(step.point)
        except NoResponseError:
            # It is hidden (recovery.hidden()).
            continue
        users = await occupancy.users(host, plan.environment, point)
        if users:
            return users
    return ""


def orphans(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart orphans``: what stopped or removed environments have left mounted; with --stop it is taken away."""
    host = looking(report)
    host.deadline.set(arguments.timeout)
    # Servers that gave no answer to a stop: the next one would wait for them as long.
    silent: set[str] = set()
    left: list[str] = []
    listings = inventories(arguments, host)
    status = _warn(report, listings)
    for found in listings:
        every = survey.orphans(host, found, arguments.names, arguments.grace)
        status = max(status, _without_plan(report, every))
        seen = [row for row in every if row.state.word in (survey.ORPHAN, unregistered.STATE)]
        planned = [row.watched for row in seen if row.watched is not None and row.watched.plan is not None]
        left += [row.state.found for row in seen if not arguments.stop or row.watched not in planned]
        for line in () if arguments.stop else overview.recent(host, found, arguments.names, arguments.grace):
            report.note(line)
        if arguments.stop:
            for one in dict.fromkeys(planned):
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
        if start_marks.within(plan.locks[0], grace):
            return "it was started a moment ago"
        now = host.wait(inventory.read(host, one.found.workdir)).get(one.found.name)
        if now is not None and now.running:
            return "it runs"
        at_work = process_table.working(("/sudoexec/",), one.found.name)
        if at_work:
            return f"CBSD is at work on it (pid {at_work})"
        if maker := process_table.creating():
            return f"CBSD makes a jail or VM that pid {maker} does not name"
        table = host.wait(host.mounts())
        servers.update({step.point: table.server(step.point) for step in plan.steps if table.at(step.point)})
        dead = sorted(silent.intersection(servers.values()))
        return f"{dead[0]} gave no answer a moment ago" if dead and not plan.config["STOP_FORCE"] else ""

    try:
        lifecycle.act("stop", plan, host, unless, left)
        count = len(servers)
        report.note(f"not running: unmounted {count} director{'y' if count == 1 else 'ies'}")
    except EnvstartError as error:
        silent.update(server for point, server in servers.items() if point in host.silent)
        report.fail(error)
        return error.status
    return os.EX_OK


def links(arguments: argparse.Namespace, report: Report) -> int:
    """``envstart install`` and ``uninstall``."""
    host = looking(report)
    act: Callable[[Host, str], list[str]] = install.put if arguments.verb == "install" else install.take
    lifecycle.only_root(arguments.verb, "for " + " ".join(arguments.names), host)
    listings = inventories(arguments, host)
    status = _warn(report, listings)
    for found in listings:
        targets = [f"{found.workdir}/jails-system/{one.name}" for one in install.chosen(found, arguments.names)]
        if "*" in arguments.names:
            targets += install.skeletons(found.workdir)
        for target in targets:
            try:
                _refuse_bare(host, found, target, arguments.verb)
                for link in act(host, target):
                    write(1, f"{link}\n")
            except EnvstartError as error:
                report.fail(error)
                status = max(status, error.status)
    return status


def _refuse_bare(host: Host, found: Inventory, system: str, verb: str) -> None:
    """A link in a bare mount point would be hidden by the next start."""
    one = found.get(os.path.basename(system)) if os.path.dirname(system).endswith("/jails-system") else None
    if one is None:
        return
    watched = survey.Watched(one)
    if watched.plan is None:
        if verb == "uninstall":
            # A link that is there can be taken away, whatever the configuration has become.
            return
        raise ConfigError(f"cannot use {system}: whether it must be mounted cannot be told: {watched.error}")
    wanted = any(step.point == system for step in watched.plan.steps)
    if wanted and not host.wait(host.stack(system)):
        raise TemporaryError(f"cannot use {system}: it is not mounted", hint="start the jail or VM first")
