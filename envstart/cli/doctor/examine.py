"""Examine a host for everything that will go wrong later, and change nothing.

A check is one short function, and all of them run side by side under one short deadline; what can hang runs in a child.
Where a check would have to touch a mount whose server does not answer, that is what it says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from envstart import lifecycle
from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.cbsd.survey import removal_danger
from envstart.cli.doctor import hooks, machine, places, servers, sources
from envstart.cli.doctor.finding import CRITICAL, HOST, NOTE, WARNING, Context, Finding, Subject, of_error, see_check
from envstart.config import remedies
from envstart.errors import EnvstartError
from envstart.mounts.table import Table
from envstart.system.host import Host

# Seconds for all of it.
_TIMEOUT = 14.0
_ORDER = (CRITICAL, WARNING, NOTE)


def examine(inventories: Sequence[Inventory], names: Sequence[str], host: Host) -> list[Finding]:
    """Return all findings, worst first; with ``names`` only of these, and of what they need from the host."""
    records = [
        record for inventory in inventories for record in (inventory.chosen(names) if names else inventory.environments)
    ]
    host.deadline.set(host.deadline.elapsed() + _TIMEOUT)
    findings = [
        Finding(CRITICAL, HOST, problem, f"look at {inventory.workdir}; envstart knows less until it can be read")
        for inventory in inventories
        for problem in inventory.problems
    ]
    # One that gave the inventory nothing but a problem has been waited for long enough.
    asked = [inventory for inventory in inventories if inventory.environments or not inventory.problems]
    looks = dict(zip(asked, host.gather([places.workdir(host, inventory.workdir) for inventory in asked])))
    alive = {inventory.workdir: look for inventory, look in looks.items() if look is not None}
    for inventory in asked:
        if inventory.workdir not in alive:
            text = f"{inventory.workdir} does not answer: nothing below it is looked at"
            findings.append(Finding(CRITICAL, HOST, text, see_check([inventory.workdir])))
    subjects = []
    for record in records:
        if record.workdir not in alive:
            continue
        findings += _of_row(record)
        subject, mistakes = _subject(record)
        findings += mistakes
        subjects += [subject] if subject else []
    try:
        mounts = host.complete(host.mounts())
    except EnvstartError as error:
        findings.append(of_error(CRITICAL, HOST, error))
        mounts = Table(())
    findings += _unregistered(inventories, records, mounts)
    context = Context(inventories, subjects, mounts)
    for workdir, look in alive.items():
        findings += places.of_workdir(workdir, look, context)
    parts = (machine, hooks, places, servers, sources)
    checks = [check for part in parts for check in part.checks(host, context)]
    for answer in host.gather(checks):
        findings += answer
    return sorted(findings, key=lambda each: (_ORDER.index(each.level), each.about != HOST, each.about))


def _of_row(record: EnvironmentRecord) -> list[Finding]:
    """Look at what CBSD's own record of a jail or VM says."""
    if record.problem:
        return [Finding(CRITICAL, record.name, record.problem, f"correct it: cbsd jset jname={record.name} ...")]
    if os.path.basename(record.hook).startswith("env_stop_"):
        text = f"mnt_start is {record.hook}: each start would unmount"
        remedy = remedies.set_hook(record.name, record.hook.rpartition("_")[2], is_jail=record.is_jail)
        return [Finding(CRITICAL, record.name, text, remedy)]
    if record.hook and not record.backend:
        text = f"mnt_start is {record.hook}, which is none of envstart's hooks: it is not looked at"
        return [Finding(NOTE, record.name, text, "nothing, if that is meant")]
    return []


def _unregistered(
    inventories: Sequence[Inventory], records: Sequence[EnvironmentRecord], mounts: Table
) -> list[Finding]:
    """Find what is mounted of jails and VMs that were unregistered: a removal deletes what is in it."""
    listed = {record.name: record for record in records if not record.registered}
    findings = []
    for inventory in inventories:
        for entry in mounts:
            record = listed.get(inventory.owner(entry.point) or "")
            if record is not None and record.workdir == inventory.workdir:
                danger = removal_danger(record.name, record.workdir, str(entry), entry.point, is_jail=record.is_jail)
                findings.append(Finding(CRITICAL, record.name, *danger))
    return findings


def _subject(record: EnvironmentRecord) -> tuple[Subject | None, list[Finding]]:
    """Plan for a jail or VM, and find what is wrong, or doubtful, with its configuration."""
    if not record.backend or record.environment is None:
        return None, []
    try:
        plan = lifecycle.load(record.backend, record.environment)
    except EnvstartError as error:
        whole = of_error(CRITICAL, record.name, error)
        # Of several mistakes each has a line of its own, and the error repeats the first.
        return None, [Finding(CRITICAL, record.name, line, whole.remedy) for line in error.details] or [whole]
    remedy = f"correct {plan.config.path or 'the configuration'}, or leave it if it is meant"
    return Subject(record, plan), [Finding(WARNING, record.name, warning, remedy) for warning in plan.warnings]
