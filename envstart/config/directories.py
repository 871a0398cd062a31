"""Directories of an environment that a file server (or this host) holds, one below the other for each name. Pure.

``PREFIX_ROOT_DIR/data/NAME`` is shown on ``-d``, ``.../system/NAME`` on ``-s``, and so on (docs/cbsd.md#sample).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envstart.config.load import Config
from envstart.config.schema import Option, Options, boolean, directory
from envstart.environment import Environment
from envstart.errors import ConfigError

_HOLDS = {"data": "its data", "system": "its system data", "fstab": "its fstab files", "rcconf": "its rc.conf files"}

OPTIONS: Options = (
    MOUNT_SYSTEM := Option("MOUNT_SYSTEM", boolean, "1", "mount the system directory (-s)"),
    MOUNT_FSTAB := Option("MOUNT_FSTAB", boolean, "1", "mount the fstab directory, for jails, which have one (-f)"),
    MOUNT_RCCONF := Option(
        "MOUNT_RCCONF",
        boolean,
        "0",
        "mount an rcconf directory, on a directory of the jail's or VM's name below the shared one (-r), where "
        "CBSD itself never looks",
    ),
    RCCONF_SHARED := Option(
        "RCCONF_SHARED",
        boolean,
        "0",
        "with MOUNT_RCCONF: one rcconf directory serves all jails and VMs, and is mounted on -r itself, where CBSD "
        "leaves the rc.conf_NAME of a jail or VM that it unregisters",
    ),
)


class Keys:
    """The rows of a backend's keys that say where the directories of all jails and VMs are: ``place``."""

    __slots__ = ("root", "_own")

    def __init__(self, prefix: str, root_default: str | None, place: str) -> None:
        """Make the row of PREFIX_ROOT_DIR, and one for each kind of directory."""
        self.root = Option(
            f"{prefix}_ROOT_DIR", directory, root_default, f"directory {place} that the four below are in"
        )
        self._own: dict[str, Option[str | None]] = {}
        for name, content in _HOLDS.items():
            text = f"directory {place} with a directory per jail or VM: {content}"
            default = f"{prefix}_ROOT_DIR/{name}"
            self._own[name] = Option(f"{prefix}_{name.upper()}_DIR", directory, "", text, default)

    def __iter__(self) -> Iterator[Option[Any]]:
        """Return the rows."""
        return iter((self.root, *self._own.values()))

    def path(self, config: Config, name: str) -> str:
        """Return the directory with one per jail or VM: ``data``, ``system``, ``fstab`` or ``rcconf``."""
        return (config[self._own[name]] or f"{config[self.root].rstrip('/')}/{name}").rstrip("/")


class Directory:
    """One directory: ``path`` where it is held, ``point`` where it is shown. ``shared``: it serves all environments."""

    __slots__ = ("name", "path", "point", "shared")

    def __init__(self, name: str, path: str, point: str, *, shared: bool = False) -> None:
        """Name it as the jail or VM does."""
        self.name, self.path, self.point, self.shared = name, path, point, shared


def of(environment: Environment, config: Config, keys: Keys) -> list[Directory]:
    """Return the directories in the order of a start: data last, since a stop begins with what can be busy."""
    own = environment.name
    mounts = []
    if config[MOUNT_RCCONF]:
        if environment.rcconf is None:
            raise ConfigError("cannot mount rcconf: MOUNT_RCCONF is set, but there is no -r")
        if config[RCCONF_SHARED]:
            mounts.append(Directory("rcconf", keys.path(config, "rcconf"), environment.rcconf, shared=True))
        else:
            mounts.append(Directory("rcconf", f"{keys.path(config, 'rcconf')}/{own}", f"{environment.rcconf}/{own}"))
    if config[MOUNT_SYSTEM]:
        mounts.append(Directory("system", f"{keys.path(config, 'system')}/{own}", environment.system))
    if config[MOUNT_FSTAB] and environment.fstab is not None:
        mounts.append(Directory("fstab", f"{keys.path(config, 'fstab')}/{own}", environment.fstab))
    mounts.append(Directory("data", f"{keys.path(config, 'data')}/{own}", environment.data))
    seen: dict[str, str] = {}
    for item in mounts:
        if item.path in seen:
            raise ConfigError(f"cannot use {item.path} for {item.name}: it is {seen[item.path]}'s too")
        seen[item.path] = item.name
    return mounts
