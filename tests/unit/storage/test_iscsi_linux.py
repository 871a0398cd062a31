"""iSCSI on Linux without a machine: sessions and block devices out of a recorded sysfs, records, command lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stubs import Stub, answer, done, planned

from envstart.engine import plan as plans
from envstart.errors import ConfigError, EnvstartError, TemporaryError, UnavailableError
from envstart.mounts.table import Entry, Table
from envstart.storage import (
    devices_linux,
    host_id,
    iscsi_freebsd,
    iscsi_linux,
    iscsi_record,
    reservation_freebsd,
    reservation_linux,
)
from envstart.storage.graph import Graph
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_session import normal_portal
from envstart.storage.reservation import Reservation

TARGET = "iqn.2026-11.lab:disk0"
MACHINE = "0123456789abcdef0123456789abcdef"


class Sysfs:
    """A tree as a Linux 6.1 shows it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.add("block/vda/dev", "254:0")
        self.add("block/vda/device/uevent", "")
        self.add("class/block/vda/dev", "254:0")

    def __str__(self) -> str:
        return str(self.top)

    def add(self, path: str, content: str | bytes) -> None:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def session(
        self, number: int, target: str = TARGET, address: str = "10.0.0.1", port: str = "3260", state: str = "LOGGED_IN"
    ) -> None:
        session = f"class/iscsi_session/session{number}"
        self.add(f"{session}/targetname", target)
        self.add(f"{session}/state", state)
        (self.top / session / "device" / f"connection{number}:0").mkdir(parents=True)
        connection = f"class/iscsi_connection/connection{number}:0"
        self.add(f"{connection}/persistent_address", address)
        self.add(f"{connection}/persistent_port", port)

    def lun(self, session: int, host: int, lun: int, disk: str = "") -> None:
        device = f"class/iscsi_session/session{session}/device/target{host}:0:0/{host}:0:0:{lun}"
        (self.top / device).mkdir(parents=True)
        if disk:
            (self.top / device / "block" / disk).mkdir(parents=True)

    def disk(self, name: str, number: str, serial: bytes = b"", parts: int = 0) -> None:
        self.add(f"block/{name}/dev", number)
        self.add(f"class/block/{name}/dev", number)
        self.add(f"block/{name}/device/state", "running")
        if serial:
            self.add(f"block/{name}/device/vpd_pg80", b"\0\x80\0" + bytes([len(serial)]) + serial)
        for part in range(1, parts + 1):
            major, _, minor = number.partition(":")
            self.add(f"block/{name}/{name}{part}/partition", str(part))
            self.add(f"class/block/{name}{part}/dev", f"{major}:{int(minor) + part}")

    def mapping(self, name: str, number: str, *below: str) -> None:
        self.add(f"block/{name}/dev", number)
        self.add(f"class/block/{name}/dev", number)
        for lower in below:
            (self.top / "class" / "block" / lower / "holders" / name).mkdir(parents=True)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "sys")


# Sessions.


def told(sysfs: Sysfs) -> list[tuple[Any, ...]]:
    return [(one.target, one.portal, one.state, one.disks, one.bus) for one in iscsi_linux.read(str(sysfs))]


def test_a_kernel_without_iscsi_has_no_sessions(sysfs: Sysfs) -> None:
    assert iscsi_linux.read(str(sysfs)) == []


def test_a_session_and_its_disks(sysfs: Sysfs) -> None:
    sysfs.session(4)
    for lun, disk in ((0, "sda"), (1, "sdb"), (16640, "sdc")):
        sysfs.lun(4, 2, lun, disk)
    # The well-known LUN of a controller is no disk.
    sysfs.lun(4, 2, 7)
    # 16640 is 0x4100: LUN 256 with the method of its address.
    assert told(sysfs) == [(TARGET, "10.0.0.1:3260", "Connected", {0: "sda", 1: "sdb", 256: "sdc"}, 2)]


@pytest.mark.parametrize(
    ("address", "port", "portal"),
    [
        ("10.0.0.1", "3260", "10.0.0.1"),
        ("fd00::1", "3260", "[fd00::1]:3260"),
        ("fd00::1", "3261", "[fd00::1]:3261"),
        ("store", "3260", "Store"),
    ],
)
def test_the_portal_is_the_one_that_was_configured(sysfs: Sysfs, address: str, port: str, portal: str) -> None:
    sysfs.session(1, address=address, port=port)
    (found,) = iscsi_linux.read(str(sysfs))
    assert normal_portal(found.portal) == normal_portal(portal)


