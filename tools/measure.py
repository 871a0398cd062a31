"""What one whole process takes: wall time, processor time, and the largest size of its memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What one process, with the children it waited for, took: seconds and seconds."""

    wall: float
    cpu: float


class Command(NamedTuple):
    """A command line, its environment, and the exit statuses that are right."""

    argv: Sequence[str]
    environment: dict[str, str]
    statuses: Sequence[int] = (0,)


def measure(command: Command) -> Cost:
    """Run it once."""
    began = time.perf_counter()
    process = _popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(command, process)
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def in_turn(commands: Sequence[Command], rounds: int, before: Callable[[], object] = lambda: None) -> list[Cost]:
    """Return the median of each command; they take turns at being first, and ``before`` each run is not measured."""
    costs: list[list[Cost]] = [[] for _ in commands]
    for number in range(-1, rounds):
        order = range(len(commands))
        for which in order if number % 2 else reversed(order):
            before()
            cost = measure(commands[which])
            # The first one warms up.
            if number >= 0:
                costs[which].append(cost)
    return [Cost(statistics.median(c.wall for c in one), statistics.median(c.cpu for c in one)) for one in costs]


def peak(command: Command) -> int:
    """Return the largest resident size, in KiB, of one of its processes.

    Sampled: the ru_maxrss of wait4(2) begins with the size of the process that forked, which is this one.
    """
    process = _popen(command)
    most = 0
    while process.poll() is None:
        most = max(most, *(_high_water(pid) for pid in _tree(process.pid)))
        time.sleep(0.0005)
    _check(command, process)
    return most


def _popen(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.argv,
        cwd="/",
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _check(command: Command, process: subprocess.Popen[bytes]) -> None:
    if process.returncode not in command.statuses:
        raise SystemExit(f"bench: {command.argv[0]} ended with {process.returncode}, not {command.statuses}")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
