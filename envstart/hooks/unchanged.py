"""Take the short way of a start: if all is as the last one left it, nothing is to do, and little has to be imported.

A start that finds all mounted records its argv, the files that its configuration came from, and what the mount table
must show (remember.py). This module compares. Whatever differs, or is odd in any way, is left to dispatch.py, which
knows nothing of this; so a mistake here can cost time, and nothing else.

This module, and all that it imports, takes from posix what others take from os: that is os without the half that is
written in Python, which costs a millisecond to import, a tenth of such a start. (ctypes, by which FreeBSD's mount table
is read, has use for os itself.)
"""

from __future__ import annotations

import marshal
import posix
import stat
import sys

from envstart.engine import start_marks
from envstart.mounts.table import Entry, Table
from envstart.system import probe, process, rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Seconds that a directory may take here; dispatch.py gives it PROBE_TIMEOUT.
_QUICK = 0.5
# Of the sum of a record: what is left of it after a division by this, in bytes. zlib and binascii would be one import
# more.
_PRIME, _SUM = (1 << 61) - 1, 8
LINUX = not sys.platform.startswith("freebsd")


def is_unchanged(program: str, argv: list[str], hung: list[process.Child]) -> bool:
    """Tell whether a start has nothing to do. A child that got no answer from a directory is added to ``hung``."""
    if posix.geteuid():
        return False
    for descriptor in (0, 1, 2):
        # What is opened here must not become one of them.
        posix.fstat(descriptor)
    recorded_argv, files, lock, ground, points, rows = unseal(rundir.read(record_name(program, argv)))
    if recorded_argv != argv or any(identity(path) != recorded for path, recorded in files):
        return False
    claimed, _ = rundir.claim_lock(lock)
    if claimed is None:
        # Somebody works on it: dispatch.py waits.
        return False
    try:
        if not _shown(ground, points, rows) or not _usable(rows, hung):
            return False
        start_marks.record_start(lock)
        return True
    finally:
        posix.close(claimed)


def _shown(ground: tuple[str, str], points: set[str], rows: list[Any]) -> bool:
    """Tell whether the mount table shows each row, alone in its place, and read-write or read-only as it was.

    ``ground``: device of the root file system, and what of it is shown: it lasts as long as the record does, and each
    line of Linux's table has a lone slash in it.
    """
    if LINUX:
        from envstart.mounts.table_linux import mount_table
    else:
        from envstart.mounts.table_freebsd import mount_table
    table = Table([Entry("", "/", "", (), *ground), *mount_table(points)])
    for point, fstype, source, read_only, _ in rows:
        stack = table.at(point)
        if len(stack) != 1 or stack[0].read_only != read_only or not table.shows(stack[0], fstype, source, linux=LINUX):
            return False
        if table.hidden_by(point) or table.shadowed_by(stack[0]):
            return False
    return True


def _usable(rows: list[Any], hung: list[process.Child]) -> bool:
    """Tell whether all of them answer, and nobody else uses the jail or VM; one child asks."""
    answers, child = process.within(_QUICK, probe.examine, [row[4] for row in rows])
    if answers is None:
        hung.append(child)
        return False
    heard = [answer for number, answer in answers if not number]
    return len(heard) == len(rows) and all(map(_is_fine, rows, heard))


def _is_fine(row: Any, answer: tuple[str, str, tuple[str, int] | None, str]) -> bool:
    _, fstype, _, read_only, (_, required, *_) = row
    status, detail, *_ = answer
    if status == probe.EMPTY:
        return not required and probe.may_be_empty(fstype, detail, read_only=read_only)
    return answer == (probe.USABLE, "", None, "")


def record_name(program: str, argv: Sequence[str]) -> str:
    """Return the name of the record's file; ValueError if argv is not as CBSD writes it (docs/cbsd.md#arguments)."""
    name = argv[argv.index("-j") + 1]
    if "/" in name:
        raise ValueError(name)
    return f"{name[:64]}.{program}"


def identity(path: str) -> tuple[int, ...] | None:
    """Return what changes with every change of a file, its owner and its mode; None if it does not exist."""
    try:
        link = posix.lstat(path)
        status = posix.stat(path) if stat.S_ISLNK(link.st_mode) else link
    except FileNotFoundError:
        return None
    return (link.st_ino, link.st_ctime_ns, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


def seal(record: tuple[Any, ...]) -> bytes:
    """Return a record as bytes; ValueError."""
    data = marshal.dumps(record)
    return _sum(data) + data


def unseal(data: bytes) -> Any:
    """Return a record from its bytes; ValueError if they have changed, by which marshal could end the interpreter."""
    if _sum(data[_SUM:]) != data[:_SUM]:
        raise ValueError("it was changed")
    return marshal.loads(data[_SUM:])


def _sum(data: bytes) -> bytes:
    return (int.from_bytes(data, "big") % _PRIME).to_bytes(_SUM, "big")
