"""A real Ceph cluster for tests, of one monitor, one OSD in memory and one MDS, in a network of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from real import DIRECTORIES, Elsewhere, Namespace, until

ADDRESS = "10.78.0.1"
ENVIRONMENTS = ("j1", "j2")
FSID = "5d4d3a2e-6d8a-4d62-9f0a-3c1f0f0a0001"
_OSD = "5d4d3a2e-6d8a-4d62-9f0a-3c1f0f0a0002"
# Seconds that a cluster on a busy machine may take to start.
_SLOW = 90.0
_CONF = """\
[global]
fsid = {fsid}
mon_host = {address}
public_addr = {address}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
run_dir = {top}/run
log_file = {top}/log/$name.log
admin_socket = {top}/run/$name.asok
pid_file = {top}/run/$name.pid
crash_dir = {top}/run
keyring = {top}/keyring
mon_data = {top}/mon
osd_data = {top}/osd
mds_data = {top}/mds
osd_objectstore = memstore
memstore_device_bytes = 1073741824
"""


class Cluster:
    """``cephfs`` with the directories of ENVIRONMENTS below /jails. The cluster and the hooks share ``namespace``."""

    def __init__(self, namespace: Namespace, top: Path) -> None:
        self._namespace = namespace
        self.top = top
        for name in ("mon", "osd", "mds", "run", "log"):
            (top / name).mkdir(parents=True)
        self.conf.write_text(_CONF.format(fsid=FSID, address=ADDRESS, top=top))
        namespace.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        everything = ["--cap", "mds", "allow *", "--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        self._key("keyring", "client.admin", *everything)
        self._key("mon.keyring", "mon.", "--cap", "mon", "allow *")
        self._key("osd/keyring", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
        self._key("mds/keyring", "mds.a", *everything)
        self._run("ceph-authtool", f"{top}/mon.keyring", "--import-keyring", f"{top}/keyring")
        addresses = f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]"
        self._run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", FSID, f"{top}/monmap")
        self._daemon("mon", "a", "--mkfs", "--monmap", f"{top}/monmap", "--keyring", f"{top}/mon.keyring")
        self._daemon("mon", "a", "--keyring", f"{top}/mon.keyring")
        for name in ("osd", "mds"):
            self.ceph("auth", "import", "-i", f"{top}/{name}/keyring")
        self.ceph("osd", "new", _OSD)
        self._daemon("osd", "0", "--mkfs", "--osd-uuid", _OSD, "--keyring", f"{top}/osd/keyring")
        self._daemon("osd", "0", "--keyring", f"{top}/osd/keyring")
        for pool in ("metadata", "files"):
            self.ceph("osd", "pool", "create", pool, "4")
        self.ceph("fs", "new", "cephfs", "metadata", "files")
        self._daemon("mds", "a", "--keyring", f"{top}/mds/keyring")
        until(lambda: "up:active" in self.ceph("mds", "stat"), _SLOW)
        self._seed()

    @property
    def conf(self) -> Path:
        return self.top / "ceph.conf"

    @property
    def keyring(self) -> Path:
        return self.top / "keyring"

    def _seed(self) -> None:
        files = self.top / "files"
        files.mkdir()
        self._run("ceph-fuse", "-c", str(self.conf), "-r", "/", str(files))
        for kind in (*DIRECTORIES, "rcconf"):
            for name in ENVIRONMENTS:
                self._run("mkdir", "-p", f"{files}/jails/{kind}/{name}")
                self._run("sh", "-c", f"echo {kind} of {name} > {files}/jails/{kind}/{name}/from-store")
        self._run("umount", str(files))

    def _key(self, path: str, name: str, *caps: str) -> None:
        self._run("ceph-authtool", "--create-keyring", f"{self.top}/{path}", "--gen-key", "-n", name, *caps)

    def _run(self, *argv: str) -> str:
        return self._namespace.run(*argv)

    def _daemon(self, kind: str, name: str, *words: str) -> None:
        # Its output would be kept open by the daemon.
        self._run("sh", "-c", '"$@" >/dev/null 2>&1', "sh", f"ceph-{kind}", "-c", str(self.conf), "-i", name, *words)

    def ceph(self, *words: str) -> str:
        """Run a command of the cluster's administrator, and return what it prints."""
        return self._run("ceph", "-c", str(self.conf), *words)

    def evict(self) -> None:
        """Forget the clients that have died, for which the MDS would wait for a minute."""
        for session in json.loads(self.ceph("tell", "mds.a", "session", "ls")):
            self.ceph("tell", "mds.a", "client", "evict", f"id={session['id']}")

    def _pids(self) -> list[int]:
        return [int(path.read_text()) for path in (self.top / "run").glob("*.pid")]

    def freeze(self) -> None:
        """Its processes are there, and answer nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def cluster_of(namespace: Namespace) -> Iterator[Cluster]:
    """Yield a cluster in a namespace, with which it ends."""
    yield Cluster(namespace, namespace.top / "cluster")


class CephWorkdir(Elsewhere):
    """A CBSD workdir whose environments have their directories in a Cluster."""

    backend = "ceph"
    programs = (b"ceph-fuse",)

    def __init__(self, namespace: Namespace, cluster: Cluster, place: str) -> None:
        self.cluster = cluster
        self.place = place
        super().__init__(namespace, place)

    def always(self) -> dict[str, object]:
        keys = {
            "CEPH_MONITORS": ADDRESS,
            "CEPH_USER": "admin",
            "CEPH_CONF": self.cluster.conf,
            "CEPH_KEYRING": self.cluster.keyring,
        }
        return {**keys, "CEPH_ROOT_DIR": "/jails", "PROBE_TIMEOUT": 2, "CEPH_MOUNT_TIMEOUT": 8}
