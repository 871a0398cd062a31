"""Processes of our own making, above all for functions that may hang. Each can be left behind at any time.

There are no threads here that would make a fork dangerous.
"""

from __future__ import annotations

import marshal
import posix
import select
import sys
import time

from envstart.system.signals import forget_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

_NULL = "/dev/null"
# Highest descriptor that a caller may have left open for us.
_DESCRIPTORS = 4096
# Bytes of the length before each answer.
_LENGTH = 4
# In place of an errno: an EnvstartError, by pickle.
_ERROR = -2


class Child:
    """A process. ``status`` is its exit status, minus the signal that ended it, or None while it runs."""

    __slots__ = ("pid", "what", "holds", "status")

    def __init__(self, pid: int, what: str, *, holds: bool = False) -> None:
        """Keep its pid and ``what`` it does; it ``holds`` descriptors of ours."""
        self.pid, self.what, self.holds = pid, what, holds
        self.status: int | None = None

    def ended(self) -> bool:
        """Tell whether it is over by now, without waiting."""
        if self.status is None:
            try:
                pid, status = posix.waitpid(self.pid, posix.WNOHANG)
            except ChildProcessError:
                # Somebody else took it: how it ended cannot be told, and that is no success.
                self.status = 255
            else:
                self.status = posix.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def group_is_gone(self) -> bool:
        """Tell whether every process of its group is over, too: mount(8) can end before its helper does."""
        try:
            posix.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False

    def over(self) -> bool:
        """Tell whether it has ended, and all its group with it."""
        return self.ended() and self.group_is_gone()

    def kill(self, number: int) -> None:
        """Send a signal to it and to all of its session's first group."""
        try:
            try:
                posix.killpg(self.pid, number)
            except ProcessLookupError:
                # It may not have come to its setsid(2) yet.
                if not self.ended():
                    posix.kill(self.pid, number)
        except OSError:
            pass


def call(
    function: Callable[..., Any], arguments: Sequence[Any], keep: Iterable[int] = (), questions: int | None = None
) -> tuple[Child, int]:
    """Call ``function`` in a child; return that and the descriptor its answer comes from. OSError.

    The answer is what marshal makes of (0, result), or of what raised() reads. ``keep``: descriptors
    that the child holds until it ends. ``questions``: one that it reads framed() ones from after that, each a module,
    the name of a function in it, and its arguments, until the other end is closed.
    """

    def body(write: int) -> None:
        posix.write(write, framed(_outcome(function, arguments)))
        for module, name, given in _read(questions) if questions is not None else ():
            posix.write(write, framed(_outcome(getattr(sys.modules[module], name), given)))

    return _fork(body, named(function, arguments), keep if questions is None else (*keep, questions))


