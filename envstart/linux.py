"""What Linux tells in files: its mount table, ``/proc/self/mountinfo`` (proc(5)), which answers without touching a
mount point, and the file systems of the kernel."""

from __future__ import annotations

import os

from .table import parse_mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from .table import Entry

_PATH = "/proc/self/mountinfo"


def mount_table(wanted: Collection[str] | None = None) -> list[Entry]:
    """All mounts, oldest first; or those on the ``wanted`` mount points. OSError, ValueError.

    A table that changes while it is read can lose a line. So it is read until two readings agree (fault 44), unless
    only the ``wanted`` ones count: what is found of them is there, and if one is lacking, all will be read.
    """
    before, now = None, _reading()
    for _ in range(10):
        if wanted is not None or now == before:
            return parse_mountinfo(now, wanted)
        before, now = now, _reading()
    raise ValueError(f"{_PATH} does not keep still")


def has_file_system(name: str) -> bool:
    """Whether the kernel has it, or a module of it that is loaded when it is mounted."""
    try:
        with open("/proc/filesystems", encoding="ascii", errors="replace") as file:
            if any(line.split()[-1:] == [name] for line in file):
                return True
        with open(f"/lib/modules/{os.uname().release}/modules.dep", encoding="ascii", errors="replace") as file:
            return any(f"/{name}.ko" in line.partition(":")[0] for line in file)
    except OSError:
        return False


def _reading() -> bytes:
    with open(_PATH, "rb", buffering=0) as file:
        return file.readall()
