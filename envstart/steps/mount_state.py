"""A file system on a directory, as it is configured, and what there is of it.

Nothing here changes the machine: mount.py does.
"""

from __future__ import annotations

from envstart import errors
from envstart.engine import circuit_breaker, plan
from envstart.mounts.table import Entry, Table
from envstart.steps import health, mountpoint, sources, unmount
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system.host import Host


class MountState(ConfiguredMount):
    """A mount as it is configured, and what there is of it."""

    async def inspect(self, host: Host) -> plan.Observation:
        """Return what the mount table shows on the directory, which is not touched."""
        return await mountpoint.inspect(host, self, await host.mounts(), await self.real_point(host))

    async def observe(self, host: Host) -> plan.Observation:
        """Return what the mount table shows, for people: also how it differs from what one may expect."""
        try:
            point, table = await self.real_point(host), await host.mounts()
            seen = await mountpoint.inspect(host, self, table, point)
            if seen.status == plan.MOUNTED and (lost := await self.why_lost(host)):
                return plan.Observation(plan.BROKEN, lost)
        except (errors.EnvstartError, OSError) as error:
            if isinstance(error, errors.NoResponseError) and await self.hanging(host) is not None:
                return plan.Observation(plan.NO_ANSWER, "an unmount of it hangs, so that the mount table leaves it out")
            return plan.Observation(plan.UNKNOWN, str(error))
        if seen.status == plan.NOT_MOUNTED:
            return seen._replace(detail=await sources.unshown(self, host, table, point))
        if seen.status == plan.MOUNTED:
            entry = table.at(point)[0]
            drift = mountpoint.drift(entry, self.options) or await sources.unshown(self, host, table, point, entry)
            return plan.Observation(plan.DEGRADED, drift) if drift else seen
        return seen

    async def check(self, host: Host) -> errors.EnvstartError | None:
        """Return what a start has to mend, after a look into the directory too; raise if it must be left alone."""
        try:
            point = await self.real_point(host)
        except errors.NoResponseError as error:
            # What it lies on may be another directory of this environment, which is brought back first.
            return error
        table = await host.mounts()
        problem = (await mountpoint.inspect(host, self, table, point)).settle()
        if problem is not None:
            return problem
        for doubt in await sources.doubts(self, host, table, table.at(point)[0]):
            host.report.warn(f"{point}: {doubt}")
        try:
            problem = await health.check_health(self, host, point)
        except errors.EnvstartError:
            if (gone := await self._gone(host, table, point)) is None:
                raise
            return gone
        silent = (self, "mounted") in host.learnt and isinstance(problem, errors.NoResponseError)
        if silent and await circuit_breaker.connects(host, self.servers, self.probe_timeout):
            # A server that has just been started mounts, and opens no file, while those have time who had files open
            # before (RFC 8881 8.4.2: 90 s on Linux, up to two minutes on FreeBSD).
            host.report.note(f"{point}: {self.source} is mounted, and opens no file yet; waiting for it")
            host.unresponsive.discard(point)
            problem = await health.check_health(self, host, point, host.deadline.left())
        return problem

    async def _gone(self, host: Host, before: Table, point: str) -> errors.EnvstartError | None:
        """Return what a start has to mend if somebody has unmounted it since; what was looked into was not the mount.

        The umount of a stop that was killed goes on without it.
        """
        host.invalidate()
        now = await host.mounts()
        changed = now.at(point) != before.at(point)
        return (await mountpoint.inspect(host, self, now, point)).settle() if changed else None

    async def own_entry(self, host: Host, table: Table, point: str) -> Entry | None:
        """Return the mount on ``point`` if it is the configured one; ConfigError if it is anything else."""
        if not (stack := table.at(point)):
            return None
        (await mountpoint.inspect(host, self, table, point)).settle()
        return stack[0]

    async def hanging(self, host: Host) -> Entry | None:
        """Return the mount if FreeBSD's table leaves it out, since an unmount of it hangs (getfsstat(2)); else None.

        Whoever looks at the directory waits for the server then.
        """
        if host.platform != "freebsd" or self.fstype != "nfs":
            return None
        parent, _, name = self.point.rpartition("/")
        try:
            point = f"{(await host.real(parent or '/')).rstrip('/')}/{name}"
        except (errors.NoResponseError, errors.DeadlineExceededError):
            point = self.point
        if (await host.mounts()).at(point):
            return None
        try:
            return None if await self.answers(host, point) else Entry(self.source, point, "nfs")
        except errors.DeadlineExceededError:
            return None

    async def alone(self, host: Host, entry: Entry) -> bool:
        """Tell whether nobody else has the file system of this mount mounted."""
        same = sum(other.device == entry.device for other in await host.mounts()) if entry.device else 1
        return self.fstype != "nullfs" and same == 1

    async def users(self, host: Host, point: str) -> str:
        """Return who uses what is mounted, "" if nobody does."""
        return await unmount.users(host, self.environment, point)
