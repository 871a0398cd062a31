"""The short way of a start: is all as it was when the last one found it well? Then there is nothing to do, and what a
start needs for everything else is not even imported.

A start that finds all mounted writes down what it took for that: its argv, which files its configuration came from, and
what the mount table must show. The next one compares. Whatever is not just so, or odd in any way, is left to
dispatch.py, which knows nothing of this; so a mistake here can cost time, and nothing else.

This module, and all that it imports, takes from posix what others take from os: that is os without the half that is
written in Python, which costs a millisecond to import, a tenth of such a start. (ctypes, by which FreeBSD's mount table
is read, has use for os itself.)
"""

from __future__ import annotations

import marshal
import posix
import sys
import time

from envstart.engine import start_marks
from envstart.mounts.table import Entry, Table
from envstart.paths import ancestors
from envstart.system import locks, probe, process, rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envstart.engine.plan import Plan, Step
    from envstart.system.host import Host

# Seconds that a directory may take here; dispatch.py gives it PROBE_TIMEOUT.
_QUICK = 0.5
# Seconds that a file must have been left alone: two changes within one tick of the file system's clock look the same.
SETTLED = 2.0
# Of the sum of a record: what is left of it after a division by this, in bytes. zlib and binascii would be one import
# more.
_PRIME, _SUM = (1 << 61) - 1, 8
_LINUX = not sys.platform.startswith("freebsd")


def main(program: str, argv: Sequence[str]) -> int:
    """Run the hook ``program`` and return its exit status."""
    began = time.monotonic()
    hung: list[process.Child] = []
    try:
        if _is_so(program, list(argv), hung):
            return 0
    except Exception:
        # Whatever it is, it is looked at again, and told, below.
        pass
    from envstart.hooks import dispatch

    return dispatch.main(program, argv, began, hung)


def _is_so(program: str, argv: list[str], hung: list[process.Child]) -> bool:
    """Whether a start has nothing to do. ``hung``: a child that asked a directory in vain."""
    if posix.geteuid():
        return False
    for descriptor in (0, 1, 2):
        # What is opened here must not become one of them.
        posix.fstat(descriptor)
    recorded_argv, files, lock, ground, points, rows = _unsealed(rundir.read(_name(program, argv)))
    if recorded_argv != argv or any(_identity(path) != identity for path, identity in files):
        return False
    claimed, _ = locks.claim(lock)
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
    """Whether the mount table shows each of them, alone in its place, and read-write or read-only as it was.

    ``ground``: device of the root file system, and what of it is shown: it lasts as long as the record does, and each
    line of Linux's table has a lone slash in it.
    """
    if _LINUX:
        from envstart.mounts.table_linux import mount_table
    else:
        from envstart.mounts.table_freebsd import mount_table
    root = Entry("", "/", "", (), *ground)
    table = Table([root, *mount_table(points)])
    for point, fstype, source, read_only, _ in rows:
        stack = table.at(point)
        if (
            len(stack) != 1
            or stack[0].read_only != read_only
            or not table.shows(stack[0], fstype, source, linux=_LINUX)
        ):
            return False
        if table.hidden_by(point) or table.shadowed_by(stack[0]):
            return False
    return True


def _usable(rows: list[Any], hung: list[process.Child]) -> bool:
    """Whether all of them answer, and nobody else uses the environment; asked by one child."""
    answers, child = process.within(_QUICK, probe.examine, [row[4] for row in rows])
    if answers is None:
        hung.append(child)
        return False
    heard = [answer for number, answer in answers if not number]
    return len(heard) == len(rows) and all(map(_is_fine, rows, heard))


def _is_fine(row: Any, answer: tuple[str, str, tuple[str, int] | None, str]) -> bool:
    _, fstype, _, read_only, (_, required, *_) = row
    word, detail, *_ = answer
    if word == probe.EMPTY:
        return not required and probe.may_be_empty(fstype, detail, read_only=read_only)
    return answer == (probe.USABLE, "", None, "")


# What a start leaves for the next.


