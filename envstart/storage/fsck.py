"""The look at a file system before it is mounted: is it the one that is meant, whose is it, is it clean.

Never made, never forced: a foreign or empty device is refused by name (docs/faults.md, 85 to 87).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envstart.engine import plan
from envstart.errors import (
    BlockedError,
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    TemporaryError,
    reason,
)
from envstart.mounts import commands
from envstart.steps import unmount
from envstart.steps.block import Block
from envstart.steps.health import LEASE_SECONDS
from envstart.storage import devices, fsck_preen, host_mark, superblock
from envstart.storage.host_id import host_id, own_mark
from envstart.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.load import Config
    from envstart.environment import Environment
    from envstart.system.command import Result
    from envstart.system.host import Host

# fsck_ffs(8) and e2fsck(8): what is all right, and what another run of the same would mend (docs/freebsd.md#fsck).
_FINE = {"ufs": (0,), "ext4": (0, 1)}
_AGAIN = {"ufs": (16,), "ext4": ()}
# Of blkid(8).
_AMBIVALENT = 8


class Fsck(Block):
    """The file system on ``lower``, which is mounted on ``target``.

    ``guarded``: other hosts reach the device too, so that another one's mark or lease in a volume that was not cleanly
    unmounted is looked for, by a read-only mount on ``looking`` (for the time of a glance). A reservation does not make
    that needless: a target that was restarted has forgotten it, and the other host has not.
    """

    fstype = "fsck"

    def __init__(
        self, environment: Environment, config: Config, lower: Block, target: str, looking: str, guarded: bool
    ) -> None:
        super().__init__("fsck", lower.source, lower)
        self.environment = environment
        self.config = config
        self._kind: str = config["VOLUME_FSTYPE"]
        self._target = target
        self._looking = looking
        self._guarded = guarded
        self._read_only = "ro" in config["VOLUME_OPTIONS"]
        self._preens = config["FSCK"] == "preen" and not self._read_only
        # The device that this run has looked at.
        self._seen = ""

    async def inspect(self, host: Host) -> plan.Observation:
        device = await self.device(host)
        mounted = await host.stack(self._target) if device else []
        problem = TemporaryError(f"cannot use {self.source}: it was not looked at yet")
        refusal = None
        if self._is_of_elsewhere(host):
            refusal = ConfigError(
                f"cannot use {self.source}: Linux does not write to UFS", hint="set VOLUME_FSTYPE=ext4"
            )
        if mounted:
            # What is mounted there is judged by the step that mounts it.
            lost = await devices.is_lost(host, mounted[-1])
            return plan.Observation(plan.READY, "mounted", problem if lost else None, refusal)
        return plan.Observation(
            plan.NOT_READY,
            "not mounted" if device else "no device",
            None if device and device == self._seen and not await host.stack(self._looking) else problem,
            refusal,
        )

    async def observe(self, host: Host) -> plan.Observation:
        seen = await super().observe(host)
        if seen.status != plan.NOT_READY or not await self._is_checked(host):
            return seen
        how = "to be checked" if seen.detail == "not mounted" else "to be checked unless it is clean"
        return seen._replace(detail=f"{seen.detail}; {how}")

    async def check(self, host: Host) -> EnvstartError | None:
        problem = await super().check(host)
        device = await self.device(host)
        # A mount on the second directory was left by a start that was killed.
        if problem and device and not (await host.stack(self._target) or await host.stack(self._looking)):
            await self._check_unused(host, device)
        return problem

    async def _check_unused(self, host: Host, device: str) -> None:
        users = ", ".join(await self._users(host, device))
        if users:
            raise TemporaryError(
                f"cannot mount {device} on {self._target}: it is in use ({users})", hint="end that first"
            )

    async def _users(self, host: Host, device: str) -> list[str]:
        return await devices.users(host, device, blocking=True)

    async def start(self, host: Host) -> None:
        device = await self.below(host)
        doing = f"cannot mount {device}"
        if await host.stack(self._looking):
            await self._unmount(host)
        if await host.stack(self._target):
            # It was only out of reach, and is back; the step that mounts it has a look at it.
            return
        await self._check_unused(host, device)
        state = await self._look(host, device, doing)
        if state == superblock.UNKNOWN:
            raise ConfigError(
                f"{doing}: it holds {await self._holds(host, device)}, and VOLUME_FSTYPE is {self._kind}",
                hint="envstart never makes a file system: correct the configuration, or make it yourself",
            )
        if state == superblock.DIRTY and not self._read_only:
            if self._guarded and not host.takeover:
                await self._check_owner(host, device, doing)
            if self.config["FSCK"] == "refuse":
                raise ConfigError(f"{doing}: it was not cleanly unmounted", hint="fsck it, or set FSCK=preen")
        # A check of what is clean finds nothing, and can wait for other mounts of the host.
        if state != superblock.CLEAN and self._preens:
            await self._preen(host, device, doing)
        self._seen = device

    async def refuse_foreign(self, host: Host, device: str) -> None:
        """Before the device is reserved, for which only a look is needed: BlockedError if another host has it
        mounted."""
        doing = f"cannot mount {device}"
        if await self._look(host, device, doing) == superblock.DIRTY:
            await self._check_owner(host, device, doing)

    async def _look(self, host: Host, device: str, doing: str) -> str:
        try:
            timeout = self.config["PROBE_TIMEOUT"]
            return str(await host.call_with_timeout(superblock.read, device, self._kind, timeout=timeout))
        except (NoResponseError, DeadlineExceededError) as error:
            raise TemporaryError(f"{doing}: its superblock gives {error}") from None
        except OSError as error:
            raise TemporaryError(f"{doing}: its superblock cannot be read: {reason(error)}") from None

    async def _holds(self, host: Host, device: str) -> str:
        """What is there instead, in a word."""
        if host.platform == "freebsd":
            # -u, so that a GELI or ZFS provider does not pass for an empty one (docs/freebsd.md#fstyp).
            result = await host.run(("fstyp", "-u", device), timeout=self.config["PROBE_TIMEOUT"], read_only=True)
        else:
            argv = ("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", device)
            result = await host.run(argv, timeout=self.config["PROBE_TIMEOUT"], read_only=True)
            if result.status == _AMBIVALENT:
                return "the marks of several file systems"
        return result.out.split()[0] if result.status == 0 and result.out.split() else "no file system that is known"

    async def _preen(self, host: Host, device: str, doing: str) -> None:
        timeout, probe_timeout = self.config["FSCK_TIMEOUT"], self.config["PROBE_TIMEOUT"]
        # Twice: what must be run again says so.
        for _ in range(2):
            result = await fsck_preen.run(host, self._kind, device, timeout, probe_timeout)
            if result.status not in _AGAIN[self._kind]:
                break
        if result.status in _FINE[self._kind]:
            return
        raise self._verdict(result, doing)

    def _verdict(self, result: Result, doing: str) -> EnvstartError:
        if result.alive:
            # No mount of others is looked at by it (fsck_preen.py); but sync(2) goes through all (nfs_sync() in
            # sys/fs/nfsclient/nfs_clvfsops.c), and main() of sbin/fsck_ffs/main.c begins with it.
            others = (
                "; or, since it begins with sync(2), a server that a jail was writing to" if self._kind == "ufs" else ""
            )
            return BlockedError(
                f"{doing}: fsck hangs, and nothing ends it ({result.words}): the disk gives no answer{others}"
            )
        if result.status is None:
            return EnvstartError(f"{doing}: fsck had not ended ({result.words})", hint="raise FSCK_TIMEOUT and TIMEOUT")
        if "NO WRITE ACCESS" in result.out or "is mounted" in result.words or "is in use" in result.words:
            return TemporaryError(
                f"{doing}: fsck cannot write to it: it is in use, or held by another host ({result.words})"
            )
        if "Can't stat" in result.out or "Input/output error" in result.words:
            return TemporaryError(f"{doing}: {result.words}")
        return DamagedError(
            f"{doing}: fsck cannot mend it by itself ({result.words})", hint="run fsck by hand and read what it asks"
        )

    async def _check_owner(self, host: Host, device: str, doing: str) -> None:
        """Refuse what another host has, or had, mounted: it is dirty because of that host (docs/faults.md, 94)."""
        host.on_failure(lambda: self._unmount(host))
        timeout = self.config["PROBE_TIMEOUT"]
        made = [self._looking.rpartition("/")[0], self._looking]
        await host.call_with_timeout(host_mark.make_private, made, timeout=timeout)
        argv = commands.mount(host.platform, self._kind, ("ro",), device, self._looking)
        result = await host.run(argv, timeout=timeout, keep_locks=True)
        if not await host.stack(self._looking):
            raise TemporaryError(f"{doing}: it was not cleanly unmounted, and cannot be looked at: {result.words}")
        workdir = self.environment.workdir
        lease = None
        if self.config["VOLUME_LAYOUT"] == "tree" and workdir and self.config["LEASE"] == "refuse":
            lease = (f"{self._looking}/system/locked", f"{workdir}/nodename")
        try:
            mark, other = await host.call_with_timeout(
                host_mark.read_mark_and_lease, self._looking, lease, timeout=timeout
            )
        except OSError as error:
            raise TemporaryError(f"{doing}: whose it is cannot be told: {reason(error)}") from None
        await self._unmount(host)
        if mark and mark != await own_mark(host):
            known = mark.split()[0] == await host_id(host)
            text = " of this one's id: it had another name, or two have the same" if known else ""
            from envstart.config import remedies

            by_force = remedies.of_subject(host.report.planned, "recover", "--preempt")
            raise BlockedError(
                f"{doing}: it was not cleanly unmounted, and carries the mark of another host ({mark}){text}",
                hint=f"stop the jail or VM there, or, if that host is known to be down: {by_force}",
            )
        if other is not None and other[1] < LEASE_SECONDS:
            raise BlockedError(
                f"{doing}: it was not cleanly unmounted, and node {other[0]} had {self.environment.name} "
                f"in use {other[1] // 60} minutes ago (system/locked)",
                hint="stop it there, or wait",
            )

    async def _unmount(self, host: Host) -> None:
        for entry in await host.stack(self._looking):
            await unmount.unmount(host, entry, attempts=3)
        await host.call_with_timeout(filesystem.remove_empty, [self._looking], timeout=self.config["PROBE_TIMEOUT"])

    async def stop(self, host: Host) -> None:
        self._seen = ""
        # What a killed start has left.
        if await host.stack(self._looking):
            await self._unmount(host)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        if verb == "stop" or not await self._is_checked(host):
            return []
        return [await fsck_preen.argv(host, self._kind, await self.device(host) or self.expected(host))]

    async def _is_checked(self, host: Host) -> bool:
        """Tell whether a start would run fsck(8), as far as that can be told before."""
        device = await self.device(host)
        return self._preens and not self._is_of_elsewhere(host) and not (device and await self._is_clean(host, device))

    def _is_of_elsewhere(self, host: Host) -> bool:
        """Tell whether this system has no program for file systems of this type, and does not write to them."""
        return host.platform == "linux" and self._kind == "ufs"

    async def _is_clean(self, host: Host, device: str) -> bool:
        try:
            return await self._look(host, device, f"cannot mount {device}") == superblock.CLEAN
        except EnvstartError:
            # A start says why; as far as is known it is checked.
            return False


class DamagedError(EnvstartError):
    """The file system needs a person."""

    status = os.EX_IOERR
