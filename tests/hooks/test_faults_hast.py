"""What HAST can do to an environment whose volume is a resource (failure catalogue B.4, 93)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from blocks import HAST, BlockSite
from cbsd import last_line
from harmless import by_hooks, harm, scene
from sim.world import World

TIMEOUT = 6


def other_node(site: BlockSite, top: Path) -> World:
    """jail1's resource gets a second node, whose machine comes back; the volume is a new one."""
    peer = World.create(top / "peer", storage=site.storage, hostname="node2")
    (site.make(str(site.storage.hast("jail1", [site.world, peer]))) / "etc").mkdir()
    return peer


def become(world: World, role: str) -> None:
    assert world.command("hastctl", "role", role, "jail1").returncode == 0


def connected(world: World) -> None:
    """Wait until this secondary knows its primary."""
    while "status" not in world.command("hastctl", "list", "jail1").stdout:
        time.sleep(0.05)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("before", ["init", "secondary", "secondary since now"])
def test_fault_93_the_other_node_is_primary(tmp_path: Path, before: str, *, asked: bool) -> None:
    """It says so itself; where it cannot be asked, the connection that it makes shows it."""
    resolver = {} if asked else {"172.16.0.101": "again"}
    scenery = scene(tmp_path, HAST, hast_connect_seconds=0.8, resolver=resolver)
    with scenery as site, other_node(site, tmp_path) as peer:
        site.configure(HAST_WAIT="6")
        become(peer, "primary")
        become(site.world, before.split()[0])
        if before == "secondary":
            connected(site.world)
        ended = site.start()
        assert ended.returncode == 75
        assert "is primary" in last_line(ended)
        assert "HAST_TAKEOVER=1" in last_line(ended)
        roles = site.storage.role("jail1", site.world), site.storage.role("jail1", peer)
        assert roles == (before.split()[0], "primary")
        assert not by_hooks(site, "hastctl", "primary")
        assert (site.table, site.storage.split_brain("jail1")) == ([], "")


def test_fault_93_split_brain_with_a_primary(tmp_path: Path) -> None:
    """The worker of the secondary ends as soon as it has begun, so that hastctl never shows that there is a primary."""
    with scene(tmp_path, HAST, hast_connect_seconds=0.1) as site, other_node(site, tmp_path) as peer:
        site.configure(HAST_WAIT="2")
        become(peer, "primary")
        become(site.world, "secondary")
        site.storage.tear("jail1")
        ended = site.start()
        assert ended.returncode == 75
        assert "is primary now" in last_line(ended)
        assert not by_hooks(site, "hastctl", "primary")
        become(peer, "init")
        assert site.start().returncode == 0


@pytest.mark.parametrize("before", ["init", "secondary", "primary"])
def test_fault_93_the_other_node_is_secondary(tmp_path: Path, before: str) -> None:
    with scene(tmp_path, HAST) as site, other_node(site, tmp_path) as peer:
        site.configure(HAST_WAIT="4")
        become(peer, "secondary")
        become(site.world, before)
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()
        assert site.storage.role("jail1", peer) == "secondary"
        assert site.stop().returncode == 0
        assert site.storage.role("jail1", site.world) == "secondary"


def test_fault_94_the_other_node_was_booted(tmp_path: Path) -> None:
    """hastd(8) takes no role by itself: until somebody says so there, nothing is replicated."""
    with scene(tmp_path, HAST) as site, other_node(site, tmp_path) as peer:
        become(peer, "init")
        words = "nothing is replicated to 172.16.0.101 (its hastd was started, and has no role yet; there: hastctl"
        for told in (site.start().stderr, site.hand("status", "hast", "-w", str(site.workdir), "-j", "jail1").stdout):
            assert f"{words} role secondary jail1)" in told
        become(peer, "secondary")
        connected(peer)
        ended = site.start()
        assert (ended.returncode, ended.stderr) == (0, "")


def test_fault_93_takeover_by_configuration(tmp_path: Path) -> None:
    with scene(tmp_path, HAST) as site, other_node(site, tmp_path) as peer:
        become(peer, "primary")
        site.configure(HAST_TAKEOVER="1")
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()


def test_fault_93_role_under_a_mount(tmp_path: Path) -> None:
    with scene(tmp_path, HAST) as site:
        site.configure(TIMEOUT=str(TIMEOUT))
        site.preset()
        with site.world.holder(site.point("data")):
            assert site.stop().returncode == 75
        assert not by_hooks(site, "hastctl", "secondary")
        elsewhere = site.world.path / "mnt"
        elsewhere.mkdir()
        assert site.world.command("umount", str(site.point("data"))).returncode == 0
        assert site.world.command("mount", "/dev/hast/jail1", str(elsewhere)).returncode == 0
        ended = site.stop()
        assert ended.returncode == 75
        assert str(elsewhere) in last_line(ended)
        assert site.storage.role("jail1", site.world) == "primary"
        assert harm(site) == ""


def test_fault_93_hastd_does_not_run(tmp_path: Path) -> None:
    with scene(tmp_path, HAST, hastd=False) as site:
        ended = site.start()
        assert ended.returncode == 69
        assert "hastd(8) is not running" in last_line(ended)
        assert "service hastd" in last_line(ended)


@pytest.mark.parametrize("mounted", [False, True])
def test_fault_93_stop_when_hastd_has_ended(tmp_path: Path, *, mounted: bool) -> None:
    """Without it no node is primary; what was mounted is of no use to anybody, and is taken away."""
    with scene(tmp_path, HAST) as site:
        if mounted:
            site.preset()
            become(site.world, "secondary")
        site.world.set(hastd=False)
        ended = site.stop()
        assert (ended.returncode, site.table) == (0, []), ended.stderr


def test_fault_93_hastd_falls_back(tmp_path: Path) -> None:
    with scene(tmp_path, HAST, hast_falls_back=True) as site:
        before = site.storage.role("jail1", site.world)
        ended = site.start()
        assert ended.returncode not in (0, 75)
        assert "hastctl create" in last_line(ended)
        assert (site.table, site.storage.role("jail1", site.world)) == ([], before)


def test_fault_93_resource_that_hast_does_not_have(tmp_path: Path) -> None:
    with scene(tmp_path, HAST) as site:
        site.configure(HAST_RESOURCE="another")
        ended = site.start()
        assert ended.returncode == 78
        assert "HAST_RESOURCE" in last_line(ended)
