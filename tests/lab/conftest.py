"""The guests of a run, and a line for each scenario with what was seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .guest import Wire
from .hosts import Node, Storage
from .image import demanded, image, why_not

# Where the console of a guest is kept whose scenario has failed.
KEPT = Path("lab-consoles")


class Hosts(NamedTuple):
    """The guests: a server, and two nodes, of which the second can be a server too."""

    storage: Storage
    node: Node
    second: Node

    def all(self) -> tuple[Storage, Node, Node]:
        return (self.storage, self.node, self.second)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """ENVSTART_LAB=short: the scenarios that a run of all tests has time for."""
    why = why_not()
    if why and demanded():
        raise pytest.UsageError(f"the lab must run here, but {why}")
    short = os.environ.get("ENVSTART_LAB") == "short"
    for item in items:
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
        elif short and not item.get_closest_marker("short"):
            item.add_marker(pytest.mark.skip(reason="make proof-lab LAB=all runs it"))


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Yield the guests, switched on; they are gone after the last scenario."""
    disk, wire, logs = image(), Wire(), tmp_path_factory.mktemp("consoles")
    found = Hosts(
        Storage("storage", 1, disk, wire, logs), Node("node1", 2, disk, wire, logs), Node("node2", 3, disk, wire, logs)
    )
    for guest in found.all():
        guest.boot()
    for guest in found.all():
        guest.ready()
    yield found
    for guest in found.all():
        guest.off()


@pytest.fixture
def hosts(machines: Hosts) -> Iterator[Hosts]:
    """Yield the guests, as they are before anything is started: server up, jail1 and jail2 on it, nothing mounted."""
    if not machines.storage.is_on:
        machines.storage.reset()
    machines.storage.serve("jail1", "jail2")
    if not machines.node.clean():
        machines.node.reset()
    machines.node.set_up("jail1", "jail2")
    yield machines
    for server in (machines.storage, machines.second):
        server.resume()
    assert machines.node.run("cat /tmp/decoyed").out.startswith("cat:"), "a program of CBSD's PATH was run"


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what a scenario has shown."""

    def say(text: str) -> None:
        request.node.user_properties.append(("seen", text))

    return say


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed and "hosts" in getattr(item, "funcargs", {}):
        KEPT.mkdir(exist_ok=True)
        for guest in item.funcargs["hosts"].all():  # type: ignore[attr-defined]
            shutil.copy(guest.console, KEPT / f"{item.name}.{guest.name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each scenario, and how many were as they should be."""
    stats = terminalreporter.stats
    passed, failed, skipped = (stats.get(word, []) for word in ("passed", "failed", "skipped"))
    for word, reports in (("ok", passed), ("FAILED", failed), ("left out", skipped)):
        for report in reports:
            name = report.nodeid.rpartition("::")[2].removeprefix("test_")
            told = dict(report.user_properties).get("seen", "")
            terminalreporter.write_line(f"{word:9} {name}: {told}".rstrip(": "))
    terminalreporter.write_line(f"{len(passed)} of {len(passed) + len(failed) + len(stats.get('error', []))} scenarios")
