"""Two hosts and one volume: whatever happens in whatever order, at most one of them writes to it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blocks import HAST, HAST_GELI, ISCSI, ISCSI_GELI, ISCSI_TREE, BlockSite
from cbsd import Variant, last_line
from harmless import SHARED, harm, sessions
from sim.store import STATE

from envstart.storage import host_mark

FENCED = Variant("iscsi, fenced", "iscsi", {"FENCE": "scsi3"}, ("data",))
PLAIN_TREE = Variant("iscsi, tree", "iscsi", {"VOLUME_LAYOUT": "tree"}, ("system", "fstab", "data"))
UUID = "5d1f7b3a-23a4-11ee-9f0a-58589c7b0e21"
# Each case has machines of its own, and most of its time nothing runs.
AT_ONCE = 4
# Seconds that one host stands still while the other one runs. What comes of it must not depend on it.
STILL = 2.5

fenced = pytest.mark.parametrize("variant", [FENCED, ISCSI_TREE, ISCSI_GELI], ids=lambda variant: variant.title)
unfenced = pytest.mark.parametrize("variant", [ISCSI, PLAIN_TREE], ids=lambda variant: variant.title)
hast = pytest.mark.parametrize("variant", [HAST, HAST_GELI], ids=lambda variant: variant.title)


@contextlib.contextmanager
def hosts(top: Path, variant: Variant, uuid: str = "", **keys: str) -> Iterator[tuple[BlockSite, BlockSite]]:
    """node1 and node2 with the same environment jail1, neither of which has come to harm at the end."""
    with (
        BlockSite(top / "one", variant, hostuuid=uuid) as one,
        BlockSite(top / "two", variant, storage=one.storage, hostname="node2", hostuuid=uuid) as two,
    ):
        (two.workdir / "nodename").write_text("node2.example.com\n")
        if variant.backend == "hast":
            files = one.make(str(one.storage.hast("jail1", [one.world, two.world])))
            for which in ("data/etc", "system", "fstab") if one.tree else ("etc",):
                (files / which).mkdir(parents=True)
        for host in (one, two):
            host.configure(**keys)
        yield one, two
        for host in (one, two):
            assert not alive(host) or harm(host) == ""


def alive(host: BlockSite) -> bool:
    return (host.world.path / STATE).exists()


def crash(host: BlockSite) -> None:
    """Stop the host without a word; what it was about to write is lost, and the volume stays as it was in use."""
    host.world.close()


def writers(host: BlockSite) -> list[str]:
    return host.storage.writers(SHARED)


def keys(host: BlockSite) -> list[int]:
    """Of all hosts that are registered with the LUN."""
    found: list[int] = host.storage.reservation(SHARED)["keys"]
    return found


def hand(host: BlockSite, *words: str) -> Any:
    return host.hand(words[0], host.variant.backend, "-w", str(host.workdir), "-j", "jail1", *words[1:])


def until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def is_mounted(host: BlockSite) -> bool:
    return any(mount["fstype"] == "ufs" for mount in host.world.mounts())


# A reservation


@fenced
def test_fault_94_second_host_is_refused(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant) as (one, two):
        assert one.start().returncode == 0
        (held,) = keys(one)
        ended = two.start()
        assert ended.returncode == 75
        assert f"{held:#x}" in last_line(ended)
        assert "recover --preempt" in last_line(ended)
        assert (keys(one), two.table, sessions(two)) == ([held], [], [])
        assert not [call for call in two.world.calls("camcontrol") if "-o" in call["argv"]], "it was registered"
        assert (writers(one), one.is_all_there()) == (["node1"], True)


@pytest.mark.first(1)
@fenced
def test_fault_94_moves_from_host_to_host(tmp_path: Path, variant: Variant) -> None:
    found: list[list[str]] = []
    with hosts(tmp_path, variant) as (one, two):
        for host, other in ((one, two), (two, one), (one, two)):
            ended = host.start()
            assert ended.returncode == 0, ended.stderr
            assert host.is_all_there()
            assert writers(one) == [host.world.state["settings"]["hostname"]]
            assert other.table == []
            data = host.world.real(host.point("data"))
            found.append([name for name in os.listdir(data) if name.startswith("start")])
            (data / f"start{len(found)}").mkdir()
            assert host.stop().returncode == 0
            assert (keys(one), sessions(host)) == ([], [])
        assert [len(names) for names in found] == [0, 1, 2], "not the same volume"


@pytest.mark.first(1)
@fenced
def test_fault_94_both_start_at_once(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant) as (one, two):
        hooks = [(host, host.begin()) for host in (one, two)]
        ended = [(host, hook.communicate()[1], hook.returncode) for host, hook in hooks]
        winners = [host for host, _, status in ended if status == 0]
        assert len(winners) == 1, ended
        (loser,) = [host for host in (one, two) if host not in winners]
        assert winners[0].is_all_there()
        assert (loser.table, sessions(loser), len(keys(one))) == ([], [], 1)
        assert writers(one) == [winners[0].world.state["settings"]["hostname"]]
        assert winners[0].stop().returncode == 0
        assert loser.start().returncode == 0


@pytest.mark.first(2)
@pytest.mark.parametrize("nth", range(1, 6))
def test_what_a_killed_start_registered_does_not_stay_on_the_target(tmp_path: Path, nth: int) -> None:
    """Its session is gone, and with it who could take the registration back; the key is still this host's."""
    with hosts(tmp_path, FENCED) as (one, _):
        one.world.fault("camcontrol", "kill-parent", nth=nth, when="after")
        assert one.start().returncode == -9
        one.world.command("iscsictl", "-R", "-a")
        until(lambda: not sessions(one))
        for _ in range(2):
            assert one.start().returncode == 0
            assert one.stop().returncode == 0
            assert keys(one) == []


