"""Run fsck in preen mode so that it waits for no mount but its own device's.

fsck_ffs(8) and e2fsck(8) look whether their device is mounted by stat(2) of the source of every mount in the table
(getmntpoint() in FreeBSD's sbin/mount/getmntopts.c; ext2fs_check_if_mounted() in e2fsprogs' lib/ext2fs/ismounted.c).
A source on a dead server holds them up where no signal reaches them, whoever mounted it. So fsck_ffs runs in a jail of
its own where the table has such sources: with enforce_statfs=2 it sees the mount of its root alone
(prison_canseemount() in sys/kern/kern_jail.c), and opens devices as it would outside (devfs_prison_check() in
sys/fs/devfs/devfs_vnops.c, g_dev_open() in sys/geom/geom_dev.c).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envstart import paths
from envstart.errors import TemporaryError, UnavailableError
from envstart.mounts import commands
from envstart.system.command import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.mounts.table import Entry, Table
    from envstart.system.host import Host

# Seconds to remove a jail in which nothing can be running any more.
_REMOVAL = 5.0
# Exit statuses of fsck_ffs(8), which jail(8) does not pass on: run it again, and what needs a person.
_RERUN, _FAILED = 16, 8


def sources(mounts: Table) -> list[Entry]:
    """Return the mounts whose source fsck would stat(2) outside of /dev."""
    return [entry for entry in mounts if entry.source.startswith("/") and not paths.is_below(entry.source, "/dev")]


async def argv(host: Host, fstype: str, device: str) -> tuple[str, ...]:
    """Return the command that run() begins with."""
    command = commands.fsck(fstype, device)
    if host.platform != "freebsd" or not sources(await host.mounts()):
        return command
    return commands.in_jail(_jail_name(device), command)


async def run(host: Host, fstype: str, device: str, timeout: float, probe_timeout: float) -> Result:
    """Run fsck on a device that is not mounted, for ``timeout`` seconds at most; TemporaryError with the culprit's
    name if it would wait for a mount that does not answer within ``probe_timeout`` seconds."""
    command = commands.fsck(fstype, device)
    others = sources(await host.mounts())
    if not others:
        return await host.run(command, timeout=timeout, keep_locks=True)
    why = ""
    if host.platform == "freebsd":
        result, why = await _run_in_jail(host, _jail_name(device), command, timeout)
        if result is not None:
            return result
    await _refuse_unresponsive(host, device, others, why, probe_timeout)
    return await host.run(command, timeout=timeout, keep_locks=True)


async def _run_in_jail(host: Host, name: str, command: Sequence[str], timeout: float) -> tuple[Result | None, str]:
    """Return the result of ``command`` in a jail of its own; None and the reason if jail(8) could not run it there."""
    ended = False

    async def remove() -> None:
        # jail(8) takes it away when its command has ended, and only then (clear_persist() in usr.sbin/jail/jail.c).
        if not ended:
            await host.run(("jail", "-R", name), timeout=_REMOVAL, use_rollback_reserve=True)

    host.on_failure(remove)
    try:
        for _ in range(2):
            result = await host.run(commands.in_jail(name, command), timeout=timeout, keep_locks=True)
            if "already exists" not in result.err:
                break
            # A run that was killed has left it.
            await remove()
    except UnavailableError as error:
        ended = True
        return None, str(error)
    ended = result.status is not None and result.status >= 0
    # One line of jail(8) says that its command failed; what comes before that, or instead, that it was not run.
    said = [line for line in result.err.splitlines() if line.startswith("jail: ")]
    if result.status is None or result.status <= 0:
        return result, ""
    if len(said) != 1 or not said[0].startswith(f"jail: {' '.join(command)}: "):
        return None, f"jail: {result.words}"
    status = _RERUN if "PLEASE RERUN FSCK" in result.out else _FAILED
    words = "\n".join(line for line in result.err.splitlines() if line not in said)
    return Result(status, result.out, words, result.seconds, result.alive), ""


def _jail_name(device: str) -> str:
    """Return a name for the jail in which the device is checked, and no other: to remove a jail that was left ends all
    that is at work in it. A dot would name a child of another jail."""
    name = device.removeprefix("/dev/")
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"envstart_fsck_{plain}" + ("" if plain == name else f"_{paths.path_digest(name)}")


async def _refuse_unresponsive(host: Host, device: str, others: Sequence[Entry], why: str, timeout: float) -> None:
    """Raise TemporaryError if the source of a mount does not answer."""
    mounts = await host.mounts()
    paths = list(dict.fromkeys(entry.source for entry in others))
    silent = next((path for path in paths if mounts.server(path) in host.unresponsive), None)
    if silent is None:
        answers, _ = await host.map_with_timeout(_touch, paths, timeout=timeout)
        if len(answers) == len(paths):
            return
        silent = paths[len(answers)]
    culprit = next(entry for entry in others if entry.source == silent)
    lower = mounts.mount_of(silent)
    origin = f" ({lower.source})" if lower is not None else ""
    raise TemporaryError(
        f"cannot check {device}: fsck waits for the sources of all mounts, and {silent}{origin}, which is mounted on "
        f"{culprit.point}, gives no answer{'; ' if why else ''}{why}",
        hint=f"unmount {culprit.point}, or wait until it answers",
    )


def _touch(path: str) -> None:
    """Do what fsck does, in a child."""
    os.stat(path)
