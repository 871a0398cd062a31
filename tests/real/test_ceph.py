"""CephFS for real: a cluster of one machine, ceph-fuse, and the hooks; also what rbd(8) tells of an image.

`make proof-ceph` runs this alone.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cephd import ADDRESS, CephWorkdir, Cluster, cluster_of
from real import DIRECTORIES, Namespace, lacking, namespace_of, until

_WHY_NOT = lacking("ceph-mon", "ceph-osd", "ceph-mds", "ceph-fuse", "ceph", "rbd", "ip")
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.alone, pytest.mark.proof]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with namespace_of(tmp_path_factory.mktemp("ceph"), network=True) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def cluster(namespace: Namespace) -> Iterator[Cluster]:
    with cluster_of(namespace) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cbsd(namespace: Namespace, cluster: Cluster) -> CephWorkdir:
    return CephWorkdir(namespace, cluster, "store")


@pytest.fixture(autouse=True)
def rest(cbsd: CephWorkdir) -> Iterator[None]:
    """Every test begins and ends with nothing mounted."""
    cbsd.configure()
    yield
    cbsd.configure()
    assert cbsd.run("stop").status == 0
    check_gone(cbsd)


def check_gone(cbsd: CephWorkdir) -> None:
    assert cbsd.namespace.points() == []
    until(lambda: cbsd.clients() == [])


def check_all_there(cbsd: CephWorkdir) -> None:
    assert cbsd.namespace.points() == cbsd.expected()
    assert all(cbsd.shows(kind) for kind in DIRECTORIES)
    # That of a mount which has gone a moment ago may still be about to end.
    until(lambda: len(cbsd.clients()) == 1)


def test_start_twice_and_stop_twice(cbsd: CephWorkdir) -> None:
    for _ in range(2):
        cbsd.start()
        check_all_there(cbsd)
    for _ in range(2):
        cbsd.stop()
        check_gone(cbsd)


def test_the_key_is_in_no_argument(cbsd: CephWorkdir) -> None:
    cbsd.start()
    key = next(line for line in cbsd.cluster.keyring.read_text().splitlines() if "key =" in line).split()[-1]
    (pid,) = cbsd.clients()
    words = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
    assert key not in words
    assert str(cbsd.cluster.keyring) in words


def test_read_only(cbsd: CephWorkdir) -> None:
    cbsd.configure(CEPH_MODE="ro")
    cbsd.start()
    assert cbsd.namespace.popen(["touch", f"{cbsd.point('data')}/new"]).wait() != 0


def test_a_directory_that_the_file_system_lacks(cbsd: CephWorkdir) -> None:
    cbsd.configure(CEPH_ROOT_DIR="/nosuch")
    result = cbsd.run("start")
    assert result.status == os.EX_NOINPUT
    assert "CEPH_ROOT_DIR" in result.last


def test_the_file_system_has_a_name(cbsd: CephWorkdir) -> None:
    cbsd.configure(CEPH_FS_NAME="nosuch", TIMEOUT=12)
    result = cbsd.run("start")
    assert result.status not in (0, os.EX_SOFTWARE), result
    check_gone(cbsd)
    cbsd.configure(CEPH_FS_NAME="cephfs")
    cbsd.start()
    check_all_there(cbsd)
    cbsd.stop()


def test_a_key_that_others_can_read(cbsd: CephWorkdir) -> None:
    path = cbsd.namespace.top / "open-keyring"
    path.write_text("x")
    path.chmod(0o644)
    cbsd.configure(CEPH_KEYRING=path)
    result = cbsd.run("start")
    assert result.status == os.EX_NOPERM
    assert "chmod 600" in result.last or "can write" in result.last


def test_a_dead_client_is_mounted_anew(cbsd: CephWorkdir) -> None:
    cbsd.start()
    os.kill(cbsd.clients()[0], signal.SIGKILL)
    until(lambda: cbsd.clients() == [])
    cbsd.cluster.evict()
    result = cbsd.run("start")
    assert result.status == 0, result
    check_all_there(cbsd)


def test_a_silent_cluster(cbsd: CephWorkdir) -> None:
    """It is told in time; the client that is given up mounts nothing later."""
    cbsd.configure(TIMEOUT=12)
    cbsd.cluster.freeze()
    try:
        result = cbsd.run("start")
        assert result.status == os.EX_TEMPFAIL, result
        check_gone(cbsd)
    finally:
        cbsd.cluster.thaw()
    cbsd.configure(TIMEOUT=60)
    assert cbsd.run("start").status == 0
    check_all_there(cbsd)


def test_what_rbd_tells_of_an_image(cbsd: CephWorkdir) -> None:
    """The words and the shapes that storage/rbd.py reads; this machine's kernel maps none."""
    run, cluster = cbsd.namespace.run, cbsd.cluster
    access = ["--id=admin", "-c", str(cluster.conf), "-m", ADDRESS, "--keyring", str(cluster.keyring)]
    cluster.ceph("osd", "pool", "create", "jails", "4")
    run("rbd", "create", *access, "jails/jail1", "--size", "16M")
    assert "exclusive-lock" in json.loads(run("rbd", "info", *access, "--format", "json", "jails/jail1"))["features"]
    assert json.loads(run("rbd", "status", *access, "--format", "json", "jails/jail1"))["watchers"] == []
    assert json.loads(run("rbd", "list", *access, "--format", "json", "-p", "jails")) == ["jail1"]
    assert json.loads(run("rbd", "device", "list", "--format", "json")) == []
    process = cbsd.namespace.popen(["rbd", "info", *access, "--format", "json", "jails/nosuch"])
    assert "error opening image nosuch" in process.communicate()[1]
