"""The simulated storage box: sessions that come late, disks that fall silent, reservations and roles of two hosts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.storage import PORTAL, Storage
from sim.world import World

IQN = "iqn.2026-11.lab.storage:"
DISK0, DISK1 = f"{IQN}disk0", f"{IQN}disk1"
# Seconds that nothing here should need, and that something which blocks is given to show it.
LONG, SHORT = 20.0, 0.3
CONF = """\
# a comment
env1 {
    targetname = iqn.2026-11.lab.storage:disk0
    TargetAddress = "172.16.0.1"; chapIName = user1
    chapSecret = "a secret 12" HeaderDigest = crc32c
    Protocol = iSCSI
}
other { TargetName = iqn.2026-11.lab.storage:disk1 TargetAddress = 172.16.0.1 port = 3260 }
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    box = Storage(tmp_path / "storage")
    for iqn, serial in ((DISK0, "disk0"), (DISK1, "disk1")):
        box.target(iqn)
        box.lun(iqn, serial=serial)
    return box


@pytest.fixture
def world(tmp_path: Path, storage: Storage) -> Iterator[World]:
    with World.create(tmp_path / "one", storage=storage, hostname="node1") as world:
        (world.path / "mnt").mkdir()
        yield world


@pytest.fixture
def peer(tmp_path: Path, storage: Storage) -> Iterator[World]:
    with World.create(tmp_path / "two", storage=storage, hostname="node2") as world:
        (world.path / "mnt").mkdir()
        yield world


def run(world: World, line: str, **kwargs: Any) -> tuple[int, str]:
    """Status and words of a command; {mnt} is the directory to mount on."""
    result = world.command(*(word.replace("{mnt}", f"{world.path}/mnt") for word in line.split()), **kwargs)
    return result.returncode, (result.stdout + result.stderr).strip()


def ok(world: World, line: str, **kwargs: Any) -> str:
    status, words = run(world, line, **kwargs)
    assert status == 0, words
    return words


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def listed(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(world, "iscsictl -L --libxo json"))["iscsictl"].get("session", [])
    return found


def status(world: World) -> str:
    """Return the status of the only session."""
    state: str = listed(world)[0]["state"]
    return state


def log_in(world: World, iqn: str = DISK0, portal: str = PORTAL) -> str:
    """Log in, and return the disk that comes with the session."""
    ok(world, f"iscsictl -A -p {portal} -t {iqn}")

    def luns() -> list[str]:
        found = [each for each in world.sessions() if (each["target"], each["portal"]) == (iqn, portal)]
        return list(found[0]["luns"].values())

    until(luns)
    return luns()[0]


def mounted(world: World) -> None:
    world.newfs(log_in(world))
    ok(world, "mount /dev/da0 {mnt}")


