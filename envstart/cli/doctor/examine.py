"""Examine a host for everything that will go wrong later, and change nothing.

A check is one short function, and all of them run side by side under one short deadline; what can hang runs in a child.
Where a check would have to touch a mount whose server does not answer, that is what it says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from envstart import lifecycle
from envstart.cbsd import survey
from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.cli.doctor import finding, hooks, machine, places, servers
from envstart.cli.doctor.finding import CRITICAL, HOST, NOTE, WARNING, Context, Finding, Subject
from envstart.config import remedies
from envstart.errors import EnvstartError
from envstart.mounts.table import Table
from envstart.system.host import Host

# Seconds for all of it.
_TIMEOUT = 14.0
_ORDER = (CRITICAL, WARNING, NOTE)


def examine(inventories: Sequence[Inventory], names: Sequence[str], host: Host) -> list[Finding]:
    """Return all findings, worst first; with ``names`` only of these, and of what they need from the host."""
    records = [each for item in inventories for each in (item.chosen(names) if names else item.environments)]
    host.deadline.set(host.deadline.elapsed() + _TIMEOUT)
    findings = [
        Finding(CRITICAL, HOST, str(problem), f"look at {inventory.workdir}; envstart knows less until it can be read")
        for inventory in inventories
        for problem in inventory.problems
    ]
    # One that gave the inventory nothing but a problem has been waited for long enough.
    asked = [inventory for inventory in inventories if inventory.environments or not inventory.problems]
    looks = host.gather([places.workdir(host, inventory.workdir) for inventory in asked])
    alive = {inventory.workdir: look for inventory, look in zip(asked, looks) if look is not None}
    for inventory in asked:
        if inventory.workdir not in alive:
            text = f"{inventory.workdir} does not answer: nothing below it is looked at"
            findings.append(Finding(CRITICAL, HOST, text, finding.see_check([inventory.workdir])))
    subjects: list[Subject] = []
    for record in records:
        if record.workdir in alive:
            findings += (*_of_row(record), *_of_configuration(record, subjects))
    try:
        mounts = host.complete(host.mounts())
    except EnvstartError as error:
        findings.append(finding.of_error(CRITICAL, HOST, error))
        mounts = Table(())
    findings += _unregistered(inventories, records, mounts)
    context = Context(inventories, subjects, mounts)
    for workdir, look in alive.items():
        findings += places.of_workdir(workdir, look, context)
    parts = (machine, hooks, places, servers)
    checks = [finding.guarded(context, what, check) for part in parts for what, check in part.checks(host, context)]
    for answer in host.gather(checks):
        findings += answer
    return sorted(findings, key=lambda each: (_ORDER.index(each.level), each.about != HOST, each.about))


def _of_row(record: EnvironmentRecord) -> Iterator[Finding]:
    """Look at what CBSD's own record of a jail or VM says."""
    if record.problem:
        yield Finding(CRITICAL, record.name, record.problem, f"correct it: cbsd jset jname={record.name} ...")
    elif os.path.basename(record.hook).startswith("env_stop_"):
        text = f"mnt_start is {record.hook}: each start would unmount"
        remedy = remedies.set_hook(record.name, record.hook.rpartition("_")[2], is_jail=record.is_jail)
        yield Finding(CRITICAL, record.name, text, remedy)
    elif record.hook and not record.backend:
        text = f"mnt_start is {record.hook}, which is none of envstart's hooks: it is not looked at"
        yield Finding(NOTE, record.name, text, "nothing, if that is meant")


def _unregistered(
    inventories: Sequence[Inventory], records: Sequence[EnvironmentRecord], mounts: Table
) -> Iterator[Finding]:
    """Find what is mounted of jails and VMs that were unregistered: a removal deletes what is in it."""
    listed = {record.name: record for record in records if not record.registered}
    for inventory in inventories:
        for entry in mounts:
            record = listed.get(inventory.owner(entry.point) or "")
            if record is not None and record.workdir == inventory.workdir:
                yield Finding(CRITICAL, record.name, *survey.removal_danger(record, str(entry), entry.point))


def _of_configuration(record: EnvironmentRecord, subjects: list[Subject]) -> Iterator[Finding]:
    """Add a jail or VM with its plan to ``subjects``, and find what is wrong, or doubtful, with its configuration."""
    if not record.backend or record.environment is None:
        return
    try:
        plan = lifecycle.load(record.backend, record.environment)
    except EnvstartError as error:
        # Of several mistakes each has a line of its own, and the error repeats the first.
        yield from (Finding(CRITICAL, record.name, line, error.hint) for line in error.details or [error.message])
        return
    subjects.append(Subject(record, plan))
    remedy = f"correct {plan.config.path or 'the configuration'}, or leave it if it is meant"
    yield from (Finding(WARNING, record.name, warning, remedy) for warning in plan.warnings)
