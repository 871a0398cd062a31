"""The parts of this machine that FreeBSD has in a way of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence


def log(ident: str, facility: int, level: int, line: str) -> None:
    """Write to syslog(3)."""
    import syslog

    syslog.openlog(ident, syslog.LOG_PID, facility)
    syslog.syslog(level, line)


def anonymous_file(directories: Sequence[str]) -> int | None:
    """Return a new file that only we can read and that has no name any more; None where there is no room."""
    for directory in directories:
        for number in range(10):
            path = f"{directory}/.envstart.{os.getpid()}.{number}"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileExistsError:
                continue
            except OSError:
                break
            os.unlink(path)
            return descriptor
    return None
