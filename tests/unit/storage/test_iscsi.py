"""iSCSI without a machine: keys, the plan, the configuration of one login, what iscsictl and camcontrol say."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_text import Geom, Makes, Uses, text
from stubs import UUID, WORKDIR, Stub, answer, done, outputs, planned

from envstart.backends import iscsi
from envstart.config import schema
from envstart.engine import plan as plans
from envstart.engine.plan import Plan, stages
from envstart.errors import ConfigError, PermissionDeniedError, TemporaryError, UnavailableError
from envstart.mounts.table import Entry
from envstart.storage import host_id, host_mark, iscsi_freebsd
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_freebsd import parse
from envstart.storage.iscsi_session import SessionInfo, normal_portal
from envstart.storage.reservation import Reservation, own_key
from envstart.storage.reserved_disk import ReservedDisk, disk_of

DISK0 = "iqn.2026-11.lab.storage:disk0"
LIST = "iscsictl -L --libxo json"
MESH = "sysctl -n kern.geom.confxml"
DISK = Geom("DISK", "da0", (Makes("da0", {"ident": "disk0"}),))
KEY = 0xAC4BC84A001225A6


@pytest.fixture(autouse=True)
def devfs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every device of the mesh has its node, but those in this set."""
    late: set[str] = set()
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path not in late and (path[:5] == "/dev/" or exists(path)))
    return late


def plan(tmp_path: Path, name: str = "env1", **keys: str) -> Plan:
    return planned(tmp_path, "iscsi", name, **{"ISCSI_PORTAL": "172.16.0.1", "ISCSI_TARGET": DISK0, **keys})


def session(tmp_path: Path, **keys: str) -> Session:
    found = plan(tmp_path, **keys).steps[0]
    assert isinstance(found, Session)
    return found


def listed(*rows: dict[str, Any]) -> str:
    return json.dumps({"iscsictl": {"session": list(rows)}})


def row(
    device: str = "da0",
    name: str = DISK0,
    portal: str = "172.16.0.1",
    state: str = "Connected",
    lun: int = 0,
    scbus: int = 7,
) -> dict[str, Any]:
    """A session as tests/transcripts/iscsi.txt has it."""
    devices = {"lun": [{"lun": lun, "device": device}], "scbus": scbus, "bus": 0, "target": 0}
    return {"name": name, "portal": portal, "state": state, "devices": devices}


# Keys.


@pytest.mark.parametrize(
    ("parse", "value", "read"),
    [
        (iscsi.iscsi_name, DISK0, DISK0),
        (iscsi.iscsi_name, "eui.02004567A425678D", "eui.02004567A425678D"),
        (iscsi.iscsi_name, "naa.52004567BA64678D", "naa.52004567BA64678D"),
        (iscsi.portals, "172.16.0.1", ("172.16.0.1",)),
        (iscsi.portals, " 172.16.0.1  172.16.0.2:3261\tstore ", ("172.16.0.1", "172.16.0.2:3261", "store")),
        (iscsi.portals, "172.16.0.1 172.16.0.1:3260", ("172.16.0.1",)),
        (iscsi.portals, "Store store:3260", ("Store",)),
        (iscsi.portals, "[fd00::1]:3260 fd00::1 [fd00::1]", ("[fd00::1]:3260",)),
        (iscsi.portals, "fe80::1%em0", ("fe80::1%em0",)),
        (iscsi.user, "host 1, of the lab", "host 1, of the lab"),
        (schema.identifier, "DISK-disk0_1.a", "DISK-disk0_1.a"),
    ],
)
def test_read(parse: Callable[[str], Any], value: str, read: object) -> None:
    assert parse(value) == read


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (iscsi.iscsi_name, ""),
        (iscsi.iscsi_name, "disk0"),
        (iscsi.iscsi_name, "iqn.2026-11.lab storage:x"),
        (iscsi.iscsi_name, 'iqn.2026-11.lab:x"'),
        (iscsi.iscsi_name, "iqn.2026-11.lab:x\n"),
        (iscsi.iscsi_name, "iqn.2026-11.lab:{jname}"),
        (iscsi.iscsi_name, "iqn.2026-11.lab:é"),
        (iscsi.iscsi_name, "iqn." + "x" * 220),
        (iscsi.portals, "-p"),
        (iscsi.portals, "store/lun"),
        (iscsi.portals, "user@store"),
        (iscsi.portals, "a,b"),
        (iscsi.portals, "x" * 47),
        (iscsi.portals, 'a"b'),
        (iscsi.user, 'a"b'),
        (iscsi.user, "a\nb"),
        (iscsi.user, "é"),
        (iscsi.user, "x" * 224),
        (schema.identifier, "-f"),
        (schema.identifier, "../da0"),
        (schema.identifier, "p1/x"),
        (schema.identifier, "p 1"),
    ],
)
def test_fault_83_refused(parse: Callable[[str], Any], value: str) -> None:
    with pytest.raises(ValueError):
        parse(value)


