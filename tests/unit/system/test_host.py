"""The mount table that a run goes by is never older than the last command."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import stubs

from envstart.engine import executor, plan
from envstart.mounts.table import Entry
from envstart.system.host import Host
from envstart.system.loop import WaitUntil


def _entry(point: str) -> Entry:
    return Entry("a", point, "nfs")


def test_a_table_that_was_asked_for_before_a_command_ended_is_not_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ["/before", "/after"]

    async def read() -> list[Entry]:
        point = points.pop(0)
        await WaitUntil(time.monotonic() + 0.1)
        return [_entry(point)]

    async def command() -> None:
        await WaitUntil(time.monotonic() + 0.05)
        host.invalidate()

    monkeypatch.setattr(host, "_read_table", read)
    host.gather([host.mounts(), command()])
    assert host.complete(host.mounts()).at("/after")
    assert points == []


def test_one_reading_for_all_whose_commands_have_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table of 10,000 mounts each takes as long as a mount."""
    readings = []

    async def read() -> list[Entry]:
        readings.append(1)
        return [_entry("/mnt")]

    async def command() -> None:
        host.invalidate()
        await host.stack("/mnt")

    monkeypatch.setattr(host, "_read_table", read)
    host.gather([command() for _ in range(4)])
    assert len(readings) == 1


def test_a_stop_looks_again_after_it_has_touched_a_directory(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody's unmount is under way, which then fails, the table leaves the mount out."""
    point = str(tmp_path)
    tables = [[], [_entry(point)]]
    seen = []

    async def read() -> list[Entry]:
        return tables.pop(0) if len(tables) > 1 else tables[0]

    class Look(plan.Step):
        name, source, fstype = "data", "a", "nfs"

        def needs(self, other: plan.Step) -> bool:
            return False

        async def stop(self, host: Host) -> None:
            seen.append([str(entry) for entry in await host.stack(point)])

    step = Look()
    step.point = point
    host.platform = "freebsd"
    monkeypatch.setattr(host, "_read_table", read)
    executor.stop(plan.Plan("nfs", stubs.jail(), stubs.configured(tmp_path, "nfs", NFS_SERVER="a"), [step]), host)
    assert seen == [["a (nfs)"]]
