"""The tools of ``make bench`` measure what they say."""

from __future__ import annotations

import sys

import bench
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def python(text: str, *statuses: int) -> bench.Command:
    return bench.Command([sys.executable, "-I", "-c", text], {}, statuses or (0,))


def test_the_time_of_a_sleeper_is_not_its_work() -> None:
    cost = bench.measure(python("import time; time.sleep(0.3)"))
    assert 0.3 < cost.wall < 5
    assert cost.cpu < 0.3


def test_the_work_of_a_child_counts() -> None:
    busy = "import time; e = time.process_time() + 0.3\nwhile time.process_time() < e: pass"
    cost = bench.measure(python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"))
    assert cost.cpu > 0.3


def test_the_peak_is_the_command_s_own() -> None:
    """Not that of this process, which is larger than the small one."""
    ballast = bytearray(b"x") * (100 << 20)
    small = bench.peak(python("import time; time.sleep(0.1)"))
    large = bench.peak(python("import time; b = bytearray(b'x') * (60 << 20); time.sleep(0.1)"))
    assert 1 << 10 < small < 60 << 10 < large < 100 << 10
    del ballast


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        bench.measure(python("raise SystemExit(3)"))
    bench.measure(python("raise SystemExit(3)", 3))


def test_the_table_is_aligned() -> None:
    cost = bench.Cost(0.0123, 0.01)
    rows = [bench.Row("short", 5, cost, None, 2048, None), bench.Row("longer", 5, cost, cost, 2048, 1024)]
    header, units, short, longer = bench.table(rows).splitlines()
    assert longer.split() == ["longer", "5", "12.3", "12.3", "1.00", "10.0", "10.0", "1.00", "2.0", "1.0"]
    assert header.index("hook") + len("hook") == units.index("ms") + 2 == short.index("12.3") + 4
