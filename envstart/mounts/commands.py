"""The command lines of both systems, as tuples. Pure. An option and its value stand on one line.

FreeBSD: docs/freebsd.md#mount_nfs, #nullfs, #umount. Linux: mount(8), nfs(5), umount(8).
"""

from __future__ import annotations

from envstart.errors import UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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
# Options of mount_nfs(8) that nfs(5) spells differently, or does not have.
# tcp and udp it has too, and like mount_nfs(8) it takes proto=tcp for IPv4 alone.
_LINUX_NAMES = {"nfsv3": "vers=3", "nfsv4": "vers=4"}
# File systems of FreeBSD that open no files for themselves.
_NOTHING_OF_ITS_OWN = ("nfs", "nullfs", "fusefs")
_LINUX_LACKS = ("intr", "nocover", "retrycnt", "noconn", "oneopenown", "resvport")


def origin(name: str) -> str:
    """What a command comes with, for who does not have it."""
    return f"; it comes with {_PACKAGES[name]}" if name in _PACKAGES else ""


def missing(name: str) -> NoReturn:
    """Raise UnavailableError because this command is not installed."""
    raise UnavailableError(f"cannot run {name}: it is not installed{origin(name)}")


def mount(platform: str, fstype: str, options: Sequence[str], source: str, point: str) -> tuple[str, ...]:
    """Mount ``source`` on ``point``; on FreeBSD never on top of another mount.

    The program of the file system is called itself, not mount(8): then one process does the work, and is the one
    that is killed (docs/freebsd.md#nfs-signals). Each option has its own ``-o``: mount_nullfs(8) ignores a list.
    """
    if fstype == "ceph-fuse":
        # What it mounts is among its options, and its own.
        return ("ceph-fuse", *options, point)
    words: list[str] = []
    if platform == "linux":
        for option in _linux_options(options):
            words += ["-o", option]
        if fstype == "glusterfs":
            return ("mount.glusterfs", source, point, "-o", ",".join(options))
        if fstype == "ceph":
            return ("mount.ceph", source, point, "-o", ",".join(options))
        if fstype == "nullfs":
            return ("mount", "--bind", *words, source, point)
        if fstype != "nfs":
            if "ro" in options:
                # ext4 plays its journal back even when it is mounted read-only.
                words += ["-o", "noload"]
            return ("mount", "-t", fstype, *words, source, point)
        return ("mount.nfs", source, point, *words, "-o", "retry=0")
    if fstype == "glusterfs":
        # mount(8) looks for it in /sbin; its script refuses options of others: nocover (docs/freebsd.md#glusterfs).
        return ("mount_glusterfs", "-o", ",".join(options), source, point)
    for option in options:
        words += ["-o", option]
    if fstype == "nfs":
        # Its own default is to try for ever, a minute apart.
        words += ["-o", "retrycnt=1"]
        source = _bracketed(source)
    # mount(8) does these itself.
    program = ("mount", "-t", fstype) if fstype in ("ufs", "zfs") else (f"mount_{fstype}",)
    return (*program, *words, "-o", "nocover", source, point)


def _bracketed(source: str) -> str:
    """mount_nfs(8) takes what is after the last colon for the path, unless the host is in brackets (getnfsargs() in its
    sbin/mount_nfs/mount_nfs.c); a name of CBSD's can have colons."""
    host, _, path = source.partition(":/")
    return f"[{host}]:/{path}" if ":" in path and not host.startswith("[") else source


def fsck(fstype: str, device: str) -> tuple[str, ...]:
    """Mend what can be mended without a question; the type is given, so that it is not guessed from the device."""
    return ("fsck_ffs", "-p", device) if fstype == "ufs" else ("e2fsck", "-p", device)


def in_jail(name: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Run a command in a jail that has the files and devices of the host, and shows of its mounts only the root."""
    return ("jail", "-c", f"name={name}", "path=/", "enforce_statfs=2", f"command={argv[0]}", *argv[1:])


def unmount(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount in the ordinary way; ``point`` exactly as in the mount table, so that the path is not touched.

    Without ``-n`` FreeBSD's umount(8) begins with sync(2), which waits for every server that something is to be written
    to: another environment's dead one would hold this one up. UFS has files open for itself (snapshots, quotas), and
    would be busy for ever.
    """
    if platform != "freebsd":
        return ("umount", "--no-canonicalize", point)
    # The table has the name of a FUSE client after it, as far as there is room: fusefs.ceph-fus.
    return ("umount", "-n", point) if fstype.partition(".")[0] in _NOTHING_OF_ITS_OWN else ("umount", point)


def force_unmount(platform: str, point: str, alone: bool = True) -> tuple[str, ...]:
    """Unmount although it is in use: whoever uses it gets errors. Linux's ``-f`` ends the requests of the file system,
    wherever else it is mounted, so that it is for one that is mounted here ``alone``."""
    if platform == "freebsd":
        return ("umount", "-f", point)
    return ("umount", "--no-canonicalize", *(("-f",) if alone else ()), "-l", point)


def unmount_unresponsive(platform: str, fstype: str, point: str) -> tuple[str, ...]:
    """Unmount what does not answer.

    On FreeBSD ``-N`` at once: a plain or forced umount of a dead NFS mount blocks, and cannot be killed (transcript
    nfs-dead-server).
    """
    if platform == "freebsd" and fstype == "nfs":
        return ("umount", "-N", point)
    return force_unmount(platform, point)


def _linux_options(options: Iterable[str]) -> Iterable[str]:
    for option in options:
        name, _, value = option.partition("=")
        if name in _LINUX_LACKS:
            continue
        if name == "timeout":
            yield f"timeo={value}"
        else:
            yield _LINUX_NAMES.get(option, option)
