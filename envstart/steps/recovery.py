"""Take away what gives no answer: is it hidden, may it be unmounted by force, and by which commands.

For the steps that end in a mount (mount.py), and for ``envstart recover``; a start that finds all well does without.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart.config import remedies
from envstart.config.schema import boolean
from envstart.engine.locking import Locks
from envstart.engine.plan import Plan
from envstart.errors import DeadlineExceededError, NoResponseError, NotFoundError, PermissionDeniedError, TemporaryError
from envstart.mounts import commands
from envstart.mounts.table import Entry
from envstart.steps import forced, health, unmount
from envstart.steps.mount_removal import RemovableMount
from envstart.steps.mount_state import MountState
from envstart.system.host import Host


async def wait_for_answer(mount: RemovableMount, host: Host, entry: Entry) -> None:
    """Wait for a file system that others use too, until the deadline; TemporaryError then."""
    lower = forced.below(await host.mounts(), entry)
    what = f"{lower} on {lower.point}" if lower is not None else str(entry)
    if not host.rehearsing:
        host.report.note(f"{entry.point}: waiting for {what}, which gives no answer")
        host.unresponsive.discard(entry.point)
    try:
        answers = await unmount.answers(host, entry.point, host.deadline.left())
    except DeadlineExceededError:
        answers = False
    if not answers:
        raise TemporaryError(
            f"cannot use {entry.point}: {mount.source} is mounted there, and {what} gives no answer; it is not "
            "touched, since others use it too"
        )


def used_error(mount: RemovableMount, host: Host, entry: Entry, users: str) -> TemporaryError:
    """Return the error of a start that finds its own mount of no use, while somebody uses it (``users``)."""
    text = f"cannot use {entry.point}: {mount.source} is mounted there"
    if entry.point not in host.unresponsive:
        return TemporaryError(f"{text} but broken or not exported, and {users}", hint="stop it first")
    # Before a stop CBSD runs df(1), which waits for the server too.
    free = remedies.of_subject(host.report.planned, "recover", "--running")
    return TemporaryError(f"{text} and gives no answer, and {users}", hint=f"wait until it answers, or: {free}")


async def hidden(mount: MountState, host: Host) -> Entry | None:
    """Return our mount if FreeBSD's table leaves it out, since an unmount of it hangs (getfsstat(2)); else None.

    Whoever looks at the directory waits for the server then.
    """
    if host.platform != "freebsd" or mount.fstype != "nfs":
        return None
    parent, _, name = mount.point.rpartition("/")
    try:
        point = f"{(await host.real(parent or '/')).rstrip('/')}/{name}"
    except (NoResponseError, DeadlineExceededError):
        point = mount.point
    if (await host.mounts()).at(point):
        return None
    try:
        return None if await unmount.answers(host, point, mount.probe_timeout) else Entry(mount.source, point, "nfs")
    except DeadlineExceededError:
        return None


async def lines(mount: RemovableMount, host: Host) -> list[tuple[str, ...]]:
    """Return the commands by which recover() unmounts; TemporaryError if that would harm others."""
    try:
        point = await mount.real_point(host)
        entry = next(iter((await host.mounts()).at(point)[-1:]), None)
    except NoResponseError:
        entry = await hidden(mount, host)
        if entry is None:
            raise
        host.unresponsive.add(entry.point)
    if entry is None:
        return []
    if await mount.answers(host, entry.point, mount.probe_timeout):
        return [commands.unmount(host.platform, entry.kind, entry.point)]
    if mount.borrowed:
        lower = forced.below(await host.mounts(), entry)
        where = f"{lower} on {lower.point}" if lower is not None else str(entry)
        raise TemporaryError(
            f"cannot recover {entry.point}: {mount.source} lies on {where}, which gives no answer, and others use "
            "it too",
            hint="recover that first",
        )
    await check_force(mount, host, entry, asked=True)
    alone = await mount.alone(host, entry)
    return forced.lines(host.platform, await host.mounts(), entry, unresponsive=True, alone=alone)


async def recover(mount: RemovableMount, host: Host) -> None:
    """Unmount what gives no answer, or is broken, because somebody wants it, whoever uses it."""
    try:
        point = await mount.real_point(host)
    except NoResponseError:
        entry = await hidden(mount, host)
        if entry is None:
            raise
        host.report.note(f"{entry.point}: unmounting {entry}, whose unmount hangs")
        await forced.unmount(host, entry, unresponsive=True, alone=True)
        if await hidden(mount, host) is not None:
            raise TemporaryError(
                f"cannot recover {entry.point}: it gives no answer still", hint="is its parent dead?"
            ) from None
        return
    except PermissionDeniedError:
        return
    try:
        entry = await mount.own_entry(host, await host.mounts(), point)
        problem = await health.check_health(mount, host, point) if entry is not None else None
    except (PermissionDeniedError, NotFoundError):
        return
    # What answers is not what is to be recovered.
    if entry is None or problem is None or isinstance(problem, NotFoundError):
        return
    if mount.borrowed and isinstance(problem, NoResponseError):
        raise TemporaryError(f"cannot recover {point}: {problem}")
    host.report.note(f"{point}: unmounting {entry}")
    await mount.unmount_broken(host, entry, asked=True)


async def check_force(mount: RemovableMount, host: Host, entry: Entry, *, asked: bool = False) -> None:
    """Raise TemporaryError if a forced unmount would harm others, or the host.

    Only somebody who has ``asked`` for it by hand, or by STOP_FORCE, may endanger the host.
    """
    places = await forced.own_places(host, mount.environment)
    await forced.check_is_safe(host, entry, places, borrowed=mount.borrowed)
    if mount.spec.lockd and host.platform == "freebsd" and await forced.lockd_runs(host):
        danger = "a forced unmount of NFSv3 while rpc.lockd(8) runs can crash the host (umount(8), -f)"
        if not (asked or boolean(mount.config.text("STOP_FORCE"))):
            own = mount.environment
            again = remedies.known("recover", [own.name], [own.workdir] if own.workdir else [])
            raise TemporaryError(
                f"cannot unmount {entry.point} by force: {danger}, which nolockd in MOUNT_NFS_OPT avoids",
                hint=f"service lockd onestop, or: {again}",
            )
        host.report.warn(f"{entry.point}: {danger}; nolockd in MOUNT_NFS_OPT avoids that")


def recover_all(plan: Plan, host: Host, mounts: Sequence[RemovableMount]) -> None:
    """Unmount what is broken of these mounts, in their order; what is healthy by then stays."""
    with Locks(host, plan.locks, needed=False):
        host.signals.arm()
        for mount in mounts:
            host.complete(recover(mount, host))
