"""A target that redirects the login: the session is listed under an address that is none of our portals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import ISCSI, PORTAL, BlockSite
from cbsd import last_line
from harmless import OTHER, SHARED, add_on_lun, by_hand, by_hooks, scene, seen, sessions
from stubs import Stub, done

from envstart import paths
from envstart.storage import iscsi_freebsd
from envstart.storage.iscsi_redirection import Logins
from envstart.storage.iscsi_session import CONNECTED, SessionInfo
from envstart.system import rundir
from envstart.system.host import Host

ELSEWHERE = f"{OTHER}:3260"
NOTE = f"login.{paths.path_digest(SHARED)}.note"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, ISCSI) as site:
        redirected(site)
        yield site


def redirected(site: BlockSite, address: str = ELSEWHERE) -> None:
    """jail1's target is reached by one portal, which sends all who log in to the other."""
    site.storage.target(SHARED, portals=(PORTAL, OTHER, "172.16.0.3"))
    (site.make(str(site.storage.lun(SHARED, 0, serial="disk-jail1"))) / "etc").mkdir()
    site.storage.redirect(SHARED, PORTAL, address)


def note(site: BlockSite) -> Path:
    return site.world.path / "run" / NOTE


def test_the_simulated_initiator_lists_the_address_that_the_target_has_named(site: BlockSite) -> None:
    assert site.world.command("iscsictl", "-A", "-p", PORTAL, "-t", SHARED).returncode == 0
    until = time.monotonic() + 20
    while not any(session["luns"] for session in site.world.sessions()):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    # One of the same name keeps another from being redirected to it.
    assert site.world.command("iscsictl", "-A", "-p", PORTAL, "-t", SHARED).returncode == 0
    time.sleep(0.5)
    assert sessions(site) == [(SHARED, PORTAL), (SHARED, ELSEWHERE)]
    assert [session["connected"] for session in site.world.sessions()] == [True, False]


def test_case_b7_a_session_that_was_redirected_is_ours(site: BlockSite) -> None:
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.is_all_there()
    assert seen(site) == ["etc"]
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    # Another run knows it too, and logs in no second time.
    logins = len(by_hooks(site, "iscsictl", "-A"))
    assert site.start().returncode == 0
    assert len(by_hooks(site, "iscsictl", "-A")) == logins
    checked = site.hand("check", "-w", str(site.workdir), "-j", "jail1", "iscsi")
    shown = site.hand("plan", "iscsi", "-w", str(site.workdir), "-j", "jail1")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no session" not in shown.stdout
    assert site.stop().returncode == 0
    assert (sessions(site), site.table, site.world.state["disks"].keys() & {"da0", "da1"}) == ([], [], set())
    assert not note(site).exists()


def test_case_b7_a_failed_start_ends_the_session(site: BlockSite) -> None:
    site.configure(ISCSI_LUN="7", ISCSI_LOGIN_TIMEOUT="2")
    ended = site.start()
    assert ended.returncode == 66
    assert "it has no LUN 7" in last_line(ended)
    assert (sessions(site), site.table) == ([], [])


def test_case_b7_what_a_killed_start_has_left_is_ended(site: BlockSite) -> None:
    """Between the login and the note of where it went."""
    site.world.set(login_seconds=1.5)
    with site.begin() as hook:
        while not site.world.sessions():
            time.sleep(0.02)
        os.kill(hook.pid, signal.SIGKILL)
        hook.wait()
    until = time.monotonic() + 20
    while not any(session["luns"] for session in site.world.sessions()):
        assert time.monotonic() < until
        site.world.command("iscsictl", "-L")
        time.sleep(0.05)
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop().returncode == 0
    assert sessions(site) == []
    assert not note(site).exists()


def test_case_b7_what_a_killed_start_has_left_is_used_by_the_next_one(site: BlockSite) -> None:
    site.world.set(login_seconds=1.5)
    with site.begin() as hook:
        while not site.world.sessions():
            time.sleep(0.02)
        os.kill(hook.pid, signal.SIGKILL)
        hook.wait()
    site.world.set(login_seconds=0.05)
    assert site.start().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop().returncode == 0
    assert sessions(site) == []


