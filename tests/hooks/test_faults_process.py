"""What the process, its caller and its children can be like (failure catalogue B.3)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import real
from cbsd import NULLFS, SERVER, Ended, Site, last_line, wears
from pace import in_time

from envstart.system.command import Result

HOOKS = Path(__file__).resolve().parents[2] / "hooks"


def in_shell(site: Site, text: str, cwd: Path = Path("/")) -> Ended:
    """Run ``text`` with ``$hook`` as the start of the environment, as a caller with odd habits would."""
    command = shlex.join(site.world.argv("env_start_nfs", *site.args()))
    return subprocess.run(
        ["/bin/sh", "-c", text.replace("$hook", command)],
        capture_output=True,
        text=True,
        timeout=60,
        env=wears(),
        cwd=cwd,
    )


def in_front_of(site: Site, command: str, text: str) -> None:
    """Replace a simulated command by a shell script; ``$real`` in it is the command itself."""
    path = site.world.path / "bin" / command
    aside = site.world.path / "aside"
    aside.mkdir(exist_ok=True)
    (aside / command).symlink_to(os.path.realpath(path))
    path.unlink()
    path.write_text("#!/bin/sh\n" + text.replace("$real", str(aside / command)))
    path.chmod(0o755)


def wait_for_call(site: Site, command: str, count: int = 1) -> None:
    until = time.monotonic() + 20
    while site.count(command) < count:
        assert time.monotonic() < until, f"{command} is not run"
        time.sleep(0.01)


def test_fault_49_start_and_start_at_once(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: site.start(), range(2)))
    assert [one.returncode for one in ended] == [0, 0]
    assert len(site.mounting) == 3
    assert site.table == site.wanted()


def test_fault_50_start_and_stop_at_once(site: Site) -> None:
    for _ in range(4):
        with site.begin("start") as start, site.begin("stop") as stop:
            assert (start.wait(), stop.wait()) == (0, 0)
        assert site.table in (site.wanted(), [])


def test_fault_51_two_environments_side_by_side(site: Site) -> None:
    site.add("jail2")
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.freeze(SERVER)
    with site.begin() as one, site.begin(name="jail2") as other:
        wait_for_call(site, "mount_nfs", 6)
        site.world.thaw(SERVER)
        assert (one.wait(), other.wait()) == (0, 0)
    assert site.table == sorted(site.wanted() + site.wanted("jail2"))


def test_fault_52_holder_of_the_lock_hangs(site: Site) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang", times=3)
    with site.begin() as holder:
        wait_for_call(site, "mount_nfs")
        site.configure(TIMEOUT="2")
        began = time.monotonic()
        waiter = site.start()
        assert waiter.returncode == 75
        assert in_time(began, 1, waiting=2)
        assert f"pid {holder.pid}" in last_line(waiter)
        holder.terminate()
        assert holder.wait() == 128 + signal.SIGTERM


def test_fault_53_signal_while_it_mounts(site: Site) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.preset("system")
    site.world.fault("mount_nfs", "hang")
    with site.begin() as hook:
        wait_for_call(site, "mount_nfs", 2)
        hook.terminate()
        words = hook.communicate()[1]
    assert hook.returncode == 128 + signal.SIGTERM
    assert words.splitlines()[-1].endswith("interrupted by signal 15; what this run did was undone")
    assert site.table == [site.row("system")]


def test_fault_53_more_signals_do_not_stop_the_roll_back(site: Site) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang", nth=3)
    site.world.fault("umount", "slow", seconds=0.5, times=None)
    with site.begin() as hook:
        wait_for_call(site, "mount_nfs", 3)
        while len(site.table) < 2:
            time.sleep(0.02)
        hook.terminate()
        wait_for_call(site, "umount")
        hook.terminate()
        hook.send_signal(signal.SIGINT)
        assert hook.wait(20) == 128 + signal.SIGTERM
    assert site.table == []


def test_fault_54_power_loss_while_it_mounts(site: Site) -> None:
    # The first one is still under way when the hook is gone; the next start must wait for it.
    site.world.fault("mount_nfs", "slow", nth=1, seconds=2)
    site.world.fault("mount_nfs", "kill-parent", nth=2, when="after")
    assert site.start().returncode == -signal.SIGKILL
    assert site.table != site.wanted()
    assert site.start().returncode == 0
    assert site.table == site.wanted()
    points = [argv[-1] for argv in site.mounting]
    assert sorted(points) == sorted(set(points)), "it did not wait"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full 2>/dev/full"])
def test_fault_55_output_cannot_be_written(site: Site, redirection: str) -> None:
    ended = in_shell(site, f"$hook -v {redirection}")
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert site.table == site.wanted()


def test_fault_55_reader_has_gone(site: Site) -> None:
    site.configure(NFS_SERVER="nowhere.example.com")
    ended = in_shell(site, "{ $hook -v 2>&1; echo $? >&3; } 3>&2 | true")
    assert ended.stderr == "1\n"


def test_fault_56_standard_streams_are_closed(site: Site) -> None:
    assert in_shell(site, "exec $hook <&- >&- 2>&-").returncode == 0
    assert site.table == site.wanted()
    assert all(call["stdin_is_null"] for call in site.world.calls())


@pytest.mark.parametrize("variables", [{}, {"PATH": ""}, {"PATH": "/nowhere", "HOME": ""}])
def test_fault_57_58_no_path_and_no_home(site: Site, variables: dict[str, str]) -> None:
    assert site.start(env=variables).returncode == 0
    assert site.table == site.wanted()


def test_fault_58_working_directory_is_gone(site: Site, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    assert in_shell(site, f"rmdir {gone} && exec $hook", cwd=gone).returncode == 0
    assert {call["cwd"] for call in site.world.calls()} == {"/"}


@pytest.mark.parametrize("language", ["C", "POSIX", "tr_TR.UTF-8", "nonsense"])
def test_fault_59_language(site: Site, language: str) -> None:
    site.world.export(SERVER, "/nfs/I\u0131i\u00e9")
    site.world.mount(f"{SERVER}:/nfs/I\u0131i\u00e9", site.point("data"))
    ended = site.start(env={"LANG": language, "LC_ALL": language, "PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 78
    assert "é" in last_line(ended)
    assert {call["environment"]["LC_ALL"] for call in site.world.calls()} == {"C"}


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_fault_60_umask(site: Site, umask: str) -> None:
    site.point("data").rmdir()
    ended = in_shell(site, f"umask {umask}; exec $hook")
    assert ended.returncode == 0, ended.stderr
    assert site.point("data").stat().st_mode & 0o777 == 0o755
    for path in (site.world.path / "run").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_fault_61_not_root(site: Site) -> None:
    site.world.set(uid=1001)
    (site.conf).chmod(0o644)
    for ended in (site.start(), site.stop()):
        assert ended.returncode == 77
        assert "only root" in last_line(ended)
        assert "sudo" in last_line(ended)
    assert site.world.calls() == []
    where = ("nfs", "-w", str(site.workdir), "-j", "jail1")
    assert site.hand("plan", *where).returncode == 0
    assert "not mounted" in site.hand("status", *where).stdout


@pytest.mark.parametrize("limit", [4, 6, 7, 9, 11])
def test_fault_62_no_descriptors(site: Site, limit: int) -> None:
    # The table needs no process of its own then, whose descriptors would be too few as well.
    site.world.set(getfsstat=True)
    ended = in_shell(site, f"ulimit -n {limit}; exec $hook")
    assert ended.returncode == 75
    assert site.table == []
    assert "Traceback" not in ended.stderr


def test_fault_63_command_is_missing(site: Site) -> None:
    (site.world.path / "bin/mount_nfs").unlink()
    ended = site.start()
    assert ended.returncode == 69
    assert "mount_nfs: it is not installed; it comes with" in last_line(ended)
    assert site.table == []


def test_fault_64_child_that_nothing_ends(site: Site) -> None:
    site.configure(TIMEOUT="4")
    site.world.fault("mount_nfs", "unkillable")
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 75
    assert in_time(began, 1, waiting=4)
    stuck = next(pid for pid in site.world.state["stuck"])
    assert f"pid {stuck} (mount_nfs " in last_line(ended)
    assert site.table == []


def test_fault_64_a_stop_waits_for_what_a_start_has_left(site: Site) -> None:
    """Its mount can still come about when the server is back; a stop that said 0 would leave it to nobody."""
    site.configure(TIMEOUT="3")
    site.world.fault("mount_nfs", "unkillable")
    assert site.start().returncode == 75
    ended = site.stop()
    assert ended.returncode == 75
    assert "which a start has left behind" in last_line(ended)
    for pid in site.world.state["stuck"]:
        os.kill(int(pid), signal.SIGKILL)
    assert site.stop().returncode == 0
    assert site.table == []


def test_fault_64_child_that_comes_out_of_the_kernel_in_time(site: Site) -> None:
    """A server that was frozen in the middle of a mount, and goes on: what it brings then is not left to nobody."""
    site.configure(TIMEOUT="40", NFS_MOUNT_TIMEOUT="1")
    site.world.fault("mount_nfs", "thaws", seconds=5)
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.table == site.wanted()
    assert site.count("mount_nfs") == len(site.wanted())


def test_fault_64_what_it_said_before_is_not_taken_for_the_reason() -> None:
    assert Result(None, "", "mount_nfs: a warning\n", 10.0, alive=False).words == (
        "no answer in 10.0 s, after it said: mount_nfs: a warning"
    )


def test_fault_65_command_says_0_but_nothing_is_mounted(site: Site) -> None:
    site.world.fault("mount_nfs", "say-ok-do-nothing", times=None)
    ended = site.start()
    assert ended.returncode == 1
    assert "mount_nfs said that it is done, but nothing is mounted" in last_line(ended)
    assert site.table == []


def test_fault_65_mount_in_the_background_is_refused(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw,bg -overs=4")
    ended = site.start()
    assert ended.returncode == 78
    assert "bg" in last_line(ended)
    assert site.world.calls() == []


def test_fault_66_command_fails_but_it_is_mounted(site: Site) -> None:
    site.world.fault("mount_nfs", "do-it-say-fail", text="mount_nfs: a complaint")
    ended = site.start()
    assert ended.returncode == 0
    assert "mount_nfs failed (mount_nfs: a complaint), but" in last_line(ended)
    assert site.table == site.wanted()


def test_fault_67_mount_that_lands_after_it_was_given_up(site: Site) -> None:
    site.configure(ATTEMPTS="1")
    site.world.fault("mount_nfs", "late", seconds=0.5)
    ended = site.start()
    time.sleep(1)
    assert ended.returncode == 75
    assert site.table == []


def test_fault_67_what_lands_while_it_is_tried_again_is_ours(site: Site) -> None:
    site.world.fault("mount_nfs", "late", seconds=0.1)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_68_daemon_that_keeps_the_output_open(site: Site) -> None:
    in_front_of(site, "mount_nfs", '/bin/sleep 600 &\necho "$!" >> ${0%/*}/daemons\nexec $real "$@"\n')
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert in_time(began, 5)
    assert site.table == site.wanted()
    for pid in (site.world.path / "bin/daemons").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


def test_fault_69_flood_of_output(site: Site) -> None:
    site.world.fault("mount_nfs", "flood", megabytes=64)
    began = time.monotonic()
    assert site.start().returncode == 0
    assert in_time(began, 10)
    assert site.table == site.wanted()


def test_fault_69_output_that_is_no_text(site: Site) -> None:
    in_front_of(site, "mount_nfs", r"printf '\000\377\033[31mnonsense\n\n' >&2; exit 1" + "\n")
    ended = site.start()
    assert ended.returncode == 1
    assert r"\x00\udcff\x1b[31mnonsense" in last_line(ended)


@pytest.mark.parametrize("ahead", [60, 86400])
def test_fault_70_clock_that_differs_from_the_servers(site: Site, ahead: int) -> None:
    """A lease from the future is as fresh as can be."""
    locked = site.held("system") / "locked"
    locked.write_text("node2\n")
    os.utime(locked, (time.time() + ahead,) * 2)
    ended = site.start()
    assert ended.returncode == 75
    assert "node2" in last_line(ended)
    assert site.table == []


def test_fault_72_hostile_python_variables(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')")
    (tmp_path / "envstart.py").write_text("raise SystemExit(0)")
    variables = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "sitecustomize.py"),
        "PYTHONHOME": "/nowhere",
    }
    ended = subprocess.run([HOOKS / "env_start_nfs"], env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 64
    assert "usage:" in ended.stderr
    assert not (tmp_path / "taken").exists()


@pytest.mark.skipif(bool(real.why_not()), reason=real.why_not())
def test_fault_48_disk_is_full(tmp_path: Path) -> None:
    """Nothing can be written into the state directory: no reason not to mount."""
    with Site(tmp_path, NULLFS) as site:
        command = shlex.join(site.world.argv("env_start_nullfs", *site.args()))
        full = f"mount -t tmpfs -o nr_inodes=1,mode=700 tmpfs {shlex.quote(str(site.world.path))}/run && exec {command}"
        unshare = ["unshare", "-m", *(["-r"] if os.geteuid() else [])]
        ended = subprocess.run([*unshare, "/bin/sh", "-c", full], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert "No space left on device; going on without" in ended.stderr
        assert site.table == site.wanted()
