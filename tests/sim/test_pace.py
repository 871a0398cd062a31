"""How the waits of tests follow the speed of the machine."""

from __future__ import annotations

import time

import pace
import pytest


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 1), (0.08, 1), (0.15, 1), (0.45, 3), (3.0, 20)])
def test_a_machine_is_never_too_fast(seconds: float, expected: int) -> None:
    assert pace.pace_of(seconds) == expected


def test_lengths_of_time_grow_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "pace", lambda: 5)
    keys = {"TIMEOUT": "4", "NFS_MOUNT_TIMEOUT": "1", "PROBE_TIMEOUT": "soon", "ATTEMPTS": "3"}
    assert pace.paced(keys) == {**keys, "TIMEOUT": "20", "NFS_MOUNT_TIMEOUT": "5"}


@pytest.mark.parametrize(
    ("seconds", "in_time"), [(4.0, True), (4 * 2 + 1.5, True), (4 * 2 + 5, True), (4 * 2 + 7, False)]
)
def test_work_may_take_as_long_as_the_machine_needs_just_now(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, in_time: bool
) -> None:
    monkeypatch.setattr(pace, "pace", lambda: 2)
    monkeypatch.setattr(pace, "burden", lambda: 6.0)
    assert pace.in_time(time.monotonic() - seconds, 1, waiting=4) == in_time


def test_a_burden_is_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_PROGRAM", "import time; time.sleep(0.6)")
    assert (pace.burden() > 3, pace.pace.__wrapped__()) == (True, 1)


def test_this_machine_has_a_pace() -> None:
    assert pace.pace() >= 1
