"""Commands: processes of other programs, and how they end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from envstart.system.loop import WaitUntil
from envstart.system.process import Child

# What sh(1) ends with for a program that cannot be executed.
_CANNOT_EXECUTE = 126
# Seconds between TERM and KILL.
GRACE = 1.0


class Result(NamedTuple):
    """How a command ended: ``status`` is its exit status, minus the signal that ended it, or None: not in time."""

    status: int | None
    out: str
    err: str
    seconds: float
    alive: bool  # Nothing could end it.

    @property
    def words(self) -> str:
        """Return what the command said, on one line; else how it ended."""
        lines = [line.strip() for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        said = " / ".join(lines[-4:])[:500]
        if self.status is None:
            return f"no answer in {self.seconds:.1f} s" + (f", after it said: {said}" if said else "")
        if said:
            return said
        return f"ended by signal {-self.status}" if self.status < 0 else f"exit status {self.status}, without a word"


def start(
    path: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    streams: tuple[int | None, int, int],
    keep: Collection[int] = (),
) -> Child:
    """Execute ``path`` in a session of its own, without a terminal to ask at. OSError if no process can be made.

    It inherits only ``streams``, its standard ones (the first None: nothing to read), and ``keep``.
    """
    given, out, err = streams
    try:
        process = subprocess.Popen(
            argv,
            executable=path,
            stdin=subprocess.DEVNULL if given is None else given,
            stdout=out,
            stderr=err,
            pass_fds=keep,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        if error.filename != path:
            raise
        os.write(err, f"{path}: {error.strerror}\n".encode())
        child = Child(0, " ".join(argv))
        child.status = _CANNOT_EXECUTE
        return child
    # Its end is asked for by Child, which can leave it behind; Popen's destructor is to think no more of it.
    process.returncode = 0
    return Child(process.pid, " ".join(argv), holds=bool(keep))


async def end_gradually(
    send: Callable[[int], object], is_over: Callable[[], bool], *, gently: bool, grace: float = GRACE
) -> bool:
    """Send TERM if ``gently``, then KILL, and wait ``grace`` seconds after each; return whether it ``is_over``.

    The failure of what runs beside it does not cut that off: what was not killed would be left to nobody.
    """
    for number in (signal.SIGTERM, signal.SIGKILL) if gently else (signal.SIGKILL,):
        send(number)
        until = time.monotonic() + grace
        # Of processes that are no children of ours the end comes without a word.
        while not is_over() and time.monotonic() < until:
            await WaitUntil(time.monotonic() + 0.01, finish=True)
        if is_over():
            return True
    return False
