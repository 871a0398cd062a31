"""What the simulated machine tells of real processes is the same where there is no /proc, as on FreeBSD."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sim import fakes, forked, users
from sim.names import machine_name, process_name
from sim.store import Store
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


def test_what_others_run_beside_a_machine_is_not_seen_in_it(tmp_path: Path) -> None:
    """Another machine's processes are told by their names, those of other tests by the pytest that has started them."""
    shell, foreign = f"{tmp_path}/shell", f"{tmp_path}/{machine_name('/other')}x"
    for program in (shell, foreign):
        Path(program).symlink_to(os.path.realpath(sys.executable))
    sleeping = "import time; time.sleep(600)"
    starting = (
        f"import subprocess as s; p = s.Popen([{shell!r}, '-c', {sleeping!r}]); print(p.pid, flush=True); p.wait()"
    )
    pids: dict[str, int] = {}
    with World.create(tmp_path / "machine") as world, contextlib.ExitStack() as stack:
        for title, argv in {
            "beside the machine": [shell, "-c", starting],
            "another machine": [foreign, "-c", starting],
            "another test": [shell, "-c", starting, "/usr/bin/pytest"],
            "what another test has left": [shell, "-c", starting, "/tmp/pytest-of-root/pytest-1/test_other0/W"],
        }.items():
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            pids |= {title: process.pid, f"{title}'s child": int(process.stdout.readline())}
            stack.callback(os.kill, pids[f"{title}'s child"], signal.SIGKILL)
        visible = fakes.PsutilFinder(Store(str(world.path)), sys.platform).processes(psutil.process_iter, [])
        seen = {process.pid for process in visible}
    assert [title for title, pid in pids.items() if pid in seen] == ["beside the machine", "beside the machine's child"]


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