def begin(world: World, *argv: str) -> subprocess.Popen[bytes]:
    """Begin a command that is expected to block."""
    process = subprocess.Popen([str(world.path / "bin" / argv[0]), *argv[1:]], stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(SHORT)
    return process


def has(world: World, name: str) -> bool:
    """Tell whether there is a node /dev/NAME."""
    return name in world.state["nodes"] and (world.path / "dev" / name).exists()


def persist(world: World, words: str) -> tuple[int, str]:
    return run(world, f"camcontrol persist da0 {words}")


# Sessions


def test_an_added_session_is_only_registered(world: World) -> None:
    world.set(login_seconds=1000.0)
    assert ok(world, f"iscsictl -A -p {PORTAL} -t {DISK0}") == ""
    assert listed(world) == [{"name": DISK0, "portal": PORTAL, "state": "Waiting for iscsid(8)"}]
    world.set(login_seconds=0.0, scan_seconds=1000.0)
    assert listed(world)[0]["devices"] == {"lun": [], "scbus": -1, "bus": 0, "target": -1}
    assert status(world) == "Connected"
    world.set(scan_seconds=0.0)
    assert listed(world)[0]["devices"]["lun"] == [{"lun": 0, "device": "da0"}]
    assert ok(world, "diskinfo -s /dev/da0") == "disk0"


def test_a_session_comes_up_by_itself(world: World) -> None:
    assert log_in(world) == "da0"
    assert has(world, "da0")
    assert has(world, "diskid/DISK-disk0")


def test_nobody_logs_in_without_iscsid(world: World) -> None:
    assert ok(world, "service iscsid onestop").startswith("Stopping iscsid.")
    assert run(world, "service iscsid onestatus") == (1, "iscsid is not running.")
    ok(world, f"iscsictl -A -p {PORTAL} -t {DISK0}")
    time.sleep(SHORT)
    assert status(world) == "Waiting for iscsid(8)"
    assert ok(world, "service iscsid onestart") == "Starting iscsid."
    until(lambda: status(world) == "Connected")


def test_unit_numbers_follow_the_order_of_logins(world: World) -> None:
    assert [log_in(world, DISK1), log_in(world, DISK0)] == ["da0", "da1"]
    ok(world, f"iscsictl -R -t {DISK1}")
    assert not has(world, "da0")
    assert log_in(world, DISK1, f"{PORTAL}:3260") == "da0"


def test_a_portal_with_its_port_is_another_session_to_the_same_lun(world: World) -> None:
    assert [log_in(world), log_in(world, portal=f"{PORTAL}:3260")] == ["da0", "da1"]
    assert run(world, f"iscsictl -A -p {PORTAL} -t {DISK0}") == (1, "iscsictl: ISCSISADD: Device busy")
    assert run(world, "iscsictl -R -p 172.16.0.2") == (1, "iscsictl: ISCSISREMOVE: No such process")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda storage: storage.chap(DISK0, "user1", "secretsecret12"), "Unsupported AuthMethod"),
        (lambda storage: storage.remove_target(DISK0), "Not found"),
        (lambda storage: storage.refuse(), "Connection refused"),
        (lambda storage: storage.down(), "Host is down"),
        (lambda storage: storage.target(DISK0, initiators=["iqn.other"]), "Authorization failure"),
    ],
)
def test_a_failed_login_is_tried_again_only_after_the_time_out(
    world: World, storage: Storage, prepare: Callable[[Storage], None], expected: str
) -> None:
    prepare(storage)
    ok(world, f"iscsictl -A -p {PORTAL} -t {DISK0}")
    until(lambda: status(world) == expected)
    storage.up()
    storage.target(DISK0)
    storage.lun(DISK0)
    assert status(world) == expected
    ok(world, "iscsictl -R -a")
    assert log_in(world) == "da0"


def test_a_silent_portal_ends_in_a_time_out(world: World, storage: Storage) -> None:
    storage.freeze()
    world.set(login_timeout=0.6)
    ok(world, f"iscsictl -A -p {PORTAL} -t {DISK0}")
    until(lambda: status(world) == "Operation timed out")
    storage.up()
    until(lambda: status(world) == "Connected")


def test_chap(world: World, storage: Storage) -> None:
    storage.chap(DISK0, "user1", "secretsecret12", "mutual", "mutualmutual12")
    for user, secret, expected in (
        ("user1", "wrong", "Authentication failure"),
        ("user1", "secretsecret12", "Connected"),
    ):
        ok(world, f"iscsictl -A -p {PORTAL} -t {DISK0} -u {user} -s {secret}")
        until(lambda: status(world) == expected)  # noqa: B023
        ok(world, "iscsictl -R -a")
    conf = world.path / "iscsi.conf"
    text = "n { TargetName = %s TargetAddress = %s chapIName = user1 chapSecret = secretsecret12 %s }"
    for more, expected in (
        ("tgtChapName = mutual tgtChapSecret = wrong", "Mutual CHAP failed"),
        ("tgtChapName = mutual tgtChapSecret = mutualmutual12", "Connected"),
    ):
        conf.write_text(text % (DISK0, PORTAL, more))
        conf.chmod(0o600)
        ok(world, f"iscsictl -A -n n -c {conf}")
        until(lambda: status(world) == expected)  # noqa: B023
        ok(world, f"iscsictl -R -n n -c {conf}")


