"""Planted faults do what they say, to the call they are meant for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.world import World

HOST = "files.example.com"
SOURCE = f"{HOST}:/nfs/data"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.create(tmp_path / "machine") as world:
        world.export(HOST, "/nfs/data")
        (world.path / "mnt").mkdir()
        yield world


def mount_argv(world: World) -> list[str]:
    return [str(world.path / "bin/mount_nfs"), "-o", "nfsv4", SOURCE, str(world.path / "mnt")]


def mount(world: World) -> subprocess.CompletedProcess[str]:
    return world.command("mount_nfs", "-o", "nfsv4", SOURCE, str(world.path / "mnt"))


def until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_fail_hits_the_nth_call_once(world: World) -> None:
    world.command("mount")
    world.fault("mount", nth=2, text="mount: no", status=3)
    ended = [world.command("mount") for _ in range(3)]
    assert [one.returncode for one in ended] == [0, 3, 0]
    assert ended[1].stderr == "mount: no\n"


def test_fail_hits_any_command_by_number(world: World) -> None:
    world.fault(nth=2, times=None)
    assert [world.command(name).returncode for name in ("mount", "df", "mount")] == [0, 1, 1]
    world.clear_faults()
    assert world.command("mount").returncode == 0


def test_misspelt_faults_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="no fault"):
        world.fault("mount", "explode")
    with pytest.raises(ValueError, match="no fault"):
        world.fault("mount_zfs")


@pytest.mark.parametrize(("kind", "ends"), [("hang", True), ("ignore-term", False)])
def test_hanging(world: World, kind: str, *, ends: bool) -> None:
    world.fault("mount_nfs", kind)
    with subprocess.Popen(mount_argv(world), stdin=subprocess.DEVNULL) as process:
        until(lambda: world.calls("mount_nfs"))
        time.sleep(0.2)
        process.terminate()
        time.sleep(0.2)
        assert process.poll() == (-signal.SIGTERM if ends else None)
        process.kill()
    assert world.table() == []


def test_late_mounts_after_its_death(world: World) -> None:
    world.fault("mount_nfs", "late", seconds=0.3)
    with subprocess.Popen(mount_argv(world), stdin=subprocess.DEVNULL) as process:
        until(lambda: world.calls("mount_nfs"))
        time.sleep(0.2)
        assert world.table() == []
        process.terminate()
        process.wait()
        assert world.table() == []
        until(world.table)


def test_liars(world: World) -> None:
    world.fault("mount_nfs", "say-ok-do-nothing")
    assert mount(world).returncode == 0
    assert world.table() == []
    world.fault("mount_nfs", "do-it-say-fail", text="mount_nfs: bad luck")
    ended = mount(world)
    assert (ended.returncode, ended.stderr) == (1, "mount_nfs: bad luck\n")
    assert len(world.table()) == 1


def test_slow_and_flood(world: World) -> None:
    world.fault("mount", "slow", seconds=0.3)
    began = time.monotonic()
    assert world.command("mount").returncode == 0
    assert time.monotonic() - began >= 0.3
    world.fault("mount", "flood", megabytes=2)
    assert len(world.command("mount").stdout) > 2 << 20


@pytest.mark.parametrize(("when", "mounted"), [("before", 0), ("after", 1), ("during", 1)])
def test_kill_parent(world: World, when: str, mounted: int) -> None:
    world.fault("mount_nfs", "kill-parent", when=when)
    code = "import subprocess, sys; subprocess.run(sys.argv[1:]); print('survived')"
    parent = [sys.executable, "-c", code, *mount_argv(world)]
    ended = subprocess.run(parent, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")
    if mounted:
        until(world.table)
    assert len(world.table()) == mounted


def test_unkillable_is_spared_by_a_process_of_the_machine(world: World) -> None:
    world.fault("mount_nfs", "unkillable")
    with subprocess.Popen(mount_argv(world), stdin=subprocess.DEVNULL, start_new_session=True) as process:
        until(lambda: str(process.pid) in world.state["stuck"])
        code = "; ".join(
            [
                f"import sys, os, time; sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})",
                f"from sim import shim; shim.install({str(world.path)!r})",
                f"os.kill({process.pid}, 9); os.killpg({os.getpgid(process.pid)}, 9)",
            ]
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        time.sleep(0.2)
        assert process.poll() is None
        assert world.state["stuck"][str(process.pid)] is True
        world.close()
        process.wait(10)
