"""LUNs over a wire: the storage guest serves them by the kernel's own target, nodes reach them by the iscsi hooks."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator

from .guest import Ended
from .hosts import GRACE, WORKDIR, Node, Storage

TARGET, LOCKED = "iqn.2026-11.lab:jails", "iqn.2026-11.lab:locked"
USER, SECRET = "envstart", "swordfish 1234"
CONFIGFS = "/sys/kernel/config/target"
SERIALS = ("disk-jail1", "disk-jail2")
# Seconds of an iscsi hook on an emulated machine beside others.
TIMEOUT = 90
# Seconds until a silent target is taken for lost.
NOTICED = 14.0


def initiator(node: Node) -> str:
    return f"iqn.2026-11.lab:{node.name}"


def serve(storage: Storage, *nodes: Node) -> None:
    """Two LUNs with an ext4 each, by a target that is open to these nodes, and the first by one that asks for CHAP."""
    lines = ["modprobe -a target_core_mod target_core_file iscsi_target_mod", f"mkdir -p {CONFIGFS}/iscsi"]
    for number, serial in enumerate(SERIALS):
        disk = f"{CONFIGFS}/core/fileio_{number}/{serial}"
        lines += [
            f"truncate -s 0 /tmp/{serial}; truncate -s 32M /tmp/{serial}; mkdir -p /tmp/{serial}.d/etc",
            f"echo {serial} > /tmp/{serial}.d/etc/name",
            f"mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d /tmp/{serial}.d /tmp/{serial}",
            f"mkdir -p {disk}; printf fd_dev_name=/tmp/{serial},fd_dev_size=33554432 > {disk}/control",
            f"printf {serial} > {disk}/wwn/vpd_unit_serial; printf 1 > {disk}/enable",
        ]
    for target in (TARGET, LOCKED):
        lines += _target(storage, target, nodes)
    storage.do("set -e\n" + "\n".join(lines), 120)


def _target(storage: Storage, target: str, nodes: tuple[Node, ...]) -> Iterator[str]:
    group = f"{CONFIGFS}/iscsi/{target}/tpgt_1"
    yield f"mkdir -p {group}/np/{storage.address}:3260"
    luns = range(len(SERIALS)) if target == TARGET else range(1)
    for lun in luns:
        there = f"{group}/lun/lun_{lun}"
        yield f"mkdir -p {there}; ln -s {CONFIGFS}/core/fileio_{lun}/{SERIALS[lun]} {there}/disk"
    yield f"printf {int(target == LOCKED)} > {group}/attrib/authentication"
    for node in nodes:
        mine = f"{group}/acls/{initiator(node)}"
        yield f"mkdir -p {mine}"
        for lun in luns:
            yield f"mkdir -p {mine}/lun_{lun}; ln -s {group}/lun/lun_{lun} {mine}/lun_{lun}/disk"
        if target == LOCKED:
            # Without an end of line, which would be part of it.
            yield f"printf {USER} > {mine}/auth/userid; printf {shlex.quote(SECRET)} > {mine}/auth/password"
    yield f"printf 1 > {group}/enable"


def withdraw(storage: Storage) -> None:
    """Take all of it away, with what the nodes have reserved."""
    storage.run(
        f"cd {CONFIGFS}/iscsi || exit; for group in */tpgt_1; do printf 0 > $group/enable; "
        "rm -f $group/acls/*/lun_*/disk; rmdir $group/acls/*/lun_* $group/acls/*; rm -f $group/lun/lun_*/disk; "
        "rmdir $group/lun/lun_* $group/np/* $group; done; rmdir *; cd ../core; rmdir */disk-*",
        120,
    )


def swap(storage: Storage) -> None:
    """Let the target's LUNs change places."""
    group = f"{CONFIGFS}/iscsi/{TARGET}/tpgt_1"
    lines = [f"cd {group}", "rm acls/*/lun_*/disk; rmdir acls/*/lun_*; rm lun/lun_*/disk"]
    for lun, serial in enumerate(reversed(SERIALS)):
        lines.append(f"ln -s {CONFIGFS}/core/fileio_{1 - lun}/{serial} lun/lun_{lun}/disk")
        lines.append(
            f"for acl in acls/*; do mkdir $acl/lun_{lun}; ln -s {group}/lun/lun_{lun} $acl/lun_{lun}/disk; done"
        )
    storage.do("set -e\n" + "\n".join(lines), 60)


