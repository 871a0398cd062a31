"""What a history is played on: a host with two environments of a backend, and perhaps a second host beside it."""

from __future__ import annotations

import copy
import os
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

from blocks import (
    GELI,
    GELI_IMAGE,
    HAST,
    HAST_GELI,
    ISCSI,
    ISCSI_GELI,
    ISCSI_TREE,
    KEY,
    PASSPHRASE,
    RBD,
    RBD_TREE,
    BlockSite,
)
from cbsd import Row, Site, Variant
from clients import CEPH, GLUSTER, GLUSTER_DATA, ClientSite
from harmless import add_on_lun
from sim import forked, geom, vfs
from sim.names import machine_name
from sim.store import BlockedError
from thin_site import THIN, THIN_ZFS, ThinSite

NAMES = ("jail1", "jail2")
# A hook's second can be so much shorter than ours: its time-outs cost little then. Less so on a machine that is busy.
FASTEST = 6.0
TIMEOUT = 36.0
PATIENCE = {
    "": {"TIMEOUT": "36", "PROBE_TIMEOUT": "6"},
    "nfs": {"NFS_MOUNT_TIMEOUT": "6"},
    "gluster": {"GLUSTER_MOUNT_TIMEOUT": "18"},
    "ceph": {"CEPH_MOUNT_TIMEOUT": "18"},
    "iscsi": {"ISCSI_LOGIN_TIMEOUT": "6", "FSCK_TIMEOUT": "18"},
    "geli": {"FSCK_TIMEOUT": "18"},
    "hast": {"FSCK_TIMEOUT": "18", "HAST_WAIT": "6"},
    "rbd": {"FSCK_TIMEOUT": "18", "RBD_MAP_TIMEOUT": "18"},
    "nullfs": {},
}
SHARED_RCCONF = Variant(
    "nfs, shared rcconf",
    "nfs",
    {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1", "MOUNT_SYSTEM": "0", "MOUNT_FSTAB": "0"},
    ("rcconf", "data"),
)
NFS = Variant("nfs", "nfs", {"MOUNT_FSTAB": "0"}, ("system", "data"))
NULLFS = Variant("nullfs", "nullfs", {"MOUNT_FSTAB": "0"}, ("system", "data"))
THIN_ALONE = Variant("thin jail", "nullfs", {**THIN.config, "MOUNT_SYSTEM": "0"}, ("data", "skeleton"))
ISCSI_SHARED = Variant("iscsi, one target", "iscsi", {}, ("data",))
FENCED = Variant("iscsi, fenced", "iscsi", {"FENCE": "scsi3"}, ("data",))


class Kind(NamedTuple):
    """A scene to be made. ``two``: a second host uses the same storage."""

    variant: Variant
    two: bool = False

    @property
    def title(self) -> str:
        return self.variant.title + (", two hosts" if self.two else "")


KINDS = (
    Kind(NFS),
    Kind(SHARED_RCCONF),
    Kind(NULLFS),
    Kind(THIN_ALONE),
    Kind(THIN_ZFS),
    Kind(GLUSTER),
    Kind(GLUSTER_DATA),
    Kind(CEPH),
    Kind(ISCSI),
    Kind(ISCSI_SHARED),
    Kind(ISCSI_TREE),
    Kind(ISCSI_GELI),
    Kind(FENCED, two=True),
    Kind(GELI),
    Kind(GELI_IMAGE),
    Kind(HAST, two=True),
    Kind(HAST_GELI),
    Kind(RBD, two=True),
    Kind(RBD_TREE),
)
BY_TITLE = {kind.title: kind for kind in KINDS}


class Volumes(BlockSite):
    """A site whose volumes are known by a file in each."""

    making = ""

    def add(self, name: str) -> None:
        self.making = name
        super().add(name)

    def make(self, provider: str) -> Path:
        files = super().make(provider)
        (files / f".is-{self.making}").touch()
        return files


class Scene:
    """One host, or two. ``troubles``: what is wrong at the moment, as the history has made it."""

    def __init__(self, top: Path, kind: Kind) -> None:
        self.kind = kind
        self.site = _site(top / "one", kind.variant)
        self.other: Site | None = None
        if kind.two:
            assert isinstance(self.site, BlockSite)
            self.other = Volumes(top / "two", kind.variant, storage=self.site.storage, hostname="node2")
            (self.other.workdir / "nodename").write_text("node2.example.com\n")
        for site in self.sites:
            site.configure(**PATIENCE[""], **PATIENCE[kind.variant.backend])
        for name in NAMES[1:]:
            if kind.variant is ISCSI_SHARED:
                assert isinstance(self.site, Volumes)
                self.site.making = name
                add_on_lun(self.site, name, 1)
            else:
                for site in self.sites:
                    site.add(name)
        if isinstance(self.site, Volumes) and isinstance(self.other, Volumes) and kind.variant.backend == "hast":
            _share_resources(self.site, self.other)
        for site in self.sites:
            site.rest = site.footprint()
            site.world.speed = speed()
            # iscsid tries a lost session again after this time, once a minute on FreeBSD.
            site.world.set(login_timeout=1.0)
        self.begin = [copy.deepcopy(site.world.state) for site in self.sites]
        self.troubles: set[str] = set()
        # Which host has started which environment, and may hold something of it.
        self.claims: list[tuple[Site, str]] = []
        # What holds directories of an environment: real processes.
        self.users: dict[str, Any] = {}

    @property
    def sites(self) -> list[Site]:
        return [self.site, *([self.other] if self.other else [])]

    def close(self) -> None:
        for process in self.users.values():
            process.kill()
            process.wait()
        for site in self.sites:
            site.world.close()
            self.kill(site)

    def kill(self, site: Site) -> None:
        """End all processes of the host, as the loss of power does."""
        for pid in forked.processes(machine_name(str(site.world.path))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    # What there is.

    def rows(self, site: Site, name: str) -> list[Row]:
        """Return the mounts of an environment, in the order of the table; what it shares with the other one aside."""
        points = self.own_points(site, name)
        return [row for row in site.world.table() if any(vfs.is_below(row[1], point) for point in points)]

    def own_points(self, site: Site, name: str) -> set[str]:
        return self.points(site, name) - set().union(*(self.points(site, one) for one in NAMES if one != name))

    def points(self, site: Site, name: str) -> set[str]:
        if isinstance(site, BlockSite):
            return site.points(name)
        return {row[1] for row in site.wanted(name)}

    def is_all_there(self, site: Site, name: str) -> bool:
        """Whether each directory of an environment shows what it should, alone in its place, and answers."""
        table = site.world.table()
        if isinstance(site, BlockSite):
            here = sorted(row[1] for row in table if row[1] in site.points(name))
            return here == sorted(site.points(name)) and (site.world.real(site.volume(name)) / f".is-{name}").exists()
        wanted = site.wanted(name)
        return sorted(row for row in table if row[1] in {row[1] for row in wanted}) == wanted

    def broken(self, site: Site, name: str) -> list[Row]:
        """Those of rows() that do not answer, or with an error."""
        state = site.world.state
        found = []
        for mount in state["mounts"]:
            row = (mount["special"], mount["node"], mount["fstype"])
            try:
                vfs.reach(state, mount, mount["node"])
            except (BlockedError, OSError):
                found.append(row)
        return [row for row in found if row in self.rows(site, name)]

    def reboot(self, site: Site) -> None:
        """Lose what a kernel knows, and what /var/run holds; files, disks and servers stay."""
        self.kill(site)
        begin = self.begin[self.sites.index(site)]

        def act(state: Any) -> None:
            for key in (
                "mounts", "holders", "jails", "guests", "units", "gates", "elis", "opens", "untasted", "sessions",
                "stuck", "disks", "parts", "labels", "multipaths", "due",
            ):  # fmt: skip
                state[key] = copy.deepcopy(begin[key])
            geom.taste(state, site.world.machine)

        site.world.machine.store.change(act)
        run = site.world.path / "run"
        shutil.rmtree(run)
        run.mkdir()
        if isinstance(site, BlockSite):
            hostname = begin["settings"]["hostname"]

            def forget(box: Any) -> None:
                for image in box["images"].values():
                    image["watchers"] = [host for host in image["watchers"] if host != hostname]
                    image["owner"] = "" if image["owner"] == hostname else image["owner"]

            site.storage.change(forget)
            site.storage.hast_down(site.world)
            site.storage.hast_up(site.world)

    # Secrets that may be nowhere.

    @property
    def secrets(self) -> list[str]:
        return [KEY.decode(), PASSPHRASE] if isinstance(self.site, BlockSite) else []


def speed() -> float:
    return max(1.0, FASTEST / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def _site(top: Path, variant: Variant) -> Site:
    if variant.backend in ("gluster", "ceph"):
        return ClientSite(top, variant)
    if variant.backend == "nfs" or variant is NULLFS:
        return Site(top, variant)
    return ThinSite(top, variant) if "skeleton" in variant.directories else Volumes(top, variant)


def _share_resources(one: Volumes, two: Volumes) -> None:
    """Make the resources that ``one`` has made with a peer of its own those of both hosts."""
    for name in NAMES:
        one.making = name
        (one.make(str(one.storage.hast(name, [one.world, two.world]))) / "etc").mkdir()
        for site in (one, two):
            site.world.command("hastctl", "role", "secondary", name)
