"""The line on a terminal that says what is waited for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from terminal import Terminal

from envstart.errors import TemporaryError
from envstart.system import progress
from envstart.system.progress import Waiting

ROOT = Path(__file__).resolve().parents[3]


def wait(what: str, since: float = 0.0, until: float = 120.0) -> Waiting:
    return Waiting([], what, since, until)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("cannot unmount /x: it is busy (pid 5, root, sh)", "busy (pid 5, root, sh)"),
        ("cannot mount h:/x on /y: Connection refused; it was told", "Connection refused; it was told"),
        ("no answer in 5.0 s", "no answer in 5.0 s"),
        ("cannot go on", "cannot go on"),
    ],
)
def test_the_reason_of_a_message(message: str, reason: str) -> None:
    assert progress.reason(TemporaryError(message, hint="try again")) == reason


def test_case_c5_the_line_never_wraps_and_keeps_the_time() -> None:
    waits = [wait("/usr/jails/jails-data/jail1-data: busy (pid 5, root, sh)"), wait("another", 4.0)]
    whole = progress.line("env_stop_nfs: jail1: ", waits, 5.0, 200)
    assert whole == (
        "env_stop_nfs: jail1: waiting for /usr/jails/jails-data/jail1-data: busy (pid 5, root, sh), 5 of 120 s "
        "(and 1 more)"
    )
    for width in range(1, len(whole) + 3):
        line = progress.line("env_stop_nfs: jail1: ", waits, 5.0, width)
        assert len(line) <= width
        assert width < 20 or line.endswith("5 of 120 s (and 1 more)"[:width])
    assert progress.line("p: ", waits, 5.0, 60) == "p: waiting for /usr/jails/jails-..., 5 of 120 s (and 1 more)"
    # Each of these takes two columns.
    assert progress.line("p: ", [wait("目" * 40)], 5.0, 40) == "p: waiting for 目目目目目..., 5 of 120 s"


def test_case_c5_what_is_waited_for_side_by_side() -> None:
    waits = [wait("/b", 3.0, 10.0), wait("/a", 1.0, 10.0)]
    assert progress.full(5.0, waits, 4.0) == "5.0 s so far; waiting for /a, 3 of 9 s; waiting for /b, 1 of 7 s"
    assert progress.full(5.0, [], 4.0) == "5.0 s so far"


def test_a_name_cannot_move_the_cursor() -> None:
    assert progress.line("", [wait("/a\r\x1b[2J")], 0.0, 80) == "waiting for /a\\r\\x1b[2J, 0 of 120 s"


# What writes more than a terminal takes that nobody reads.
TALKATIVE = {
    "lines": "for _ in range(2000): one.note('y' * 300)",
    "progress": "for _ in range(20000): report.renew('y' * 79, 79)",
}


@pytest.mark.parametrize("way", TALKATIVE)
def test_a_terminal_that_nobody_reads_holds_nobody_up(way: str) -> None:
    """As one that was stopped by ^S, or whose line is down."""
    program = f"from envstart.system import log as report; one = report.Report('x')\n{TALKATIVE[way]}"
    with Terminal([sys.executable, "-c", program], {"PYTHONPATH": str(ROOT)}) as terminal:
        assert terminal.process.wait(timeout=20) == 0


def test_a_terminal_that_is_gone_ends_nobody() -> None:
    program = "import os, signal, time\n"
    program += "signal.signal(signal.SIGHUP, signal.SIG_IGN); from envstart.system import log as report\n"
    program += "one = report.Report('x'); one.note('begun'); time.sleep(1); one.note('y'); report.renew('y', 1)"
    terminal = Terminal([sys.executable, "-c", program], {"PYTHONPATH": str(ROOT)})
    terminal.until(lambda it: "begun" in "".join(it.lines))
    os.close(terminal._master)
    assert terminal.process.wait(timeout=20) == 0


def test_wide_characters_are_taken_away_whole() -> None:
    """The screen of this test gives a column to each: it must be wiped of twice as many."""
    program = "from envstart.system import log as report; report.renew('目目目目', 8); report.renew('abcd', 4)"
    with Terminal([sys.executable, "-c", program], {"PYTHONPATH": str(ROOT)}) as terminal:
        assert terminal.end() == 0
        assert (terminal.widest, terminal.lines) == (8, ["abcd    "])