def interleaved(top: Path, variant: Variant, nth: int) -> str:
    """Return the mistake when node1 stands still at its NTH command while node2 starts, "" if there is none."""
    with hosts(top, variant) as (one, two):
        one.world.fault(None, "slow", nth=nth, seconds=STILL)
        with one.begin() as first:
            until(lambda: len(one.world.calls()) >= nth or first.poll() is not None)
            second = two.start()
            both = writers(one)
            words = first.communicate()[1]
        both = max(both, writers(one), key=len)
        statuses = (first.returncode, second.returncode)
        if len(both) > 1:
            return f"both write: {statuses}"
        if sorted(statuses)[0] != 0 or statuses == (0, 0):
            return f"statuses {statuses}\n{words}\n{second.stderr}"
        for host, status in zip((one, two), statuses):
            if host.is_all_there() != (status == 0) or (status and (host.table or sessions(host))):
                return f"{statuses}: {host.footprint()}\n{words}\n{second.stderr}"
        return "" if len(keys(one)) == 1 else f"{statuses}: keys {keys(one)}"


def turning_points(host: BlockSite) -> list[int]:
    """Return the numbers of the calls that change something, or see a change of another host's, and of the next ones.

    What is between them only looks at this host again.
    """
    found = set()
    for call in host.world.calls():
        argv = call["argv"]
        looks = argv[0] in ("sysctl", "mount") and len(argv) < 4
        if not looks and argv[:2] != ["iscsictl", "-L"]:
            found |= {call["number"], call["number"] + 1}
    return sorted(number for number in found if number <= len(host.world.calls()))


@pytest.mark.first(1)
@pytest.mark.parametrize("variant", [FENCED, ISCSI_GELI], ids=lambda variant: variant.title)
def test_fault_94_one_stands_still_while_the_other_starts(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path / "undisturbed", variant) as (one, _):
        assert one.start().returncode == 0
        places = turning_points(one)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = list(pool.map(lambda nth: interleaved(tmp_path / str(nth), variant, nth), places))
    assert not any(wrong), "\n".join(f"{nth}: {text}" for nth, text in zip(places, wrong) if text)