def test_configuration_on_standard_input(world: World, storage: Storage) -> None:
    storage.chap(DISK0, "user1", "a secret 12")
    result = subprocess.run(
        [str(world.path / "bin/iscsictl"), "-A", "-c", "/dev/stdin", "-n", "env1"],
        input=CONF, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stderr.splitlines() == [
        "iscsictl: /dev/stdin is world-writable",
        "iscsictl: obsolete statement ignored at line 8",
    ]
    session = world.sessions()[0]
    assert session["known"] == {"user": "user1", "secret": "a secret 12", "header_digest": "CRC32C"}
    until(lambda: status(world) == "Connected")
    assert "Secret:                   a secret 12\n" in ok(world, "iscsictl -Lv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n { TargetName = a\n TargetName = b }", "duplicated TargetName at line 2"),
        ("port { TargetName = a }", "error in configuration file at line 1 near 'port': syntax error"),
        ("n {\n colour = red }", "error in configuration file at line 2 near 'colour': syntax error"),
        ("n { TargetName = iqn.a }", 'missing TargetAddress for target "n"'),
        ("n { TargetName = iqn.a TargetAddress = b chapIName = c }", 'missing chapSecret for target "n"'),
        ("m { TargetName = iqn.a TargetAddress = b }", "target n not found in {conf}"),
    ],
)
def test_configurations_that_are_refused(world: World, text: str, words: str) -> None:
    conf = world.path / "iscsi.conf"
    conf.write_text(text)
    conf.chmod(0o600)
    assert run(world, f"iscsictl -A -n n -c {conf}") == (1, "iscsictl: " + words.replace("{conf}", str(conf)))


def test_without_the_module_there_is_no_iscsi(world: World) -> None:
    world.set(no_iscsi_module=True)
    assert run(world, "iscsictl -L") == (1, "iscsictl: failed to open /dev/iscsi: No such file or directory")
    world.set(no_iscsi_module=False)
    assert run(world, "sysctl -n kern.iscsi.login_timeout")[0] == 1
    ok(world, "iscsictl -L")
    assert ok(world, "sysctl -n kern.iscsi.login_timeout") == "60"


def test_a_duplicate_and_a_wait_that_runs_out_end_with_zero(world: World, storage: Storage) -> None:
    world.set(wait_second=0.01)
    storage.freeze()
    assert run(world, f"iscsictl -A -w 5 -p {PORTAL} -t {DISK0}") == (1, "")
    assert run(world, f"iscsictl -A -w 5 -p {PORTAL} -t {DISK0}") == (0, "iscsictl: ISCSISADD: Device busy")


# Disks that fall silent


def test_everything_about_a_silent_disk_blocks(world: World, storage: Storage) -> None:
    mounted(world)
    node = str(world.path / "mnt")
    storage.freeze()
    assert status(world) == "Disconnected"
    assert ok(world, "mount").endswith(f"/dev/da0 on {node} (ufs, local, soft-updates)")
    blocked = [
        begin(world, *argv)
        for argv in (
            ("umount", node),
            ("diskinfo", "/dev/da0"),
            ("fstyp", "/dev/da0"),
            ("camcontrol", "inquiry", "da0"),
        )
    ]
    storage.up()
    assert [process.wait(LONG) for process in blocked] == [0, 0, 0, 0]
    assert world.table() == []
    assert status(world) == "Connected"


def test_a_logout_fails_what_waits(world: World, storage: Storage) -> None:
    mounted(world)
    storage.freeze()
    process = begin(world, "umount", "-f", str(world.path / "mnt"))
    ok(world, f"iscsictl -R -t {DISK0}")
    assert process.wait(LONG) == 0
    assert world.table() == []


def test_a_process_of_the_machine_blocks_as_well(world: World, storage: Storage) -> None:
    mounted(world)
    (world.real(world.path / "mnt") / "file").touch()
    script = "import sys, os; from sim import shim; shim.install(sys.argv[1]); print(sorted(os.listdir(sys.argv[2])))"
    bare = "import sys; from sim import shim; shim.install(sys.argv[1]); print(len(open('/dev/da0', 'rb').read(9)))"
    storage.freeze()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(world.path), str(world.path / "mnt")],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1],
        )
        for code in (script, bare)
    ]  # fmt: skip
    for process in processes:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(SHORT)
    storage.up()
    assert [process.communicate(timeout=LONG)[0].strip() for process in processes] == ["['.snap', 'file']", "9"]


def test_a_logout_under_a_mount_leaves_a_dead_file_system(world: World) -> None:
    mounted(world)
    ok(world, "iscsictl -R -a")
    assert not has(world, "da0")
    assert len(world.table()) == 1
    assert ok(world, "umount {mnt}") == ""


