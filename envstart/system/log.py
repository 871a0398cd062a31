"""Report to the operator on stderr and in syslog(3), the reason in the last line (docs/promises.md, 9)."""

from __future__ import annotations

import os
import select
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from envstart.environment import Subject
from envstart.errors import EnvstartError, reason
from envstart.system.command import Result
from envstart.system.signals import disarm

IDENT = "envstart"
# Seconds to wait, once in a run, for a reader that does not read; what it does not take is dropped.
_PATIENCE = 1.0
# Lines of a command's output that -vv shows: the whole of GEOM has thousands.
_TRACED = 40
# The socket of Linux's syslogd(8), or of journald.
_LOG = "/dev/log"
_stuck: set[int] = set()
# By which descriptor a standard stream is written to (_way_to).
_ways: dict[int, int] = {}
# Columns of the line that is renewed on the terminal, as long as it is there.
_renewed: list[int] = []


class Report:
    """Lines ``PROGRAM: NAME: text``. ``verbose`` 1 shows the commands with their times, 2 their output too."""

    def __init__(self, program: str, facility: str | None = None) -> None:
        """Begin without a subject."""
        self.program = program
        # How it was called, and what it carries out: what somebody is told to call is made of it (remedies.py).
        self.argv: Sequence[str] = ()
        self.planned: Subject | None = None
        self.subject = ""
        self.verbose = 0
        self.facility = facility
        # What was warned of so far, as it was written.
        self.warnings: list[str] = []

    def about(self, name: str, facility: str) -> None:
        """Let lines belong to the environment ``name`` from here on, and go to syslog(3) too unless ``none``."""
        self.subject = name
        self.facility = None if facility == "none" else facility

    def trace(self, text: str, level: int = 1) -> None:
        """Tell the one who asked for it by -v."""
        if self.verbose >= level:
            self._say(text)

    def command(self, argv: Sequence[str]) -> None:
        """Tell that a command has been started."""
        self.trace(shlex.join(argv))
        self._log("LOG_DEBUG", shlex.join(argv))

    def ended(self, argv: Sequence[str], result: Result, *, secret: bool = False) -> None:
        """Tell that a command has ended; without its output if that is ``secret``."""
        status = "cut off" if result.status is None else str(result.status)
        self.trace(f"# {status}, {result.seconds:.2f} s: {shlex.join(argv)}")
        lines = [] if secret else (result.out + result.err).splitlines()
        for line in lines[:_TRACED]:
            self.trace(f"  {line}", level=2)
        if len(lines) > _TRACED:
            self.trace(f"  ... and {len(lines) - _TRACED} lines more", level=2)

    def answer(self, text: str) -> None:
        """Tell the one who asks, and nobody else."""
        self._say(text)

    def done(self, text: str) -> None:
        """Tell what was achieved: quiet on the terminal, kept in syslog."""
        self.trace(text)
        self._log("LOG_INFO", text)

    def note(self, text: str) -> None:
        """Tell what is right, but not quite as one would expect."""
        self._say(text)
        self._log("LOG_INFO", text)

    def warn(self, text: str) -> None:
        """Tell what does not stop us, but should be looked at."""
        self.warnings.append(f"{self.subject}: {text}" if self.subject else text)
        self._say(f"warning: {text}")
        self._log("LOG_WARNING", text)

    def fail(self, error: EnvstartError) -> None:
        """Tell the details, and then why it failed as the very last line."""
        for line in error.details:
            self._say(line)
        self._say(str(error))
        self._log("LOG_ERR", str(error))

    def _say(self, text: str) -> None:
        write(2, self.line(text) + "\n")

    def line(self, text: str) -> str:
        """Return a line with the program and the environment before it."""
        subject = f"{self.subject}: " if self.subject else ""
        return f"{self.program}: {subject}{printable(text)}"

    def _log(self, priority: str, text: str) -> None:
        if self.facility is None:
            return
        import syslog

        facility, level = getattr(syslog, f"LOG_{self.facility.upper()}"), getattr(syslog, priority)
        if sys.platform.startswith("linux"):
            _send(facility | level, self.line(text))
        else:
            syslog.openlog(IDENT, syslog.LOG_PID, facility)
            syslog.syslog(level, self.line(text))


