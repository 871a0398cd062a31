"""The directory that is to be mounted on: what is there, what has to be made, what the mount will hide, and links.

A link can be made at any moment by who is root in a directory on the way: the root of a jail in its data, who runs the
storage in all that it holds. Followed, it would lead a mount over a directory of the host, or show that to the jail. So
it is looked for right before the mount, and after it where the mount has landed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from envstart import errors
from envstart.config import common
from envstart.engine.plan import MOUNTED, NOT_MOUNTED, STACKED, WRONG_SOURCE, Observation
from envstart.mounts.table import Entry, Table
from envstart.steps import unmount
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system import filesystem
from envstart.system.host import Host


class Undo:
    """Deeds of a start at one directory so far, to be undone."""

    def __init__(self) -> None:
        """Have done nothing yet."""
        self.made: list[str] = []
        self.tried = False
        self.cut_off = False


def listed(stack: Sequence[Entry]) -> str:
    """Return the mounts on one directory as text, the visible one first."""
    return " over ".join(str(entry) for entry in reversed(stack))


async def inspect(host: Host, mount: ConfiguredMount, table: Table, point: str) -> Observation:
    """Return what the mount table shows on ``point`` against what is configured."""
    stack = table.at(point)
    if not stack:
        if below := ", ".join(table.below(point)[:3]):
            text = f"cannot mount {mount.source} on {point}: it would hide {below}"
            return Observation(NOT_MOUNTED, refusal=errors.ConfigError(text, hint="unmount that first"))
        problem = errors.NotFoundError(f"cannot find {mount.source} on {point}: nothing is mounted there")
        return Observation(NOT_MOUNTED, problem=problem)
    if len(stack) > 1:
        text = f"cannot use {point}: {len(stack)} mounts are stacked on it, {listed(stack)}; it is not touched"
        return Observation(STACKED, listed(stack), refusal=errors.ConfigError(text, hint=shlex.join(("umount", point))))
    if (hiding := table.hidden_by(point)) is not None:
        detail = f"{stack[0]}, hidden by {hiding}, which was mounted on {hiding.point} later"
        return Observation(STACKED, detail, refusal=hidden(table, stack[0]))
    if not await mount.matches(host, table, stack[0]):
        refusal = errors.ConfigError(
            f"cannot mount {mount.source} on {point}: {stack[0]} is mounted there; it is not touched",
            hint=f"{shlex.join(('umount', point))}, or correct the configuration",
        )
        return Observation(WRONG_SOURCE, str(stack[0]), refusal=refusal)
    return Observation(MOUNTED, str(stack[0]))


def hidden(table: Table, entry: Entry) -> errors.ConfigError | None:
    """Return an error if nobody sees a mount, because something was mounted above it later."""
    if (hiding := table.hidden_by(entry.point)) is None:
        return None
    return errors.ConfigError(
        f"cannot use {entry.point}: {entry} is mounted there, and hidden by {hiding}, which was mounted on "
        f"{hiding.point} later; it is not touched",
        hint=shlex.join(("umount", hiding.point)),
    )


def drift(entry: Entry, options: Sequence[str]) -> str:
    """Tell in what a mount differs from the options of the configuration; "" if in nothing that counts."""
    if entry.read_only == ("ro" in options):
        return ""
    how, configured = ("read-only", "read-write") if entry.read_only else ("read-write", "read-only")
    return f"mounted {how}, the configuration says {configured}"


async def is_file(host: Host, mount: ConfiguredMount) -> bool:
    """Return whether a source on this host, of a mount that takes files, is one; OSError if it is missing."""
    answer: bool = await host.call_with_timeout(filesystem.is_file, mount.source, timeout=mount.probe_timeout)
    return answer


async def prepare(host: Host, mount: ConfiguredMount, point: str, made: list[str]) -> None:
    """Make what is missing of ``point``, noted in ``made`` before. NotFoundError, ConfigError, TemporaryError."""
    if await host.was_empty(point):
        return
    config = mount.config
    doing = f"cannot mount {mount.source} on {point}"
    given, timeout = mount.point if config[common.CREATE_MOUNT_POINTS] else None, mount.probe_timeout
    try:
        of_file = mount.takes_files and await is_file(host, mount)
        survey, make = (
            (filesystem.survey_file, filesystem.make_file)
            if of_file
            else (filesystem.survey, filesystem.make_directories)
        )
        missing, hidden = await host.call_with_timeout(survey, point, given, mount.create_below, timeout=timeout)
        if missing:
            made += missing
            await host.call_with_timeout(make, missing, mount.mode, timeout=timeout)
    except (errors.NoResponseError, errors.DeadlineExceededError) as error:
        raise errors.TemporaryError(f"{doing}: the mount point gives {error}") from None
    except OSError as error:
        raise errors.NotFoundError(f"{doing}: the mount point cannot be used: {errors.reason(error)}") from None
    if hidden and config[common.HIDDEN_FILES] != "ignore":
        text = f"{point} is not empty ({', '.join(hidden)}): the mount hides that"
        if config[common.HIDDEN_FILES] == "refuse":
            raise errors.ConfigError(f"{doing}: {text}", hint="move it away")
        host.report.warn(text)


async def landed(host: Host, mount: ConfiguredMount, point: str, timeout: float) -> Entry | None:
    """Return our mount if it is there, or comes within ``timeout`` seconds although its command was given up."""
    until = host.deadline.elapsed() + min(timeout, host.deadline.left() / 2)
    with host.waiting(f"{point}: {mount.source} can still be mounted"):
        while True:
            stack = (await host.mounts()).at(point)
            if stack and await mount.matches(host, await host.mounts(), stack[-1]):
                return stack[-1]
            if host.deadline.elapsed() >= until:
                return None
            host.invalidate()
            await host.sleep(0.1)


async def refuse_links(host: Host, mount: ConfiguredMount, point: str) -> None:
    """Raise PermissionDeniedError if a link that others could have made leads mount point or source elsewhere."""
    doing = f"cannot mount {mount.source} on {point}"
    try:
        expected, actual = await _ways(host, mount, point)
    except (errors.NoResponseError, errors.DeadlineExceededError) as error:
        raise errors.TemporaryError(f"{doing}: one of them gives {error}") from None
    for real, path in zip(actual, expected):
        if real != path:
            hint = "name a directory without links"
            raise errors.PermissionDeniedError(f"{doing}: a link leads to {real}", hint=hint)


async def undo_redirected_mount(host: Host, mount: ConfiguredMount, point: str, before: Table) -> None:
    """Take away what a mount command has brought by way of a link that was made since refuse_links().

    PermissionDeniedError then. ``before``: the mount table as it was before the command.
    """
    expected, actual = await _ways(host, mount, point)
    if actual == expected:
        return
    real, source = actual[0], mount.source
    if mount.fstype == "nullfs":
        source = actual[1] if mount.resolve_within else await host.real(source)
    table, linux = await host.mounts(), host.platform == "linux"
    stack = table.at(real)
    if len(stack) > len(before.at(real)) and table.shows(stack[-1], mount.fstype, source, linux=linux):
        await unmount.unmount(host, stack[-1], attempts=1)
        landed = f"it came to be {source} on {real}, by a link that somebody has made just now, and was taken away"
        text = f"cannot mount {mount.source} on {point}: {landed}"
        raise errors.PermissionDeniedError(text, hint="find out who, and start again")


async def _ways(host: Host, mount: ConfiguredMount, point: str) -> tuple[list[str], list[str]]:
    """Return mount point and source, this one if it lies inside something, as they should be and as they are now."""
    if not (mount.enclosing or mount.resolve_within):
        return [], []
    expected = [point]
    if mount.resolve_within:
        expected.append(await mount.source_in_place(host))
    # Anew: what they lie in may have been mounted since they were asked for.
    mounted = frozenset((await host.mounts()).points)
    answers = await host.call_with_timeout(filesystem.resolve, expected, mounted, timeout=mount.probe_timeout)
    return expected, [real for real, _ in answers]
