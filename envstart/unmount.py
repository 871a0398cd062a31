"""Taking a mount away: in the ordinary way, patiently while it is busy, and by force only where that is allowed.

On FreeBSD a plain umount of a dead NFS mount cannot be killed and spoils ``umount -N``; so it is probed first.
"""

from __future__ import annotations

from . import commands, diagnosis, touch, verdict
from .errors import Denied, Error, NoAnswer, NoTime, Stuck, Temporary, Unavailable
from .retry import until_it_heals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .host import Host
    from .table import Entry

# Seconds the search for holders may take; it looks at every open file of the host.
_SEARCH = 5.0
_HOLDERS_SHOWN = 5
# Seconds for Linux to take a mount out of the table, whatever it waits for then.
_DETACHED = 5.0


class Busy(Temporary):
    """Somebody uses the directory."""


class Hanging(Stuck):
    """umount(8) had not ended, and was left behind."""


async def answers(host: Host, point: str, timeout: float) -> bool:
    """Whether a mounted directory answers, be it with an error: then a plain umount comes back too."""
    try:
        await host.probe(verdict.look, point, (), None, timeout=timeout)
    except NoAnswer:
        return False
    except NoTime as error:
        raise NoTime(f"cannot unmount {point}: {error}; it is left as it is") from None
    except OSError:
        pass
    return True


async def plain(host: Host, entry: Entry, attempts: int = 0, kill: bool = False, spare: float = 0.0) -> None:
    """Unmount, tried again while it is busy; Busy with the holders' names when time or attempts are used up, Hanging
    when it is not done ``spare`` seconds before the end, or in half of the time that is left if that is more."""
    told, searching = False, True
    pids: list[int] = []
    argv = commands.unmount(host.platform, entry.fstype, entry.point)
    depth = len((await host.mounts()).at(entry.point))

    async def attempt() -> None:
        nonlocal told, searching, pids
        # The reserve included: an attempt that begins late must not be cut off in the middle.
        timeout = max(host.deadline.left() - spare, host.deadline.to_the_end() / 2)
        result = await host.run(argv, timeout=timeout, reserve=True)
        table = await host.mounts()
        # Not the exit status: mountd that cannot be told makes it 1 after success (commands.md §7.3). But the table
        # leaves out a mount while it is being unmounted (§2.1), so that one still at work has not done it yet.
        if not result.alive and len(table.at(entry.point)) < depth:
            return
        doing = f"cannot unmount {entry.point}"
        if result.status is None:
            raise Hanging(f"{doing}: {result.words}; envstart leaves it as it is")
        if "not permitted" in result.words:
            raise Denied(f"{doing}: {result.words}; is this a jail, or a container that may not unmount?")
        if not diagnosis.busy(result):
            raise Error(f"{doing}: {result.words or 'it is still mounted'}")
        from . import processes

        above = [*table.below(entry.point), *table.uppers(entry.point)]
        # One that is cut off hangs at the files of another server, perhaps for ever; what was known still counts.
        found = await holders(host, entry.point) if searching else None
        searching, pids = found is not None, found or pids
        by = f"mounted on it: {', '.join(above)}" if above else processes.describe(pids[:_HOLDERS_SHOWN])
        if not told:
            told = True
            host.report.trace(f"{entry.point} is busy: {by}")
        if kill and pids:
            host.report.warn(f"{entry.point} is busy: ending {processes.describe(pids)}")
            await processes.end(pids)
        raise Busy(f"{doing}: it is busy ({by}); end what uses it, and stop again")

    await until_it_heals(attempt, host, entry.point, attempts)


async def holders(host: Host, point: str) -> list[int] | None:
    """Processes that use a mounted directory, found in bounded time; None if that cannot be told."""
    if host.platform == "freebsd":
        # The process numbers are all that fuser(1) prints on stdout (commands.md §21).
        try:
            result = await host.run(("fuser", "-c", point), timeout=_SEARCH, reads=True)
        except Unavailable:
            return None
        return [int(word) for word in result.out.split() if word.isdigit()] if result.status == 0 else None
    try:
        return list(await host.bounded(touch.holders, point, timeout=_SEARCH))
    except (NoAnswer, NoTime, OSError):
        return None


async def refuse_harm(host: Host, entry: Entry, own: Sequence[str] = ()) -> None:
    """Temporary if to unmount what does not answer cannot succeed on FreeBSD, and would break it for good; what is
    mounted on one of the directories ``own`` goes first.

    umount -N marks the mount before it is refused because something lies on it; nothing takes that back, and each
    request fails from then on (nfssvc(2) with FORCEDISM). A nullfs has the locks of what it shows: whoever waits for a
    server in it keeps it, and with it the directory that it is mounted on, until that server is back.
    """
    if host.platform != "freebsd":
        return
    table = await host.mounts()
    lower = table.holding(entry.source) if entry.fstype == "nullfs" else None
    above = [point for point in (*table.below(entry.point), *table.uppers(entry.point)) if point not in own]
    if lower is not None and lower.kind == "nfs":
        raise Temporary(
            f"cannot unmount {entry.point}: it shows what lies on {lower.point}, and no umount ends before "
            f"{lower.server} answers"
        )
    if entry.kind == "nfs" and above:
        raise Temporary(
            f"cannot unmount {entry.point}: {entry.source} gives no answer, and {', '.join(above[:3])} lies on it, so "
            "that umount -N would fail, and break it for good; wait until the server is back"
        )


async def by_force(host: Host, entry: Entry, dead: bool) -> None:
    """Unmount although it is in use or dead. What does not end in time goes on by itself, and is said."""
    if dead:
        await refuse_harm(host, entry)
        argv = commands.unmount_dead(host.platform, entry.fstype, entry.point)
    else:
        argv = commands.unmount_by_force(host.platform, entry.point)
    depth = len((await host.mounts()).at(entry.point))
    linux = host.platform == "linux"
    result = await host.run(argv, timeout=_DETACHED if linux else None, leave=True)
    # See plain(): while it is at work the table proves nothing. Linux's -l takes it out of the table for good, and then
    # the last mount of a silent server says good-bye to it, for as long as its time-outs are.
    if (linux or not result.alive) and len((await host.mounts()).at(entry.point)) < depth:
        host.silent.discard(entry.point)
        return
    if result.status is None:
        raise Temporary(
            f"cannot unmount {entry.point}: {entry.source + ' gives no answer, and ' if dead else ''}{' '.join(argv)} "
            "still works on it, for a minute or more; try again then"
        )
    raise Error(f"cannot unmount {entry.point} by force: {result.words}")
