"""The step that every backend ends with: one file system mounted on one directory of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart import errors
from envstart.engine import circuit_breaker, plan
from envstart.engine.retry import until_it_heals
from envstart.mounts import commands
from envstart.mounts.table import normal_source
from envstart.paths import is_below
from envstart.steps import diagnosis, health, mountpoint, sources, symlinks, unmount
from envstart.steps.mountpoint import Undo
from envstart.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from envstart.config.load import Config
    from envstart.environment import Environment
    from envstart.mounts.table import Entry, Table
    from envstart.steps.block import Block
    from envstart.system.command import Result
    from envstart.system.host import Host

# The directories of an environment that have keys of their own.
DIRECTORIES = ("data", "system", "fstab", "rcconf")
# Seconds to look for a mount that lands although its command was ended.
_LATE = 2.0
# Seconds that a stop by force keeps for a device that turns out to be dead while it is unmounted.
_FAIL_IO_RESERVE = 25.0


class Mount(plan.Step):
    """``source`` mounted on ``point``.

    ``shared`` and ``own``: it serves all environments, and stays while a mount from below ``shared`` is there whose
    source is not among this environment's ``own``. ``lower``: the block device that the files are on, if it is known.
    ``resolve_within``: a directory that the source lies in, and below which no link may lead it elsewhere; "": links
    are fine.
    """

    # Where missing parents of the mount point may be made, and the mode of what is made.
    create_below: str | None
    mode = 0o755
    takes_files = False
    # Where else something of the environment is mounted.
    beside: Collection[str] = ()
    # Whether the mount command keeps our locks until it ends (Host.run).
    keep_locks = True
    # Whether locks of files go through rpc.lockd(8), so that a forced unmount can crash the host (umount(8)).
    lockd = False
    diagnose = staticmethod(diagnosis.of_mount)

    def __init__(
        self,
        name: str,
        fstype: str,
        options: tuple[str, ...],
        source: str,
        point: str,
        environment: Environment,
        config: Config,
        attempt_timeout: float,
        shared: str = "",
        own: Sequence[str] = (),
        lower: Block | None = None,
        servers: Sequence[plan.Server] = (),
        resolve_within: str = "",
    ) -> None:
        self.name, self.point = name, point
        self.fstype, self.options, self.source = fstype, options, source
        self.shared, self.own = shared, tuple(own)
        self.resource = point if shared else ""
        self.lower, self.resolve_within = lower, resolve_within
        self.servers = tuple(servers)
        # A directory of the same environment that the mount point lies in: whoever is root in there can make links.
        self.enclosing = symlinks.enclosing(environment, point)
        self.create_below = environment.workdir
        # Seconds that the mounted directory may take to answer.
        self.probe_timeout: float = config["PROBE_TIMEOUT"]
        self.required: Sequence[str] = config[f"REQUIRE_{name.upper()}"] or () if name in DIRECTORIES else ()
        self.environment = environment
        self.config = config
        self._attempt_timeout = attempt_timeout
        # Whether this run has mounted it.
        self._new = False

    @property
    def touched_paths(self) -> Sequence[str]:
        return (self.point, self.enclosing) if self.enclosing else (self.point,)

    def needs(self, other: plan.Step) -> bool:
        """After the device it is on, and the one whose directory holds its mount point or its source."""
        if other is self.lower:
            return True
        return bool(other.point) and (is_below(self.point, other.point) or is_below(self.source, other.point))

    # Is it so?

    async def inspect(self, host: Host) -> plan.Observation:
        """Return what the mount table shows on the directory, which is not touched."""
        return await mountpoint.inspect(host, self, await host.mounts(), await self._real_point(host))

    async def observe(self, host: Host) -> plan.Observation:
        """Return what there is, for people, without a look into the directory: also how it differs from what an
        administrator may expect."""
        try:
            point, table = await self._real_point(host), await host.mounts()
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
            point = await self._real_point(host)
        except errors.NoResponseError as error:
            # What it lies on may be another directory of this environment, which is brought back first.
            return error
        table = await host.mounts()
        problem = (await mountpoint.inspect(host, self, table, point)).settle()
        if problem is not None:
            return problem
        for doubt in await sources.doubts(self, host, table, table.at(point)[0]):
            host.report.warn(f"{point}: {doubt}")
        problem = await health.check_health(self, host, point)
        silent = self._new and isinstance(problem, errors.NoResponseError)
        if silent and await circuit_breaker.connects(host, self.servers, self.probe_timeout):
            # A server that has just been started mounts, and opens no file, while those have time who had files open
            # before (RFC 8881 8.4.2: 90 s on Linux, up to two minutes on FreeBSD).
            host.report.note(f"{point}: {self.source} is mounted, and opens no file yet; waiting for it")
            host.unresponsive.discard(point)
            problem = await health.check_health(self, host, point, host.deadline.left())
        return problem

    async def _ours(self, host: Host, table: Table, point: str) -> Entry | None:
        """Return the mount on ``point`` if it is the configured one; ConfigError if it is anything else."""
        if not (stack := table.at(point)):
            return None
        (await mountpoint.inspect(host, self, table, point)).settle()
        return stack[0]

    async def _matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Whether it is of the wanted kind, and shows the wanted source. Links in it are followed only if they must."""
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

    def _origin(self, table: Table, source: str) -> str:
        return normal_source(source) if self.fstype == "nfs" else table.origin(source)

    def lease(self, point: str) -> tuple[str, str] | None:
        """The two files that say which node uses the environment (see verdict.look), if they are to be looked at."""
        workdir = self.environment.workdir
        if self.name != "system" or self.config["LEASE"] == "ignore" or not workdir:
            return None
        return f"{point}/locked", f"{workdir}/nodename"

    def server(self, table: Table) -> str:
        """Who must answer when the directory is looked at (see Table.server())."""
        if self.fstype == "nullfs":
            return table.server(self.source)
        return normal_source(self.source).partition(":/")[0] if self.fstype == "nfs" else self.point

    def requires(self) -> str:
        """Who asks for what must be in it."""
        return f"REQUIRE_{self.name.upper()} asks for"

    async def why_down(self, host: Host) -> str:
        """Why it cannot answer, as far as that shows without touching it."""
        return await self.lower.why_down(host) if self.lower is not None else ""

    async def why_lost(self, host: Host) -> str:
        """Why what is mounted there will never be of use again, although it answers."""
        table = await host.mounts()
        stack = table.at(await self._real_point(host))
        return table.why_lost(stack[-1]) if stack else ""

    async def answers(self, host: Host, point: str, timeout: float) -> bool:
        if await self.why_down(host):
            host.unresponsive.add(point)
            return False
        return await unmount.answers(host, point, timeout)

    async def _device(self, host: Host) -> str:
        """What is handed to the mount command."""
        return self.source

    # Make it so.

    async def _stale_mount(self, host: Host) -> Entry | None:
        """Return our mount if a start has to take it away, of an environment that does not run; raise what keeps it."""
        try:
            point = await self._real_point(host)
        except errors.NoResponseError:  # What it lies on is cleared first.
            return None
        entry = await self._ours(host, await host.mounts(), point)
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
        if (entry := await self._stale_mount(host)) and not await self.answers(host, entry.point, self.probe_timeout):
            from envstart.steps import recovery

            await recovery.check_force(self, host, entry)

    async def remove_stale(self, host: Host) -> None:
        """Take a mount that is of no use away (docs/faults.md, 3 and 6)."""
        if entry := await self._stale_mount(host):
            host.report.warn(f"{entry.point}: {entry} is broken: remounting it")
            await self._unmount_broken(host, entry)

    async def start(self, host: Host) -> None:
        point = await self._real_point(host)
        if await self._ours(host, await host.mounts(), point) is not None:
            if problem := await self.check(host):
                raise problem
            return
        await symlinks.refuse(host, self, point)
        undo = Undo()
        host.on_failure(lambda: self._undo_start(host, point, undo))
        await mountpoint.prepare(host, self, point, undo.made)
        await until_it_heals(lambda: self._attempt(host, point, undo), host, point, self.config["ATTEMPTS"])
        self._new = True

    @property
    def borrowed(self) -> bool:
        """Tell whether it shows a file system that is not this jail's or VM's alone, so that no force may reach it."""
        return self.fstype == "nullfs" and self.lower is None

    async def alone(self, host: Host, entry: Entry) -> bool:
        """Tell whether nobody else has the file system of this mount mounted."""
        same = sum(other.device == entry.device for other in await host.mounts()) if entry.device else 1
        return self.fstype != "nullfs" and same == 1

    async def _unmount_broken(self, host: Host, entry: Entry, *, asked: bool = False) -> None:
        if not await self.answers(host, entry.point, self.probe_timeout):
            await self._force_unmount(host, entry, asked=asked)
            return
        try:
            await unmount.unmount(host, entry, attempts=1)
        except unmount.BusyError:
            await self._force_unmount(host, entry, asked=asked, unresponsive=False)

    async def users(self, host: Host, point: str) -> str:
        """Return who uses what is mounted, "" if nobody does."""
        from envstart.steps import occupancy

        return await occupancy.users(host, self.environment, point)

    async def _force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        """Unmount what does not answer (``unresponsive``), or is in use, with what lies on it; what lies below it is
        made to give an error first."""
        if unresponsive and self.lower is not None and await self.lower.recheck_down(host):
            await self.lower.fail_pending_io(host)
            if not (await host.mounts()).at(entry.point):
                # The kernel has done it when the device went away.
                host.unresponsive.discard(entry.point)
                return
        from envstart.steps import forced, recovery

        await recovery.check_force(self, host, entry, asked=asked)
        await forced.unmount(host, entry, unresponsive=unresponsive, alone=await self.alone(host, entry))

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
            entry = await self._ours(host, await host.mounts(), point)
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
        return await host.run(argv, timeout=self._attempt_timeout, keep_locks=self.keep_locks, wait_if_unkillable=True)

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> errors.EnvstartError:
        """Why nothing is mounted after a mount command."""
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
                    await self._force_unmount(host, entry)
        if undo.made:
            await host.call_with_timeout(filesystem.remove_empty, undo.made, timeout=self.probe_timeout)

    # Take it away.

    async def preflight_stop(self, host: Host) -> None:
        for entry in await self._to_stop(host):
            if await self.answers(host, entry.point, self.probe_timeout):
                continue
            if not self.config["STOP_FORCE"]:
                why = await self.why_down(host) or f"it gives no answer in {self.probe_timeout} s, and may come back"
                raise errors.TemporaryError(
                    f"cannot unmount {entry.point}: {self.source}: {why}",
                    hint="set STOP_FORCE=1 to unmount it nonetheless",
                )
            from envstart.steps import recovery

            await recovery.check_force(self, host, entry)

    async def force_unresponsive(self, host: Host) -> None:
        for entry in [entry for entry in await self._to_stop(host) if entry.point in host.unresponsive]:
            host.report.warn(f"{entry.point}: {entry} does not answer; unmounting it by force")
            await self._force_unmount(host, entry)

    async def stop(self, host: Host) -> None:
        entries = await self._to_stop(host)
        if entries:
            self.journal_stop(host)
        await self._unmount(host, entries)

    async def discard(self, host: Host) -> None:
        """stop() of what this run made for itself: nothing brings it back."""
        await self._unmount(host, await self._to_stop(host))

    async def _unmount(self, host: Host, entries: Sequence[Entry]) -> None:
        spare = _FAIL_IO_RESERVE if self.config["STOP_FORCE"] and self.lower is not None else 0.0
        for entry in entries:
            try:
                await unmount.unmount(host, entry, self.config["ATTEMPTS"], self.config["STOP_KILL"], spare)
            except unmount.HangingError as error:
                # The directory answered out of memory; or, since FreeBSD's umount(8) begins with sync(2) unless it is
                # forced, another environment's disk hangs.
                if not spare or not (
                    host.platform == "freebsd" or (self.lower and await self.lower.recheck_down(host))
                ):
                    raise
                host.report.warn(f"{error}; unmounting it by force")
                await self._force_unmount(host, entry)
            except unmount.BusyError:
                if not self.config["STOP_FORCE"]:
                    raise
                host.deadline.use_reserve()
                await self._force_unmount(host, entry, unresponsive=False)

    async def _to_stop(self, host: Host) -> list[Entry]:
        """Return our mounts on the directory, the visible one first; of a stack all, or none (docs/faults.md, 26)."""
        point = await self._real_point(host)
        table = await host.mounts()
        stack = table.at(point)
        if not stack or self._kept(table, point):
            return []
        for entry in stack:
            if not await self._matches(host, table, entry):
                raise errors.ConfigError(
                    f"cannot unmount {point}: {mountpoint.listed(stack)} is mounted there, not {self.source} alone; it "
                    "is not touched"
                )
        if (hidden := mountpoint.hidden(table, stack[-1])) is not None:
            raise hidden
        return list(reversed(stack))

    def _kept(self, table: Table, point: str) -> bool:
        """Whether another environment needs it; ``point`` is where this one is."""
        if not self.shared:
            return False
        others = {entry.origin for entry in table if entry.point != point}
        others -= {self._origin(table, source) for source in self.own}
        shared = self._origin(table, self.shared).rstrip("/")
        return any(is_below(origin, shared) for origin in others)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the command of mount(8) or umount(8)."""
        point = await self._real_point(host)
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

    async def _real_point(self, host: Host) -> str:
        """Return the directory as the mount table names it. It is touched only when the table does not know it."""
        return await symlinks.real_point(host, self)
