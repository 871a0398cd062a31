"""Whatever has happened to the mounts of an environment: check tells it, recover takes it away, a start brings it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .conftest import Hosts
from .hosts import DIRECTORIES, EXPORTED, WORKDIR, Storage, points, rows_of

Seen = Callable[[str], None]
GONE = " ".join(f"{EXPORTED}/{which}/jail1" for which in DIRECTORIES)


def silent(storage: Storage) -> None:
    storage.pause()


def refusing(storage: Storage) -> None:
    storage.refuse()


def without_power(storage: Storage) -> None:
    """Switched off and on: it has another disk, and every handle of before is stale."""
    storage.reset()
    storage.serve("jail1", "jail2")


def directories_gone(storage: Storage) -> None:
    storage.do(f"rm -rf {GONE}")


def not_exported(storage: Storage) -> None:
    storage.do("echo > /etc/exports; exportfs -r; exportfs -f")


STATES = (silent, refusing, without_power, directories_gone, not_exported)


@pytest.mark.parametrize("version", ["4", "3"])
@pytest.mark.parametrize("breaking", STATES, ids=lambda function: function.__name__)
def test_check_recover_start(hosts: Hosts, seen: Seen, breaking: Callable[[Storage], None], version: str) -> None:
    node, storage = hosts.node, hosts.storage
    node.configure(NFS_VERSION=version)
    assert node.hook("start").status == 0
    breaking(storage)
    # The client may show what it knows for as long as its attributes are fresh (acregmax).
    time.sleep(4)
    checked = node.hand(f"check nfs -w {WORKDIR} -j jail1")
    assert checked.status == 2, checked
    assert all(source in checked.out for source, _ in rows_of("jail1")), checked
    assert checked.seconds < 30, checked
    shown = node.hand(f"recover nfs -n -w {WORKDIR} -j jail1")
    assert shown.status == 0, shown
    assert shown.out.count("umount") == 3, shown
    assert node.has("jail1")
    recovered = node.hand(f"recover nfs -w {WORKDIR} -j jail1", 300)
    assert recovered.status == 0, recovered
    assert node.mounted() == []
    storage.resume()
    storage.serve("jail1", "jail2")
    started = node.hook("start")
    assert started.status == 0, started
    assert node.has("jail1")
    assert node.do(f"cat {points('jail1')[0]}/etc/name").strip() == "jail1"
    assert node.hook("stop").status == 0
    assert node.mounted() == []
    first = checked.out.splitlines()[0]
    seen(f"check {checked.seconds:.1f} s, recover {recovered.seconds:.1f} s: {first[:90]}")


@pytest.mark.parametrize("breaking", [without_power, directories_gone, not_exported], ids=lambda one: one.__name__)
def test_stop(hosts: Hosts, seen: Seen, breaking: Callable[[Storage], None]) -> None:
    """What gives an error is no reason to keep it mounted."""
    node = hosts.node
    assert node.hook("start").status == 0
    breaking(hosts.storage)
    time.sleep(4)
    stopped = node.hook("stop")
    assert stopped.status == 0, stopped
    assert node.mounted() == []
    seen(f"{stopped.seconds:.1f} s")
