"""A file system on a directory, as it is configured, and what there is of it.

Nothing here changes the machine: mount_removal.py takes a mount away, mount.py brings it.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.config.load import Config
from envstart.engine import circuit_breaker, plan
from envstart.environment import Environment
from envstart.mounts.table import Entry, Table, normal_source
from envstart.paths import is_below
from envstart.steps import health, mountpoint, sources, symlinks, unmount
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host

# The directories of a jail or VM that have keys of their own.
DIRECTORIES = ("data", "system", "fstab", "rcconf")


class MountState(plan.Step):
    """A MountSpec, and what there is of it."""

    # A source on this host can be a file.
    takes_files = False

    def __init__(self, spec: MountSpec, environment: Environment, config: Config) -> None:
        """Take what is configured; REQUIRE_NAME, LEASE and the like are read from ``config``."""
        self.spec, self.environment, self.config = spec, environment, config
        self.name, self.fstype, self.options, self.source, self.point = spec[:5]
        self.servers, self.lower, self.resolve_within = spec.servers, spec.lower, spec.resolve_within
        self.shared, self.resource = spec.shared, spec.point if spec.shared else ""
        self.lockd = spec.lockd
        # A directory of the same jail or VM that the mount point lies in: whoever is root in there can make links.
        self.enclosing = symlinks.enclosing(environment, spec.point)
        # Where missing parents of the mount point may be made, and the mode of what is made.
        self.create_below, self.mode = (spec.private, 0o700) if spec.private else (environment.workdir, 0o755)
        # Seconds that the mounted directory may take to answer.
        self.probe_timeout: float = config[common.PROBE_TIMEOUT]
        required = spec.required
        if required is None:
            required = config[common.REQUIRED[spec.name]] if spec.name in common.REQUIRED else None
        self.required = tuple(required or ())

    @property
    def touched_paths(self) -> Sequence[str]:
        """Return the mount point, and the directory of the same jail or VM that it lies in."""
        return (self.point, self.enclosing) if self.enclosing else (self.point,)

    def needs(self, other: plan.Step) -> bool:
        """Tell if it comes after the other: the device it is on, or what its mount point or source lies in."""
        if other is self.lower:
            return True
        return bool(other.point) and (is_below(self.point, other.point) or is_below(self.source, other.point))

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
            from envstart.steps import recovery

            if isinstance(error, errors.NoResponseError) and await recovery.hidden(self, host) is not None:
                text = "an unmount of it hangs, so that the mount table leaves it out"
                return plan.Observation(plan.NO_ANSWER, text)
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

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if a mount is of our kind and shows our source; links in that are followed only if they must."""
        linux = host.platform == "linux"
        if table.shows(entry, self.fstype, self.source, linux=linux) or table.showed(entry, self.fstype, self.source):
            return True
        if self.fstype != "nullfs":
            return False
        real = (
            await symlinks.place(host, self.resolve_within, self.source)
            if self.resolve_within
            else await host.real(self.source)
        )
        return table.shows(entry, self.fstype, real, linux=linux) or table.showed(entry, self.fstype, real)

    @property
    def borrowed(self) -> bool:
        """Tell whether it shows a file system that is not this jail's or VM's alone, so that no force may reach it."""
        return self.fstype == "nullfs" and self.lower is None

    async def why_down(self, host: Host) -> str:
        """Return why it cannot answer, as far as that shows without touching it; "" if nothing says so."""
        return await self.lower.why_down(host) if self.lower is not None else ""

    async def why_lost(self, host: Host) -> str:
        """Return why what is mounted there will never be of use again, although it answers; "" if nothing says so."""
        table = await host.mounts()
        stack = table.at(await self.real_point(host))
        return table.why_lost(stack[-1]) if stack else ""

    async def answers(self, host: Host, point: str, timeout: float) -> bool:
        """Tell if the mounted directory answers, be it with an error."""
        if await self.why_down(host):
            host.unresponsive.add(point)
            return False
        return await unmount.answers(host, point, timeout)

    def lease(self, point: str) -> tuple[str, str] | None:
        """Return the two files that say which node uses the jail or VM (see probe.look); None without LEASE."""
        workdir = self.environment.workdir
        if self.name != "system" or self.config[common.LEASE] == "ignore" or not workdir:
            return None
        return f"{point}/locked", f"{workdir}/nodename"

    def server(self, table: Table) -> str:
        """Return who must answer when the directory is looked at (see Table.server())."""
        if self.fstype == "nullfs":
            return table.server(self.source)
        return normal_source(self.source).partition(":/")[0] if self.fstype == "nfs" else self.point

    def requires(self) -> str:
        """Return who asks for what must be in it."""
        return f"REQUIRE_{self.name.upper()} asks for"

    def _kept(self, table: Table, point: str) -> bool:
        """Tell if another jail or VM needs what is mounted on ``point``."""
        if not self.shared:
            return False
        others = {entry.origin for entry in table if entry.point != point}
        others -= {self._origin(table, source) for source in self.spec.own}
        shared = self._origin(table, self.shared).rstrip("/")
        return any(is_below(origin, shared) for origin in others)

    def _origin(self, table: Table, source: str) -> str:
        return normal_source(source) if self.fstype == "nfs" else table.origin(source)

    async def real_point(self, host: Host) -> str:
        """Return the directory as the mount table names it. It is touched only when the table does not know it."""
        return await symlinks.real_point(host, self)
