"""What a nullfs mount does not show of its source: what else is mounted in there (transcript zfs.txt). A bind mount of
Linux does not show it either."""

from __future__ import annotations

from . import mountpoint
from .errors import NoAnswer, NoTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host
    from .mount import Mount
    from .table import Entry, Table

# What is to be mounted on this host (fstab(5)).
FSTAB = "/etc/fstab"
# A jail gets these from jail(8) or CBSD.
_OF_EACH_JAIL = ("devfs", "fdescfs", "procfs", "linprocfs", "linsysfs", "proc", "sysfs")
# How many names a line has room for.
_NAMED = 3


async def doubts(mount: Mount, host: Host, table: Table, entry: Entry) -> list[str]:
    """Return in what a mount differs from what an administrator may expect of it, a line each."""
    drift = mountpoint.drift(entry, mount.options)
    found = [f"{entry} is {drift}"] if drift else []
    lacking = await unshown(mount, host, table, entry.point, entry)
    return [*found, lacking] if lacking else found


async def unshown(mount: Mount, host: Host, table: Table, point: str, entry: Entry | None = None) -> str:
    """Name what is mounted below the source of a mount on ``point``, and not seen through it; "" if nothing is."""
    if mount.fstype != "nullfs":
        return ""
    source = await _source(mount, host, table, entry)
    shown = {*table.points, *mount.beside}
    lacking = [
        below
        for below in (table.below(source) if source else ())
        if table.at(below)[-1].fstype not in _OF_EACH_JAIL and f"{point}{below[len(source) :]}" not in shown
    ]
    if not lacking:
        return ""
    rest = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    kind = "nullfs" if host.platform == "freebsd" else "a bind mount"
    return f"{kind} does not show {', '.join(lacking[:_NAMED])}{rest}, mounted in {source}"


async def _source(mount: Mount, host: Host, table: Table, entry: Entry | None) -> str:
    """Return the real name of the source; "" if that cannot be told."""
    if entry is not None and host.platform == "freebsd":
        return entry.source
    if mount.inside or (entry is not None and table.shows(entry, "nullfs", mount.source, linux=True)):
        return mount.source
    try:
        return await host.real(mount.source)
    except (NoAnswer, NoTime):
        return ""
