"""fsck beside what belongs to others: it looks at the source of every mount of the host, and waits for a dead one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import GELI, ISCSI_GELI, BlockSite
from cbsd import Variant, last_line
from harmless import by_hooks, image_of, scene
from pace import in_time, pace

from envstart.paths import path_digest
from envstart.storage import fsck_preen

SERVER = "filer"
# The jail that the volume is checked in.
JAIL = f"envstart_fsck_gpt_jail1_eli_{path_digest('gpt/jail1.eli')}"
# Seconds that a start may take longer beside a dead server than beside one that answers; PROBE_TIMEOUT is 20.
AS_FAST = 1.5
stacks = pytest.mark.parametrize("variant", [GELI, ISCSI_GELI], ids=lambda variant: variant.title)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, GELI) as site:
        yield site


def volume_of(site: BlockSite) -> str:
    """Return the provider or image that holds jail1's file system."""
    return "gpt/jail1.eli" if site.variant is GELI else f"{image_of(site)}.eli"


def unclean(site: BlockSite) -> None:
    site.world.newfs(volume_of(site), clean=False, soft_updates=False)
    (site.world.files(volume_of(site)) / "etc").mkdir()


def nullfs(site: BlockSite) -> Path:
    """Return a nullfs of another jail's, whose source lies on a server; where it is mounted."""
    source, shown = site.top / "films", site.top / "shown"
    for directory in (source, shown):
        directory.mkdir()
    (site.world.export(SERVER, "/films") / "new").mkdir()
    site.world.mount(f"{SERVER}:/films", source)
    site.world.mount(f"{source}/new", shown, "nullfs")
    return shown


def timed_start(site: BlockSite) -> float:
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.is_all_there()
    return time.monotonic() - began


@stacks
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "unclean"])
# Two starts are compared by the seconds that they take.
@pytest.mark.alone
def test_case_a5_as_fast_beside_a_dead_server(tmp_path: Path, variant: Variant, *, clean: bool) -> None:
    with scene(tmp_path, variant) as site:
        site.configure(TIMEOUT="60", PROBE_TIMEOUT="20")
        nullfs(site)
        took = []
        for dead in (False, True):
            if not clean:
                unclean(site)
            if dead:
                site.world.freeze(SERVER)
            took.append(timed_start(site))
            assert not site.world.state["stuck"]
            assert site.stop().returncode == 0
        assert in_time(time.monotonic() - took[1], AS_FAST, waiting=took[0] / pace())
        assert bool(by_hooks(site, "fsck_ffs")) is not clean
        assert not site.world.state["jails"]
        assert site.world.superblock(volume_of(site))["clean"]


def test_case_a5_what_is_clean_is_not_checked(site: BlockSite) -> None:
    timed_start(site)
    assert not by_hooks(site, "fsck_ffs")


def test_case_a5_the_plan_says_what_the_start_does(site: BlockSite) -> None:
    assert "no device; to be checked unless it is clean" in site.start("-n").stdout
    attached = site.world.command("geli", "attach", "-p", "-k", str(site.secrets / "key"), "gpt/jail1")
    assert attached.returncode == 0, attached.stderr
    assert "fsck_ffs" not in site.start("-n").stdout
    unclean(site)
    assert "fsck_ffs -p /dev/gpt/jail1.eli" in site.start("-n").stdout
    nullfs(site)
    line = f"jail -c name={JAIL} path=/ enforce_statfs=2 command=fsck_ffs -p /dev/gpt/jail1.eli"
    assert line in site.start("-n").stdout
    timed_start(site)
    assert [" ".join(argv) for argv in by_hooks(site, "jail")] == [line]


def test_case_a5_without_mounts_of_directories_there_is_no_jail(site: BlockSite) -> None:
    unclean(site)
    timed_start(site)
    assert len(by_hooks(site, "fsck_ffs")) == 1
    assert not by_hooks(site, "jail")


@pytest.mark.parametrize("refusal", ["missing", "jail: jail_set: Operation not permitted"])
def test_case_a5_no_jail_and_a_dead_server(site: BlockSite, refusal: str) -> None:
    """It ends at once, and names what must be unmounted; no command is left behind that waits for it."""
    unclean(site)
    shown = nullfs(site)
    site.world.freeze(SERVER)
    if refusal == "missing":
        (site.world.path / "bin" / "jail").unlink()
    else:
        site.world.fault("jail", text=refusal, times=None)
    began = time.monotonic()
    ended = site.start()
    assert in_time(began, 10)
    assert ended.returncode == 75
    for word in (SERVER, str(shown), str(site.top / "films" / "new"), "jail", f"unmount {shown}"):
        assert word in last_line(ended), ended.stderr
    assert not by_hooks(site, "fsck_ffs")
    assert not site.footprint()["elis"]
    site.world.up(SERVER)


def test_case_a5_no_jail_and_all_answers(site: BlockSite) -> None:
    unclean(site)
    nullfs(site)
    (site.world.path / "bin" / "jail").unlink()
    timed_start(site)
    assert len(by_hooks(site, "fsck_ffs")) == 1


def test_case_a5_what_fsck_says_in_the_jail_is_what_counts(site: BlockSite) -> None:
    nullfs(site)
    site.world.newfs(volume_of(site), clean=False, broken=True)
    ended = site.start()
    assert ended.returncode == 74
    assert "RUN fsck MANUALLY" in last_line(ended)
    assert "jail:" not in ended.stderr
    assert len(by_hooks(site, "fsck_ffs")) == 1


def test_case_a5_a_check_that_takes_too_long_leaves_no_jail(tmp_path: Path) -> None:
    with scene(tmp_path, GELI, fsck_seconds=3600.0) as site:
        nullfs(site)
        unclean(site)
        site.configure(FSCK_TIMEOUT="1")
        ended = site.start()
        assert ended.returncode not in (0, 78)
        assert "FSCK_TIMEOUT" in last_line(ended)
        assert not site.world.state["jails"]


def test_case_a5_a_check_that_nothing_ends_is_not_said_to_be_slow(site: BlockSite) -> None:
    """As one that waits in sync(2) for a dead server that something is to be written to; no time-out helps there."""
    unclean(site)
    site.configure(FSCK_TIMEOUT="1")
    site.world.fault("fsck_ffs", "unkillable")
    ended = site.start()
    assert ended.returncode == 75
    assert "fsck hangs, and nothing ends it" in ended.stderr
    assert "sync(2), a server that a jail was writing to" in ended.stderr
    assert "FSCK_TIMEOUT" not in ended.stderr
    site.world.calm()


def test_case_a5_a_jail_that_a_killed_run_has_left(site: BlockSite) -> None:
    site.world.jail(JAIL, 7)
    nullfs(site)
    unclean(site)
    timed_start(site)
    assert not site.world.state["jails"]


@pytest.mark.parametrize("other", ["gpt/jail1_eli", "gpt_jail1.eli", "gpt-jail1.eli"])
def test_case_a5_the_check_of_another_device_goes_on(site: BlockSite, other: str) -> None:
    """The names of the two differ in a character that no jail can have in its own."""
    site.world.jail(fsck_preen._jail_name(f"/dev/{other}"), 7)
    nullfs(site)
    unclean(site)
    timed_start(site)
    assert list(site.world.state["jails"]) == [fsck_preen._jail_name(f"/dev/{other}")]
