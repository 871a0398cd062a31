"""The command lines of Linux that mount and unmount: mount(8), nfs(5), umount(8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Options of mount_nfs(8) that nfs(5) spells differently, or does not have.
# tcp and udp it has too, and like mount_nfs(8) it takes proto=tcp for IPv4 alone.
_NAMES = {"nfsv3": "vers=3", "nfsv4": "vers=4"}
_LACKS = ("intr", "nocover", "retrycnt", "noconn", "oneopenown", "resvport")


def mount(fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    """Mount ``source`` on ``point``."""
    if fstype in ("glusterfs", "ceph"):
        return (f"mount.{fstype}", source, point, "-o", ",".join(options))
    words = [word for option in _options(options) for word in ("-o", option)]
    if fstype == "nfs":
        return ("mount.nfs", source, point, *words, "-o", "retry=0")
    if fstype == "nullfs":
        return ("mount", "--bind", *words, source, point)
    # ext4 plays its journal back even when it is mounted read-only.
    return ("mount", "-t", fstype, *words, *(("-o", "noload") if "ro" in options else ()), source, point)


def _options(options: Sequence[str]) -> Iterator[str]:
    for option in options:
        name, _, value = option.partition("=")
        if name == "timeout":
            yield f"timeo={value}"
        elif name not in _LACKS:
            yield _NAMES.get(option, option)


def unmount(point: str) -> tuple[str, ...]:
    """Unmount without a look at the path."""
    return ("umount", "--no-canonicalize", point)


def force_unmount(point: str, *, alone: bool) -> tuple[str, ...]:
    """Unmount although it is in use. ``-f`` ends the requests of the file system, wherever else it is mounted."""
    return ("umount", "--no-canonicalize", *(("-f",) if alone else ()), "-l", point)
