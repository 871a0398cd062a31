"""Is every environment that runs well, and is nothing left of those that do not? For cron, monitoring and people.

One reading of the mount table and of each database; what lies on a server is asked by one child for each server.
"""

from __future__ import annotations

import shlex

from envstart import backends, lifecycle
from envstart.cbsd import unregistered
from envstart.cbsd.inventory import Found
from envstart.cbsd.records import record as plain
from envstart.config import remedies
from envstart.engine import plan, record, start_marks
from envstart.engine.plan import State
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


class Watched:
    """One environment and its plan, or the ``error`` that it has none for."""

    __slots__ = ("found", "plan", "error")

    def __init__(self, found: Found, plan: Plan | None = None, planner: Planner = lifecycle.load) -> None:
        self.found = found
        self.plan = plan
        self.error = found.problem
        if not found.backend:
            self.error = self.error or f"not managed by envstart: mnt_start is {found.hook or 'not known'}"
        elif plan is None and found.environment is not None:
            try:
                self.plan = planner(found.backend, found.environment)
            except EnvstartError as error:
                self.error = str(error)

    @classmethod
    def given(cls, plan: Plan) -> Watched:
        """Of an environment that somebody has named by its directories."""
        return cls(Found.given(plan.environment, plan.backend), plan)

    def starting(self, grace: float) -> bool:
        """Whether it was started so few seconds ago that CBSD may still be about to run it."""
        wanted = self.found.environment
        return wanted is not None and start_marks.within(file_name(wanted), grace)

    def is_active(self, grace: float = GRACE) -> bool:
        """Tell whether it is running, may be about to run, or is being changed by CBSD."""
        return self.found.running or self.changing or self.starting(grace)

    @property
    def changing(self) -> bool:
        """Tell whether CBSD itself is at work on it: it stops a VM, or makes a jail (docs/cbsd.md#running)."""
        return self.found.status == 3


class Seen:
    """What there is of one step, or of a directory that belongs to none."""

    __slots__ = ("watched", "step", "state", "_point")

    def __init__(self, watched: Watched | None, step: Step | None, state: State, point: str = "") -> None:
        self.watched = watched
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
        if self.state.word in _AT_REST and self.watched is not None and not self.watched.found.running:
            return "ok"
        return _LEVELS.get(self.state.word, "critical")

    def record(self, workdir: str) -> Record:
        """Plain values: those of show.record(), and the workdir."""
        found = self.watched.found if self.watched else None
        name, backend = (found.name, found.backend) if found else ("", "")
        return {"workdir": workdir, **plain(name, backend, self.step, self.point, self.state, self.level)}


def by_environment(seen: Sequence[Seen]) -> dict[Watched, list[Seen]]:
    """What was seen, by whose it is."""
    found: dict[Watched, list[Seen]] = {}
    for one in seen:
        if one.watched is not None:
            found.setdefault(one.watched, []).append(one)
    return found


def watched(inventory: Inventory, names: Sequence[str] = (), planner: Planner = lifecycle.load) -> list[Watched]:
    """The environments of an inventory that are meant (see Inventory.chosen()); for what unmounts, ``planner`` is
    stopping.planner()."""
    return [Watched(found, planner=planner) for found in inventory.chosen(names)]


def running(host: Host, environments: Sequence[Watched], level: str) -> list[Seen]:
    """All steps of environments that run (or are said to), looked at as closely as ``level`` says."""
    seen = [_unplanned(one) for one in environments if one.plan is None]
    steps = [(one, step) for one in environments if one.plan is not None for step in one.plan.steps]
    states = observe.states(host, [step for _, step in steps], level, [one.found.workdir for one, _ in steps])
    return seen + [Seen(one, step, state) for (one, step), state in zip(steps, states)]


def _unplanned(one: Watched) -> Seen:
    return Seen(one, None, State(CONFIGURATION, one.error))


def _places(steps: Sequence[tuple[Watched, Step]]) -> list[str]:
    return [place for one, step in steps for place in (one.found.workdir, *step.places) if place]


