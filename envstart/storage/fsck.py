"""The look at a file system before it is mounted: is it the one that is meant, whose is it, is it clean.

Never made, never forced: a foreign or empty device is refused by name (docs/faults.md, 85 to 87).
"""

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.errors import ConfigError, EnvstartError, TemporaryError
from envstart.steps.block import Block
from envstart.storage import devices, fsck_preen, superblock, volume_keys
from envstart.storage.foreign_owner import Glance
from envstart.system.host import Host

# Status of blkid(8): it holds the marks of several file systems.
_AMBIVALENT = 8


class Fsck(Block):
    """The file system on ``lower``, to be mounted on ``target``; ``guarded``: other hosts reach the device too."""

    fstype = "fsck"

    def __init__(self, config: Config, lower: Block, target: str, glance: Glance, *, guarded: bool) -> None:
        """Look at nothing yet."""
        super().__init__("fsck", lower.source, lower)
        self.config = config
        self._kind: str = config[volume_keys.VOLUME_FSTYPE]
        self._target = target
        self._glance = glance
        self._guarded = guarded
        self._read_only = volume_keys.is_read_only(config)
        self._preens = config[volume_keys.FSCK] == "preen" and not self._read_only

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whether it is mounted, or was looked at."""
        device = await self.device(host)
        mounted = await host.stack(self._target) if device else []
        problem = TemporaryError(f"cannot use {self.source}: it was not looked at yet")
        refusal = None
        if self._is_of_elsewhere(host):
            hint = "set VOLUME_FSTYPE=ext4"
            refusal = ConfigError(f"cannot use {self.source}: Linux does not write to UFS", hint=hint)
        if mounted:
            # The step that mounts it judges what is mounted there.
            lost = await devices.is_lost(host, mounted[-1])
            return plan.Observation(plan.READY, "mounted", problem if lost else None, refusal)
        seen = device and device == host.learnt.get((self, "checked")) and not await self._glance.is_left(host)
        detail = "not mounted" if device else "no device"
        return plan.Observation(plan.NOT_READY, detail, None if seen else problem, refusal)

    async def observe(self, host: Host) -> plan.Observation:
        """Tell, too, whether a start would check it."""
        seen = await super().observe(host)
        if seen.status != plan.NOT_READY or not await self._is_checked(host):
            return seen
        how = "to be checked" if seen.detail == "not mounted" else "to be checked unless it is clean"
        return seen._replace(detail=f"{seen.detail}; {how}")

    async def check(self, host: Host) -> EnvstartError | None:
        """Return what is lacking; refuse what is in use by others."""
        problem = await super().check(host)
        device = await self.device(host)
        if problem and device and not (await host.stack(self._target) or await self._glance.is_left(host)):
            await devices.check_unused(host, device, f"mount {device} on {self._target}")
        return problem

    async def start(self, host: Host) -> None:
        """Look at it, and check it unless it is clean."""
        device = await self.below(host)
        failure = f"cannot mount {device}"
        if await self._glance.is_left(host):
            await self._glance.unmount(host)
        if await host.stack(self._target):
            # It was only out of reach, and is back; the step that mounts it has a look at it.
            return
        await devices.check_unused(host, device, f"mount {device} on {self._target}")
        state = await self._glance.state(host, device)
        if state == superblock.UNKNOWN:
            raise ConfigError(
                f"{failure}: it holds {await self._holds(host, device)}, and VOLUME_FSTYPE is {self._kind}",
                hint="envstart never makes a file system: correct the configuration, or make it yourself",
            )
        if state == superblock.DIRTY and not self._read_only:
            if self._guarded and not host.takeover:
                await self._glance.refuse_foreign(host, device)
            if self.config[volume_keys.FSCK] == "refuse":
                raise ConfigError(f"{failure}: it was not cleanly unmounted", hint="fsck it, or set FSCK=preen")
        # A check of what is clean finds nothing, and can wait for other mounts of the host.
        if state != superblock.CLEAN and self._preens:
            await fsck_preen.preen(host, self.config, device)
        host.learnt[self, "checked"] = device

    async def _holds(self, host: Host, device: str) -> str:
        """Tell in a word what it holds instead."""
        # -u, so that a GELI or ZFS provider does not pass for an empty one (docs/freebsd.md#fstyp).
        argv: tuple[str, ...] = ("fstyp", "-u", device)
        if host.platform != "freebsd":
            argv = ("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", device)
        result = await host.run(argv, timeout=self.config[common.PROBE_TIMEOUT], read_only=True)
        if argv[0] == "blkid" and result.status == _AMBIVALENT:
            return "the marks of several file systems"
        return result.out.split()[0] if result.status == 0 and result.out.split() else "no file system that is known"

    async def stop(self, host: Host) -> None:
        """Forget that it was looked at; take away what a killed start has left."""
        host.learnt.pop((self, "checked"), None)
        if await self._glance.is_left(host):
            await self._glance.unmount(host)

    async def commands(self, host: Host, verb: str) -> list[tuple[str, ...]]:
        """Return the command that checks it, as far as that can be told before."""
        if verb == "stop" or not await self._is_checked(host):
            return []
        return [await fsck_preen.argv(host, self._kind, await self.device(host) or self.expected(host))]

    async def _is_checked(self, host: Host) -> bool:
        """Tell whether a start would run fsck(8), as far as that can be told before."""
        if not self._preens or self._is_of_elsewhere(host):
            return False
        device = await self.device(host)
        try:
            return not device or await self._glance.state(host, device) != superblock.CLEAN
        except EnvstartError:
            # A start says why; as far as is known it is checked.
            return True

    def _is_of_elsewhere(self, host: Host) -> bool:
        """Tell whether this system has no program for file systems of this type, and does not write to them."""
        return host.platform == "linux" and self._kind == "ufs"