@pytest.mark.parametrize(("state", "read"), [("FAILED", "Disconnected"), ("FREE", "FREE"), ("", "")])
def test_disks_of_a_session_that_is_down(sysfs: Sysfs, state: str, read: str) -> None:
    """They are there, and hang: no device for anybody, but its users are to be found."""
    sysfs.session(1, state=state)
    sysfs.lun(1, 0, 0, "sda")
    (found,) = iscsi_linux.read(str(sysfs))
    assert (found.state, found.disks) == (read, {})
    assert done(iscsi_linux.disks(Stub().host, found)) == {0: "sda"}


def test_a_session_that_comes_or_goes_is_left_out(sysfs: Sysfs) -> None:
    sysfs.session(1)
    sysfs.session(2, target="iqn.2026-11.lab:disk1")
    os.unlink(f"{sysfs}/class/iscsi_connection/connection1:0/persistent_port")
    assert [one.target for one in iscsi_linux.read(str(sysfs))] == ["iqn.2026-11.lab:disk1"]


# Records and command lines.


def session(tmp_path: Path, **keys: str) -> Session:
    made = {"ISCSI_PORTAL": "10.0.0.1", "ISCSI_TARGET": TARGET, "VOLUME_FSTYPE": "ext4", **keys}
    found = planned(tmp_path, "iscsi", **made).steps[0]
    assert isinstance(found, Session)
    return found


def linux(**answers: str) -> Stub:
    stub = Stub(answers)
    stub.platform = "linux"
    return stub


