"""iSCSI without a machine: keys, the plan, the configuration of one login, what iscsictl says."""

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
from stubs import Stub, answer, done, outputs, planned

from envstart.config import schema
from envstart.engine import plan as plans
from envstart.engine.plan import Plan, stages
from envstart.errors import UNREADABLE, ConfigError, PermissionDeniedError, UnavailableError
from envstart.storage import iscsi_freebsd, iscsi_keys
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_freebsd import parse
from envstart.storage.iscsi_session import SessionInfo, normal_portal

DISK0 = "iqn.2026-11.lab.storage:disk0"
LIST = "iscsictl -L --libxo json"
MESH = "sysctl -n kern.geom.confxml"
DISK = Geom("DISK", "da0", (Makes("da0", {"ident": "disk0"}),))


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
    """Return a session as tests/transcripts/iscsi.txt has it."""
    devices = {"lun": [{"lun": lun, "device": device}], "scbus": scbus, "bus": 0, "target": 0}
    return {"name": name, "portal": portal, "state": state, "devices": devices}


# Keys.


@pytest.mark.parametrize(
    ("parse", "value", "read"),
    [
        (iscsi_keys.iscsi_name, DISK0, DISK0),
        (iscsi_keys.iscsi_name, "eui.02004567A425678D", "eui.02004567A425678D"),
        (iscsi_keys.iscsi_name, "naa.52004567BA64678D", "naa.52004567BA64678D"),
        (iscsi_keys.portals, "172.16.0.1", ("172.16.0.1",)),
        (iscsi_keys.portals, " 172.16.0.1  172.16.0.2:3261\tstore ", ("172.16.0.1", "172.16.0.2:3261", "store")),
        (iscsi_keys.portals, "172.16.0.1 172.16.0.1:3260", ("172.16.0.1",)),
        (iscsi_keys.portals, "Store store:3260", ("Store",)),
        (iscsi_keys.portals, "[fd00::1]:3260 fd00::1 [fd00::1]", ("[fd00::1]:3260",)),
        (iscsi_keys.portals, "fe80::1%em0", ("fe80::1%em0",)),
        (iscsi_keys.user, "host 1, of the lab", "host 1, of the lab"),
        (schema.identifier, "DISK-disk0_1.a", "DISK-disk0_1.a"),
    ],
)
def test_read(parse: Callable[[str], Any], value: str, read: object) -> None:
    assert parse(value) == read


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (iscsi_keys.iscsi_name, ""),
        (iscsi_keys.iscsi_name, "disk0"),
        (iscsi_keys.iscsi_name, "iqn.2026-11.lab storage:x"),
        (iscsi_keys.iscsi_name, 'iqn.2026-11.lab:x"'),
        (iscsi_keys.iscsi_name, "iqn.2026-11.lab:x\n"),
        (iscsi_keys.iscsi_name, "iqn.2026-11.lab:{jname}"),
        (iscsi_keys.iscsi_name, "iqn.2026-11.lab:é"),
        (iscsi_keys.iscsi_name, "iqn." + "x" * 220),
        (iscsi_keys.portals, "-p"),
        (iscsi_keys.portals, "store/lun"),
        (iscsi_keys.portals, "user@store"),
        (iscsi_keys.portals, "a,b"),
        (iscsi_keys.portals, "x" * 47),
        (iscsi_keys.portals, 'a"b'),
        (iscsi_keys.user, 'a"b'),
        (iscsi_keys.user, "a\nb"),
        (iscsi_keys.user, "é"),
        (iscsi_keys.user, "x" * 224),
        (schema.identifier, "-f"),
        (schema.identifier, "../da0"),
        (schema.identifier, "p1/x"),
        (schema.identifier, "p 1"),
    ],
)
def test_fault_83_refused(parse: Callable[[str], Any], value: str) -> None:
    with pytest.raises(ValueError):
        parse(value)


@given(st.sampled_from([iscsi_keys.iscsi_name, iscsi_keys.portals, iscsi_keys.user, schema.identifier]), st.text())
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
    """By one of the errors that Host.ask() takes for an answer that cannot be read."""
    with pytest.raises(UNREADABLE):
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
