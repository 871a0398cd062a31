"""Line and branch coverage of envstart/ by all processes of a run, where ENVSTART_COVERAGE names a file for it.

A process adds the arcs to that file, when it ends, which nobody has told yet: most of a thousand short processes have
none, and a data file for each would cost more than the tests. tools/suite.py makes a report of it.
"""

from __future__ import annotations

import atexit
import marshal
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "ENVSTART_COVERAGE"
ROOT = Path(__file__).resolve().parents[2]
# The real ones: in a process of a simulated machine os has others.
_OPEN, _EXIT = os.open, os._exit
_LENGTH = 4

# By file; an arc from line to line as coverage's tracer packs it into one number.
Arcs = dict[str, set[int]]


class Tracing:
    """What this process has run of the package, as far as the file at PATH does not have it."""

    def __init__(self, path: str) -> None:
        import coverage

        self.path = path
        self.position = 0
        self.told: Arcs = {}
        self.coverage: Any = coverage.Coverage(data_file=None, config_file=str(ROOT / "setup.cfg"))

    def start(self) -> None:
        """Trace from now on, in children that are forked as well, to the end by exit() or _exit()."""
        self.coverage.start()
        # To go through its data base takes as long as a hook.
        self.arcs: Arcs = self.coverage._collector.data
        atexit.register(self.tell)
        self._leave_by(self._exit)

    def stop(self) -> None:
        """Go on without: what follows is not the package, and what went before is for the parent to tell."""
        sys.settrace(None)
        self._leave_by(_EXIT)

    def _exit(self, status: int) -> None:
        self.tell()
        _EXIT(status)

    def _leave_by(self, leave: Callable[[int], Any]) -> None:
        for module in (os, sys.modules["posix"]):
            vars(module)["_exit"] = leave

    def tell(self) -> None:
        """Add to the file what it lacks."""
        news = {file: arcs - self.told.get(file, set()) for file, arcs in self.arcs.copy().items()}
        record = marshal.dumps({file: list(arcs) for file, arcs in news.items() if arcs})
        if any(news.values()):
            file = _OPEN(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(file, len(record).to_bytes(_LENGTH, "big") + record)
            os.close(file)

    def learn(self) -> None:
        """Read what others have told since."""
        with open(self.path, "rb") as stream:
            stream.seek(self.position)
            self.position += _read(stream.read(), self.told)


def _read(content: bytes, told: Arcs) -> int:
    """Add each record that is whole to TOLD, and return how long they are together."""
    position = 0
    while len(content) > position + _LENGTH:
        begin = position + _LENGTH
        end = begin + int.from_bytes(content[position:begin], "big")
        if len(content) < end:
            break
        for file, arcs in marshal.loads(content[begin:end]).items():
            told.setdefault(file, set()).update(arcs)
        position = end
    return position


def arcs_of(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Return the arcs of each file that the processes of a run have told."""
    told: Arcs = {}
    _read(path.read_bytes(), told)
    return {file: [_unpacked(arc) for arc in arcs] for file, arcs in told.items()}


def _unpacked(arc: int) -> tuple[int, int]:
    """Return the two lines of an arc (CTracer_record_pair() of coverage/ctracer/tracer.c)."""
    first, second = arc & 0xFFFFFFF, arc >> 28 & 0xFFFFFFF
    return -first if arc & 1 << 56 else first, -second if arc & 1 << 57 else second


def begun(path: str) -> Tracing | None:
    """Return the tracing of this process, begun; None where there is no file for it."""
    if not path:
        return None
    tracing = Tracing(path)
    tracing.start()
    return tracing
