"""ZFS below nullfs: the clone that is made once and never destroyed, and its mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import NULLFS, Site, last_line
from sim import forked
from thin_site import THIN_ZFS, ThinSite, make_skeleton

GET = ["zfs", "get", "-H", "-p", "-o", "value", "mountpoint,canmount", "pool/jail1"]
CLONE = ["zfs", "clone", "-o", "canmount=noauto", "pool/template@base", "pool/jail1"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ThinSite]:
    """Yield a host with the thin jail jail1, whose skeleton is yet to be cloned; in the end nothing is destroyed."""
    with ThinSite(tmp_path, THIN_ZFS) as site:
        yield site
        verbs = {call["argv"][1] for call in site.world.calls("zfs") if not forked.has_started(call["parent"])}
        assert verbs <= {"get", "clone"}


def zfs_calls(site: Site) -> list[list[str]]:
    return [call["argv"] for call in site.world.calls("zfs")]


def is_cloned(site: Site) -> bool:
    return "pool/jail1" in site.world.state["datasets"]


def test_a_missing_clone_is_made_once(site: ThinSite) -> None:
    assert site.start().returncode == 0
    assert zfs_calls(site) == [GET, CLONE, GET]
    files = Path(site.world.state["datasets"]["pool/jail1"]["files"])
    (files / "etc" / "rc.conf").write_text("mine\n")
    site.world.forget_calls()
    for verb in (site.stop, site.stop, site.start, site.start):
        assert verb().returncode == 0
    assert CLONE not in zfs_calls(site)
    assert (site.world.real(site.point("data") / "etc" / "rc.conf")).read_text() == "mine\n"


def test_a_stop_unmounts_what_zfs_does_not_mount_itself(site: ThinSite) -> None:
    site.preset()
    assert site.stop().returncode == 0
    assert (site.table, is_cloned(site)) == ([], True)


def test_what_zfs_mounts_itself_stays_mounted(site: ThinSite) -> None:
    """As a dataset is cloned by hand: mounted at boot, where nullfs takes it from."""
    files = site.world.dataset("pool/jail1", site.held("skeleton"), canmount="on")
    make_skeleton(files)
    assert site.world.command("zfs", "mount", "pool/jail1").returncode == 0
    before = site.table
    assert site.start().returncode == 0
    assert site.table == site.wanted()
    plan = site.hand("plan", "nullfs", "-w", str(site.workdir), "-j", "jail1", "--stop").stdout
    assert f"umount {site.held('skeleton')}\n" not in plan
    assert site.stop().returncode == 0
    assert site.table == before


def test_a_clone_of_a_failed_start_stays_and_is_told(site: ThinSite) -> None:
    site.world.fault("mount", nth=site.count("mount") + 1, times=None, text="mount: pool/jail1: Permission denied")
    site.world.set(getfsstat=True)
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert "warning: dataset pool/jail1 was cloned by this run, and stays; nothing of ZFS is destroyed" in ended.stderr
    assert "cannot mount pool/jail1 on" in last_line(ended)
    assert (site.table, is_cloned(site)) == ([], True)
    site.world.clear_faults()
    assert site.start().returncode == 0


def test_a_clone_that_was_there_is_not_told(site: ThinSite) -> None:
    make_skeleton(site.world.dataset("pool/jail1"))
    site.world.fault("mount_nullfs", nth=2, times=None, text="mount_nullfs: x: Operation not permitted")
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert "was cloned" not in ended.stderr
    assert site.table == []


def test_a_dataset_that_is_mounted_elsewhere_is_refused(site: ThinSite) -> None:
    elsewhere = site.files / "elsewhere"
    make_skeleton(site.world.dataset("pool/jail1", elsewhere, canmount="on"))
    assert site.world.command("zfs", "mount", "pool/jail1").returncode == 0
    before = site.table
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert f"it is mounted on {elsewhere}; name that directory in the configuration, or: zfs unmount" in last_line(
        ended
    )
    assert (site.table, site.mounting) == (before, [])


def test_a_missing_dataset_without_a_snapshot_is_refused(site: ThinSite) -> None:
    site.configure(ZFS_SKELETON_SNAPSHOT="")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "cannot find dataset pool/jail1: make it, or set ZFS_SKELETON_SNAPSHOT" in last_line(ended)
    assert (zfs_calls(site), site.mounting) == ([GET], [])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"ZFS_SKELETON_SNAPSHOT": "pool/template@nosuch"},
            "cannot open 'pool/template@nosuch': dataset does not exist",
        ),
        ({"ZFS_CLONE": "pool/nosuch/{name}"}, "cannot create 'pool/nosuch/jail1': parent does not exist"),
    ],
)
def test_what_cannot_be_cloned(site: ThinSite, keys: dict[str, str], words: str) -> None:
    site.configure(**keys)
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert f"{words}; make what is missing, or correct ZFS_CLONE and ZFS_SKELETON_SNAPSHOT" in last_line(ended)
    assert site.table == []


def test_zfs_that_cannot_tell_changes_nothing(site: ThinSite) -> None:
    site.world.fault("zfs", times=None, text="internal error: failed to initialize ZFS library")
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert "cannot tell what zfs knows: internal error: failed to initialize ZFS library" in last_line(ended)
    assert (site.table, site.mounting, is_cloned(site)) == ([], [], False)


def test_a_key_that_is_not_loaded(site: ThinSite) -> None:
    make_skeleton(site.world.dataset("pool/jail1"))
    site.world.fault("mount", times=None, text="mount: pool/jail1: Permission denied")
    site.world.set(getfsstat=True)
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert "Permission denied; if it is encrypted, load its key: zfs load-key" in last_line(ended)
    assert site.table == []


def test_a_volume_is_refused(site: ThinSite) -> None:
    site.world.dataset("pool/jail1", "-", canmount="-")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "cannot use pool/jail1: it is a volume" in last_line(ended)
    assert (site.table, site.mounting) == ([], [])


def test_a_pool_that_is_not_there(site: ThinSite) -> None:
    """A dataset that is a pool's top is told of in other words."""
    site.configure(ZFS_CLONE="tank", ZFS_SKELETON_SNAPSHOT="")
    site.world.fault("zfs", times=None, text="cannot open 'tank': no such pool")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "cannot find dataset tank" in last_line(ended)


