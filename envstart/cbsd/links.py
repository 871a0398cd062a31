"""Links by which CBSD, which never runs mnt_stop (docs/cbsd.md#mnt_stop), unmounts storage on stop nonetheless.

They lie in the system directory of a jail or VM, and travel with it: ``master_poststop.d`` is run after each stop,
``remove.d`` before CBSD wipes the directories. A link, so that no file of the system directory stays open
(docs/cbsd.md#directory-hooks).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from envstart.cbsd.inventory import EnvironmentRecord, Inventory, names_in
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
from envstart.mounts.table import Table
from envstart.system import filesystem
from envstart.system.host import Host
from envstart.system.site_packages import ROOT

LINK = "envstart"
PROGRAMS = {"master_poststop.d": "env_poststop", "remove.d": "env_remove"}
# Seconds that the system directory may take when it is to be changed, and when it is only looked at.
_CHANGE_TIMEOUT = 10.0
_LOOK_TIMEOUT = 3.0


def programs() -> dict[str, str]:
    """Return each directory's program by its absolute path: beside the hooks, or where this command was installed."""
    for directory in (f"{ROOT}/hooks", os.path.dirname(os.path.abspath(sys.argv[0]))):
        paths = {name: f"{directory}/{program}" for name, program in PROGRAMS.items()}
        if all(os.access(path, os.X_OK) for path in paths.values()):
            return paths
    failure = "cannot find env_poststop and env_remove beside the hooks or this command"
    raise UnavailableError(failure, hint="install envstart anew")


def chosen(inventory: Inventory, names: Sequence[str]) -> list[EnvironmentRecord]:
    """Return the jails and VMs that are meant; ConfigError if one of them has no hook of ours."""
    records = inventory.chosen(names)
    for record in records:
        if not record.backend and not inventory.complete:
            raise ConfigError(f"cannot tell which hook {record.name} has: {'; '.join(map(str, inventory.problems))}")
        if not record.backend:
            failure = f"cannot find the links of {record.name}: not managed by envstart"
            hint = remedies.set_hook(record.name, "BACKEND", is_jail=record.is_jail)
            raise ConfigError(f"{failure}: mnt_start is {record.hook or 'not set'}", hint=hint)
    return records


def skeletons(workdir: str) -> list[str]:
    """Return the directories that CBSD copies a new system directory from (docs/cbsd.md#directory-hooks).

    For VMs, and by other tools that put hooks there, ``bhyve-system-default`` and ``jail-system-default``.
    """
    skeletons = [name for name in names_in(f"{workdir}/share") if name.endswith(("-system-skel", "-system-default"))]
    return [f"{workdir}/share/{name}" for name in skeletons]


async def lacking(host: Host, systems: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each system directory that can be looked at, the directories in it that lack our link.

    One child looks at all that is on a server, so that a dead one costs one wait.
    """
    table = await host.mounts()
    without: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for system in systems:
        groups.setdefault(_server(table, system), []).append(system)
    for group in groups.values():
        answers, _ = await host.map_with_timeout(missing, group, timeout=_LOOK_TIMEOUT)
        without.update({system: answer for system, (number, answer) in zip(group, answers) if not number})
    return without


def _server(table: Table, system: str) -> str:
    """Return who must answer when a directory is looked at: of what nullfs shows, the file system that it lies on."""
    entry = table.mount_of(system)
    if entry is None or entry.fstype == "nullfs":
        return table.server(entry.source if entry is not None else system)
    return entry.device or entry.server


def missing(system: str) -> list[str]:
    """Return, in a child, the directories below ``system`` that lack our link, or whose link leads nowhere. OSError."""
    os.stat(system)
    return [directory for directory in PROGRAMS if not os.access(f"{system}/{directory}/{LINK}", os.X_OK)]


def change(host: Host, verb: str, system: str) -> list[str]:
    """Make (install) or remove our links below ``system``; return those that this has changed. EnvstartError."""
    act, links = (filesystem.put_links, programs()) if verb == "install" else (filesystem.take_links, PROGRAMS)
    try:
        paths: list[str] = host.complete(host.call_with_timeout(act, system, links, LINK, timeout=_CHANGE_TIMEOUT))
        return paths
    except (NoResponseError, DeadlineExceededError) as error:
        raise NoResponseError(f"cannot use {system}: it gives {error}", hint="is its server up?") from None
    except FileNotFoundError:
        raise NotFoundError(f"cannot use {system}: it is not there", hint="start the jail or VM first") from None
    except OSError as error:
        raise EnvstartError(f"cannot use {system}: {reason(error)}") from None
