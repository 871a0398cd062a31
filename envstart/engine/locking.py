"""Take the locks of a run, one after the other, until its deadline (docs/promises.md, 10)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from envstart import errors
from envstart.system import rundir
from envstart.system.host import Host


class Locks:
    """``with Locks(host, names):`` takes them one after the other; TemporaryError at the deadline.

    ``async with`` does the same inside a step, for what must not be done by two environments at once. Not ``needed``:
    where there is no place for a lock, a warning will do.
    """

    def __init__(self, host: Host, names: Sequence[str], *, needed: bool = True) -> None:
        """Keep what is to be locked."""
        self._host, self._needed, self._names = host, needed, names
        self._descriptors: list[int] = []

    async def __aenter__(self) -> None:
        """Take the locks of devices: without room for one of its own, all such take turns."""
        await self._take_all(take_turns=True)

    def __enter__(self) -> None:
        """Take the locks; without room for one a start goes on (docs/faults.md, 48)."""
        # Where many would wait for each other, one dead server holds all of them up.
        self._host.complete(self._take_all(take_turns=False))

    async def __aexit__(self, *_: object) -> None:
        """Release the locks."""
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        """Release the locks."""
        while self._descriptors:
            descriptor = self._descriptors.pop()
            self._host.lock_fds.remove(descriptor)
            # Also for a command that was left behind with a copy of it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    async def _take_all(self, *, take_turns: bool) -> None:
        try:
            for name in self._names:
                try:
                    descriptor = self._open(name, f"{rundir.directory()}/{name}.lock", os.O_RDWR | os.O_CREAT)
                except errors.NoSpaceError as error:
                    if not take_turns:
                        self._host.report.warn(f"{error}; going on without a lock")
                        continue
                    # The lock of the directory needs no room.
                    descriptor = self._open(name, rundir.directory(), os.O_RDONLY | os.O_DIRECTORY)
                except errors.EnvstartError as error:
                    # What takes away is not kept from it by a /var/run that cannot be written.
                    if self._needed:
                        raise
                    self._host.report.warn(f"{error}; going on without a lock")
                    continue
                await self._take(name, descriptor)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, name: str, path: str, how: int) -> int:
        try:
            descriptor = os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            kind = errors.NoSpaceError if errors.full(error) else errors.TemporaryError
            raise kind(f"cannot lock {name}: {path}: {errors.reason(error)}") from None
        self._descriptors.append(descriptor)
        self._host.lock_fds.add(descriptor)
        return descriptor

    async def _take(self, name: str, descriptor: int) -> None:
        host = self._host
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                # The kernel has a queue for those who wait; who asked now and then would be passed by newcomers.
                left, what = host.deadline.left(), f"the lock {name}: {rundir.lock_holder(descriptor)} works on it"
                await host.call_with_timeout(_wait_for, name, descriptor, timeout=left, keep=(descriptor,), what=what)
            except (errors.NoResponseError, errors.DeadlineExceededError):
                raise errors.TemporaryError(
                    f"cannot lock {name}: {rundir.lock_holder(descriptor)} works on it, or a command that it left",
                    hint="look at ps, and try again",
                ) from None
        # What was known before can have been changed by whoever had the lock.
        host.invalidate()
        rundir.sign_lock(descriptor, f"pid {os.getpid()}, {host.report.program}")


def _wait_for(name: str, descriptor: int) -> None:
    """Take the lock, in a child, which can be ended, of a descriptor that its parent shares, who has it then."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