@pytest.mark.proof
def test_fault_94_the_stop_of_one_while_the_other_starts(tmp_path: Path) -> None:
    with hosts(tmp_path / "undisturbed", FENCED) as (one, _):
        assert one.start().returncode == 0
        before = len(one.world.calls())
        assert one.stop().returncode == 0
        places = [number - before for number in turning_points(one) if number > before]

    def play(nth: int) -> str:
        with hosts(tmp_path / str(nth), FENCED) as (one, two):
            one.preset()
            one.world.fault(None, "slow", nth=nth, seconds=STILL)
            with one.begin("stop") as first:
                until(lambda: len(one.world.calls()) >= nth or first.poll() is not None)
                second = two.start()
                both = writers(one)
                words = first.communicate()[1]
            if len(both) > 1 or first.returncode or one.table or sessions(one):
                return f"{both} {first.returncode} {one.footprint()}\n{words}"
            if second.returncode not in (0, 75) or two.is_all_there() != (second.returncode == 0):
                return f"{second.returncode} {two.footprint()}\n{second.stderr}"
            return "" if len(keys(one)) == int(second.returncode == 0) else f"keys {keys(one)} {second.returncode}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = list(pool.map(play, places))
    assert not any(wrong), "\n".join(f"{nth}: {text}" for nth, text in zip(places, wrong) if text)


# A host that is gone


@pytest.mark.first(1)
@fenced
def test_fault_94_crashed_host_is_taken_over_by_hand(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant) as (one, two):
        one.preset()
        (held,) = keys(one)
        crash(one)
        for _ in range(2):
            ended = two.start()
            assert ended.returncode == 75
            assert f"{held:#x}" in last_line(ended)
            assert (two.table, keys(two)) == ([], [held])
        assert hand(two, "recover").returncode == 0
        assert (two.table, keys(two)) == ([], [held])
        taken = hand(two, "recover", "--preempt")
        assert taken.returncode == 0, taken.stderr
        assert two.is_all_there()
        assert held not in keys(two)
        assert len(keys(two)) == 1
        assert two.stop().returncode == 0
        assert keys(two) == []


@pytest.mark.first(1)
@fenced
def test_fault_94_host_that_was_taken_over_and_lives(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant) as (one, two):
        one.preset()
        assert hand(two, "recover", "--preempt").returncode == 0
        assert (writers(one), two.is_all_there()) == (["node2"], True)
        checked = hand(one, "check")
        assert checked.returncode == 2
        assert checked.stdout.startswith("CRITICAL: jail1: ")
        shown = {row["directory"]: row for row in json.loads(hand(one, "status", "--json").stdout)["directories"]}
        assert (shown["reservation"]["state"], shown["reservation"]["level"]) == ("lost", "critical")
        started = one.start()
        assert started.returncode == 75
        assert "stop the jail or VM here" in last_line(started)
        assert len(keys(two)) == 1, "the loser must not register"
        stopped = one.stop()
        if stopped.returncode:
            # What was not written yet is lost; that is not for a plain unmount to decide.
            assert stopped.returncode == 75
            assert "has taken the reservation over" in last_line(stopped)
            assert "STOP_FORCE=1" in last_line(stopped)
            assert "wait for the server" not in last_line(stopped), "there is nothing to wait for"
            one.configure(STOP_FORCE="1")
            stopped = one.stop()
        assert (stopped.returncode, one.table, sessions(one)) == (0, [], []), stopped.stderr
        assert (writers(one), two.is_all_there(), len(keys(two))) == (["node2"], True, 1)


@pytest.mark.first(1)
@fenced
def test_fault_94_host_comes_back_after_its_own_crash(tmp_path: Path, variant: Variant) -> None:
    """Its registration of before is still there; it is the same host, and another session."""
    with hosts(tmp_path, variant) as (one, two):
        one.preset()
        crash(one)
        with BlockSite(tmp_path / "again", variant, storage=one.storage) as again:
            ended = again.start()
            assert ended.returncode == 0, ended.stderr
            assert (again.is_all_there(), len(keys(two))) == (True, 1)
            assert two.start().returncode == 75
            assert writers(two) == ["node1"]
            assert again.stop().returncode == 0
        assert two.start().returncode == 0


@fenced
def test_fault_94_two_hosts_with_one_id(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant, uuid=UUID) as (one, two):
        one.preset()
        before = one.storage.reservation(SHARED)
        ended = two.start()
        assert ended.returncode == 78
        assert "kern.hostuuid" in last_line(ended)
        assert (one.storage.reservation(SHARED), two.table, sessions(two)) == (before, [], [])
        assert (writers(one), one.is_all_there()) == (["node1"], True)


