"""Errors, each with the exit status that says so (sysexits(3))."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

# Raised by a parser when a file, or another program's output, is not as it should be.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class EnvstartError(Exception):
    """The reason why something cannot be done, as ``cannot X: reason``, and the ``status`` that the process ends with.

    ``hint`` says what to do; ``details`` are lines that are shown before it, such as each mistake of a configuration
    file. Whoever passes it on tells what else the operator must know by add_note().
    """

    status = 1

    def __init_subclass__(cls, status: int = 0) -> None:
        """Let the process end with the ``status`` of a class, else with its parent's."""
        cls.status = status or cls.status

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        """Keep the message, the hint and the details apart."""
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        """Return the one line that people read."""
        return "; ".join(filter(None, (self.message, self.hint, *getattr(self, "__notes__", ()))))


class UsageError(EnvstartError, status=os.EX_USAGE):
    """The command line is wrong."""


class NotFoundError(EnvstartError, status=os.EX_NOINPUT):
    """A mount point, an exported directory or a file that must be there is not."""


class NotOnServerError(NotFoundError):
    """The server has no such directory."""


class UnavailableError(EnvstartError, status=os.EX_UNAVAILABLE):
    """A program, service or daemon is missing."""


class TemporaryError(EnvstartError, status=os.EX_TEMPFAIL):
    """Can heal by itself: tried again."""


class ResourceError(TemporaryError):
    """This host, or a limit of the caller's, has no more processes, descriptors or memory for it."""


class NoSpaceError(TemporaryError):
    """A file of our own cannot be made: the disk is full."""


class NoResponseError(TemporaryError):
    """No answer came in time: a dead server, as a rule."""


class DeadlineExceededError(TemporaryError):
    """The deadline came before an answer could be expected: nothing may follow from it."""


class BlockedError(EnvstartError, status=os.EX_TEMPFAIL):
    """TemporaryError, but not for this run: what it needs is held by a process that nothing ends."""


class PermissionDeniedError(EnvstartError, status=os.EX_NOPERM):
    """Not permitted, by this host or by the server."""


class ConfigError(EnvstartError, status=os.EX_CONFIG):
    """The configuration is wrong, or something else is mounted where our directory belongs."""


class SignalError(EnvstartError):
    """A signal asked us to end; sh(1) writes that as 128 + its number."""

    def __init__(self, signum: int) -> None:
        """Take the number of the signal."""
        super().__init__(f"interrupted by signal {signum}")
        self.status = 128 + signum


def exhausted(error: BaseException) -> bool:
    """Tell whether this host, or a limit of the caller's, has no more of what was needed."""
    return isinstance(error, ResourceError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED)


def no_child(error: OSError) -> ResourceError:
    """Return the error for a failed fork(2), or what it needs."""
    return ResourceError(f"cannot start a child: {reason(error)}")


def full(error: OSError) -> bool:
    """Tell whether there is no room on the disk, or none left of a quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unreadable(error: Exception) -> str:
    """Return what a parser says: the words of a ValueError, which are its own, else the error as such."""
    return str(error) if isinstance(error, ValueError) else f"its shape is unknown: {error!r}"


def reason(error: OSError) -> str:
    """Return the system's own words, without the number and the path that str() adds."""
    return error.strerror or str(error)
