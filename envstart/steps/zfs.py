"""ZFS below nullfs: a dataset, cloned from a snapshot when it is missing, mounted where nullfs takes it from.

Facts about zfs(8) are in docs/freebsd.md#zfs. It is mounted by ``mount -t zfs``, which does that with any dataset, and
not by ``zfs mount``: the place is then the configuration's, and ``nocover`` keeps it from hiding another mount. A
dataset that zfs(8) mounts there by itself stays mounted. Nothing of ZFS is ever destroyed.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.config.load import Config
from envstart.engine.plan import NOT_READY, READY, Observation, Step
from envstart.environment import Environment
from envstart.mounts.table import Entry
from envstart.steps import diagnosis
from envstart.steps.block import Block, only_on_freebsd
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.steps.thin_keys import ZFS_SKELETON_SNAPSHOT
from envstart.system.command import Result
from envstart.system.host import Host

# mountpoint and canmount of a dataset, or None if there is none of that name.
Properties = tuple[str, str] | None

_OF_CLONE: diagnosis.Rows = (
    ("does not exist", errors.NotFoundError, "make what is missing, or correct ZFS_CLONE and ZFS_SKELETON_SNAPSHOT"),
    ("no such pool", errors.NotFoundError, "import the pool, or correct ZFS_CLONE"),
    ("permission denied", errors.PermissionDeniedError, "is this a jail? run it on the host"),
    ("key is not loaded", errors.PermissionDeniedError, "zfs load-key"),
    ("busy", errors.TemporaryError, "try again"),
)
_OF_MOUNT: diagnosis.Rows = (
    ("No such file or directory", errors.NotFoundError, "there is no such dataset: look at zfs list"),
    # The kernel has no other word for a key that it lacks; zfs(8), which has, is not asked.
    ("Permission denied", errors.PermissionDeniedError, "if it is encrypted, load its key: zfs load-key"),
    ("Device busy", errors.TemporaryError, "the dataset is mounted elsewhere: look at zfs mount"),
    ("Invalid fstype", errors.UnavailableError, "kldload zfs"),
)


class Clone(Block):
    """The dataset, made from ``snapshot`` if that is given."""

    fstype = "zfs"

    def __init__(self, name: str, snapshot: str | None) -> None:
        """Take the dataset, and the snapshot that it is made from when it is missing, if any."""
        super().__init__("clone", name)
        self._snapshot = snapshot

    async def properties(self, host: Host) -> Properties:
        """Return what zfs(8) knows of it."""
        only_on_freebsd(host, "ZFS")
        words = ("zfs", "get", "-H", "-p", "-o", "value", "mountpoint,canmount", self.source)
        properties: Properties = await host.ask(words, _parse)
        return properties

    async def inspect(self, host: Host) -> Observation:
        """Tell if the dataset is there, and is none but a file system."""
        properties = await self.properties(host)
        if properties is not None:
            # zfs(8) prints "-" for a property that a dataset cannot have.
            text = f"cannot use {self.source}: it is a volume"
            volume = errors.ConfigError(text, hint="name a file system in ZFS_CLONE")
            return Observation(READY, refusal=volume if properties[0] == "-" else None)
        problem = errors.NotFoundError(
            f"cannot find dataset {self.source}: make it, or set ZFS_SKELETON_SNAPSHOT to have it cloned"
        )
        return Observation(NOT_READY, "no such dataset", problem, problem if self._snapshot is None else None)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the command of zfs(8) that makes it."""
        return [self._command()] if verb == "start" and self._snapshot else []

    async def start(self, host: Host) -> None:
        """Make it, mounted by nobody but us: at boot zfs(8) leaves alone what has canmount=noauto."""
        host.on_failure(lambda: self._undo_start(host))
        result = await host.run(self._command(), keep_locks=True)
        if result.status != 0 and await self.properties(host) is None:
            doing = f"clone {self._snapshot} as {self.source}"
            raise diagnosis.first(_OF_CLONE, result.words, doing) or errors.EnvstartError(
                f"cannot {doing}: {result.words}", hint="try the command by hand: -v shows it"
            )

    def _command(self) -> tuple[str, ...]:
        return ("zfs", "clone", "-o", "canmount=noauto", self._snapshot or "", self.source)

    async def _undo_start(self, host: Host) -> None:
        """Leave it, unmounted: a hook that destroys datasets can destroy data, and the next start uses it as it is."""
        if await self.properties(host) is not None:
            host.report.warn(f"dataset {self.source} was cloned by this run, and stays; nothing of ZFS is destroyed")

    async def stop(self, host: Host) -> None:
        """Leave it: a clone is never destroyed."""


class Dataset(Mount):
    """The dataset of ``lower`` on a directory of this host."""

    lower: Clone

    @staticmethod
    def diagnose(result: Result, doing: str) -> errors.EnvstartError:
        """Return the error for what mount(8) said."""
        return diagnosis.first(_OF_MOUNT, result.words, doing) or diagnosis.of_mount(result, doing)

    async def check(self, host: Host) -> errors.EnvstartError | None:
        """Return what a start has to mend; raise if the dataset is mounted elsewhere."""
        only_on_freebsd(host, "ZFS")
        problem = await super().check(host)
        if problem is None:
            return None
        here = await self.real_point(host)
        for entry in await host.mounts():
            if (entry.fstype, entry.source) == ("zfs", self.source) and entry.point != here:
                raise errors.ConfigError(
                    f"cannot mount {self.source} on {self.point}: it is mounted on {entry.point}",
                    hint="name that directory "
                    f"in the configuration, or: zfs unmount {self.source}; zfs set canmount=noauto {self.source}",
                )
        return problem

    async def _mounts_itself(self, host: Host) -> bool:
        """Tell if zfs(8) mounts it there at boot."""
        place, canmount = await self.lower.properties(host) or ("", "")
        return canmount == "on" and place in (self.point, await self.real_point(host))

    async def _to_stop(self, host: Host) -> list[Entry]:
        entries = await super()._to_stop(host)
        return [] if entries and await self._mounts_itself(host) else entries

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the command of mount(8) or umount(8); none to unmount what zfs(8) mounts there at boot."""
        return [] if verb == "stop" and await self._mounts_itself(host) else await super().commands(host, verb)


def steps(environment: Environment, config: Config, name: str, point: str) -> list[Step]:
    """Return the dataset of ZFS_CLONE, and its mount on ``point``."""
    clone = Clone(name, config[ZFS_SKELETON_SNAPSHOT])
    # It asks the pool, which can be busy with what is being freed.
    spec = MountSpec("dataset", "zfs", ("rw",), name, point, config[common.TIMEOUT], lower=clone)
    return [clone, Dataset(spec, environment, config)]


def _parse(result: Result) -> Properties:
    if result.status == 0:
        values = result.out.split("\n")
        if len(values) < 2 or not values[1]:
            raise ValueError(f"cannot read {result.out!r}")
        return values[0], values[1]
    if "dataset does not exist" in result.words or "no such pool" in result.words:
        return None
    raise ValueError(result.words)