def test_case_b7_a_session_of_somebody_else_stays(site: BlockSite) -> None:
    """It was there before, at the very address to which the target redirects."""
    add_on_lun(site, "jail2", 1)
    by_hand(site, ELSEWHERE)
    site.configure(ISCSI_LOGIN_TIMEOUT="1", TIMEOUT="6")
    ended = site.start()
    assert ended.returncode == 75
    assert f"redirects it to {ELSEWHERE}? add that to ISCSI_PORTAL" in last_line(ended)
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]


def test_case_b7_a_session_beside_ours_stays(site: BlockSite) -> None:
    """One from before our login, and one from after it."""
    redirected(site, "172.16.0.3:3260")
    by_hand(site, ELSEWHERE)
    assert site.start().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE), (SHARED, "172.16.0.3:3260")]
    site.storage.redirect(SHARED, PORTAL, "")
    assert site.stop().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]


def test_case_b7_redirected_again_when_the_connection_was_lost(site: BlockSite) -> None:
    """The kernel's number of the session stays, and no other one is taken for it."""
    assert site.start().returncode == 0
    site.storage.redirect(SHARED, OTHER, "172.16.0.3:3260")
    (session,) = site.world.sessions()
    assert site.world.command("iscsictl", "-M", "-i", str(session["id"]), "-e", "on").returncode == 0
    until = time.monotonic() + 20
    while sessions(site) != [(SHARED, "172.16.0.3:3260")] or not site.world.sessions()[0]["connected"]:
        assert time.monotonic() < until
        site.world.command("iscsictl", "-L")
        time.sleep(0.05)
    site.storage.redirect(SHARED, OTHER, "")
    by_hand(site, OTHER)
    assert site.stop().returncode == 0
    assert sessions(site) == [(SHARED, OTHER)]


def test_case_b7_two_environments_on_one_redirected_session(site: BlockSite) -> None:
    add_on_lun(site, "jail2", 1)
    assert site.start().returncode == 0
    assert site.start(name="jail2").returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop(name="jail2").returncode == 0
    assert (sessions(site), note(site).exists()) == ([], False)


def test_case_b7_from_one_of_our_portals_to_the_other(site: BlockSite) -> None:
    site.configure(ISCSI_PORTAL=f"{PORTAL} {OTHER}")
    assert site.start().returncode == 0
    assert sessions(site) == [(SHARED, ELSEWHERE)]
    assert site.stop().returncode == 0
    assert sessions(site) == []


def test_case_b7_where_there_is_no_room_for_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that has made the session knows it; and says that no other will."""
    monkeypatch.setattr(rundir, "DIR", str(tmp_path / "nowhere" / "at all"))
    logins, stub = Logins(SHARED), Stub()
    monkeypatch.setattr(iscsi_freebsd, "numbers", numbers)
    before, after = listed("10.0.0.9"), listed("10.0.0.2")
    logins.begin(PORTAL, [], [before])
    done(logins.arrived(stub.host, PORTAL, after))
    assert "add that address to ISCSI_PORTAL" in stub.warnings[0]
    assert done(logins.by_portal(stub.host, [PORTAL], [before, after])) == {PORTAL: after}
    logins.end([PORTAL])
    assert done(logins.by_portal(stub.host, [PORTAL], [before, after])) == {}


def listed(portal: str) -> SessionInfo:
    return SessionInfo(SHARED, portal, CONNECTED, {0: "da0"}, 7)


async def numbers(_: Host) -> dict[tuple[str, str], int]:
    return {(SHARED, "10.0.0.9"): 1, (SHARED, "10.0.0.2"): 2}


def test_a_note_that_somebody_has_spoilt_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path))
    (tmp_path / NOTE).write_text("login\nlogin a\nother\nlogin a b c\n\n\x00\n")
    assert Logins(SHARED)._load() == ({}, set())
