"""Taking a mount away: for a stop, and before a start what is of no use (by which commands: unmount.py, forced.py)."""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.mounts.table import Entry
from envstart.steps import health, mountpoint, unmount
from envstart.steps.mount_state import MountState
from envstart.system.host import Host

# Seconds that a stop by force keeps for a device that turns out to be dead while it is unmounted.
_FAIL_IO_RESERVE = 25.0


class RemovableMount(MountState):
    """A mount that can be taken away."""

    async def _stale_mount(self, host: Host) -> Entry | None:
        """Return our mount if a start has to take it away, of an environment that does not run; raise what keeps it."""
        try:
            point = await self.real_point(host)
        except errors.NoResponseError:  # What it lies on is cleared first.
            return None
        entry = await self.own_entry(host, await host.mounts(), point)
        if entry is None or await self.why_down(host):  # With its device it can come back.
            return None
        if self.borrowed and not await self.answers(host, entry.point, self.probe_timeout):
            from envstart.steps import recovery

            await recovery.wait_for_answer(self, host, entry)
            if await health.check_health(self, host, entry.point) is None:
                return None
        if users := await self.users(host, entry.point):
            from envstart.steps import recovery

            raise recovery.used_error(self, host, entry, users)
        return entry

    async def preflight_remove_stale(self, host: Host) -> None:
        """Raise if what is of no use cannot be taken away."""
        if (entry := await self._stale_mount(host)) and not await self.answers(host, entry.point, self.probe_timeout):
            from envstart.steps import recovery

            await recovery.check_force(self, host, entry)

    async def remove_stale(self, host: Host) -> None:
        """Take a mount that is of no use away (docs/faults.md, 3 and 6)."""
        if entry := await self._stale_mount(host):
            host.report.warn(f"{entry.point}: {entry} is broken: remounting it")
            await self.unmount_broken(host, entry)

    async def preflight_stop(self, host: Host) -> None:
        """Raise if it gives no answer, unless it may be unmounted by force."""
        for entry in await self._to_stop(host):
            if await self.answers(host, entry.point, self.probe_timeout):
                continue
            if not self.config[common.STOP_FORCE]:
                why = await self.why_down(host) or f"it gives no answer in {self.probe_timeout} s, and may come back"
                raise errors.TemporaryError(
                    f"cannot unmount {entry.point}: {self.source}: {why}",
                    hint="set STOP_FORCE=1 to unmount it nonetheless",
                )
            from envstart.steps import recovery

            await recovery.check_force(self, host, entry)

    async def force_unresponsive(self, host: Host) -> None:
        """Unmount by force what did not answer preflight_stop()."""
        for entry in [entry for entry in await self._to_stop(host) if entry.point in host.unresponsive]:
            host.report.warn(f"{entry.point}: {entry} does not answer; unmounting it by force")
            await self.force_unmount(host, entry)

    async def stop(self, host: Host) -> None:
        """Unmount it; nothing to do is success."""
        entries = await self._to_stop(host)
        if entries:
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
                raise errors.ConfigError(
                    f"cannot unmount {point}: {mountpoint.listed(stack)} is mounted there, not {self.source} alone; it "
                    "is not touched"
                )
        if (hidden := mountpoint.hidden(table, stack[-1])) is not None:
            raise hidden
        return list(reversed(stack))

    async def _unmount(self, host: Host, entries: Sequence[Entry]) -> None:
        spare = _FAIL_IO_RESERVE if self.config[common.STOP_FORCE] and self.lower is not None else 0.0
        for entry in entries:
            try:
                await unmount.unmount(
                    host, entry, self.config[common.ATTEMPTS], kill=self.config[common.STOP_KILL], spare=spare
                )
            except unmount.HangingError as error:
                # The directory answered out of memory; or, since FreeBSD's umount(8) begins with sync(2) unless it is
                # forced, another environment's disk hangs.
                if not spare or not (
                    host.platform == "freebsd" or (self.lower and await self.lower.recheck_down(host))
                ):
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
        if not await self.answers(host, entry.point, self.probe_timeout):
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
        from envstart.steps import forced, recovery

        await recovery.check_force(self, host, entry, asked=asked)
        await forced.unmount(host, entry, unresponsive=unresponsive, alone=await self.alone(host, entry))

    async def alone(self, host: Host, entry: Entry) -> bool:
        """Tell whether nobody else has the file system of this mount mounted."""
        same = sum(other.device == entry.device for other in await host.mounts()) if entry.device else 1
        return self.fstype != "nullfs" and same == 1

    async def users(self, host: Host, point: str) -> str:
        """Return who uses what is mounted, "" if nobody does."""
        from envstart.steps import occupancy

        return await occupancy.users(host, self.environment, point)