# Environments that do not run.


def resting(host: Host, environments: Sequence[Watched], bare: bool = True) -> list[Seen]:
    """What is left of environments that do not run: their mounts, and (``bare``) files in their bare mount points; and
    those that have something mounted, of which that cannot be told."""
    steps = [
        (one, step)
        for one in environments
        for step in (one.plan.steps if one.plan is not None else ())
        if isinstance(step, Mount) and not step.shared
    ]
    unplanned = {
        one: one.found.environment.directories for one in environments if not one.plan and one.found.environment
    }
    observe.resolve(host, [*_places(steps), *(place for places in unplanned.values() for place in places)])
    seen = []
    for one, places in unplanned.items():
        stacks = host.together([_stack(host, place) for place in places])
        if mounted := [stack[-1] for stack in stacks if stack]:
            seen.append(_unplanned(one))
            if not one.found.registered:
                seen += [Seen(one, None, _unregistered(one, entry, entry.point), entry.point) for entry in mounted]
    without: list[Seen] = []
    for (one, step), stack in zip(steps, host.together([_stack(host, step.point) for _, step in steps])):
        if stack and not one.found.registered:
            seen.append(Seen(one, step, _unregistered(one, stack[-1], step.point)))
        elif stack:
            stop = remedies.known("orphans", [one.found.name], [one.found.workdir], "--stop")
            text = f"{stack[-1]} is mounted on {step.point}, and {one.found.name} is not running: {stop}"
            seen.append(Seen(one, step, State(ORPHAN, text)))
        elif stack is not None:
            without.append(Seen(one, step, State(plan.NOT_MOUNTED)))
    return seen + (_hidden(host, without) if bare else [])


def _unregistered(one: Watched, entry: Entry, point: str) -> State:
    danger = unregistered.danger(one.found.name, one.found.workdir, str(entry), point, is_jail=one.found.is_jail)
    return State(unregistered.STATE, "; ".join(danger))


async def _stack(host: Host, point: str) -> list[Entry] | None:
    """What is mounted there; None if what it lies on gives no answer."""
    try:
        return await host.stack(point)
    except (NoResponseError, DeadlineExceededError):
        return None


def _hidden(host: Host, bare: list[Seen]) -> list[Seen]:
    """Of mount points without a mount, those that have files, which the next start will hide (docs/faults.md, 33)."""
    points = [one.point for one in bare]
    try:
        inside = host.wait(host.bounded(filesystem.bare, points, timeout=_PATIENCE))
    except (NoResponseError, DeadlineExceededError):
        return []
    found = []
    for one, (names, stub) in zip(bare, inside):
        assert one.watched is not None
        if stub and not one.watched.found.is_jail:
            # docs/cbsd.md#stubs: bstart reads it before the hook, and ends.
            text = f"{one.point}/local.sqlite has no table: bstart will refuse it; move it away"
            one.state = State(STUB, text)
        elif names:
            one.state = State(HIDDEN, f"{', '.join(names)} in {one.point}: a start hides that; move it away")
        else:
            continue
        found.append(one)
    return found


