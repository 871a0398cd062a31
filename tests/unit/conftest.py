"""A host of the tests' own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from envstart.system import rundir
from envstart.system.host import Host
from envstart.system.log import Report


@pytest.fixture
def signals() -> Iterator[None]:
    """Give this process's signals, which a host takes for itself, back, so that ^C still ends the tests."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> Host:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path))
    return Host(Report("test"))
