"""Run fsck in preen mode so that it waits for no mount but its own device's.

fsck_ffs(8) and e2fsck(8) look whether their device is mounted by stat(2) of the source of every mount in the table
(getmntpoint() in FreeBSD's sbin/mount/getmntopts.c; ext2fs_check_if_mounted() in e2fsprogs' lib/ext2fs/ismounted.c).
A source on a dead server holds them up where no signal reaches them, whoever mounted it. So fsck_ffs runs in a jail of
its own where the table has such sources: with enforce_statfs=2 it sees the mount of its root alone
(prison_canseemount() in sys/kern/kern_jail.c), and opens devices as it would outside (devfs_prison_check() in
sys/fs/devfs/devfs_vnops.c, g_dev_open() in sys/geom/geom_dev.c).
"""

import os
from collections.abc import Sequence

from envstart import paths
from envstart.config import common
from envstart.config.load import Config
from envstart.errors import BlockedError, EnvstartError, TemporaryError, UnavailableError
from envstart.mounts import commands
from envstart.mounts.table import Entry, Table
from envstart.storage import volume_keys
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds to remove a jail in which nothing can be running any more.
_REMOVAL = 5.0
# Exit statuses of fsck_ffs(8), which jail(8) does not pass on: run it again, and what needs a person.
_RERUN, _FAILED = 16, 8
# Statuses of fsck_ffs(8) and e2fsck(8): all is right; another run of the same would mend it (docs/freebsd.md#fsck).
_FINE = {"ufs": (0,), "ext4": (0, 1)}
_AGAIN = {"ufs": (_RERUN,), "ext4": ()}


class DamagedError(EnvstartError):
    """The file system needs a person."""

    status = os.EX_IOERR


def sources(mounts: Table) -> list[Entry]:
    """Return the mounts whose source fsck would stat(2) outside of /dev."""
    return [entry for entry in mounts if entry.source.startswith("/") and not paths.is_below(entry.source, "/dev")]


async def argv(host: Host, fstype: str, device: str) -> tuple[str, ...]:
    """Return the command that preen() begins with."""
    command = commands.fsck(fstype, device)
    if host.platform != "freebsd" or not sources(await host.mounts()):
        return command
    return commands.in_jail(_jail_name(device), command)


async def preen(host: Host, config: Config, device: str) -> None:
    """Run fsck on a device that is not mounted; raise what keeps it from being mounted then."""
    fstype = config[volume_keys.VOLUME_FSTYPE]
    # Twice: what must be run again says so.
    for _ in range(2):
        result = await _run(host, config, device)
        if result.status not in _AGAIN[fstype]:
            break
    if result.status not in _FINE[fstype]:
        raise _error(result, fstype, f"cannot mount {device}")


def _error(result: Result, fstype: str, failure: str) -> EnvstartError:
    if result.alive:
        # It looks at no mount of others here; but sync(2) goes through all (nfs_sync() in
        # sys/fs/nfsclient/nfs_clvfsops.c), and main() of sbin/fsck_ffs/main.c begins with it.
        others = "; or, since it begins with sync(2), a server that a jail was writing to" if fstype == "ufs" else ""
        return BlockedError(
            f"{failure}: fsck hangs, and nothing ends it ({result.words}): the disk gives no answer{others}"
        )
    if result.status is None:
        return EnvstartError(f"{failure}: fsck had not ended ({result.words})", hint="raise FSCK_TIMEOUT and TIMEOUT")
    if "NO WRITE ACCESS" in result.out or "is mounted" in result.words or "is in use" in result.words:
        why = f"fsck cannot write to it: it is in use, or held by another host ({result.words})"
        return TemporaryError(f"{failure}: {why}")
    if "Can't stat" in result.out or "Input/output error" in result.words:
        return TemporaryError(f"{failure}: {result.words}")
    hint = "run fsck by hand and read what it asks"
    return DamagedError(f"{failure}: fsck cannot mend it by itself ({result.words})", hint=hint)


async def _run(host: Host, config: Config, device: str) -> Result:
    """Run fsck once; TemporaryError with the culprit's name if it would wait for a mount that does not answer."""
    command, timeout = commands.fsck(config[volume_keys.VOLUME_FSTYPE], device), config[volume_keys.FSCK_TIMEOUT]
    others = sources(await host.mounts())
    why = ""
    if others and host.platform == "freebsd":
        result, why = await _run_in_jail(host, _jail_name(device), command, timeout)
        if result is not None:
            return result
    if others:
        await _refuse_unresponsive(host, device, others, why, config[common.PROBE_TIMEOUT])
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
    """Return a name for the jail in which the device is checked, and no other: a jail that was left is removed."""
    # A dot would name a child of another jail.
    name = device.removeprefix("/dev/")
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"envstart_fsck_{plain}" + ("" if plain == name else f"_{paths.path_digest(name)}")


async def _refuse_unresponsive(host: Host, device: str, others: Sequence[Entry], why: str, timeout: float) -> None:
    """Raise TemporaryError if the source of a mount does not answer."""
    mounts = await host.mounts()
    paths = list(dict.fromkeys(entry.source for entry in others))
    silent = next((path for path in paths if mounts.server(path) in host.unresponsive), None)
    if silent is None:
        # As fsck does.
        answers, _ = await host.map_with_timeout(os.path.exists, paths, timeout=timeout)
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
