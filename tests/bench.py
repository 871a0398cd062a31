"""What the hook costs beside a hook in plain sh(1): ``make bench``.

Whole processes, from the launcher on, in a mount namespace of our own, with the real mount command (in some rows with a
delay before it, which both sides pay). Figures are medians of pairs in which the two take turns at being first; the
ratios mean more than the seconds, which belong to this machine. ``-h`` shows the options.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from demo import enter_namespace

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
SAMPLE = Path(__file__).resolve().parent / "bench_sample.sh"
PLACES = ("jails-data/j1-data", "jails-system/j1", "jails-fstab/j1", "jails-rcconf/j1")
TIMEOUT = 3
_MS_BIND, _MNT_DETACH = 4096, 2
_PATH = "/sbin:/usr/sbin:/bin:/usr/bin"
# At least so many entries; a host has some of its own.
_TABLES = (10, 100, 1_000, 10_000)


class Cost(NamedTuple):
    """What one process, with the children it waited for, took: seconds and seconds."""

    wall: float
    cpu: float


class Row(NamedTuple):
    """One line of the result. ``sample`` and ``peaks`` are None where there is nothing to compare with."""

    title: str
    pairs: int
    hook: Cost
    sample: Cost | None
    hook_peak: int
    sample_peak: int | None


class Command(NamedTuple):
    """A command line, its environment, and the exit statuses that are right."""

    argv: Sequence[str]
    environment: dict[str, str]
    statuses: Sequence[int] = (0,)


def measure(command: Command) -> Cost:
    """Run it once."""
    began = time.perf_counter()
    process = _popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(command, process)
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def peak(command: Command) -> int:
    """The largest resident size, in KiB, of one of its processes.

    Sampled: the ru_maxrss of wait4(2) begins with the size of the process that forked, which is this one.
    """
    process = _popen(command)
    most = 0
    while process.poll() is None:
        most = max(most, *(_high_water(pid) for pid in _tree(process.pid)))
        time.sleep(0.0005)
    _check(command, process)
    return most


def _popen(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.argv,
        cwd="/",
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _check(command: Command, process: subprocess.Popen[bytes]) -> None:
    if process.returncode not in command.statuses:
        raise SystemExit(f"bench: {command.argv[0]} ended with {process.returncode}, not {command.statuses}")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


class Place:
    """A CBSD workdir with the jail j1 and four directories for it, in a namespace of our own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.workdir = top / "jails"
        self._libc = ctypes.CDLL(None, use_errno=True)
        for place in PLACES:
            (self.workdir / place).mkdir(parents=True)
        for kind in ("data", "system", "fstab", "rcconf"):
            (top / "store" / kind / "j1").mkdir(parents=True)
            (top / "store" / kind / "j1" / "file").touch()
        (self.workdir / "etc").mkdir()
        self._write(
            self.workdir / "etc" / "env_start_nullfs.conf",
            f'NULLFS_ROOT_DIR="{top}/store"\nMOUNT_RCCONF="1"\nTIMEOUT="{TIMEOUT}"\nLOG_FACILITY="none"\n',
        )
        self._write(top / "sample.conf", f'ROOT_DIR="{top}/store"\nMOUNT_TIMEOUT="{TIMEOUT}"\n')

    def hook(self, *statuses: int) -> Command:
        """envstart, as CBSD calls it."""
        return Command([str(ROOT / "hooks/env_start_nullfs"), *self._words()], {"PATH": _PATH}, statuses or (0,))

    def sample(self, *statuses: int) -> Command:
        """The hook in sh(1), with the same words."""
        known = {"PATH": _PATH, "SAMPLE_CONF": f"{self.top}/sample.conf"}
        return Command(["/bin/sh", str(SAMPLE), *self._words()], known, statuses or (0,))

    def stop(self) -> Command:
        """envstart, taking all away."""
        return Command([str(ROOT / "hooks/env_stop_nullfs"), *self._words()], {"PATH": _PATH})

    def _words(self) -> list[str]:
        data, system, fstab, rcconf = (str(self.workdir / place) for place in PLACES)
        return ["-d", data, "-f", fstab, "-j", "j1", "-r", os.path.dirname(rcconf), "-s", system]

    def clear(self) -> None:
        """Take all four away, whatever is there."""
        for place in PLACES:
            while not self._libc.umount2(os.fsencode(self.workdir / place), _MNT_DETACH):
                pass

    def fill(self, entries: int) -> None:
        """Bring the mount table to so many entries."""
        directory = self.top / "fillers"
        directory.mkdir(exist_ok=True)
        for number in range(self.entries(), entries):
            point = directory / str(number)
            point.mkdir()
            self._bind(self.top / "store", point)

    @staticmethod
    def entries() -> int:
        """How many entries the mount table has."""
        return Path("/proc/self/mountinfo").read_bytes().count(b"\n")

    @contextmanager
    def delay(self, seconds: float) -> Iterator[None]:
        """Every mount command takes so long before it does its work."""
        place, real, front = os.path.realpath(shutil.which("mount") or ""), self.top / "real", self.top / "front"
        shutil.copy(place, real)
        self._write(front, f'#!/bin/sh\n/bin/sleep {seconds}\nexec "{real}" "$@"\n')
        front.chmod(0o755)
        self._bind(front, Path(place))
        try:
            yield
        finally:
            self._libc.umount2(os.fsencode(place), _MNT_DETACH)

    def _bind(self, source: Path, point: Path) -> None:
        if self._libc.mount(os.fsencode(source), os.fsencode(point), None, _MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"cannot bind {source} on {point}")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o644)


