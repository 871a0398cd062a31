"""Block devices of this host, asked without opening one: what lies on what, who has it open, and is it still there."""

from __future__ import annotations

from typing import Protocol

from envstart.mounts.table import Entry
from envstart.storage.graph import Graph, Provider
from envstart.system.host import Host


class _Devices(Protocol):
    """The functions that devices_freebsd and devices_linux have in common."""

    async def read(self, host: Host) -> Graph: ...
    async def other_users(self, host: Host, provider: Provider, *, blocking: bool) -> list[str]: ...
    async def is_lost(self, host: Host, entry: Entry) -> bool: ...


def _devices_of(host: Host) -> _Devices:
    if host.platform == "freebsd":
        from envstart.storage import devices_freebsd

        return devices_freebsd
    from envstart.storage import devices_linux

    return devices_linux


async def read(host: Host) -> Graph:
    """Return the graph as it is now; TemporaryError if it cannot be told, NoResponseError while a disk holds it up."""
    return await _devices_of(host).read(host)


async def is_lost(host: Host, entry: Entry) -> bool:
    """Tell whether the disk of a mount is gone: the kernel goes on showing the mount, and what it has kept of it."""
    return await _devices_of(host).is_lost(host, entry)


async def users(host: Host, device: str, *, blocking: bool = False) -> list[str]:
    """Describe the users of a device for people, or only those that are ``blocking`` others from it."""
    table, graph = await host.mounts(), await read(host)
    provider = graph.provider(device)
    if provider is None:
        return []
    names = []
    for consumer in graph.blocking(provider) if blocking else graph.users(provider):
        path = f"/dev/{(consumer.provider or provider).name}"
        if consumer.geom.kind == "VFS":
            points = [entry.point for entry in table if entry.source == path]
            names.append(f"{', '.join(points) or 'a file system'} (mounted from {path})")
        elif consumer.geom.kind == "DEV":
            names.append(f"a process that has {path} open")
        else:
            names.append(f"{consumer.geom.name} ({consumer.geom.kind})")
    return names or await _devices_of(host).other_users(host, provider, blocking=blocking)
