"""Jails and VMs with their plans, and what there is of each step: what `check`, `status`, `recover` and others read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envstart import lifecycle
from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.engine import plan, start_marks
from envstart.engine.plan import Observation, Plan, Step
from envstart.environment import Environment, file_name
from envstart.errors import EnvstartError
from envstart.steps.mount import Mount

Planner = Callable[[str, Environment], Plan]
# Plain values, for JSON, tables and metrics.
Record = dict[str, Any]

# States of what is no step.
ORPHAN = "orphan"
HIDDEN = "hidden files"
STUB = "stub database"
UNREGISTERED = "mounted and not registered"
CONFIGURATION = "configuration"
INVENTORY = "inventory"
_LEVELS = {ORPHAN: "warning", HIDDEN: "warning", CONFIGURATION: "unknown", INVENTORY: "unknown", **plan.LEVELS}
# What nobody misses while a jail or VM does not run: its start will tell what is wrong with the configuration.
_AT_REST = (plan.NOT_MOUNTED, plan.NOT_READY)
# Seconds between the end of a hook and the moment in which CBSD says that the jail or VM runs: a minute was seen on a
# slow host (docs/cbsd.md#calls), and a VM's boot_delay can add to it.
GRACE = 600.0


@dataclass(eq=False)
class Monitored:
    """A jail or VM and its plan, or the ``error`` that it has none for."""

    record: EnvironmentRecord
    plan: Plan | None = None
    error: str = ""

    @classmethod
    def of_record(cls, record: EnvironmentRecord, planner: Planner = lifecycle.load) -> Monitored:
        """Plan for what CBSD knows; for what unmounts, ``planner`` is stopping.planner()."""
        error = record.problem
        if not record.backend:
            error = error or f"not managed by envstart: mnt_start is {record.hook or 'not known'}"
        elif record.environment is not None:
            try:
                return cls(record, planner(record.backend, record.environment))
            except EnvstartError as mistake:
                error = str(mistake)
        return cls(record, None, error)

    @classmethod
    def given(cls, plan: Plan) -> Monitored:
        """Take the plan of a jail or VM that somebody has named by its directories."""
        return cls(EnvironmentRecord.given(plan.environment, plan.backend), plan)

    @property
    def age(self) -> float:
        """Return the seconds since its last start here, as of now; infinite without a mark."""
        environment = self.record.environment
        age = start_marks.age(file_name(environment)) if environment is not None else None
        return float("inf") if age is None else age

    def starting(self, grace: float = GRACE) -> bool:
        """Tell whether it was started so few seconds ago that CBSD may still be about to run it."""
        return self.age < grace

    @property
    def changing(self) -> bool:
        """Tell whether CBSD itself is at work on it: it stops a VM, or makes a jail (docs/cbsd.md#running)."""
        return self.record.status == 3

    @property
    def active(self) -> bool:
        """Tell whether it is running, may be about to run, or is being changed by CBSD."""
        return self.record.running or self.changing or self.starting()


class Row(NamedTuple):
    """Observation of a step, or of a ``directory`` that belongs to none."""

    monitored: Monitored | None
    step: Step | None
    state: Observation
    directory: str = ""

    @property
    def point(self) -> str:
        """Return the directory, "" if it is none."""
        return self.step.point if self.step is not None else self.directory

    @property
    def shared(self) -> bool:
        """Tell whether other jails and VMs need it too."""
        return isinstance(self.step, Mount) and bool(self.step.shared)

    @property
    def running(self) -> bool:
        """Tell whether its jail or VM runs."""
        return self.monitored is not None and self.monitored.record.running

    @property
    def level(self) -> str:
        """Return ok, warning, critical or unknown."""
        if self.state.status in _AT_REST and self.monitored is not None and not self.running:
            return "ok"
        return _LEVELS.get(self.state.status, "critical")

    def record(self, workdir: str | None = None) -> Record:
        """Return the plain values, whose keys are stable."""
        owner, step = self.monitored.record if self.monitored else None, self.step
        return {
            **({} if workdir is None else {"workdir": workdir}),
            "environment": owner.name if owner else "",
            "backend": owner.backend if owner else "",
            "directory": step.name if step else "",
            "point": self.point,
            "source": step.source if step else "",
            "fstype": step.fstype if step else "",
            "state": self.state.status,
            "found": self.state.detail,
            "level": self.level,
        }


def chosen(inventory: Inventory, names: Sequence[str], planner: Planner = lifecycle.load) -> list[Monitored]:
    """Return the jails and VMs that are meant (see Inventory.chosen), with their plans."""
    return [Monitored.of_record(record, planner) for record in inventory.chosen(names)]


def by_environment(rows: Sequence[Row]) -> dict[Monitored, list[Row]]:
    """Return the observations of each jail or VM."""
    groups: dict[Monitored, list[Row]] = {}
    for row in rows:
        if row.monitored is not None:
            groups.setdefault(row.monitored, []).append(row)
    return groups
