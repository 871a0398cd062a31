"""iSCSI over a wire: targets that go silent, end sessions, change their LUNs, ask for CHAP; two nodes on one LUN."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from . import disks
from .conftest import Hosts
from .disks import LOCKED, NOTICED, SECRET, USER, configure, disk_of, hook, records, sessions, shows
from .hosts import WORKDIR, Node

Seen = Callable[[str], None]
TEMPORARY = 75
DATA = f"{WORKDIR}/jails-data/jail1-data"


@pytest.fixture
def hosts(machines: Hosts) -> Iterator[Hosts]:
    """Yield the guests: two LUNs on the storage, two nodes that may use them, nobody logged in."""
    machines.storage.resume()
    for node in (machines.node, machines.second):
        disks.clean(node)
        node.set_up("jail1", "jail2")
        disks.set_up(node)
    disks.withdraw(machines.storage)
    disks.serve(machines.storage, machines.node, machines.second)
    yield machines
    machines.storage.resume()


def fine(node: Node, verb: str, name: str = "jail1") -> float:
    """Run the hook; it must succeed in silence."""
    ended = hook(node, verb, name)
    assert (ended.status, ended.out) == (0, ""), ended
    return ended.seconds


def nothing_is_left(node: Node) -> bool:
    return node.mounted() == [] and sessions(node) == [] and records(node) == ""


@pytest.mark.short
def test_iscsi_start_twice_stop_twice(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    took = []
    for verb in ("start", "start"):
        took.append(fine(node, verb))
        assert disk_of(node).startswith("/dev/sd")
        assert (shows(node), sessions(node)) == ("disk-jail1", ["LOGGED_IN"])
    assert all(row.startswith("600 ") for row in records(node).splitlines())
    for verb in ("stop", "stop"):
        took.append(fine(node, verb))
        assert nothing_is_left(node)
    seen(" ".join(f"{seconds:.1f}" for seconds in took) + " s")


def test_target_silent_under_a_file_system(hosts: Hosts, seen: Seen) -> None:
    """Nothing of it hangs: stop, check, start; and what was written meanwhile is there when the target is back."""
    node = hosts.node
    fine(node, "start")
    hosts.storage.pause()
    writing = node.begin(f"echo written > {DATA}/new && sync -f {DATA}/new", 200)
    time.sleep(NOTICED)
    assert sessions(node) == ["FAILED"]
    stopped = hook(node, "stop")
    assert stopped.status == TEMPORARY, stopped
    assert "STOP_FORCE=1" in stopped.last
    checked = node.hand(f"check iscsi -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    started = hook(node, "start")
    assert started.status == TEMPORARY, started
    assert disk_of(node) != ""
    hosts.storage.resume()
    assert node.end(writing, 200).status == 0
    assert node.do(f"cat {DATA}/new") == "written\n"
    fine(node, "start")
    fine(node, "stop")
    assert nothing_is_left(node)
    seen(f"stop {stopped.seconds:.1f} s, check {checked.seconds:.1f} s, start {started.seconds:.1f} s; all came back")


@pytest.mark.parametrize("after", [0.0, NOTICED])
def test_iscsi_stop_by_force_under_a_silent_target(hosts: Hosts, seen: Seen, after: float) -> None:
    """Also while nobody has noticed yet that it is silent. What is unmounted so is mended by the next start."""
    node = hosts.node
    configure(node, STOP_FORCE="1")
    fine(node, "start")
    hosts.storage.pause()
    node.begin(f"echo lost > {DATA}/new; sync", 100)
    time.sleep(after)
    ended = hook(node, "stop")
    assert ended.status == 0, ended
    assert nothing_is_left(node)
    hosts.storage.resume()
    fine(node, "start")
    assert shows(node) == "disk-jail1"
    fine(node, "stop")
    seen(f"{ended.seconds:.1f} s, {after:.0f} s after the target went silent")


def test_iscsi_recover_from_a_silent_target(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    fine(node, "start")
    hosts.storage.pause()
    recovered = node.hand(f"recover iscsi -w {WORKDIR} -j jail1", 300)
    assert recovered.status == 0, recovered
    assert node.mounted() == []
    hosts.storage.resume()
    fine(node, "start")
    assert shows(node) == "disk-jail1"
    seen(f"recover took {recovered.seconds:.1f} s")


def test_target_silent_before_the_start(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    hosts.storage.pause()
    ended = hook(node, "start")
    assert ended.status == TEMPORARY, ended
    assert nothing_is_left(node)
    hosts.storage.resume()
    # What lands late would be seen by now.
    time.sleep(5)
    assert nothing_is_left(node)
    fine(node, "start")
    seen(f"after {ended.seconds:.1f} s: {ended.last.partition(': ')[2][:100]}")


@pytest.mark.parametrize("after", [0.5, 1.5, 3.0, 5.0])
def test_target_silent_in_the_middle_of_a_start(hosts: Hosts, seen: Seen, after: float) -> None:
    node = hosts.node
    running = node.begin(node.line("start", backend="iscsi"), 200)
    time.sleep(after)
    hosts.storage.pause()
    ended = node.end(running, 200)
    assert ended.status in (0, 1, TEMPORARY), ended
    assert ended.seconds < disks.TIMEOUT + 1, ended
    left = node.mounted()
    hosts.storage.resume()
    time.sleep(5)
    fine(node, "start")
    assert shows(node) == "disk-jail1"
    fine(node, "stop")
    assert nothing_is_left(node)
    seen(f"status {ended.status} after {ended.seconds:.1f} s with {len(left)} mounts: {ended.last[:110]}")


def test_session_lost_and_back(hosts: Hosts, seen: Seen) -> None:
    """The target ends all sessions and refuses for a while; what writes waits."""
    node = hosts.node
    fine(node, "start")
    disk = disk_of(node)
    disks.listening(hosts.storage, whether=False)
    writing = node.begin(f"echo written > {DATA}/new && sync -f {DATA}/new", 200)
    time.sleep(8)
    state = sessions(node)
    disks.listening(hosts.storage, whether=True)
    assert node.end(writing, 200).status == 0
    fine(node, "start")
    assert (disk_of(node), sessions(node)) == (disk, ["LOGGED_IN"])
    fine(node, "stop")
    assert nothing_is_left(node)
    seen(f"the session was {state}, and the file is there")


def test_luns_that_change_places(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    for name in ("jail1", "jail2"):
        fine(node, "start", name)
        assert shows(node, name) == f"disk-{name}"
    # One session carries both, and stays as long as one of them needs it.
    ended = hook(node, "stop", "jail2")
    assert ended.status == 0, ended
    assert sessions(node) == ["LOGGED_IN"]
    fine(node, "stop", "jail1")
    disks.swap(hosts.storage)
    refused = hook(node, "start")
    assert refused.status == 78, refused
    assert "'disk-jail2', ISCSI_SERIAL says 'disk-jail1'" in refused.last
    assert nothing_is_left(node)
    configure(node, ISCSI_LUN="1")
    fine(node, "start")
    assert shows(node) == "disk-jail1"
    seen(refused.last.partition(": ")[2][:120])


def test_chap(hosts: Hosts, seen: Seen) -> None:
    """Wrong, missing, right; the secret is in nobody's arguments, in no log, and in no file that stays."""
    node = hosts.node
    node.begin(
        "while sleep 0.02; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; done > /tmp/spied 2> /dev/null", 300
    )
    configure(node, ISCSI_TARGET=LOCKED, ISCSI_CHAP_USER=USER, ISCSI_CHAP_SECRET_FILE="/etc/wrong")
    node.put("/etc/wrong", "another secret\n", 0o600)
    wrong = hook(node, "start")
    configure(node, ISCSI_TARGET=LOCKED)
    missing = hook(node, "start")
    for refused in (wrong, missing):
        assert refused.status == 77, refused
        assert "CHAP" in refused.last
        assert nothing_is_left(node)
    configure(node, ISCSI_TARGET=LOCKED, ISCSI_CHAP_USER=USER, ISCSI_CHAP_SECRET_FILE="/etc/chap")
    fine(node, "start")
    assert all(row.startswith("600 ") for row in records(node).splitlines())
    # A daemon that was started anew brings the session back, and proves who it is.
    node.do("pkill iscsid; sleep 2; iscsid; sleep 2")
    disks.listening(hosts.storage, whether=False)
    disks.listening(hosts.storage, whether=True)
    node.do(f"echo written > {DATA}/new && sync -f {DATA}/new", 120)
    fine(node, "stop")
    assert nothing_is_left(node)
    node.run("pkill -f spied", 20)
    assert node.do(f"grep -c -a '{SECRET}' /tmp/spied; true") == "0\n"
    assert node.do(f"grep -rl '{SECRET}' /etc /var/log /run 2> /dev/null; true") == "/etc/chap\n"
    seen(wrong.last.partition(": ")[2][:120])


