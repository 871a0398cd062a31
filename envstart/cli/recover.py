"""``envstart recover``: unmount what hangs or is broken, or take a volume over from a host that has failed."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence

from envstart import lifecycle
from envstart.cbsd import monitored, survey
from envstart.cbsd.monitored import CONFIGURATION, Monitored, Row, by_environment
from envstart.cli import select, start
from envstart.cli.arguments import DRY_RUN, EITHER, Verbs, add_verb
from envstart.config import common, remedies
from envstart.engine import plan
from envstart.engine.plan import BROKEN, NO_ANSWER, NOT_MOUNTED, NOT_READY, Plan, stages
from envstart.errors import EnvstartError, NoResponseError, TemporaryError, UsageError
from envstart.lifecycle import stopping
from envstart.steps import recovery, unmount
from envstart.steps.mount import Mount
from envstart.system import guests
from envstart.system.host import Host
from envstart.system.log import Report, write

# Seconds that the recovery of a jail or VM may take: umount -N of a dead server takes about a minute (transcript
# nfs-dead-server), and there are three of them.
_TIMEOUT = 240.0


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    text = "unmount what hangs or is broken; or take a volume over from a host that has failed"
    parser = add_verb(verbs, "recover", text, run, [EITHER, DRY_RUN])
    parser.add_argument("--remount", action="store_true", help="then mount it again")
    text = "also for a jail or VM that is running; its processes get errors"
    parser.add_argument("--running", action="store_true", help=text)
    text = "take over what another host holds: its reservation, its mark, its role"
    parser.add_argument("--preempt", action="store_true", help=f"{text}; only if that host is known to be down")


def run(options: argparse.Namespace, report: Report) -> int:
    """Unmount what does not answer or is broken, and, with --remount, start again; with --preempt take over."""
    if not options.preempt:
        return _recover_all(options, report, select.given(options, report, "stop"))
    if not select.is_given(options):
        raise UsageError("cannot tell which volume to take over: give the backend, and -w and -j")
    options.verb = "start"
    return start.run(options, report, takeover=True)


def _recover_all(options: argparse.Namespace, report: Report, given: Sequence[Monitored] | None) -> int:
    host = select.machine(report)
    status, environments = os.EX_OK, given or []
    for each in environments:
        each.record.running = host.complete(guests.runs(host, each.record.name))
    if given is None:
        listings = select.inventories(options, host)
        status = select.warn_of_problems(report, listings)
        planner = stopping.planner(host)
        environments = [each for listing in listings for each in monitored.chosen(listing, options.names, planner)]
    words = (NO_ANSWER, BROKEN, *((NOT_MOUNTED, NOT_READY) if options.remount and options.names else ()))
    rows = survey.running(host, environments, "read")
    broken = by_environment([row for row in rows if row.state.status in words])
    status = max(status, select.warn_of_unplanned(report, rows))
    for line in _not_for_recover(host, environments, rows, words):
        write(1, f"# {line}\n")
    for watched, own in broken.items():
        try:
            _recover(options, report, watched, own)
        except EnvstartError as error:
            report.fail(error)
            status = max(status, error.status)
    return status


def _recover(options: argparse.Namespace, report: Report, watched: Monitored, broken: list[Row]) -> None:
    """Recover one jail or VM, or say how."""
    plan = watched.plan
    assert plan is not None
    report.about(plan.environment.name, plan.config[common.LOG_FACILITY])
    host = Host(report)
    host.deadline.set(max(plan.config[common.TIMEOUT], _TIMEOUT))
    order = [step for group in reversed(stages(plan.steps)) for step in group]
    states = {row.step: row.state for row in broken if row.state.status in (NO_ANSWER, BROKEN)}
    steps = [step for step in order if isinstance(step, Mount) and step in states]
    # All are asked before one is touched.
    lines = host.gather([recovery.lines(step, host) for step in steps])
    told: set[tuple[str, ...]] = set()
    for step, argvs in zip(steps, lines):
        write(1, f"# {plan.environment.name}: {step.name}: {states[step]}\n")
        # What lies on two of them is unmounted once.
        write(1, "".join(f"{shlex.join(argv)}\n" for argv in argvs if argv not in told))
        told.update(argvs)
    if options.remount:
        write(1, remedies.of_subject(plan.subject, "start") + "\n")
    if options.dry_run:
        return
    users = "it runs" if watched.record.running else host.complete(_users(host, plan, steps))
    if users and not options.running:
        harm = "would write to this host's own disk below the mount point from then on"
        by_force = remedies.of_subject(plan.subject, "recover", "--running")
        failure = f"cannot recover {plan.environment.name}: {users}, and {harm}"
        raise TemporaryError(failure, hint=f"stop it first, or: {by_force}")
    lifecycle.only_root("recover", plan.environment.name, host)
    recovery.recover_all(plan, host, steps)
    if options.remount:
        # As strictly as any start: what was taken away is not mounted by a record.
        lifecycle.act("start", lifecycle.load(plan.backend, plan.environment, options.config), Host(report))


async def _users(host: Host, plan: Plan, steps: Sequence[Mount]) -> str:
    """Return who uses one of the mounts, "" if nobody does."""
    for step in steps:
        try:
            point = await host.real(step.point)
        except NoResponseError:
            # It is hidden (MountState.hanging()).
            continue
        users = await unmount.users(host, plan.environment, point)
        if users:
            return users
    return ""


def _not_for_recover(
    host: Host, environments: Sequence[Monitored], rows: Sequence[Row], words: Sequence[str]
) -> list[str]:
    """Return a line for each problem that `check` reports and recover, which acts on the states ``words``, does not."""
    idle = [watched for watched in environments if not watched.active]
    orphans = [row for row in survey.of_idle(host, idle, hidden=False) if row.state.status not in words]
    acted_on = {row.step for row in rows if row.state.status in words}
    lines = [f"{_named(row)}{row.state}" for row in orphans if row.step not in acted_on and row.step is not None]
    for row in rows:
        if row.monitored in idle or row.state.status in words or row.state.status == CONFIGURATION:
            continue
        if remedy := _advice(row):
            lines.append(f"{_named(row)}{row.state}; recover does nothing about it: {remedy}")
    return lines


def _named(row: Row) -> str:
    name = row.monitored.record.name if row.monitored else ""
    return "".join(f"{word}: " for word in (name, row.step.name if row.step else "") if word)


def _advice(row: Row) -> str:
    """Return what helps against a state that recover does nothing about; "" if there is nothing to do."""
    if row.level == "ok" or row.monitored is None:
        return ""
    record, word, unmount = row.monitored.record, row.state.status, shlex.join(("umount", row.point))
    workdirs = [record.workdir] if record.workdir else []
    doctor = remedies.known("doctor", [record.name], workdirs)
    if word in (plan.NOT_MOUNTED, plan.NOT_READY):
        if workdirs:
            return remedies.known("recover", [record.name], workdirs, "--remount")
        return remedies.of_subject(row.monitored.plan.subject if row.monitored.plan else None, "recover", "--remount")
    return {
        plan.STACKED: f"umount what lies on it, as in: {unmount}",
        plan.WRONG_SOURCE: f"{unmount}, or correct the configuration",
        plan.NOT_USABLE: "correct that where the files are, or in the configuration",
        plan.NOT_WRITABLE: "correct that where the files are, or in the configuration",
        plan.LOST: f"look at the other host; see {doctor}",
        plan.DEGRADED: f"stop and start {record.name}; see {doctor}",
    }.get(word, "")