def remember(program: str, argv: Sequence[str], plan: Plan, host: Host) -> None:
    """After a start that found all well: write down what it took for that, if the next one can tell by it."""
    from envstart.errors import EnvstartError

    try:
        record = _record(program, argv, plan, host)
        if record is not None:
            rundir.write(_name(program, argv), _sealed(marshal.dumps(record)))
    except (EnvstartError, OSError, ValueError):
        # The start was good, and is over. The next one takes the long way.
        pass


def _record(program: str, argv: Sequence[str], plan: Plan, host: Host) -> tuple[Any, ...] | None:
    path = plan.config.path
    table = host.complete(host.mounts())
    rows = [known(step, table, _LINUX) for step in plan.steps]
    if path is None or len(plan.locks) != 1 or None in rows:
        return None
    # What has changed since the plan was made would pass for what it was made of.
    makers, settled = _makers(), time.time() - SETTLED - host.deadline.elapsed()
    if any(posix.stat(file).st_ctime > settled for file in (path, *makers)):
        return None
    from envstart.config import load
    from envstart.engine import circuit_breaker, record

    places = load.candidates(plan.backend, plan.environment.workdir)
    if path not in places:
        # Given by -c, in one word or in two.
        places = [path]
    # Those before the one that was found are looked at first, should they come.
    absent = places[: places.index(path)]
    absent += [rundir.path(circuit_breaker.record(server)) for step in plan.steps for server in step.servers]
    recorded = record.path(plan.environment)
    if any(map(_identity, absent)) or _identity(recorded) is None:
        # Each start tries to write its record.
        return None
    ground = table.at("/")[-1]
    return (
        list(argv),
        [(file, _identity(file)) for file in (*absent, path, recorded, *makers)],
        plan.locks[0],
        (ground.device, ground.root),
        _places([row for row in rows if row]),
        rows,
    )


def known(step: Step, table: Table, linux: bool) -> tuple[Any, ...] | None:
    """What the table must show for a step to be so; None if that cannot be told by it alone."""
    from envstart.steps.mount import Mount
    from envstart.steps.mountpoint import drift

    stack = table.at(step.point)
    if type(step) is not Mount or step.lower is not None or step.shared or len(stack) != 1:
        return None
    if drift(stack[0], step.options):
        return None
    if not table.shows(stack[0], step.fstype, step.source, linux=linux):
        return None
    if step.fstype == "nullfs" and table.below(step.source if linux else stack[0].source):
        # What is not shown of it is told by each start (sources.py).
        return None
    look = (step.point, tuple(step.required), step.lease(step.point), False)
    return step.point, step.fstype, step.source, stack[0].read_only, look


def _sealed(data: bytes) -> bytes:
    """With its sum before it: marshal can end the interpreter by what a disk or a power loss has made of a record."""
    return (int.from_bytes(data, "big") % _PRIME).to_bytes(_SUM, "big") + data


def _unsealed(text: bytes) -> Any:
    """The record; ValueError if it is not as it was written."""
    if _sealed(text[_SUM:]) != text:
        raise ValueError("it was changed")
    return marshal.loads(text[_SUM:])


def _places(rows: list[Any]) -> set[str]:
    """The directories on which a mount says something about these: their own, and those that they, and sources on this
    host, lie in."""
    own = [row[0] for row in rows] + [row[2] for row in rows if row[1] == "nullfs"]
    return {place for path in own for place in (path, *ancestors(path))}


def _identity(path: str) -> tuple[int, ...] | None:
    """What changes with every change of a file, its owner and its mode; None if it is not there."""
    try:
        link, status = posix.lstat(path), posix.stat(path)
    except FileNotFoundError:
        return None
    return (link.st_ino, link.st_ctime_ns, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


def _makers() -> list[str]:
    """Return the files of all modules of the package that are loaded: another version of any can make another plan."""
    package = __name__.partition(".")[0]
    return [str(module.__file__) for name, module in sys.modules.items() if name.partition(".")[0] == package]


def _name(program: str, argv: Sequence[str]) -> str:
    """The file of the record. ValueError for a command line that is not as CBSD writes it, with a word for each value
    (docs/cbsd.md#arguments)."""
    name = argv[argv.index("-j") + 1]
    if "/" in name:
        raise ValueError(name)
    return f"{name[:64]}.{program}"