@given(st.sampled_from([iscsi.iscsi_name, iscsi.portals, iscsi.user, schema.identifier]), st.text())
def test_fault_83_what_a_parser_lets_pass_can_stand_between_quotes(parse: Callable[[str], Any], value: str) -> None:
    with contextlib.suppress(ValueError):
        found = parse(value)
        assert not set('"\n\r\0') & set("".join(found))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.0.0.1", "10.0.0.1:3260"),
        ("Store.Lab", "store.lab:3260"),
        ("[FD00::1]:3260", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
    ],
)
def test_fault_82_one_portal_in_two_spellings(one: str, other: str) -> None:
    assert normal_portal(one) == normal_portal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.0.0.1", "10.0.0.1:3261"),
        ("10.0.0.1:32600", "10.0.0.1"),
        ("fd00::3260", "fd00:"),
        ("fd00::1:3260", "fd00::1"),
        ("[fd00::1]:3261", "fd00::1"),
    ],
)
def test_two_portals(one: str, other: str) -> None:
    assert normal_portal(one) != normal_portal(other)


# The plan.


def names(found: Plan) -> list[list[str]]:
    return [[step.name for step in group] for group in stages(found.steps)]


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ({}, [["session"], ["fsck"], ["data"], ["owner"]]),
        ({"VOLUME_OPTIONS": "ro"}, [["session"], ["fsck"], ["data"]]),
        ({"FENCE": "scsi3"}, [["session"], ["reservation"], ["fsck"], ["data"], ["owner"]]),
        ({"FENCE": "scsi3", "VOLUME_OPTIONS": "ro"}, [["session"], ["fsck"], ["data"]]),
        ({"GELI_KEYFILE": "/k"}, [["session"], ["geli"], ["fsck"], ["data"], ["owner"]]),
        (
            {"FENCE": "scsi3", "GELI_PASSFILE": "/p", "VOLUME_LAYOUT": "tree"},
            [["session"], ["reservation"], ["geli"], ["fsck"], ["volume"], ["owner", "system", "fstab", "data"]],
        ),
        (
            {"VOLUME_LAYOUT": "tree"},
            [["session"], ["fsck"], ["volume"], ["owner", "system", "fstab", "data"]],
        ),
        ({"VOLUME_FSTYPE": "ext4"}, [["session"], ["fsck"], ["data"], ["owner"]]),
    ],
)
def test_the_order_of_the_steps(tmp_path: Path, keys: dict[str, str], order: list[list[str]]) -> None:
    assert names(plan(tmp_path, **keys)) == order


def test_the_name_of_the_environment_is_filled_in(tmp_path: Path) -> None:
    found = plan(tmp_path, "j7", ISCSI_TARGET="iqn.2026-11.lab.storage:{name}").steps[0]
    assert found.source == "172.16.0.1 iqn.2026-11.lab.storage:j7 lun 0"


def test_an_underscore_is_let_pass(tmp_path: Path) -> None:
    """RFC 3720 knows none, but ctld(8) takes targets that have one."""
    assert plan(tmp_path, "a_b", ISCSI_TARGET="iqn.2026-11.lab:{name}").steps[0].source.endswith(":a_b lun 0")


@pytest.mark.parametrize("name", ["a@b", "a%b"])
def test_a_name_that_cannot_be_in_a_target(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f":{name}'.*name it in a section"):
        plan(tmp_path, name, ISCSI_TARGET="iqn.2026-11.lab:{name}")


