"""The toy CBSD host of cbsd.py with block storage: a box of LUNs, encrypted disks, a HAST resource."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cbsd import Row, Site, Variant
from pace import paced
from sim.storage import Storage
from sim.world import World

PORTAL = "172.16.0.1"
TARGET = "iqn.2026-11.lab.storage:{name}"
KEY = b"0123456789abcdef" * 4
PASSPHRASE = "correct horse battery"
QUICK = {"TIMEOUT": "20", "PROBE_TIMEOUT": "2", "FSCK_TIMEOUT": "5"}
ISCSI_QUICK = {"ISCSI_LOGIN_TIMEOUT": "2"}
HAST_QUICK = {"HAST_WAIT": "2"}

ISCSI = Variant("iscsi", "iscsi", {}, ("data",))
ISCSI_TREE = Variant(
    "iscsi, fenced tree", "iscsi", {"FENCE": "scsi3", "VOLUME_LAYOUT": "tree"}, ("system", "fstab", "data")
)
ISCSI_GELI = Variant("iscsi and geli", "iscsi", {"FENCE": "scsi3", "GELI_KEYFILE": "{key}"}, ("data",))
GELI = Variant("geli", "geli", {"GELI_PROVIDER": "/dev/gpt/{name}", "GELI_KEYFILE": "{key}"}, ("data",))
GELI_IMAGE = Variant(
    "geli image", "geli", {"GELI_PROVIDER": "{images}/{name}.img", "GELI_PASSFILE": "{passphrase}"}, ("data",)
)
HAST = Variant("hast", "hast", {}, ("data",))
HAST_GELI = Variant("hast and geli", "hast", {"GELI_KEYFILE": "{key}", "VOLUME_LAYOUT": "tree"}, ("system", "data"))
RBD = Variant("rbd", "rbd", {}, ("data",))
RBD_TREE = Variant("rbd, tree", "rbd", {"VOLUME_LAYOUT": "tree"}, ("system", "fstab", "data"))
BLOCK_VARIANTS = (ISCSI, ISCSI_TREE, ISCSI_GELI, GELI, GELI_IMAGE, HAST, HAST_GELI, RBD, RBD_TREE)


class BlockSite(Site):
    """A site whose environments are volumes. A second host on the same storage: ``BlockSite(..., storage=...)``."""

    storage: Storage

    def __init__(self, top: Path, variant: Variant, storage: Storage | None = None, **settings: Any) -> None:
        self._given = storage
        self.top = Path(os.path.realpath(top))
        self.secrets = self.top / "secrets"
        self.images = self.top / "images"
        for directory in (self.secrets, self.images):
            directory.mkdir(parents=True, exist_ok=True)
        self.secret("key", KEY)
        self.secret("passphrase", PASSPHRASE.encode() + b"\n")
        super().__init__(top, variant, **settings)

    def machine(self, top: Path, **settings: Any) -> World:
        self.storage = self._given or Storage(top / "storage")
        # As on FreeBSD: a command less for each reading of the table, and what is logged out goes in its own time.
        usual = {"getfsstat": True, "removal_seconds": 0.3}
        return World.create(top / "machine", storage=self.storage, **{**usual, **settings})

    def secret(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Write a file that only root can read, and return it."""
        path = self.secrets / name
        path.write_bytes(content)
        path.chmod(mode)
        return path

    # The scene.

    def always(self) -> Mapping[str, str]:
        """Return the keys that this site's configuration has in every test."""
        quick = {**QUICK, "VOLUME_DIR": str(self.world.path / "run" / "volumes")}
        if self.variant.backend == "iscsi":
            return {"ISCSI_PORTAL": PORTAL, "ISCSI_TARGET": TARGET, **quick, **ISCSI_QUICK}
        if self.variant.backend == "rbd":
            return {"RBD_IMAGE": "jails/{name}", "CEPH_USER": "admin", **quick, "RBD_MAP_TIMEOUT": "5"}
        return {"HAST_RESOURCE": "{name}", **quick, **HAST_QUICK} if self.variant.backend == "hast" else quick

    def configure(self, **keys: str) -> None:
        values = paced({**self.always(), **self.variant.config, **keys})
        places = {"key": self.secrets / "key", "passphrase": self.secrets / "passphrase", "images": self.images}
        lines = []
        for key, value in values.items():
            for place, path in places.items():
                value = value.replace(f"{{{place}}}", str(path))
            lines.append(f'{key}="{value}"\n')
        self.conf.write_text("".join(lines))
        self.conf.chmod(0o644)

    @property
    def encrypted(self) -> bool:
        return any(key.startswith("GELI_") for key in self.variant.config)

    @property
    def tree(self) -> bool:
        return self.variant.config.get("VOLUME_LAYOUT") == "tree"

    def add(self, name: str) -> None:
        """One more environment: mount points, and a volume with a file system on it."""
        for which in ("data", "system", "fstab"):
            self.point(which, name).mkdir()
        if self._given is not None:
            # The other host has made the volume.
            return
        files = self.make(self.new_provider(name))
        for which in self.variant.directories if self.tree else ("",):
            (files / which).mkdir(exist_ok=True)
        if self.tree:
            # A tree has all three, whether this variant's call shape asks for them or not.
            for which in ("data", "system", "fstab"):
                (files / which).mkdir(exist_ok=True)
        (files / ("data" if self.tree else "") / "etc").mkdir(exist_ok=True)

    def make(self, provider: str) -> Path:
        """Make a file system on a provider or an image, and return the directory with its files."""
        scratch = os.path.isabs(provider)
        if scratch:
            self.world.disk("ada99", image=provider)
            provider = "ada99"
        if self.encrypted:
            passed = "GELI_PASSFILE" in self.variant.config
            keys, passphrases = ([], [PASSPHRASE]) if passed else ([KEY], [])
            self.world.geli_init(provider, keys, passphrases)
            provider = f"{provider}.eli"
        self.world.newfs(provider)
        files = self.world.files(provider)
        if scratch:
            self.world.unplug("ada99")
        return files

    def new_provider(self, name: str) -> str:
        """Make an empty provider for an environment, and return what newfs or geli_init are given."""
        if self.variant.backend == "iscsi":
            target = TARGET.replace("{name}", name)
            self.storage.target(target)
            return str(self.storage.lun(target, 0, serial=f"disk-{name}"))
        if self.variant.backend == "rbd":
            return str(self.storage.rbd(f"jails/{name}"))
        if self.variant.backend == "hast":
            # The other node is there as a secondary; a second site on this storage takes its place.
            peer = World.create(self.top / f"peer-{name}", storage=self.storage, hostname="node2")
            image = self.storage.hast(name, [self.world, peer])
            for world in (self.world, peer):
                world.command("hastctl", "role", "secondary", name)
            return str(image)
        if "GELI_PASSFILE" in self.variant.config:
            image = self.images / f"{name}.img"
            with image.open("wb") as stream:
                stream.truncate(32 << 20)
            return str(image)
        self.world.disk(f"ada{len(self.world.state['disks']) + 1}", partitions={"p1": name})
        return f"gpt/{name}"

    # What came of it.

    def args(self, name: str = "jail1", *, fstab: bool = True) -> list[str]:
        has_fstab = "fstab" in (*self.variant.directories, "" if self.tree else "fstab")
        return super().args(name, fstab=fstab and has_fstab)

    def volume(self, name: str = "jail1") -> Path:
        """Where the volume itself is mounted."""
        if not self.tree:
            return self.point("data", name)
        found = [path for path in (self.world.path / "run" / "volumes").glob(f"{name}.*") if path.suffix != ".look"]
        return found[0] if found else self.world.path / "run" / "volumes" / name

    def is_all_there(self, name: str = "jail1") -> bool:
        """Whether all directories of an environment are mounted, by what the mount table says."""
        here = [row[1] for row in self.table if row[1] in self.points(name)]
        return sorted(here) == sorted(self.points(name)) and not self.world.panic

    def points(self, name: str) -> set[str]:
        """Where something is mounted while an environment is started."""
        return {str(self.point(which, name)) for which in self.variant.directories} | {str(self.volume(name))}

    def foreign(self, name: str = "jail1") -> list[Row]:
        return [row for row in self.table if row[1] not in self.points(name)]

    def preset(self, *directories: str, name: str = "jail1") -> None:
        """Start it, with time enough whatever the test's configuration says."""
        said = self.conf.read_text()
        self.conf.write_text(re.sub("(?m)^TIMEOUT=.*", 'TIMEOUT="50"', said))
        ended = self.start(name=name)
        assert ended.returncode == 0, ended.stderr
        self.conf.write_text(said)
        self.world.forget_calls()

    def footprint(self) -> dict[str, Any]:
        state = self.world.state
        luns = {
            f"{iqn} {number}": (lun["holder"], sorted(lun["keys"].values()))
            for iqn, target in self.storage.box["targets"].items()
            for number, lun in target["luns"].items()
        }
        roles = {name: self.storage.role(name, self.world) for name in self.storage.box["resources"]}
        return {
            "table": self.table,
            "sessions": sorted(session["target"] for session in state["sessions"]),
            "elis": sorted(state["elis"]),
            "gates": sorted(state["gates"]),
            "units": sorted(unit["file"] for unit in state["units"].values()),
            "reservations": luns,
            "roles": roles,
            "panic": self.world.panic,
        }