def listening(storage: Storage, *, whether: bool) -> None:
    """Let the targets take logins and keep sessions, or end all of them and refuse."""
    storage.do(f"for group in {CONFIGFS}/iscsi/*/tpgt_1; do printf {int(whether)} > $group/enable; done", 60)


def set_up(node: Node) -> None:
    """Give the node an identity, the initiator's daemon, udev for the disks' nodes, and no session."""
    identity = hashlib.sha256(node.name.encode()).hexdigest()[:32]
    node.put("/etc/machine-id", f"{identity}\n")
    node.put("/etc/iscsi/initiatorname.iscsi", f"InitiatorName={initiator(node)}\n", 0o600)
    node.put("/etc/chap", f"{SECRET}\n", 0o600)
    node.do(
        "pgrep -x systemd-udevd > /dev/null || /lib/systemd/systemd-udevd -d; modprobe -a iscsi_tcp sd_mod; "
        "pgrep -x iscsid > /dev/null || iscsid; chmod 700 /etc/iscsi"
    )
    configure(node)


def configure(node: Node, **keys: str) -> None:
    """Configure the iscsi hooks: jail1 has LUN 0, jail2 LUN 1."""
    values = {
        "ISCSI_PORTAL": "10.0.0.1", "ISCSI_TARGET": TARGET, "ISCSI_SERIAL": SERIALS[0], "ISCSI_LOGIN_TIMEOUT": "25",
        "VOLUME_FSTYPE": "ext4", "FENCE": "scsi3", "TIMEOUT": str(TIMEOUT), "PROBE_TIMEOUT": "6", "BREAKER": "0",
        "LEASE": "ignore", **keys,
    }  # fmt: skip
    text = "".join(f'{key}="{value}"\n' for key, value in values.items())
    section = f'[jail2]\nISCSI_LUN="1"\nISCSI_SERIAL="{SERIALS[1]}"\n'
    node.put(f"{WORKDIR}/etc/env_start_iscsi.conf", text + section)


def hook(node: Node, verb: str, name: str = "jail1") -> Ended:
    """Run it as CBSD does; it must end within its TIMEOUT."""
    ended = node.hook(verb, name, "iscsi", TIMEOUT)
    assert ended.seconds < TIMEOUT + GRACE, ended
    return ended


def sessions(node: Node) -> list[str]:
    """Return the states of the sessions that the kernel has."""
    return node.run("cat /sys/class/iscsi_session/*/state 2> /dev/null").out.split()


def disk_of(node: Node, name: str = "jail1") -> str:
    """Return what is mounted as the data of an environment; "" if nothing is."""
    points = {point: source for source, point in node.mounted()}
    return points.get(f"{WORKDIR}/jails-data/{name}-data", "")


def shows(node: Node, name: str = "jail1") -> str:
    """Which LUN the data of an environment are, by what is in them."""
    return node.do(f"cat {WORKDIR}/jails-data/{name}-data/etc/name").strip()


def records(node: Node) -> str:
    """Return what our logins have left in the configuration of the initiator."""
    return node.do("find /etc/iscsi/nodes /etc/iscsi/ifaces -type f -printf '%m %p\\n' 2> /dev/null; true")


def clean(node: Node) -> None:
    """No session, no mount, whatever was there."""
    node.clean()
    node.run(
        # iscsiadm ends no session whose interface has no file.
        "for one in /sys/class/iscsi_session/session*; do [ -e $one ] || continue; name=$(cat $one/ifacename); "
        "printf 'iface.iscsi_ifacename = %s\\niface.transport_name = tcp\\n' $name > /etc/iscsi/ifaces/$name; "
        "iscsiadm -m session -r ${one##*session} -u; done; "
        "iscsiadm -m node -o delete; rm -rf /etc/iscsi/nodes/* /etc/iscsi/ifaces/*",
        60,
    )
