"""The directory that is to be mounted on: what is there, what has to be made, and what the mount will hide."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from envstart.config import common
from envstart.engine.plan import MOUNTED, NOT_MOUNTED, STACKED, WRONG_SOURCE, Observation
from envstart.errors import ConfigError, DeadlineExceededError, NoResponseError, NotFoundError, TemporaryError, reason
from envstart.mounts.table import Entry, Table
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
            return Observation(NOT_MOUNTED, refusal=ConfigError(text, hint="unmount that first"))
        problem = NotFoundError(f"cannot find {mount.source} on {point}: nothing is mounted there")
        return Observation(NOT_MOUNTED, problem=problem)
    if len(stack) > 1:
        text = f"cannot use {point}: {len(stack)} mounts are stacked on it, {listed(stack)}; it is not touched"
        return Observation(STACKED, listed(stack), refusal=ConfigError(text, hint=shlex.join(("umount", point))))
    if (refusal := hidden(table, stack[0])) is not None:
        hiding = table.hidden_by(point)
        assert hiding is not None
        detail = f"{stack[0]}, hidden by {hiding}, which was mounted on {hiding.point} later"
        return Observation(STACKED, detail, refusal=refusal)
    if not await mount.matches(host, table, stack[0]):
        refusal = ConfigError(
            f"cannot mount {mount.source} on {point}: {stack[0]} is mounted there; it is not touched",
            hint=f"{shlex.join(('umount', point))}, or correct the configuration",
        )
        return Observation(WRONG_SOURCE, str(stack[0]), refusal=refusal)
    return Observation(MOUNTED, str(stack[0]))


def hidden(table: Table, entry: Entry) -> ConfigError | None:
    """Return an error if nobody sees a mount, because something was mounted above it later."""
    if (hiding := table.hidden_by(entry.point)) is None:
        return None
    return ConfigError(
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
    """Make what is missing of ``point``, and note it in ``made`` before it is made.

    NotFoundError, ConfigError, TemporaryError.
    """
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
    except (NoResponseError, DeadlineExceededError) as error:
        raise TemporaryError(f"{doing}: the mount point gives {error}") from None
    except OSError as error:
        raise NotFoundError(f"{doing}: the mount point cannot be used: {reason(error)}") from None
    if hidden and config[common.HIDDEN_FILES] != "ignore":
        text = f"{point} is not empty ({', '.join(hidden)}): the mount hides that"
        if config[common.HIDDEN_FILES] == "refuse":
            raise ConfigError(f"{doing}: {text}", hint="move it away")
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
