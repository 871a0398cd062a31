"""A mount as the configuration says it, and what that means for a mount table; what is there is mount_state.py's."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.environment import Environment
from envstart.errors import DeadlineExceededError, NoResponseError, PermissionDeniedError
from envstart.mounts.table import Entry, Table, normal_source
from envstart.paths import is_below
from envstart.system import probe
from envstart.system.host import Host

if TYPE_CHECKING:
    from envstart.steps.block import Block
else:
    # A start of directories does without that module.
    Block = plan.Step

# Seconds for a nullfs mount, which asks nobody: if it takes longer, what it lies on is dead.
NULLFS_TIMEOUT = 10


class MountSpec(NamedTuple):
    """A mount of ``source`` on ``point``."""

    # The directory's name to the jail or VM, unique in its plan.
    name: str
    fstype: str
    options: tuple[str, ...]
    source: str
    point: str
    # Seconds for one attempt to mount it.
    timeout: float
    # Any of them must be up.
    servers: tuple[plan.Server, ...] = ()
    # The block device that the files are on.
    lower: Block | None = None
    # A directory that the source lies in, and below which no link may lead it elsewhere; "": links are fine.
    resolve_within: str = ""
    # What must be in it, in place of what REQUIRE_NAME says.
    required: Sequence[str] | None = None
    # It serves all jails and VMs, and stays while a mount from below ``shared`` is there that is not from one of
    # ``own``, the sources of this one.
    shared: str = ""
    own: Sequence[str] = ()
    # Where else something of the jail or VM is mounted.
    beside: Collection[str] = ()
    # Locks of files go through rpc.lockd(8), so that a forced unmount can crash the host (umount(8)).
    lockd: bool = False
    # The directory in which the mount point is made, for root alone; "": the workdir, for all.
    private: str = ""


class ConfiguredMount(plan.Step):
    """A MountSpec of a jail or VM, with what else its configuration says of it."""

    # A source on this host can be a file.
    takes_files = False

    def __init__(self, spec: MountSpec, environment: Environment, config: Config) -> None:
        """Take what is configured; REQUIRE_NAME, LEASE and the like are read from ``config``."""
        self.spec, self.environment, self.config = spec, environment, config
        self.name, self.fstype, self.options, self.source, self.point = spec[:5]
        self.servers, self.lower, self.resolve_within = spec.servers, spec.lower, spec.resolve_within
        self.shared, self.resource = spec.shared, spec.point if spec.shared else ""
        # The outermost directory of the same jail or VM that the mount point lies in, "" if it lies in none: whoever is
        # root in there can make links.
        own = (environment.data, environment.system, environment.fstab, environment.rcconf)
        above = [path for path in own if path is not None and path != self.point and is_below(self.point, path)]
        self.enclosing = min(above, key=len, default="")
        # Where missing parents of the mount point may be made, and the mode of what is made.
        self.create_below, self.mode = (spec.private, 0o700) if spec.private else (environment.workdir, 0o755)
        # Seconds that the mounted directory may take to answer.
        self.probe_timeout: float = config[common.PROBE_TIMEOUT]
        required = spec.required
        if required is None and spec.name in common.REQUIRED:
            required = config[common.REQUIRED[spec.name]]
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

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if a mount is of our kind and shows our source; links in that are followed only if they must."""
        linux = host.platform == "linux"
        if table.shows(entry, self.fstype, self.source, linux=linux) or table.showed(entry, self.fstype, self.source):
            return True
        if self.fstype != "nullfs":
            return False
        real = await (self.source_in_place(host) if self.resolve_within else host.real(self.source))
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

    async def answers(self, host: Host, point: str, timeout: float | None = None) -> bool:
        """Tell if the mounted directory answers, be it with an error: then a plain umount comes back too."""
        if await self.why_down(host):
            host.unresponsive.add(point)
            return False
        try:
            await host.probe(probe.probe, point, (), None, timeout=self.probe_timeout if timeout is None else timeout)
        except NoResponseError:
            return False
        except DeadlineExceededError as error:
            raise DeadlineExceededError(f"cannot unmount {point}: {error}; it is not touched") from None
        except OSError:
            pass
        return True

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
        """Return the directory by the table's name. NoResponseError, PermissionDeniedError outside of the workdir."""
        try:
            if self.enclosing:
                return await _in_place(host, self.enclosing, self.point)
            real: str = await host.real(self.point)
        except (NoResponseError, DeadlineExceededError) as error:
            # The table does not know it by this name; by which one it would, only what it lies on can tell.
            text = f"cannot use {self.point}: what it lies on gives {error}"
            raise NoResponseError(text, hint="is it on a dead server?") from None
        workdir = self.environment.workdir
        if real == self.point or not workdir or not is_below(self.point, workdir):
            return real
        if not is_below(real, await host.real(workdir)):
            raise PermissionDeniedError(f"cannot use {self.point}: it leads to {real}, out of the workdir {workdir}")
        return real

    async def source_in_place(self, host: Host) -> str:
        """Return the real name of the source if no link lies between the directory ``resolve_within`` and it."""
        return await _in_place(host, self.resolve_within, self.source)


async def _in_place(host: Host, directory: str, path: str) -> str:
    """Return the real name of ``path`` if no link lies between ``directory`` and it."""
    real: str = await host.real(directory)
    return real.rstrip("/") + path[len(directory.rstrip("/")) :]
