"""GlusterFS over a wire, with a server that goes silent or is switched off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from .conftest import Hosts
from .hosts import TIMEOUT, WORKDIR, Node, points

Seen = Callable[[str], None]
TEMPORARY = 75
# Seconds: a client in user space is slow on an emulated machine.
LONG = 90


@pytest.fixture
def node(hosts: Hosts) -> Iterator[Node]:
    """Yield a node whose environments are on a volume of the storage host, which is made anew for each scenario."""
    hosts.storage.reset()
    hosts.storage.serve_gluster("jail1")
    hosts.node.configure(backend="gluster", TIMEOUT=str(LONG), PROBE_TIMEOUT="10")
    yield hosts.node
    hosts.storage.resume()
    hosts.node.run("pkill -9 glusterfs; true")


def bound(node: Node) -> list[str]:
    """Mount points of the environment that are mounted."""
    return [point for _, point in node.mounted() if point in points("jail1")]


def test_gluster_start_twice_stop_twice(node: Node, seen: Seen) -> None:
    took = []
    for verb, there in (("start", 3), ("start", 3), ("stop", 0), ("stop", 0)):
        ended = node.hook(verb, backend="gluster", timeout=LONG)
        assert (ended.status, ended.out) == (0, ""), ended
        assert len(bound(node)) == there
        took.append(f"{ended.seconds:.1f}")
    assert node.do("pgrep -a glusterfs; true") == ""
    seen(f"{' '.join(took)} s, and no client is left")


@pytest.mark.parametrize("how", ["silent", "off"])
def test_gluster_server_away_under_mounts(hosts: Hosts, node: Node, seen: Seen, how: str) -> None:
    assert node.hook("start", backend="gluster", timeout=LONG).status == 0
    hosts.storage.pause() if how == "silent" else hosts.storage.off()
    checked = node.hand(f"check gluster -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    assert checked.seconds < TIMEOUT, checked
    stopped = node.hook("stop", backend="gluster", timeout=LONG)
    assert stopped.status == TEMPORARY, stopped
    recovered = node.hand(f"recover gluster -w {WORKDIR} -j jail1", 300)
    assert recovered.status == 0, recovered
    assert bound(node) == []
    if how == "silent":
        hosts.storage.resume()
        time.sleep(2)
        assert node.hook("start", backend="gluster", timeout=LONG).status == 0
        assert len(bound(node)) == 3
    seen(f"check {checked.seconds:.1f} s, stop {stopped.seconds:.1f} s, recover {recovered.seconds:.1f} s")
