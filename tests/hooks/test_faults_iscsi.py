"""What can keep iSCSI from a login, and from a disk (failure catalogue B.4, 73 to 76 and 83)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import ISCSI, PORTAL, TARGET, BlockSite
from cbsd import last_line
from harmless import OTHER, SHARED, by_hand, by_hooks, image_of, scene, sessions, two_portals, unclean
from pace import in_time

SECRET, WRONG = "its real secret", "a wrong secret"
TIMEOUT = 6
# Seconds a busy machine may need on top of it.
SLACK = 6


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, ISCSI) as site:
        yield site


def chap(site: BlockSite, known: str, mutual: str = "") -> None:
    """Let the target want CHAP, and this host know these secrets."""
    site.storage.chap(SHARED, "env1", SECRET, "box", "the box's secret")
    keys = {"ISCSI_CHAP_USER": "env1", "ISCSI_CHAP_SECRET_FILE": str(site.secret("chap", f"{known}\n".encode()))}
    if mutual:
        path = site.secret("mutual", f"{mutual}\n".encode())
        keys.update(ISCSI_MUTUAL_USER="box", ISCSI_MUTUAL_SECRET_FILE=str(path))
    site.configure(**keys)


# 73: services


def test_fault_73_iscsid_does_not_run(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI, iscsid=False) as site:
        ended = site.start()
        assert ended.returncode == 69
        assert "iscsid(8) is not running" in last_line(ended)
        assert "service iscsid" in last_line(ended)
        assert "ISCSI_START_DAEMON=1" in last_line(ended)
        assert (sessions(site), site.table) == ([], [])
        assert not by_hooks(site, "service", "onestart")


def test_fault_73_iscsid_is_started_if_that_is_wanted(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI, iscsid=False) as site:
        site.configure(ISCSI_START_DAEMON="1", ISCSI_LOGIN_TIMEOUT="10")
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()
        assert by_hooks(site, "service") == [["service", "iscsid", "onestatus"], ["service", "iscsid", "onestart"]]


def test_fault_73_kernel_without_the_initiator(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI, no_iscsi_module=True) as site:
        ended = site.start()
        assert ended.returncode == 69
        assert "kldload iscsi" in last_line(ended)
        assert site.table == []


@pytest.mark.parametrize("command", ["iscsictl", "sysctl", "fsck_ffs"])
def test_fault_73_program_is_not_installed(site: BlockSite, command: str) -> None:
    if command == "fsck_ffs":
        unclean(site)
    (site.world.path / "bin" / command).unlink()
    ended = site.start()
    assert ended.returncode == 69
    assert command in last_line(ended)
    assert (sessions(site) if command != "iscsictl" else [], site.table) == ([], [])


# 74: who may log in


@pytest.mark.parametrize(("known", "mutual"), [(WRONG, ""), (SECRET, "not the box")])
def test_fault_74_secret_that_the_target_does_not_take(site: BlockSite, known: str, mutual: str) -> None:
    chap(site, known, mutual)
    ended = site.start()
    assert ended.returncode == 77
    assert "Authentication failure" in last_line(ended) or "Mutual CHAP failed" in last_line(ended)
    assert ("ISCSI_MUTUAL_SECRET_FILE" if mutual else "ISCSI_CHAP_SECRET_FILE") in last_line(ended)
    assert all(secret not in ended.stderr for secret in (known, mutual or known))
    assert (sessions(site), site.table) == ([], [])
    assert len(by_hooks(site, "iscsictl", "-A")) == 1, "a wrong secret heals by no retry"


def test_fault_74_target_that_wants_chap(site: BlockSite) -> None:
    site.storage.chap(SHARED, "env1", SECRET)
    ended = site.start()
    assert ended.returncode == 77
    assert "ISCSI_CHAP_USER" in last_line(ended)
    assert (sessions(site), site.table) == ([], [])


def test_fault_74_initiator_that_the_target_does_not_know(site: BlockSite) -> None:
    image = image_of(site)
    site.storage.target(SHARED, initiators=["iqn.2026-11.lab.host:another"])
    site.storage.lun(SHARED, 0)
    ended = site.start()
    assert ended.returncode == 77
    assert "Authorization failure" in last_line(ended)
    assert (sessions(site), image.exists()) == ([], True)


@pytest.mark.parametrize("mutual", ["", "the box's secret"])
def test_fault_74_the_right_secret(site: BlockSite, mutual: str) -> None:
    chap(site, SECRET, mutual)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.is_all_there()


def test_fault_74_sessions_that_were_there_before_stay(site: BlockSite) -> None:
    another = TARGET.replace("{name}", "another")
    site.storage.target(another)
    site.storage.lun(another)
    by_hand(site, PORTAL, another)
    by_hand(site, PORTAL)
    site.configure(ISCSI_LUN="7")
    assert site.start().returncode == 66
    assert sessions(site) == [(another, PORTAL), (SHARED, PORTAL)]
    assert not by_hooks(site, "iscsictl", "-R")


# 75, 76: nobody there


@pytest.mark.parametrize("how", ["freeze", "refuse", "down"])
def test_fault_75_portal_that_is_not_there(site: BlockSite, how: str) -> None:
    site.configure(TIMEOUT=str(TIMEOUT), ISCSI_LOGIN_TIMEOUT="1")
    getattr(site.storage, how)()
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 75
    assert in_time(began, SLACK, waiting=TIMEOUT)
    assert SHARED in last_line(ended)
    assert PORTAL in last_line(ended)
    assert "is the target up" in last_line(ended)
    assert (sessions(site), site.table) == ([], []), "iscsid would try for ever"
    assert len(by_hooks(site, "iscsictl", "-A")) > 1, "it was tried once only"


def test_fault_75_target_that_is_not_exported(site: BlockSite) -> None:
    site.storage.remove_target(SHARED)
    ended = site.start()
    assert ended.returncode == 69
    assert "no such target" in last_line(ended)
    assert (sessions(site), site.table) == ([], [])
    assert len(by_hooks(site, "iscsictl", "-A")) == 1


def test_fault_75_target_that_comes_back(site: BlockSite) -> None:
    site.configure(ISCSI_LOGIN_TIMEOUT="1")
    site.storage.refuse()
    with site.begin() as hook:
        while len(by_hooks(site, "iscsictl", "-A")) < 2:
            assert hook.poll() is None
            time.sleep(0.05)
        site.storage.up()
        assert hook.wait() == 0
    assert site.is_all_there()


@pytest.mark.parametrize("how", ["freeze", "refuse", "down"])
def test_fault_75_second_portal(site: BlockSite, how: str) -> None:
    two_portals(site)
    site.configure(ISCSI_PORTAL=f"{PORTAL} {OTHER}", ISCSI_LOGIN_TIMEOUT="2")
    getattr(site.storage, how)(PORTAL)
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.is_all_there()
    assert sessions(site) == [(SHARED, OTHER)]
    assert site.stop().returncode == 0
    assert sessions(site) == []


def test_fault_75_address_without_a_host(site: BlockSite) -> None:
    site.configure(ISCSI_PORTAL="nowhere.example.com")
    ended = site.start()
    assert ended.returncode not in (0, 75)
    assert "Name does not resolve" in last_line(ended)
    assert sessions(site) == []


def test_fault_76_lun_that_the_target_does_not_have(site: BlockSite) -> None:
    site.configure(ISCSI_LUN="3")
    ended = site.start()
    assert ended.returncode == 66
    assert "no LUN 3" in last_line(ended)
    assert "ISCSI_LUN" in last_line(ended)
    assert (sessions(site), site.table) == ([], [])


def test_fault_76_connected_and_no_disk(tmp_path: Path) -> None:
    """The list of devices is empty for a while after each login; that is not yet a failure, and has an end."""
    with scene(tmp_path, ISCSI, scan_seconds=3600.0) as site:
        site.configure(TIMEOUT=str(TIMEOUT), ISCSI_LOGIN_TIMEOUT="1")
        began = time.monotonic()
        ended = site.start()
        assert ended.returncode in (66, 75)
        assert in_time(began, SLACK, waiting=TIMEOUT)
        assert (sessions(site), site.table) == ([], [])


def test_fault_76_disk_that_comes_late(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI, scan_seconds=1.5) as site:
        site.configure(ISCSI_LOGIN_TIMEOUT="15")
        assert site.start().returncode == 0
        assert site.is_all_there()


# 83: what is written to a configuration file


@pytest.mark.parametrize(
    ("key", "value", "bad"),
    [
        ("ISCSI_TARGET", "iqn.2026-11.lab.storage:a{}b", "\n\t\r\x00\u00e9\"'{}=;#\\ "),
        ("ISCSI_INITIATOR", "iqn.2026-11.lab.host:a{}b", "\n\t\r\x00\u00e9\"'{}=;#\\ "),
        ("ISCSI_PORTAL", "172.16.0.1{}", "\n\x00\u00e9\"'{}=;#\\"),
        # Between quotes all is plain but these.
        ("ISCSI_CHAP_USER", "a{}b", '\n\t\r\x00\u00e9"'),
    ],
)
def test_fault_83_names_that_could_be_more_than_a_name(site: BlockSite, key: str, value: str, bad: str) -> None:
    found = {letter: refused_at_once(site, key, value.replace("{}", letter)) for letter in bad}
    assert [letter for letter, refused in found.items() if not refused] == []


def refused_at_once(site: BlockSite, key: str, text: str) -> bool:
    quote = "'" if '"' in text else '"'
    if quote == '"':
        text = text.replace("\\", "\\\\")
    site.configure(ISCSI_CHAP_USER="env1", ISCSI_CHAP_SECRET_FILE=str(site.secret("chap", b"secret\n")))
    site.world.forget_calls()
    with site.conf.open("a", encoding="utf-8", newline="") as stream:
        stream.write(f"{key}={quote}{text}{quote}\n")
    return site.start().returncode == 78 and site.world.calls() == []


@pytest.mark.parametrize("name", ["a%b", "a@b"])
def test_fault_83_name_of_an_environment_that_is_no_name_of_a_target(site: BlockSite, name: str) -> None:
    for which in ("data", "system", "fstab"):
        site.point(which, name).mkdir()
    ended = site.start(name=name)
    assert ended.returncode == 78
    assert name in last_line(ended)
    assert site.world.calls() == []


@pytest.mark.parametrize("secret", [b'a"b\n', b"\n", b"a\x01b\n", b"a\xffb\n", b"seventeen letters\n"])
def test_fault_83_secret_that_the_file_cannot_hold(site: BlockSite, secret: bytes) -> None:
    chap(site, "x")
    site.secret("chap", secret)
    ended = site.start()
    assert ended.returncode in (77, 78)
    assert "chap" in last_line(ended)
    assert not by_hooks(site, "iscsictl", "-A")
    assert sessions(site) == []
