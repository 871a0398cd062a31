"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import Site
from real import Namespace, namespace_of


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A CBSD host with the environment jail1, whose directories an NFS server exports; nothing is mounted yet."""
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """A mount namespace for real mounts."""
    with namespace_of(tmp_path) as namespace:
        yield namespace


# A configuration that others can write is refused, and with the caller's umask the tests' own could be one.
os.umask(0o022)

# What is started by & of a script, or by nohup, is deaf to these, and so would be all that the tests start.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