def test_a_lost_connection_can_take_the_devices_with_it(world: World, storage: Storage) -> None:
    mounted(world)
    assert ok(world, "sysctl kern.iscsi.fail_on_disconnection=1") == "kern.iscsi.fail_on_disconnection: 0 -> 1"
    storage.freeze()
    assert world.table() == []
    assert not has(world, "da0")
    storage.up()
    until(lambda: listed(world)[0].get("devices", {}).get("lun"))


def test_a_silence_is_noticed_only_by_the_pings(world: World, storage: Storage) -> None:
    mounted(world)
    world.set(ping_seconds=1000.0)
    storage.freeze()
    assert status(world) == "Connected"
    process = begin(world, "fstyp", "/dev/da0")
    world.set(ping_seconds=0.0)
    assert status(world) == "Disconnected"
    storage.up()
    assert process.wait(LONG) == 0


def test_a_lun_that_was_added_is_found_by_a_rescan(world: World, storage: Storage) -> None:
    log_in(world)
    storage.lun(DISK0, 1, serial="second")
    assert len(listed(world)[0]["devices"]["lun"]) == 1
    assert ok(world, "camcontrol rescan 7") == "Re-scan of bus 7 was successful"
    assert listed(world)[0]["devices"]["lun"][1] == {"lun": 1, "device": "da1"}
    assert "<LAB CTLDISK 0001>                 at scbus7 target 0 lun 1 (da1,pass2)" in ok(world, "camcontrol devlist")


def test_a_multipath_waits_for_its_path_unless_the_sysctl_takes_it_away(world: World, storage: Storage) -> None:
    portals = (PORTAL, "172.16.0.2")
    storage.target(DISK0, portals)
    storage.lun(DISK0)
    for portal in portals:
        log_in(world, portal=portal)
    ok(world, "gmultipath label -A m1 da0 da1")
    world.newfs("multipath/m1")
    ok(world, "mount /dev/multipath/m1 {mnt}")
    storage.freeze()
    process = begin(world, "fstyp", "/dev/multipath/m1")
    storage.up()
    assert process.wait(LONG) == 0
    until(lambda: all(session["connected"] for session in world.sessions()))
    ok(world, "sysctl kern.iscsi.fail_on_disconnection=1")
    storage.freeze()
    assert ok(world, "fstyp /dev/multipath/m1") == "ufs"
    assert len(world.table()) == 1


# Reservations


def test_a_reservation_keeps_the_other_host_from_writing(world: World, peer: World, storage: Storage) -> None:
    world.newfs(log_in(world))
    log_in(peer)
    for host, key in ((world, "0xa"), (peer, "0xb")):
        assert persist(host, f"-o register_ignore -K {key}") == (0, "")
    assert persist(world, "-o reserve -k 0xa -T wr_ex") == (0, "")
    assert storage.reservation(DISK0) == {"holder": 0xA, "type": "write_exclusive", "keys": [0xA, 0xB]}
    assert persist(peer, "-o reserve -k 0xb -T wr_ex") == (1, "")
    assert run(peer, "mount /dev/da0 {mnt}") == (1, "mount: /dev/da0: Input/output error")
    ok(peer, "mount -o ro /dev/da0 {mnt}")
    ok(world, "mount /dev/da0 {mnt}")
    assert storage.writers(DISK0) == ["node1"]
    ok(peer, "umount {mnt}")
    assert persist(peer, "-o preempt -k 0xb -K 0xa -T wr_ex") == (0, "")
    assert storage.writers(DISK0) == []
    assert run(world, "umount {mnt}")[1].endswith("Input/output error")
    assert run(peer, "mount /dev/da0 {mnt}")[0] == 0
    assert storage.writers(DISK0) == ["node2"]


def test_without_a_reservation_both_write(world: World, peer: World, storage: Storage) -> None:
    mounted(world)
    log_in(peer)
    ok(peer, "mount /dev/da0 {mnt}")
    assert storage.writers(DISK0) == ["node1", "node2"]


