"""The tools of ``make bench`` measure what they say, and its document tells of what it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import bench
import pytest
from measure import Command, Cost, in_turn, measure, peak

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def python(text: str, *statuses: int) -> Command:
    return Command([sys.executable, "-I", "-c", text], {}, statuses or (0,))


def test_the_time_of_a_sleeper_is_not_its_work() -> None:
    cost = measure(python("import time; time.sleep(0.3)"))
    assert 0.3 < cost.wall < 5
    assert cost.cpu < 0.3


def test_the_work_of_a_child_counts() -> None:
    busy = "import time; e = time.process_time() + 0.3\nwhile time.process_time() < e: pass"
    cost = measure(python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"))
    assert cost.cpu > 0.3


def test_the_peak_is_the_command_s_own() -> None:
    """Not that of this process, which is larger than the small one."""
    ballast = bytearray(b"x") * (100 << 20)
    small = peak(python("import time; time.sleep(0.1)"))
    large = peak(python("import time; b = bytearray(b'x') * (60 << 20); time.sleep(0.1)"))
    assert 1 << 10 < small < 60 << 10 < large < 100 << 10
    del ballast


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        measure(python("raise SystemExit(3)"))
    measure(python("raise SystemExit(3)", 3))


def test_the_commands_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    commands = [python(f"open({str(log)!r}, 'a').write({word!r})") for word in "ab"]
    assert len(in_turn(commands, 3, lambda: log.write_text(log.read_text() + "."))) == 2
    assert log.read_text() == ".a.b.b.a.a.b.b.a"


COST = Cost(0.0123, 0.01)
TITLES = [bench.ALREADY, bench.MOUNT, bench.SLOWLY, bench.STOP, bench.DEAD,
          *map(bench.BESIDE, (10, 100, 1000, 10000)), bench.READING, *map(bench.CHECK, (1, 10, 100, 1000)),
          bench.STATUS(1000)]  # fmt: skip


def found(**changes: Cost) -> list[bench.Row]:
    rows = [bench.Row(title, COST, COST, COST, 9000, 8500) for title in TITLES]
    rows = [row._replace(sample=None) if row.title.startswith(("check", "status")) else row for row in rows]
    rows[2] = rows[2]._replace(hook=Cost(0.075, 0.03), sample=Cost(0.23, 0.03))
    rows[4] = rows[4]._replace(hook=Cost(2.9, 0.03))
    return [row._replace(hook=changes.get(row.title, row.hook)) for row in rows]


def test_limits_that_are_kept() -> None:
    text, kept = bench.report(found(), 7)
    assert kept
    assert text.count("| kept ") == len(bench.LIMITS)
    assert "Medians of 7 rounds." in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 2


SLOW = {
    bench.ALREADY: Cost(0.02, 0.01),
    bench.SLOWLY: Cost(0.12, 0.03),
    bench.DEAD: Cost(3.21, 0.03),
    bench.READING: Cost(0.05, 0.01),
    bench.CHECK(1000): Cost(0.1, 0.01),
}


@pytest.mark.parametrize("title", SLOW)
def test_a_limit_that_is_not_kept(title: str) -> None:
    text, kept = bench.report(found(**{title: SLOW[title]}), 7)
    assert not kept
    assert "NOT KEPT" in text


@pytest.mark.parametrize(("row", "most"), [(0, 8), (3, 14)])
def test_memory_counts(row: int, most: int) -> None:
    rows = found()
    rows[row] = rows[row]._replace(peak=8500 + (most << 10))
    assert bench.report(rows, 7)[1]
    rows[row] = rows[row]._replace(peak=8501 + (most << 10))
    assert not bench.report(rows, 7)[1]


def test_the_document_has_every_row_and_every_limit() -> None:
    text = bench.DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(bench.INTRODUCTION)
    cells = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")}
    assert cells == {"case", "", *(limit.case for limit in bench.LIMITS), *TITLES}