def test_all_environments_of_a_target_share_a_lock(tmp_path: Path) -> None:
    one, other = plan(tmp_path, "j1"), plan(tmp_path, "j2", ISCSI_LUN="1")
    assert one.steps[0].resource == other.steps[0].resource == f"iscsi {DISK0}"
    assert one.locks[1:] == other.locks[1:]
    assert one.locks[0] != other.locks[0]
    third = plan(tmp_path, ISCSI_TARGET="iqn.2026-11.lab.storage:disk1")
    assert third.locks[1:] != one.locks[1:]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ISCSI_CHAP_USER": "u"}, "ISCSI_CHAP_USER and ISCSI_CHAP_SECRET_FILE belong together"),
        ({"ISCSI_CHAP_SECRET_FILE": "/s"}, "ISCSI_CHAP_USER and ISCSI_CHAP_SECRET_FILE belong together"),
        ({"ISCSI_MUTUAL_USER": "u"}, "ISCSI_MUTUAL_USER and ISCSI_MUTUAL_SECRET_FILE belong together"),
        ({"ISCSI_MUTUAL_USER": "u", "ISCSI_MUTUAL_SECRET_FILE": "/s"}, "mutual CHAP alone"),
        ({"FENCE": "scsi3", "ISCSI_MULTIPATH": "m"}, "FENCE=scsi3 with ISCSI_MULTIPATH"),
        ({"ISCSI_TARGET": "disk0"}, "is no iSCSI name"),
        ({"ISCSI_PORTAL": "-x"}, "is no portal"),
        ({"VOLUME_OPTIONS": "rw,force"}, "has force"),
        ({"ISCSI_TARGET": ""}, "ISCSI_TARGET"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ["FENCE is none", "ISCSI_CHAP_USER is not set"]),
        ({"VOLUME_OPTIONS": "ro"}, ["ISCSI_CHAP_USER is not set"]),
        ({"FENCE": "scsi3"}, ["ISCSI_CHAP_USER is not set"]),
        ({"FENCE": "scsi3", "VOLUME_OPTIONS": "ro"}, ["FENCE is not used", "ISCSI_CHAP_USER is not set"]),
        ({"FENCE": "scsi3", "ISCSI_CHAP_USER": "u", "ISCSI_CHAP_SECRET_FILE": "/s"}, []),
        ({"ISCSI_MULTIPATH": "m"}, ["one portal", "fail_on_disconnection", "ISCSI_CHAP_USER is not set"]),
        (
            {"ISCSI_MULTIPATH": "m", "ISCSI_PORTAL": "172.16.0.1 172.16.1.1"},
            ["fail_on_disconnection", "ISCSI_CHAP_USER is not set"],
        ),
    ],
)
def test_doubts(tmp_path: Path, keys: dict[str, str], words: list[str]) -> None:
    warnings = plan(tmp_path, **keys).warnings
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings))


# The configuration of one login.


def configuration(step: Session, portal: str = "172.16.0.1") -> str:
    return done(iscsi_freebsd.settings(Stub().host, step.lun.config, step.lun.target, portal))


def test_the_least_configuration(tmp_path: Path) -> None:
    assert configuration(session(tmp_path)) == (
        "envstart {\n"
        f'  TargetName = "{DISK0}"\n'
        '  TargetAddress = "172.16.0.1"\n'
        "  HeaderDigest = None\n"
        "  DataDigest = None\n"
        "  Protocol = iSCSI\n"
        "}\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are trusted with a secret")
