"""The directories of what a client in user space mounts (fuse.py), shown by nullfs on those of a jail or VM."""

from __future__ import annotations

from collections.abc import Sequence

from envstart.config import common
from envstart.config.directories import Directory
from envstart.engine import plan
from envstart.errors import ConfigError
from envstart.mounts.table import Entry, Table
from envstart.steps.fuse import Client
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host


class _Shown(Mount):
    """A directory of what ``client`` mounts."""

    def __init__(self, client: Client, item: Directory, all_points: Sequence[str]) -> None:
        """Show the directory of ``item``; ``all_points``: where the client's are shown, this one among them."""
        source, timeout = f"{client.point}{item.path}", client.config[common.PROBE_TIMEOUT]
        options = ("ro" if "ro" in client.options else "rw",)
        spec = MountSpec(item.name, "nullfs", options, source, item.point, timeout, resolve_within=client.point)
        super().__init__(spec, client.environment, client.config)
        self._client, self._path, self._all_points = client, item.path, all_points

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if it is ours; on Linux a bind mount tells that also when the client's own mount is gone."""
        if host.platform == "freebsd":
            return await super().matches(host, table, entry)
        return entry.given_root == self._path and await self._client.is_of(host, table, entry)

    async def users(self, host: Host, point: str) -> str:
        """Return who uses any directory of the client's: they are taken away together, or not at all."""
        for shown in self._all_points:
            if users := await super().users(host, shown):
                return users
        return ""

    @property
    def borrowed(self) -> bool:
        """Tell that the file system is this jail's or VM's alone."""
        return False

    async def alone(self, host: Host, entry: Entry) -> bool:
        """Tell that no other jail or VM has a mount of the client."""
        return True

    async def force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        """Unmount it, after the client was ended if that gives no answer."""
        if unresponsive:
            await self._client.fail_pending_io(host)
        await super().force_unmount(host, entry, asked=asked, unresponsive=unresponsive)


def refuse_shared(wanted: Sequence[Directory]) -> None:
    """Raise ConfigError if a directory is to serve all jails and VMs."""
    if any(item.shared for item in wanted):
        raise ConfigError(
            "cannot use RCCONF_SHARED=1: each jail or VM has mounts of its own here, which go with it",
            hint="mount that directory by fstab(5), or set RCCONF_SHARED=0",
        )


def steps(client: Client, wanted: Sequence[Directory]) -> list[plan.Step]:
    """Return the client, and the directories from it; their paths begin at its top."""
    refuse_shared(wanted)
    points = [item.point for item in wanted]
    return [client, *(_Shown(client, item, points) for item in wanted)]
