"""The step that every backend ends with: one file system mounted on one directory of a jail or VM."""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.mounts import commands
from envstart.mounts.table import Entry
from envstart.steps import health, mountpoint, unmount
from envstart.steps.mount_state import MountState
from envstart.steps.mountpoint import Undo
from envstart.system import filesystem
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds that a stop by force keeps for a device that turns out to be dead while it is unmounted.
_FAIL_IO_RESERVE = 25.0
# Seconds to look for a mount that lands although its command was ended.
_LATE = 2.0


class Mount(MountState):
    """``source`` mounted on ``point``."""

    # Whether the mount command keeps our locks until it ends (Host.run).
    keep_locks = True

    @staticmethod
    def diagnose(result: Result, doing: str) -> errors.EnvstartError:
        """Return the error for what the mount command said; ``doing`` is "mount SOURCE on DIR"."""
        from envstart.steps import diagnosis

        return diagnosis.of_mount(result, doing)

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
        await mountpoint.refuse_links(host, self, point)
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
            await mountpoint.undo_redirected_mount(host, self, point, before)
            raise
        if entry is not None:
            if result.status != 0:
                from envstart.steps import diagnosis

                if any(words in result.words for words in diagnosis.ALREADY):
                    # Somebody else mounted it in between: not ours to take back.
                    undo.tried = False
                host.report.warn(f"{argv[0]} failed ({result.words}), but {self.source} is mounted on {point}")
            return
        await mountpoint.undo_redirected_mount(host, self, point, before)
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
        if self.fstype == "nfs":
            from envstart.steps import nfs_failure

            return await nfs_failure.explain(host, self, result, doing)
        from envstart.steps import diagnosis

        return diagnosis.no_source(self, result, doing) or self.diagnose(result, doing)

    async def _undo_start(self, host: Host, point: str, undo: Undo) -> None:
        """Undo what a failed start has done here, and nothing else (docs/promises.md, 4)."""
        if undo.tried:
            entry = await mountpoint.landed(host, self, point, _LATE if undo.cut_off else 0.0)
            if entry is not None and not self._kept(await host.mounts(), point):
                if await self.answers(host, point, min(self.probe_timeout, host.deadline.left() / 3)):
                    # Imported before the mount: an upgrade can replace the package while a start waits.
                    await unmount.unmount(host, entry, attempts=3)
                else:
                    # Seconds old and used by nobody: force harms no one, and a plain umount would hang.
                    await self.force_unmount(host, entry)
        if undo.made:
            await host.call_with_timeout(filesystem.remove_empty, undo.made, timeout=self.probe_timeout)

    async def _stale_mount(self, host: Host) -> Entry | None:
        """Return our mount if a start has to take it away, of an environment that does not run; raise what keeps it."""
        try:
            point = await self.real_point(host)
        except errors.NoResponseError:  # What it lies on is cleared first.
            return None
        entry = await self.own_entry(host, await host.mounts(), point)
        if entry is None or await self.why_down(host):  # With its device it can come back.
            return None
        from envstart.steps import forced

        if self.borrowed and not await self.answers(host, entry.point):
            await forced.wait_for_answer(self, host, entry)
            if await health.check_health(self, host, entry.point) is None:
                return None
        if users := await self.users(host, entry.point):
            raise forced.used_error(self, host, entry, users)
        return entry

    async def preflight_remove_stale(self, host: Host) -> None:
        """Raise if what is of no use cannot be taken away."""
        if (entry := await self._stale_mount(host)) and not await self.answers(host, entry.point):
            from envstart.steps import forced

            await forced.check(self, host, entry)

    async def remove_stale(self, host: Host) -> None:
        """Take a mount that is of no use away (docs/faults.md, 3 and 6)."""
        if entry := await self._stale_mount(host):
            host.report.warn(f"{entry.point}: {entry} is broken: remounting it")
            await self.unmount_broken(host, entry)

    async def preflight_stop(self, host: Host) -> None:
        """Raise if it gives no answer, unless it may be unmounted by force."""
        for entry in await self._to_stop(host):
            if await self.answers(host, entry.point):
                continue
            if not self.config[common.STOP_FORCE]:
                why = await self.why_down(host) or f"it gives no answer in {self.probe_timeout} s, and may come back"
                text = f"cannot unmount {entry.point}: {self.source}: {why}"
                raise errors.TemporaryError(text, hint="set STOP_FORCE=1 to unmount it nonetheless")
            from envstart.steps import forced

            await forced.check(self, host, entry)

    async def force_unresponsive(self, host: Host) -> None:
        """Unmount by force what did not answer preflight_stop()."""
        for entry in [entry for entry in await self._to_stop(host) if entry.point in host.unresponsive]:
            host.report.warn(f"{entry.point}: {entry} does not answer; unmounting it by force")
            await self.force_unmount(host, entry)

    async def stop(self, host: Host) -> None:
        """Unmount it; nothing to do is success."""
        if entries := await self._to_stop(host):
            self.journal_stop(host)
        await self._unmount(host, entries)

    async def discard(self, host: Host) -> None:
        """Unmount what this run has mounted for itself: nothing brings it back."""
        await self._unmount(host, await self._to_stop(host))

    async def _to_stop(self, host: Host) -> list[Entry]:
        """Return our mounts on the directory, the visible one first; of a stack all, or none (docs/faults.md, 26)."""
        point = await self.real_point(host)
        table = await host.mounts()
        stack = table.at(point)
        if not stack or self._kept(table, point):
            return []
        for entry in stack:
            if not await self.matches(host, table, entry):
                mounted = f"{mountpoint.listed(stack)} is mounted there, not {self.source} alone"
                raise errors.ConfigError(f"cannot unmount {point}: {mounted}; it is not touched")
        if (hidden := mountpoint.hidden(table, stack[-1])) is not None:
            raise hidden
        return list(reversed(stack))

    async def _unmount(self, host: Host, entries: Sequence[Entry]) -> None:
        attempts = self.config[common.ATTEMPTS]
        spare = _FAIL_IO_RESERVE if self.config[common.STOP_FORCE] and self.lower is not None else 0.0
        for entry in entries:
            try:
                await unmount.unmount(host, entry, attempts, kill=self.config[common.STOP_KILL], spare=spare)
            except unmount.HangingError as error:
                # The directory answered out of memory; or, since FreeBSD's umount(8) begins with sync(2) unless it is
                # forced, another environment's disk hangs.
                dead = spare and (host.platform == "freebsd" or (self.lower and await self.lower.recheck_down(host)))
                if not dead:
                    raise
                host.report.warn(f"{error}; unmounting it by force")
                await self.force_unmount(host, entry)
            except unmount.BusyError:
                if not self.config[common.STOP_FORCE]:
                    raise
                host.deadline.use_reserve()
                await self.force_unmount(host, entry, unresponsive=False)

    async def unmount_broken(self, host: Host, entry: Entry, *, asked: bool = False) -> None:
        """Unmount what is of no use, by force if it gives no answer or is busy."""
        if not await self.answers(host, entry.point):
            await self.force_unmount(host, entry, asked=asked)
            return
        try:
            await unmount.unmount(host, entry, attempts=1)
        except unmount.BusyError:
            await self.force_unmount(host, entry, asked=asked, unresponsive=False)

    async def force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        """Unmount what does not answer, or is in use, with what lies on it; what it lies on is made to fail first."""
        if unresponsive and self.lower is not None and await self.lower.recheck_down(host):
            await self.lower.fail_pending_io(host)
            if not (await host.mounts()).at(entry.point):
                # The kernel has done it when the device went away.
                host.unresponsive.discard(entry.point)
                return
        from envstart.steps import forced

        await forced.check(self, host, entry, asked=asked)
        await forced.unmount(host, entry, unresponsive=unresponsive, alone=await self.alone(host, entry))