def test_fsck_cannot_write_on_what_another_host_has_reserved(world: World, peer: World) -> None:
    world.newfs(log_in(world), clean=False)
    log_in(peer)
    persist(world, "-o register_ignore -K 0xa")
    persist(world, "-o reserve -k 0xa -T wr_ex")
    ending, words = run(peer, "fsck_ffs -p /dev/da0")
    assert (ending, words.splitlines()[-1]) == (8, "/dev/da0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
    assert run(world, "fsck_ffs -p /dev/da0")[0] == 0


def test_what_lies_on_a_fenced_disk_is_fenced(world: World, peer: World) -> None:
    world.geli_init(log_in(world), keys=[b"key"])
    world.newfs("da0.eli")
    log_in(peer)
    (peer.path / "key").write_bytes(b"key")
    persist(world, "-o register_ignore -K 0xa")
    persist(world, "-o reserve -k 0xa -T wr_ex")
    ok(peer, f"geli attach -p -k {peer.path}/key da0")
    assert run(peer, "mount /dev/da0.eli {mnt}") == (1, "mount: /dev/da0.eli: Input/output error")


def test_a_clear_leaves_an_attention_that_eats_the_next_command(world: World, peer: World, storage: Storage) -> None:
    for host, key in ((world, "0xa"), (peer, "0xb")):
        log_in(host)
        persist(host, f"-o register_ignore -K {key}")
    assert persist(world, "-o clear -k 0xa") == (0, "")
    ending, words = persist(peer, "-o register_ignore -K 0xb -v")
    assert ending == 1
    assert words.endswith("SCSI sense: UNIT ATTENTION asc:2a,3 (Reservations preempted)")
    assert storage.reservation(DISK0)["keys"] == []
    assert persist(peer, "-o register_ignore -K 0xb") == (0, "")
    assert storage.reservation(DISK0)["keys"] == [0xB]


def test_a_new_login_is_a_new_nexus_and_takes_over_from_the_old_one(world: World, storage: Storage) -> None:
    log_in(world)
    persist(world, "-o register_ignore -K 0xa")
    persist(world, "-o reserve -k 0xa -T wr_ex")
    ok(world, "iscsictl -R -a")
    world.newfs(log_in(world))
    assert run(world, "mount /dev/da0 {mnt}")[0] == 1
    persist(world, "-o register_ignore -K 0xa")
    assert storage.reservation(DISK0)["keys"] == [0xA, 0xA]
    assert persist(world, "-o preempt -k 0xa -K 0xa -T wr_ex") == (0, "")
    assert storage.reservation(DISK0)["keys"] == [0xA]
    ok(world, "mount /dev/da0 {mnt}")


def test_a_reconnected_session_keeps_its_reservation(world: World, storage: Storage) -> None:
    mounted(world)
    persist(world, "-o register_ignore -K 0xa")
    persist(world, "-o reserve -k 0xa -T wr_ex")
    storage.freeze()
    storage.up()
    until(lambda: status(world) == "Connected")
    assert storage.writers(DISK0) == ["node1"]


def test_registrants_write_where_the_type_says_so(world: World, peer: World, storage: Storage) -> None:
    for host in (world, peer):
        log_in(host)
        persist(host, "-o register_ignore -K 0x1")
    world.newfs("da0")
    persist(world, "-o reserve -k 0x1 -T wr_ex_ro")
    ok(peer, "mount /dev/da0 {mnt}")
    assert persist(world, "-o register_ignore -K 0") == (0, "")
    assert storage.reservation(DISK0) == {"holder": None, "type": "", "keys": [1]}
    assert persist(world, "-i read_reservation") == (0, "No reservations.")


def test_command_lines_that_camcontrol_refuses(world: World) -> None:
    log_in(world)
    assert persist(world, "-v") == (1, "camcontrol: scsipersist: you must specify one of -i or -o")
    assert persist(world, "-i read_")[1] == "camcontrol: scsipersist: ambiguous in option read_"
    assert persist(world, "-o release -k what -T wr_ex")[1] == "camcontrol: scsipersist: invalid key argument what"
    assert run(world, "camcontrol persist da9 -i read_keys")[1].startswith(
        "camcontrol: cam_lookup_pass: CAMGETPASSTHRU ioctl failed"
    )


# HAST


def roles(storage: Storage, *worlds: World) -> list[str]:
    return [storage.role("env1", world) for world in worlds]


def told(world: World) -> list[str]:
    """Status and role as hastctl shows them."""
    return ok(world, "hastctl status env1").splitlines()[1].split()[1:3]


def test_the_device_of_a_primary_comes_later(world: World, storage: Storage) -> None:
    storage.hast("env1", [world])
    world.set(hast_seconds=1000.0)
    ok(world, "hastctl role primary env1")
    assert told(world) == ["degraded", "primary"]
    assert not has(world, "hast/env1")
    world.set(hast_seconds=0.0)
    assert has(world, "hast/env1")


@pytest.mark.parametrize("created", [True, False])
def test_a_primary_may_fall_back_in_silence(world: World, storage: Storage, *, created: bool) -> None:
    storage.hast("env1", [world], created=created)
    world.set(hast_falls_back=created)
    assert ok(world, "hastctl role primary env1") == ""
    until(lambda: told(world) == ["-", "init"])
    assert not has(world, "hast/env1")


def test_a_secondary_has_a_worker_while_the_other_is_primary(world: World, peer: World, storage: Storage) -> None:
    storage.hast("env1", [world, peer])
    ok(peer, "hastctl role secondary env1")
    assert told(peer) == ["-", "secondary"]
    assert "extentsize: 0 (0B)" in ok(peer, "hastctl list env1")
    ok(world, "hastctl role primary env1")
    until(lambda: told(peer) == ["complete", "secondary"])
    until(lambda: told(world) == ["complete", "primary"])
    assert "workerpid: " in ok(peer, "hastctl list env1")
    storage.cut("env1")
    assert (told(world), told(peer)) == (["degraded", "primary"], ["-", "secondary"])
    storage.join("env1")
    until(lambda: told(peer) == ["complete", "secondary"])
    storage.hast_down(world)
    assert told(peer) == ["-", "secondary"]


def test_leaving_primary_takes_the_device_from_under_the_mount(world: World, storage: Storage) -> None:
    storage.hast("env1", [world])
    ok(world, "hastctl role primary env1")
    until(lambda: has(world, "hast/env1"))
    world.newfs("hast/env1")
    ok(world, "mount /dev/hast/env1 {mnt}")
    assert ok(world, "hastctl role secondary env1") == ""
    assert not has(world, "hast")
    assert len(world.table()) == 1
    ok(world, "umount {mnt}")


def test_two_primaries(world: World, peer: World, storage: Storage) -> None:
    image = storage.hast("env1", [world, peer])
    world.newfs(image)
    assert storage.split_brain("env1") == ""
    for host in (world, peer):
        ok(host, "hastctl role primary env1")
        until(lambda: has(host, "hast/env1"))  # noqa: B023
    assert storage.split_brain("env1") == "both primary"
    for host in (world, peer):
        ok(host, "mount /dev/hast/env1 {mnt}")
    assert storage.split_brain("env1") == "both writing"
    ok(peer, "hastctl role secondary env1")
    time.sleep(SHORT)
    assert told(world) == ["degraded", "primary"]


def test_hastctl_without_hastd(world: World, storage: Storage) -> None:
    assert run(world, "hastctl status")[0] == 72
    storage.hast("env1", [world])
    ok(world, "hastctl role primary env1")
    until(lambda: has(world, "hast/env1"))
    ok(world, "service hastd onestop")
    assert not has(world, "hast/env1")
    assert run(world, "hastctl status") == (
        71,
        "[ERROR] Unable to connect to hastd via /var/run/hastctl: No such file or directory.",
    )
    ok(world, "service hastd onestart")
    assert roles(storage, world) == ["init"]
    assert run(world, "hastctl role primary nosuch") == (1, "[WARNING] [nosuch] Received error 1 from hastd.")
    assert run(world, "hastctl role bogus env1")[0] == 64


def test_services(world: World) -> None:
    assert ok(world, "service iscsid status") == "iscsid is running as pid 40."
    assert run(world, "service iscsid onestart") == (1, "iscsid already running? (pid=40).")
    assert run(world, "service ctld onestatus") == (1, "ctld is not running.")
    status_, words = run(world, "service ctld status")
    assert (status_, words.partition(".")[0]) == (1, "Cannot 'status' ctld")
    assert run(world, "service nosuch onestatus")[0] == 1
