"""The toy CBSD host of cbsd.py with clients in user space: a GlusterFS volume with the environments' directories."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
from cbsd import SERVER, Row, Site, Variant
from pace import paced
from sim import forked
from sim.names import process_name
from sim.users import alive
from sim.world import World

from envstart.environment import Environment, file_name

VOLUME = "gv0"
QUICK = {"TIMEOUT": "20", "PROBE_TIMEOUT": "1"}

GLUSTER = Variant("gluster", "gluster", {}, ("system", "fstab", "data"))
CEPH = Variant("ceph", "ceph", {"CEPH_ROOT_DIR": "/jails"}, ("system", "fstab", "data"))
CEPH_DATA = Variant("ceph, data alone", "ceph", {**CEPH.config, "MOUNT_SYSTEM": "0", "MOUNT_FSTAB": "0"}, ("data",))
GLUSTER_DATA = Variant("gluster, data alone", "gluster", {"MOUNT_SYSTEM": "0", "MOUNT_FSTAB": "0"}, ("data",))
CLIENT_VARIANTS = (GLUSTER, GLUSTER_DATA, CEPH, CEPH_DATA)
# The name of the mount command, and what the table shows as the source.
MOUNTS = {"gluster": ("mount_glusterfs", "/dev/fuse"), "ceph": ("ceph-fuse", "ceph-fuse")}
# What is exported, and where in it the environments' directories are.
TREES = {"gluster": (f"/{VOLUME}", ""), "ceph": ("/cephfs", "jails")}


class ClientSite(Site):
    """A site whose environments have a client each."""

    def machine(self, top: Path, **settings: Any) -> World:
        # As on FreeBSD; mount(8) does not tell the number of a mount.
        return World.create(top / "machine", **{"getfsstat": True, **settings})

    @property
    def log(self) -> Path:
        return self.world.path / "client.log"

    def configure(self, **keys: str) -> None:
        always = {
            "CEPH_MONITORS": SERVER,
            "CEPH_USER": "admin",
            "CEPH_MOUNT_DIR": str(self.world.path / "run" / "ceph"),
            "CEPH_MOUNT_TIMEOUT": "5",
            "GLUSTER_SERVER": SERVER,
            "GLUSTER_VOLUME": VOLUME,
            "GLUSTER_MOUNT_DIR": str(self.world.path / "run" / "gluster"),
            "GLUSTER_LOG_FILE": str(self.log),
            "GLUSTER_MOUNT_TIMEOUT": "5",
        }
        own = self.variant.backend.upper()
        always = {key: value for key, value in always.items() if key.startswith(own)}
        values = paced({**always, **QUICK, **self.variant.config, **keys})
        self.conf.write_text("".join(f'{key}="{value}"\n' for key, value in values.items()))
        self.conf.chmod(0o644)

    def add(self, name: str) -> None:
        for which in ("data", "system", "fstab"):
            self.point(which, name).mkdir()
        self.world.export(SERVER, TREES[self.variant.backend][0])
        for which in ("data", "system", "fstab", "rcconf"):
            self.held(which, name).mkdir(parents=True)
        (self.held("data", name) / "etc").mkdir()

    def held(self, which: str, name: str = "jail1") -> Path:
        top, below = TREES[self.variant.backend]
        return self.world.path / "servers" / SERVER / top.strip("/") / below / which / name

    def volume(self, name: str = "jail1") -> Path:
        """Where the volume itself is mounted."""
        environment = Environment(name, str(self.point("data", name)), str(self.point("system", name)))
        return self.world.path / "run" / self.variant.backend / file_name(environment)

    def source(self, which: str, name: str = "jail1") -> str:
        return f"{self.volume(name)}/{which}/{name}"

    def row(self, which: str, name: str = "jail1") -> Row:
        return (self.source(which, name), str(self.point(which, name)), "nullfs")

    def wanted(self, name: str = "jail1") -> list[Row]:
        return sorted([(MOUNTS[self.variant.backend][1], str(self.volume(name)), "fusefs"), *super().wanted(name)])

    def preset(self, *directories: str, name: str = "jail1") -> None:
        ended = self.start(name=name)
        assert ended.returncode == 0, ended.stderr
        self.world.forget_calls()

    def client(self, name: str = "jail1") -> int:
        """Return the process behind the mount."""
        (pid,) = [
            mount["options"]["client"] for mount in self.world.mounts() if mount["node"] == str(self.volume(name))
        ]
        return int(pid)

    def kill_client(self, name: str = "jail1") -> None:
        os.kill(self.client(name), signal.SIGKILL)

    def clients(self) -> list[int]:
        """All processes of clients and of the commands that start them."""
        program = str(self.world.path / "bin" / MOUNTS[self.variant.backend][0])
        started = [
            process.pid for process in psutil.process_iter(["cmdline"]) if program in (process.info["cmdline"] or [])
        ]
        return sorted({*forked.processes(process_name(program)), *(pid for pid in started if alive(pid))})
