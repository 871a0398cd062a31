"""Unmount what gives no answer, or is broken, for ``envstart recover``."""

from __future__ import annotations

from collections.abc import Sequence

from envstart.engine.locking import Locks
from envstart.engine.plan import Plan
from envstart.errors import NoResponseError, NotFoundError, PermissionDeniedError, TemporaryError
from envstart.mounts import commands
from envstart.steps import forced, health
from envstart.steps.mount import Mount
from envstart.system.host import Host


async def lines(mount: Mount, host: Host) -> list[tuple[str, ...]]:
    """Return the commands by which recover() unmounts; TemporaryError if that would harm others."""
    try:
        point = await mount.real_point(host)
        entry = next(iter((await host.mounts()).at(point)[-1:]), None)
    except NoResponseError:
        entry = await mount.hanging(host)
        if entry is None:
            raise
        host.unresponsive.add(entry.point)
    if entry is None:
        return []
    if await mount.answers(host, entry.point):
        return [commands.unmount(host.platform, entry.kind, entry.point)]
    if mount.borrowed:
        lower = await forced.shown_by(host, entry)
        silent = f"{mount.source} lies on {lower}, which gives no answer, and others use it too"
        raise TemporaryError(f"cannot recover {entry.point}: {silent}", hint="recover that first")
    await forced.check(mount, host, entry, asked=True)
    alone = await mount.alone(host, entry)
    return forced.lines(host.platform, await host.mounts(), entry, unresponsive=True, alone=alone)


async def recover(mount: Mount, host: Host) -> None:
    """Unmount what gives no answer, or is broken, because somebody wants it, whoever uses it."""
    try:
        point = await mount.real_point(host)
    except NoResponseError:
        entry = await mount.hanging(host)
        if entry is None:
            raise
        host.report.note(f"{entry.point}: unmounting {entry}, whose unmount hangs")
        await forced.unmount(host, entry, unresponsive=True, alone=True)
        if await mount.hanging(host) is not None:
            text = f"cannot recover {entry.point}: it gives no answer still"
            raise TemporaryError(text, hint="is its parent dead?") from None
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


def recover_all(plan: Plan, host: Host, mounts: Sequence[Mount]) -> None:
    """Unmount what is broken of these mounts, in their order; what is healthy by then stays."""
    with Locks(host, plan.locks, needed=False):
        host.signals.arm()
        for mount in mounts:
            host.complete(recover(mount, host))
