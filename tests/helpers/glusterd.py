"""A real GlusterFS server for tests: glusterd and a brick in a network of their own, which clients are linked to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from real import DIRECTORIES, Elsewhere, Namespace, namespace_of, until

# A server cannot have an address of the loopback network.
ADDRESS = "10.77.0.1"
VOLUME = "gv0"
ENVIRONMENTS = ("j1", "j2")
# Seconds that a server on a busy machine may take to start.
_SLOW = 60.0


class Server:
    """``VOLUME`` with the directories of ENVIRONMENTS in it, on a brick in memory."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._links = 0
        run = namespace.run
        run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        run("mkdir", "-p", "/var/lib/glusterd", "/var/log/glusterfs", "/run/brick")
        self._begin()
        self.gluster("volume", "create", VOLUME, f"{ADDRESS}:/run/brick", "force")
        self.gluster("volume", "start", VOLUME)
        run("mkdir", "/run/files")
        run("mount.glusterfs", f"{ADDRESS}:{VOLUME}", "/run/files")
        for kind in (*DIRECTORIES, "rcconf"):
            for name in ENVIRONMENTS:
                run("mkdir", "-p", f"/run/files/{kind}/{name}")
                run("sh", "-c", f"echo {kind} of {name} > /run/files/{kind}/{name}/from-store")
        run("umount", "/run/files")

    def _begin(self) -> None:
        nowhere = subprocess.DEVNULL
        self._namespace.popen(["glusterd", "-N"], stdout=nowhere, stderr=nowhere)
        until(lambda: self._namespace.popen(["gluster", "volume", "list"]).wait() == 0, _SLOW)

    def gluster(self, *words: str) -> str:
        """Run a command of the server's administrator, and return what it prints."""
        return self._namespace.run("gluster", "--mode=script", *words)

    def link(self, client: Namespace) -> None:
        """Lay a cable to a client's network; ``cut`` and ``mend`` are for the client's end of it."""
        self._links += 1
        near, address = f"s{self._links}", f"10.77.1.{self._links}"
        peer = ["peer", "name", near, "netns", str(self._namespace.pid)]
        client.run("ip", "link", "add", "gluster", "type", "veth", *peer)
        client.run("ip", "address", "add", f"{address}/32", "dev", "gluster")
        self.mend(client)
        self._namespace.run("ip", "link", "set", near, "up")
        self._namespace.run("ip", "route", "add", address, "dev", near)

    def cut(self, client: Namespace) -> None:
        """Nothing comes through any more, and nobody is told."""
        client.run("ip", "link", "set", "gluster", "down")

    def mend(self, client: Namespace) -> None:
        client.run("ip", "link", "set", "gluster", "up")
        client.run("ip", "route", "replace", ADDRESS, "dev", "gluster")

    def _signal(self, number: int) -> None:
        for pid in self._namespace.pids():
            if pid != self._namespace.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def freeze(self) -> None:
        """Its processes are there, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """All its processes end at once."""
        self._signal(signal.SIGKILL)

    def revive(self) -> None:
        """As after a boot of the server: glusterd starts the brick again."""
        # Who has been killed can be a zombie yet, and by these files glusterd would take it for alive.
        self._namespace.run("sh", "-c", "rm -f /var/run/gluster/vols/*/*.pid")
        self._begin()
        until(lambda: "<status>1</status>" in self.gluster("--xml", "volume", "status", VOLUME), _SLOW)


@contextlib.contextmanager
def server_of(top: Path) -> Iterator[Server]:
    """Yield a server that ends with the block."""
    with namespace_of(top, network=True) as namespace:
        yield Server(namespace)


class GlusterWorkdir(Elsewhere):
    """A CBSD workdir whose environments have their directories on a Server."""

    backend = "gluster"
    programs = (b"glusterfs", b"mount.glusterfs")

    def always(self) -> dict[str, object]:
        log = self.namespace.top / "client.log"
        keys = {"GLUSTER_SERVER": ADDRESS, "GLUSTER_VOLUME": VOLUME, "GLUSTER_LOG_FILE": log}
        return {**keys, "PROBE_TIMEOUT": 2, "GLUSTER_MOUNT_TIMEOUT": 5}
