"""What every simulated command has at hand: the state, the way to block, and the words for an error."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time

from . import vfs
from .errors import error
from .store import BlockedError, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from .shapes import State

    T = TypeVar("T")

UID_VARIABLE = "SIM_UID"
# Seconds after which what blocks looks again, should it have begun to wait just after the change.
LONGEST_LOOK = 0.5


class Machine:
    def __init__(self, path: str) -> None:
        self.path = path
        self.store = Store(path)
        self.empty = path + "/empty"

    def state(self) -> State:
        return self.store.read()

    def settle(self, *, at_once: bool = False) -> None:
        """Let the daemons of this machine do what they would have done by now."""
        due = self.store.read()["due"]
        if at_once or (due and time.time() >= due):
            from . import daemons

            self.store.change(lambda state: daemons.settle(state, self))

    def uid(self, state: State) -> int:
        """Return the user of this process: su(1) can only tell by the environment, everything here runs as one."""
        return int(os.environ.get(UID_VARIABLE, state["settings"]["uid"]))

    def call(self, act: Callable[[State], T]) -> T:
        """Run ACT on the state; while it blocks this process cannot be killed, as one in a system call."""
        return self.until_done(lambda: self.store.change(act))

    def look(self, act: Callable[[State], T]) -> T:
        """Return the state, for what only reads."""
        return self.until_done(lambda: act(self.store.read()))

    def until_done(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except BlockedError as problem:
            opening, host = problem.opening, problem.host
        with Uninterruptible(self.store, opening, host):
            while True:
                self.store.wait_for_change(min(self.state()["due"] or float("inf"), time.time() + LONGEST_LOOK))
                self.settle()
                try:
                    return step()
                except BlockedError:
                    continue
                except vfs.CancelledError as problem:
                    # Who has waited is told so in another way than who asks from then on.
                    raise error(errno.ESTALE, problem.filename) from None

    def place(self, state: State, path: str) -> vfs.Place:
        return vfs.realpath(state, path, self.empty)

    def real_place(self, path: str) -> vfs.Place:
        """realpath(3), which blocks on a dead file system."""
        return self.look(lambda state: self.place(state, path))


def deadly() -> tuple[int, ...]:
    """Return the signals that end a command, other than KILL."""
    import signal

    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM


class Uninterruptible:
    """A process in the kernel. Signals wait until it comes out; the state knows it, for the sake of SIGKILL.

    OPENING: the provider that it is about to open. HOST: the server that it waits for.
    """

    def __init__(self, store: Store, opening: str = "", host: str = "") -> None:
        self.store = store
        self.pid = str(os.getpid())
        self.opening = opening
        self.host = host

    def __enter__(self) -> None:
        import signal

        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, deadly())

        def enter(state: State) -> None:
            state["stuck"][self.pid] = False
            if self.opening:
                state["opening"][self.pid] = self.opening
            if self.host:
                state["waits"][self.pid] = self.host

        self.store.change(enter)

    def __exit__(self, *_: object) -> None:
        import signal

        def leave(state: State) -> bool:
            state["opening"].pop(self.pid, None)
            state["waits"].pop(self.pid, None)
            return state["stuck"].pop(self.pid, False)

        if self.store.change(leave):
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)


def killed(store: Store, pids: Sequence[int], send: Callable[[], None]) -> bool:
    """Let SEND send SIGKILL to PIDS, and tell whether it did: it takes those in the kernel when they come out.

    None of them enters it in between: what is killed and said to be in there would be waited for.
    """

    def act(state: State) -> bool:
        stuck = [str(pid) for pid in pids if str(pid) in state["stuck"]]
        state["stuck"].update(dict.fromkeys(stuck, True))
        if not stuck:
            send()
        return not stuck

    return store.change(act)


def sleep_in_kernel(store: Store, seconds: float) -> None:
    with Uninterruptible(store):
        store.sleep(seconds)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    sys.stdout.flush()
    os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))


def fail(text: str, status: int = 1) -> int:
    warn(text)
    return status


def words_of(problem: OSError) -> str:
    return problem.strerror or str(problem)


def play(tools: Mapping[str, Callable[[Machine, list[str]], int]]) -> int:
    """Be the one of these programs under whose name this process was started."""
    machine = Machine(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
    machine.settle()
    status = tools[os.path.basename(sys.argv[0])](machine, sys.argv[1:])
    sys.stdout.flush()
    return status


def daemon(serve: Callable[[int], None]) -> str:
    """Leave a process behind that runs ``serve`` with a descriptor; what it writes there until it closes it."""
    from . import faults

    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        os.setsid()
        faults.silence()
        try:
            serve(write)
        finally:
            os._exit(1)
    os.close(write)
    words = b""
    while piece := os.read(read, 4096):
        words += piece
    return words.decode()


def tell(descriptor: int, words: str) -> None:
    """Send the word of a daemon() to the process that waits for it, which may have been ended meanwhile."""
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, words.encode())
    os.close(descriptor)
