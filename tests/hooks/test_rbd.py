"""RBD in the simulated FreeBSD: keys, the command lines, an image that somebody else has, disks that are there twice.

What rbd(8) prints was taken from a cluster of Ceph 16.2; rbd-ggate(8) from docs/freebsd.md#rbd-ggate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import RBD, BlockSite
from cbsd import last_line

SPEC = "jails/jail1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with BlockSite(tmp_path, RBD) as site:
        yield site


def second(tmp_path: Path, site: BlockSite) -> BlockSite:
    """Another host on the same cluster."""
    return BlockSite(tmp_path / "second", RBD, storage=site.storage, hostname="node2")


# Keys and command lines.


def test_the_command_lines(site: BlockSite) -> None:
    key = site.secret("keyring", b"[client.host1]\n")
    site.configure(CEPH_MONITORS="10.0.0.1 [fe80::1]:6789", CEPH_USER="host1", CEPH_KEYRING=str(key), CEPH_CONF="/c")
    assert site.start().returncode == 0
    access = ["--id=host1", "-c", "/c", "-m", "10.0.0.1,[fe80::1]:6789", "--keyring", str(key)]
    argvs = [call["argv"] for call in site.world.calls() if call["name"].startswith("rbd")]
    assert ["rbd", "info", *access, "--format", "json", SPEC] in argvs
    assert ["rbd", "status", *access, "--format", "json", SPEC] in argvs
    assert ["rbd-ggate", "map", *access[3:], "--exclusive", SPEC] in argvs
    assert site.stop().returncode == 0
    assert site.world.calls("rbd-ggate")[-2]["argv"] == ["rbd-ggate", "unmap", "/dev/ggate0"]


def test_a_key_that_others_can_read(site: BlockSite) -> None:
    site.configure(CEPH_KEYRING=str(site.secret("keyring", b"x", mode=0o644)))
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert "chmod 600" in last_line(ended)
    assert site.footprint() == site.rest


def test_read_only_takes_no_lock(site: BlockSite) -> None:
    site.configure(VOLUME_OPTIONS="ro")
    assert site.start().returncode == 0
    assert "--read-only" in next(call["argv"] for call in site.world.calls("rbd-ggate") if "map" in call["argv"])
    assert site.storage.box["images"][SPEC]["owner"] == ""


# What can go wrong.


def test_no_such_image(site: BlockSite) -> None:
    site.configure(RBD_IMAGE="jails/nosuch")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "error opening image nosuch" in last_line(ended)


def test_an_image_without_the_lock_of_a_writer(site: BlockSite) -> None:
    site.storage.rbd("jails/plain", features=["layering"])
    site.configure(RBD_IMAGE="jails/plain")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "rbd feature enable jails/plain exclusive-lock" in last_line(ended)
    assert site.footprint() == site.rest


def test_an_image_that_is_open_elsewhere_is_not_mapped(site: BlockSite) -> None:
    site.configure(ATTEMPTS="1")
    site.storage.watch(SPEC, "10.0.0.7")
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert "10.0.0.7:0/1 has it open" in last_line(ended)
    assert not any("map" in call["argv"] for call in site.world.calls("rbd-ggate"))


def test_of_two_hosts_one_has_it(tmp_path: Path, site: BlockSite) -> None:
    with second(tmp_path, site) as other:
        other.configure(ATTEMPTS="1")
        assert site.start().returncode == 0
        ended = other.start()
        assert ended.returncode == os.EX_TEMPFAIL
        assert "has it open" in last_line(ended)
        assert other.table == []
        assert site.stop().returncode == 0
        assert other.start().returncode == 0
        assert other.is_all_there()


def test_the_lock_of_a_writer_decides_when_both_look_at_once(site: BlockSite) -> None:
    """Nobody is seen, and yet somebody has it."""
    site.configure(ATTEMPTS="1")
    site.storage.change(lambda known: known["images"][SPEC].update({"owner": "node9"}))
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert "failed to acquire exclusive lock" in last_line(ended)
    assert site.footprint() == site.rest


def test_two_disks_of_one_image_are_refused(site: BlockSite) -> None:
    for _ in range(2):
        assert site.world.command("rbd-ggate", "map", SPEC).returncode == 0
    for ended in (site.start(), site.stop()):
        assert ended.returncode == os.EX_CONFIG
        assert "/dev/ggate0, /dev/ggate1" in last_line(ended)
    assert site.table == []


def test_what_is_mounted_by_hand_is_not_unmapped(site: BlockSite) -> None:
    site.preset()
    elsewhere = site.top / "elsewhere"
    elsewhere.mkdir()
    assert site.world.command("umount", str(site.point("data"))).returncode == 0
    assert site.world.command("mount", "/dev/ggate0", str(elsewhere)).returncode == 0
    site.configure(TIMEOUT="3")
    ended = site.stop()
    assert ended.returncode == os.EX_TEMPFAIL
    assert str(elsewhere) in last_line(ended)
    assert [row[1] for row in site.table] == [str(elsewhere)]


def test_silent_monitors_end_in_time_and_map_nothing_later(site: BlockSite) -> None:
    site.configure(TIMEOUT="8")
    site.storage.cluster("frozen")
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    site.storage.cluster("up")
    assert site.footprint() == site.rest
    assert site.start().returncode == 0


def test_a_killed_start_leaves_no_second_disk(site: BlockSite) -> None:
    """Its daemon still waits for the monitors; the next start ends it before it maps the image."""
    site.world.fault("rbd-ggate", "kill-parent", nth=2, when="during")
    with site.begin() as hook:
        hook.wait()
    assert hook.returncode < 0
    assert site.start().returncode == 0
    gates = [gate for gate in site.world.state["gates"].values() if gate["spec"] == SPEC]
    assert len(gates) == 1


def test_a_killed_start_maps_nothing_after_a_stop(site: BlockSite) -> None:
    site.storage.cluster("frozen")
    site.world.fault("rbd-ggate", "kill-parent", nth=2, when="during")
    with site.begin() as hook:
        hook.wait()
    assert site.stop().returncode == 0
    site.storage.cluster("up")
    time.sleep(0.5)
    assert site.footprint() == site.rest