def test_the_whole_configuration(tmp_path: Path) -> None:
    files = {}
    for name in ("chap", "mutual"):
        files[name] = tmp_path / name
        files[name].write_text(f"{name} #'secret\n")
        files[name].chmod(0o600)
    step = session(
        tmp_path,
        ISCSI_PORTAL="[fd00::1]:3261",
        ISCSI_INITIATOR="iqn.2026-11.lab:node1",
        ISCSI_PROTOCOL="iSER",
        ISCSI_HEADER_DIGEST="CRC32C",
        ISCSI_DATA_DIGEST="CRC32C",
        ISCSI_CHAP_USER="node 1",
        ISCSI_CHAP_SECRET_FILE=str(files["chap"]),
        ISCSI_MUTUAL_USER="store",
        ISCSI_MUTUAL_SECRET_FILE=str(files["mutual"]),
    )
    assert configuration(step, "[fd00::1]:3261") == (
        "envstart {\n"
        f'  TargetName = "{DISK0}"\n'
        '  TargetAddress = "[fd00::1]:3261"\n'
        '  InitiatorName = "iqn.2026-11.lab:node1"\n'
        "  HeaderDigest = CRC32C\n"
        "  DataDigest = CRC32C\n"
        '  chapIName = "node 1"\n'
        '  chapSecret = "chap #\'secret"\n'
        '  tgtChapName = "store"\n'
        '  tgtChapSecret = "mutual #\'secret"\n'
        "  Protocol = iSER\n"
        "}\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are trusted with a secret")
@pytest.mark.parametrize(
    ("content", "mode", "kind"),
    [
        (b"", 0o600, ConfigError),
        (b"\nsecond line\n", 0o600, ConfigError),
        (b'a"b', 0o600, ConfigError),
        (b"tab\tin it", 0o600, ConfigError),
        (b"seventeen letters", 0o600, ConfigError),
        (b"caf\xc3\xa9 swordfish", 0o600, PermissionDeniedError),
        (b"swordfish", 0o640, PermissionDeniedError),
    ],
)
def test_fault_91_a_secret_that_cannot_be_used_is_not_told(
    tmp_path: Path, content: bytes, mode: int, kind: type[Exception]
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    step = session(tmp_path, ISCSI_CHAP_USER="u", ISCSI_CHAP_SECRET_FILE=str(file))
    with pytest.raises(kind) as caught:
        configuration(step)
    assert str(file) in str(caught.value)
    words = content.decode(errors="replace").split()
    assert not any(word in str(caught.value) for word in words if len(word) > 5)


# What iscsictl says.


def test_what_a_live_iscsictl_said() -> None:
    output = outputs("iscsi", "iscsictl -L --libxo json,pretty")[0]
    # Between the table of -v and the JSON of -v, which is the last line.
    pretty = output[output.index("{") : output.rindex('{"iscsictl"')]
    (found,) = parse(answer(pretty))
    assert (found.target, found.portal, found.state, found.disks, found.bus) == (
        DISK0,
        "172.16.0.1",
        "Connected",
        {0: "da0"},
        7,
    )


@pytest.mark.parametrize("text", ['{"iscsictl": {}}', '{"iscsictl": {"session": []}}'])
def test_no_sessions(text: str) -> None:
    assert parse(answer(text)) == []


@pytest.mark.parametrize(
    ("devices", "disks", "bus"),
    [
        ({"lun": [], "scbus": -1}, {}, -1),
        ({"scbus": 3, "bus": 0, "target": 0}, {}, 3),
        ({"lun": [], "scbus": 3, "bus": 0, "target": 0}, {}, 3),
        ({"lun": [{"lun": 0, "device": "da0"}, {"lun": 7, "device": "da3"}], "scbus": 3}, {0: "da0", 7: "da3"}, 3),
        ({}, {}, -1),
        (None, {}, -1),
    ],
)
def test_fault_76_connected_is_not_yet_a_disk(devices: object, disks: dict[int, str], bus: int) -> None:
    (found,) = parse(answer(listed({**row(), "devices": devices})))
    assert (found.state, found.disks, found.bus) == ("Connected", disks, bus)


@pytest.mark.parametrize(
    ("state", "read"),
    [
        ("Connected", "Connected"),
        ("Connected: da0 ", "Connected"),
        ("Disconnected", "Disconnected"),
        ("Connection refused", "Connection refused"),
        ("Waiting for iscsid(8)", "Waiting for iscsid(8)"),
        ("Not found", "Not found"),
        ("", ""),
    ],
)
def test_states(state: str, read: str) -> None:
    found = row(state=state)
    del found["devices"]
    (one,) = parse(answer(listed(found)))
    assert one.state == read
    assert one.disks == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"iscsictl": []}',
        '{"session": []}',
        '{"iscsictl": {"session": [{}]}}',
        '{"iscsictl": {"session": [{"name": "x", "portal": "y"}]}}',
        '{"iscsictl": {"session": {}}',
        listed({**row(), "devices": {"lun": [{"lun": "x", "device": "da0"}]}}),
        listed({**row(), "devices": {"lun": [{"lun": 0}]}}),
        listed({**row(), "devices": []} | {"devices": [1]}),
    ],
)
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(answer(text))