def printable(text: str) -> str:
    """Return a line in which a control character, or a byte that is no text, is written as an escape."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _send(priority: int, line: str) -> None:
    """Write to syslog in the form of RFC 3164; syslog(3) of Linux waits for ever for a daemon that does not read."""
    # Not on FreeBSD, where it would cost every start 3 ms.
    import socket

    text = f"<{priority}>{time.strftime('%b %e %H:%M:%S')} {IDENT}[{os.getpid()}]: {line}"
    # Nobody may be there, or have room.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stream:
        stream.settimeout(0)
        stream.connect(_LOG)
        stream.send(text.encode("utf-8", "backslashreplace"))


def tell(text: str) -> None:
    """Write what was asked for to standard output, as the last act; EnvstartError where there is no room."""
    disarm()
    data = text.encode("utf-8", "backslashreplace")
    poller = select.poll()
    poller.register(1, select.POLLOUT)
    try:
        while data:
            # The caller can have it so that a write does not wait.
            poller.poll()
            data = data[os.write(1, data[:512]) :]
    except BrokenPipeError:
        # The reader wants no more.
        pass
    except OSError as error:
        raise EnvstartError(f"cannot write to standard output: {reason(error)}") from None


def renew(text: str, columns: int) -> None:
    """Show ``text`` in place of what was shown so before, if the terminal takes it at once (it can be stopped by ^S).

    ``columns`` is what it takes, no more than the terminal is wide. "" takes away what is there.
    """
    terminal = _way_to(2)
    poller = select.poll()
    poller.register(terminal, select.POLLOUT)
    with suppress(OSError):
        if poller.poll(0):
            # Blanks and no escape sequence: any terminal knows them.
            data = "\r" + text + " " * (sum(_renewed) - columns) + ("" if text else "\r")
            os.write(terminal, data.encode("utf-8", "backslashreplace"))
            _renewed[:] = [columns] if text else []


def erase() -> None:
    """Take what renew() has shown away."""
    if _renewed:
        renew("", 0)


def write(descriptor: int, text: str) -> None:
    """Write, beside other work, to a standard stream that may be closed, full, or a pipe that nobody reads."""
    erase()
    data = text.encode("utf-8", "backslashreplace")
    way = _way_to(descriptor)
    poller = select.poll()
    poller.register(way, select.POLLOUT)
    until = time.monotonic() + (0.0 if descriptor in _stuck else _PATIENCE)
    with suppress(OSError):
        while data and poller.poll(max(0, int((until - time.monotonic()) * 1000))):
            try:
                # A pipe that is ready takes PIPE_BUF bytes at once, which is at least 512 (POSIX).
                data = data[os.write(way, data[:512]) :]
            except BlockingIOError:
                # A terminal has room for a byte, and the end of a line is two.
                if time.monotonic() >= until:
                    break
                time.sleep(0.01)
        if data:
            _stuck.add(descriptor)


def _way_to(descriptor: int) -> int:
    """Return the descriptor to write to a standard stream by: of a terminal one that never waits.

    A terminal is ready while it has room for one byte (ttydisc_write_poll() in FreeBSD's sys/sys/ttydisc.h;
    n_tty_poll() of Linux); a write of more waits until somebody reads it, or types ^Q. The mode of the descriptor
    itself is shared with the caller, and not ours to change.
    """
    if descriptor not in _ways:
        _ways[descriptor] = descriptor
        # It can have no name here, or be somebody else's.
        with suppress(OSError):
            if os.isatty(descriptor):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                _ways[descriptor] = os.open(os.ttyname(descriptor), flags)
    return _ways[descriptor]
