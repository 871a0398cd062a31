"""An image in a real Ceph cluster as a disk of this host, by the kernel's rbd.

Only where ENVSTART_REAL names rbd, as in a virtual machine: the kernel tells of its disks in no network but the host's
own, and that is where the cluster gets its address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cephd import ADDRESS, Cluster, cluster_of
from real import Namespace, Workdir, lacking, namespace_of, until

_WHY_NOT = lacking("rbd", "ceph-mon", "ceph-osd", "ceph-mds", "ceph-fuse", "ceph", "ip", "mkfs.ext4")
if "rbd" not in os.environ.get("ENVSTART_REAL", "").split():
    _WHY_NOT = "ENVSTART_REAL does not name rbd"
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.alone, pytest.mark.proof]
DATA = "jails/jails-data/j1-data"


class RbdWorkdir(Workdir):
    """Its environment's data are a file system in an image."""

    backend = "rbd"

    def __init__(self, namespace: Namespace, cluster: Cluster) -> None:
        self.cluster = cluster
        super().__init__(namespace)

    def always(self) -> dict[str, object]:
        return {
            "RBD_IMAGE": "jails/{name}",
            "CEPH_MONITORS": ADDRESS,
            "CEPH_USER": "admin",
            "CEPH_CONF": self.cluster.conf,
            "CEPH_KEYRING": self.cluster.keyring,
            "VOLUME_FSTYPE": "ext4",
            "TIMEOUT": 240,
        }

    def disks(self) -> list[str]:
        """Return the images that are disks of this host."""
        return sorted(path.read_text().strip() for path in Path("/sys/bus/rbd/devices").glob("*/name"))


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with pytest.MonkeyPatch.context() as patch, namespace_of(tmp_path_factory.mktemp("rbd")) as namespace:
        # A virtual machine without hardware for it is many times slower.
        patch.setattr("real.PATIENCE", 300.0)
        yield namespace


@pytest.fixture(scope="module")
def cbsd(namespace: Namespace) -> Iterator[RbdWorkdir]:
    with cluster_of(namespace) as cluster:
        cluster.ceph("osd", "pool", "create", "jails", "4")
        access = ["--id=admin", "-c", str(cluster.conf)]
        disk = namespace.top / "disk"
        disk.touch()
        os.truncate(disk, 32 << 20)
        namespace.run("mkfs.ext4", "-q", str(disk))
        for name in ("j1", "plain"):
            namespace.run("rbd", "import", *access, str(disk), f"jails/{name}", "--no-progress")
        features = ["object-map", "fast-diff", "exclusive-lock"]
        namespace.run("rbd", "feature", "disable", *access, "jails/plain", *features)
        yield RbdWorkdir(namespace, cluster)


@pytest.fixture(autouse=True)
def rest(cbsd: RbdWorkdir) -> Iterator[None]:
    cbsd.configure()
    yield
    cbsd.configure()
    assert cbsd.run("stop").status == 0
    assert (cbsd.namespace.points(), cbsd.disks()) == ([], [])


def test_start_twice_and_stop_twice(cbsd: RbdWorkdir) -> None:
    for _ in range(2):
        assert cbsd.run("start")[:3] == (0, "", "")
        assert (cbsd.namespace.points(), cbsd.disks()) == ([DATA], ["j1"])
    assert {mounted.fstype for mounted in cbsd.namespace.mounts()} == {"ext4"}
    for _ in range(2):
        assert cbsd.run("stop")[:3] == (0, "", "")
        assert (cbsd.namespace.points(), cbsd.disks()) == ([], [])


def test_what_was_written_is_there_again(cbsd: RbdWorkdir) -> None:
    assert cbsd.run("start").status == 0
    cbsd.namespace.run("sh", "-c", f"echo kept > {cbsd.point('data')}/file")
    assert cbsd.run("stop").status == 0
    assert cbsd.run("start").status == 0
    assert cbsd.namespace.run("cat", f"{cbsd.point('data')}/file") == "kept\n"


def test_an_image_without_the_lock_of_a_writer(cbsd: RbdWorkdir) -> None:
    cbsd.configure(RBD_IMAGE="jails/plain")
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert "rbd feature enable jails/plain exclusive-lock" in result.last
    assert cbsd.disks() == []


def test_an_image_that_is_not_there(cbsd: RbdWorkdir) -> None:
    cbsd.configure(RBD_IMAGE="jails/nosuch")
    result = cbsd.run("start")
    assert result.status == os.EX_NOINPUT, result
    assert cbsd.disks() == []


def test_an_image_that_somebody_else_has_open(cbsd: RbdWorkdir) -> None:
    """A process of `rbd bench` opens it for writing, and takes its lock."""
    access = ["--id=admin", "-c", str(cbsd.cluster.conf)]
    other = cbsd.namespace.popen(["rbd", "bench", *access, "--io-type", "write", "--io-total", "100G", "jails/j1"])
    try:
        until(lambda: '"address"' in cbsd.namespace.run("rbd", "status", *access, "--format", "json", "jails/j1"), 60)
        cbsd.configure(TIMEOUT=60)
        result = cbsd.run("start")
        assert result.status == os.EX_TEMPFAIL, result
        assert "has it open" in result.last
        assert cbsd.disks() == []
    finally:
        other.kill()
        other.communicate()


def test_a_second_start_while_the_first_works(cbsd: RbdWorkdir) -> None:
    hooks = [cbsd.begin("start") for _ in range(4)]
    assert [hook.communicate() and hook.returncode for hook in hooks] == [0] * 4
    assert cbsd.disks() == ["j1"]


def test_a_disk_in_use_stays(cbsd: RbdWorkdir) -> None:
    assert cbsd.run("start").status == 0
    user = cbsd.namespace.popen(["sh", "-c", 'cd "$1" && exec sleep 600', "sh", str(cbsd.point("data"))])
    until(lambda: os.readlink(f"/proc/{user.pid}/cwd") == str(cbsd.point("data")))
    cbsd.configure(TIMEOUT=40)
    result = cbsd.run("stop")
    assert result.status == os.EX_TEMPFAIL
    assert (cbsd.namespace.points(), cbsd.disks()) == ([DATA], ["j1"])
    user.kill()
    user.wait()


def test_a_start_that_is_killed(cbsd: RbdWorkdir) -> None:
    process = cbsd.begin("start")
    until(lambda: bool(cbsd.disks()) or process.poll() is not None, 60)
    process.kill()
    process.communicate()
    result = cbsd.run("start")
    assert result.status == 0, result
    assert (cbsd.namespace.points(), cbsd.disks()) == ([DATA], ["j1"])
