"""Faults that a test planted: the call they hit does something else than the command would."""

from __future__ import annotations

import os
import sys
import time

from .machine import Machine, Uninterruptible, deadly, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .shapes import Box, Fault, State

    Act = Callable[[], int]


def count_call(state: State, name: str) -> tuple[int, Fault | None]:
    """Count this call; give back its number and the fault that is meant for it."""
    state["total"] += 1
    state["counts"][name] = state["counts"].get(name, 0) + 1
    for fault in state["faults"]:
        if fault["command"] not in (None, name):
            continue
        number = state["total"] if fault["command"] is None else state["counts"][name]
        if fault["first"] <= number and (fault["last"] is None or number <= fault["last"]):
            return state["total"], fault
    return state["total"], None


def run_with(fault: Fault, machine: Machine, act: Act) -> int:
    handlers: dict[str, Callable[[Fault, Machine, Act], int]] = {
        "fail": say_fail,
        "hang": hang,
        "ignore-term": ignore_term,
        "unkillable": unkillable,
        "thaws": thaws,
        "late": late,
        "say-ok-do-nothing": lambda *_: 0,
        "do-it-say-fail": do_it_say_fail,
        "slow": slow,
        "flood": flood,
        "kill-parent": kill_parent,
        "freeze": freeze,
        "torn": torn,
    }
    return handlers[fault["kind"]](fault, machine, act)


def say_fail(fault: Fault, machine: Machine, act: Act) -> int:
    if fault["text"]:
        warn(fault["text"])
    return fault["status"]


def hang(fault: Fault, machine: Machine, act: Act) -> int:
    while True:
        machine.store.wait_for_change()


def ignore_term(fault: Fault, machine: Machine, act: Act) -> int:
    import signal

    for number in deadly():
        signal.signal(number, signal.SIG_IGN)
    return hang(fault, machine, act)


def unkillable(fault: Fault, machine: Machine, act: Act) -> int:
    with Uninterruptible(machine.store):
        return hang(fault, machine, act)


def thaws(fault: Fault, machine: Machine, act: Act) -> int:
    """In the kernel for a while, where no signal counts; then it does its work, and hears what was sent to it."""
    with Uninterruptible(machine.store):
        machine.store.sleep(fault["seconds"])
        return act()


def late(fault: Fault, machine: Machine, act: Act) -> int:
    """Seem to hang; when the command has been killed its work is done all the same by a process of its own."""
    parent = os.getpid()
    if os.fork() == 0:
        os.setsid()
        silence()
        while os.getppid() == parent:
            time.sleep(0.01)
        machine.store.sleep(fault["seconds"])
        os._exit(act())
    return hang(fault, machine, act)


def silence() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def do_it_say_fail(fault: Fault, machine: Machine, act: Act) -> int:
    act()
    return say_fail(fault, machine, act)


def slow(fault: Fault, machine: Machine, act: Act) -> int:
    machine.store.sleep(fault["seconds"])
    return act()


def flood(fault: Fault, machine: Machine, act: Act) -> int:
    line = "x" * 1023 + "\n"
    for _ in range(1024 * fault["megabytes"]):
        sys.stdout.write(line)
    return act()


def freeze(fault: Fault, machine: Machine, act: Act) -> int:
    """Every portal of the storage box falls silent as the command begins."""
    from . import box

    def silence(known: Box) -> None:
        for portal in known["portals"].values():
            portal.update({"state": "frozen", "since": time.time()})

    path = machine.state()["storage"]
    box.change(path, silence)
    box.publish(path)
    return act()


def torn(fault: Fault, machine: Machine, act: Act) -> int:
    """End the output in the middle."""
    import io

    stream, sys.stdout = sys.stdout, io.StringIO()
    status = act()
    text, sys.stdout = sys.stdout.getvalue(), stream
    sys.stdout.write(text[: len(text) // 2])
    return status


def kill_parent(fault: Fault, machine: Machine, act: Act) -> int:
    """Kill the caller before the work is done, after it, or while this orphan still does it."""
    import signal

    parent = os.getppid()
    status = act() if fault["when"] == "after" else 0
    sys.stdout.flush()
    os.kill(parent, signal.SIGKILL)
    return act() if fault["when"] == "during" else status
