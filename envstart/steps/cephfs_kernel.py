"""CephFS by the kernel of Linux, mounted by mount.ceph(8): each directory of an environment on its place, no process.

Written is ``MONITORS:/PATH``, which mount.ceph takes since it is there; ``USER@FSID.NAME=/PATH``, which it knows since
Ceph 17 and Linux 5.17, is understood in the mount table. The key goes to mount.ceph on its standard input, which gives
it to the kernel's key ring; the table shows ``secret=<hidden>``. Seen of Ceph 16.2 and Linux 6.1.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from envstart.config.directories import Directory
from envstart.config.load import Config
from envstart.config.schema import Option, choice, client_options, identifier, integer
from envstart.environment import Environment
from envstart.errors import (
    ConfigError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
    UnavailableError,
)
from envstart.mounts import table_linux
from envstart.mounts.table import Entry, Table
from envstart.steps import ceph, diagnosis, health
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.steps.mountpoint import Undo
from envstart.system.command import Result
from envstart.system.host import Host

# Where mount(8) looks for it.
_HELPER = "/sbin/mount.ceph"
# Seconds that mount.ceph needs to tell what the kernel says.
_TELLING = 2
# Given by envstart itself.
_OWN = ("name", "secret", "secretfile", "key", "conf", "fs", "mds_namespace", "mon_addr", "mount_timeout", "ro", "rw")
_SAID: diagnosis.Rows = (
    ("not supported by the system", UnavailableError, "modprobe ceph, or set CEPH_CLIENT=fuse"),
    ("Temporary failure in name resolution", TemporaryError, "correct CEPH_MONITORS, or the resolver"),
    ("failed to resolve source", EnvstartError, "correct CEPH_MONITORS, or the resolver"),
    ("unable to determine mon addresses", ConfigError, "set CEPH_MONITORS, or correct CEPH_CONF"),
    ("keyring.get_secret failed", PermissionDeniedError, "set CEPH_KEYRING, and CEPH_USER"),
    ("not valid base64", PermissionDeniedError, "that in CEPH_KEYRING is no key"),
    ("= No such file or directory", NotFoundError, "make the directory in the file system; is CEPH_FS_NAME right?"),
    (
        "= Permission denied",
        PermissionDeniedError,
        "correct CEPH_USER and its key, and give it this path: ceph fs authorize",
    ),
    ("= Operation not permitted", PermissionDeniedError, "correct CEPH_USER and its key"),
    ("= Invalid argument", ConfigError, "correct MOUNT_CEPH_OPT, or the key; dmesg tells which"),
)


def mount_options(value: str) -> tuple[str, ...]:
    """Return options of mount.ceph(8), between blanks or commas; ValueError."""
    return client_options(value, "=._:/-", "no option has", _OWN)


CEPH_FS_NAME = Option("CEPH_FS_NAME", identifier, "", "name of the file system", "the cluster's default")
CEPH_MODE = Option("CEPH_MODE", choice("rw", "ro"), "rw", "ro: nothing can be written")
CEPH_MOUNT_TIMEOUT = Option(
    "CEPH_MOUNT_TIMEOUT", integer(1, 3600, "seconds"), "30", "seconds one attempt to mount may take"
)
MOUNT_CEPH_OPT = Option(
    "MOUNT_CEPH_OPT",
    mount_options,
    "",
    'kernel: options of mount.ceph(8), as in "noatime ms_mode=secure", the latter with HOST:3300 as monitors',
    "none",
)


def is_there() -> bool:
    """Tell if this host can mount CephFS by its kernel."""
    return os.access(_HELPER, os.X_OK) and table_linux.has_file_system("ceph")


class KernelMount(Mount):
    """A directory of the file system on one of the environment's."""

    def __init__(self, item: Directory, environment: Environment, config: Config) -> None:
        """Make the options of mount.ceph(8) from the configuration."""
        seconds: int = config[CEPH_MOUNT_TIMEOUT]
        options = [config[CEPH_MODE], *(config[MOUNT_CEPH_OPT] or ()), f"name={config[ceph.CEPH_USER]}"]
        options.append(f"mount_timeout={max(1, seconds - _TELLING)}")
        names = {"mds_namespace": config[CEPH_FS_NAME], "conf": config[ceph.CEPH_CONF]}
        options += [f"{name}={value}" for name, value in names.items() if value]
        if config[ceph.CEPH_KEYRING]:
            options.append("secretfile=/proc/self/fd/0")
        # Without monitors mount.ceph asks ceph.conf.
        source = f"{ceph.monitors_of(config)}:{item.path}"
        super().__init__(MountSpec(item.name, "ceph", tuple(options), source, item.point, seconds), environment, config)

    @staticmethod
    def diagnose(result: Result, doing: str) -> EnvstartError:
        """Return the error for what mount.ceph(8) said."""
        return diagnosis.first(_SAID, result.words, doing) or TemporaryError(
            f"cannot {doing}: {result.words}",
            hint="are the monitors and the MDS up and to be reached, and CEPH_USER, its key and CEPH_FS_NAME right? "
            "dmesg tells",
        )

    def server(self, table: Table) -> str:
        """Return who must answer: the table has the monitors' addresses, the configuration perhaps their names."""
        return table.server(self.point)

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell if it is of our cluster and path; ConfigError if it is of another file system there."""
        if entry.fstype != "ceph" or entry.root != "/":
            return False
        monitors, name, path = _told(entry)
        own_monitors, _, own_path = self.source.partition(":/")
        if path != f"/{own_path}" or not _may_be_one_cluster(own_monitors.split(","), monitors):
            return False
        configured = self.config[CEPH_FS_NAME] or ""
        if name != configured:
            raise ConfigError(
                f"cannot use {entry.point}: {entry} is mounted there, from {_named(name)}, and the configuration says "
                f"{_named(configured)}; it is not touched",
                hint=f"{shlex.join(('umount', entry.point))}, or correct CEPH_FS_NAME",
            )
        return True

    async def preflight_start(self, host: Host) -> None:
        """Raise unless the kernel can mount it, and the key can be read."""
        self._refuse_elsewhere(host)
        await ceph.check_key(host, self.config)
        if self.config[ceph.CEPH_KEYRING]:
            host.require("ceph-authtool")

    def _refuse_elsewhere(self, host: Host) -> None:
        if host.platform != "linux":
            text = f"cannot mount {self.source}: this kernel has no client of CephFS"
            raise ConfigError(text, hint="set CEPH_CLIENT=fuse")

    async def _attempt(self, host: Host, point: str, undo: Undo) -> None:
        if await self.own_entry(host, await host.mounts(), point) is None:
            await super()._attempt(host, point, undo)
        # For a minute the MDS keeps for a client what it had, also when that is gone, as after a crash of this host.
        problem = await health.check_health(self, host, point)
        if isinstance(problem, NoResponseError):
            host.unresponsive.discard(point)
            raise problem

    async def _run(self, host: Host, argv: tuple[str, ...]) -> Result:
        self._refuse_elsewhere(host)
        key = await ceph.key(host, self.config)
        return await host.run(argv, timeout=self.spec.timeout, keep_locks=self.keep_locks, stdin=key)


def _named(name: str) -> str:
    return f"the file system {name}" if name else "the file system that is the cluster's default"


def _told(entry: Entry) -> tuple[list[str], str, str]:
    """Return monitors, file system ("": the default) and path of a mount, as either syntax tells them."""
    options = dict(option.split("=", 1) for option in entry.options if "=" in option)
    where, equals, path = entry.source.partition("=/")
    if equals and "@" in where and ":" not in where:
        return options.get("mon_addr", "").split("/"), where.partition("@")[2].partition(".")[2], f"/{path}"
    where, _, path = entry.source.partition(":/")
    return where.split(","), options.get("mds_namespace", options.get("fs", "")), f"/{path}"


def _may_be_one_cluster(configured: Iterable[str], mounted: Iterable[str]) -> bool:
    """Tell if the monitors can be of one cluster; a name tells nothing: it is not looked up, a resolver can hang."""
    ours, theirs = set(map(_address, configured)), set(map(_address, mounted))
    return None in ours | theirs or bool(ours & theirs)


def _address(monitor: str) -> str | None:
    """Return the address of a monitor without its port; None for a name, or for nothing."""
    host = monitor.partition("]")[0] + "]" if monitor.startswith("[") else monitor.partition(":")[0]
    return host.lower() if host.startswith("[") or host.replace(".", "").isdigit() else None
