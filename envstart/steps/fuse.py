"""Clients in user space (GlusterFS, CephFS): one for each jail or VM, mounted where only root can look.

fuse_tree.py shows what is in there. Not one mount for each directory: FreeBSD's mount_glusterfs takes ``VOLUME/DIR`` as
a whole for the name of a volume (port net/glusterfs, mount_glusterfs.in), and each client is a process of many
megabytes. Not one client for all: a dead one could then not be taken away before the last jail is stopped.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence

from envstart.config import common
from envstart.config.load import Config
from envstart.config.schema import directory
from envstart.environment import Environment, file_name
from envstart.errors import ConfigError, EnvstartError, TemporaryError
from envstart.mounts.table import Entry, Table
from envstart.steps import fuse_process, health, mountpoint, unmount
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.steps.mountpoint import Undo
from envstart.system import files
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds that a mount may take to be in the table after its client has said that it is done.
_APPEARS = 2.0
# In a note: usable, but the table does not tell its number.
_UNTOLD = "?"


def one_word(value: str) -> str:
    """Return an absolute path; ValueError with a blank, since mount_glusterfs, a script, does not quote it."""
    if len(value.split()) != 1:
        raise ValueError("has a blank in it")
    return directory(value)


def is_noted(environment: Environment) -> bool:
    """Tell if a client of this jail or VM was started, and not yet stopped."""
    return bool(files.load_note(_note(environment)))


def _note(environment: Environment) -> str:
    return f"client.{file_name(environment)}"


class Client(Mount):
    """A client's mount, on a directory of its own.

    The mount table need not tell what it is (docs/freebsd.md#glusterfs, #ceph-fuse). So a note is kept: its source,
    and, when it turns out to be usable, the number of the mount. A note without a number is of an attempt that came to
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
        """Return who asks for what must be in it."""
        return "the jail or VM needs"

    # Is it ours?

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if a mount is the whole of our source."""
        return entry.root == "/" and await self.is_of(host, table, entry)

    async def is_of(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if a mount is of our source; ConfigError if that cannot be told."""
        if entry.fstype not in self.fstypes:
            return False
        if entry.source not in self.anonymous_sources:
            return self.same(entry.source)
        source, number = self._noted()
        source = source or self._recorded(host)
        if source and (not entry.fsid or number in ("", _UNTOLD, entry.fsid)):
            return source == self.source
        doubt = f"the mount table shows {entry} alone, and envstart has no note of it"
        if source:
            doubt = f"{entry}, but not the mount that envstart has made"
        raise ConfigError(
            f"cannot tell what is mounted on {entry.point}: {doubt}; it is not touched",
            hint=shlex.join(("umount", entry.point)),
        )

    def same(self, source: str) -> bool:
        """Tell if this is another way to write our source."""
        raise NotImplementedError

    def _noted(self) -> tuple[str, str]:
        """Return source and number of what was mounted here last; "" for what is not known."""
        source, _, number = files.load_note(self._note).partition("\n")
        return source, number

    def _recorded(self, host: Host) -> str:
        """Return the source in the record of the last start, "" without one, for a note that was lost with /var/run."""
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
            files.save_note(self._note, f"{self.source}\n{entry.fsid or _UNTOLD}")

    async def check(self, host: Host) -> EnvstartError | None:
        """Return what a start has to mend; note what turns out to be healthy."""
        problem = await super().check(host)
        if problem is None and not self._noted()[1]:
            point = await self.real_point(host)
            self._usable(host, (await host.mounts()).at(point)[-1])
        return problem

    # Make it so.

    async def remove_stale(self, host: Host) -> None:
        """Take away what is of no use, and what an attempt has left that came to no end."""
        await self._end_unfinished(host)
        await super().remove_stale(host)

    async def _attempt(self, host: Host, point: str, undo: Undo) -> None:
        began = time.time()
        await self._end_unfinished(host)
        if await self.own_entry(host, await host.mounts(), point) is None:
            if host.platform == "freebsd":
                await fuse_process.load_module(host, self.source, self.config[common.PROBE_TIMEOUT])
            files.save_note(self._note, f"{self.source}\n")
            await super()._attempt(host, point, undo)
        # Mounted is not yet usable, and a client that is turned away by a server ends after its success.
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
        """Run the client, and wait for the table.

        It says that it is done when the kernel has asked it for the first time, which is in the middle of the mount
        (vfs_domount_first() of sys/kern/vfs_mount.c).
        """
        host.learnt[self, "began"] = time.time()
        result = await super()._run(host, argv)
        if result.status == 0:
            await mountpoint.landed(host, self, await self.real_point(host), _APPEARS)
        return result

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> EnvstartError:
        words = result.words if result.status != 0 else f"{program} said that it is done, but nothing is mounted there"
        return await self._why(host, words, host.learnt[self, "began"], doing)

    async def _why(self, host: Host, words: str, since: float, doing: str) -> EnvstartError:
        """Return why ``doing`` failed, which began at ``since`` (time.time); ``words`` say what was seen of it."""
        raise NotImplementedError

    async def _undo_start(self, host: Host, point: str, undo: Undo) -> None:
        ended = await self._end_unfinished(host)
        undo.cut_off = False
        await super()._undo_start(host, point, undo)
        if undo.tried and ended:
            files.save_note(self._note, "")

    async def _unmount(self, host: Host, entries: Sequence[Entry]) -> None:
        await super()._unmount(host, entries)
        if entries:
            await fuse_process.wait_for_end(host, self.programs, await self.real_point(host))

    async def unmount_broken(self, host: Host, entry: Entry, *, asked: bool = False) -> None:
        """Unmount it, by force if it must be, and wait for its client."""
        await super().unmount_broken(host, entry, asked=asked)
        await fuse_process.wait_for_end(host, self.programs, await self.real_point(host))

    async def alone(self, host: Host, entry: Entry) -> bool:
        """Tell that no other jail or VM has a mount of this client."""
        return True

    async def force_unmount(self, host: Host, entry: Entry, *, asked: bool = False, unresponsive: bool = True) -> None:
        """Unmount it with what lies on it, after its client was ended if that gives no answer."""
        if unresponsive:
            await self.fail_pending_io(host)
        if (await host.mounts()).at(entry.point):
            await super().force_unmount(host, entry, asked=asked, unresponsive=unresponsive)
        host.unresponsive.discard(entry.point)

    async def fail_pending_io(self, host: Host) -> None:
        """End the client: what waits for it then gets an error, and can be unmounted (docs/freebsd.md#fuse)."""
        await fuse_process.end(host, self.programs, await self.real_point(host))

    async def _end_unfinished(self, host: Host) -> bool:
        """End an attempt that came to no end, and was shown to nobody; false if time lacks: the note stays then."""
        source, number = self._noted()
        return bool(not source or number) or await self._end(host, await self.real_point(host))

    async def _end(self, host: Host, point: str) -> bool:
        """End the client, and unmount what is left of it; false if there was no time for it, and nothing was done."""
        if not await fuse_process.end(host, self.programs, point):
            return False
        # One that was asked to end has done it itself, as a rule.
        for entry in reversed((await host.mounts()).at(point)):
            if await self.matches(host, await host.mounts(), entry):
                await unmount.unmount(host, entry, attempts=1)
        return True

    # Take it away.

    async def preflight_stop(self, host: Host) -> None:
        """Raise if it gives no answer, after ending what came to no end."""
        await self._end_unfinished(host)
        await super().preflight_stop(host)

    async def stop(self, host: Host) -> None:
        """Unmount it, and forget its note."""
        await super().stop(host)
        if host.rehearsing:
            return
        try:
            files.save_note(self._note, "")
        except EnvstartError as error:
            # It is unmounted, and a note of what is not mounted harms nobody.
            host.report.warn(str(error))


def private_point(mount_dir: str, environment: Environment) -> str:
    """Return where the client of a jail or VM is mounted."""
    return f"{mount_dir}/{file_name(environment)}"
