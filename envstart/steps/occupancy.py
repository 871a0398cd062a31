"""Tell whether a jail or VM uses a directory: what cannot be told counts as used, because force would hit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envstart.environment import Environment
    from envstart.system.host import Host


async def users(host: Host, environment: Environment, point: str) -> str:
    """Return who uses a directory of a jail or VM, "" if nobody does; TemporaryError if the kernel gives no answer.

    Of a jail (CBSD hands ``-f`` to no VM, docs/cbsd.md#arguments), and of a bhyve VM, the kernel of FreeBSD knows all.
    Of others CBSD's database says which emulator they have; where that does not help, the processes count that have
    something open there.
    """
    from envstart.paths import is_below
    from envstart.steps import unmount
    from envstart.system import cbsd_database, guests, process_table

    name = environment.name
    if host.platform == "freebsd":
        roots: dict[str, str] = await guests.jail_roots(host)
        if name in roots or guests.is_bhyve(name):
            return f"{name} runs"
        for jail, root in roots.items():
            if is_below(root, point):
                return f"jail {jail} runs in it"
        if environment.fstab is not None:
            return ""
    running: bool | None = None
    if environment.workdir is not None:
        row, _ = await cbsd_database.find(host, environment.workdir, name)
        if row is not None:
            if not cbsd_database.is_jail(row["emulator"]) and row["emulator"] != "bhyve":
                running = await guests.Machines(host).runs(name, row["emulator"], row["jid"], row["status"])
            elif host.platform == "freebsd":
                running = False
    if running:
        return f"{name} runs"
    if running is False and host.platform == "freebsd":
        return ""
    # fuser(1) hangs at what is known to be dead, where nothing ends it.
    dead = host.platform == "freebsd" and point in host.unresponsive
    pids = None if dead else await unmount.holders(host, point)
    if pids:
        return f"it is used by {process_table.describe(pids[:3])}"
    # What is in no workdir of CBSD's is a jail of jail.conf(5), as far as the kernel of FreeBSD does not say otherwise.
    alone = host.platform == "freebsd" and environment.workdir is None
    if pids is None and running is None and not alone:
        return f"it cannot be told whether {name} runs or anybody uses it"
    return ""
