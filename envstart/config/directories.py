"""Which directories of an environment a file server (or this host) holds, one below the other for each name. Pure.

``PREFIX_ROOT_DIR/data/NAME`` is shown on ``-d``, ``.../system/NAME`` on ``-s``, and so on (docs/cbsd.md#sample).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.config.schema import Option, boolean, directory
from envstart.errors import ConfigError

if TYPE_CHECKING:
    from envstart.config.load import Config
    from envstart.config.schema import Options
    from envstart.environment import Environment

_HOLDS = {"DATA": "its data", "SYSTEM": "its system data", "FSTAB": "its fstab files", "RCCONF": "its rc.conf files"}


def options(prefix: str, root_default: str | None, place: str) -> Options:
    """The rows of the keys that say where the directories are, and which of them are wanted."""
    return (
        Option(f"{prefix}_ROOT_DIR", directory, root_default, f"directory {place} that the four below are in"),
        *(
            Option(
                f"{prefix}_{name}_DIR",
                directory,
                "",
                f"directory {place} with a directory per jail or VM: {holds}",
                f"{prefix}_ROOT_DIR/{name.lower()}",
            )
            for name, holds in _HOLDS.items()
        ),
        Option("MOUNT_SYSTEM", boolean, "1", "mount the system directory (-s)"),
        Option("MOUNT_FSTAB", boolean, "1", "mount the fstab directory, for jails, which have one (-f)"),
        Option(
            "MOUNT_RCCONF",
            boolean,
            "0",
            "mount an rcconf directory, on a directory of the jail's or VM's name below the shared one (-r), where "
            "CBSD itself never looks",
        ),
        Option(
            "RCCONF_SHARED",
            boolean,
            "0",
            "with MOUNT_RCCONF: one rcconf directory serves all jails and VMs, and is mounted on -r itself, where CBSD "
            "leaves the rc.conf_NAME of a jail or VM that it unregisters",
        ),
    )


class Wanted:
    """One directory: ``path`` where it is held, ``point`` where it is shown. ``shared``: it serves all environments."""

    __slots__ = ("name", "path", "point", "shared")

    def __init__(self, name: str, path: str, point: str, shared: bool = False) -> None:
        self.name = name
        self.path = path
        self.point = point
        self.shared = shared


def wanted(environment: Environment, config: Config, prefix: str) -> list[Wanted]:
    """The directories of ``environment``: rcconf, system, fstab, data, so that a stop, which goes backwards, begins
    with data: it is the one that can be busy."""

    def held(name: str) -> str:
        own: str | None = config[f"{prefix}_{name.upper()}_DIR"]
        return own.rstrip("/") if own else f"{config[f'{prefix}_ROOT_DIR'].rstrip('/')}/{name}"

    own = environment.name
    mounts = []
    if config["MOUNT_RCCONF"]:
        if environment.rcconf is None:
            raise ConfigError("cannot mount rcconf: MOUNT_RCCONF is set, but there is no -r")
        if config["RCCONF_SHARED"]:
            mounts.append(Wanted("rcconf", held("rcconf"), environment.rcconf, shared=True))
        else:
            mounts.append(Wanted("rcconf", f"{held('rcconf')}/{own}", f"{environment.rcconf}/{own}"))
    if config["MOUNT_SYSTEM"]:
        mounts.append(Wanted("system", f"{held('system')}/{own}", environment.system))
    if config["MOUNT_FSTAB"] and environment.fstab is not None:
        mounts.append(Wanted("fstab", f"{held('fstab')}/{own}", environment.fstab))
    mounts.append(Wanted("data", f"{held('data')}/{own}", environment.data))
    seen: dict[str, str] = {}
    for item in mounts:
        if item.path in seen:
            raise ConfigError(f"cannot use {item.path} for {item.name}: it is {seen[item.path]}'s too")
        seen[item.path] = item.name
    return mounts
