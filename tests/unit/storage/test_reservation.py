"""Reservations without a machine: what camcontrol and sg_persist say, their command lines, this host's key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_text import Geom, Makes, Uses, text
from stubs import UUID, Stub, answer, done, linux, outputs, planned
from sysfs_tree import TARGET, Sysfs

from envstart.engine import plan as plans
from envstart.errors import ConfigError, TemporaryError
from envstart.mounts.table import Table
from envstart.storage import devices_linux, host_mark, iscsi_linux
from envstart.storage.reservation import Reservation, own_key
from envstart.storage.reserved_disk import ReservedDisk, disk_of

LIST = "iscsictl -L --libxo json"
MESH = "sysctl -n kern.geom.confxml"
DISK = Geom("DISK", "da0", (Makes("da0", {"ident": "disk0"}),))
LUNS = {"lun": [{"lun": 0, "device": "da0"}]}
SESSION = {"name": TARGET, "portal": "10.0.0.1", "state": "Connected", "devices": LUNS}
LISTED = json.dumps({"iscsictl": {"session": [SESSION]}})
KEY = 0xAC4BC84A001225A6
MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def devfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device of the mesh has its node."""
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path[:5] == "/dev/" or exists(path))


# What camcontrol says.


def persist(*answers: tuple[str, str]) -> dict[str, str]:
    return {f"camcontrol persist da0 {words}": output for words, output in answers}


