"""Is every environment that runs well, and is nothing left of those that do not? For cron, monitoring and people.

One reading of the mount table and of each database; what lies on a server is asked by one child for each server.
"""

from __future__ import annotations

import shlex

from envstart import lifecycle
from envstart.cbsd import unregistered
from envstart.cbsd.inventory import EnvironmentRecord
from envstart.cbsd.records import record as plain
from envstart.config import remedies
from envstart.engine import plan, record, registry, start_marks
from envstart.engine.plan import Observation
from envstart.environment import file_name
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError
from envstart.lifecycle import stopping
from envstart.steps import observe
from envstart.steps.mount import Mount
from envstart.system import filesystem, process_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envstart.cbsd.inventory import Inventory
    from envstart.cbsd.records import Record
    from envstart.engine.plan import Plan, Step
    from envstart.environment import Environment
    from envstart.mounts.table import Entry
    from envstart.system.host import Host

    Planner = Callable[[str, Environment], Plan]

# States of what is no step.
ORPHAN = "orphan"
HIDDEN = "hidden files"
STUB = "stub database"
CONFIGURATION = "configuration"
INVENTORY = "inventory"
_LEVELS = {ORPHAN: "warning", HIDDEN: "warning", CONFIGURATION: "unknown", INVENTORY: "unknown", **plan.LEVELS}
# What nobody misses while a jail or VM does not run: its start will tell what is wrong with the configuration.
_AT_REST = (plan.NOT_MOUNTED, plan.NOT_READY)
# Seconds between the end of a hook and the moment in which CBSD says that the environment runs: a minute was seen on a
# slow host (docs/cbsd.md#calls), and a VM's boot_delay can add to it.
GRACE = 600.0
# Seconds that listing the mount points of all environments may take.
_PATIENCE = 10.0


class Monitored:
    """One environment and its plan, or the ``error`` that it has none for."""

    __slots__ = ("record", "plan", "error")

    def __init__(self, record: EnvironmentRecord, plan: Plan | None = None, planner: Planner = lifecycle.load) -> None:
        self.record = record
        self.plan = plan
        self.error = record.problem
        if not record.backend:
            self.error = self.error or f"not managed by envstart: mnt_start is {record.hook or 'not known'}"
        elif plan is None and record.environment is not None:
            try:
                self.plan = planner(record.backend, record.environment)
            except EnvstartError as error:
                self.error = str(error)

    @classmethod
    def given(cls, plan: Plan) -> Monitored:
        """Of an environment that somebody has named by its directories."""
        return cls(EnvironmentRecord.given(plan.environment, plan.backend), plan)

    def starting(self, grace: float) -> bool:
        """Whether it was started so few seconds ago that CBSD may still be about to run it."""
        wanted = self.record.environment
        return wanted is not None and start_marks.within(file_name(wanted), grace)

    def is_active(self, grace: float = GRACE) -> bool:
        """Tell whether it is running, may be about to run, or is being changed by CBSD."""
        return self.record.running or self.changing or self.starting(grace)

    @property
    def changing(self) -> bool:
        """Tell whether CBSD itself is at work on it: it stops a VM, or makes a jail (docs/cbsd.md#running)."""
        return self.record.status == 3


class Row:
    """What there is of one step, or of a directory that belongs to none."""

    __slots__ = ("monitored", "step", "state", "_point")

    def __init__(self, monitored: Monitored | None, step: Step | None, state: Observation, point: str = "") -> None:
        self.monitored = monitored
        self.step = step
        self.state = state
        self._point = point

    @property
    def point(self) -> str:
        """The directory, "" if it is none."""
        return self.step.point if self.step is not None else self._point

    @property
    def shared(self) -> bool:
        """Whether other environments need it too."""
        return isinstance(self.step, Mount) and bool(self.step.shared)

    @property
    def level(self) -> str:
        """ok, warning, critical or unknown."""
        if self.state.status in _AT_REST and self.monitored is not None and not self.monitored.record.running:
            return "ok"
        return _LEVELS.get(self.state.status, "critical")

    def record(self, workdir: str) -> Record:
        """Plain values: those of show.record(), and the workdir."""
        record = self.monitored.record if self.monitored else None
        name, backend = (record.name, record.backend) if record else ("", "")
        return {"workdir": workdir, **plain(name, backend, self.step, self.point, self.state, self.level)}


def by_environment(seen: Sequence[Row]) -> dict[Monitored, list[Row]]:
    """What was seen, by whose it is."""
    groups: dict[Monitored, list[Row]] = {}
    for one in seen:
        if one.monitored is not None:
            groups.setdefault(one.monitored, []).append(one)
    return groups