def rows(step: Session, portal: str = "10.0.0.1") -> dict[str, str]:
    text = done(iscsi_linux.settings(linux().host, step.lun.config, step.lun.target, portal))
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_the_least_record(tmp_path: Path) -> None:
    assert rows(session(tmp_path)) == {
        "node.name": TARGET,
        "node.startup": "manual",
        "iface.iscsi_ifacename": iscsi_record.interface(TARGET),
        "iface.transport_name": "tcp",
        "node.session.timeo.replacement_timeout": "-1",
        "node.session.initial_login_retry_max": "1",
        "node.session.auth.authmethod": "None",
        "node.conn[0].address": "10.0.0.1",
        "node.conn[0].port": "3260",
        "node.conn[0].timeo.login_timeout": "11",
        "node.conn[0].iscsi.HeaderDigest": "None",
        "node.conn[0].iscsi.DataDigest": "None",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are trusted with a secret")
def test_the_whole_record(tmp_path: Path) -> None:
    keys = {"ISCSI_INITIATOR": "iqn.2026-11.lab:node1", "ISCSI_HEADER_DIGEST": "CRC32C", "ISCSI_DATA_DIGEST": "CRC32C"}
    for name in ("CHAP", "MUTUAL"):
        file = tmp_path / name
        file.write_text(f'{name} #"secret" of many letters\n')
        file.chmod(0o600)
        keys.update({f"ISCSI_{name}_USER": f"{name} user", f"ISCSI_{name}_SECRET_FILE": str(file)})
    found = rows(session(tmp_path, ISCSI_PORTAL="[fd00::1]:3261", **keys), "[fd00::1]:3261")
    assert found["iface.initiatorname"] == "iqn.2026-11.lab:node1"
    assert found["node.conn[0].address"] == "fd00::1"
    assert found["node.conn[0].port"] == "3261"
    auth = {key.rpartition(".")[2]: value for key, value in found.items() if ".auth." in key}
    assert auth == {
        "authmethod": "CHAP",
        "username": "CHAP user",
        "password": 'CHAP #"secret" of many letters',
        "username_in": "MUTUAL user",
        "password_in": 'MUTUAL #"secret" of many letters',
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are trusted with a secret")
@pytest.mark.parametrize("content", ["", "\n", " swordfish", "swordfish ", "tab\tin it", "x" * 256])
def test_fault_91_a_secret_that_cannot_be_used_is_not_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        rows(session(tmp_path, ISCSI_CHAP_USER="u", ISCSI_CHAP_SECRET_FILE=str(file)))
    assert str(file) in str(caught.value)
    assert not content.strip() or content not in str(caught.value)


def test_iser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ISCSI_PROTOCOL=iSER"):
        rows(session(tmp_path, ISCSI_PROTOCOL="iSER"))


def test_a_record_is_for_root_alone_and_goes_without_a_trace(tmp_path: Path) -> None:
    etc = tmp_path / "iscsi"
    path = iscsi_record.path(TARGET, "10.0.0.1", str(etc))
    before = os.umask(0)
    try:
        for text in ("a = b\n", "a = c\n"):
            iscsi_record.write(path, text)
    finally:
        os.umask(before)
    assert Path(path).read_text() == "a = c\n"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    for _ in range(2):
        iscsi_record.tidy(TARGET, ["10.0.0.1", "10.0.0.2"], str(etc))
        assert list((etc / "nodes").iterdir()) == []


def test_records_that_are_not_ours_stay(tmp_path: Path) -> None:
    etc = tmp_path / "iscsi"
    path = iscsi_record.path(TARGET, "10.0.0.1", str(etc))
    iscsi_record.write(path, "")
    theirs = Path(path).with_name("default")
    theirs.write_text("")
    iscsi_record.tidy(TARGET, ["10.0.0.1"], str(etc))
    assert list(theirs.parent.iterdir()) == [theirs]


def test_a_place_that_takes_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "iscsi").write_text("")
    path = iscsi_record.path(TARGET, "10.0.0.1", str(tmp_path / "iscsi"))
    with pytest.raises(EnvstartError, match=f"cannot write {path}"):
        iscsi_record.write(path, "secret")
    iscsi_record.tidy(TARGET, ["10.0.0.1"], str(tmp_path / "iscsi"))


def test_two_targets_have_two_interfaces() -> None:
    assert iscsi_record.interface(TARGET) != iscsi_record.interface("iqn.2026-11.lab:disk1")


@pytest.mark.parametrize(
    ("portal", "word"),
    [("10.0.0.1", "10.0.0.1:3260"), ("Store:3261", "store:3261"), ("fd00::1", "[fd00::1]:3260")],
)
def test_the_command_of_a_login(portal: str, word: str) -> None:
    name = iscsi_record.interface(TARGET)
    assert iscsi_linux.login_argv(TARGET, portal) == (
        ("iscsiadm", "-m", "node", "-T", TARGET, "-p", word, "-I", name, "--login")
    )


def test_the_command_of_a_logout_names_the_session(sysfs: Sysfs) -> None:
    sysfs.session(12)
    (found,) = iscsi_linux.read(str(sysfs))
    assert iscsi_linux.logout_argv(found) == ("iscsiadm", "-m", "session", "-r", "12", "--logout")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("24 - iSCSI login failed due to authorization failure", "PermissionDeniedError"),
        ("20 - could not connect to iscsid", "UnavailableError"),
        ("19 - encountered non-retryable iSCSI login failure", "UnavailableError"),
        ("8 - connection timed out", ""),
        ("4 - encountered connection failure", ""),
    ],
)
def test_what_iscsiadm_says(words: str, kind: str) -> None:
    found = [row[1].__name__ for row in iscsi_linux.OF_LOGIN if row[0] in words]
    assert found == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("source", "disk", "whether"),
    [
        ("/dev/sda", "sda", True),
        ("/dev/sda12", "sda", True),
        ("/dev/sdaa", "sda", False),
        ("/dev/sdb", "sda", False),
        ("10.0.0.1:/sda", "sda", False),
    ],
)
def test_what_lies_on_a_disk(source: str, disk: str, whether: bool) -> None:
    assert iscsi_linux.is_on(source, disk) is whether


def test_each_system_has_its_own(tmp_path: Path) -> None:
    assert initiator_of(Stub().host) is iscsi_freebsd
    assert initiator_of(linux().host) is iscsi_linux
    assert session(tmp_path).expected(linux().host) == "/dev/sdN"


def test_multipath_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="ISCSI_MULTIPATH"):
        done(session(tmp_path, ISCSI_MULTIPATH="m").check(linux().host))


# Block devices.


def graph(sysfs: Sysfs, *mounts: Entry, proc: str = "/nonexistent") -> Graph:
    return devices_linux.graph_of(Table(mounts), str(sysfs), proc)


def users(found: Graph, device: str) -> list[tuple[str, str]]:
    provider = found.provider(device)
    assert provider is not None
    return [(user.geom.kind, user.geom.name) for user in found.users(provider)]


