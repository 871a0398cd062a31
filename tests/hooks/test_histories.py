"""Histories that once broke a promise, and one for each scene; `make proof-histories` and `make soak` draw others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from machine.history import Act, BrokenPromiseError, play
from machine.scene import KINDS

# A life of two environments, and the loss of power in the middle of it.
LIFE: tuple[Act, ...] = (
    ("start", "jail1"),
    ("both", "start", "jail1", "start", "jail2"),
    ("check", "jail1"),
    ("kill", "stop", "jail1", "after", 3),
    ("start", "jail1"),
    ("reboot",),
    ("start", "jail2"),
)

# What was wrong, and the shortest history that showed it.
FOUND: dict[str, tuple[str, Sequence[Act]]] = {
    "what was unmounted when a signal came, and not yet looked for, was not brought back": (
        "nullfs",
        [("start", "jail2"), ("signal", "stop", "jail2", "SIGHUP", 5)],
    ),
    "what a killed start had mounted before it was exported was of no use to the next one": (
        "nfs",
        [("unexport", "jail1"), ("kill", "start", "jail1", "before", 4), ("end",)],
    ),
    "two starts at once made the directory that holds the mount points of both": (
        "gluster, data alone",
        [("both", "start", "jail1", "start", "jail2")],
    ),
}


@pytest.mark.parametrize("title", [kind.title for kind in KINDS])
def test_a_life_with_a_crash(title: str) -> None:
    play(title, LIFE)


@pytest.mark.parametrize("what", FOUND)
def test_what_was_wrong_once(what: str) -> None:
    play(*FOUND[what])


def test_a_promise_that_is_broken_is_told_with_its_history() -> None:
    """What somebody mounts over the data directory is noticed: the machine is not blind."""
    with pytest.raises(BrokenPromiseError) as caught:
        play("nfs", [("start", "jail1"), ("cover", "jail1")])
    assert str(caught.value).splitlines()[:3] == ["nfs:", "    ('start', 'jail1'),", "    ('cover', 'jail1'),"]
    assert "mounted twice" in str(caught.value)