def test_fault_94_two_hosts_with_one_id_at_once(tmp_path: Path) -> None:
    """The second one has asked whose the disk is before the first one takes it, and goes on when that is at work."""
    with hosts(tmp_path, FENCED, uuid=UUID) as (one, two):
        two.world.fault("camcontrol", "slow", nth=2, seconds=STILL + 2)
        with two.begin() as second:
            until(lambda: len(two.world.calls("camcontrol")) == 2)
            assert one.start().returncode == 0
            words = second.communicate()[1]
        assert second.returncode == 78, words
        assert "kern.hostuuid" in words
        assert (writers(one), two.table, sessions(two)) == (["node1"], [], [])


@pytest.mark.parametrize("variant", [FENCED, ISCSI_TREE], ids=lambda variant: variant.title)
def test_fault_94_a_target_that_has_forgotten_its_reservations(tmp_path: Path, variant: Variant) -> None:
    """The host that had one writes on: it must not be kept from that, be it for the time of a look."""
    with hosts(tmp_path, variant) as (one, two):
        one.preset()
        one.storage.forget_reservations(SHARED)
        ended = two.start()
        assert ended.returncode == 75
        assert "carries the mark of another host" in last_line(ended)
        assert not any("reserve" in call["argv"] for call in two.world.calls("camcontrol"))
        assert (writers(one), one.is_all_there(), two.table, sessions(two)) == (["node1"], True, [], [])
        assert one.start().returncode == 0
        assert (one.storage.reservation(SHARED)["type"], one.is_all_there()) != ("", False)


# A mark


@unfenced
def test_fault_94_a_mark_of_the_same_id(tmp_path: Path, variant: Variant) -> None:
    """Two hosts that were made from one image; no reservation keeps the second one out."""
    with hosts(tmp_path, variant, uuid=UUID) as (one, two):
        assert one.start().returncode == 0
        ended = two.start()
        assert ended.returncode == 75
        assert "carries the mark of another host" in last_line(ended)
        assert "of this one's id" in last_line(ended)
        assert (writers(one), one.is_all_there(), two.table) == (["node1"], True, [])


