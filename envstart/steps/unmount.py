"""Taking a mount away in the ordinary way, patiently while it is busy (forced.py: by force), and who uses it.

On FreeBSD a plain umount of a dead NFS mount cannot be killed; so it is probed first.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart import errors
from envstart.engine.retry import until_it_heals
from envstart.environment import Environment
from envstart.mounts import commands
from envstart.mounts.table import Entry
from envstart.paths import is_below
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds the search for holders may take; it looks at every open file of the host.
_SEARCH = 5.0
_HOLDERS_SHOWN = 5
# Seconds that a resolver may take before it is done without.
_RESOLVED = 2.0


class BusyError(errors.TemporaryError):
    """Somebody uses the directory."""


class HangingError(errors.BlockedError):
    """umount(8) had not ended, and was left behind."""


async def unmount(host: Host, entry: Entry, attempts: int = 0, *, kill: bool = False, spare: float = 0.0) -> None:
    """Unmount, tried again while it is busy: BusyError with the holders' names when time or attempts are used up.

    HangingError when it is not done ``spare`` seconds before the end, or in half of the time that is left if that is
    more. ``kill``: end who uses it.
    """
    told, searching = False, True
    pids: list[int] = []
    argv = commands.unmount(host.platform, entry.fstype, entry.point)
    depth = len((await host.mounts()).at(entry.point))

    async def attempt() -> None:
        nonlocal told, searching, pids
        # The reserve included: an attempt that begins late must not be cut off in the middle.
        timeout = max(host.deadline.left() - spare, host.deadline.to_the_end() / 2)
        result = await run(host, argv, entry, timeout=timeout, forced=False)
        table = await host.mounts()
        # Not the exit status: mountd that cannot be told makes it 1 after success (docs/freebsd.md#umount-messages).
        # But the table leaves out a mount while it is being unmounted (docs/freebsd.md#mount-table), so that one still
        # at work has not done it yet.
        if not result.alive and len(table.at(entry.point)) < depth:
            return
        doing = f"cannot unmount {entry.point}"
        if result.status is None:
            raise HangingError(f"{doing}: {result.words}")
        if "not permitted" in result.words:
            hint = "is this a jail, or a container that may not unmount?"
            raise errors.PermissionDeniedError(f"{doing}: {result.words}", hint=hint)
        if not _is_busy(result.words):
            raise errors.EnvstartError(f"{doing}: {result.words or 'it is still mounted'}")
        from envstart.system import process_table

        above = [*table.below(entry.point), *table.nullfs_on(entry.point)]
        # One that is cut off hangs at the files of another server, perhaps for ever; what was known still counts.
        holding = await holders(host, entry.point) if searching else None
        searching, pids = holding is not None, holding or pids
        by = f"mounted on it: {', '.join(above)}" if above else process_table.describe(pids[:_HOLDERS_SHOWN])
        if not told:
            told = True
            host.report.trace(f"{entry.point} is busy: {by}")
        if kill and pids and await _is_still_there(host, entry, depth):
            host.report.warn(f"{entry.point} is busy: ending {process_table.describe(pids)}")
            await process_table.end(pids)
        raise BusyError(f"{doing}: it is busy ({by})", hint="end what uses it, and stop again")

    await until_it_heals(attempt, host, entry.point, attempts)


def _is_busy(words: str) -> bool:
    """Tell if umount(8) said that the directory is in use."""
    return "Device busy" in words or "target is busy" in words or "busy" in words.split()


async def _is_still_there(host: Host, entry: Entry, depth: int) -> bool:
    """Tell whether nobody has unmounted it meanwhile: fuser -c names the users of the file system below then."""
    host.invalidate()
    return len((await host.mounts()).at(entry.point)) >= depth


async def run(host: Host, argv: Sequence[str], entry: Entry, *, timeout: float | None, forced: bool) -> Result:
    """Run umount(8), which is not cut off when a sibling fails; what is ``forced`` goes on by itself after ``timeout``.

    By unmount(2) alone where it would first ask a resolver that gives no answer for the name of the server (umountfs()
    of sbin/umount/umount.c).
    """
    asks = host.platform == "freebsd" and entry.kind == "nfs" and entry.fsid and "-N" not in argv
    if asks and not host.rehearsing and not await _resolves(host, entry.server):
        try:
            return await _by_number(host, argv, entry, host.deadline.left() if timeout is None else timeout)
        except errors.TemporaryError as error:
            host.report.trace(f"{entry.point}: unmount(2): {error}; asking umount(8)")
    return await host.run(argv, timeout=timeout, use_rollback_reserve=not forced, detach_on_timeout=forced)


async def _resolves(host: Host, server: str) -> bool:
    """Tell whether the resolver gives an answer for this name, be it that there is none; an address needs none."""
    bare = server.strip("[]")
    if ":" in bare or bare.replace(".", "").isdigit():
        return True
    from envstart.system import network

    try:
        await host.call_with_timeout(network.resolve, bare, timeout=_RESOLVED)
    except (errors.NoResponseError, errors.DeadlineExceededError):
        return False
    except (errors.EnvstartError, OSError):
        pass
    return True


async def _by_number(host: Host, argv: Sequence[str], entry: Entry, timeout: float) -> Result:
    """Do what umount(8) would do, without a resolver, and tell it as if that had been run; TemporaryError."""
    from envstart.mounts import table_freebsd

    flags = table_freebsd.FORCE if "-f" in argv else table_freebsd.NONBUSY if "-n" in argv else 0
    host.report.trace(f"unmount(2) of {entry.point} by its number, since no resolver answers for {entry.server}")
    began = host.deadline.elapsed()
    code: int | None = 0
    said = ""
    try:
        await host.call_with_timeout(table_freebsd.unmount, entry.fsid, flags, timeout=timeout, finish=True)
    except (errors.NoResponseError, errors.DeadlineExceededError):
        code = None
    except OSError as error:
        code, said = 1, f"umount: unmount of {entry.point} failed: {errors.reason(error)}"
    finally:
        host.invalidate()
    return Result(code, "", said, host.deadline.elapsed() - began, code is None)


async def holders(host: Host, point: str) -> list[int] | None:
    """Return the processes that use a mounted directory, in bounded time; None if that cannot be told."""
    try:
        if host.platform == "freebsd":
            # The process numbers are all that fuser(1) prints on stdout (docs/freebsd.md#fuser).
            result = await host.run(("fuser", "-c", point), timeout=_SEARCH, read_only=True)
            return [int(word) for word in result.out.split() if word.isdigit()] if result.status == 0 else None
        from envstart.system import process_table

        return list(await host.call_with_timeout(process_table.holders, point, timeout=_SEARCH))
    except (errors.EnvstartError, OSError) as error:
        host.report.trace(f"cannot tell who uses {point}: {error}")
        return None


async def users(host: Host, environment: Environment, point: str) -> str:
    """Return who uses a directory of a jail or VM, "" if nobody does; TemporaryError if the kernel gives no answer.

    What cannot be told counts as used, because force would hit it. Of a jail (CBSD hands ``-f`` to no VM,
    docs/cbsd.md#arguments) and of a bhyve VM the kernel of FreeBSD knows all. Of others CBSD's database says which
    emulator they have; where that does not help, the processes count that have something open there.
    """
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
    pids = None if freebsd and point in host.unresponsive else await holders(host, point)
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
