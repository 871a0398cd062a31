"""Command lines as tuples, by platform where that makes a difference (docs/freebsd.md#mount_nfs, #umount). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from envstart.errors import UnavailableError

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
# File systems that have no files open for themselves.
_WITHOUT_OPEN_FILES = ("nfs", "nullfs", "fusefs")
# Options of mount_nfs(8) that nfs(5) spells differently, or does not have.
# tcp and udp it has too, and like mount_nfs(8) it takes proto=tcp for IPv4 alone.
_LINUX_NAMES = {"nfsv3": "vers=3", "nfsv4": "vers=4"}
_LINUX_LACKS = ("intr", "nocover", "retrycnt", "noconn", "oneopenown", "resvport")


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
    return (_mount_on_linux if platform == "linux" else _mount_on_freebsd)(fstype, options, source, point)


def _mount_on_freebsd(fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    if fstype == "glusterfs":
        # mount(8) looks for it in /sbin; its script refuses options of others: nocover (docs/freebsd.md#glusterfs).
        return ("mount_glusterfs", "-o", ",".join(options), source, point)
    if fstype == "nfs":
        # Its own default is to try for ever, a minute apart.
        options, source = (*options, "retrycnt=1"), _bracketed(source)
    # mount(8) does these itself.
    program = ("mount", "-t", fstype) if fstype in ("ufs", "zfs") else (f"mount_{fstype}",)
    # mount_nullfs(8) ignores a list.
    return (*program, *_each((*options, "nocover")), source, point)


def _bracketed(source: str) -> str:
    """Put the host into brackets if need be: mount_nfs(8) takes what is after the last colon for the path otherwise."""
    host, _, path = source.partition(":/")
    return f"[{host}]:/{path}" if ":" in path and not host.startswith("[") else source


def _mount_on_linux(fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    if fstype in ("glusterfs", "ceph"):
        return (f"mount.{fstype}", source, point, "-o", ",".join(options))
    words = _each(_linux_options(options))
    if fstype == "nfs":
        return ("mount.nfs", source, point, *words, "-o", "retry=0")
    if fstype == "nullfs":
        return ("mount", "--bind", *words, source, point)
    # ext4 plays its journal back even when it is mounted read-only.
    return ("mount", "-t", fstype, *words, *(("-o", "noload") if "ro" in options else ()), source, point)


def _linux_options(options: Sequence[str]) -> Iterator[str]:
    for option in options:
        name, _, value = option.partition("=")
        if name == "timeout":
            yield f"timeo={value}"
        elif name not in _LINUX_LACKS:
            yield _LINUX_NAMES.get(option, option)


def _each(options: Iterable[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def fsck(fstype: str, device: str) -> tuple[str, ...]:
    """Mend what can be mended without a question; the type is given, so that it is not guessed from the device."""
    return ("fsck_ffs" if fstype == "ufs" else "e2fsck", "-p", device)


def in_jail(name: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Run a command in a jail that has the files and devices of the host, and shows of its mounts only the root."""
    return ("jail", "-c", f"name={name}", "path=/", "enforce_statfs=2", f"command={argv[0]}", *argv[1:])


def unmount(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount in the ordinary way; ``point`` exactly as in the mount table, so that the path is not touched.

    Without the sync(2) of umount(8), which waits for every server, another environment's dead one too. UFS has files
    open for itself (snapshots, quotas), and without the sync would be busy for ever.
    """
    if platform == "linux":
        return ("umount", "--no-canonicalize", point)
    # The table has the name of a FUSE client after it, as far as there is room: fusefs.ceph-fus.
    return ("umount", "-n", point) if fstype.partition(".")[0] in _WITHOUT_OPEN_FILES else ("umount", point)


def force_unmount(platform: str, point: str, *, alone: bool = True) -> tuple[str, ...]:
    """Unmount although it is in use: whoever uses it gets errors. ``alone``: this file system has no other mount.

    On Linux ``-f`` ends the requests of the file system, wherever else it is mounted.
    """
    if platform == "linux":
        return ("umount", "--no-canonicalize", *(("-f",) if alone else ()), "-l", point)
    return ("umount", "-f", point)


def unmount_unresponsive(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount what does not answer; any other way than ``-N`` blocks for NFS (docs/freebsd.md#dead-server)."""
    if platform != "linux" and fstype == "nfs":
        return ("umount", "-N", point)
    return force_unmount(platform, point)