def compare(
    title: str, pairs: int, hook: Command, sample: Command | None, before: Callable[[], object] = lambda: None
) -> Row:
    """Medians of ``pairs`` pairs; ``before`` is done before each run, and not measured."""
    print(f"  {title} ...", end="", file=sys.stderr, flush=True)
    costs: dict[bool, list[Cost]] = {True: [], False: []}

    def once(ours: bool) -> None:
        command = hook if ours else sample
        if command is not None:
            before()
            costs[ours].append(measure(command))

    once(True)
    once(False)
    costs[True].clear()
    costs[False].clear()
    for number in range(pairs):
        for ours in (True, False) if number % 2 else (False, True):
            once(ours)
    peaks = [_peaks(command, before) if command is not None else None for command in (hook, sample)]
    print(" done", file=sys.stderr)
    medians = [_median(costs[ours]) for ours in (True, False) if costs[ours]]
    return Row(title, pairs, medians[0], medians[1] if sample else None, peaks[0] or 0, peaks[1])


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def _peaks(command: Command, before: Callable[[], object]) -> int:
    found = []
    for _ in range(3):
        before()
        found.append(peak(command))
    return max(found)


def rows(place: Place, pairs: int) -> Iterator[Row]:
    """All rows, one after the other."""
    nothing = Command([str(PYTHON), "-I", "-c", "pass"], {})
    yield compare("python -I -c pass", pairs, nothing, None)
    yield compare("four already mounted", pairs, place.hook(), place.sample())
    yield compare("four to mount", pairs, place.hook(), place.sample(), place.clear)
    with place.delay(0.05):
        yield compare("four to mount, 50 ms each", pairs, place.hook(), place.sample(), place.clear)

    def mounted() -> None:
        place.clear()
        measure(place.hook())

    yield compare("four to take away", pairs, place.stop(), None, mounted)
    with place.delay(1000):
        # 75: try again; 124: timeout(1).
        yield compare(DEAD, pairs, place.hook(os.EX_TEMPFAIL), place.sample(124), place.clear)
    mounted()
    for entries in _TABLES:
        place.fill(entries)
        yield compare(f"already mounted, {place.entries():,} in the table", pairs, place.hook(), place.sample())