@given(st.data())
def test_a_list_that_was_cut_is_refused(data: st.DataObject) -> None:
    whole = listed(row(), row("da1", portal="172.16.1.1"))
    with pytest.raises(ValueError):
        parse(answer(whole[: data.draw(st.integers(0, len(whole) - 1))]))


def test_a_kernel_without_iscsi() -> None:
    with pytest.raises(UnavailableError, match="kldload iscsi"):
        parse(answer(err="iscsictl: failed to open /dev/iscsi: No such file or directory\n", status=1))
    with pytest.raises(ValueError):
        parse(answer(err="iscsictl: ISCSISLIST: Cannot allocate memory\n", status=1))


def test_fault_82_only_our_target_by_our_portals_is_ours_in_the_order_of_the_portals(tmp_path: Path) -> None:
    step = session(tmp_path, ISCSI_PORTAL="172.16.1.1 172.16.0.1:3260")
    rows = listed(
        row("da0"),
        row("da1", name="iqn.2026-11.lab.storage:disk1"),
        row("da2", portal="172.16.9.9"),
        row("da3", portal="172.16.1.1:3260"),
    )
    found: list[SessionInfo] = done(step.lun.sessions(Stub({LIST: rows}).host))
    assert [one.portal for one in found] == ["172.16.1.1:3260", "172.16.0.1"]


@pytest.mark.parametrize(
    ("rows", "keys", "device"),
    [
        ([row()], {}, "/dev/da0"),
        ([row("da0", lun=1)], {}, None),
        ([row(scbus=-1, state="Disconnected")], {}, "/dev/da0"),
        ([row("da9")], {}, None),
        ([], {}, None),
        ([row()], {"ISCSI_PARTITION": "p1"}, "/dev/da0p1"),
        ([row()], {"ISCSI_PARTITION": "p2"}, None),
        ([row()], {"ISCSI_SERIAL": "disk0"}, "/dev/da0"),
    ],
)
def test_the_device_is_that_of_the_lun(
    tmp_path: Path, rows: list[dict[str, Any]], keys: dict[str, str], device: str | None
) -> None:
    part = Geom("PART", "da0", (Uses("da0"), Makes("da0p1")))
    stub = Stub({LIST: listed(*rows), MESH: text(DISK, part)})
    assert done(session(tmp_path, **keys).device(stub.host)) == device


def test_fault_76_a_disk_without_its_node_is_not_yet_there(tmp_path: Path, devfs: set[str]) -> None:
    """CAM knows it first, then GEOM, then devfs."""
    stub = Stub({LIST: listed(row()), MESH: text(DISK)})
    devfs.add("/dev/da0")
    assert done(session(tmp_path).device(stub.host)) is None
    devfs.clear()
    assert done(session(tmp_path).device(stub.host)) == "/dev/da0"


def test_fault_78_the_disk_with_another_serial_number_is_refused(tmp_path: Path) -> None:
    stub = Stub({LIST: listed(row()), MESH: text(DISK)})
    with pytest.raises(ConfigError, match="'disk0', ISCSI_SERIAL says 'disk1'"):
        done(session(tmp_path, ISCSI_SERIAL="disk1").device(stub.host))


def multipath(*paths: str) -> Geom:
    return Geom("MULTIPATH", "m", (*(Uses(path, "r1w1e1") for path in paths), Makes("multipath/m")))


