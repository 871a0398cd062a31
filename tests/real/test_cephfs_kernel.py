"""CephFS by Linux's kernel, and an image mapped by it, for real.

The kernel needs the modules, as in a virtual machine. The cluster is that of test_ceph.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cephd import CephWorkdir, Cluster, cluster_of
from real import DIRECTORIES, Namespace, lacking, namespace_of, until

from envstart.mounts import table_linux
from envstart.steps import cephfs_kernel

_PROGRAMS = ("mount.ceph", "ceph-mon", "ceph-osd", "ceph-mds", "ceph-fuse", "ceph", "rbd", "ip")
_WHY_NOT = lacking(*_PROGRAMS) or ("" if table_linux.has_file_system("ceph") else "the kernel has no module ceph")
if _WHY_NOT and _PROGRAMS[0] in os.environ.get("ENVSTART_REAL", "").split():
    raise RuntimeError(f"{_PROGRAMS[0]} must be tested: {_WHY_NOT}")
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.alone, pytest.mark.proof]


class KernelWorkdir(CephWorkdir):
    """Its environments are mounted by the kernel, because it can."""

    def always(self) -> dict[str, object]:
        return {**super().always(), "CEPH_CLIENT": "auto", "CEPH_FS_NAME": "cephfs", "PROBE_TIMEOUT": 5}


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with (
        pytest.MonkeyPatch.context() as patch,
        namespace_of(tmp_path_factory.mktemp("ceph"), network=True) as namespace,
    ):
        # A virtual machine without hardware for it is many times slower.
        patch.setattr("real.PATIENCE", 300.0)
        yield namespace


@pytest.fixture(scope="module")
def cluster(namespace: Namespace) -> Iterator[Cluster]:
    with cluster_of(namespace) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cbsd(namespace: Namespace, cluster: Cluster) -> KernelWorkdir:
    return KernelWorkdir(namespace, cluster, "store")


@pytest.fixture(autouse=True)
def rest(cbsd: KernelWorkdir) -> Iterator[None]:
    """Every test begins and ends with nothing mounted."""
    cbsd.configure()
    yield
    cbsd.configure()
    assert cbsd.run("stop").status == 0
    assert cbsd.namespace.points() == []


def check_all_there(cbsd: KernelWorkdir) -> None:
    assert cbsd.namespace.points() == cbsd.expected()
    assert {mounted.fstype for mounted in cbsd.namespace.mounts()} == {"ceph"}
    assert all(cbsd.shows(kind) for kind in DIRECTORIES)
    assert cbsd.clients() == []


def test_start_twice_and_stop_twice(cbsd: KernelWorkdir) -> None:
    assert cephfs_kernel.is_there()
    for _ in range(2):
        cbsd.start()
        check_all_there(cbsd)
    for _ in range(2):
        cbsd.stop()
        assert cbsd.namespace.points() == []


def test_the_key_shows_nowhere(cbsd: KernelWorkdir) -> None:
    key = next(line for line in cbsd.cluster.keyring.read_text().splitlines() if "key =" in line).split()[-1]
    ended = cbsd.run("start", [*cbsd.argv(), "-v"])
    assert ended.status == 0
    told = ended.err + Path(f"/proc/{cbsd.namespace.pid}/mountinfo").read_text()
    assert key not in told
    assert "secret=<hidden>" in told
    assert "secretfile=/proc/self/fd/0" in ended.err


def test_without_a_keyring_ceph_conf_tells(cbsd: KernelWorkdir) -> None:
    cbsd.configure(CEPH_KEYRING="", CEPH_MONITORS="")
    cbsd.start()
    check_all_there(cbsd)


def test_encrypted_on_the_wire(cbsd: KernelWorkdir) -> None:
    cbsd.configure(MOUNT_CEPH_OPT="noatime ms_mode=secure", CEPH_MONITORS="10.78.0.1:3300")
    cbsd.start()
    check_all_there(cbsd)
    assert all("noatime" in mounted.options for mounted in cbsd.namespace.mounts())


def test_read_only(cbsd: KernelWorkdir) -> None:
    cbsd.configure(CEPH_MODE="ro")
    cbsd.start()
    assert cbsd.namespace.popen(["touch", f"{cbsd.point('data')}/new"]).wait() != 0


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        ({"CEPH_ROOT_DIR": "/nosuch"}, os.EX_NOINPUT, "make the directory in the file system"),
        ({"CEPH_USER": "nobody"}, os.EX_NOPERM, "has none of client.nobody"),
        ({"MOUNT_CEPH_OPT": "foo=bar"}, os.EX_CONFIG, "correct MOUNT_CEPH_OPT"),
        ({"CEPH_FS_NAME": "nosuch", "TIMEOUT": 6}, os.EX_TEMPFAIL, "CEPH_FS_NAME right?"),
        ({"CEPH_MONITORS": "mon.invalid", "TIMEOUT": 24}, None, "correct CEPH_MONITORS"),
    ],
)
def test_what_cannot_be_mounted(keys: dict[str, Any], status: int | None, words: str, cbsd: KernelWorkdir) -> None:
    cbsd.configure(**keys)
    result = cbsd.run("start")
    assert result.status == status or (status is None and result.status in (1, os.EX_TEMPFAIL))
    assert words in result.last
    assert cbsd.namespace.points() == []


def test_what_ceph_fuse_has_mounted_it_takes_away(cbsd: KernelWorkdir) -> None:
    cbsd.configure(CEPH_CLIENT="fuse")
    cbsd.start()
    assert len(cbsd.clients()) == 1
    cbsd.configure()
    cbsd.start()
    cbsd.stop()
    assert cbsd.namespace.points() == []
    until(lambda: cbsd.clients() == [])
    cbsd.start()
    check_all_there(cbsd)


def test_another_file_system_or_directory_is_left_alone(cbsd: KernelWorkdir) -> None:
    cbsd.start()
    for key, value in (("CEPH_FS_NAME", ""), ("CEPH_ROOT_DIR", "/"), ("CEPH_CLIENT", "fuse")):
        cbsd.configure(**{key: value})
        for verb in ("start", "stop"):
            result = cbsd.run(verb)
            assert result.status == os.EX_CONFIG
            assert "it is not touched" in result.last
    cbsd.configure()
    check_all_there(cbsd)


def test_a_silent_cluster(cbsd: KernelWorkdir) -> None:
    """It is told in time, and nothing is mounted later."""
    cbsd.configure(TIMEOUT=12)
    cbsd.cluster.freeze()
    try:
        result = cbsd.run("start")
        assert result.status == os.EX_TEMPFAIL, result
        assert result.seconds < 15
        assert cbsd.namespace.points() == []
    finally:
        wake(cbsd)
    assert cbsd.run("start").status == 0
    check_all_there(cbsd)


def wake(cbsd: KernelWorkdir) -> None:
    """Let the cluster answer again; for a minute it waits for clients that were cut off."""
    cbsd.cluster.thaw()
    cbsd.configure(TIMEOUT=240)


def fall_silent(cbsd: KernelWorkdir) -> None:
    """Let the cluster answer nothing, and the kernel know nothing that it could answer in its place."""
    cbsd.cluster.freeze()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def test_a_cluster_that_falls_silent_while_it_is_mounted(cbsd: KernelWorkdir) -> None:
    cbsd.start()
    fall_silent(cbsd)
    try:
        cbsd.configure(TIMEOUT=20, REQUIRE_DATA="nosuch")
        result = cbsd.run("start")
        assert result.status == os.EX_TEMPFAIL, result
        assert result.seconds < 21
    finally:
        wake(cbsd)
    assert cbsd.run("start").status == 0
    check_all_there(cbsd)


def test_a_silent_cluster_is_left_only_by_force(cbsd: KernelWorkdir) -> None:
    # Another test may have cut off a client, for which the MDS waits.
    cbsd.configure(TIMEOUT=240)
    assert cbsd.run("start").status == 0
    fall_silent(cbsd)
    try:
        cbsd.configure(TIMEOUT=20, REQUIRE_DATA="from-store")
        result = cbsd.run("stop")
        assert result.status == os.EX_TEMPFAIL, result
        assert "set STOP_FORCE=1" in result.last
        assert cbsd.namespace.points() == cbsd.expected()
        cbsd.configure(TIMEOUT=20, STOP_FORCE=1)
        result = cbsd.run("stop")
        assert result.status == 0, result
        assert cbsd.namespace.points() == []
    finally:
        wake(cbsd)
    assert cbsd.run("start").status == 0
    check_all_there(cbsd)


def test_a_start_that_is_killed(cbsd: KernelWorkdir) -> None:
    cbsd.cluster.freeze()
    try:
        process = cbsd.begin("start")
        until(lambda: any(b"mount.ceph" in word for word in words_of(cbsd)))
        process.kill()
        process.communicate()
    finally:
        wake(cbsd)
    assert cbsd.run("start").status == 0
    check_all_there(cbsd)


def words_of(cbsd: KernelWorkdir) -> list[bytes]:
    """Return the command lines in the namespace."""
    found = []
    for pid in cbsd.namespace.pids():
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    return found
