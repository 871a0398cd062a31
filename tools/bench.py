"""What the hook costs beside a hook in plain sh(1) and beside an interpreter that does nothing: ``make bench``.

Whole processes, from the launcher on, in a mount namespace of our own, with the real mount command (in some rows with a
delay before it, which both sides pay). Figures are medians of rounds in which all take turns at being first; the
ratios mean more than the seconds, which belong to the machine. Ends with 1 if a limit is not kept. ``-h`` shows the
options.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench_place import ROOT, TIMEOUT, Place, floor, interpreter, reading
from demo import enter_namespace
from measure import Command, Cost, in_turn, peak

DOCUMENT = ROOT / "docs" / "speed.md"
# At least so many entries; a host has some of its own.
_TABLES = (10, 100, 1_000, 10_000)
_ENVIRONMENTS = (1, 10, 100, 1_000)
_SLOW = 0.05
ALREADY, MOUNT, SLOWLY = "four already mounted", "four to mount", "four to mount, 50 ms each"
STOP, DEAD = "four to take away", f"dead server, TIMEOUT={TIMEOUT}"
BESIDE = "already mounted, {:,} in the table".format
READING = f"{BESIDE(_TABLES[-1])}; sh: reading it alone"
CHECK = "check, {:,} jails".format
STATUS = "status, {:,} jails".format


class Row(NamedTuple):
    """One line of the result. ``sample`` is None where a shell hook has no counterpart. Peaks in KiB."""

    title: str
    hook: Cost
    sample: Cost | None
    floor: Cost
    peak: int
    floor_peak: int


class Limit(NamedTuple):
    """What must be kept: ``figure`` of the rows is at most ``most``; ``steady``: however busy the machine is."""

    case: str
    against: str
    most: float
    unit: str
    figure: Callable[[dict[str, Row]], float]
    steady: bool = False


def _sh(row: Row) -> Cost:
    assert row.sample is not None
    return row.sample


def _peak(rows: dict[str, Row], titles: Sequence[str]) -> float:
    """Return the most memory that one of these takes more than the interpreter alone, in MiB."""
    return max((rows[title].peak - rows[title].floor_peak) / 1024 for title in titles)


LIMITS = (
    Limit(f"{ALREADY}, CPU time", "the sh hook", 1.0, "", lambda rows: rows[ALREADY].hook.cpu / _sh(rows[ALREADY]).cpu),
    Limit(f"{ALREADY}, wall", "bare python", 1.6, "", lambda rows: rows[ALREADY].hook.wall / rows[ALREADY].floor.wall),
    Limit(
        SLOWLY,
        "the slowest mount + bare python",
        1.8,
        "",
        lambda rows: rows[SLOWLY].hook.wall / (_SLOW + rows[SLOWLY].floor.wall),
    ),
    Limit(SLOWLY, "the sh hook", 0.45, "", lambda rows: rows[SLOWLY].hook.wall / _sh(rows[SLOWLY]).wall),
    Limit("dead server", "its TIMEOUT", 0.2, "s more", lambda rows: rows[DEAD].hook.wall - TIMEOUT),
    Limit(
        BESIDE(_TABLES[-1]),
        "reading the table alone",
        1.6,
        "",
        lambda rows: rows[READING].hook.wall / _sh(rows[READING]).wall,
    ),
    Limit(
        CHECK(1000),
        CHECK(100),
        8,
        "",
        lambda rows: rows[CHECK(1000)].hook.wall / rows[CHECK(100)].hook.wall,
        steady=True,
    ),
    Limit(STATUS(1000), CHECK(1000), 1.5, "", lambda rows: rows[STATUS(1000)].hook.wall / rows[CHECK(1000)].hook.wall),
    Limit(
        "peak memory of the short way",
        "bare python",
        8,
        "MiB more",
        lambda rows: _peak(rows, [ALREADY]),
        steady=True,
    ),
    Limit(
        "peak memory of any start or stop",
        "bare python",
        14,
        "MiB more",
        lambda rows: _peak(rows, [MOUNT, SLOWLY, STOP, DEAD]),
        steady=True,
    ),
)


def compare(
    title: str, rounds: int, hook: Command, sample: Command | None = None, before: Callable[[], object] = lambda: None
) -> Row:
    """Medians of so many rounds; ``before`` is done before each run, and not measured."""
    print(f"  {title} ...", end="", file=sys.stderr, flush=True)
    commands = [hook, floor(), *([sample] if sample else [])]
    costs = in_turn(commands, rounds, before)
    peaks = []
    for command in commands[:2]:
        found = []
        for _ in range(3):
            before()
            found.append(peak(command))
        peaks.append(max(found))
    print(" done", file=sys.stderr)
    return Row(title, costs[0], costs[2] if sample else None, costs[1], *peaks)


def rows(place: Place, rounds: int) -> Iterator[Row]:
    """All rows, one after the other."""
    hook, sample = place.hook(), place.sample()
    yield compare(ALREADY, rounds, hook, sample)
    yield compare(MOUNT, rounds, hook, sample, place.clear)
    with place.delay(_SLOW):
        yield compare(SLOWLY, rounds, hook, sample, place.clear)

    def mounted() -> None:
        place.clear()
        in_turn([hook], 1)

    yield compare(STOP, rounds, place.stop(), before=mounted)
    with place.delay(1000):
        # 75: try again; 124: timeout(1).
        yield compare(DEAD, rounds, place.hook(os.EX_TEMPFAIL), place.sample(124), place.clear)
    mounted()
    for entries in _TABLES:
        place.fill(entries)
        yield compare(BESIDE(entries), rounds, hook, sample)
    yield compare(READING, rounds, hook, reading())


def rows_of_many(place: Place, rounds: int) -> Iterator[Row]:
    """Rows of the tool, for more and more environments."""
    for count in _ENVIRONMENTS:
        place.run(count)
        yield compare(CHECK(count), rounds, place.hand("check"))
    for count in _ENVIRONMENTS[-1:]:
        yield compare(STATUS(count), rounds, place.hand("status"))


def report(found: Sequence[Row], rounds: int, *, steady: bool = False) -> tuple[str, bool]:
    """Return the measurements in Markdown, and whether all limits, or the ``steady`` ones, are kept."""
    known = {row.title: row for row in found}
    kept = True
    verdicts = [("case", "against", "at most", "measured", "")]
    for limit in LIMITS:
        figure = limit.figure(known)
        right = figure <= limit.most
        kept &= right or (steady and not limit.steady)
        most, measured = (f"{number:.2f} {limit.unit}".rstrip() for number in (limit.most, figure))
        verdicts.append((limit.case, limit.against, most, measured, "kept" if right else "NOT KEPT"))
    lines: list[Sequence[str]] = [
        ("", "wall ms", "sh", "bare", "of sh", "of bare", "CPU ms", "sh", "of sh", "peak MiB", "bare")
    ]
    for row in found:
        hook, sample, bare = row.hook, row.sample, row.floor
        wall = [_ms(hook.wall), _ms(sample.wall) if sample else "", _ms(bare.wall)]
        ratios = [f"{hook.wall / sample.wall:.2f}" if sample else "", f"{hook.wall / bare.wall:.2f}"]
        cpu = [_ms(hook.cpu), _ms(sample.cpu) if sample else "", f"{hook.cpu / sample.cpu:.2f}" if sample else ""]
        peaks = [f"{row.peak / 1024:.1f}", f"{row.floor_peak / 1024:.1f}"]
        lines.append((row.title, *wall, *ratios, *cpu, *peaks))
    few, many = (known[CHECK(count)].hook.wall for count in (100, 1000))
    release = ".".join(platform.release().split(".")[:2])
    about = f"Python {interpreter()}; {platform.system()} {release}; {os.cpu_count()} processors"
    text = (
        f"{about}. Medians of {rounds} rounds.\n\n{_table(verdicts)}\n{_table(lines)}\n"
        f"Each jail more costs a check {(many - few) / 900 * 1000:.2f} ms.\n"
    )
    return text, kept


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _table(lines: Sequence[Sequence[str]]) -> str:
    """In Markdown, aligned; the first column, and the second of words, to the left."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    left = [all(not line[column][:1].isdigit() for line in lines) for column in range(len(lines[0]))]
    text = ""
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if to_left else cell.rjust(width) for cell, width, to_left in zip(line, widths, left)
        ]
        text += f"| {' | '.join(cells)} |\n"
        if not number:
            text += (
                f"|{'|'.join('-' * (width + 1) + ('-' if to_left else ':') for width, to_left in zip(widths, left))}|\n"
            )
    return text