DEAD = f"dead server, {TIMEOUT} s allowed"
MEANINGS = (
    ("python -I -c pass", "the floor: an interpreter that does nothing; below the column hook"),
    ("four already mounted", "the usual case: a jail is started again, and all is there"),
    ("four to mount", "real bind mounts; the hook checks each of them, before and after"),
    ("four to mount, 50 ms each", "every mount command waits 50 ms before it mounts, as a server on a network does"),
    ("four to take away", "the hook alone: the sample has no counterpart"),
    (DEAD, "the mount command never returns; the hook may take 3 s in all, the sample 3 s for each mount"),
    ("already mounted, N in the table", "as the second row, beside other mounts of the host"),
)


def table(found: Sequence[Row]) -> str:
    """The rows, aligned."""
    lines = [("", "pairs", "wall: hook", "sh", "ratio", "cpu: hook", "sh", "ratio", "peak: hook", "sh")]
    for row in found:
        wall, cpu = _pair(row, "wall"), _pair(row, "cpu")
        peaks = (f"{row.hook_peak / 1024:.1f}", f"{row.sample_peak / 1024:.1f}" if row.sample_peak else "")
        lines.append((row.title, str(row.pairs), *wall, *cpu, *peaks))
    lines.insert(1, ("", "", "ms", "ms", "", "ms", "ms", "", "MiB", "MiB"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _pair(row: Row, figure: str) -> tuple[str, str, str]:
    hook: float = getattr(row.hook, figure)
    if row.sample is None:
        return _milliseconds(hook), "", ""
    sample: float = getattr(row.sample, figure)
    return _milliseconds(hook), _milliseconds(sample), f"{hook / sample:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def past_the_deadline(found: Sequence[Row]) -> str:
    """The row of the dead server in the words that matter."""
    for row in found:
        if row.title == DEAD and row.sample is not None:
            hook, sample = (cost.wall - TIMEOUT for cost in (row.hook, row.sample))
            return f"dead server: the hook ends {hook:+.2f} s, the sample {sample:+.2f} s from the {TIMEOUT} s allowed"
    return ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what the hook costs beside a hook in plain sh(1)")
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="pairs for each row (20)")
    parser.add_argument("--quick", action="store_true", help="five pairs, for a first look")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("bench: needs Linux: nothing else has mount namespaces to measure in", file=sys.stderr)
        return os.EX_UNAVAILABLE
    enter_namespace("bench")
    pairs = 5 if arguments.quick else max(1, arguments.pairs)
    top = Path(tempfile.mkdtemp(prefix="envstart-bench-")).resolve()
    try:
        place = Place(top)
        # The hook does not rely on a configuration that was changed a moment ago.
        time.sleep(2.5)
        found = list(rows(place, pairs))
    finally:
        remove(top)
    interpreter = subprocess.run([PYTHON, "-VV"], capture_output=True, text=True, check=True).stdout.strip()
    shell = os.path.realpath("/bin/sh")
    if arguments.json:
        about = {"interpreter": interpreter, "shell": shell, "system": platform.platform(), "timeout": TIMEOUT}
        print(json.dumps({**about, "rows": [_record(row) for row in found]}, indent=2))
        return 0
    print(f"{interpreter}; sh is {shell}; {platform.platform()}; {os.cpu_count()} processors")
    print(f"medians of {pairs} pairs; ratio: hook / sh, less is better\n")
    print(table(found), f"\n{past_the_deadline(found)}\n", sep="\n")
    width = max(len(title) for title, _ in MEANINGS)
    print("\n".join(f"{title.ljust(width)}  {meaning}" for title, meaning in MEANINGS))
    return 0


def _record(row: Row) -> dict[str, object]:
    sample = row.sample._asdict() if row.sample else None
    return {**row._asdict(), "hook": row.hook._asdict(), "sample": sample}


def remove(top: Path) -> None:
    """Delete what we made; first the mounts, the newest first, so that nothing is deleted through one."""
    libc = ctypes.CDLL(None)
    lines = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(lines):
        if point.startswith(f"{top}/"):
            libc.umount2(os.fsencode(point), _MNT_DETACH)
    shutil.rmtree(top)


if __name__ == "__main__":
    sys.exit(main())
