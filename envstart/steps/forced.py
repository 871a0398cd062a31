"""Forced unmounts: which commands, in which order, and whom they would hurt.

FreeBSD: a nullfs keeps the file system that it shows mounted, by force too; a mount on a directory of it does not, and
stays in the mount table, where nobody reaches it. ``umount -N`` ends the requests of an NFS mount for good, even if it
is refused because of a nullfs; only then what lies on a mount of a silent server can be unmounted (dounmount() in
sys/kern/vfs_mount.c; tests/transcripts/nfs-dead-below.txt).
Linux: ``umount -f`` acts on the file system, wherever else it is mounted; ``-l`` on this mount, with all that lies on
it (umount(2)).
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart.config import remedies
from envstart.config.schema import boolean
from envstart.environment import Environment
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError, PermissionDeniedError, TemporaryError
from envstart.mounts import commands
from envstart.mounts.table import Entry, Table
from envstart.paths import is_below
from envstart.steps import unmount as plain
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system.host import Host

# Seconds for Linux to take a mount out of the table, whatever it waits for then.
_DETACHED = 5.0
# Seconds for FreeBSD to unmount what lies on a mount, when the requests of that have been ended.
_CHILD = 20.0
_NAMED = 3


def lines(platform: str, table: Table, entry: Entry, *, unresponsive: bool, alone: bool) -> list[tuple[str, ...]]:
    """Return the commands that unmount ENTRY and all that lies on it, in their order; pure.

    ``unresponsive``: it gives no answer. ``alone``: nobody else has the file system mounted. An ENTRY that is not in
    the table, since an unmount of it is under way, is unmounted all the same.
    """
    if platform != "freebsd":
        return [commands.force_unmount(platform, entry.point, alone=alone)]
    upon = table.upon(entry)
    last = commands.force_unmount(platform, entry.point)
    if not (unresponsive and entry.kind == "nfs"):
        return [*(commands.force_unmount(platform, child.point) for child in upon), last]
    children = [commands.unmount_unresponsive(platform, child.kind, child.point) for child in upon]
    kept = any(child.fstype == "nullfs" and is_below(child.source, entry.point) for child in upon)
    return [commands.unmount_unresponsive(platform, "nfs", entry.point), *children, *([last] if kept else [])]


async def check(mount: ConfiguredMount, host: Host, entry: Entry, *, asked: bool = False) -> None:
    """Raise TemporaryError if a forced unmount of ENTRY would harm others, or the host.

    Others: if something lies on it that is not the jail's or VM's own, or it shows an NFS mount that is not. The host:
    only somebody who has ``asked`` for it by hand, or by STOP_FORCE, may endanger that.
    """
    if host.platform != "freebsd":
        return
    own = await _own_places(host, mount.environment)
    table = await host.mounts()
    lower = below(table, entry) if mount.borrowed and entry.fstype == "nullfs" else None
    if lower is not None and lower.kind == "nfs" and entry.point in host.unresponsive:
        text = f"it shows {entry.source} of {lower} on {lower.point}, which gives no answer"
        hint = f"unmount that first, or wait for {lower.server}"
        raise TemporaryError(f"cannot unmount {entry.point}: {text}", hint=hint)
    if others := foreign(table, entry, own):
        text = f"{', '.join(others[:_NAMED])} lies on it, and does not belong to it alone"
        raise TemporaryError(f"cannot unmount {entry.point} by force: {text}", hint="unmount that first")
    if mount.spec.lockd and await _lockd_runs(host):
        danger = "a forced unmount of NFSv3 while rpc.lockd(8) runs can crash the host (umount(8), -f)"
        if not (asked or boolean(mount.config.text("STOP_FORCE"))):
            workdir = mount.environment.workdir
            again = remedies.known("recover", [mount.environment.name], [workdir] if workdir else [])
            text = f"cannot unmount {entry.point} by force: {danger}, which nolockd in MOUNT_NFS_OPT avoids"
            raise TemporaryError(text, hint=f"service lockd onestop, or: {again}")
        host.report.warn(f"{entry.point}: {danger}; nolockd in MOUNT_NFS_OPT avoids that")


async def _own_places(host: Host, environment: Environment) -> list[str]:
    """Return the real names of its own directories, and of where CBSD mounts a jail (docs/cbsd.md#paths-of-a-jail)."""
    places = list(environment.directories)
    if environment.workdir:
        places.append(f"{environment.workdir}/jails/{environment.name}")
    paths = []
    for place in places:
        try:
            paths.append(await host.real(place))
        except (NoResponseError, DeadlineExceededError, OSError):
            paths.append(place)
    return paths


def foreign(table: Table, entry: Entry, own: Sequence[str]) -> list[str]:
    """Return the mount points of what lies on ENTRY, and not below one of the directories OWN."""
    upon = [child.point for child in table.upon(entry)]
    return [point for point in upon if not any(is_below(point, place) for place in own)]


def below(table: Table, entry: Entry) -> Entry | None:
    """Return the mount of the file system that a bind or nullfs mount shows, if it is known."""
    if not entry.device:
        return table.mount_of(entry.source)
    others = [other for other in table if other.device == entry.device and other.point != entry.point]
    return min(others, key=lambda other: len(other.root), default=None)


async def shown_by(host: Host, entry: Entry) -> str:
    """Return what answers for a bind or nullfs mount, for people: the mount that it shows, if that is known."""
    lower = below(await host.mounts(), entry)
    return f"{lower} on {lower.point}" if lower is not None else str(entry)


async def wait_for_answer(mount: ConfiguredMount, host: Host, entry: Entry) -> None:
    """Wait for a file system that others use too, until the deadline; TemporaryError then."""
    what = await shown_by(host, entry)
    if not host.rehearsing:
        host.report.note(f"{entry.point}: waiting for {what}, which gives no answer")
        host.unresponsive.discard(entry.point)
    try:
        answers = await mount.answers(host, entry.point, host.deadline.left())
    except DeadlineExceededError:
        answers = False
    if not answers:
        silent = f"{mount.source} is mounted there, and {what} gives no answer"
        raise TemporaryError(f"cannot use {entry.point}: {silent}; it is not touched, since others use it too")


def used_error(mount: ConfiguredMount, host: Host, entry: Entry, users: str) -> TemporaryError:
    """Return the error of a start that finds its own mount of no use, while somebody uses it (``users``)."""
    text = f"cannot use {entry.point}: {mount.source} is mounted there"
    if entry.point not in host.unresponsive:
        return TemporaryError(f"{text} but broken or not exported, and {users}", hint="stop it first")
    # Before a stop CBSD runs df(1), which waits for the server too.
    free = remedies.of_subject(host.report.planned, "recover", "--running")
    return TemporaryError(f"{text} and gives no answer, and {users}", hint=f"wait until it answers, or: {free}")


async def _lockd_runs(host: Host) -> bool:
    """Tell if rpc.lockd(8) runs; what cannot be told is taken for a yes.

    While it does, the kernel hands it each file of a forced unmount (nlm_reclaim() in sys/nlm/nlm_advlock.c).
    """
    try:
        result = await host.run(("service", "lockd", "onestatus"), timeout=5.0, read_only=True)
    except EnvstartError:
        return True
    return result.status in (0, None)


async def unmount(host: Host, entry: Entry, *, unresponsive: bool, alone: bool) -> None:
    """Unmount ENTRY and all that lies on it; what does not end in time goes on by itself, and is said."""
    table = await host.mounts()
    before = {point: len(table.at(point)) for point in (entry.point, *(child.point for child in table.upon(entry)))}
    for argv in lines(host.platform, table, entry, unresponsive=unresponsive, alone=alone):
        await _carry_out(host, argv, entry, unresponsive=unresponsive)
    table = await host.mounts()
    left = [point for point, depth in before.items() if len(table.at(point)) >= max(1, depth)]
    if left:
        raise EnvstartError(f"cannot unmount {left[0]} by force: it is mounted still", hint=f"umount -f {left[0]}")
    host.unresponsive.discard(entry.point)


async def _carry_out(host: Host, argv: tuple[str, ...], entry: Entry, *, unresponsive: bool) -> None:
    point, cancels = argv[-1], "-N" in argv
    depth = len((await host.mounts()).at(point))
    if not (depth or (cancels and point == entry.point)):
        # It went with what it showed (vfs.recursive_forced_unmount), or by somebody else.
        return
    linux = host.platform == "linux"
    limit = _DETACHED if linux else None if point == entry.point else _CHILD
    upper = (await host.mounts()).at(point)[-1:]
    result = await plain.run(host, argv, upper[0] if upper else entry, timeout=limit, forced=True)
    # While it is at work the table of FreeBSD proves nothing (unmount()). Linux's -l takes it out of the table
    # for good, and then the last mount of a silent server says good-bye to it, for as long as its time-outs are.
    if (linux or not result.alive) and len((await host.mounts()).at(point)) < max(1, depth):
        if point != entry.point:
            host.report.note(f"{point}: unmounted, since it lies on {entry.point}")
        return
    if result.status is None:
        raise TemporaryError(
            f"cannot unmount {point}: {entry.source + ' gives no answer, and ' if unresponsive else ''}"
            f"{' '.join(argv)} still works on it, for a minute or more",
            hint="try again then",
        )
    if "not permitted" in result.words:
        raise PermissionDeniedError(f"cannot unmount {point}: {result.words}", hint="run it as root")
    if not cancels:
        raise EnvstartError(f"cannot unmount {point} by force: {result.words}")
