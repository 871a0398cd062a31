"""Tell whether a jail or VM uses a directory: what cannot be told counts as used, because force would hit it."""

from __future__ import annotations

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
    from envstart.system import guests, process_table

    name, freebsd = environment.name, host.platform == "freebsd"
    if freebsd:
        roots: dict[str, str] = await guests.jail_roots(host)
        if name in roots or guests.is_bhyve(name):
            return f"{name} runs"
        inside = next((jail for jail, root in roots.items() if is_below(root, point)), None)
        if inside is not None or environment.fstab is not None:
            return f"jail {inside} runs in it" if inside is not None else ""
    running = await _runs(host, environment)
    if running or (freebsd and running is False):
        return f"{name} runs" if running else ""
    # fuser(1) hangs at what is known to be dead, where nothing ends it.
    pids = None if freebsd and point in host.unresponsive else await unmount.holders(host, point)
    if pids:
        return f"it is used by {process_table.describe(pids[:3])}"
    # What is in no workdir of CBSD's is a jail of jail.conf(5), as far as the kernel of FreeBSD does not say otherwise.
    alone = freebsd and environment.workdir is None
    if pids is None and running is None and not alone:
        return f"it cannot be told whether {name} runs or anybody uses it"
    return ""


async def _runs(host: Host, environment: Environment) -> bool | None:
    """Tell if a jail or VM runs, by CBSD's database; None if that does not tell."""
    from envstart.system import cbsd_database, guests

    name, workdir = environment.name, environment.workdir
    row = (await cbsd_database.find(host, workdir, name))[0] if workdir is not None else None
    if row is None:
        return None
    if not cbsd_database.is_jail(row["emulator"]) and row["emulator"] != "bhyve":
        running: bool | None = await guests.Machines(host).runs(name, row["emulator"], row["jid"], row["status"])
        return running
    return False if host.platform == "freebsd" else None