@pytest.mark.parametrize(
    ("serial", "read"), [(b"serial0\0", "serial0"), (b"  disk-1  ", "disk-1"), (b"", ""), (b"caf\xe9", "caf�")]
)
def test_fault_78_the_serial_number(sysfs: Sysfs, serial: bytes, read: str) -> None:
    sysfs.disk("sda", "8:0", serial)
    provider = graph(sysfs).provider("/dev/sda")
    assert provider is not None
    assert (provider.geom.kind, provider.config["ident"]) == ("DISK", read)


def test_who_uses_a_disk(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.disk("sda", "8:0", parts=2)
    sysfs.disk("sdb", "8:16")
    sysfs.disk("sdc", "8:32")
    sysfs.mapping("dm-0", "253:0", "sdb")
    (tmp_path / "swaps").write_text("Filename\tType\tSize\n/dev/sdc partition 1 0 -2\n")
    found = graph(
        sysfs,
        Entry("/dev/sda2", "/mnt", "ext4", device="8:2"),
        Entry("/dev/sda2", "/jail", "ext4", device="8:2", root="/data"),
        Entry("/dev/mapper/x", "/secret", "xfs", device="253:0"),
        proc=str(tmp_path),
    )
    # By way of a partition, of a mapping that lies on it, and for swapping.
    assert users(found, "/dev/sda") == [("ext4", "/mnt, /jail")]
    assert users(found, "/dev/sda1") == []
    assert users(found, "/dev/sdb") == [("dm", "dm-0")]
    assert users(found, "/dev/dm-0") == [("xfs", "/secret")]
    assert users(found, "/dev/sdc") == [("swap", "sdc")]
    assert users(found, "/dev/vda") == []
    assert found.provider("/dev/sdz") is None


def test_a_file_system_that_is_mounted_nowhere_here(sysfs: Sysfs) -> None:
    """It was unmounted while it was in use, or other processes alone see it."""
    sysfs.disk("sda", "8:0")
    (sysfs.top / "fs" / "ext4" / "sda").mkdir(parents=True)
    (sysfs.top / "fs" / "ext4" / "features").mkdir()
    assert users(graph(sysfs), "/dev/sda") == [("ext4", "a file system that is mounted nowhere here")]
    mounted = Entry("/dev/sda", "/mnt", "ext4", device="8:0")
    assert users(graph(sysfs, mounted), "/dev/sda") == [("ext4", "/mnt")]


def test_what_blocks_a_partition(sysfs: Sysfs) -> None:
    sysfs.disk("sda", "8:0", parts=1)
    found = graph(sysfs, Entry("/dev/sda", "/mnt", "ext4", device="8:0"))
    part = found.provider("/dev/sda1")
    assert part is not None
    assert [user.geom.name for user in found.blocking(part)] == ["/mnt"]


def test_a_device_by_a_link(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.disk("sda", "8:0")
    (tmp_path / "by-id").symlink_to("/dev/sda")
    provider = graph(sysfs).provider(str(tmp_path / "by-id"))
    assert provider is not None
    assert provider.name == "sda"


def test_processes_that_have_a_device_open(tmp_path: Path) -> None:
    device = str(tmp_path / "sda")
    Path(device).touch()
    child = os.fork()
    if not child:
        os.open(device, os.O_RDONLY)
        os.kill(os.getpid(), 19)
        os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        assert devices_linux.openers([device]) == [child]
        assert devices_linux.writers([device]) == []
        assert devices_linux.openers([f"{device}1"]) == []
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# Reservations.

READ_KEYS = """  PR generation=0x9, 2 registered reservation keys follow:
    0xabc1
    0xffffffffffffffff
"""
HELD = """  PR generation=0x1, Reservation follows:
    Key=0xabc1
    scope: LU_SCOPE,  type: Write Exclusive
"""
FULL = """  PR generation=0x2
    Key=0xabc2
      All target ports bit clear
      Relative port address: 0x1
      not reservation holder
      Transport Id of initiator:
        iSCSI world wide unique port id: iqn.2026-11.lab:node2,i,0x00023d000009
    Key=0xabc1
      All target ports bit clear
      Relative port address: 0x1
      << Reservation holder >>
      scope: LU_SCOPE,  type: Write Exclusive
      Transport Id of initiator:
        iSCSI world wide unique port id: iqn.2026-11.lab:node1,i,0x00023d000004
"""


def test_what_sg_persist_says() -> None:
    """As sg3-utils 1.46 says it of a LUN of Linux's own target."""
    assert reservation_linux.keys(READ_KEYS) == [0xABC1, (1 << 64) - 1]
    assert reservation_linux.keys("  PR generation=0x0, there are NO registered reservation keys\n") == []
    assert reservation_linux.holder(HELD) == 0xABC1
    assert reservation_linux.holder("  PR generation=0x0, there is NO reservation held\n") is None
    assert reservation_linux.holding_initiator(FULL) == "iqn.2026-11.lab:node1"
    assert reservation_linux.holding_initiator("  PR generation=0x1\n  No full status descriptors\n") == ""


@pytest.mark.parametrize(
    ("act", "freebsd", "linux"),
    [
        ("read keys", "-i read_keys", "--in --read-keys"),
        ("read holder", "-i read_reservation", "--in --read-reservation"),
        ("read all", "-i read_full_status", "--in --read-full-status"),
        ("register", "-o register_ignore -K 0xabc1", "--out --register-ignore --param-sark=0xabc1"),
        (
            "unregister",
            "-o register -k 0xabc1 -K 0",
            "--out --register --param-rk=0xabc1 --param-sark=0",
        ),
        ("reserve", "-o reserve -k 0xabc1 -T wr_ex", "--out --reserve --param-rk=0xabc1 --prout-type=1"),
        ("release", "-o release -k 0xabc1 -T wr_ex", "--out --release --param-rk=0xabc1 --prout-type=1"),
        (
            "preempt",
            "-o preempt -k 0xabc1 -K 0xabc2 -T wr_ex",
            "--out --preempt --param-rk=0xabc1 --param-sark=0xabc2 --prout-type=1",
        ),
    ],
)
def test_the_commands_of_reservations(act: str, freebsd: str, linux: str) -> None:
    assert reservation_freebsd.argv(act, "da0", 0xABC1, 0xABC2) == (
        "camcontrol",
        "persist",
        "da0",
        *freebsd.split(),
    )
    assert reservation_linux.argv(act, "sda", 0xABC1, 0xABC2) == (
        ("sg_persist", "--no-inquiry", *linux.split(), "/dev/sda")
    )


def test_the_state_of_a_reservation(tmp_path: Path, sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.session(1)
    sysfs.lun(1, 0, 0, "sda")
    sysfs.disk("sda", "8:0")
    (tmp_path / "machine-id").write_text(f"{MACHINE}\n")
    monkeypatch.setattr(host_id, "_MACHINE", str(tmp_path / "machine-id"))
    sessions, devices = iscsi_linux.read(str(sysfs)), graph(sysfs)
    monkeypatch.setattr(iscsi_linux, "read", lambda: sessions)
    monkeypatch.setattr(devices_linux, "graph_of", lambda table: devices)
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/sda" or exists(path))
    step = planned(
        tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.1", ISCSI_TARGET=TARGET, VOLUME_FSTYPE="ext4", FENCE="scsi3"
    ).steps[1]
    assert isinstance(step, Reservation)
    found = done(step.observe(linux(**{"sg_persist --no-inquiry --in --read-reservation /dev/sda": HELD}).host))
    assert (found.status, found.detail) == (plans.LOST, "the host with key 0xabc1 holds it")


# Who this host is.


def test_the_id_of_a_machine_does_not_leave_it(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    found = []
    for text in (MACHINE, MACHINE[::-1]):
        file.write_text(f"{text}\n")
        found.append(host_id._of_machine(str(file)))
    assert found[0] != found[1]
    assert MACHINE not in found
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)


@pytest.mark.parametrize("text", [None, "", "uninitialized\n", f"{MACHINE}0\n", "x" * 32])
def test_a_machine_without_an_id_is_told(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "machine-id"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TemporaryError, match="machine-id"):
        host_id._of_machine(str(file))


def test_answers_of_a_failed_login_are_short() -> None:
    said = (
        "iscsiadm: Could not login to [iface: x, target: y, portal: 10.0.0.1,3260].\n"
        "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)\n"
        "iscsiadm: Could not log into all portals\n"
    )
    result = answer("Logging in to [iface: x, target: y, portal: 10.0.0.1,3260]\n", said, 24)
    assert iscsi_linux.shortened(result).words == "24 - iSCSI login failed due to authorization failure"
    whole = answer("", "iscsiadm: No records found\n", 21)
    assert iscsi_linux.shortened(whole).words == "iscsiadm: No records found"
