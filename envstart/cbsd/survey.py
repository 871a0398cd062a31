"""Tell whether each jail and VM that runs is well, and whether anything is left of the others.

One reading of the mount table and of each database; what lies on a server is asked by one child for each server.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart.cbsd import leftovers
from envstart.cbsd.inventory import Inventory
from envstart.cbsd.monitored import CONFIGURATION, INVENTORY, STUB, UNREGISTERED, Monitored, Row, monitored
from envstart.engine import plan
from envstart.engine.plan import Observation
from envstart.errors import EnvstartError
from envstart.steps import observe
from envstart.system import process_table
from envstart.system.host import Host


def running(host: Host, environments: Sequence[Monitored], level: str) -> list[Row]:
    """Return all steps of jails and VMs that run (or are said to), looked at as closely as ``level`` says."""
    unplanned = [Row(each, None, Observation(CONFIGURATION, each.error)) for each in environments if not each.plan]
    steps = [(each, step) for each in environments if each.plan for step in each.plan.steps]
    states = observe.states(host, [step for _, step in steps], level, [each.record.workdir for each, _ in steps])
    return unplanned + [Row(each, step, state) for (each, step), state in zip(steps, states)]


def everything(host: Host, inventory: Inventory, names: Sequence[str], level: str) -> list[Row]:
    """Return what there is of the jails and VMs of a workdir, or of those that are named."""
    try:
        host.complete(host.mounts())
    except EnvstartError as error:
        return [Row(None, None, Observation(plan.UNKNOWN, str(error)))]
    environments = [each for each in monitored(inventory, names) if each.record.running or not each.changing]
    begun = [each for each in environments if each.record.running or each.starting()]
    rows = [row for row in running(host, begun, level) if row.level != "ok" or _is_running(row)]
    # What is not registered and runs nonetheless is not safe from a removal either.
    idle = [each for each in environments if not each.changing and not (each.record.running and each.record.registered)]
    rows += [row for row in leftovers.of_idle(host, idle) if _counts_at_once(row) or not _is_starting(row)]
    if not names or not inventory.complete:
        rows += [Row(None, None, Observation(INVENTORY, problem)) for problem in inventory.problems]
    return rows if names else rows + leftovers.of_unknown(host, inventory)


def _is_running(row: Row) -> bool:
    return row.monitored is not None and row.monitored.record.running


def _is_starting(row: Row) -> bool:
    return row.monitored is not None and row.monitored.starting()


def _counts_at_once(row: Row) -> bool:
    """Tell whether it is a problem also of what was started a moment ago, and may be about to run.

    A stub database keeps its VM from being started, and a removal of what is not registered deletes it, unless CBSD is
    just making it.
    """
    return row.state.status == STUB or (row.state.status == UNREGISTERED and not process_table.creating())
