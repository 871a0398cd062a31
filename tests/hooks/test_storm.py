"""Fifty hooks at any moment that start and stop the same environments and others, for ENVSTART_STORM seconds.

`make proof-storm` takes 30. In whatever order they come, each directory is mounted once in a life, and nobody starves.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import real
from cbsd import NFS4, NULLFS, Site, Variant
from real import Namespace, Workdir

SECONDS = float(os.environ.get("ENVSTART_STORM", "6"))
HOOKS = 50
NAMES = [f"e{number}" for number in range(5)]
# Seconds of TIMEOUT: who gets no turn in this time was starved.
PATIENCE = 60.0


class Run(NamedTuple):
    """How one hook ended."""

    name: str
    verb: str
    status: int
    err: str
    seconds: float


def storm(begin: Callable[[str, str], subprocess.Popen[str]]) -> list[Run]:
    """All hooks that were run, HOOKS at a time; ``begin`` starts one of a verb and an environment."""
    end = time.monotonic() + SECONDS
    runs: list[Run] = []

    def worker(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < end:
            # Half of the workers stay with one environment, so that there are always several at the same.
            name = NAMES[0] if number % 2 else dice.choice(NAMES)
            verb, began = dice.choice(("start", "stop")), time.monotonic()
            process = begin(verb, name)
            _, err = process.communicate(timeout=2 * PATIENCE)
            runs.append(Run(name, verb, process.returncode, err, time.monotonic() - began))

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(HOOKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs


def well(runs: Sequence[Run], lives: Sequence[tuple[str, str]]) -> None:
    """No hook failed, starved or hung; ``lives``: each command in order, as (mount or umount, directory)."""
    assert {(run.status, run.err) for run in runs} == {(0, "")}
    taken = sorted(run.seconds for run in runs)
    there: set[str] = set()
    for what, point in lives:
        # One mount in a life: none while it is there, and one before it is taken away.
        assert (point in there) == (what == "umount"), (
            f"{what} {point}, which is{'' if point in there else ' not'} there"
        )
        (there.add if what == "mount" else there.discard)(point)
    median, slowest = statistics.median(taken), taken[-1]
    print(f"storm: {len(runs)} hooks, {len(lives)} mounts and unmounts, median {median:.2f} s, slowest {slowest:.2f} s")
    assert len(runs) >= HOOKS
    assert len(lives) > len(NAMES) * 3
    # Each waits for those that were before it, and a few that were not: there are never more than HOOKS of them.
    assert slowest < min(PATIENCE / 2, 4 * median + 4)


@pytest.mark.proof
# Fifty hooks at once leave nothing to others.
@pytest.mark.alone
@pytest.mark.parametrize("variant", [NFS4, NULLFS], ids=["nfs", "nullfs"])
def test_a_storm_on_the_simulated_freebsd(tmp_path: Path, variant: Variant) -> None:
    with Site(tmp_path, variant, getfsstat=True) as site:
        slow = {"NFS_MOUNT_TIMEOUT": "30"} if variant is NFS4 else {}
        site.configure(TIMEOUT=f"{PATIENCE:.0f}", PROBE_TIMEOUT="30", **slow)
        for name in NAMES:
            site.add(name)
        runs = storm(site.begin)
        lives = [
            ("umount" if call["name"] == "umount" else "mount", call["argv"][-1])
            for call in site.world.calls()
            if call["name"].startswith(("mount_", "umount"))
        ]
        well(runs, lives)
        for name in NAMES:
            assert site.stop(name=name).returncode == 0
        assert site.table == []


@pytest.mark.proof
# Fifty hooks at once leave nothing to others.
@pytest.mark.alone
@pytest.mark.skipif(bool(real.why_not()), reason=real.why_not())
def test_a_storm_on_real_mounts(namespace: Namespace) -> None:
    cbsd = Workdir(namespace)
    cbsd.configure(TIMEOUT=int(PATIENCE), PROBE_TIMEOUT=30)
    for name in NAMES:
        cbsd.add(name)
    log = namespace.top / "log"
    for command in ("mount", "umount"):
        # Only what was done: a command that fails is not a life.
        namespace.in_front(command, f'for last; do :; done; "$REAL" "$@" && echo "{command} $last" >> "{log}"; exit')
    runs = storm(lambda verb, name: cbsd.begin(verb, name=name))
    well(runs, [tuple(line.split(" ", 1)) for line in log.read_text().splitlines()])  # type: ignore[misc]
    for name in NAMES:
        cbsd.stop(name=name)
    assert namespace.points() == []