INTRODUCTION = """\
# What a hook costs

Made by `make bench WRITE=1`, which measures whole processes: `hooks/env_start_nullfs` as CBSD calls it, with real bind
mounts, beside a hook in plain sh(1) that does the same by df(1), timeout(1) and mount(8) (tools/bench_sample.sh), and
beside `python -c pass` of the same interpreter (bare), the three in turn. The ratios mean more than the milliseconds.
In "50 ms each" every mount command waits as long before it mounts, as a server on a network does; with a dead server
it never returns, and the shell hook, which gives up after the first one, has as long for each of the four. `check`
looks at all jails and VMs of a host, each of four directories.

"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what the hook costs beside a hook in plain sh(1)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds for each row (20)")
    parser.add_argument(
        "--steady", action="store_true", help="end with 1 only for limits that a busy machine keeps too"
    )
    parser.add_argument("--write", action="store_true", help=f"also write {DOCUMENT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("bench: needs Linux: nothing else has mount namespaces to measure in", file=sys.stderr)
        return os.EX_UNAVAILABLE
    enter_namespace("bench")
    rounds = max(1, arguments.rounds)
    found: list[Row] = []
    for measured in (rows, rows_of_many):
        place = Place(Path(tempfile.mkdtemp(prefix="envstart-bench-")).resolve())
        try:
            # The hook does not rely on a configuration that was changed a moment ago.
            time.sleep(2.5)
            found += measured(place, rounds)
        finally:
            place.remove()
    text, kept = report(found, rounds, steady=arguments.steady)
    print(text, end="")
    if arguments.write:
        DOCUMENT.write_text(INTRODUCTION + text, encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
