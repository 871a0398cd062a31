"""Tell whether each jail and VM that runs is well, and what is left of those that do not, or that CBSD does not know.

One reading of the mount table and of each database; what lies on a server is asked by one child for each server.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence

from envstart.cbsd import monitored
from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.cbsd.monitored import Monitored, Row
from envstart.config import remedies
from envstart.engine import plan, record, registry
from envstart.engine.plan import Observation
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError
from envstart.lifecycle import stopping
from envstart.mounts.table import Entry
from envstart.steps import observe
from envstart.steps.mount import Mount
from envstart.system import filesystem, process_table
from envstart.system.host import Host

# Seconds that listing the mount points of all of them may take, and that a system directory may take to answer.
_LISTING_TIMEOUT = 10.0
_SYSTEM_TIMEOUT = 3.0


def running(host: Host, environments: Sequence[Monitored], level: str) -> list[Row]:
    """Return all steps of jails and VMs that run (or are said to), looked at as closely as ``level`` says."""
    steps = [(each, step) for each in environments if each.plan for step in each.plan.steps]
    states = observe.states(host, [step for _, step in steps], level, [each.record.workdir for each, _ in steps])
    wrong = [(each, Observation(monitored.CONFIGURATION, each.error)) for each in environments if not each.plan]
    rows = [Row(each, None, state) for each, state in wrong]
    return rows + [Row(each, step, state) for (each, step), state in zip(steps, states)]


def everything(host: Host, inventory: Inventory, names: Sequence[str], level: str) -> list[Row]:
    """Return what there is of the jails and VMs of a workdir, or of those that are named."""
    try:
        host.complete(host.mounts())
    except EnvstartError as error:
        return [Row(None, None, Observation(plan.UNKNOWN, str(error)))]
    environments = [each for each in monitored.chosen(inventory, names) if each.record.running or not each.changing]
    begun = [each for each in environments if each.record.running or each.starting()]
    rows = [row for row in running(host, begun, level) if row.level != "ok" or row.running]
    # What is not registered and runs nonetheless is not safe from a removal either.
    idle = [each for each in environments if not each.changing and not (each.record.running and each.record.registered)]
    left = of_idle(host, idle)
    # Asked anew: it can have been started since the inventory was read.
    starting = {each for each in idle if each.starting()}
    rows += [row for row in left if _counts_at_once(row) or row.monitored not in starting]
    if not names or not inventory.complete:
        rows += [Row(None, None, Observation(monitored.INVENTORY, str(problem))) for problem in inventory.problems]
    return rows if names else rows + of_unknown(host, inventory)


def _counts_at_once(row: Row) -> bool:
    """Tell whether it is a problem also of what was started a moment ago, and may be about to run.

    A stub database keeps its VM from being started, and a removal of what is not registered deletes it, unless CBSD is
    just making it.
    """
    status = row.state.status
    return status == monitored.STUB or (status == monitored.UNREGISTERED and not process_table.creating())


def orphans(host: Host, inventory: Inventory, names: Sequence[str], grace: float) -> list[Row]:
    """Return mounts of what does not run, was not started within ``grace`` seconds, and is not being changed.

    If none is named, also of what CBSD does not know any more. Without CBSD's database nobody can tell that a
    registered one does not run.
    """
    idle = [
        each
        for each in monitored.chosen(inventory, names, stopping.planner(host))
        if (inventory.complete or not each.record.registered)
        and not (each.record.running or each.changing or each.starting(grace))
    ]
    return of_idle(host, idle, hidden=False) + ([] if names else of_unknown(host, inventory, grace))


def of_idle(host: Host, environments: Sequence[Monitored], *, hidden: bool = True) -> list[Row]:
    """Return the mounts of what does not run, those without a plan that have any, and files ``hidden`` by a start."""
    steps = [
        (each, step)
        for each in environments
        for step in (each.plan.steps if each.plan else ())
        if isinstance(step, Mount) and not step.shared
    ]
    unplanned = {
        each: each.record.environment.directories for each in environments if not each.plan and each.record.environment
    }
    paths = [path for each, step in steps for path in (each.record.workdir, *step.touched_paths) if path]
    observe.resolve(host, [*paths, *(path for directories in unplanned.values() for path in directories)])
    rows = []
    for each, directories in unplanned.items():
        stacks = host.gather([_stack(host, path) for path in directories])
        if entries := [stack[-1] for stack in stacks if stack]:
            rows.append(Row(each, None, Observation(monitored.CONFIGURATION, each.error)))
            if not each.record.registered:
                dangers = [(entry.point, _unregistered(each.record, str(entry), entry.point)) for entry in entries]
                rows += [Row(each, None, danger, point) for point, danger in dangers]
    bare = []
    for (each, step), stack in zip(steps, host.gather([_stack(host, step.point) for _, step in steps])):
        if stack and not each.record.registered:
            rows.append(Row(each, step, _unregistered(each.record, str(stack[-1]), step.point)))
        elif stack:
            stop = remedies.known("orphans", [each.record.name], [each.record.workdir], "--stop")
            text = f"{stack[-1]} is mounted on {step.point}, and {each.record.name} is not running: {stop}"
            rows.append(Row(each, step, Observation(monitored.ORPHAN, text)))
        elif stack is not None:
            bare.append((each, step))
    return rows + (_hidden(host, bare) if hidden else [])


async def _stack(host: Host, point: str) -> list[Entry] | None:
    """Return what is mounted there; None if what it lies on gives no answer."""
    try:
        return await host.stack(point)
    except (NoResponseError, DeadlineExceededError):
        return None


def _unregistered(owner: EnvironmentRecord, what: str, point: str) -> Observation:
    return Observation(monitored.UNREGISTERED, "; ".join(removal_danger(owner, what, point)))


def removal_danger(owner: EnvironmentRecord, what: str, point: str) -> tuple[str, str]:
    """Return what CBSD would do to what is mounted and not registered, and the remedy.

    jdestroy takes one without a row in the database for what junregister has left, skips remove.d, and deletes what is
    in the directories, mounted or not (sudoexec/jdestroy of CBSD 14.1.3a).
    """
    name, letter = owner.name, "j" if owner.is_jail else "b"
    text = f"{what} is mounted on {point}, and CBSD has no row of {name}"
    stop = remedies.known("orphans", [name], [owner.workdir], "--stop")
    return (
        f"{text}: cbsd {letter}remove {name} would delete what is in it",
        f"unmount it first: {stop}; or register it: cbsd {letter}register jname={name}",
    )


def _hidden(host: Host, bare: Sequence[tuple[Monitored, Mount]]) -> list[Row]:
    """Return the mount points without a mount that have files: the next start will hide these (docs/faults.md, 33)."""
    points = [step.point for _, step in bare]
    try:
        inside = host.complete(host.call_with_timeout(filesystem.bare, points, timeout=_LISTING_TIMEOUT))
    except (NoResponseError, DeadlineExceededError):
        return []
    rows = []
    for (each, step), (names, stub) in zip(bare, inside):
        if stub and not each.record.is_jail:
            # docs/cbsd.md#stubs: bstart reads it before the hook, and ends.
            text = f"{step.point}/local.sqlite has no table: bstart will refuse it; move it away"
            rows.append(Row(each, step, Observation(monitored.STUB, text)))
        elif names:
            text = f"{', '.join(names)} in {step.point}: a start hides that; move it away"
            rows.append(Row(each, step, Observation(monitored.HIDDEN, text)))
    return rows


def of_unknown(host: Host, inventory: Inventory, grace: float = monitored.GRACE) -> list[Row]:
    """Return the mounts of jails and VMs that CBSD does not know any more (docs/faults.md, 113).

    Within ``grace`` seconds of a start CBSD may not know it yet (docs/cbsd.md#calls).
    """
    if not inventory.complete:
        return []
    known = {listed.name for listed in inventory.environments}
    mounts: dict[str, dict[str, str]] = {}
    for entry in host.complete(host.mounts()):
        name = inventory.owner(entry.point)
        if name is not None and name not in known:
            mounts.setdefault(name, {})[entry.point] = str(entry)
    recorded = _recorded(host, inventory, known)
    rows = []
    for name in dict.fromkeys((*recorded, *mounts)):
        rows += _of_unknown(host, inventory.workdir, name, mounts.get(name, {}), recorded.get(name), grace)
    return rows


def _recorded(host: Host, inventory: Inventory, known: set[str]) -> dict[str, Monitored]:
    """Return what the starts have recorded of jails and VMs that CBSD does not know, by name."""
    recorded = {}
    for each in record.in_workdir(inventory.workdir, host.report, besides=known):
        name = each.environment.name
        if name in known:
            continue
        try:
            recorded[name] = Monitored(EnvironmentRecord.removed(inventory.workdir, name, each.backend), each.plan())
        except EnvstartError as error:
            host.report.warn(f"{error}; going on without it")
    return recorded


def _of_unknown(
    host: Host, workdir: str, name: str, mounts: dict[str, str], recorded: Monitored | None, grace: float
) -> list[Row]:
    """Return the ``mounts`` with the step that made them.

    Which hook that was the record of the start tells; without one it is a hook whose configuration, for that name,
    says just this mount.
    """
    candidates = [] if recorded is None else [recorded]
    candidates += [Monitored.of_record(EnvironmentRecord.removed(workdir, name, backend)) for backend in registry.NAMES]
    # Whichever hook it was: the mark is the jail's or VM's.
    if candidates[0].starting(grace):
        return []
    rows = []
    for candidate in candidates:
        if candidate.plan is None or not candidate.plan.config.path:
            continue
        states = host.gather([step.observe(host) for step in candidate.plan.steps])
        for step, state in zip(candidate.plan.steps, states):
            if state.status not in (plan.MOUNTED, plan.DEGRADED) or not step.point:
                continue
            point = host.complete(host.real(step.point))
            if point in mounts or candidate is recorded:
                what = mounts.pop(point, step.source)
                rows.append(Row(candidate, step, _lost(host, candidate.record, what, point)))
    for point, what in mounts.items():
        unmount = shlex.join(("umount", point))
        text = f"{what} is mounted on {point}, CBSD knows no {name}, and no configuration says so: {unmount}"
        rows.append(Row(None, None, Observation(monitored.ORPHAN, text), point))
    return rows


def _lost(host: Host, owner: EnvironmentRecord, what: str, point: str) -> Observation:
    # By this file jdestroy takes a jail that CBSD does not list for an unregistered one.
    path = f"{owner.workdir}/jails-system/{owner.name}/rc.conf_{owner.name}"
    with contextlib.suppress(EnvstartError, OSError):
        if host.complete(host.call_with_timeout(filesystem.is_file, path, timeout=_SYSTEM_TIMEOUT)):
            return _unregistered(owner, what, point)
    # It is looked for only where no name is given.
    stop = remedies.known("orphans", [], [owner.workdir], "--stop")
    text = f"{what} is mounted on {point}, and CBSD knows no {owner.name} any more: {stop}"
    return Observation(monitored.ORPHAN, text)
