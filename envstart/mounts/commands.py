"""Command lines as tuples, by platform where that makes a difference. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.errors import UnavailableError
from envstart.mounts import commands_freebsd, commands_linux

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_PACKAGES = {
    "mount.nfs": "nfs-common",
    **dict.fromkeys(
        "mount_nfs mount_nullfs iscsictl hastctl geli mdconfig camcontrol fsck_ffs zfs".split(),
        "the FreeBSD base system",
    ),
    "mount.glusterfs": "glusterfs-client",
    "mount_glusterfs": "the package glusterfs",
    "mount.ceph": "ceph-common",
    "ceph-authtool": "ceph-common",
    "e2fsck": "e2fsprogs",
    "iscsiadm": "open-iscsi",
    "sg_persist": "sg3-utils",
    "ceph-fuse": "ceph-fuse (FreeBSD: the package ceph14)",
    "rbd-ggate": "the package ceph14",
    "rbd": "ceph-common (FreeBSD: the package ceph14)",
}


def missing(name: str) -> NoReturn:
    """Raise UnavailableError because this command is not installed; say what it comes with."""
    origin = f"; it comes with {_PACKAGES[name]}" if name in _PACKAGES else ""
    raise UnavailableError(f"cannot run {name}: it is not installed{origin}")


def mount(platform: str, fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    """Mount ``source`` on ``point``; on FreeBSD never on top of another mount.

    The program of the file system is called itself, not mount(8): then one process does the work, and is the one
    that is killed (docs/freebsd.md#nfs-signals).
    """
    if fstype == "ceph-fuse":
        # What it mounts is among its options, and its own.
        return ("ceph-fuse", *options, point)
    build = commands_linux.mount if platform == "linux" else commands_freebsd.mount
    return build(fstype, options, source, point)


def fsck(fstype: str, device: str) -> tuple[str, ...]:
    """Mend what can be mended without a question; the type is given, so that it is not guessed from the device."""
    return ("fsck_ffs" if fstype == "ufs" else "e2fsck", "-p", device)


def in_jail(name: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Run a command in a jail that has the files and devices of the host, and shows of its mounts only the root."""
    return ("jail", "-c", f"name={name}", "path=/", "enforce_statfs=2", f"command={argv[0]}", *argv[1:])


def unmount(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount in the ordinary way; ``point`` exactly as in the mount table, so that the path is not touched."""
    return commands_linux.unmount(point) if platform == "linux" else commands_freebsd.unmount(fstype, point)


def force_unmount(platform: str, point: str, *, alone: bool = True) -> tuple[str, ...]:
    """Unmount although it is in use: whoever uses it gets errors. ``alone``: this file system has no other mount."""
    if platform == "linux":
        return commands_linux.force_unmount(point, alone=alone)
    return commands_freebsd.force_unmount(point)


def unmount_unresponsive(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount what does not answer."""
    if platform == "linux":
        return commands_linux.force_unmount(point, alone=True)
    return commands_freebsd.unmount_unresponsive(fstype, point)
