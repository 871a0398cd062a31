"""The mount table of Linux: ``/proc/self/mountinfo`` (proc(5)), which answers without touching a mount point."""

from __future__ import annotations

import os

from .table import parse_mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from .table import Entry

_PATH = "/proc/self/mountinfo"


def mount_table(wanted: Container[str] | None = None) -> list[Entry]:
    """All mounts, oldest first; or those on the ``wanted`` mount points. OSError, ValueError."""
    return parse_mountinfo(_read_twice(), wanted)


def _read_twice() -> str:
    """The text of a kernel file that can change while it is read: read until two readings agree (fault 44)."""
    before = None
    for _ in range(10):
        with open(_PATH, "rb", buffering=0) as file:
            now = file.readall()
        if now == before:
            return os.fsdecode(now)
        before = now
    raise ValueError(f"{_PATH} does not keep still")
