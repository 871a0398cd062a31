"""Locks of a run."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import pytest

from envstart.engine.locking import Locks
from envstart.errors import NoSpaceError
from envstart.system import rundir
from envstart.system.host import Host


def test_no_room_for_the_directory_of_locks(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first start of a host whose /var/run is full. Devices are not touched without a lock."""

    def full() -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def devices() -> None:
        async with Locks(host, ["iscsi"]):
            raise AssertionError("two could be at it")

    told: list[str] = []
    vars(host.report)["warn"] = told.append
    monkeypatch.setattr(rundir, "_directory", full)
    with Locks(host, ["jail1"]):
        (line,) = told
        assert line == f"cannot make {rundir.DIR}: No space left on device; going on without a lock"
    with pytest.raises(NoSpaceError):
        host.complete(devices())
    assert NoSpaceError.status == 75
