"""Ceph by the kernel: the tests of a real cluster that need the kernel's modules run in a guest, which has them.

CephFS is mounted and images are mapped by it there; machines that run tests seldom can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .guest import Guest, Wire
from .hosts import packed
from .image import image

SUITE = "tests/real/test_cephfs_kernel.py"
TREE = "/opt/envstart"
# Seconds: a cluster on an emulated machine takes minutes to start.
PATIENCE = 1800.0


class CephHost(Guest):
    """Has a cluster of its own; the OSD's memory is the disk."""

    memory = 2048


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephHost]:
    """Yield a host with this tree and its tests, for a cluster of one machine (tests/helpers/cephd.py)."""
    host = CephHost("ceph", 9, image("ceph"), Wire(), tmp_path_factory.mktemp("consoles"))
    host.boot()
    host.ready()
    host.put("/tmp/envstart.tar.gz", packed(("envstart", "hooks", "conf", "tests", "tools", "setup.cfg")))
    host.do(f"mkdir -p {TREE} /var/empty && tar -C {TREE} -xzf /tmp/envstart.tar.gz && modprobe -a ceph rbd", 300)
    yield host
    host.off()


def test_ceph_by_the_kernel(ceph: CephHost, seen: Callable[[str], None]) -> None:
    ended = ceph.run(
        f"cd {TREE} && ENVSTART_REAL='ceph-mon mount.ceph' python3 -m pytest -p no:cacheprovider {SUITE}",
        PATIENCE,
    )
    assert ended.status == 0, ended.out[-6000:]
    seen(f"{ended.last.strip('= ')}, the guest's kernel: {ceph.do('uname -r').strip()}")
