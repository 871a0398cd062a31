"""The command lines of FreeBSD that mount and unmount (docs/freebsd.md#mount_nfs, #nullfs, #umount)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# File systems that have no files open for themselves.
_WITHOUT_OPEN_FILES = ("nfs", "nullfs", "fusefs")


def mount(fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    """Mount ``source`` on ``point``, never on top of another mount."""
    if fstype == "glusterfs":
        # mount(8) looks for it in /sbin; its script refuses options of others: nocover (docs/freebsd.md#glusterfs).
        return ("mount_glusterfs", "-o", ",".join(options), source, point)
    if fstype == "nfs":
        # Its own default is to try for ever, a minute apart.
        options, source = (*options, "retrycnt=1"), _bracketed(source)
    # mount(8) does these itself.
    program = ("mount", "-t", fstype) if fstype in ("ufs", "zfs") else (f"mount_{fstype}",)
    # mount_nullfs(8) ignores a list.
    return (*program, *(word for option in (*options, "nocover") for word in ("-o", option)), source, point)


def _bracketed(source: str) -> str:
    """Put the host into brackets if need be: mount_nfs(8) takes what is after the last colon for the path otherwise."""
    host, _, path = source.partition(":/")
    return f"[{host}]:/{path}" if ":" in path and not host.startswith("[") else source


def unmount(fstype: str, point: str) -> tuple[str, ...]:
    """Unmount without the sync(2) of umount(8), which waits for every server, another environment's dead one too.

    UFS has files open for itself (snapshots, quotas), and without the sync would be busy for ever.
    """
    # The table has the name of a FUSE client after it, as far as there is room: fusefs.ceph-fus.
    return ("umount", "-n", point) if fstype.partition(".")[0] in _WITHOUT_OPEN_FILES else ("umount", point)


def force_unmount(point: str) -> tuple[str, ...]:
    """Unmount although it is in use."""
    return ("umount", "-f", point)


def unmount_unresponsive(fstype: str, point: str) -> tuple[str, ...]:
    """Unmount what does not answer; any other way than ``-N`` blocks for NFS (docs/freebsd.md#dead-server)."""
    return ("umount", "-N", point) if fstype == "nfs" else force_unmount(point)