@pytest.mark.parametrize(("mountpoint", "canmount"), [("legacy", "on"), ("none", "noauto"), ("/elsewhere", "off")])
def test_the_place_is_the_configurations(site: ThinSite, mountpoint: str, canmount: str) -> None:
    """Whatever zfs(8) thinks of it."""
    make_skeleton(site.world.dataset("pool/jail1", mountpoint, canmount=canmount))
    assert site.start().returncode == 0
    assert site.table == site.wanted()
    assert site.stop().returncode == 0
    assert site.table == []


def test_the_hand_tool_tells_of_the_dataset(site: ThinSite) -> None:
    which = ["nullfs", "-w", str(site.workdir), "-j", "jail1"]
    plan = site.hand("plan", *which).stdout.splitlines()
    skeleton = site.held("skeleton")
    assert plan.index(" ".join(CLONE)) < plan.index(f"mount -t zfs -o rw -o nocover pool/jail1 {skeleton}")
    assert site.hand("status", *which).returncode == 1
    site.start()
    assert site.hand("status", *which).returncode == 0
    assert f"umount {skeleton}" in site.hand("plan", *which, "--stop").stdout.splitlines()


def test_the_snapshot_type_of_thin_jail(tmp_path: Path) -> None:
    with Site(tmp_path, NULLFS) as site:
        site.world.dataset("pool", "/pool")
        (site.world.dataset("pool/14.3@base") / "etc").mkdir()
        site.held("data").joinpath("etc").rmdir()
        site.held("data").rmdir()
        site.configure(
            ZFS_CLONE="pool/{name}", ZFS_SKELETON_SNAPSHOT="pool/14.3@base", MOUNT_FSTAB="0", MOUNT_SYSTEM="0"
        )
        assert site.start().returncode == 0
        assert site.table == sorted([("pool/jail1", str(site.held("data")), "zfs"), site.row("data")])
        assert site.stop().returncode == 0
        assert site.table == []
