"""What the simulated machine tells of real processes is the same where there is no /proc, as on FreeBSD."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from sim import forked, users
from sim.names import machine_name, process_name
from sim.world import World


@pytest.fixture(params=[True, False], ids=["by /proc", "by ps and psutil"], autouse=True)
def proc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not users.PROC:
        pytest.skip("this system has no /proc")
    monkeypatch.setattr(users, "PROC", request.param)


def wait_for(pid: int, letter: str) -> None:
    until = time.monotonic() + 30
    while users.status_letter(pid) != letter:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_process_that_lives_and_one_that_nobody_has_waited_for() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            wait_for(process.pid, "S")
            assert (users.alive(process.pid), users.command_name(process.pid)) == (True, "sleep")
        finally:
            process.kill()
        wait_for(process.pid, "Z")
        assert not users.alive(process.pid)
    assert (users.alive(process.pid), users.status_letter(process.pid)) == (False, "")


def test_processes_of_a_machine(tmp_path: Path) -> None:
    if users.PROC:
        pytest.skip("by /proc they are known only if they are forked")
    with World.create(tmp_path / "machine") as world, World.create(tmp_path / "other") as other:
        world.fault("mount", "hang")
        argv = [str(world.path / "bin" / "mount")]
        with subprocess.Popen(argv, env={"LC_ALL": "C"}) as process:
            try:
                name, program = machine_name(str(world.path)), process_name(argv[0])
                assert (forked.processes(name), forked.processes(program)) == ([process.pid], [process.pid])
                assert forked.processes(machine_name(str(other.path))) == []
                assert forked.processes(process_name(f"{world.path}/bin/umount")) == []
            finally:
                process.kill()


@pytest.mark.parametrize("how", ["cwd", "file"])
def test_who_uses_what_lies_below_a_directory(tmp_path: Path, how: str) -> None:
    node = tmp_path / "node"
    node.mkdir()
    (node / "file").touch()
    with World.create(tmp_path / "machine") as world:
        world.mount("tmpfs", node, "tmpfs")
        (mount,) = world.state["mounts"][-1:]
        descriptor = os.open(node / "file", os.O_RDWR) if how == "file" else -1
        cwd, stdin = (node, None) if how == "cwd" else (None, descriptor)
        with subprocess.Popen(["sleep", "600"], cwd=cwd, stdin=stdin) as process:
            try:
                expected = [{"pid": process.pid, "how": "c" if how == "cwd" else "w"}]
                found = users.users(world.state, mount)
                assert [holder for holder in found if holder["pid"] == process.pid] == expected
            finally:
                process.kill()
        if descriptor >= 0:
            os.close(descriptor)
