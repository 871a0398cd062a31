"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sim import tracing

# Before anything imports the package.
tracing.begun(os.environ.get(tracing.VARIABLE, ""))

from cbsd import Site  # noqa: E402
from real import Namespace, namespace_of  # noqa: E402


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a CBSD host with the environment jail1, whose directories an NFS server exports; nothing is mounted yet."""
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """Yield a mount namespace for real mounts."""
    with namespace_of(tmp_path) as namespace:
        yield namespace


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the ways of a test that come after its first ones as proof, before anybody shuffles or selects them."""
    ways: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("first")
        if marker:
            test = item.nodeid.partition("[")[0]
            ways[test] += 1
            if ways[test] > marker.args[0]:
                item.add_marker("proof")
    yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many command boundaries were played (test_lifecycle.py), by variant."""
    played: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        played[report.nodeid.partition("[")[2].rstrip("]")] += dict(report.user_properties).get("boundaries", 0)
    for variant, number in sorted((+played).items()):
        terminalreporter.write_line(f"{number:6} ways in which a command of {variant} can go wrong")
    if +played:
        terminalreporter.write_line(f"{sum(played.values()):6} in all, after each one clean start and one clean stop")


# A configuration that others can write is refused, and with the caller's umask the tests' own could be one.
os.umask(0o022)

# What is started by & of a script, or by nohup, is deaf to these, and so would be all that the tests start.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
