"""The whole life of an environment with real mounts: nullfs on Linux, which is bind mounts."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real import DIRECTORIES, HOOKS, SHAPES, Ended, Namespace, Workdir, ended, gated, program, until, why_not

_WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)


@pytest.fixture
def cbsd(namespace: Namespace) -> Workdir:
    return Workdir(namespace)


def close_gate(cbsd: Workdir, point: Path) -> None:
    (cbsd.namespace.top / "gate").write_text(str(point))


def open_gate(cbsd: Workdir) -> None:
    (cbsd.namespace.top / "gate").unlink()


# The ordinary life.


@pytest.mark.parametrize("cwd", ["/var/empty", "/"])
@pytest.mark.parametrize("shape", SHAPES)
def test_start_twice_and_stop_twice(cbsd: Workdir, shape: str, cwd: str) -> None:
    for _ in range(2):
        result = cbsd.run("start", shape=shape, cwd=cwd)
        assert (result.status, result.out, result.err) == (0, "", "")
        assert cbsd.namespace.points() == cbsd.expected(shape)
        assert all(cbsd.shows(kind) for kind in DIRECTORIES if kind != "fstab" or shape.startswith("j"))
    for _ in range(2):
        result = cbsd.run("stop", shape=shape, cwd=cwd)
        assert (result.status, result.out, result.err) == (0, "", "")
        assert cbsd.namespace.mounts() == []
    assert not cbsd.decoyed.exists()


def test_a_second_start_runs_no_command(cbsd: Workdir) -> None:
    called = gated(cbsd)
    cbsd.start()
    before, commands = cbsd.namespace.mounts(), called.read_text()
    assert commands.count("mount --bind") == 3
    cbsd.start()
    assert cbsd.namespace.mounts() == before
    assert called.read_text() == commands


def test_a_second_stop_runs_no_command(cbsd: Workdir) -> None:
    called = gated(cbsd)
    cbsd.start()
    cbsd.stop()
    commands = called.read_text()
    cbsd.stop()
    assert called.read_text() == commands


@pytest.mark.parametrize("relative", [False, True])
def test_by_a_link_in_another_directory(cbsd: Workdir, *, relative: bool) -> None:
    links = cbsd.namespace.top / "links"
    links.mkdir()
    for name, verb in (("mount it", "start"), ("take-it-away", "stop")):
        target = HOOKS / f"env_{verb}_nullfs"
        (links / name).symlink_to(os.path.relpath(target, links.resolve()) if relative else target)
    assert cbsd.run(links / "mount it").status == 0
    assert cbsd.namespace.points() == cbsd.expected()
    assert cbsd.run(links / "take-it-away").status == 0
    assert cbsd.namespace.points() == []


def test_stop_by_variables_alone(cbsd: Workdir) -> None:
    cbsd.start()
    known = {**cbsd.variables(), "jname": "j1", "jid": "1", "status": "1"}
    result = cbsd.run("stop", argv=[], variables=known)
    assert (result.status, result.err, cbsd.namespace.points()) == (0, "", [])


def test_a_half_mounted_set_is_completed(cbsd: Workdir) -> None:
    cbsd.namespace.bind(cbsd.store / "system/j1", cbsd.point("system"))
    before = cbsd.namespace.mounts()
    cbsd.start()
    assert cbsd.namespace.points() == cbsd.expected()
    assert cbsd.namespace.mounts()[:1] == before


def test_two_directories_that_are_one(cbsd: Workdir) -> None:
    """As CBSD makes them for a VM on ZFS."""
    both = cbsd.path / "vm" / "j1"
    both.mkdir(parents=True)
    for kind in ("data", "system"):
        cbsd.point(kind).rmdir()
        cbsd.point(kind).symlink_to(both)
    result = cbsd.run("start")
    assert result.status == 78
    assert f"are one directory, {both}; replace the links by directories" in result.last
    assert cbsd.namespace.mounts() == []


def test_a_mount_above_that_came_later(cbsd: Workdir) -> None:
    """By either way of a start: what is mounted below it nobody sees any more."""
    for _ in range(2):
        cbsd.start()
    (cbsd.namespace.top / "late" / "j1-data").mkdir(parents=True)
    above = cbsd.point("data").parent
    cbsd.namespace.bind(cbsd.namespace.top / "late", above)
    before = cbsd.namespace.mounts()
    for verb in ("start", "stop"):
        result = cbsd.run(verb)
        assert (result.status, f"was mounted on {above} later" in result.last) == (78, True)
        assert cbsd.namespace.mounts() == before
    cbsd.namespace.run("umount", str(above))
    cbsd.start()
    cbsd.stop()
    assert cbsd.namespace.mounts() == []


def test_environments_do_not_touch_each_other(cbsd: Workdir) -> None:
    cbsd.add("j2")
    cbsd.start(name="j1")
    cbsd.start(name="j2")
    cbsd.stop(name="j1")
    assert cbsd.namespace.points() == cbsd.expected(name="j2")


def test_four_directories(cbsd: Workdir) -> None:
    cbsd.configure(MOUNT_RCCONF=1)
    cbsd.start()
    assert cbsd.namespace.points() == sorted([*cbsd.expected(), "jails/jails-rcconf/j1"])
    cbsd.stop()
    assert cbsd.namespace.points() == []


# What is there already.


def test_a_wrong_source_is_refused_and_left_alone(cbsd: Workdir) -> None:
    wrong = cbsd.namespace.top / "wrong"
    wrong.mkdir()
    cbsd.namespace.bind(wrong, cbsd.point("data"))
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert str(cbsd.store / "data/j1") in result.last
    assert str(wrong) in result.last
    assert str(cbsd.point("data")) in result.last
    assert cbsd.namespace.mounts() == before
    result = cbsd.run("stop")
    assert result.status == os.EX_CONFIG
    assert cbsd.namespace.mounts() == before


def test_another_file_system_is_refused_and_left_alone(cbsd: Workdir) -> None:
    cbsd.namespace.run("mount", "-t", "tmpfs", "other", str(cbsd.point("fstab")))
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert "other (tmpfs)" in result.last
    assert cbsd.namespace.mounts() == before


def test_stacked_mounts_are_refused_and_left_alone(cbsd: Workdir) -> None:
    for _ in range(2):
        cbsd.namespace.bind(cbsd.store / "data/j1", cbsd.point("data"))
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert "2 mounts are stacked" in result.last
    assert cbsd.namespace.mounts() == before


def test_a_mount_that_would_be_hidden_is_not_hidden(cbsd: Workdir) -> None:
    below = cbsd.point("data") / "etc"
    below.mkdir()
    cbsd.namespace.bind(cbsd.store, below)
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert str(below) in result.last
    assert cbsd.namespace.mounts() == before


@pytest.mark.parametrize("missing", ["data", "system", "fstab", "rcconf"])
def test_one_of_four_fails_and_all_is_taken_back(cbsd: Workdir, missing: str) -> None:
    cbsd.configure(MOUNT_RCCONF=1)
    source = cbsd.store / missing / "j1"
    (source / "from-store").unlink()
    source.rmdir()
    # The hook makes these, and has to take them away again.
    cbsd.point("data").rmdir()
    cbsd.point("fstab").rmdir()
    before = sorted(cbsd.path.rglob("*"))
    result = cbsd.run("start")
    assert result.status == os.EX_NOINPUT
    conf = cbsd.path / "etc" / "env_start_nullfs.conf"
    assert f"source directory {source} does not exist; create it, or correct NULLFS_ROOT_DIR ({conf}:" in result.last
    assert cbsd.namespace.points() == []
    assert sorted(cbsd.path.rglob("*")) == before


def test_a_failed_start_keeps_what_was_there_before(cbsd: Workdir) -> None:
    cbsd.namespace.bind(cbsd.store / "system/j1", cbsd.point("system"))
    before = cbsd.namespace.mounts()
    (cbsd.store / "data/j1").rename(cbsd.store / "data/elsewhere")
    assert cbsd.run("start").status == os.EX_NOINPUT
    assert cbsd.namespace.mounts() == before


def test_read_only_refuses_a_write(cbsd: Workdir) -> None:
    cbsd.configure(MOUNT_NULLFS_OPT="ro")
    cbsd.start()
    assert all("ro" in mounted.options.split(",") for mounted in cbsd.namespace.mounts())
    process = cbsd.namespace.popen(["touch", str(cbsd.point("data") / "new")])
    assert "Read-only file system" in process.communicate()[1]
    assert (cbsd.store / "data/j1/from-store").exists()
    cbsd.start()
    cbsd.stop()


# Paths.


def test_a_mount_point_behind_a_link(cbsd: Workdir) -> None:
    """W/jails-data/j1-data is a link to W/vm/j1, as with ZFS (docs/cbsd.md#paths-of-a-vm)."""
    real = cbsd.path / "vm/j1"
    real.mkdir(parents=True)
    cbsd.point("data").rmdir()
    cbsd.point("data").symlink_to(real)
    for _ in range(2):
        cbsd.start("bstart")
        assert cbsd.namespace.points() == ["jails/jails-system/j1", "jails/vm/j1"]
    cbsd.stop("bstart")
    cbsd.stop("bstart")
    assert cbsd.namespace.points() == []


def test_a_link_out_of_the_workdir_is_refused(cbsd: Workdir) -> None:
    outside = cbsd.namespace.top / "outside"
    outside.mkdir()
    cbsd.point("data").rmdir()
    cbsd.point("data").symlink_to(outside)
    result = cbsd.run("start")
    assert result.status == os.EX_NOPERM
    assert str(outside) in result.last
    assert cbsd.namespace.points() == []


def test_a_source_behind_a_link(cbsd: Workdir) -> None:
    (cbsd.store / "data/j1").rename(cbsd.store / "data/elsewhere")
    (cbsd.store / "data/j1").symlink_to("elsewhere")
    cbsd.start()
    cbsd.start()
    assert cbsd.namespace.points() == cbsd.expected()
    cbsd.stop()


def test_a_source_that_is_a_mount_itself(cbsd: Workdir) -> None:
    """Its own volume: the bind mount then shows the root of a file system."""
    source = cbsd.store / "data/j1"
    cbsd.namespace.run("mount", "-t", "tmpfs", "volume", str(source))
    before = cbsd.namespace.mounts()
    cbsd.start()
    cbsd.start()
    assert cbsd.namespace.points() == [*cbsd.expected(), "store/data/j1"]
    cbsd.stop()
    assert cbsd.namespace.mounts() == before


def test_slashes_make_no_difference(cbsd: Workdir) -> None:
    words = [f"{word}/" if word.startswith("/") else word for word in cbsd.argv()]
    words[1] = words[1].replace("/jails-data/", "//jails-data/./")
    for argv in (words, cbsd.argv(), words):
        assert cbsd.run("start", argv=argv).status == 0
        assert cbsd.namespace.points() == cbsd.expected()
    assert cbsd.run("stop", argv=words).status == 0
    assert cbsd.namespace.points() == []


def test_data_below_system(cbsd: Workdir) -> None:
    called = gated(cbsd)
    (cbsd.store / "system/j1/data").mkdir()
    words = cbsd.argv("bstart")
    words[1] = f"{cbsd.point('system')}/data"
    _parent_first_child_first(cbsd, words, called, parent=str(cbsd.point("system")), child=words[1])


def test_system_below_data(cbsd: Workdir) -> None:
    called = gated(cbsd)
    (cbsd.store / "data/j1/system").mkdir()
    # Without W/jails-system/NAME the workdir is unknown, so the configuration comes by -c.
    configuration = str(cbsd.path / "etc/env_start_nullfs.conf")
    data = str(cbsd.namespace.top / "jails/jails-data/j1-data")
    words = ["-c", configuration, "-d", data, "-j", "j1", "-s", f"{data}/system"]
    _parent_first_child_first(cbsd, words, called, parent=data, child=f"{data}/system")


def _parent_first_child_first(cbsd: Workdir, words: list[str], called: Path, parent: str, child: str) -> None:
    for _ in range(2):
        result = cbsd.run("start", argv=words)
        assert (result.status, result.err) == (0, "")
        assert [mounted.point for mounted in cbsd.namespace.mounts()] == [parent, child]
    assert cbsd.run("stop", argv=words).status == 0
    assert cbsd.namespace.mounts() == []
    assert [line.split(" ")[-1] for line in called.read_text().splitlines()] == [parent, child, child, parent]


def test_blanks_in_the_path_of_the_source(namespace: Namespace) -> None:
    cbsd = Workdir(namespace, store="my  file server")
    cbsd.start()
    cbsd.start()
    assert cbsd.shows("data")
    assert namespace.points() == cbsd.expected()
    cbsd.stop()
    assert namespace.points() == []


# A stop while somebody is in there.


def holder(cbsd: Workdir, kind: str) -> subprocess.Popen[str]:
    """Return a process whose working directory is the mounted one."""
    process = cbsd.namespace.popen(
        ["sh", "-c", 'cd "$1" && echo there && exec sleep 1000', "sh", str(cbsd.point(kind))]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


@pytest.mark.alone
@pytest.mark.parametrize("kind", list(DIRECTORIES))
def test_a_busy_stop_names_who_and_changes_nothing(cbsd: Workdir, kind: str) -> None:
    cbsd.configure(TIMEOUT=3)
    cbsd.start()
    before = cbsd.namespace.mounts()
    process = holder(cbsd, kind)
    result = cbsd.run("stop")
    assert result.status == os.EX_TEMPFAIL
    assert str(cbsd.point(kind)) in result.last
    assert f"pid {process.pid}, root, sleep 1000" in result.last
    assert result.seconds < 4
    # By directory, not by number: what was taken away before the busy one was met may have been mounted anew.
    assert sorted(mounted[1:] for mounted in cbsd.namespace.mounts()) == sorted(mounted[1:] for mounted in before)
    assert process.poll() is None


def test_a_busy_stop_waits_for_the_end_of_a_short_use(cbsd: Workdir) -> None:
    cbsd.start()
    process = holder(cbsd, "data")
    stopping, began = cbsd.begin("stop"), time.monotonic()
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert ended(stopping, began).status == 0
    assert cbsd.namespace.points() == []


def test_stop_kill_ends_who_is_in_there(cbsd: Workdir) -> None:
    cbsd.configure(STOP_KILL=1)
    cbsd.start()
    process = holder(cbsd, "system")
    result = cbsd.run("stop")
    assert result.status == 0
    assert f"pid {process.pid}, root, sleep 1000" in result.err
    assert process.wait(5) == -signal.SIGTERM
    assert cbsd.namespace.points() == []


@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="umount -f belongs to the root of the host")
def test_stop_force_takes_it_from_under_them(cbsd: Workdir) -> None:
    cbsd.configure(STOP_FORCE=1, TIMEOUT=3)
    cbsd.start()
    process = holder(cbsd, "data")
    result = cbsd.run("stop")
    assert result.status == 0
    assert result.seconds < 4
    assert process.poll() is None
    assert cbsd.namespace.points() == []


# Interrupted.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", list(DIRECTORIES))
def test_a_signal_in_the_middle_of_a_start(cbsd: Workdir, kind: str, number: signal.Signals) -> None:
    gated(cbsd)
    close_gate(cbsd, cbsd.point(kind))
    cbsd.point("data").rmdir()
    process, began = cbsd.begin("start"), time.monotonic()
    until(lambda: len(cbsd.namespace.points()) == 2 and (cbsd.namespace.top / "waiting").exists())
    process.send_signal(number)
    result = ended(process, began)
    assert result.status == 128 + number
    assert f"interrupted by signal {int(number)}" in result.last
    assert cbsd.namespace.points() == []
    assert not cbsd.point("data").exists()
    open_gate(cbsd)
    cbsd.start()


def test_a_second_signal_does_not_stop_the_taking_back(cbsd: Workdir) -> None:
    gated(cbsd)
    close_gate(cbsd, cbsd.point("data"))
    process, began = cbsd.begin("start"), time.monotonic()
    until(lambda: len(cbsd.namespace.points()) == 2 and (cbsd.namespace.top / "waiting").exists())
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    # Python ends by the signal itself when that comes in its very last moment; for sh(1) that is the same status.
    assert ended(process, began).status in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert cbsd.namespace.points() == []


def test_killed_at_any_moment_one_start_makes_it_right(cbsd: Workdir) -> None:
    moments = random.Random(7)
    for _ in range(25):
        process, began = cbsd.begin("start"), time.monotonic()
        time.sleep(moments.uniform(0.0, 0.12))
        process.kill()
        ended(process, began)
        settled(cbsd)
        cbsd.start()
        assert cbsd.namespace.points() == cbsd.expected()
        process = cbsd.begin("stop")
        time.sleep(moments.uniform(0.0, 0.12))
        process.kill()
        ended(process, began)
        settled(cbsd)
        cbsd.stop()
        assert cbsd.namespace.points() == []


def settled(cbsd: Workdir) -> None:
    """Wait until what a killed hook had begun has ended: its command goes on by itself for some milliseconds."""
    until(lambda: len(cbsd.namespace.pids()) == 1)


def test_killed_while_a_mount_command_runs_another_start_does_not_stack(cbsd: Workdir) -> None:
    gated(cbsd)
    close_gate(cbsd, cbsd.point("data"))
    process, began = cbsd.begin("start"), time.monotonic()
    until((cbsd.namespace.top / "waiting").exists)
    process.kill()
    ended(process, began)
    again, began = cbsd.begin("start"), time.monotonic()
    time.sleep(0.5)
    open_gate(cbsd)
    assert ended(again, began).status == 0
    settled(cbsd)
    assert cbsd.namespace.points() == cbsd.expected()


# Side by side.


def test_twenty_starts_at_once(cbsd: Workdir) -> None:
    began = time.monotonic()
    results = [ended(process, began) for process in [cbsd.begin("start") for _ in range(20)]]
    assert [(result.status, result.err) for result in results] == [(0, "")] * 20
    assert cbsd.namespace.points() == cbsd.expected()


def test_twenty_environments_at_once(cbsd: Workdir) -> None:
    names = [f"e{number}" for number in range(20)]
    for name in names:
        cbsd.add(name)
    began = time.monotonic()
    results = [ended(process, began) for process in [cbsd.begin("start", name=name) for name in names]]
    assert [(result.status, result.err) for result in results] == [(0, "")] * 20
    assert cbsd.namespace.points() == sorted(point for name in names for point in cbsd.expected(name=name))


def test_start_and_stop_at_once_are_one_after_the_other(cbsd: Workdir) -> None:
    for number in range(10):
        if number % 2:
            cbsd.start()
        began = time.monotonic()
        verbs = ("start", "stop") if number % 3 else ("stop", "start")
        results: list[Ended] = [ended(process, began) for process in [cbsd.begin(verb) for verb in verbs]]
        assert [(result.status, result.err) for result in results] == [(0, "")] * 2
        assert cbsd.namespace.points() in ([], cbsd.expected())
        cbsd.stop()


@pytest.mark.alone
def test_a_hook_that_waits_for_the_lock_says_who_has_it(cbsd: Workdir) -> None:
    gated(cbsd)
    close_gate(cbsd, cbsd.point("data"))
    first, began = cbsd.begin("start"), time.monotonic()
    until((cbsd.namespace.top / "waiting").exists)
    cbsd.configure(TIMEOUT=2)
    second = cbsd.run("start")
    assert second.status == os.EX_TEMPFAIL
    assert f"pid {first.pid}" in second.last
    assert second.seconds < 3
    open_gate(cbsd)
    assert ended(first, began).status == 0
    assert cbsd.namespace.points() == cbsd.expected()


def test_a_decoy_would_be_noticed(cbsd: Workdir) -> None:
    """The check of test_start_twice_and_stop_twice can fail."""
    program(cbsd.path / "modules/decoy", f': > "{cbsd.decoyed}"\n')
    cbsd.namespace.run("env", f"PATH={cbsd.variables()['PATH']}", "decoy")
    assert cbsd.decoyed.exists()


def test_case_c19_c20_a_disk_below_the_directories(cbsd: Workdir) -> None:
    """What is mounted in a source is told, and what is not mounted is refused."""
    cbsd.configure(NULLFS_REQUIRE_MOUNTED=1)
    result = cbsd.run("start")
    assert result.status == os.EX_TEMPFAIL
    assert f"{cbsd.store}: it is no mount point" in result.last
    assert cbsd.namespace.mounts() == []
    cbsd.namespace.bind(cbsd.store, cbsd.store)
    child = cbsd.store / "data/j1/var"
    child.mkdir()
    cbsd.namespace.bind(cbsd.store / "system", child)
    for _ in range(2):
        result = cbsd.run("start")
        assert result.status == 0
        assert f"a bind mount does not show {child}, mounted in {cbsd.store}/data/j1" in result.err
    assert cbsd.namespace.run("ls", str(cbsd.point("data") / "var")) == ""


# What it shows was removed.


def removed_and_made_anew(cbsd: Workdir) -> Path:
    """Return the directory behind the data directory of a started jail, which is another one now."""
    cbsd.start()
    held = Path(cbsd.store) / "data" / cbsd.name
    shutil.rmtree(held)
    held.mkdir()
    (held / "etc").mkdir()
    (held / "new").write_text("new\n")
    return held


def by_hand(cbsd: Workdir, verb: str, *words: str) -> tuple[int, str]:
    place = ["-d", str(cbsd.point("data")), "-s", str(cbsd.point("system")), "-f", str(cbsd.point("fstab"))]
    argv = [sys.executable, "-m", "envstart", verb, "nullfs", "-c", f"{cbsd.path}/etc/env_start_nullfs.conf", *place]
    process = cbsd.namespace.popen(["env", f"PYTHONPATH={HOOKS.parent}", *argv, "-j", cbsd.name, *words])
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_case_c16_a_removed_directory_is_mounted_anew_by_a_start(cbsd: Workdir) -> None:
    removed_and_made_anew(cbsd)
    status, told = by_hand(cbsd, "check")
    assert (status, "was removed" in told) == (2, True), told
    assert told.startswith("CRITICAL: j1: data: ")
    result = cbsd.run("start")
    assert (result.status, "is broken: remounting it" in result.err) == (0, True), result
    assert cbsd.namespace.points() == cbsd.expected()
    assert cbsd.namespace.run("ls", str(cbsd.point("data"))) == "etc\nnew\n"
    assert by_hand(cbsd, "check") == (0, "")


def test_case_c16_a_removed_directory_is_unmounted_by_a_stop(cbsd: Workdir) -> None:
    removed_and_made_anew(cbsd)
    cbsd.stop()
    assert cbsd.namespace.points() == []


def test_case_c16_a_removed_directory_is_taken_away_by_recover(cbsd: Workdir) -> None:
    removed_and_made_anew(cbsd)
    status, told = by_hand(cbsd, "recover")
    assert status == 0, told
    assert cbsd.namespace.points() == [point for point in cbsd.expected() if "data" not in point.split("/")[-1]]
