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
    assert 2 <= pace.elapsed(time.monotonic() - 10) < 10


def test_this_machine_has_a_pace() -> None:
    assert pace.pace() >= 1
