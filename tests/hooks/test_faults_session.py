"""What becomes of iSCSI sessions and disks that are there (failure catalogue B.4, 77 to 82 and 95)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import HAST, ISCSI, ISCSI_GELI, ISCSI_TREE, PORTAL, TARGET, BlockSite
from cbsd import Variant, last_line
from harmless import (
    OTHER,
    SHARED,
    add_on_lun,
    by_hand,
    by_hooks,
    image_of,
    scene,
    seen,
    sessions,
    two_portals,
    unclean,
)
from pace import in_time

TIMEOUT = 6
# Seconds a busy machine may need on top of it.
SLACK = 6


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, ISCSI) as site:
        yield site


def multipath(site: BlockSite) -> None:
    """Configure both portals at once."""
    two_portals(site)
    site.world.multipath_label(str(image_of(site)), "m1")
    assert site.world.command("kldload", "geom_multipath").returncode == 0
    site.configure(ISCSI_PORTAL=f"{PORTAL} {OTHER}", ISCSI_MULTIPATH="m1")


# 77, 78, 79: which disk, and whose session


def test_fault_77_79_two_environments_on_one_target(site: BlockSite) -> None:
    (site.world.files(image_of(site)) / "jail1").mkdir()
    add_on_lun(site, "jail2", 1)
    for name in ("jail1", "jail2"):
        assert site.start(name=name).returncode == 0
    assert ("jail1" in seen(site), seen(site, "jail2")) == (True, ["jail2"])
    assert sessions(site) == [(SHARED, PORTAL)]
    ended = site.stop()
    assert ended.returncode == 0
    assert str(site.point("data", "jail2")) in last_line(ended), "it is not said who uses the session"
    assert sessions(site) == [(SHARED, PORTAL)]
    assert (site.is_all_there(), site.is_all_there("jail2")) == (False, True)
    assert seen(site, "jail2") == ["jail2"]
    assert site.stop(name="jail2").returncode == 0
    assert (sessions(site), site.table) == ([], [])


def test_fault_77_disk_of_another_lun_that_nobody_uses_keeps_no_session(site: BlockSite) -> None:
    add_on_lun(site, "jail2", 1)
    site.preset()
    assert site.stop().returncode == 0
    assert sessions(site) == []


def test_fault_77_lun_that_was_added_after_the_login(site: BlockSite) -> None:
    site.preset()
    add_on_lun(site, "jail2", 1)
    site.configure(ISCSI_LOGIN_TIMEOUT="10")
    with site.conf.open("a") as stream:
        stream.write(f'[jail2]\nISCSI_TARGET="{SHARED}"\nISCSI_LUN="1"\n')
    ended = site.start(name="jail2")
    assert ended.returncode == 0, ended.stderr
    assert seen(site, "jail2") == ["jail2"]
    assert site.is_all_there()
    assert len(by_hooks(site, "camcontrol", "rescan")) == 1


def test_fault_78_unit_numbers_change_places(site: BlockSite) -> None:
    site.add("jail2")
    for name in ("jail1", "jail2"):
        (site.world.files(image_of(site, TARGET.replace("{name}", name))) / name).mkdir()
    devices = []
    for order in (("jail1", "jail2"), ("jail2", "jail1")):
        for name in order:
            assert site.start(name=name).returncode == 0
        devices.append({point: device for device, point, _ in site.table})
        assert [seen(site, name) for name in ("jail1", "jail2")] == [["etc", "jail1"], ["etc", "jail2"]]
        for name in order:
            assert site.stop(name=name).returncode == 0
    assert list(devices[0].values()) != [devices[1][point] for point in devices[0]], "the numbers are the same"


def test_fault_78_another_disk_than_the_configuration_says(site: BlockSite) -> None:
    site.configure(ISCSI_SERIAL="disk-jail1")
    assert site.start().returncode == 0
    assert site.stop().returncode == 0
    site.configure(ISCSI_SERIAL="disk-jail2")
    ended = site.start()
    assert ended.returncode == 78
    assert "disk-jail1" in last_line(ended)
    assert "disk-jail2" in last_line(ended)
    assert (sessions(site), site.table) == ([], [])


def test_fault_79_disk_that_is_attached_by_geli(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI_GELI) as site:
        add_on_lun(site, "jail2", 1)
        site.preset()
        disk = {session["target"]: session["luns"]["1"] for session in site.world.sessions()}[SHARED]
        assert site.world.command("geli", "attach", "-p", "-k", str(site.secrets / "key"), disk).returncode == 0
        ended = site.stop()
        assert ended.returncode == 0
        assert f"{disk}.eli" in last_line(ended)
        assert sessions(site) == [(SHARED, PORTAL)]
        assert list(site.world.state["elis"]) == [f"{disk}.eli"]


# 80: gone while it is in use


def at_work(site: BlockSite) -> dict[str, object]:
    return {key: value for key, value in site.footprint().items() if key != "panic"}


@pytest.mark.parametrize("verb", ["start", "stop"])
@pytest.mark.parametrize("noticed", [True, False])
def test_fault_80_session_dropped_while_it_is_mounted(tmp_path: Path, verb: str, *, noticed: bool) -> None:
    with scene(tmp_path, ISCSI, ping_seconds=0.0 if noticed else 3600.0) as site:
        site.configure(TIMEOUT=str(TIMEOUT), PROBE_TIMEOUT="1")
        site.preset()
        before = at_work(site)
        site.storage.freeze()
        site.world.jail("jail1", 7)
        began = time.monotonic()
        ended = site.start() if verb == "start" else site.stop()
        assert ended.returncode == 75
        assert in_time(began, SLACK, waiting=TIMEOUT)
        assert any(words in last_line(ended) for words in (("is down",) if noticed else ("no answer", "but broken")))
        assert at_work(site) == before
        assert not by_hooks(site, "umount")
        site.storage.up()


# Commands of a start, by name and number, as which the target falls silent.
DURING = [
    (ISCSI, "iscsictl", 4), (ISCSI, "sysctl", 2), (ISCSI, "fsck_ffs", 1), (ISCSI, "mount", 1),
    (ISCSI_GELI, "camcontrol", 1), (ISCSI_GELI, "geli", 1), (ISCSI_GELI, "geli", 2), (ISCSI_GELI, "mount", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "command", "nth"), DURING, ids=lambda value: value.title if isinstance(value, Variant) else str(value)
)
def test_fault_80_target_falls_silent_during_a_start(tmp_path: Path, variant: Variant, command: str, nth: int) -> None:
    """Our own child hangs with the disk half open, and GEOM tells nothing more, on the whole host."""
    with scene(tmp_path, variant, ping_seconds=1.2) as site:
        site.configure(TIMEOUT="16", PROBE_TIMEOUT="1")
        if command == "fsck_ffs":
            unclean(site)
        site.world.fault(command, "freeze", nth=nth)
        began = time.monotonic()
        ended = site.start()
        assert ended.returncode == 75, ended.stderr
        assert in_time(began, SLACK, waiting=16)
        assert (site.table, sessions(site), site.world.state["elis"]) == ([], [], {})
        assert site.world.command("sysctl", "-n", "kern.geom.confxml").returncode == 0
        site.storage.up()
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()


@pytest.mark.first(1)
@pytest.mark.parametrize("variant", [ISCSI, ISCSI_GELI], ids=lambda variant: variant.title)
def test_fault_80_force_waits_until_the_kernel_knows(tmp_path: Path, variant: Variant) -> None:
    """On a disk that is silent `umount -f` hangs; one that is gone lets go."""
    with scene(tmp_path, variant, ping_seconds=3.0) as site:
        site.configure(STOP_FORCE="1", PROBE_TIMEOUT="1")
        site.preset()
        site.storage.freeze()
        ended = site.stop()
        assert ended.returncode == 0, ended.stderr
        assert (site.table, sessions(site), site.world.state["elis"]) == ([], [], {})


def test_fault_80_a_stop_that_may_use_force(tmp_path: Path) -> None:
    for number, variant in enumerate((ISCSI, ISCSI_GELI)):
        with scene(tmp_path / str(number), variant) as site:
            site.configure(STOP_FORCE="1")
            site.preset()
            site.storage.freeze()
            ended = site.stop()
            assert ended.returncode == 0, ended.stderr
            assert (site.table, sessions(site), site.world.state["elis"]) == ([], [], {})


def test_fault_80_force_does_not_hurt_another_environment(site: BlockSite) -> None:
    add_on_lun(site, "jail2", 1)
    for name in ("jail1", "jail2"):
        site.preset(name=name)
    with site.conf.open("a") as stream:
        stream.write('[*]\nSTOP_FORCE="1"\nTIMEOUT="6"\n')
    site.storage.freeze()
    ended = site.stop()
    assert ended.returncode == 75
    assert str(site.point("data", "jail2")) in last_line(ended)
    assert sessions(site) == [(SHARED, PORTAL)]
    site.storage.up()
    while site.world.sessions()[0]["status"] != "Connected":
        time.sleep(0.05)
    assert seen(site, "jail2") == ["jail2"]


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_fault_80_nothing_is_done_to_another_environment_while_the_session_is_down(site: BlockSite, verb: str) -> None:
    add_on_lun(site, "jail2", 1)
    site.preset(name="jail2")
    with site.conf.open("a") as stream:
        stream.write('[jail1]\nTIMEOUT="6"\n')
    site.storage.freeze()
    ended = site.start() if verb == "start" else site.stop()
    assert ended.returncode == (75 if verb == "start" else 0)
    assert sessions(site) == [(SHARED, PORTAL)]
    assert not by_hooks(site, "iscsictl", "-R")
    site.storage.up()
    while site.world.sessions()[0]["status"] != "Connected":
        time.sleep(0.05)
    assert seen(site, "jail2") == ["jail2"]


def test_fault_80_what_is_said_of_it(site: BlockSite) -> None:
    site.preset()
    site.storage.freeze()
    where = ("iscsi", "-w", str(site.workdir), "-j", "jail1")
    checked, status = site.hand("check", *where), site.hand("status", *where)
    assert checked.returncode == 2
    assert checked.stdout.startswith("CRITICAL: jail1: ")
    assert SHARED in checked.stdout
    assert status.returncode == 1
    assert "lost" in status.stdout


def test_fault_80_session_comes_back(site: BlockSite) -> None:
    site.preset()
    before = site.table
    site.storage.freeze()
    assert site.world.sessions()[0]["status"] != "Connected"
    site.storage.up()
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.table == before


# What was mounted from a disk that has gone


def lost(site: BlockSite) -> list[str]:
    return [mount["node"] for mount in site.world.mounts() if mount["options"].get("lost")]


def lose(site: BlockSite) -> None:
    """Its disk goes from under what is mounted, which goes on to show what the kernel has in memory."""
    if site.variant.backend == "hast":
        assert site.world.command("hastctl", "role", "secondary", "jail1").returncode == 0
    else:
        assert site.world.command("iscsictl", "-R", "-a").returncode == 0
    until = time.monotonic() + 10
    while not lost(site):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert site.world.real(site.point("data")).is_dir()


VOLUMES = pytest.mark.parametrize("variant", [ISCSI, ISCSI_TREE, ISCSI_GELI, HAST], ids=lambda variant: variant.title)


@pytest.mark.first(3)
@VOLUMES
@pytest.mark.parametrize("back", [False, True])
def test_a_volume_whose_disk_has_gone_is_mounted_anew(tmp_path: Path, variant: Variant, *, back: bool) -> None:
    """Also when the disk is back under its old name (tests/transcripts/iscsi.txt and hast.txt, "while mounted")."""
    with BlockSite(tmp_path, variant) as site:
        site.preset()
        lose(site)
        if back and variant.backend == "iscsi":
            by_hand(site, PORTAL)
        for verb in ("check", "status"):
            ended = site.hand(verb, variant.backend, *site.args())
            assert (ended.returncode != 0, "its disk has gone" in ended.stdout) == (True, True), ended.stdout
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert (lost(site), site.is_all_there()) == ([], True)
        assert site.stop().returncode == 0
        assert site.table == []


@pytest.mark.first(2)
@VOLUMES
def test_a_volume_whose_disk_has_gone_under_a_jail_that_runs(tmp_path: Path, variant: Variant) -> None:
    with BlockSite(tmp_path, variant) as site:
        site.preset()
        lose(site)
        site.world.jail("jail1", 7)
        before = site.table
        ended = site.start()
        assert (ended.returncode, "jail1 runs; stop it first" in last_line(ended)) == (75, True), ended.stderr
        assert site.table == before


@pytest.mark.first(2)
@VOLUMES
def test_a_volume_whose_disk_has_gone_is_taken_away_by_a_stop(tmp_path: Path, variant: Variant) -> None:
    with BlockSite(tmp_path, variant) as site:
        site.preset()
        lose(site)
        ended = site.stop()
        assert (ended.returncode, site.table) == (0, []), ended.stderr


# 81, 82: sessions of others


def test_fault_81_broken_session_of_somebody_else(site: BlockSite) -> None:
    assert site.world.command("iscsictl", "-A", "-p", "172.16.0.99", "-t", "iqn.2026-11.lab:broken").returncode == 0
    for verb in (site.start, site.start, site.stop):
        ended = verb()
        assert (ended.returncode, ended.stderr) == (0, "")
    assert not by_hooks(site, "iscsictl", "-w")
    assert sessions(site) == [("iqn.2026-11.lab:broken", "172.16.0.99")]


def test_fault_82_session_by_way_of_another_portal(site: BlockSite) -> None:
    two_portals(site)
    by_hand(site, OTHER)
    assert site.start().returncode == 0
    assert sessions(site) == [(SHARED, PORTAL), (SHARED, OTHER)]
    assert site.stop().returncode == 0
    assert sessions(site) == [(SHARED, OTHER)], "that one is not ours"


def test_fault_82_the_same_disk_is_in_use_by_way_of_another_portal(site: BlockSite) -> None:
    two_portals(site)
    elsewhere = site.world.path / "mnt"
    elsewhere.mkdir()
    assert site.world.command("mount", by_hand(site, OTHER), str(elsewhere)).returncode == 0
    before = site.table
    ended = site.start()
    assert ended.returncode in (75, 78)
    assert str(elsewhere) in last_line(ended)
    assert (site.table, sessions(site)) == (before, [(SHARED, OTHER)])


def test_fault_82_the_same_disk_is_in_use_by_way_of_a_session_that_is_down(site: BlockSite) -> None:
    """Its disk is not listed by iscsictl; the session can come back, and then two would write."""
    two_portals(site)
    elsewhere = site.world.path / "mnt"
    elsewhere.mkdir()
    assert site.world.command("mount", by_hand(site, OTHER), str(elsewhere)).returncode == 0
    site.storage.freeze(OTHER)
    while "Connected" in site.world.command("iscsictl", "-L").stdout:
        time.sleep(0.05)
    before = site.table
    ended = site.start()
    assert ended.returncode == 78, ended.stderr
    assert str(elsewhere) in last_line(ended)
    assert (site.table, sessions(site)) == (before, [(SHARED, OTHER)])


# 95: several ways to one disk


def test_fault_95_both_paths(site: BlockSite) -> None:
    multipath(site)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.is_all_there()
    assert [device for device, _, _ in site.table] == ["/dev/multipath/m1"]
    assert sessions(site) == [(SHARED, PORTAL), (SHARED, OTHER)]
    assert site.stop().returncode == 0
    assert (sessions(site), site.table) == ([], [])


@pytest.mark.first(2)
@pytest.mark.parametrize("how", ["freeze", "refuse", "down"])
@pytest.mark.parametrize("portal", [PORTAL, OTHER])
def test_fault_95_one_path_is_dead(site: BlockSite, portal: str, how: str) -> None:
    multipath(site)
    getattr(site.storage, how)(portal)
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert "warning" in ended.stderr
    assert "degraded" in ended.stderr
    assert portal in ended.stderr
    assert site.is_all_there()
    assert site.stop().returncode == 0
    assert (sessions(site), site.table) == ([], [])


def test_fault_95_one_path_dies_while_it_is_mounted(site: BlockSite) -> None:
    site.world.set(fail_on_disconnection=1)
    multipath(site)
    site.preset()
    site.storage.refuse(OTHER)
    while len([one for one in site.world.sessions() if one["status"] == "Connected"]) == 2:
        time.sleep(0.02)
    checked = site.hand("check", "iscsi", "-w", str(site.workdir), "-j", "jail1")
    assert (checked.returncode, checked.stdout[:8]) == (1, "WARNING:")
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert "degraded" in ended.stderr
    assert site.stop().returncode == 0
    assert (sessions(site), site.table) == ([], [])


def test_fault_82_session_by_way_of_our_second_portal_is_used(site: BlockSite) -> None:
    two_portals(site)
    site.configure(ISCSI_PORTAL=f"{PORTAL} {OTHER}")
    by_hand(site, OTHER)
    assert site.start().returncode == 0
    assert sessions(site) == [(SHARED, OTHER)]
    assert site.is_all_there()


def test_fault_82_no_second_name_for_a_disk_that_is_in_use(site: BlockSite) -> None:
    two_portals(site)
    site.configure(ISCSI_PORTAL=f"{PORTAL} {OTHER}", TIMEOUT="6")
    site.storage.refuse(PORTAL)
    site.preset()
    site.storage.up(PORTAL)
    site.storage.freeze(OTHER)
    ended = site.start()
    assert ended.returncode == 75
    assert "is down" in last_line(ended)
    assert sessions(site) == [(SHARED, OTHER)]
    site.storage.up(OTHER)
