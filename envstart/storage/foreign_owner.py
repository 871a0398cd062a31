"""A glance into a volume that was not cleanly unmounted, for the mark or the lease of another host.

A reservation does not make that needless: a target that was restarted has forgotten it, and the other host has not.
"""

from envstart.config import common
from envstart.config.load import Config
from envstart.environment import Environment
from envstart.errors import BlockedError, DeadlineExceededError, NoResponseError, TemporaryError, reason
from envstart.mounts import commands
from envstart.steps import unmount
from envstart.steps.health import LEASE_SECONDS
from envstart.storage import host_mark, superblock, volume_keys
from envstart.system import filesystem
from envstart.system.host import Host


class Glance:
    """The state of a file system that is not mounted, and a read-only mount on ``point``, for as long as it takes."""

    def __init__(self, environment: Environment, config: Config, point: str) -> None:
        """Mount nothing yet."""
        self._environment = environment
        self._config = config
        self._point = point
        self._fstype = config[volume_keys.VOLUME_FSTYPE]
        self._timeout = config[common.PROBE_TIMEOUT]

    async def state(self, host: Host, device: str) -> str:
        """Return the state of the file system, as superblock.read() has it."""
        try:
            return await host.call_with_timeout(superblock.read, device, self._fstype, timeout=self._timeout)
        except (NoResponseError, DeadlineExceededError) as error:
            raise TemporaryError(f"cannot mount {device}: its superblock gives {error}") from None
        except OSError as error:
            raise TemporaryError(f"cannot mount {device}: its superblock cannot be read: {reason(error)}") from None

    async def is_left(self, host: Host) -> bool:
        """Tell whether a start that was killed has left it."""
        return bool(await host.stack(self._point))

    async def unmount(self, host: Host) -> None:
        """Take it away, as far as it is there."""
        for entry in await host.stack(self._point):
            await unmount.unmount(host, entry, attempts=3)
        await host.call_with_timeout(filesystem.remove_empty, [self._point], timeout=self._timeout)

    async def refuse_foreign(self, host: Host, device: str) -> None:
        """Refuse what another host has, or had, mounted: it is dirty because of that host (docs/faults.md, 94)."""
        failure = f"cannot mount {device}: it was not cleanly unmounted, and"
        host.on_failure(lambda: self.unmount(host))
        mark, other = await self._read(host, device, failure)
        await self.unmount(host)
        if mark and mark != await host_mark.own_mark(host):
            same_id = mark.split()[0] == await host_mark.host_id(host)
            text = " of this one's id: it had another name, or two have the same" if same_id else ""
            from envstart.config import remedies

            by_force = remedies.of_subject(host.report.planned, "recover", "--preempt")
            raise BlockedError(
                f"{failure} carries the mark of another host ({mark}){text}",
                hint=f"stop the jail or VM there, or, if that host is known to be down: {by_force}",
            )
        if other is not None and other[1] < LEASE_SECONDS:
            raise BlockedError(
                f"{failure} node {other[0]} had {self._environment.name} "
                f"in use {other[1] // 60} minutes ago (system/locked)",
                hint="stop it there, or wait",
            )

    async def _read(self, host: Host, device: str, failure: str) -> tuple[str, tuple[str, int] | None]:
        directories = [self._point.rpartition("/")[0], self._point]
        await host.call_with_timeout(host_mark.make_private, directories, timeout=self._timeout)
        argv = commands.mount(host.platform, self._fstype, ("ro",), device, self._point)
        result = await host.run(argv, timeout=self._timeout, keep_locks=True)
        if not await host.stack(self._point):
            raise TemporaryError(f"{failure} cannot be looked at: {result.words}")
        workdir, lease = self._environment.workdir, None
        if self._config[volume_keys.VOLUME_LAYOUT] == "tree" and workdir and self._config[common.LEASE] == "refuse":
            lease = (f"{self._point}/system/locked", f"{workdir}/nodename")
        read, point = host_mark.read_mark_and_lease, self._point
        try:
            return await host.call_with_timeout(read, point, lease, timeout=self._timeout)
        except OSError as error:
            raise TemporaryError(f"cannot mount {device}: whose it is cannot be told: {reason(error)}") from None
