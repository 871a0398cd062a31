"""iSCSI on Linux without a machine: sessions out of a recorded sysfs, records, command lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stubs import Stub, answer, done, linux, planned
from sysfs_tree import TARGET, Sysfs

from envstart.errors import ConfigError, EnvstartError, UnavailableError
from envstart.storage import (
    iscsi_freebsd,
    iscsi_linux,
    iscsi_record,
)
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_session import normal_portal


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
def test_what_lies_on_a_disk(source: str, disk: str, *, whether: bool) -> None:
    assert iscsi_linux.is_on(source, disk) is whether


def test_each_system_has_its_own(tmp_path: Path) -> None:
    assert initiator_of(Stub().host) is iscsi_freebsd
    assert initiator_of(linux().host) is iscsi_linux
    assert session(tmp_path).expected(linux().host) == "/dev/sdN"


def test_multipath_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="ISCSI_MULTIPATH"):
        done(session(tmp_path, ISCSI_MULTIPATH="m").check(linux().host))


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
