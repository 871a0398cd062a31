"""Calls in children, which may be killed, and have little to live on."""

from __future__ import annotations

import contextlib
import os
import resource
import time

import pytest

from envstart.errors import TemporaryError
from envstart.system import process as children
from envstart.system.host import Host


def test_a_child_that_has_no_group_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envstart.system.process.posix.setsid", lambda: time.sleep(60))
    child, descriptor = children.call(abs, (-1,))
    os.close(descriptor)
    child.kill(9)
    assert os.waitpid(child.pid, 0)[1] == 9


@pytest.mark.parametrize("size", [0, 1, 4, 5, 8])
def test_a_child_that_is_killed_while_it_answers(host: Host, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    framed = children.framed
    monkeypatch.setattr(children, "framed", lambda answer: framed(answer)[:size])
    with pytest.raises(TemporaryError, match="a child ended without an answer: abs -1"):
        host.complete(host.call_with_timeout(abs, -1, timeout=5))


def test_a_child_needs_no_more_descriptors_than_its_pipe(host: Host) -> None:
    """What is short of them can still look at what it has mounted, and take it back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The wake-up descriptors of signals.py come first.
    host.signals.arm()
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0], 64) + 8, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for descriptor in (taken.pop(), taken.pop()):
            os.close(descriptor)
        assert host.complete(host.call_with_timeout(os.path.isdir, "/", timeout=5)) is True
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
