"""The parts of this machine that Linux has in a way of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

# The socket of syslogd(8), or of journald.
_LOG = "/dev/log"


def log(ident: str, facility: int, level: int, line: str) -> None:
    """Write to syslog in the form of RFC 3164; syslog(3) waits for ever for a daemon that does not read."""
    # Not on FreeBSD, where it would cost every start 3 ms.
    import socket

    text = f"<{facility | level}>{time.strftime('%b %e %H:%M:%S')} {ident}[{os.getpid()}]: {line}"
    # Nobody may be there, or have room.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stream:
        stream.settimeout(0)
        stream.connect(_LOG)
        stream.send(text.encode("utf-8", "backslashreplace"))


def anonymous_file(directories: Sequence[str]) -> int:
    """Return a new file in memory, which needs none of the directories."""
    return os.memfd_create("envstart")


def holders(point: str) -> list[int]:
    """Return the processes with a working directory, root or open file at or below ``point``."""
    prefix = point.rstrip("/") + "/"
    targets = ((pid, _target(link)) for pid in os.listdir("/proc") if pid.isdigit() for link in _links(pid))
    return list(dict.fromkeys(int(pid) for pid, target in targets if target == point or target.startswith(prefix)))


def _links(pid: str) -> list[str]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    return [f"/proc/{pid}/{name}" for name in ("cwd", "root", "exe", *(f"fd/{number}" for number in descriptors))]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