def test_fault_95_multipath(tmp_path: Path) -> None:
    step = session(tmp_path, ISCSI_MULTIPATH="m", ISCSI_PORTAL="172.16.0.1 172.16.1.1")
    other = Geom("DISK", "da1", (Makes("da1", {"ident": "disk0"}),))
    both = {
        LIST: listed(row(), row("da1", portal="172.16.1.1")),
        MESH: text(DISK, other, multipath("da0", "da1")),
    }
    stub = Stub(both)
    assert done(step.device(stub.host)) == "/dev/multipath/m"
    assert done(step.check(stub.host)) is None
    assert stub.warnings == []
    stub = Stub({**both, LIST: listed(row(), row("da1", portal="172.16.1.1", state="Disconnected"))})
    assert done(step.check(stub.host)) is None
    assert stub.warnings == ["/dev/multipath/m is degraded: no session by way of 172.16.1.1"]
    assert done(step.observe(stub.host)).status == plans.DEGRADED


def test_fault_95_a_multipath_device_of_other_disks_is_refused(tmp_path: Path) -> None:
    step = session(tmp_path, ISCSI_MULTIPATH="m")
    other = Geom("DISK", "da5", (Makes("da5"),))
    stub = Stub({LIST: listed(row()), MESH: text(DISK, other, multipath("da0", "da5"))})
    with pytest.raises(ConfigError, match="da5 is one of its paths"):
        done(step.device(stub.host))


def test_multipath_elsewhere_than_on_freebsd(tmp_path: Path) -> None:
    stub = Stub()
    stub.platform = "linux"
    with pytest.raises(UnavailableError, match="cannot use ISCSI_MULTIPATH here"):
        done(session(tmp_path, ISCSI_MULTIPATH="m").check(stub.host))


# What camcontrol says.


def persist(*answers: tuple[str, str]) -> dict[str, str]:
    return {f"camcontrol persist da0 {words}": output for words, output in answers}


def fenced(tmp_path: Path) -> Reservation:
    found = plan(tmp_path, FENCE="scsi3").steps[1]
    assert isinstance(found, Reservation)
    return found


def disk(stub: Stub) -> ReservedDisk:
    return ReservedDisk(stub.host, "da0", "the disk")


def reading(keys: str, holder: str) -> Stub:
    return Stub(
        {
            LIST: listed(row()),
            MESH: text(DISK),
            **persist(("-i read_keys", keys), ("-i read_reservation", holder)),
        }
    )


def told(what: str) -> list[str]:
    """The answers of a live disk that have these words and do not name who is connected."""
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
    stub = Stub({LIST: listed(row()), MESH: text(DISK)})
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


@pytest.mark.parametrize(
    "text",
    ["", "\n", "node1\n", "2c4b9a1e-0000-11f0-8000-52540012345g\n", "1234\n"],
)
def test_a_host_without_an_id_is_told(text: str) -> None:
    with pytest.raises(TemporaryError, match=r"kern\.hostuuid"):
        done(host_id.host_id(Stub({"sysctl -n kern.hostuuid": text}).host))


def test_a_host_whose_id_was_never_made_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rc.d/hostid the kernel has zeros (DEFAULT_HOSTUUID in sys/kern/kern_jail.c)."""

    def named(name: str) -> str:
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("FreeBSD", name, "14.0", "", "amd64")))
        zeros = "00000000-0000-0000-0000-000000000000\n"
        return done(host_id.host_id(Stub({"sysctl -n kern.hostuuid": zeros}).host))

    one, two = named("node1.example.com"), named("node2.example.com")
    assert one != two
    assert all(len(found) == 32 and int(found, 16) for found in (one, two))
    for nobody in ("", "localhost", "freebsd.example.com"):
        with pytest.raises(TemporaryError, match=r"kern\.hostuuid is all zero, and the hostname is"):
            named(nobody)


def test_a_mark_that_cannot_be_looked_for_is_unknown(tmp_path: Path) -> None:
    """One disk can hold all of GEOM up; the other lines of a report must come nonetheless."""
    plan = planned(tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.5", ISCSI_TARGET=DISK0)
    (mark,) = [step for step in plan.steps if isinstance(step, host_mark.Mark)]
    there = Entry("/dev/da0", f"{WORKDIR}/jails-data/env1-data", "ufs")
    silent = {name: answer(err="it waits", status=1) for name in (MESH, LIST)}
    state = done(mark.observe(Stub(silent, [there]).host))
    assert (state.status, "it waits" in state.detail) == (plans.UNKNOWN, True)
