"""Find what a nullfs mount does not show of its source: what else is mounted in there (tests/transcripts/zfs.txt).

A bind mount of Linux does not show it either.
"""

from __future__ import annotations

from envstart.errors import DeadlineExceededError, NoResponseError
from envstart.mounts.table import Entry, Table
from envstart.steps import mountpoint
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system.host import Host

# What is to be mounted on this host (fstab(5)).
FSTAB = "/etc/fstab"
# A jail gets these from jail(8) or CBSD.
_OF_EACH_JAIL = ("devfs", "fdescfs", "procfs", "linprocfs", "linsysfs", "proc", "sysfs")
# How many names a line has room for.
_NAMED = 3


async def doubts(mount: ConfiguredMount, host: Host, table: Table, entry: Entry) -> list[str]:
    """Return in what a mount differs from what an administrator may expect of it, a line each."""
    drift = mountpoint.drift(entry, mount.options)
    lacking = await unshown(mount, host, table, entry.point, entry)
    return [text for text in (f"{entry} is {drift}" if drift else "", lacking) if text]


async def unshown(mount: ConfiguredMount, host: Host, table: Table, point: str, entry: Entry | None = None) -> str:
    """Name what is mounted below the source of a mount on ``point``, and not seen through it; "" if nothing is."""
    if mount.fstype != "nullfs":
        return ""
    source = await _source(mount, host, table, entry)
    shown = {*table.points, *mount.spec.beside}
    lacking = [
        child
        for child in (table.below(source) if source else ())
        if not _is_of_itself(table.at(child)[-1]) and f"{point}{child[len(source) :]}" not in shown
    ]
    if not lacking:
        return ""
    rest = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    kind = "nullfs" if host.platform == "freebsd" else "a bind mount"
    return f"{kind} does not show {', '.join(lacking[:_NAMED])}{rest}, mounted in {source}"


def _is_of_itself(entry: Entry) -> bool:
    """Tell if a mount comes by itself, and is nothing that a jail could miss.

    That is what each jail gets, and a snapshot of ZFS, which is mounted for who looks into .zfs/snapshot
    (mount_snapshot() in OpenZFS' os/freebsd/spl/spl_vfs.c).
    """
    return entry.fstype in _OF_EACH_JAIL or (entry.fstype == "zfs" and "@" in entry.source)


async def _source(mount: ConfiguredMount, host: Host, table: Table, entry: Entry | None) -> str:
    """Return the real name of the source; "" if that cannot be told."""
    if entry is not None and host.platform == "freebsd":
        return entry.source
    lower = table.mount_of(mount.source)
    of_server = lower is not None and (lower.kind in ("nfs", "ceph") or "fuse" in lower.fstype)
    as_named = entry is not None and table.shows(entry, "nullfs", mount.source, linux=True)
    if mount.resolve_within or of_server or as_named:
        # No link leads elsewhere, or only somebody who can be dead could tell.
        return mount.source
    try:
        return await host.real(mount.source)
    except (NoResponseError, DeadlineExceededError):
        return ""
