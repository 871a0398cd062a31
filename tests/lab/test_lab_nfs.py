"""NFS over a wire: servers that go silent, refuse, lose an export; hooks that are killed; a node without power."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from .conftest import Hosts
from .hosts import EXPORTED, GRACE, HOOKS, TIMEOUT, WORKDIR, points

Seen = Callable[[str], None]
versions = pytest.mark.parametrize("version", ["4", "3"])
# The scenario of the one is short enough for a run of all tests.
versions_short = pytest.mark.parametrize("version", [pytest.param("4", marks=pytest.mark.short), "3"])
# What a hook may say after it was cut off, or met a server that is not there.
TEMPORARY = 75


@pytest.mark.short
@versions
def test_start_twice_stop_twice(hosts: Hosts, seen: Seen, version: str) -> None:
    node = hosts.node
    node.configure(NFS_VERSION=version)
    took = []
    for verb, there in (("start", True), ("start", True), ("stop", False), ("stop", False)):
        ended = node.hook(verb)
        assert (ended.status, ended.out) == (0, ""), ended
        assert node.has("jail1") if there else node.mounted() == []
        took.append(f"{ended.seconds:.1f}")
    seen(f"NFSv{version}, {' '.join(took)} s")


@versions_short
def test_server_silent_before_the_start(hosts: Hosts, seen: Seen, version: str) -> None:
    node = hosts.node
    node.configure(NFS_VERSION=version)
    hosts.storage.pause()
    ended = node.hook("start")
    assert ended.status == TEMPORARY, ended
    assert "is the server up" in ended.last
    assert node.mounted() == []
    hosts.storage.resume()
    # What lands late would be seen by now.
    time.sleep(3)
    assert node.mounted() == []
    assert node.hook("start").status == 0
    assert node.has("jail1")
    seen(f"status 75 after {ended.seconds:.1f} of {TIMEOUT} s, and nothing landed later")


@pytest.mark.parametrize("after", [0.1, 0.4, 0.8])
def test_server_silent_in_the_middle_of_a_start(hosts: Hosts, seen: Seen, after: float) -> None:
    node = hosts.node
    running = node.begin(node.line("start"), 60)
    time.sleep(after)
    hosts.storage.pause()
    ended = node.end(running)
    assert ended.status in (0, TEMPORARY), ended
    assert ended.seconds < TIMEOUT + GRACE, ended
    left = node.mounted()
    assert left == [] or ended.status == 0 or "could not all be taken back" in ended.last, (left, ended)
    hosts.storage.resume()
    time.sleep(2)
    assert node.hook("start").status == 0
    assert node.has("jail1")
    seen(f"status {ended.status} after {ended.seconds:.1f} s with {len(left)} mounts; then a start brought all")


@versions_short
def test_server_silent_under_mounts(hosts: Hosts, seen: Seen, version: str) -> None:
    """Nothing of it hangs: start, stop, check, status, recover; and all is well when the server is back."""
    node = hosts.node
    node.configure(NFS_VERSION=version)
    assert node.hook("start").status == 0
    hosts.storage.pause()
    stopped = node.hook("stop")
    assert stopped.status == TEMPORARY, stopped
    assert "STOP_FORCE=1" in stopped.last
    assert node.has("jail1")
    checked = node.hand(f"check nfs -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    assert checked.out.count("no answer") == 3
    assert checked.seconds < 25, checked
    listed = node.hand(f"status nfs -w {WORKDIR} -j jail1")
    assert listed.status == 1, listed
    assert listed.out.count("no answer") == 3
    assert listed.seconds < 25, listed
    started = node.hook("start")
    left = node.mounted()
    hosts.storage.resume()
    time.sleep(3)
    assert node.hook("start").status == 0
    assert node.has("jail1")
    assert node.hook("stop").status == 0
    seen(f"stop {stopped.seconds:.1f} s, check {checked.seconds:.1f} s, start {started.seconds:.1f} s: "
         f"{started.status}, {len(left)} mounts")  # fmt: skip


def test_recover_from_a_silent_server(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    assert node.hook("start").status == 0
    hosts.storage.pause()
    recovered = node.hand(f"recover nfs -w {WORKDIR} -j jail1", 300)
    assert recovered.status == 0, recovered
    assert node.mounted() == []
    hosts.storage.resume()
    assert node.hook("start").status == 0
    assert node.has("jail1")
    seen(f"recover took {recovered.seconds:.1f} s")


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_stop_by_force_under_a_silent_server(hosts: Hosts, seen: Seen, verb: str) -> None:
    node = hosts.node
    node.configure(STOP_FORCE="1")
    assert node.hook("start").status == 0
    hosts.storage.pause()
    if verb == "start":
        # It finds dead mounts, and cannot make new ones.
        assert node.hook("start").status == TEMPORARY
    ended = node.hook("stop")
    assert ended.status == 0, ended
    assert node.mounted() == []
    seen(f"{ended.seconds:.1f} s")


def test_connection_refused(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    hosts.storage.refuse()
    ended = node.hook("start")
    assert ended.status == TEMPORARY, ended
    assert node.mounted() == []
    seen(f"after {ended.seconds:.1f} s: {ended.last.partition(': ')[2][:100]}")


def test_a_server_in_its_grace_period(hosts: Hosts, seen: Seen) -> None:
    """After a power cut of all: the server waits for a client that does not come back, and opens no file for others."""
    node, storage = hosts.node, hosts.storage
    assert node.hook("start").status == 0
    node.do(f"echo x > {points('jail1')[0]}/open")
    node.reset()
    storage.do("rpc.nfsd 0; sleep 1; rpc.nfsd -G 40 -L 40 4", 120)
    node.set_up("jail1", TIMEOUT="120")
    # It comes as another one.
    node.do("echo other > /sys/module/nfs/parameters/nfs4_unique_id")
    ended = node.hook("start", timeout=120)
    assert ended.status == 0, ended
    assert node.has("jail1")
    seen(f"a start waited for {ended.seconds:.1f} s of 40")


def test_directory_made_anew_on_the_server(hosts: Hosts, seen: Seen) -> None:
    """A stale mount is found, told by check, and mounted anew by a start."""
    node, storage = hosts.node, hosts.storage
    assert node.hook("start").status == 0
    storage.do(f"rm -rf {EXPORTED}/data/jail1 {EXPORTED}/system/jail1")
    storage.make("jail1")
    # The client asks again when its attributes are old (acregmax).
    time.sleep(4)
    checked = node.hand(f"check nfs -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    assert "Stale" in checked.out, checked
    started = node.hook("start")
    assert started.status == 0, started
    assert node.has("jail1")
    assert node.do(f"cat {points('jail1')[0]}/etc/name").strip() == "jail1"
    seen(checked.out.splitlines()[0][:100])


@versions
def test_a_path_that_is_not_exported(hosts: Hosts, seen: Seen, version: str) -> None:
    node = hosts.node
    node.configure(NFS_VERSION=version, NFS_SERVER_ROOT_DIR="/home")
    ended = node.hook("start")
    assert ended.status in (66, 77), ended
    assert node.mounted() == []
    seen(f"status {ended.status} after {ended.seconds:.1f} s")


def test_busy_stop_names_the_holder(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    assert node.hook("start").status == 0
    data = points("jail1")[0]
    node.do(f"cd {data}; nohup sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/holder")
    holder = node.do("cat /tmp/holder").strip()
    ended = node.hook("stop")
    assert ended.status == TEMPORARY, ended
    assert f"pid {holder}" in ended.last or holder in ended.last, ended
    assert node.has("jail1")
    node.do(f"kill {holder}")
    assert node.hook("stop").status == 0
    assert node.mounted() == []
    seen(ended.last.partition(": ")[2][:110])


@pytest.mark.short
@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_hook_that_is_ended_at_any_moment(hosts: Hosts, seen: Seen, signal: str) -> None:
    node, moments = hosts.node, random.Random(signal)
    statuses = []
    for verb in ("start", "start", "stop", "start"):
        delay, before = moments.uniform(0.05, 1.5), node.mounted()
        ended = node.run(
            f"({node.line(verb)}) & hook=$!; sleep {delay:.2f}; kill -{signal} $hook 2>/dev/null; wait $hook", 60
        )
        statuses.append(str(ended.status))
        assert ended.status in (0, 143, 137, TEMPORARY), ended
        if ended.status == 143:
            assert node.mounted() == before, f"{verb}: {ended}"
    assert node.hook("start").status == 0
    assert node.has("jail1")
    assert node.hook("stop").status == 0
    assert node.mounted() == []
    assert node.processes() == []
    seen(f"statuses {' '.join(statuses)}; one start and one stop converge")


@pytest.mark.short
def test_power_cut_in_the_middle_of_a_start(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    node.begin(node.line("start"), 60)
    time.sleep(0.6)
    node.reset()
    node.set_up("jail1", "jail2")
    assert node.mounted() == []
    ended = node.hook("start")
    assert ended.status == 0, ended
    assert node.has("jail1")
    seen(f"the start after it took {ended.seconds:.1f} s")


def test_ten_starts_at_once(hosts: Hosts, seen: Seen) -> None:
    node = hosts.node
    node.configure(TIMEOUT="100")
    lines = "\n".join(f'({node.line("start")}) & pids="$pids $!"' for _ in range(10))
    ended = node.run(f"{lines}\nfor pid in $pids; do wait $pid || echo status $?; done", 160)
    assert (ended.status, ended.out) == (0, ""), ended
    assert node.has("jail1")
    seen(f"ten good ends in {ended.seconds:.1f} s, three mounts")


def test_two_environments_on_two_servers(hosts: Hosts, seen: Seen) -> None:
    """One server goes silent; the environment of the other does not notice."""
    node = hosts.node
    hosts.second.serve("jail2")
    node.configure('[jail2]\nNFS_SERVER="10.0.0.3"\n')
    for name in ("jail1", "jail2"):
        assert node.hook("start", name).status == 0
    hosts.second.pause()
    good = node.hook("stop", "jail1")
    assert good.status == 0, good
    assert node.hook("start", "jail1").status == 0
    bad = node.hook("stop", "jail2")
    assert bad.status == TEMPORARY, bad
    hosts.second.resume()
    time.sleep(2)
    assert node.hook("stop", "jail2").status == 0
    assert node.has("jail1")
    seen(f"stop on the living server {good.seconds:.1f} s, on the silent one {bad.seconds:.1f} s")


def test_the_command_that_a_killed_hook_left_is_waited_for(hosts: Hosts, seen: Seen) -> None:
    """SIGKILL while mount.nfs waits for a silent server: what lands when it is back is not mounted twice."""
    node = hosts.node
    hosts.storage.pause()
    node.run(f"({node.line('start')}) & hook=$!; sleep 2; kill -9 $hook; wait $hook", 30)
    left = [line for line in node.processes() if "mount.nfs" in line]
    hosts.storage.resume()
    ended = node.hook("start")
    assert ended.status == 0, ended
    assert node.has("jail1")
    seen(f"{len(left)} mount commands were left; the next start took {ended.seconds:.1f} s")


def test_installed_by_hand(hosts: Hosts, seen: Seen) -> None:
    """A newcomer's first look: plan, config check, doctor."""
    node = hosts.node
    planned = node.hand(f"plan nfs -w {WORKDIR} -j jail1")
    assert planned.status == 0, planned
    assert planned.out.count("mount.nfs ") == 3
    checked = node.hand(f"config check nfs -w {WORKDIR} -j jail1")
    assert checked.status == 0, checked
    helped = node.run(f"{HOOKS}/env_start_nfs -h")
    assert helped.status == 0, helped
    seen("plan, config check and help")