@pytest.mark.short
def test_two_nodes_and_the_fence(hosts: Hosts, seen: Seen) -> None:
    one, two = hosts.node, hosts.second
    fine(one, "start")
    refused = hook(two, "start")
    assert refused.status not in (0, None), refused
    assert "holds it" in refused.last
    assert nothing_is_left(two)
    one.do(f"echo written > {DATA}/new && sync -f {DATA}/new")
    # Somebody says that the first one is down, and is wrong: what it still writes is refused.
    taken = two.hand(f"recover iscsi -w {WORKDIR} -j jail1 --preempt", 200)
    assert taken.status == 0, taken
    assert shows(two) == "disk-jail1"
    assert two.do(f"cat {DATA}/new") == "written\n"
    assert one.run(f"echo too-late > {DATA}/late && sync -f {DATA}/late", 100).status != 0
    checked = one.hand(f"check iscsi -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    configure(one, STOP_FORCE="1")
    stopped = hook(one, "stop")
    assert stopped.status == 0, stopped
    assert one.mounted() == []
    assert two.do(f"ls {DATA}").split() == ["etc", "lost+found", "new"]
    fine(two, "stop")
    fine(one, "start")
    seen(refused.last.partition(": ")[2][:120])


def test_two_nodes_and_a_mark(hosts: Hosts, seen: Seen) -> None:
    """Without a fence: the power of one fails, and the other sees the mark although the journal was not played back."""
    one, two = hosts.node, hosts.second
    for node in (one, two):
        configure(node, FENCE="none")
    fine(one, "start")
    one.do(f"echo written > {DATA}/new && sync -f {DATA}/new")
    one.reset()
    refused = hook(two, "start")
    assert refused.status not in (0, None), refused
    assert "carries the mark of another host" in refused.last
    assert two.mounted() == []
    taken = two.hand(f"recover iscsi -w {WORKDIR} -j jail1 --preempt", 200)
    assert taken.status == 0, taken
    assert two.do(f"cat {DATA}/new") == "written\n"
    fine(two, "stop")
    seen(refused.last.partition(": ")[2][:120])


def test_power_off_of_a_node_that_holds_the_fence(hosts: Hosts, seen: Seen) -> None:
    """It comes back, takes its own reservation again, and the journal is played back."""
    one, two = hosts.node, hosts.second
    fine(one, "start")
    one.do(f"echo written > {DATA}/new && sync -f {DATA}/new")
    one.reset()
    refused = hook(two, "start")
    assert refused.status not in (0, None), refused
    one.set_up("jail1", "jail2")
    disks.set_up(one)
    took = fine(one, "start")
    assert one.do(f"cat {DATA}/new") == "written\n"
    fine(one, "stop")
    fine(two, "start")
    seen(f"start after the power was back: {took:.1f} s")


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_iscsi_killed_at_a_random_moment(hosts: Hosts, seen: Seen, verb: str) -> None:
    node = hosts.node
    moments = []
    for _ in range(3):
        if verb == "stop":
            assert hook(node, "start").status == 0
        running = node.begin(node.line(verb, backend="iscsi"), 200)
        moment = random.uniform(0.3, 12.0)
        time.sleep(moment)
        node.run("pkill -9 -f env_st", 30)
        node.end(running, 200)
        moments.append(f"{moment:.1f}")
        ended = hook(node, "start")
        assert ended.status == 0, (moments, ended)
        assert shows(node) == "disk-jail1"
        ended = hook(node, "stop")
        assert ended.status == 0, (moments, ended)
        assert nothing_is_left(node), moments
    seen(f"SIGKILL after {' '.join(moments)} s; a start and a stop made all right")
