"""What somebody did between the blocks of the transcripts about storage, on one of two machines."""

from __future__ import annotations

import os
import time

from . import tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .replay import Stage
    from .world import World

    Scene = Callable[[Stage], None]

NODES = ("node1", "node2")
DISKS = ("disk0", "disk1")
IQN = "iqn.2026-11.lab.storage:"
SERVER = PORTAL = "172.16.0.1"
NICK = """\
env1 {{
    TargetName = {iqn}disk0
    TargetAddress = {portal}
    {more}
}}
"""


def targets(stage: Stage) -> None:
    for name in DISKS:
        stage.storage.target(IQN + name)
        stage.storage.lun(IQN + name, serial=name)
    for node in NODES:
        stage.go_to(node)
        # `-w` of the transcripts waits a tenth of its time, and a disk is there with its session.
        stage.world.set(wait_second=0.1, scan_seconds=0.0)
    stage.go_to("node1")


def log_in(world: World) -> None:
    world.command("iscsictl", "-A", "-p", PORTAL, "-t", f"{IQN}disk0")
    until = time.monotonic() + 10
    while not any(session["luns"] for session in world.sessions()) and time.monotonic() < until:
        time.sleep(0.01)


def no_daemon(stage: Stage) -> None:
    targets(stage)
    stage.world.set(iscsid=False)


def nickname(stage: Stage) -> None:
    path = stage.root / "etc/iscsi.conf"
    path.write_text(NICK.format(iqn=IQN, portal=PORTAL, more=""))
    path.chmod(0o644)


def mounted_disk(stage: Stage) -> None:
    log_in(stage.world)
    stage.world.command("newfs", "-U", "/dev/da0")
    stage.world.command("mount", "/dev/da0", stage.path("/mnt/i"))


def silence(stage: Stage) -> None:
    stage.storage.freeze(PORTAL)


def voice(stage: Stage) -> None:
    stage.storage.up(PORTAL)


def secrets(stage: Stage) -> None:
    targets(stage)
    stage.storage.chap(f"{IQN}disk0", "user1", "secretsecret12")
    path = stage.root / "tmp/chap.conf"
    more = "chapIName = user1\n    chapSecret = secretsecret12"
    path.write_text(NICK.format(iqn=IQN, portal=PORTAL, more=more))
    path.chmod(0o600)


def two_initiators(stage: Stage) -> None:
    targets(stage)
    for node in reversed(NODES):
        stage.go_to(node)
        log_in(stage.world)


def on(node: str) -> Scene:
    return lambda stage: stage.go_to(node)


def resource(stage: Stage) -> None:
    worlds: list[World] = []
    for node in reversed(NODES):
        stage.go_to(node)
        worlds.insert(0, stage.world)
    stage.world.set(hastd=False)
    stage.storage.hast("env1", worlds)
    # The nodes find each other within ten seconds or so, which is too long for most of the blocks.
    stage.storage.cut("env1")


def hastd_runs(stage: Stage) -> None:
    stage.world.command("hastd")


def nodes_find_each_other(stage: Stage) -> None:
    stage.storage.join("env1")
    stage.go_to("node1")


def nobody_else(stage: Stage) -> None:
    stage.storage.cut("env1")
    stage.go_to("node2")


def named_server(stage: Stage) -> None:
    """One server under names with an IPv6 address, with both kinds, with an old one alone, and its address."""
    kinds = {"nas6": "inet6", "nas46": "both", "nas": "inet"}
    stage.world.set(resolver=kinds, resolver_seconds=tools.shorter(31))
    for name in (*kinds, "fd00:10::1"):
        stage.world.server(name)
        (stage.world.export(name, "/nfs") / "data/jail1").mkdir(parents=True)


def pool(stage: Stage) -> None:
    stage.world.dataset("tank")


def whole_kernel(stage: Stage) -> None:
    """Set what a kernel can have built in, the processes that use the root file system, and programs in /bin."""
    stage.world.set(hostuuid="00000000-0000-0000-0000-000000000000", hastd=False)
    stage.world.command("kldload", "fusefs", "nullfs", "geom_eli", "zfs")
    for how in ("rcx", "rcx", "rcxwa", "rcxwa", "rcxwa", "rcw"):
        stage.world.hold("/", os.getpid(), how)
    (stage.root / "bin").mkdir()
    (stage.root / "bin/sleep").symlink_to("/bin/sleep")


def four_directories(stage: Stage) -> None:
    """On jail1's lies devfs; jail2's and jail4's are shown by nullfs, and devfs lies on the first of these."""
    for number in range(1, 5):
        held = stage.world.export(SERVER, "/nfs") / "data" / f"jail{number}"
        for name in ("dev", "etc", "sub"):
            (held / name).mkdir(parents=True, exist_ok=True)
        (stage.root / f"usr/jails/jails-data/jail{number}-data").mkdir(exist_ok=True)
        stage.mount(f"jail{number}")
    for name in ("jroot", "jroot4", "z/own"):
        (stage.root / name).mkdir(parents=True)
    own = stage.path("/z/own")
    stage.world.base_mount("tank/skeleton/jail1", own, "zfs", ["local", "nfsv4acls"], own)
    stage.world.mount("devfs", f"{stage.data('jail1')}/dev", "devfs")
    stage.world.mount(stage.data("jail2"), stage.path("/jroot"), "nullfs")
    stage.world.mount("devfs", stage.path("/jroot/dev"), "devfs")
    stage.world.mount(stage.data("jail4"), stage.path("/jroot4"), "nullfs")


def server_dies(stage: Stage) -> None:
    stage.world.freeze(SERVER)


def server_returns(stage: Stage) -> None:
    stage.world.up(SERVER)


# A name that ends with three dots is the beginning of a block's name.
STORY: dict[str, dict[str, Scene]] = {
    "iscsi": {
        "iscsid not running": no_daemon,
        "by nickname, iscsi.conf readable by all": nickname,
        "sysctl kern.iscsi...": mounted_disk,
        "target went silent": silence,
        "sleep 15; iscsictl -L...": voice,
    },
    "iscsi-chap": {"no secret given": secrets},
    "iscsi-reservations": {
        "SCSI-3 persistent reservation, this node": two_initiators,
        "the second node against the reservation of the first": on("node2"),
        "camcontrol persist da0 -o release...": on("node1"),
        "camcontrol persist da0 -o register_ignore -K 0xabc2...": on("node2"),
        "dd if=/dev/zero...": on("node1"),
    },
    "hast": {
        "hastd not running": resource,
        "hastctl status; echo $?; hastctl status env1...": hastd_runs,
        "hastctl role secondary env1; echo $?; sleep 2...": on("node2"),
        "sleep 15; hastctl status...": nodes_find_each_other,
        "taken over by the other node": nobody_else,
    },
    "jail": {"jls; jls -h name...": whole_kernel},
    "nfs-names": {"mount_nfs -o nfsv4,retrycnt=1,nocover,proto=tcp nas6:...": named_server},
    "zfs": {"zfs list -H -o name,mountpoint...": pool},
    "nfs-dead-below": {
        "mount | grep jails...": four_directories,
        "devfs lies on it: umount -N of the NFS mount itself": server_dies,
        "the server is back": server_returns,
    },
}