def test_fault_94_the_name_of_the_mark_is_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UFS with soft updates has the file written, and its name for half a minute not."""
    synced: list[tuple[bool, list[str]]] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        is_directory = os.path.samestat(os.fstat(descriptor), os.stat(tmp_path))
        synced.append((is_directory, sorted(os.listdir(tmp_path))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    host_mark.write(str(tmp_path), "this host", "ufs")
    assert synced[-1] == (True, [host_mark.NAME])


@unfenced
def test_fault_94_mark_of_another_host(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant) as (one, two):
        one.preset()
        ended = two.start()
        assert ended.returncode == 75
        assert "node1" in last_line(ended)
        assert "recover --preempt" in last_line(ended)
        assert (two.table, sessions(two), writers(one)) == ([], [], ["node1"])
        assert not two.world.calls("fsck_ffs"), "it was mended under a host that writes to it"
        assert one.stop().returncode == 0
        ended = two.start()
        assert ended.returncode == 0, ended.stderr
        assert writers(one) == ["node2"]


@pytest.mark.first(1)
@unfenced
def test_fault_94_mark_of_a_crashed_host(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant, LEASE="ignore") as (one, two):
        one.preset()
        crash(one)
        for _ in range(2):
            ended = two.start()
            assert ended.returncode == 75
            assert "node1" in last_line(ended)
            assert (two.table, sessions(two)) == ([], [])
        taken = hand(two, "recover", "--preempt")
        assert taken.returncode == 0, taken.stderr
        assert two.is_all_there()
        assert two.stop().returncode == 0
        assert two.start().returncode == 0


@unfenced
def test_fault_94_own_mark(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant, LEASE="ignore") as (one, _):
        one.preset()
        crash(one)
        with BlockSite(tmp_path / "again", variant, storage=one.storage) as again:
            ended = again.start()
            assert ended.returncode == 0, ended.stderr
            assert again.is_all_there()


@pytest.mark.parametrize("age", [0, 20, 40])
def test_fault_94_lease_of_another_node(tmp_path: Path, age: int) -> None:
    """It is touched by cbsdd while the environment runs; here its host has died, and its mark was never written."""
    with hosts(tmp_path, PLAIN_TREE) as (one, two):
        one.preset()
        locked = one.world.real(one.point("system")) / "locked"
        locked.write_text("node1.example.com\n")
        (one.world.real(one.volume()) / ".envstart.owner").unlink()
        touched = time.time() - age * 60
        os.utime(locked, (touched, touched))
        crash(one)
        ended = two.start()
        assert ended.returncode == (0 if age > 30 else 75), ended.stderr
        if age < 30:
            assert "node1.example.com" in last_line(ended)
            assert (two.table, sessions(two)) == ([], [])
            assert not [call for call in two.world.calls("mount") if "rw" in call["argv"]]
            assert not two.world.calls("fsck_ffs")


# HAST


def roles(one: BlockSite, two: BlockSite) -> tuple[str, str]:
    return one.storage.role("jail1", one.world), one.storage.role("jail1", two.world)


@pytest.mark.first(1)
@hast
def test_fault_93_94_hast_moves_from_node_to_node(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant, HAST_WAIT="4") as (one, two):
        for host, other in ((one, two), (two, one), (one, two)):
            ended = host.start()
            assert ended.returncode == 0, ended.stderr
            assert host.is_all_there()
            refused = other.start()
            assert refused.returncode == 75
            assert "is primary" in last_line(refused)
            assert other.table == []
            assert host.stop().returncode == 0
        assert one.storage.split_brain("jail1") == ""


@pytest.mark.first(2)
@hast
@pytest.mark.parametrize("before", ["init", "secondary"])
def test_fault_93_94_hast_both_start_at_once(tmp_path: Path, variant: Variant, before: str) -> None:
    with hosts(tmp_path, variant, HAST_WAIT="4") as (one, two):
        for host in (one, two):
            assert host.world.command("hastctl", "role", before, "jail1").returncode == 0
        hooks = [host.begin() for host in (one, two)]
        words = [hook.communicate()[1] for hook in hooks]
        # Both may have been primary for a moment, which is how each finds out about the other; nothing was mounted.
        assert one.storage.split_brain("jail1") in ("", "both primary"), words
        assert sorted(hook.returncode for hook in hooks) == [0, 75], words
        assert roles(one, two) in (("primary", before), (before, "primary"))
        for host, hook in zip((one, two), hooks):
            assert host.is_all_there() == (hook.returncode == 0), words


@hast
def test_fault_93_94_hast_node_that_has_died(tmp_path: Path, variant: Variant) -> None:
    with hosts(tmp_path, variant, HAST_WAIT="4") as (one, two):
        assert one.start().returncode == 0
        one.storage.hast_down(one.world)
        crash(one)
        ended = two.start()
        assert ended.returncode == 0, ended.stderr
        assert two.is_all_there()
        assert "degraded" in ended.stderr


def test_fault_93_94_hast_takeover(tmp_path: Path) -> None:
    with hosts(tmp_path, HAST, HAST_WAIT="4") as (one, two):
        assert one.start().returncode == 0
        two.configure(HAST_TAKEOVER="1", HAST_WAIT="4")
        ended = two.start()
        assert ended.returncode == 0, ended.stderr
        assert roles(one, two) == ("primary", "primary")
        assert one.storage.split_brain("jail1") != ""


def test_fault_93_94_hast_nodes_that_do_not_reach_each_other(tmp_path: Path) -> None:
    """Nobody can tell then whether the other one works; it is the administrator's to fence it. What is sure is said."""
    with hosts(tmp_path, HAST, HAST_WAIT="4") as (one, two):
        assert one.start().returncode == 0
        one.storage.cut("jail1")
        checked = hand(one, "check")
        assert (checked.returncode, checked.stdout[:8]) == (1, "WARNING:")
        assert "degraded" in checked.stdout
        assert two.table == []
