"""The step that every backend ends with: one file system mounted on one directory of a jail or VM."""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.mounts import commands
from envstart.steps import diagnosis, mountpoint, symlinks, unmount
from envstart.steps.mount_removal import RemovableMount
from envstart.steps.mountpoint import Undo
from envstart.system import filesystem
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds to look for a mount that lands although its command was ended.
_LATE = 2.0


class Mount(RemovableMount):
    """``source`` mounted on ``point``."""

    # Whether the mount command keeps our locks until it ends (Host.run).
    keep_locks = True
    diagnose = staticmethod(diagnosis.of_mount)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the command of mount(8) or umount(8)."""
        point = await self.real_point(host)
        if verb == "start":
            return [commands.mount(host.platform, self.fstype, self.options, await self._expected(host), point)]
        table = await host.mounts()
        if (await mountpoint.inspect(host, self, table, point)).status != plan.MOUNTED or self._kept(table, point):
            return []
        return [commands.unmount(host.platform, table.at(point)[0].fstype, point)]

    async def _expected(self, host: Host) -> str:
        """Return what would be handed to the mount command, as far as that can be told beforehand."""
        try:
            return await self._device(host)
        except errors.EnvstartError:
            return self.lower.expected(host) if self.lower is not None else self.source

    async def _device(self, host: Host) -> str:
        """Return what is handed to the mount command."""
        return self.source

    async def start(self, host: Host) -> None:
        """Mount it; what is mounted there already must be ours, and healthy."""
        point = await self.real_point(host)
        if await self.own_entry(host, await host.mounts(), point) is not None:
            if problem := await self.check(host):
                raise problem
            return
        await symlinks.refuse(host, self, point)
        undo = Undo()
        host.on_failure(lambda: self._undo_start(host, point, undo))
        await mountpoint.prepare(host, self, point, undo.made)
        await until_it_heals(lambda: self._attempt(host, point, undo), host, point, self.config[common.ATTEMPTS])
        host.learnt[self, "mounted"] = True

    async def _attempt(self, host: Host, point: str, undo: Undo) -> None:
        argv = commands.mount(host.platform, self.fstype, self.options, await self._device(host), point)
        undo.tried = True
        before = await host.mounts()
        # Once begun, and until it has ended, it can still bring the mount, whatever ends us.
        undo.cut_off = True
        try:
            result = await self._run(host, argv)
        except errors.EnvstartError:
            undo.cut_off = False
            raise
        undo.cut_off = result.status is None
        doing = f"mount {self.source} on {point}"
        # The table, not the exit status: each can be wrong either way (docs/faults.md, 65 and 66).
        try:
            entry = await self.own_entry(host, await host.mounts(), point)
        except errors.ConfigError:
            await symlinks.undo_redirected_mount(host, self, point, before)
            raise
        if entry is not None:
            if result.status != 0:
                if any(words in result.words for words in diagnosis.ALREADY):
                    # Somebody else mounted it in between: not ours to take back.
                    undo.tried = False
                host.report.warn(f"{argv[0]} failed ({result.words}), but {self.source} is mounted on {point}")
            return
        await symlinks.undo_redirected_mount(host, self, point, before)
        error = await self._explained(host, argv[0], result, doing)
        # Another attempt would hang at the same place.
        raise errors.BlockedError(error.message, hint=error.hint) if result.alive else error

    async def _run(self, host: Host, argv: tuple[str, ...]) -> Result:
        """Run the mount command."""
        return await host.run(argv, timeout=self.spec.timeout, keep_locks=self.keep_locks, wait_if_unkillable=True)

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> errors.EnvstartError:
        """Return why nothing is mounted after a mount command."""
        if result.status == 0:
            return errors.EnvstartError(f"cannot {doing}: {program} said that it is done, but nothing is mounted there")
        return await diagnosis.explain(host, self, result, doing)

    async def _undo_start(self, host: Host, point: str, undo: Undo) -> None:
        """Undo what a failed start has done here, and nothing else (docs/promises.md, 4)."""
        if undo.tried:
            entry = await mountpoint.landed(host, self, point, _LATE if undo.cut_off else 0.0)
            if entry is not None and not self._kept(await host.mounts(), point):
                if await self.answers(host, point, min(self.probe_timeout, host.deadline.left() / 3)):
                    await unmount.unmount(host, entry, attempts=3)
                else:
                    # Seconds old and used by nobody: force harms no one, and a plain umount would hang.
                    await self.force_unmount(host, entry)
        if undo.made:
            await host.call_with_timeout(filesystem.remove_empty, undo.made, timeout=self.probe_timeout)
