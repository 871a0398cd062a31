"""tmpfs: the data of a jail or VM are in memory, and gone after a stop. A backend by CONTRIBUTING.md's five steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.config import common
from envstart.config.schema import Option, choice, integer
from envstart.engine.plan import Plan
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec

if TYPE_CHECKING:
    from envstart.config.load import Config
    from envstart.config.schema import Options
    from envstart.environment import Environment
    from envstart.mounts.table import Entry, Table
    from envstart.system.host import Host

TITLE = "an empty data directory in memory (tmpfs)"

OPTIONS: Options = (
    TMPFS_SIZE := Option("TMPFS_SIZE", integer(1, 1 << 20, "megabytes"), None, "megabytes that it may have"),
    TMPFS_MODE := Option("TMPFS_MODE", choice("755", "700"), "755", "mode of the directory"),
    *common.OPTIONS,
)
# Nobody is asked.
_ATTEMPT_TIMEOUT = 5


class Memory(Mount):
    """A file system without a device, which the mount table tells by its name."""

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if a mount is the one of this jail or VM."""
        return (entry.fstype, entry.source) == (self.fstype, self.source)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the one mount, on the data directory."""
    options = (f"size={config[TMPFS_SIZE]}m", f"mode={config[TMPFS_MODE]}")
    source = f"envstart-{environment.name}"
    spec = MountSpec("data", "tmpfs", options, source, environment.data, _ATTEMPT_TIMEOUT)
    return Plan("tmpfs", environment, config, [Memory(spec, environment, config)])
