"""A file system on a block device, mounted as an environment's data directory, or as a tree of all its directories.

The steps that iscsi, geli, hast and rbd share, from the device on: GELI, a look and fsck, the mount, the mark.
"""

import os
from collections.abc import Sequence

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.environment import Environment, file_name
from envstart.errors import ConfigError, TemporaryError
from envstart.mounts.table import Entry, Table
from envstart.steps import diagnosis
from envstart.steps.block import Block, is_node
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.storage import devices, volume_keys
from envstart.storage.foreign_owner import Glance
from envstart.storage.fsck import Fsck
from envstart.storage.geli import EliProvider
from envstart.storage.host_mark import Mark
from envstart.system.host import Host


class Volume(Mount):
    """The file system on the device that ``lower`` ends in; ``holds``: the directories of a tree, or none."""

    diagnose = staticmethod(diagnosis.of_device)
    lower: Block

    def __init__(
        self, environment: Environment, config: Config, lower: Block, point: str, holds: Sequence[str] = ()
    ) -> None:
        """Take type and options from the configuration."""
        spec = MountSpec(
            "volume" if holds else "data",
            config[volume_keys.VOLUME_FSTYPE],
            config[volume_keys.VOLUME_OPTIONS],
            lower.source,
            point,
            config[common.TIMEOUT],
            lower=lower,
            required=holds or None,
            # Root alone may look into it: what a jail may see of it is bound to its own directories.
            private=os.path.dirname(os.path.dirname(config[volume_keys.VOLUME_DIR])) if holds else "",
        )
        super().__init__(spec, environment, config)

    async def _device(self, host: Host) -> str:
        device = await self.lower.device(host)
        if device is None:
            raise TemporaryError(f"cannot mount {self.source}: the device is not there")
        return device

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell whether a mount is of the device, also of one that cannot be compared any more."""
        if entry.kind != self.fstype:
            return False
        # A disk that is gone, or whose session is down, cannot be compared; but it was mounted here, and is no more.
        if await devices.is_lost(host, entry):
            return True
        try:
            device = await self.lower.device(host)
        except ConfigError:
            device = None
        if device is None:
            return bool(await self.lower.why_down(host))
        if host.platform != "freebsd":
            return is_node(device, entry.device)
        return (await devices.read(host)).same(entry.source, device)

    async def why_lost(self, host: Host) -> str:
        """Tell that the disk is gone."""
        stack = (await host.mounts()).at(await self.real_point(host))
        return "its disk has gone" if stack and await devices.is_lost(host, stack[-1]) else ""

    def requires(self) -> str:
        """Tell that it is the layout that asks for the directories of a tree."""
        return super().requires() if self.name == "data" else "VOLUME_LAYOUT=tree asks for"


class Shown(Mount):
    """A directory of ``volume``, shown where the environment has it."""

    def __init__(self, volume: Volume, name: str, point: str, mode: str) -> None:
        """Be the directory ``name`` of the tree."""
        config, source = volume.config, f"{volume.point}/{name}"
        spec = MountSpec(
            name,
            "nullfs",
            (mode,),
            source,
            point,
            config[common.PROBE_TIMEOUT],
            lower=volume.lower,
            resolve_within=volume.point,
        )
        super().__init__(spec, volume.environment, config)
        self._volume = volume

    async def why_lost(self, host: Host) -> str:
        """Tell that the disk of the volume is gone, or what a mount tells of itself."""
        return await self._volume.why_lost(host) or await super().why_lost(host)


def glance(environment: Environment, config: Config) -> Glance:
    """Return the glance into the volume of a jail or VM."""
    return Glance(environment, config, f"{_private(environment, config)}.look")


def _private(environment: Environment, config: Config) -> str:
    return f"{config[volume_keys.VOLUME_DIR]}/{file_name(environment)}"


def steps(environment: Environment, config: Config, device: Block, *, guarded: bool) -> list[plan.Step]:
    """Return the steps from a device on: GELI, a look, the mounts of the environment's directories, the mark.

    ``guarded``: other hosts reach the device too, so that a mark in the volume says whose it is. CBSD's rc.conf files,
    which all environments share, stay with the host.
    """
    read_only = volume_keys.is_read_only(config)
    ordered: list[plan.Step] = []
    lower = device
    if volume_keys.is_encrypted(config):
        lower = EliProvider(config, lower)
        ordered.append(lower)
    shown: dict[str, str] = {}
    if config[volume_keys.VOLUME_LAYOUT] == "tree":
        points = {"system": environment.system, "fstab": environment.fstab, "data": environment.data}
        shown = {name: point for name, point in points.items() if point is not None}
    point = _private(environment, config) if shown else environment.data
    guarded = guarded and not read_only
    fsck = Fsck(config, lower, point, glance(environment, config), guarded=guarded)
    volume = Volume(environment, config, fsck, point, tuple(shown))
    ordered += [fsck, volume]
    if guarded:
        ordered.append(Mark(config, volume))
    return [*ordered, *(Shown(volume, name, on, "ro" if read_only else "rw") for name, on in shown.items())]