def lost(host: Host, inventory: Inventory, grace: float = GRACE) -> list[Seen]:
    """Return the mounts of jails and VMs that CBSD does not know any more (docs/faults.md, 113), or, within ``grace``
    seconds of their start, not yet (docs/cbsd.md#calls). Which hook made them the record of the start tells; without
    one it is a hook whose configuration, for that name, says just this mount."""
    if not inventory.complete:
        return []
    known = {found.name for found in inventory.found}
    left: dict[str, dict[str, str]] = {}
    for entry in host.wait(host.mounts()):
        name = inventory.owner(entry.point)
        if name is not None and name not in known:
            left.setdefault(name, {})[entry.point] = str(entry)
    recorded = _recorded(host, inventory, known)
    seen = []
    for name, mounts in {**{name: {} for name in recorded}, **left}.items():
        candidates = [Watched(Found.removed(inventory.workdir, name, backend)) for backend in backends.NAMES]
        candidates = recorded.get(name, []) + candidates
        # Whichever hook it was: the mark is the environment's.
        if candidates[0].starting(grace):
            continue
        for one in (one for one in candidates if one.plan is not None and one.plan.config.path):
            assert one.plan is not None
            states = host.together([step.state(host) for step in one.plan.steps])
            for step, state in zip(one.plan.steps, states):
                if state.word not in (plan.MOUNTED, plan.DEGRADED) or not step.point:
                    continue
                point = host.wait(host.real(step.point))
                if point in mounts or one in recorded.get(name, ()):
                    what = mounts.pop(point, step.source)
                    seen.append(Seen(one, step, _lost(host, inventory.workdir, name, what, point)))
        for point, what in mounts.items():
            unmount = shlex.join(("umount", point))
            text = f"{what} is mounted on {point}, CBSD knows no {name}, and no configuration says so: {unmount}"
            seen.append(Seen(None, None, State(ORPHAN, text), point))
    return seen


def _recorded(host: Host, inventory: Inventory, known: set[str]) -> dict[str, list[Watched]]:
    """Return what the starts have recorded of jails and VMs that CBSD does not know, by name."""
    found = {}
    for one in record.in_workdir(inventory.workdir, host.report, besides=known):
        name = one.environment.name
        if name in known:
            continue
        try:
            found[name] = [Watched(Found.removed(inventory.workdir, name, one.backend), one.plan())]
        except EnvstartError as error:
            host.report.warn(f"{error}; going on without it")
    return found


def _lost(host: Host, workdir: str, name: str, what: str, point: str) -> State:
    if unregistered.has_left_rc_conf(host, workdir, name):
        return State(unregistered.STATE, "; ".join(unregistered.danger(name, workdir, what, point)))
    # Found only where none is named.
    stop = remedies.known("orphans", [], [workdir], "--stop")
    return State(ORPHAN, f"{what} is mounted on {point}, and CBSD knows no {name} any more: {stop}")


def orphans(host: Host, inventory: Inventory, names: Sequence[str], grace: float) -> list[Seen]:
    """Mounts of environments that do not run, were not started within ``grace`` seconds, and are not being changed; of
    those that CBSD knows no more if none is named. Without CBSD's database nobody can tell that of those which are
    registered."""
    every = watched(inventory, names, stopping.planner(host))
    told = [one for one in every if inventory.complete or not one.found.registered]
    still = [one for one in told if not one.found.running and not one.starting(grace) and not one.changing]
    return resting(host, still, bare=False) + ([] if names else lost(host, inventory, grace))


def _counts_at_once(row: Seen) -> bool:
    """Tell whether it is a problem also of what was started a moment ago, and may be about to run.

    A stub database keeps its VM from being started, and a removal of what is not registered deletes it, unless CBSD is
    just making it.
    """
    return row.state.word == STUB or (row.state.word == unregistered.STATE and not process_table.creating())


def records(host: Host, inventory: Inventory, names: Sequence[str], level: str) -> list[Record]:
    """Everything about the environments of a workdir, or about those that are named."""
    try:
        host.wait(host.mounts())
    except EnvstartError as error:
        seen = [Seen(None, None, State(plan.UNKNOWN, str(error)))]
    else:
        environments = watched(inventory, names)
        begun = [one for one in environments if one.found.running or (one.starting(GRACE) and not one.changing)]
        seen = [
            row
            for row in running(host, begun, level)
            if row.level != "ok" or (row.watched is not None and row.watched.found.running)
        ]
        # What is not registered and runs nonetheless is not safe from a removal either.
        left = resting(
            host,
            [one for one in environments if not one.changing and not (one.found.running and one.found.registered)],
        )
        seen += [row for row in left if _counts_at_once(row) or not (row.watched and row.watched.starting(GRACE))]
        if not names or not inventory.complete:
            seen += [Seen(None, None, State(INVENTORY, problem)) for problem in inventory.problems]
        if not names:
            seen += lost(host, inventory)
    return [one.record(inventory.workdir) for one in seen]
