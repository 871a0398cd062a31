"""Unmount by the mount table alone, where neither a configuration nor a record tells what was mounted.

Only what the hook of this backend can have mounted, and only on the directories of the jail or VM itself. What lies
below, a device or a session, cannot be known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from envstart.config import common
from envstart.config.load import Config
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.errors import EnvstartError
from envstart.mounts.table import Entry, Table
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host

_CLIENTS = ("fuse.glusterfs", "fuse.ceph-fuse", "fusefs", "fusefs.glusterf", "fusefs.glusterfs", "fusefs.ceph-fus")
_VOLUME = ("nullfs", "ufs", "ext4")
# Kinds (Entry.kind) of the mounts that each backend makes on the directories of a jail or VM.
_KINDS = {
    "nfs": ("nfs",),
    "nullfs": ("nullfs",),
    "gluster": ("nullfs", *_CLIENTS),
    "ceph": ("nullfs", "ceph", *_CLIENTS),
    **dict.fromkeys(("iscsi", "geli", "hast", "rbd"), _VOLUME),
}
# Where a thin jail has its own files, below the data directory.
_SKELETON = "skeleton"


class Leftover(Mount):
    """Mount on a directory that nothing describes: a stop that fails cannot bring it back."""

    def __init__(
        self, name: str, entry: Entry, point: str, backend: str, environment: Environment, config: Config
    ) -> None:
        """Take the mount as the table has it."""
        spec = MountSpec(name, entry.kind, (), entry.source, point, config[common.TIMEOUT])
        super().__init__(spec, environment, config)
        self._backend = backend

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell whether a mount is of a kind that the backend makes."""
        return is_of(self._backend, table, entry)

    def journal_stop(self, host: Host) -> None:
        """Leave it unmounted."""


def is_of(backend: str, table: Table, entry: Entry) -> bool:
    """Tell whether a mount is of a kind that the backend makes; with ``backend`` "", that any of them makes."""
    kinds = _KINDS[backend] if backend else [kind for kinds in _KINDS.values() for kind in kinds]
    if entry.kind in kinds:
        return True
    # A bind mount of Linux has the kind of the file system that it shows, which is mounted elsewhere too.
    twins = [other for other in table if other.device == entry.device and other.point != entry.point]
    return "nullfs" in kinds and bool(entry.device) and (entry.root != "/" or bool(twins))


def plan(host: Host, backend: str, environment: Environment, *, force: bool = False) -> Plan:
    """Plan to unmount what lies on the directories of a jail or VM, newest first; no steps if nothing does."""
    values = {option.name: option.read(option.default or "", environment.name) for option in common.OPTIONS}
    config = Config(None, {**values, **(common.FORCED if force else {})}, {}, {})
    points = {"system": environment.system, **({"fstab": environment.fstab} if environment.fstab else {})}
    points |= {"data": environment.data, _SKELETON: f"{environment.data}/{_SKELETON}"}
    table = host.complete(host.mounts())
    steps = []
    for name, point in points.items():
        stack: Sequence[Entry] = ()
        # What lies on something that gives no answer the table does not know by this name.
        with contextlib.suppress(EnvstartError, OSError):
            stack = host.complete(host.stack(point))
        if stack and all(is_of(backend, table, entry) for entry in stack):
            steps.append(Leftover(name, stack[-1], point, backend, environment, config))
    return Plan(backend, environment, config, steps)
