"""Files of our own from one run to another."""

from __future__ import annotations

import pytest

from envstart.system import rundir
from envstart.system.host import Host


def test_what_is_touched_is_never_too_young_to_be_seen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment that was rounded up would be in the future, as that of an earlier boot."""
    for moment in (1000.0006, 1000.0004, 1000.0):
        monkeypatch.setattr("time.monotonic", lambda moment=moment: moment)
        rundir.touch("mark")
        age = rundir.age("mark")
        assert age is not None
        assert 0 <= age < 0.001
