"""Links by which CBSD, which never runs mnt_stop (docs/cbsd.md#mnt_stop), comes to stop an environment nonetheless.

They lie in the environment's system directory, and travel with it: ``master_poststop.d`` is run after each stop,
``remove.d`` before CBSD wipes the directories. A link, so that no file of the system directory stays open
(docs/cbsd.md#directory-hooks).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from envstart.config import remedies
from envstart.errors import (
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    UnavailableError,
    reason,
)
from envstart.system import filesystem
from envstart.system.site_packages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envstart.cbsd.inventory import EnvironmentRecord, Inventory
    from envstart.mounts.table import Table
    from envstart.system.host import Host

LINK = "envstart"
PROGRAMS = {"master_poststop.d": "env_poststop", "remove.d": "env_remove"}
# Seconds that the system directory may take when it is to be changed, and when it is only looked at.
_PATIENCE = 10.0
_GLANCE = 3.0


def programs() -> dict[str, str]:
    """Each directory's program by its absolute path: beside the hooks, or where this command was installed."""
    for directory in (f"{ROOT}/hooks", os.path.dirname(os.path.abspath(sys.argv[0]))):
        paths = {name: f"{directory}/{program}" for name, program in PROGRAMS.items()}
        if all(os.access(path, os.X_OK) for path in paths.values()):
            return paths
    raise UnavailableError(
        "cannot find env_poststop and env_remove beside the hooks or this command", hint="install envstart anew"
    )


def chosen(inventory: Inventory, names: Sequence[str]) -> list[EnvironmentRecord]:
    """The environments that are meant. ConfigError if one of them has no hook of ours."""
    records = inventory.chosen(names)
    for one in records:
        if not one.backend:
            if not inventory.complete:
                raise ConfigError(f"cannot tell which hook {one.name} has: {'; '.join(inventory.problems)}")
            raise ConfigError(
                f"cannot find the links of {one.name}: not managed by envstart: mnt_start is {one.hook or 'not set'}",
                hint=remedies.set_hook(one.name, "BACKEND", is_jail=one.is_jail),
            )
    return records


def skeletons(workdir: str) -> list[str]:
    """Directories that CBSD copies a new environment's system directory from (docs/cbsd.md#directory-hooks; for VMs,
    and by other tools that put hooks there, ``bhyve-system-default`` and ``jail-system-default``)."""
    try:
        names = sorted(os.listdir(f"{workdir}/share"))
    except OSError:
        return []
    return [f"{workdir}/share/{name}" for name in names if name.endswith(("-system-skel", "-system-default"))]


async def lacking(host: Host, systems: Sequence[str]) -> dict[str, list[str]]:
    """Of each system directory that can be looked at: the directories in it in which our link is not. One child looks
    at all that is on a server, so that a dead one costs one wait."""
    table = await host.mounts()
    without: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for system in systems:
        groups.setdefault(_server(table, system), []).append(system)
    for group in groups.values():
        answers, _ = await host.map_with_timeout(missing, group, timeout=_GLANCE)
        without.update({system: answer for system, (number, answer) in zip(group, answers) if not number})
    return without


def _server(table: Table, system: str) -> str:
    """Return who must answer when a directory is looked at: of what nullfs shows, the file system that it lies on."""
    entry = table.mount_of(system)
    if entry is None or entry.fstype == "nullfs":
        return table.server(entry.source if entry is not None else system)
    return entry.device or entry.server


def missing(system: str) -> list[str]:
    """In a child: the directories below ``system`` in which our link is not, or leads to nothing. OSError."""
    os.stat(system)
    return [directory for directory in PROGRAMS if not os.access(f"{system}/{directory}/{LINK}", os.X_OK)]


def put(host: Host, system: str) -> list[str]:
    """Make the links below ``system``; returns those that were not there before. EnvstartError."""
    made: list[str] = _act(host, filesystem.put_links, system, programs())
    return made


def take(host: Host, system: str) -> list[str]:
    """Take our links below ``system`` away; returns those that were there. EnvstartError."""
    taken: list[str] = _act(host, filesystem.take_links, system, PROGRAMS)
    return taken


def _act(host: Host, function: Callable[..., list[str]], system: str, what: dict[str, str]) -> list[str]:
    doing = f"cannot use {system}"
    try:
        done: list[str] = host.complete(host.call_with_timeout(function, system, what, LINK, timeout=_PATIENCE))
        return done
    except (NoResponseError, DeadlineExceededError) as error:
        raise NoResponseError(f"{doing}: it gives {error}", hint="is its server up?") from None
    except FileNotFoundError:
        raise NotFoundError(f"{doing}: it is not there", hint="start the jail or VM first") from None
    except OSError as error:
        raise EnvstartError(f"{doing}: {reason(error)}") from None
