"""Processes that are no children of ours."""

from __future__ import annotations

import os

import pytest

from envstart.system import process_table


def test_a_process_is_still_itself_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """ntpd(8) at boot: the kernel adds to the time of the boot, which is another one then (sys/kern/kern_proc.c)."""
    import psutil

    pid, step, boot = os.getpid(), 0.0, psutil.boot_time
    began = process_table.start_time(pid)
    create = psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() + step)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create(process) + step)
    for step in (0.0, 3600.5, -1e6):  # noqa: B007 (the two above read it)
        assert process_table.same_process(pid, began)
        assert not process_table.same_process(pid, began + 3)
    assert not process_table.same_process(pid, 0.0)
