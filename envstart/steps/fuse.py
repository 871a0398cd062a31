"""Clients in user space (GlusterFS, CephFS): one for each environment, mounted where only root can look, and the
directories of what it mounts, shown by nullfs on those of the environment.

Not one mount for each directory: FreeBSD's mount_glusterfs takes ``VOLUME/DIR`` as a whole for the name of a volume
(port net/glusterfs, mount_glusterfs.in), and each client is a process of many megabytes. Not one client for all
environments: a dead one could then not be taken away before the last of them is stopped.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

from envstart.config import common
from envstart.config.schema import directory
from envstart.engine import plan
from envstart.environment import file_name
from envstart.errors import (
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    TemporaryError,
    UnavailableError,
)
from envstart.steps import health, mountpoint, unmount
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system import process_table, rundir
from envstart.system.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.directories import Wanted
    from envstart.config.load import Config
    from envstart.environment import Environment
    from envstart.mounts.table import Entry, Table
    from envstart.steps.mountpoint import Undo
    from envstart.system.command import Result
    from envstart.system.host import Host

# Seconds the search for processes may take; it reads the arguments of all.
_SEARCH = 5.0
# Seconds that a client may take to end after its unmount, and to be in the table after it has said that it is done.
_FAREWELL = 10.0
_APPEARS = 2.0
# In a note: usable, but the table does not tell its number.
_UNTOLD = "?"


def one_word(value: str) -> str:
    """An absolute path without blanks: mount_glusterfs, a script, puts it into a command line without quotes."""
    if len(value.split()) != 1:
        raise ValueError("has a blank in it")
    return directory(value)


def is_noted(environment: Environment) -> bool:
    """Whether a client of this environment was started, and not yet stopped."""
    return bool(rundir.load_note(_note(environment)))


def _note(environment: Environment) -> str:
    return f"client.{file_name(environment)}"


class Client(Mount):
    """What a client mounts on a directory of its own, ``point``; it must hold ``required``.

    The mount table need not tell what it is (docs/freebsd.md#glusterfs, #ceph-fuse). So a note is kept: its source,
    and, once it was found to be usable, the number of the mount. A note without a number is of an attempt that came to
    no end: the run was killed, or gave up. The client is a daemon by then, which mounts when it likes.
    """

    # A daemon would keep them as long as it lives.
    keep_locks = False
    # Names of the processes: the client, and the scripts that start it.
    programs: tuple[str, ...]
    # How the table calls it, and the sources there that tell nothing.
    fstypes: tuple[str, ...]
    anonymous_sources: tuple[str, ...] = ("/dev/fuse",)

    def __init__(self, spec: MountSpec, environment: Environment, config: Config) -> None:
        """Take a mount on a private_point()."""
        private = os.path.dirname(os.path.dirname(os.path.dirname(spec.point)))
        super().__init__(spec._replace(private=private), environment, config)
        self._note = _note(environment)

    def requires(self) -> str:
        return "the jail or VM needs"

    # Is it ours?

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        return entry.root == "/" and await self.is_of(host, table, entry)

    async def is_of(self, host: Host, table: Table, entry: Entry) -> bool:
        """Whether a mount is of our source."""
        if entry.fstype not in self.fstypes:
            return False
        if entry.source not in self.anonymous_sources:
            return self.same(entry.source)
        source, number = self._noted(host)
        source = source or self._recorded(host)
        if not source:
            raise ConfigError(
                f"cannot tell what is mounted on {entry.point}: the mount table shows {entry} alone, and envstart has "
                "no note of it; it is not touched",
                hint=shlex.join(("umount", entry.point)),
            )
        if entry.fsid and number not in ("", _UNTOLD, entry.fsid):
            raise ConfigError(
                f"cannot tell what is mounted on {entry.point}: {entry}, but not the mount that envstart has made; it "
                "is not touched",
                hint=shlex.join(("umount", entry.point)),
            )
        return source == self.source

    def same(self, source: str) -> bool:
        """Whether this is another way to write our source."""
        raise NotImplementedError

    def _noted(self, host: Host) -> tuple[str, str]:
        """Source and number of what was mounted here last; "" for what is not known."""
        source, _, number = rundir.load_note(self._note).partition("\n")
        return source, number

    def _recorded(self, host: Host) -> str:
        """Return what the record of the last start says of this directory: of a note that was lost with /var/run it
        tells the source, and nobody else can mount here. "" without a record."""
        from envstart.engine import record

        recorded = record.load(self.environment, host.report)
        try:
            steps = recorded.plan().steps if recorded is not None else ()
        except EnvstartError as error:
            host.report.trace(str(error))
            return ""
        return next((step.source for step in steps if isinstance(step, Client) and step.point == self.point), "")

    def _usable(self, host: Host, entry: Entry) -> None:
        if not host.rehearsing:
            rundir.save_note(self._note, f"{self.source}\n{entry.fsid or _UNTOLD}")

    async def check(self, host: Host) -> EnvstartError | None:
        problem = await super().check(host)
        if problem is None and not self._noted(host)[1]:
            point = await self.real_point(host)
            self._usable(host, (await host.mounts()).at(point)[-1])
        return problem

    # Make it so.

    async def remove_stale(self, host: Host) -> None:
        await self._end_unfinished(host)
        await super().remove_stale(host)

    async def _attempt(self, host: Host, point: str, undo: Undo) -> None:
        began = time.time()
        await self._end_unfinished(host)
        if await self.own_entry(host, await host.mounts(), point) is None:
            if host.platform == "freebsd":
                await self._load_module(host)
            rundir.save_note(self._note, f"{self.source}\n")
            await super()._attempt(host, point, undo)
        # Mounted is not yet usable, and a client that is turned away by a server ends after its success.
        problem: EnvstartError | None
        try:
            problem = await health.check_health(self, host, point)
        except EnvstartError as error:
            problem = error
        host.invalidate()
        entry = await self.own_entry(host, await host.mounts(), point)
        if entry is None:
            raise await self._why(host, "the client has ended by itself", began, f"mount {self.source} on {point}")
        if isinstance(problem, TemporaryError):
            # Bricks, monitors and the like can come up later than what has answered so far.
            await self._end(host, point)
            host.unresponsive.discard(point)
        if problem is not None:
            raise problem
        self._usable(host, entry)

    async def _run(self, host: Host, argv: tuple[str, ...]) -> Result:
        """It can say so a moment before the table does: when the kernel has asked it for the first time, which is in
        the middle of the mount (vfs_domount_first() of sys/kern/vfs_mount.c)."""
        host.learnt[self, "began"] = time.time()
        result = await super()._run(host, argv)
        if result.status == 0:
            await mountpoint.landed(host, self, await self.real_point(host), _APPEARS)
        return result

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> EnvstartError:
        words = result.words if result.status != 0 else f"{program} said that it is done, but nothing is mounted there"
        return await self._why(host, words, host.learnt[self, "began"], doing)

    async def _why(self, host: Host, words: str, since: float, doing: str) -> EnvstartError:
        """Why ``doing`` failed; ``words`` say what was seen of it, ``since`` (time.time) is when it began."""
        raise NotImplementedError

    async def _load_module(self, host: Host) -> None:
        """Load fusefs if the kernel lacks it: the client opens /dev/fuse before it mounts; the kernel would load the
        module only then (docs/freebsd.md#fuse). kldload(8) fails with kern.securelevel=1 also for a module that is
        there, since kern_kldload() of sys/kern/kern_linker.c asks that first."""
        timeout = self.config[common.PROBE_TIMEOUT]
        if (await host.run(("kldstat", "-q", "-m", "fusefs"), timeout=timeout, read_only=True)).status == 0:
            return
        result = await host.run(("kldload", "-n", "fusefs"), timeout=timeout)
        if result.status != 0:
            kind = TemporaryError if result.status is None else UnavailableError
            raise kind(
                f"cannot mount {self.source}: kldload fusefs: {result.words}",
                hint="load it at boot: sysrc kld_list+=fusefs",
            )

    async def _undo_start(self, host: Host, point: str, undo: Undo) -> None:
        ended = await self._end_unfinished(host)
        undo.cut_off = False
        await super()._undo_start(host, point, undo)
        if undo.tried and ended:
            rundir.save_note(self._note, "")

    async def _unmount(self, host: Host, entries: Sequence[Entry]) -> None:
        await super()._unmount(host, entries)
        if entries:
            await self._farewell(host)

    async def unmount_broken(self, host: Host, entry: Entry, *, asked: bool = False) -> None:
        await super().unmount_broken(host, entry, asked=asked)
        await self._farewell(host)

    async def _farewell(self, host: Host) -> None:
        """Until the client has ended: FreeBSD's libfuse unmounts as its last act what is on its directory by then, and
        that can be the next one's (fuse_kern_unmount() in the port's lib/mount_bsd.c)."""
        if host.rehearsing:
            return
        point = await self.real_point(host)
        polling = Polling(host, _FAREWELL, f"the client of {point} to end")
        try:
            while await host.call_with_timeout(process_table.find_by_argv, self.programs, point, timeout=_SEARCH):
                if not await polling.again():
                    await self._end_processes(host, point)
                    return
        except (NoResponseError, DeadlineExceededError):
            # Whether it has is not known; the next one is looked at when it is mounted.
            pass

    async def alone(self, host: Host, entry: Entry) -> bool:
        # No other jail or VM has a mount of this client.
        return True

    async def force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        if unresponsive:
            await self.fail_pending_io(host)
        if (await host.mounts()).at(entry.point):
            await super().force_unmount(host, entry, asked=asked, unresponsive=unresponsive)
        host.unresponsive.discard(entry.point)

    async def fail_pending_io(self, host: Host) -> None:
        """End the client: what waits for it then gets an error, and can be unmounted (docs/freebsd.md#fuse)."""
        await self._end_processes(host, await self.real_point(host))

    async def _end_unfinished(self, host: Host) -> bool:
        """End what an attempt has left that came to no end; false if there was no time for it: the note stays then, for
        the next run. Nobody uses it: its directories were never shown."""
        source, number = self._noted(host)
        if not source or number:
            return True
        point = await self.real_point(host)
        return await self._end(host, point)

    async def _end(self, host: Host, point: str) -> bool:
        """End the client, and unmount what is left of it; false if there was no time for it, and nothing was done."""
        if not await self._end_processes(host, point):
            return False
        # One that was asked to end has done it itself, as a rule.
        for entry in reversed((await host.mounts()).at(point)):
            if await self.matches(host, await host.mounts(), entry):
                await unmount.unmount(host, entry, attempts=1)
        return True

    async def _end_processes(self, host: Host, point: str) -> bool:
        if host.rehearsing:
            return True
        ended: set[int] = set()
        while True:
            try:
                pids = await host.call_with_timeout(process_table.find_by_argv, self.programs, point, timeout=_SEARCH)
            except (NoResponseError, DeadlineExceededError):
                return bool(ended)
            if ended.issuperset(pids):
                return True
            ended.update(pids)
            # One of CephFS that is not asked to end leaves a session, which holds the next one up for a minute.
            await process_table.end(pids)
            host.invalidate()

    # Take it away.

    async def preflight_stop(self, host: Host) -> None:
        await self._end_unfinished(host)
        await super().preflight_stop(host)

    async def stop(self, host: Host) -> None:
        await super().stop(host)
        if host.rehearsing:
            return
        try:
            rundir.save_note(self._note, "")
        except EnvstartError as error:
            # It is unmounted, and a note of what is not mounted harms nobody.
            host.report.warn(str(error))


def private_point(mount_dir: str, environment: Environment) -> str:
    """Return where the client of a jail or VM is mounted."""
    return f"{mount_dir}/{file_name(environment)}"


class _Shown(Mount):
    """A directory of what ``client`` mounts."""

    def __init__(
        self,
        client: Client,
        item: Wanted,
        all_points: Sequence[str],
        mode: str,
        environment: Environment,
        config: Config,
    ) -> None:
        source, timeout = f"{client.point}{item.path}", config[common.PROBE_TIMEOUT]
        spec = MountSpec(item.name, "nullfs", (mode,), source, item.point, timeout, resolve_within=client.point)
        super().__init__(spec, environment, config)
        self._client = client
        self._path = item.path
        self._all_points = all_points

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """On Linux also when the client's own mount is gone, as after a TERM: a bind mount tells what it shows."""
        if host.platform == "freebsd":
            return await super().matches(host, table, entry)
        return entry.given_root == self._path and await self._client.is_of(host, table, entry)

    async def users(self, host: Host, point: str) -> str:
        """Return who uses any directory of the client's: they are taken away together, or not at all."""
        for one in self._all_points:
            users = await super().users(host, one)
            if users:
                return users
        return ""

    @property
    def borrowed(self) -> bool:
        return False

    async def alone(self, host: Host, entry: Entry) -> bool:
        return True

    async def force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        if unresponsive:
            await self._client.fail_pending_io(host)
        await super().force_unmount(host, entry, asked=asked, unresponsive=unresponsive)


def refuse_shared(wanted: Sequence[Wanted]) -> None:
    """ConfigError if a directory is to serve all environments."""
    if any(item.shared for item in wanted):
        raise ConfigError(
            "cannot use RCCONF_SHARED=1: each jail or VM has mounts of its own here, which go with it",
            hint="mount that directory by fstab(5), or set RCCONF_SHARED=0",
        )


def steps(client: Client, wanted: Sequence[Wanted], environment: Environment, config: Config) -> list[plan.Step]:
    """The client, and the environment's directories from it; their paths begin at its top."""
    refuse_shared(wanted)
    mode = "ro" if "ro" in client.options else "rw"
    points = [item.point for item in wanted]
    return [client, *(_Shown(client, item, points, mode, environment, config) for item in wanted)]
