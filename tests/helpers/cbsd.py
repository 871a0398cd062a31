"""A toy CBSD host for tests: a workdir, environments in it, a file server, and a simulated FreeBSD that mounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import pasted
from pace import paced
from sim.world import LOOKS_LIKE_CBSD, World

SERVER = "172.16.0.1"
# Short enough for a test, long enough for a slow machine: TIMEOUT is what a hang costs.
QUICK = {"TIMEOUT": "20", "PROBE_TIMEOUT": "1", "NFS_MOUNT_TIMEOUT": "1"}

Ended = subprocess.CompletedProcess[str]
Row = tuple[str, str, str]


class Variant(NamedTuple):
    """One row of the life-cycle suite: a backend, what its configuration says, and which directories it brings."""

    title: str
    backend: str
    config: Mapping[str, str]
    directories: tuple[str, ...]


NFS4 = Variant("nfs", "nfs", {}, ("system", "fstab", "data"))
NULLFS = Variant("nullfs", "nullfs", {}, ("system", "fstab", "data"))


class Site:
    """``W`` with the environment ``jail1`` in it (more by ``add()``), and all that its hooks need."""

    def __init__(self, top: Path, variant: Variant = NFS4, **settings: Any) -> None:
        top = Path(os.path.realpath(top))
        self.variant = variant
        self.world = self.machine(top, **settings)
        self.workdir = top / "W"
        self.files = top / "files"
        for name in ("etc", "jails", "jails-rcconf", "jails-data", "jails-system", "jails-fstab", "var"):
            (self.workdir / name).mkdir(parents=True)
        (self.workdir / "nodename").write_text("node1.example.com\n")
        self.configure()
        self.add("jail1")
        # As it is when nothing is started.
        self.rest = self.footprint()

    def machine(self, top: Path, **settings: Any) -> World:
        """Make the simulated host."""
        return World.create(top / "machine", **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what still hangs in the machine."""
        self.world.close()

    # The scene.

    @property
    def conf(self) -> Path:
        return self.workdir / "etc" / f"env_start_{self.variant.backend}.conf"

    def configure(self, **keys: str) -> None:
        """Write the configuration file: what this site always says, overridden by ``keys``."""
        always = {"NFS_SERVER": SERVER} if self.variant.backend == "nfs" else {"NULLFS_ROOT_DIR": str(self.files)}
        quick = {key: value for key, value in QUICK.items() if self.variant.backend == "nfs" or "NFS" not in key}
        values = paced({**always, **quick, **self.variant.config, **keys})
        self.conf.write_text("".join(f'{key}="{value}"\n' for key, value in values.items()))
        self.conf.chmod(0o644)

    def add(self, name: str) -> None:
        """One more environment: its mount points, and its directories where they are held."""
        for which in ("data", "system", "fstab", "rcconf"):
            if which != "rcconf":
                self.point(which, name).mkdir()
            if self.variant.backend == "nfs":
                self.world.export(SERVER, f"/nfs/{self._below(which, name)}")
            self.held(which, name).mkdir(parents=True, exist_ok=True)
        (self.held("data", name) / "etc").mkdir(exist_ok=True)

    def held(self, which: str, name: str = "jail1") -> Path:
        """Return the real directory that the mount shows."""
        top = self.world.path / "servers" / SERVER / "nfs" if self.variant.backend == "nfs" else self.files
        return top / self._below(which, name)

    def source(self, which: str, name: str = "jail1") -> str:
        """Return the source of the mount as the table has it."""
        top = f"{SERVER}:/nfs" if self.variant.backend == "nfs" else str(self.files)
        return f"{top}/{self._below(which, name)}"

    def _below(self, which: str, name: str) -> str:
        return which if which == "rcconf" and "RCCONF_SHARED" in self.variant.config else f"{which}/{name}"

    def point(self, which: str, name: str = "jail1") -> Path:
        if which == "data":
            return self.workdir / "jails-data" / f"{name}-data"
        if which == "rcconf":
            shared = self.workdir / "jails-rcconf"
            return shared if "RCCONF_SHARED" in self.variant.config else shared / name
        return self.workdir / f"jails-{which}" / name

    def row(self, which: str, name: str = "jail1") -> Row:
        return (self.source(which, name), str(self.point(which, name)), self.variant.backend)

    def wanted(self, name: str = "jail1") -> list[Row]:
        """Return the mounts of an environment that is started, sorted."""
        return sorted(self.row(which, name) for which in self.variant.directories)

    def preset(self, *directories: str, name: str = "jail1") -> None:
        """Mount directories without a hook; all of the environment if none is named."""
        for which in directories or self.variant.directories:
            self.point(which, name).mkdir(exist_ok=True)
            self.world.mount(self.source(which, name), self.point(which, name), self.variant.backend)

    # What is done, and what came of it.

    def args(self, name: str = "jail1", *, fstab: bool = True) -> list[str]:
        """CBSD's own argv (docs/cbsd.md#arguments)."""
        words = ["-d", str(self.point("data", name))]
        if fstab:
            words += ["-f", str(self.point("fstab", name))]
        return [*words, "-j", name, "-r", f"{self.workdir}/jails-rcconf", "-s", str(self.point("system", name))]

    def start(self, *extra: str, name: str = "jail1", env: Mapping[str, str] | None = None) -> Ended:
        ended = self.world.run(f"env_start_{self.variant.backend}", *self.args(name), *extra, env=env)
        return pasted.check(ended, str(self.workdir))

    def stop(self, *extra: str, name: str = "jail1", env: Mapping[str, str] | None = None) -> Ended:
        ended = self.world.run(f"env_stop_{self.variant.backend}", *self.args(name), *extra, env=env)
        return pasted.check(ended, str(self.workdir))

    def begin(self, verb: str = "start", name: str = "jail1", **kwargs: Any) -> subprocess.Popen[str]:
        """Begin the hook as a process that runs beside the test."""
        return self.world.popen(f"env_{verb}_{self.variant.backend}", *self.args(name), **kwargs)

    def hand(self, *words: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run the tool."""
        ended = self.world.run("envstart", *words, env=env)
        workdirs = words[words.index("-w") + 1 :] if "-w" in words else ()
        return pasted.check(ended, workdirs[0] if workdirs else "")

    @property
    def table(self) -> list[Row]:
        return sorted(self.world.table())

    def is_all_there(self, name: str = "jail1") -> bool:
        """Whether an environment's directories are mounted, and nothing else is."""
        return self.table == self.wanted(name)

    def foreign(self, name: str = "jail1") -> list[Row]:
        """Return the mounts that are none of this environment's directories."""
        return [row for row in self.table if row not in self.wanted(name)]

    def footprint(self) -> dict[str, Any]:
        """All that a start brings, for comparing before and after."""
        return {"table": self.table}

    def count(self, command: str) -> int:
        return len(self.world.calls(command))

    @property
    def mounting(self) -> list[list[str]]:
        """The argv of every mount command so far."""
        return [call["argv"] for call in self.world.calls() if call["name"].startswith("mount_")]


def last_line(ended: Ended) -> str:
    """Return what the operator sees: the last line on stderr."""
    lines = ended.stderr.splitlines()
    return lines[-1] if lines else ""


def wears(**variables: str) -> dict[str, str]:
    """CBSD's environment with more in it."""
    return {**LOOKS_LIKE_CBSD, **variables}