def monitored(inventory: Inventory, names: Sequence[str] = (), planner: Planner = lifecycle.load) -> list[Monitored]:
    """The environments of an inventory that are meant (see Inventory.chosen()); for what unmounts, ``planner`` is
    stopping.planner()."""
    return [Monitored(record, planner=planner) for record in inventory.chosen(names)]


def running(host: Host, environments: Sequence[Monitored], level: str) -> list[Row]:
    """All steps of environments that run (or are said to), looked at as closely as ``level`` says."""
    seen = [_unplanned(one) for one in environments if one.plan is None]
    steps = [(one, step) for one in environments if one.plan is not None for step in one.plan.steps]
    states = observe.states(host, [step for _, step in steps], level, [one.record.workdir for one, _ in steps])
    return seen + [Row(one, step, state) for (one, step), state in zip(steps, states)]


def _unplanned(one: Monitored) -> Row:
    return Row(one, None, Observation(CONFIGURATION, one.error))


def _places(steps: Sequence[tuple[Monitored, Step]]) -> list[str]:
    return [place for one, step in steps for place in (one.record.workdir, *step.touched_paths) if place]


# Environments that do not run.


def resting(host: Host, environments: Sequence[Monitored], bare: bool = True) -> list[Row]:
    """What is left of environments that do not run: their mounts, and (``bare``) files in their bare mount points; and
    those that have something mounted, of which that cannot be told."""
    steps = [
        (one, step)
        for one in environments
        for step in (one.plan.steps if one.plan is not None else ())
        if isinstance(step, Mount) and not step.shared
    ]
    unplanned = {
        one: one.record.environment.directories for one in environments if not one.plan and one.record.environment
    }
    observe.resolve(host, [*_places(steps), *(place for places in unplanned.values() for place in places)])
    seen = []
    for one, places in unplanned.items():
        stacks = host.gather([_stack(host, place) for place in places])
        if mounted := [stack[-1] for stack in stacks if stack]:
            seen.append(_unplanned(one))
            if not one.record.registered:
                seen += [Row(one, None, _unregistered(one, entry, entry.point), entry.point) for entry in mounted]
    without: list[Row] = []
    for (one, step), stack in zip(steps, host.gather([_stack(host, step.point) for _, step in steps])):
        if stack and not one.record.registered:
            seen.append(Row(one, step, _unregistered(one, stack[-1], step.point)))
        elif stack:
            stop = remedies.known("orphans", [one.record.name], [one.record.workdir], "--stop")
            text = f"{stack[-1]} is mounted on {step.point}, and {one.record.name} is not running: {stop}"
            seen.append(Row(one, step, Observation(ORPHAN, text)))
        elif stack is not None:
            without.append(Row(one, step, Observation(plan.NOT_MOUNTED)))
    return seen + (_hidden(host, without) if bare else [])


def _unregistered(one: Monitored, entry: Entry, point: str) -> Observation:
    danger = unregistered.danger(one.record.name, one.record.workdir, str(entry), point, is_jail=one.record.is_jail)
    return Observation(unregistered.STATE, "; ".join(danger))


async def _stack(host: Host, point: str) -> list[Entry] | None:
    """What is mounted there; None if what it lies on gives no answer."""
    try:
        return await host.stack(point)
    except (NoResponseError, DeadlineExceededError):
        return None


def _hidden(host: Host, bare: list[Row]) -> list[Row]:
    """Of mount points without a mount, those that have files, which the next start will hide (docs/faults.md, 33)."""
    points = [one.point for one in bare]
    try:
        inside = host.complete(host.call_with_timeout(filesystem.bare, points, timeout=_PATIENCE))
    except (NoResponseError, DeadlineExceededError):
        return []
    observations = []
    for one, (names, stub) in zip(bare, inside):
        assert one.monitored is not None
        if stub and not one.monitored.record.is_jail:
            # docs/cbsd.md#stubs: bstart reads it before the hook, and ends.
            text = f"{one.point}/local.sqlite has no table: bstart will refuse it; move it away"
            one.state = Observation(STUB, text)
        elif names:
            one.state = Observation(HIDDEN, f"{', '.join(names)} in {one.point}: a start hides that; move it away")
        else:
            continue
        observations.append(one)
    return observations


