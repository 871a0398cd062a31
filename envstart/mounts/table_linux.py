"""Linux's mount table, ``/proc/self/mountinfo`` (proc(5)), read without touching a mount point; its file systems."""

from __future__ import annotations

import posix
import sys

from envstart.mounts.table import Entry, unvis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_PATH = "/proc/self/mountinfo"
# What the kernel writes as octal numbers, as vis(3) does.
_ESCAPED = " \t\n#\\"
# What os.fsdecode() takes.
_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def mount_table(points: Collection[str] | None = None) -> list[Entry]:
    """Return all mounts, or those on these mount points, oldest first. OSError, ValueError.

    A table that changes while it is read can lose a line. So it is read until two readings agree (docs/faults.md, 44),
    unless only some mount points count: what is listed there is mounted, and if one is lacking, all will be read.
    """
    before, now = None, _reading()
    for _ in range(10):
        if points is not None or now == before:
            return parse_mountinfo(now, points)
        before, now = now, _reading()
    raise ValueError(f"{_PATH} does not keep still")


def has_file_system(name: str) -> bool:
    """Tell whether the kernel has this file system, or a module of it that is loaded when it is mounted."""
    try:
        with open("/proc/filesystems", encoding="ascii", errors="replace") as file:
            if any(line.split()[-1:] == [name] for line in file):
                return True
        with open(f"/lib/modules/{posix.uname().release}/modules.dep", encoding="ascii", errors="replace") as file:
            return any(f"/{name}.ko" in line.partition(":")[0] for line in file)
    except OSError:
        return False


def _reading() -> bytes:
    # Without a buffer: each piece that the kernel gives is read to where it belongs.
    with open(_PATH, "rb", buffering=0) as file:
        return file.read()


def parse_mountinfo(data: bytes, points: Collection[str] | None = None) -> list[Entry]:
    """Read ``/proc/self/mountinfo``, or what it says of these mount points. ValueError when it is not whole."""
    if not data.endswith(b"\n"):
        raise ValueError("its last line is not whole" if data else "it is empty")
    entries = []
    for row in data.split(b"\n")[:-1] if points is None else _lines_of(data, points):
        line = row.decode(*_ENCODING)
        front, dash, back = line.partition(" - ")
        fields, tail = front.split(" "), back.split(" ")
        if not dash or len(fields) < 6 or len(tail) < 3:
            raise ValueError(f"unknown line {line!r}")
        root, point = unvis(fields[3]), unvis(fields[4])
        options = fields[5].split(",") + tail[2].split(",")
        entries.append(Entry(unvis(tail[1]), point, tail[0], options, fields[2], root))
    return entries


def _lines_of(data: bytes, points: Collection[str]) -> list[bytes]:
    """Return the lines of these mount points, without a look at all the others: of 10,000 they are a handful."""
    if any(character in path for path in points for character in _ESCAPED):
        # Which of them the kernel escapes depends on its version.
        return [row for row in data.split(b"\n")[:-1] if unvis(_point_of(row).decode(*_ENCODING)) in points]
    rows: dict[int, bytes] = {}
    for path in [path.encode(*_ENCODING) for path in points]:
        # The options that follow a mount point begin with rw or ro; after what a bind mount shows, a path follows.
        pattern = b" " + path + b" r"
        at = data.find(pattern)
        while at >= 0:
            begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            row = data[begin:end]
            if _point_of(row) == path:
                rows[begin] = row
            at = data.find(pattern, at + 1)
    return [rows[begin] for begin in sorted(rows)]


def _point_of(row: bytes) -> bytes:
    return (row.split(b" ", 5) + [b""] * 5)[4]
