"""Block devices of this host, asked without opening one: what lies on what, who has it open, and is it still there."""

import os

from envstart.errors import TemporaryError
from envstart.mounts.table import Entry
from envstart.storage.graph import Graph
from envstart.system.host import Host


async def read(host: Host) -> Graph:
    """Return the graph as it is now; TemporaryError if it cannot be told, NoResponseError while a disk holds it up."""
    if host.platform == "freebsd":
        from envstart.storage import devices_freebsd

        return await devices_freebsd.read(host)
    from envstart.storage import devices_linux

    return devices_linux.graph_of(await host.mounts())


async def is_lost(host: Host, entry: Entry) -> bool:
    """Tell whether the disk of a mount is gone: the kernel goes on showing the mount, and what it has kept of it."""
    if host.platform != "freebsd":
        return not os.path.exists(f"/sys/dev/block/{entry.device}")
    # It stays in the table (g_vfs_orphan() of sys/geom/geom_vfs.c), and a new disk can have the name by now, and be
    # mounted too: of two mounts with one source the last one lives.
    for _ in range(2):
        table, graph = await host.mounts(), await read(host)
        if entry.fsid not in [mount.fsid for mount in table.at(entry.point)]:
            return False
        namesakes = [mount.point for mount in table if (mount.source, mount.fstype) == (entry.source, entry.fstype)]
        provider = graph.provider(entry.source)
        users = provider.consumers if provider else []
        if namesakes[-1] == entry.point and any(user.open and user.geom.kind == "VFS" for user in users):
            return False
        # The table and the graph are not of one moment.
        host.invalidate()
    return True


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
    # GEOM knows them all.
    if names or host.platform == "freebsd":
        return names
    from envstart.storage import devices_linux

    return await devices_linux.other_users(host, provider, blocking=blocking)


async def check_unused(host: Host, device: str, act: str) -> None:
    """Raise TemporaryError if others have a device open that an act is to have for itself."""
    if names := await users(host, device, blocking=True):
        raise TemporaryError(f"cannot {act}: it is in use ({', '.join(names)})", hint="end that first")
