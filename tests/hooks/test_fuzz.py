"""Whole programs, as processes on the simulated FreeBSD, with whatever a caller, a file or a command says.

They never end with 70, never print a traceback, and what is refused has changed nothing. The readers alone:
tests/unit/test_fuzz.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import Ended, Site
from fuzzing import CONFIGURATION, MOUNTED, VERBS, WORDS, mutants, tries
from hypothesis import given
from hypothesis import strategies as st

# Statuses of sysexits(3) that a hook may end with, but for that of a bug.
STATUSES = {0, 1, 64, 66, 69, 75, 77, 78}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all inputs: what is refused leaves nothing behind that the next could meet."""
    with Site(tmp_path_factory.mktemp("fuzz")) as site:
        yield site


def told(ended: Ended) -> None:
    assert ended.returncode in STATUSES, ended
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "a bug in envstart" not in ended.stderr
    if ended.returncode == 64:
        assert ended.stderr.count("\n") == 1, ended.stderr
    for line in ended.stderr.splitlines():
        assert line.isprintable()


def no_nul(words: list[str]) -> list[str]:
    """As they can be handed to a program."""
    return [os.fsdecode(os.fsencode(word.replace("\0", "").encode("utf-8", "ignore"))) for word in words]


@tries(25)
@given(
    st.sampled_from(["env_start_nfs", "env_stop_nfs", "env_clone_nfs"]), st.lists(st.sampled_from(WORDS) | st.text())
)
def test_arguments_of_a_hook(site: Site, program: str, words: list[str]) -> None:
    site.world.forget_calls()
    told(site.world.run(program, *no_nul(words)))
    assert site.world.calls() == []
    assert site.table == []


@tries(25)
@given(st.lists(st.sampled_from(VERBS + WORDS), max_size=5))
def test_arguments_of_the_hand_tool(site: Site, words: list[str]) -> None:
    ended = site.hand(*words)
    # check and status have statuses of their own.
    assert ended.returncode in STATUSES | {2, 3}, ended
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "a bug in envstart" not in ended.stderr
    assert site.mounting == []


@tries(20)
@given(mutants([CONFIGURATION], [b"$(touch x)", b"`", b"'", b"[", b"TIMEOUT=5\n", b"\0"]))
def test_a_configuration(site: Site, data: bytes) -> None:
    path = site.world.path / "conf"
    path.write_bytes(data)
    path.chmod(0o644)
    told(site.world.run("env_start_nfs", *site.args(), "-n", "-c", str(path)))
    assert site.mounting == []


@tries(15)
@given(mutants([MOUNTED.encode()], [b'"node":"/",', b"null", b"[" * 3000]), st.sampled_from((0, 1)))
def test_what_mount_prints(tmp_path: Path, data: bytes, status: int) -> None:
    """A table that cannot be read is an error, and nothing is mounted because of it."""
    with Site(Path(tempfile.mkdtemp(dir=tmp_path))) as site:
        (site.world.path / "said").write_bytes(data)
        path = site.world.path / "bin/mount"
        path.unlink()
        path.write_text(f'#!/bin/sh\n/bin/cat "{site.world.path}/said"; exit {status}\n')
        path.chmod(0o755)
        ended = site.start()
        told(ended)
        assert ended.returncode != 0
        assert not data.startswith(b"[") or site.mounting == []
