"""The toy CBSD host of cbsd.py with thin jails: one base for all of them, a skeleton for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cbsd import QUICK, Row, Site, Variant
from pace import paced

# The skeleton is cloned when it is missing.
THIN_ZFS = Variant(
    "thin jail on zfs",
    "nullfs",
    {
        "BASE_DIR": "{files}/base",
        "MOUNT_SYSTEM": "0",
        "ZFS_CLONE": "pool/{name}",
        "ZFS_SKELETON_SNAPSHOT": "pool/template@base",
    },
    ("data", "dataset", "skeleton"),
)
LINKS = ("etc", "home", "root", "tmp", "usr/local", "var")
THIN = Variant("thin jail", "nullfs", {"BASE_DIR": "{files}/base"}, ("system", "data", "skeleton"))
# The base and the skeleton as two lines of a file, and a third one.
THIN_FSTAB = Variant(
    "thin jail by fstab", "nullfs", {"THIN_FSTAB": "{files}/{name}.fstab"}, ("system", "data", "skeleton", "media")
)


def make_base(base: Path) -> None:
    """Make a base as the FreeBSD Handbook does, without its programs."""
    for name in ("bin", "dev", "media", "skeleton", "usr"):
        (base / name).mkdir(parents=True)
    for name in LINKS:
        (base / name).symlink_to(f"{'../' * name.count('/')}skeleton/{name}")


def make_skeleton(skeleton: Path) -> None:
    """Make the directories that the links of the base lead to."""
    for name in LINKS:
        (skeleton / name).mkdir(parents=True)


class ThinSite(Site):
    """A site whose environments are thin jails."""

    @property
    def zfs(self) -> bool:
        return "ZFS_CLONE" in self.variant.config

    def configure(self, **keys: str) -> None:
        fixed = {"NULLFS_ROOT_DIR": str(self.files), "MOUNT_FSTAB": "0"}
        known = paced({**fixed, **QUICK, **self.variant.config, **keys})
        lines = [f'{key}="{value}"\n' for key, value in known.items() if "NFS" not in key.replace("NULLFS", "")]
        self.conf.write_text("".join(lines).replace("{files}", str(self.files)))
        self.conf.chmod(0o644)

    def add(self, name: str) -> None:
        if not (self.files / "base").exists():
            make_base(self.files / "base")
            (self.files / "media" / "films").mkdir(parents=True)
        if not self.zfs:
            make_skeleton(self.held("skeleton", name))
        elif "pool" not in self.world.state["datasets"]:
            (self.files / "skeleton").mkdir()
            self.world.dataset("pool", self.files / "pool")
            make_skeleton(self.world.dataset("pool/template@base"))
        for which in ("data", "system", "fstab"):
            self.point(which, name).mkdir()
        self.held("system", name).mkdir(parents=True)
        self.write_fstab(
            f"{self.files}/base {self.point('data', name)} nullfs ro 0 0",
            f"{self.held('skeleton', name)} {self.point('data', name)}/skeleton nullfs rw 0 0",
            f"{self.files}/media {self.point('media', name)} nullfs ro,nosuid 0 0",
            name=name,
        )

    def write_fstab(self, *lines: str, name: str = "jail1") -> Path:
        """Write the file that THIN_FSTAB names, and return it."""
        path = self.files / f"{name}.fstab"
        path.write_text("".join(f"{line}\n" for line in lines))
        path.chmod(0o644)
        return path

    def held(self, which: str, name: str = "jail1") -> Path:
        return self.files / {"data": "base", "media": "media", "dataset": f"skeleton/{name}"}.get(
            which, f"{which}/{name}"
        )

    def source(self, which: str, name: str = "jail1") -> str:
        if which == "dataset":
            return f"pool/{name}"
        return str(self.held(which, name))

    def point(self, which: str, name: str = "jail1") -> Path:
        if which == "dataset":
            return self.held("skeleton", name)
        inside = {"skeleton": "skeleton", "media": "media"}.get(which)
        return super().point("data", name) / inside if inside else super().point(which, name)

    def row(self, which: str, name: str = "jail1") -> Row:
        return (*super().row(which, name)[:2], "zfs" if which == "dataset" else "nullfs")

    def preset(self, *directories: str, name: str = "jail1") -> None:
        if self.zfs:
            ended = self.start(name=name)
            assert ended.returncode == 0, ended.stderr
            self.world.forget_calls()
            return
        for which in directories or self.variant.directories:
            options = ["ro"] if which in ("data", "media") else []
            self.world.mount(self.source(which, name), self.point(which, name), "nullfs", options)

    def footprint(self) -> dict[str, Any]:
        base = self.files / "base"
        return {**super().footprint(), "base": sorted(os.listdir(base)) + sorted(os.listdir(base / "skeleton"))}
