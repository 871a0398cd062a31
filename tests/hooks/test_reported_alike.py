"""One observation is told alike by every verb, and by each that does nothing about it which other one does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cbsd import SERVER, Site
from toy import Toy

# A row of a document: jail, directory, state, level, and what was found, but for what changes at each look.
Row = tuple[str, str, str, str, str]


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    """Yield a host on which jail1 runs with all that it needs mounted, and jail2 does not."""
    with Site(tmp_path, getfsstat=True) as site:
        toy = Toy(site)
        toy.add("jail2")
        site.preset()
        site.world.jail("jail1", 2)
        toy.set("jail1", jid=2, status=1)
        yield toy


def healthy(_: Toy) -> None:
    pass


def stacked(cbsd: Toy) -> None:
    cbsd.site.preset("data")


def wrong_source(cbsd: Toy) -> None:
    missing(cbsd)
    cbsd.site.world.mount("tmpfs", cbsd.site.point("data"), "tmpfs")


def hidden(cbsd: Toy) -> None:
    cbsd.site.world.mount("tmpfs", cbsd.workdir / "jails-fstab", "tmpfs")


def broken(cbsd: Toy) -> None:
    cbsd.site.world.stale(cbsd.site.point("data"))


def hung(cbsd: Toy) -> None:
    cbsd.site.world.freeze(SERVER)


def missing(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))


def read_only(cbsd: Toy) -> None:
    missing(cbsd)
    cbsd.site.world.mount(cbsd.site.source("data"), cbsd.site.point("data"), opts=["ro"])


def lacking(cbsd: Toy) -> None:
    cbsd.site.configure(REQUIRE_DATA="something")


def stopped_but_mounted(cbsd: Toy) -> None:
    cbsd.site.preset(name="jail2")


def stopped_and_stacked(cbsd: Toy) -> None:
    stopped_but_mounted(cbsd)
    cbsd.site.preset("data", name="jail2")


def stopped_and_broken(cbsd: Toy) -> None:
    stopped_but_mounted(cbsd)
    cbsd.site.world.stale(cbsd.site.point("data", "jail2"))


def started_a_moment_ago(cbsd: Toy) -> None:
    assert cbsd.site.start(name="jail2").returncode == 0


def started_and_broken(cbsd: Toy) -> None:
    started_a_moment_ago(cbsd)
    cbsd.site.world.stale(cbsd.site.point("data", "jail2"))


def started_and_stopped(cbsd: Toy) -> None:
    started_a_moment_ago(cbsd)
    assert cbsd.site.stop(name="jail2").returncode == 0


def files_below(cbsd: Toy) -> None:
    (cbsd.site.point("data", "jail2") / "file").write_text("")


def configuration(cbsd: Toy) -> None:
    cbsd.site.conf.write_text(cbsd.site.conf.read_text() + "[jail1]\nTYPO=1\n")


def configuration_at_rest(cbsd: Toy) -> None:
    cbsd.site.world.stop_jail("jail1")
    cbsd.set("jail1", jid=0, status=0)
    for which in ("data", "system", "fstab"):
        cbsd.site.world.command("umount", str(cbsd.site.point(which)))
    configuration(cbsd)


# What each is called, whose it is, and whether recover, or orphans, acts on it.
SCENES: dict[Callable[[Toy], None], tuple[str, str, str]] = {
    healthy: ("", "", ""),
    stacked: ("stacked", "critical", ""),
    wrong_source: ("wrong source", "critical", ""),
    hidden: ("stacked", "critical", ""),
    broken: ("broken", "critical", "recover"),
    hung: ("no answer", "critical", "recover"),
    missing: ("not mounted", "critical", ""),
    read_only: ("degraded", "warning", ""),
    lacking: ("not usable", "critical", ""),
    stopped_but_mounted: ("orphan", "warning", "orphans"),
    stopped_and_stacked: ("orphan", "warning", "orphans"),
    stopped_and_broken: ("orphan", "warning", "orphans recover"),
    started_a_moment_ago: ("", "", ""),
    started_and_broken: ("broken", "critical", "recover"),
    started_and_stopped: ("", "", ""),
    files_below: ("hidden files", "warning", ""),
    configuration: ("configuration", "unknown", ""),
    configuration_at_rest: ("", "", ""),
}


def hand(cbsd: Toy, *words: str) -> Any:
    return cbsd.site.hand(*words, "-w", str(cbsd.workdir))


def problems(records: list[dict[str, Any]]) -> set[Row]:
    bad = [row for row in records if row["level"] != "ok"]
    steady = {"no answer": "pid"}
    return {
        (row["environment"], row["directory"], row["state"], row["level"], steady.get(row["state"], row["found"]))
        for row in bad
    }


@pytest.mark.first(10)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_case_c6_one_observation(cbsd: Toy, scene: Callable[[Toy], None]) -> None:
    scene(cbsd)
    state, level, acting = SCENES[scene]
    checked = hand(cbsd, "check", "--json")
    document = json.loads(checked.stdout)
    told = problems(document["directories"])
    assert {(row[2], row[3]) for row in told} == ({(state, level)} if state else set())
    assert checked.returncode == {"": 0, "warning": 1, "critical": 2, "unknown": 3}[level]
    # The status of both says the same, but that a warning of what runs is no reason for status not to be content.
    shown = hand(cbsd, "status", "--json")
    rows = [row for group in json.loads(shown.stdout)["environments"] for row in group["directories"]]
    assert problems(rows) == told
    assert shown.returncode == (1 if told and state != "degraded" else 0)
    text = hand(cbsd, "status").stdout
    assert all(row[2] in text and row[4] in text for row in told)
    # Whoever acts on it, or who does.
    dry = hand(cbsd, "recover", "-n")
    # A mistake that no mount depends on keeps nothing from being unmounted.
    assert dry.returncode == 0
    for environment, directory, word, _, _ in told:
        if word in ("configuration", "hidden files"):
            continue
        lines = [line for line in dry.stdout.splitlines() if line.startswith(f"# {environment}: {directory}: ")]
        assert len(lines) == 1, (directory, dry.stdout)
        assert word in lines[0] or "recover" in acting
        assert "recover" in acting or "recover does nothing about it: " in lines[0] or "orphans --stop" in lines[0]
    assert bool([line for line in dry.stdout.splitlines() if not line.startswith("#")]) == ("recover" in acting)
    listed = hand(cbsd, "orphans")
    assert {row[4] for row in told if row[2] == "orphan"} == set(listed.stdout.splitlines())
    if scene in (started_a_moment_ago, started_and_broken):
        assert "jail2: not running, started" in listed.stderr
    # What a start of it would find.
    for name in {row[0] for row in told if row[2] not in ("orphan", "hidden files", "configuration")}:
        plan = hand(cbsd, "plan", "nfs", "-j", name).stdout
        for _, directory, word, _, _ in told:
            found = [line for line in plan.splitlines() if line.startswith(f"# {directory}: ")]
            assert any(word in line for line in found), plan


def test_case_c1_status_of_all_looks_too(cbsd: Toy) -> None:
    cbsd.site.world.freeze(SERVER)
    ended = hand(cbsd, "status")
    assert (ended.returncode, ended.stdout.count("no answer")) == (1, 3)
