"""The process behind a FUSE mount: wait for its end, or end it."""

from __future__ import annotations

from envstart.errors import DeadlineExceededError, NoResponseError, TemporaryError, UnavailableError
from envstart.system import process_table
from envstart.system.host import Host, Polling

# Seconds the search for processes may take; it reads the arguments of all.
_SEARCH = 5.0
# Seconds that a client may take to end after its unmount.
_ENDING = 10.0


async def load_module(host: Host, source: str, timeout: float) -> None:
    """Load fusefs if the kernel lacks it: the client of ``source`` opens /dev/fuse before it mounts.

    The kernel would load the module only then (docs/freebsd.md#fuse). kldload(8) fails with kern.securelevel=1 also
    for a module that is there, since kern_kldload() of sys/kern/kern_linker.c asks that first.
    """
    if (await host.run(("kldstat", "-q", "-m", "fusefs"), timeout=timeout, read_only=True)).status == 0:
        return
    result = await host.run(("kldload", "-n", "fusefs"), timeout=timeout)
    if result.status != 0:
        kind = TemporaryError if result.status is None else UnavailableError
        text = f"cannot mount {source}: kldload fusefs: {result.words}"
        raise kind(text, hint="load it at boot: sysrc kld_list+=fusefs")


async def wait_for_end(host: Host, programs: tuple[str, ...], point: str) -> None:
    """Wait until the client of a mount has ended, and end it when that takes too long.

    FreeBSD's libfuse unmounts as its last act what is on its directory by then, and that can be the next one's
    (fuse_kern_unmount() in the port's lib/mount_bsd.c).
    """
    if host.rehearsing:
        return
    polling = Polling(host, _ENDING, f"the client of {point} to end")
    try:
        while await host.call_with_timeout(process_table.find_by_argv, programs, point, timeout=_SEARCH):
            if not await polling.again():
                await end(host, programs, point)
                return
    except (NoResponseError, DeadlineExceededError):
        # Whether it has is not known; the next one is looked at when it is mounted.
        pass


async def end(host: Host, programs: tuple[str, ...], point: str) -> bool:
    """End the client of a mount; false if there was no time to look for it."""
    if host.rehearsing:
        return True
    ended: set[int] = set()
    while True:
        try:
            pids = await host.call_with_timeout(process_table.find_by_argv, programs, point, timeout=_SEARCH)
        except (NoResponseError, DeadlineExceededError):
            return bool(ended)
        if ended.issuperset(pids):
            return True
        ended.update(pids)
        # One of CephFS that is not asked to end leaves a session, which holds the next one up for a minute.
        await process_table.end(pids)
        host.invalidate()