def lost(host: Host, inventory: Inventory, grace: float = GRACE) -> list[Row]:
    """Return the mounts of jails and VMs that CBSD does not know any more (docs/faults.md, 113), or, within ``grace``
    seconds of their start, not yet (docs/cbsd.md#calls). Which hook made them the record of the start tells; without
    one it is a hook whose configuration, for that name, says just this mount."""
    if not inventory.complete:
        return []
    known = {record.name for record in inventory.environments}
    left: dict[str, dict[str, str]] = {}
    for entry in host.complete(host.mounts()):
        name = inventory.owner(entry.point)
        if name is not None and name not in known:
            left.setdefault(name, {})[entry.point] = str(entry)
    recorded = _recorded(host, inventory, known)
    seen = []
    for name, mounts in {**{name: {} for name in recorded}, **left}.items():
        candidates = [
            Monitored(EnvironmentRecord.removed(inventory.workdir, name, backend)) for backend in registry.NAMES
        ]
        candidates = recorded.get(name, []) + candidates
        # Whichever hook it was: the mark is the environment's.
        if candidates[0].starting(grace):
            continue
        for one in (one for one in candidates if one.plan is not None and one.plan.config.path):
            assert one.plan is not None
            states = host.gather([step.observe(host) for step in one.plan.steps])
            for step, state in zip(one.plan.steps, states):
                if state.status not in (plan.MOUNTED, plan.DEGRADED) or not step.point:
                    continue
                point = host.complete(host.real(step.point))
                if point in mounts or one in recorded.get(name, ()):
                    what = mounts.pop(point, step.source)
                    seen.append(Row(one, step, _lost(host, inventory.workdir, name, what, point)))
        for point, what in mounts.items():
            unmount = shlex.join(("umount", point))
            text = f"{what} is mounted on {point}, CBSD knows no {name}, and no configuration says so: {unmount}"
            seen.append(Row(None, None, Observation(ORPHAN, text), point))
    return seen


def _recorded(host: Host, inventory: Inventory, known: set[str]) -> dict[str, list[Monitored]]:
    """Return what the starts have recorded of jails and VMs that CBSD does not know, by name."""
    recorded = {}
    for one in record.in_workdir(inventory.workdir, host.report, besides=known):
        name = one.environment.name
        if name in known:
            continue
        try:
            recorded[name] = [Monitored(EnvironmentRecord.removed(inventory.workdir, name, one.backend), one.plan())]
        except EnvstartError as error:
            host.report.warn(f"{error}; going on without it")
    return recorded


def _lost(host: Host, workdir: str, name: str, what: str, point: str) -> Observation:
    if unregistered.has_left_rc_conf(host, workdir, name):
        return Observation(unregistered.STATE, "; ".join(unregistered.danger(name, workdir, what, point)))
    # Found only where none is named.
    stop = remedies.known("orphans", [], [workdir], "--stop")
    return Observation(ORPHAN, f"{what} is mounted on {point}, and CBSD knows no {name} any more: {stop}")


def orphans(host: Host, inventory: Inventory, names: Sequence[str], grace: float) -> list[Row]:
    """Mounts of environments that do not run, were not started within ``grace`` seconds, and are not being changed; of
    those that CBSD knows no more if none is named. Without CBSD's database nobody can tell that of those which are
    registered."""
    every = monitored(inventory, names, stopping.planner(host))
    told = [one for one in every if inventory.complete or not one.record.registered]
    still = [one for one in told if not one.record.running and not one.starting(grace) and not one.changing]
    return resting(host, still, bare=False) + ([] if names else lost(host, inventory, grace))


def _counts_at_once(row: Row) -> bool:
    """Tell whether it is a problem also of what was started a moment ago, and may be about to run.

    A stub database keeps its VM from being started, and a removal of what is not registered deletes it, unless CBSD is
    just making it.
    """
    return row.state.status == STUB or (row.state.status == unregistered.STATE and not process_table.creating())


def records(host: Host, inventory: Inventory, names: Sequence[str], level: str) -> list[Record]:
    """Everything about the environments of a workdir, or about those that are named."""
    try:
        host.complete(host.mounts())
    except EnvstartError as error:
        seen = [Row(None, None, Observation(plan.UNKNOWN, str(error)))]
    else:
        environments = monitored(inventory, names)
        begun = [one for one in environments if one.record.running or (one.starting(GRACE) and not one.changing)]
        seen = [
            row
            for row in running(host, begun, level)
            if row.level != "ok" or (row.monitored is not None and row.monitored.record.running)
        ]
        # What is not registered and runs nonetheless is not safe from a removal either.
        left = resting(
            host,
            [one for one in environments if not one.changing and not (one.record.running and one.record.registered)],
        )
        seen += [row for row in left if _counts_at_once(row) or not (row.monitored and row.monitored.starting(GRACE))]
        if not names or not inventory.complete:
            seen += [Row(None, None, Observation(INVENTORY, problem)) for problem in inventory.problems]
        if not names:
            seen += lost(host, inventory)
    return [one.record(inventory.workdir) for one in seen]
