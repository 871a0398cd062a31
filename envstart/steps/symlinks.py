"""Links on the way to a directory in which somebody else is root.

That is the root of a jail in its data, and who runs the storage in all that it holds. Followed, a link would lead a
mount over a directory of the host, or show that to the jail. It can be made at any moment. So it is looked for right
before the mount, and after it where the mount has landed.
"""

from __future__ import annotations

from envstart.errors import DeadlineExceededError, NoResponseError, PermissionDeniedError, TemporaryError
from envstart.mounts.table import Table
from envstart.steps import unmount
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system import filesystem
from envstart.system.host import Host


async def refuse(host: Host, mount: ConfiguredMount, point: str) -> None:
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


async def undo_redirected_mount(host: Host, mount: ConfiguredMount, point: str, before: Table) -> None:
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


async def _ways(host: Host, mount: ConfiguredMount, point: str) -> tuple[list[str], list[str]]:
    """Return mount point and source, as they should be and as they really are now.

    The source only if it lies inside something. Now: not what was known of them before what they lie in was mounted.
    """
    expected = [point]
    if mount.resolve_within:
        expected.append(await mount.source_in_place(host))
    mounted = frozenset((await host.mounts()).points)
    answers = await host.call_with_timeout(filesystem.resolve, expected, mounted, timeout=mount.probe_timeout)
    return expected, [real for real, _ in answers]
