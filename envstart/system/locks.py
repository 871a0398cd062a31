"""Lock files in the kernel: waits have an end, and locks go with their process (docs/promises.md, 10)."""

from __future__ import annotations

import posix

from envstart.system import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from envstart.system.host import Host


class Locks:
    """``with Locks(host, names):`` takes them one after the other; TemporaryError at the deadline.

    ``async with`` does the same inside a step, for what must not be done by two environments at once. Not ``needed``:
    where there is no place for a lock, a warning will do.
    """

    def __init__(self, host: Host, names: Sequence[str], *, needed: bool = True) -> None:
        self._host = host
        self._needed = needed
        self._names = names
        self._descriptors: list[int] = []

    async def __aenter__(self) -> None:
        await self._take_all(turns=True)

    def __enter__(self) -> None:
        # Without room for it a start goes on (docs/faults.md, 48): where many would wait for each other, one dead
        # server holds all of them up.
        self._host.complete(self._take_all())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        import fcntl

        while self._descriptors:
            descriptor = self._descriptors.pop()
            self._host.lock_fds.remove(descriptor)
            # Also for a command that was left behind with a copy of it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            posix.close(descriptor)

    async def _take_all(self, turns: bool = False) -> None:
        """``turns``: for what is done to devices. Without room for a lock of its own, all such take turns, by the lock
        of the directory, which needs none."""
        from envstart.errors import EnvstartError, NoSpaceError

        try:
            for name in self._names:
                try:
                    descriptor = self._open(name, f"{rundir.directory()}/{name}.lock", posix.O_RDWR | posix.O_CREAT)
                except NoSpaceError as error:
                    if not turns:
                        self._host.report.warn(f"{error}; going on without a lock")
                        continue
                    descriptor = self._open(name, rundir.directory(), posix.O_RDONLY | posix.O_DIRECTORY)
                except EnvstartError as error:
                    # What takes away is not kept from it by a /var/run that cannot be written.
                    if self._needed:
                        raise
                    self._host.report.warn(f"{error}; going on without a lock")
                    continue
                await self._take(name, descriptor)
        except BaseException:
            self._release()
            raise

    def _open(self, name: str, path: str, how: int) -> int:
        from envstart.errors import NoSpaceError, TemporaryError, full, reason

        try:
            descriptor = posix.open(path, how | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
        except OSError as error:
            kind = NoSpaceError if full(error) else TemporaryError
            raise kind(f"cannot lock {name}: {path}: {reason(error)}") from None
        self._descriptors.append(descriptor)
        self._host.lock_fds.add(descriptor)
        return descriptor

    async def _take(self, name: str, descriptor: int) -> None:
        import fcntl

        from envstart.errors import DeadlineExceededError, NoResponseError, TemporaryError

        host = self._host
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                # The kernel has a queue for those who wait; who asked now and then would be passed by newcomers.
                left, what = host.deadline.left(), f"the lock {name}: {_holder(descriptor)} works on it"
                await host.call_with_timeout(_wait_for, name, descriptor, timeout=left, keep=(descriptor,), what=what)
            except (NoResponseError, DeadlineExceededError):
                holder = _holder(descriptor)
                raise TemporaryError(
                    f"cannot lock {name}: {holder} works on it, or a command that it left",
                    hint="look at ps, and try again",
                ) from None
        # What was known before can have been changed by whoever had the lock.
        host.invalidate()
        note(descriptor, f"pid {posix.getpid()}, {host.report.program}")


def _holder(descriptor: int) -> str:
    """What its holder has noted."""
    try:
        return posix.pread(descriptor, 200, 0).decode("utf-8", "replace")
    except IsADirectoryError:
        return "another hook"


def _wait_for(name: str, descriptor: int) -> None:
    """In a child, which can be ended: take the lock of a descriptor that it shares with its parent, who then has it."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)


def claim(name: str) -> tuple[int | None, str]:
    """A lock that goes with its descriptor, and stays as long as a child keeps a copy of that, whatever becomes of us:
    (descriptor, ""), or (None, what its holder has noted). OSError, PermissionDeniedError, NotFoundError."""
    import fcntl

    path = f"{rundir.directory()}/{name}.lock"
    descriptor = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = _holder(descriptor)
        posix.close(descriptor)
        return None, told
    return descriptor, ""


def note(descriptor: int, text: str) -> None:
    """Tell those who find it locked why; a full disk keeps them ignorant."""
    try:
        posix.ftruncate(descriptor, 0)
        posix.pwrite(descriptor, text.encode(), 0)
    except OSError:
        pass