def named(function: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """Return what a child does, for people."""
    return f"{function.__name__} {arguments[0] if arguments else ''}"


def answer_of(arguments: Sequence[Any]) -> str:
    """Return what is waited for, for people: of most functions the first argument is the path or the host."""
    first = arguments[0] if arguments else ""
    while isinstance(first, (list, tuple)):
        first = first[0] if first else ""
    return f"an answer of {first}" if first and isinstance(first, str) else ""


def _outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[int, Any]:
    try:
        return 0, function(*arguments)
    except OSError as error:
        return error.errno or -1, error.strerror or str(error)
    except Exception as error:
        from envstart.errors import EnvstartError

        if isinstance(error, EnvstartError):
            import pickle

            return _ERROR, pickle.dumps(error)
        return -1, repr(error)


def raised(number: int, value: Any) -> Exception | None:
    """Return what a call in a child has raised, by its answer; None if that is a result."""
    if number == _ERROR:
        import pickle

        error: Exception = pickle.loads(value)
        return error
    return OSError(number, value) if number else None


def _read(descriptor: int) -> Iterator[Any]:
    """Yield what comes framed() from a descriptor."""
    data = b""
    while True:
        frames, data = answers(data)
        yield from frames
        more = posix.read(descriptor, 1 << 16)
        if not more:
            return
        data += more


def each(function: Callable[[Any], Any], items: Sequence[Any], keep: Iterable[int] = ()) -> tuple[Child, int]:
    """Call ``function`` for one item after the other in one child; the answers come one by one, see answers()."""

    def body(write: int) -> None:
        for item in items:
            posix.write(write, framed(_outcome(function, (item,))))

    return _fork(body, f"{function.__name__} of {len(items)} items", keep)


def within(
    seconds: float, function: Callable[[Any], Any], items: Sequence[Any]
) -> tuple[list[tuple[int, Any]] | None, Child]:
    """Return the answers of each(), None if they take longer, and the child, which is killed then. OSError."""
    child, descriptor = each(function, items)
    pipe = Pipe(descriptor)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    until = time.monotonic() + seconds
    while not pipe.closed and time.monotonic() < until:
        poller.poll(max(1, int((until - time.monotonic()) * 1000)))
        pipe.fill()
    posix.close(descriptor)
    if not pipe.closed:
        child.kill(9)
    return answers(pipe.data)[0] if pipe.closed else None, child


def _fork(body: Callable[[int], None], what: str, keep: Iterable[int]) -> tuple[Child, int]:
    read, write = posix.pipe()
    try:
        pid = posix.fork()
    except OSError:
        posix.close(read)
        posix.close(write)
        raise
    if pid:
        posix.close(write)
        return Child(pid, what), read
    try:
        # There may be no room for another one.
        posix.close(read)
        null = posix.open(_NULL, posix.O_RDWR)
        become_child((null, null, null), (write, *keep))
        body(write)
    finally:
        posix._exit(0)


def framed(value: Any) -> bytes:
    """Return an answer, or a question, with its length before it; ValueError if marshal does not know its type."""
    # A child can be killed in the middle of it.
    data = marshal.dumps(value)
    return len(data).to_bytes(_LENGTH, "big") + data


def answers(data: bytes) -> tuple[list[Any], bytes]:
    """Return (0, result), or what raised() reads, for each item that a child came to; and the rest of the data."""
    values = []
    at = 0
    while len(data) - at >= _LENGTH:
        begin = at + _LENGTH
        end = begin + int.from_bytes(data[at:begin], "big")
        if len(data) < end:
            break
        values.append(marshal.loads(data[begin:end]))
        at = end
    return values, data[at:]


class Pipe:
    """The end of a pipe that reads what a child sends, without waiting for it."""

    def __init__(self, descriptor: int) -> None:
        """Begin without data."""
        posix.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.data = b""
        self.closed = False

    def fill(self) -> bool:
        """Read what has come; tell whether something has, or the other end was closed."""
        before = len(self.data)
        pieces = [self.data]
        try:
            while not self.closed:
                pieces.append(posix.read(self.descriptor, 1 << 16))
                self.closed = not pieces[-1]
        except BlockingIOError:
            pass
        self.data = b"".join(pieces)
        return self.closed or len(self.data) > before

    def ended(self) -> bool:
        """Tell whether the other end was closed."""
        self.fill()
        return self.closed


def become_child(streams: tuple[int | None, int, int], keep: Iterable[int]) -> None:
    """Give a forked process its session, the default actions of signals, ``/``, and no descriptor but these."""
    posix.setsid()
    forget_in_child()
    posix.chdir("/")
    # Each is above 2: the caller's own standard streams are open, if only for /dev/null.
    given, out, err = streams
    posix.dup2(out, 1)
    posix.dup2(err, 2)
    if given is not None:
        posix.dup2(given, 0)
    # A child that hangs must not keep a lock, or a pipe that the caller reads to its end.
    first = 3
    for descriptor in sorted(keep):
        posix.closerange(first, descriptor)
        posix.set_inheritable(descriptor, True)  # noqa: FBT003 (a call of the system)
        first = descriptor + 1
    posix.closerange(first, _DESCRIPTORS)
    if given is None:
        # Last, when there is room for one more.
        null = posix.open(_NULL, posix.O_RDWR)
        posix.dup2(null, 0)
        posix.close(null)
