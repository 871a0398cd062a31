"""A stop of several directories: side by side, all or nothing, and without what only serves a message."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import NFS4, Site, Variant, last_line
from pace import in_time

FOUR = Variant("four", "nfs", {"MOUNT_RCCONF": "1"}, (*NFS4.directories, "rcconf"))
# Long enough that all have begun before the first has ended, on a machine with much to do.
SLOW = 4.0


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, FOUR, getfsstat=True) as site:
        site.preset()
        yield site


def until_all_unmount(site: Site, number: int) -> None:
    end = time.monotonic() + 30
    while site.count("umount") < number:
        assert time.monotonic() < end, f"{site.count('umount')} of {number} have begun"
        time.sleep(0.02)


# All four must have begun before the first has ended.
@pytest.mark.alone
def test_case_b3_four_mounts_are_unmounted_side_by_side(four: Site) -> None:
    """Each takes its time, and all of them take little more than one: 12 s of 10 s, in this measure 1.2 of 1."""
    four.world.fault("umount", "slow", seconds=SLOW, times=None)
    began = time.monotonic()
    with four.begin("stop") as hook:
        until_all_unmount(four, 4)
        assert len(four.table) == 4, "one has ended before another has begun"
        assert hook.wait() == 0
    assert in_time(began, 0.2 * SLOW + 1, waiting=SLOW)
    assert four.table == []


def test_case_b3_what_is_at_work_when_another_one_fails_is_brought_back(four: Site) -> None:
    """It is not cut off: the three that go on are unmounted, and mounted again."""
    four.world.fault("umount", "slow", seconds=1.0, times=3)
    four.world.fault("umount", "fail", nth=4, text="umount: it does not like it", times=1)
    ended = four.stop()
    assert (ended.returncode, "it does not like it" in last_line(ended)) == (1, True), ended
    assert four.table == four.wanted()
    assert len(four.mounting) == 3, "one was ended in the middle"


def test_case_b3_one_that_stays_busy_stops_none(four: Site) -> None:
    four.configure(TIMEOUT="3")
    with four.world.holder(four.point("data")):
        ended = four.stop()
    assert (ended.returncode, four.table) == (75, four.wanted())
    assert "it is busy" in last_line(ended)


def test_case_b3_a_resolver_that_gives_no_answer(tmp_path: Path) -> None:
    """umount(8) would ask it for each mount, for half a minute; unmount(2) asks nobody."""
    seconds = 30.0
    with Site(tmp_path, getfsstat=True, resolver={"nas": "again"}, resolver_seconds=seconds) as site:
        site.configure(NFS_SERVER="nas", TIMEOUT="60")
        for which in NFS4.directories:
            site.world.export("nas", f"/nfs/{which}/jail1")
            site.world.mount(f"nas:/nfs/{which}/jail1", site.point(which))
        began = time.monotonic()
        ended = site.stop()
        assert (ended.returncode, site.table) == (0, []), ended
        assert in_time(began, seconds / 3)
        assert (site.count("umount"), site.count("unmount(2)")) == (0, 3)


def test_case_b3_a_name_that_resolves_is_unmounted_as_ever(tmp_path: Path) -> None:
    with Site(tmp_path, getfsstat=True) as site:
        site.configure(NFS_SERVER="nas")
        for which in NFS4.directories:
            site.world.export("nas", f"/nfs/{which}/jail1")
            site.world.mount(f"nas:/nfs/{which}/jail1", site.point(which))
        assert (site.stop().returncode, site.table) == (0, [])
        assert (site.count("umount"), site.count("unmount(2)")) == (3, 0)


def test_case_b3_busy_by_unmount_2_too(tmp_path: Path) -> None:
    """What is in use is tried again, whichever way it is unmounted."""
    with Site(tmp_path, getfsstat=True, resolver={"nas": "again"}, resolver_seconds=30.0) as site:
        site.configure(NFS_SERVER="nas", TIMEOUT="60")
        site.world.export("nas", "/nfs/data/jail1")
        site.world.mount("nas:/nfs/data/jail1", site.point("data"))
        with site.world.holder(site.point("data")) as process, site.begin("stop") as hook:
            while not site.count("fuser"):
                time.sleep(0.02)
            process.kill()
            process.wait()
            assert hook.wait() == 0
        assert site.table == []
        assert site.count("unmount(2)") > 1


@pytest.mark.parametrize("how", ["missing", "failing"])
def test_case_b6_without_fuser_a_busy_directory_is_tried_again(tmp_path: Path, how: str) -> None:
    with Site(tmp_path) as site:
        site.preset()
        if how == "missing":
            (site.world.path / "bin" / "fuser").unlink()
        else:
            site.world.fault("fuser", "fail", times=None, text="fuser: kvm_openfiles(): no such thing")
        with site.world.holder(site.point("data")) as process, site.begin("stop") as hook:
            while site.count("umount") < 4:
                assert hook.poll() is None, "it was not tried again"
                time.sleep(0.02)
            process.kill()
            process.wait()
            assert hook.wait() == 0
        assert site.table == []