def fenced(tmp_path: Path) -> Reservation:
    found = planned(tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.1", ISCSI_TARGET=TARGET, FENCE="scsi3").steps[1]
    assert isinstance(found, Reservation)
    return found


def disk(stub: Stub) -> ReservedDisk:
    return ReservedDisk(stub.host, "da0", "the disk")


def reading(keys: str, holder: str) -> Stub:
    return Stub(
        {
            LIST: LISTED,
            MESH: text(DISK),
            **persist(("-i read_keys", keys), ("-i read_reservation", holder)),
        }
    )


def told(what: str) -> list[str]:
    """Return the answers of a live disk that have these words and do not name who is connected."""
    found = []
    for output in outputs("iscsi-reservations", "camcontrol"):
        found += [f"PRgeneration: {part}" for part in output.split("PRgeneration: ")[1:]]
    return [part for part in found if what in part and "R_HOLDER" not in part]


HELD = told("Type: write_exclusive (0x1)")[0]
NOBODY = "PRgeneration: 0x3\nNo reservations.\n"
NO_KEYS = "PRgeneration: 0\n0 keys.\n"


def test_the_holder_and_the_keys_of_a_live_disk() -> None:
    reservations = told("Type:")
    assert len(reservations) == 4
    for output in reservations:
        assert done(disk(reading(NO_KEYS, output)).holder()) == 0xABC1
    found = [done(disk(reading(output, NOBODY)).keys()) for output in told(" key")]
    assert found == [[], [0xABC1], [0xABC1], [], [0xABC1]]


def test_nobody_holds_it() -> None:
    for output in (NOBODY, "PRgeneration: 0\n", ""):
        assert done(disk(reading(NO_KEYS, output)).holder()) is None


def test_several_keys() -> None:
    output = "PRgeneration: 0x9\n3 keys:\n0: 0xabc1\n1: 0xabc2\n10: 0xffffffffffffffff\n"
    assert done(disk(reading(output, NOBODY)).keys()) == [0xABC1, 0xABC2, (1 << 64) - 1]


def test_a_disk_that_does_not_know_reservations() -> None:
    stub = Stub({LIST: LISTED, MESH: text(DISK)})
    failed = answer(err="camcontrol: error sending PERSISTENT RESERVE IN\n", status=1)
    stub.answers["camcontrol persist da0 -i read_reservation"] = failed
    with pytest.raises(TemporaryError, match="support persistent reservations"):
        done(disk(stub).holder())


@pytest.mark.parametrize(("holder", "word"), [(NOBODY, plans.NOT_READY), (HELD, plans.LOST), (None, plans.READY)])
def test_the_state(tmp_path: Path, holder: str | None, word: str) -> None:
    own = done(own_key(Stub().host))
    mine = HELD.replace("0xabc1", f"{own:#x}")
    host = reading(NO_KEYS, mine if holder is None else holder).host
    found = done(fenced(tmp_path).observe(host))
    assert found.status == word
    if word == plans.LOST:
        assert "0xabc1" in found.detail
    if word == plans.NOT_READY:
        assert [argv[3:] for argv in done(fenced(tmp_path).commands(host, "start"))] == [
            ("-o", "register_ignore", "-K", f"{own:#x}"),
            ("-o", "reserve", "-k", f"{own:#x}", "-T", "wr_ex"),
        ]


@pytest.mark.parametrize(
    ("device", "disk"), [("/dev/da0", "da0"), ("/dev/da0p1", "da0"), ("/dev/gpt/x", "da0"), ("/dev/diskid/D", "da0")]
)
def test_the_disk_that_is_reserved(device: str, disk: str) -> None:
    mesh = text(
        DISK,
        Geom("PART", "da0", (Uses("da0"), Makes("da0p1"))),
        Geom("LABEL", "da0p1", (Uses("da0p1"), Makes("gpt/x"))),
        Geom("LABEL", "da0", (Uses("da0"), Makes("diskid/D"))),
    )
    assert done(disk_of(Stub({MESH: mesh}).host, device, "it")).name == disk


@pytest.mark.parametrize("device", ["/dev/md0", "/dev/da9", "/dev/da0.eli"])
def test_what_is_no_scsi_disk_is_not_reserved(device: str) -> None:
    mesh = text(DISK, Geom("MD", "md0", (Makes("md0"),)), Geom("ELI", "da0.eli", (Uses("da0"), Makes("da0.eli"))))
    with pytest.raises(ConfigError, match="no SCSI disk"):
        done(disk_of(Stub({MESH: mesh}).host, device, "it"))


# What sg_persist says.

READ_KEYS = """  PR generation=0x9, 2 registered reservation keys follow:
    0xabc1
    0xffffffffffffffff
"""
LINUX_HELD = """  PR generation=0x1, Reservation follows:
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


def sg_persist(words: str, output: str) -> ReservedDisk:
    return ReservedDisk(linux(**{f"sg_persist --no-inquiry --in {words} /dev/sda": output}).host, "sda", "the disk")


def test_what_sg_persist_says() -> None:
    """As sg3-utils 1.46 says it of a LUN of Linux's own target."""
    nothing = "  PR generation=0x0, there are NO registered reservation keys\n"
    assert done(sg_persist("--read-keys", READ_KEYS).keys()) == [0xABC1, (1 << 64) - 1]
    assert done(sg_persist("--read-keys", nothing).keys()) == []
    nobody = "  PR generation=0x0, there is NO reservation held\n"
    assert done(sg_persist("--read-reservation", LINUX_HELD).holder()) == 0xABC1
    assert done(sg_persist("--read-reservation", nobody).holder()) is None
    alone = "  PR generation=0x1\n  No full status descriptors\n"
    assert done(sg_persist("--read-full-status", FULL).holding_initiator()) == "iqn.2026-11.lab:node1"
    assert done(sg_persist("--read-full-status", alone).holding_initiator()) == ""


@pytest.mark.parametrize(
    ("act", "freebsd", "on_linux"),
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
def test_the_commands_of_reservations(act: str, freebsd: str, on_linux: str) -> None:
    argv = ReservedDisk(Stub().host, "da0", "the disk").argv(act, 0xABC1, 0xABC2)
    assert argv == ("camcontrol", "persist", "da0", *freebsd.split())
    argv = ReservedDisk(linux().host, "sda", "the disk").argv(act, 0xABC1, 0xABC2)
    assert argv == ("sg_persist", "--no-inquiry", *on_linux.split(), "/dev/sda")


def test_the_state_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs = Sysfs(tmp_path / "sys")
    sysfs.session(1)
    sysfs.lun(1, 0, 0, "sda")
    sysfs.disk("sda", "8:0")
    (tmp_path / "machine-id").write_text(f"{MACHINE}\n")
    monkeypatch.setattr(host_mark, "_MACHINE", str(tmp_path / "machine-id"))
    sessions, devices = iscsi_linux.read(str(sysfs)), devices_linux.graph_of(Table([]), str(sysfs), "/nonexistent")
    monkeypatch.setattr(iscsi_linux, "read", lambda: sessions)
    monkeypatch.setattr(devices_linux, "graph_of", lambda table: devices)
    step = planned(
        tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.1", ISCSI_TARGET=TARGET, VOLUME_FSTYPE="ext4", FENCE="scsi3"
    ).steps[1]
    assert isinstance(step, Reservation)
    found = done(step.observe(linux(**{"sg_persist --no-inquiry --in --read-reservation /dev/sda": LINUX_HELD}).host))
    assert (found.status, found.detail) == (plans.LOST, "the host with key 0xabc1 holds it")


# This host's key.


@pytest.mark.parametrize(
    ("uuid", "key"),
    [
        (UUID, KEY),
        (UUID.upper(), KEY),
        ("00000000-0000-0000-0000-000000000001", 1),
        ("00000000-0000-0001-0000-000000000000", 1),
        ("ffffffff-ffff-ffff-0000-000000000000", (1 << 64) - 1),
        # Two halves that are alike take each other away; 0 is no key.
        ("12345678-1234-1234-1234-567812341234", 1),
    ],
)
def test_the_host_id_is_folded_to_a_key(uuid: str, key: int) -> None:
    assert done(own_key(Stub({"sysctl -n kern.hostuuid": f"{uuid}\n"}).host)) == key


@given(st.uuids())
def test_every_host_has_a_key_that_fits(uuid: object) -> None:
    if str(uuid).strip("0-"):
        key = done(own_key(Stub({"sysctl -n kern.hostuuid": f"{uuid}\n"}).host))
        assert 1 <= key < 1 << 64
