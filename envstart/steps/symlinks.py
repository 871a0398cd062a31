"""Links on the way to a directory in which somebody else is root.

That is the root of a jail in its data, and who runs the storage in all that it holds. Followed, a link would lead a
mount over a directory of the host, or show that to the jail. It can be made at any moment. So it is looked for right
before the mount, and after it where the mount has landed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.environment import Environment
from envstart.errors import DeadlineExceededError, NoResponseError, PermissionDeniedError, TemporaryError
from envstart.mounts.table import Table
from envstart.paths import is_below
from envstart.steps import unmount
from envstart.system import filesystem
from envstart.system.host import Host

if TYPE_CHECKING:
    from envstart.steps.mount_state import MountState


def enclosing(environment: Environment, point: str) -> str:
    """Return the outermost directory of the jail or VM that ``point`` lies in; "" if it lies in none."""
    own = (environment.data, environment.system, environment.fstab, environment.rcconf)
    above = [path for path in own if path is not None and path != point and is_below(point, path)]
    return min(above, key=len, default="")


async def place(host: Host, directory: str, path: str) -> str:
    """Return the real name of ``path`` if no link lies between ``directory`` and it."""
    real: str = await host.real(directory)
    return real.rstrip("/") + path[len(directory.rstrip("/")) :]


async def real_point(host: Host, mount: MountState) -> str:
    """Return the mount point as the mount table names it.

    NoResponseError, or PermissionDeniedError outside of the workdir.
    """
    try:
        if mount.enclosing:
            return await place(host, mount.enclosing, mount.point)
        real: str = await host.real(mount.point)
    except (NoResponseError, DeadlineExceededError) as error:
        # The table does not know it by this name; by which one it would, only what it lies on can tell.
        raise NoResponseError(
            f"cannot use {mount.point}: what it lies on gives {error}", hint="is it on a dead server?"
        ) from None
    workdir = mount.environment.workdir
    if real == mount.point or not workdir or not is_below(mount.point, workdir):
        return real
    if not is_below(real, await host.real(workdir)):
        raise PermissionDeniedError(f"cannot use {mount.point}: it leads to {real}, out of the workdir {workdir}")
    return real


async def refuse(host: Host, mount: MountState, point: str) -> None:
    """Raise PermissionDeniedError if a link that others could have made leads mount point or source elsewhere."""
    if not (mount.enclosing or mount.resolve_within):
        return
    doing = f"cannot mount {mount.source} on {point}"
    try:
        expected, actual = await _ways(host, mount, point)
    except (NoResponseError, DeadlineExceededError) as error:
        raise TemporaryError(f"{doing}: one of them gives {error}") from None
    for real, path in zip(actual, expected):
        if real != path:
            raise PermissionDeniedError(f"{doing}: a link leads to {real}", hint="name a directory without links")


async def undo_redirected_mount(host: Host, mount: MountState, point: str, before: Table) -> None:
    """Take away what a mount command has brought by way of a link that was made since refuse().

    PermissionDeniedError then. ``before``: the mount table as it was before the command.
    """
    if not (mount.enclosing or mount.resolve_within):
        return
    expected, actual = await _ways(host, mount, point)
    if actual == expected:
        return
    real, source = actual[0], mount.source
    if mount.fstype == "nullfs":
        source = actual[1] if mount.resolve_within else await host.real(source)
    table = await host.mounts()
    stack = table.at(real)
    if len(stack) > len(before.at(real)) and table.shows(
        stack[-1], mount.fstype, source, linux=host.platform == "linux"
    ):
        await unmount.unmount(host, stack[-1], attempts=1)
        raise PermissionDeniedError(
            f"cannot mount {mount.source} on {point}: it came to be {source} on {real}, by a link that somebody has "
            "made just now, and was taken away",
            hint="find out who, and start again",
        )


async def _ways(host: Host, mount: MountState, point: str) -> tuple[list[str], list[str]]:
    """Return mount point and source, as they should be and as they really are now.

    The source only if it lies inside something. Now: not what was known of them before what they lie in was mounted.
    """
    expected = [point]
    if mount.resolve_within:
        expected.append(await place(host, mount.resolve_within, mount.source))
    mounted = frozenset((await host.mounts()).points)
    answers = await host.call_with_timeout(filesystem.resolve, expected, mounted, timeout=mount.probe_timeout)
    return expected, [real for real, _ in answers]
