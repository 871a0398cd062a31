"""``envstart check``, ``status`` and ``recover`` for all environments of a CBSD host (failure catalogue B.6)."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cbsd import NFS4, SERVER, Ended, Site, Variant, last_line
from sim.users import alive
from toy import Toy, processes

SECOND = "172.16.0.2"


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    """Yield a host on which jail1 runs with all that it needs mounted, and jail2 does not."""
    with Site(tmp_path, getfsstat=True) as site:
        toy = Toy(site)
        toy.add("jail2")
        begin(toy, "jail1")
        yield toy


def begin(cbsd: Toy, name: str) -> None:
    cbsd.site.preset(name=name)
    cbsd.site.world.jail(name, 1 + int(name[4:]))
    cbsd.set(name, jid=1 + int(name[4:]), status=1)


def hand(cbsd: Toy, *words: str, **kwargs: Any) -> Ended:
    return cbsd.site.hand(*words, "-w", str(cbsd.workdir), **kwargs)


def check(cbsd: Toy, *words: str) -> tuple[int, list[str]]:
    ended = hand(cbsd, "check", *words)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def probing(cbsd: Toy) -> list[int]:
    """Children of checks that still wait for a directory: they hold the record of it."""
    found = []
    for lock in (cbsd.site.world.path / "run").glob("probe.*.lock"):
        words = lock.read_text().split()
        if "pid" in words:
            pid = int(words[words.index("pid") + 1])
            if alive(pid):
                found.append(pid)
    return found


# What there is.


def test_silent_when_all_is_well(cbsd: Toy) -> None:
    for level in ("table", "read", "write"):
        ended = hand(cbsd, "check", "--level", level)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not list(cbsd.held("data").glob(".envstart*"))


def test_a_directory_that_is_not_mounted(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    assert check(cbsd) == (2, [f"CRITICAL: jail1: data: {cbsd.site.source('data')}: not mounted"])
    assert check(cbsd, "jail2") == (0, [])


def test_a_directory_from_elsewhere(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    cbsd.site.world.mount("tmpfs", cbsd.site.point("data"), "tmpfs")
    status, lines = check(cbsd)
    assert status == 2
    assert lines[0].startswith(f"CRITICAL: jail1: data: {cbsd.site.source('data')}: wrong source: tmpfs")


def test_mounted_read_only(cbsd: Toy) -> None:
    point = cbsd.site.point("data")
    cbsd.site.world.command("umount", str(point))
    cbsd.site.world.mount(cbsd.site.source("data"), point, opts=["ro"])
    status, lines = check(cbsd)
    assert status == 1
    assert "mounted read-only, the configuration says read-write" in lines[0]


def test_another_node_uses_it_too(cbsd: Toy) -> None:
    (cbsd.sysdata() / "locked").write_text("node2.example.com\n")
    status, lines = check(cbsd)
    assert status == 2
    assert "node node2.example.com had it in use 0 minutes ago" in lines[0]


def test_a_stale_mount(cbsd: Toy) -> None:
    cbsd.site.world.stale(cbsd.site.point("data"))
    status, lines = check(cbsd)
    assert (status, len(lines)) == (2, 1)
    assert "data" in lines[0]
    assert "broken: Stale NFS file handle" in lines[0]


def test_a_configuration_that_cannot_be_used(cbsd: Toy) -> None:
    cbsd.site.conf.write_text("NFS_SERVER=$(hostname)\n")
    status, lines = check(cbsd)
    assert status == 3
    assert "jail1: configuration" in lines[0]
    assert len(lines) == 1


@pytest.mark.parametrize("left", ["file", "fifo", "link", "directory"])
def test_fault_118_what_a_probe_has_left_behind(cbsd: Toy, left: str) -> None:
    """A crash leaves a file; root of the jail, who owns what is in there, can leave anything."""
    probe, outside = cbsd.held("data") / ".envstart.probe", cbsd.site.world.path / "outside"
    outside.write_text("keep\n")
    if left == "file":
        probe.write_text("old")
    elif left == "fifo":
        os.mkfifo(probe)
    elif left == "link":
        probe.symlink_to(outside)
    else:
        probe.mkdir()
    status, lines = check(cbsd, "--level", "write")
    assert outside.read_text() == "keep\n"
    if left == "directory":
        assert (status, len(lines)) == (2, 1)
    else:
        assert (status, lines) == (0, [])
        assert not os.path.lexists(probe)


# A server that does not answer.


def test_fault_4_119_one_child_for_a_server_and_none_while_it_hangs(cbsd: Toy) -> None:
    cbsd.site.world.freeze(SERVER)
    for run in range(3):
        status, lines = check(cbsd)
        assert (status, len(lines)) == (2, 3), run
        assert all("no answer: pid" in line for line in lines)
        assert len(probing(cbsd)) == 1, run
    first = probing(cbsd)
    cbsd.site.world.thaw(SERVER)
    deadline = time.monotonic() + 60
    while probing(cbsd) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert first
    assert check(cbsd) == (0, [])


def test_fault_119_others_are_not_affected(cbsd: Toy) -> None:
    """Environments of another server are looked at as ever."""
    cbsd.site.conf.write_text(
        cbsd.site.conf.read_text() + f'[jail2]\nNFS_SERVER="{SECOND}"\nNFS_SERVER_ROOT_DIR="/other"\n'
    )
    for which in ("data", "system", "fstab"):
        (cbsd.site.world.export(SECOND, f"/other/{which}/jail2") / "etc").mkdir()
        cbsd.site.world.mount(f"{SECOND}:/other/{which}/jail2", cbsd.site.point(which, "jail2"))
    cbsd.site.world.jail("jail2", 3)
    cbsd.site.world.freeze(SERVER)
    status, lines = check(cbsd)
    assert status == 2
    assert {line.split(": ")[1] for line in lines} == {"jail1"}
    assert len(lines) == 3


# What should not be there.


def test_fault_113_mounts_of_what_does_not_run(cbsd: Toy) -> None:
    cbsd.site.preset(name="jail2")
    status, lines = check(cbsd)
    assert (status, len(lines)) == (1, 3)
    assert all("jail2 is not running: envstart orphans --stop" in line for line in lines)
    cbsd.unregister("jail2")
    status, lines = check(cbsd)
    assert (status, len(lines)) == (2, 3)
    assert all("mounted and not registered" in line for line in lines)
    (cbsd.workdir / "jails-rcconf/rc.conf_jail2").unlink()
    status, lines = check(cbsd)
    assert (status, len(lines)) == (1, 3)
    assert all("CBSD knows no jail2 any more" in line for line in lines)
    assert hand(cbsd, "orphans", "--stop").returncode == 0
    assert check(cbsd) == (0, [])


def test_fault_113_mounts_below_a_workdir_behind_a_link(cbsd: Toy) -> None:
    link = cbsd.workdir.with_name("link")
    link.symlink_to(cbsd.workdir)
    connection = sqlite3.connect(cbsd.workdir / "var/db/local.sqlite")
    with connection:
        connection.execute("UPDATE jails SET data = replace(data, ?, ?)", (str(cbsd.workdir), str(link)))
    connection.close()
    cbsd.site.preset(name="jail2")
    checked = cbsd.site.hand("check", "-w", str(link))
    assert checked.stdout.count("jail2 is not running: envstart orphans --stop") == 3, checked.stdout
    cbsd.unregister("jail2")
    (cbsd.workdir / "jails-rcconf/rc.conf_jail2").unlink()
    checked = cbsd.site.hand("check", "-w", str(link))
    assert checked.stdout.count("CBSD knows no jail2 any more") == 3, checked.stdout
    assert cbsd.site.hand("orphans", "--stop", "-w", str(link)).returncode == 0
    assert cbsd.site.hand("check", "-w", str(link)).stdout == ""


def test_fault_113_what_no_configuration_knows_is_left_alone(cbsd: Toy) -> None:
    point = cbsd.workdir / "jails-data" / "other-data"
    point.mkdir()
    cbsd.site.world.mount("tmpfs", point, "tmpfs")
    status, lines = check(cbsd)
    assert (status, len(lines)) == (1, 1)
    assert f"no configuration says so: umount {point}" in lines[0]
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert str(point) in ended.stdout
    assert ["tmpfs", str(point), "tmpfs"] in [list(row) for row in cbsd.site.world.table()]


def test_started_a_moment_ago(cbsd: Toy) -> None:
    """CBSD is about to run it: it is neither a problem nor for the reaper."""
    assert cbsd.site.start(name="jail2").returncode == 0
    assert check(cbsd) == (0, [])
    assert hand(cbsd, "orphans", "--stop").returncode == 0
    assert cbsd.site.table != []


def test_fault_33_107_files_in_a_bare_mount_point(cbsd: Toy) -> None:
    (cbsd.site.point("data", "jail2") / "lost").write_text("written while nothing was mounted")
    status, lines = check(cbsd)
    assert (status, len(lines)) == (1, 1)
    assert f"hidden files: lost in {cbsd.site.point('data', 'jail2')}" in lines[0]


def test_a_stub_database_that_blocks_a_vm(cbsd: Toy) -> None:
    """docs/cbsd.md#stubs: bstart reads it before the hook has mounted anything, and ends; also right after a start."""
    cbsd.add("vm1", emulator="bhyve")
    for verb in ("start", "stop"):
        assert hand(cbsd, verb, "nfs", "-j", "vm1").returncode == 0
    stub = cbsd.site.point("system", "vm1") / "local.sqlite"
    with sqlite3.connect(stub) as connection:
        connection.execute("PRAGMA user_version = 1")
    status, lines = check(cbsd)
    assert status == 2
    assert lines == [f"CRITICAL: vm1: system: {cbsd.site.source('system', 'vm1')}: stub database: {stub} has no table: "
                     "bstart will refuse it; move it away"]  # fmt: skip


# Where it looks.


@pytest.mark.parametrize("what", ["missing", "locked", "cut", "older"])
def test_fault_120_databases(cbsd: Toy, what: str) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    if what == "missing":
        cbsd.link.unlink()
        status, lines = check(cbsd)
    elif what == "locked":
        cbsd.settle("DELETE")
        with cbsd.writing():
            status, lines = check(cbsd)
    elif what == "cut":
        cbsd.cut(5000)
        status, lines = check(cbsd)
    else:
        cbsd.older("jails", "mnt_stop", "baserw", "status")
        status, lines = check(cbsd)
        assert (status, len(lines)) == (2, 1)
        return
    # The directories still tell which environments there are, and the kernel which of them run.
    assert status == 2
    assert lines[0].startswith("CRITICAL: jail1: data")
    assert lines[1].startswith("UNKNOWN: inventory: cannot read")
    assert not cbsd.link.exists() or what != "missing"


def test_fault_120_every_way_to_cut_a_database(cbsd: Toy) -> None:
    cbsd.settle("DELETE")
    whole = cbsd.database.read_bytes()
    for size in range(0, len(whole), 1024):
        cbsd.database.write_bytes(whole[:size])
        ended = hand(cbsd, "check", "--level", "table")
        assert ended.returncode in (0, 1, 2, 3), (size, ended.stderr)
        assert "bug" not in ended.stderr, (size, ended.stderr)
        assert "Traceback" not in ended.stderr
        assert cbsd.database.read_bytes() == whole[:size]


def test_the_value_of_a_vm_is_in_its_own_table(cbsd: Toy) -> None:
    cbsd.add("vm1", emulator="bhyve")
    cbsd.set("vm1", table="bhyve", mnt_start="0")
    cbsd.site.preset("data", name="vm1")
    assert "vm1" not in hand(cbsd, "status").stdout


def test_a_hook_through_a_link_and_a_hook_of_somebody_else(cbsd: Toy) -> None:
    link = cbsd.site.world.path / "own-name"
    link.symlink_to(cbsd.hook)
    cbsd.set("jail1", mnt_start=str(link))
    cbsd.set("jail2", mnt_start="/root/bin/mine.sh")
    ended = hand(cbsd, "status")
    assert "jail1 (jail, nfs): running" in ended.stdout
    assert "jail2" not in ended.stdout


def test_a_name_without_a_database(cbsd: Toy) -> None:
    """That all is well nobody can tell."""
    cbsd.link.unlink()
    (cbsd.workdir / "etc" / "env_start_nullfs.conf").write_text("")
    assert cbsd.site.world.command("umount", str(cbsd.site.point("data"))).returncode == 0
    status, lines = check(cbsd, "jail1")
    assert status == 3
    assert lines[0] == "UNKNOWN: jail1: configuration: not managed by envstart: mnt_start is not known"
    assert lines[1].startswith("UNKNOWN: inventory: cannot read")
    assert hand(cbsd, "status", "jail1").returncode == 1


def test_a_name_with_a_hook_of_somebody_else(cbsd: Toy) -> None:
    cbsd.add("jail3", hook="/root/bin/mine")
    told = "UNKNOWN: jail3: configuration: not managed by envstart: mnt_start is /root/bin/mine"
    cbsd.set("jail3", jid=7)
    cbsd.site.world.jail("jail3", 7)
    assert check(cbsd, "jail3") == (3, [told])
    assert check(cbsd) == (0, [])


def test_what_is_left_of_one_whose_configuration_cannot_be_used(cbsd: Toy) -> None:
    """A mistake that comes while it rests must not end the reaping without a word."""
    cbsd.site.preset(name="jail2")
    cbsd.set("jail1", jid=0)
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    cbsd.site.conf.write_text(cbsd.site.conf.read_text() + "TYPO=1\n")
    status, lines = check(cbsd, "jail2")
    assert (status, len(lines)) == (3, 1)
    assert "jail2: configuration: " in lines[0]
    ended = hand(cbsd, "orphans", "--stop", "jail2")
    assert (ended.returncode, cbsd.site.foreign("jail1")) == (0, [])
    assert "jail2: warning: " in ended.stderr
    assert "has the unknown key TYPO" in ended.stderr


def test_recover_tells_what_it_cannot_do(cbsd: Toy) -> None:
    cbsd.site.configure(TIMEOUT="abc")
    ended = hand(cbsd, "recover", "jail1")
    assert ended.returncode == 0
    assert "TIMEOUT" in ended.stderr
    cbsd.site.world.freeze(SERVER)
    ended = hand(cbsd, "recover", "--running", "--remount", "jail1")
    assert ended.returncode == 78
    cbsd.site.world.thaw(SERVER)
    cbsd.site.configure()
    cbsd.link.unlink()
    ended = hand(cbsd, "recover")
    assert ended.returncode == 75
    assert "local.sqlite: there is no such file" in ended.stderr


def test_one_that_cbsd_is_still_making(cbsd: Toy) -> None:
    """The hook of jcreate comes before the row in the database (docs/cbsd.md#calls)."""
    cbsd.site.add("jail5")
    assert cbsd.site.start(name="jail5").returncode == 0
    assert check(cbsd) == (0, [])
    before = cbsd.site.table
    assert (hand(cbsd, "orphans", "--stop").returncode, cbsd.site.table) == (0, before)
    assert hand(cbsd, "orphans", "--stop", "--grace", "0").returncode == 0
    assert cbsd.site.table != before


def test_one_that_cbsd_works_on_is_no_problem(cbsd: Toy) -> None:
    cbsd.site.preset(name="jail2")
    cbsd.set("jail2", status=3)
    assert check(cbsd) == (0, [])
    cbsd.set("jail2", status=0)
    assert len(check(cbsd)[1]) == 3


def test_what_all_share_says_nothing_about_one_that_rests(tmp_path: Path) -> None:
    shared = Variant("", "nfs", {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1"}, (*NFS4.directories, "rcconf"))
    with Site(tmp_path, shared, getfsstat=True) as site:
        cbsd = Toy(site)
        cbsd.add("jail2")
        begin(cbsd, "jail1")
        ended = hand(cbsd, "status")
        assert (ended.returncode, check(cbsd)) == (0, (0, [])), ended.stdout


def test_names_that_are_not_there(cbsd: Toy) -> None:
    for verb in ("check", "status", "recover", "orphans", "doctor"):
        ended = hand(cbsd, verb, "nobody")
        assert ended.returncode == (3 if verb == "check" else 64)
        assert "cannot find jail or VM nobody" in last_line(ended)


def test_names_can_be_patterns(cbsd: Toy) -> None:
    begin(cbsd, "jail2")
    cbsd.add("other", hook="")
    cbsd.site.world.command("umount", str(cbsd.site.point("fstab")))
    told = check(cbsd)
    assert (told[0], len(told[1])) == (2, 1)
    assert check(cbsd, "jail*") == check(cbsd, "?ail1", "jail1") == check(cbsd, "*") == told
    assert check(cbsd, "jail2") == check(cbsd, "*2") == (0, [])
    shown = json.loads(hand(cbsd, "status", "--json", "*[12]").stdout)["environments"]
    assert [row["environment"] for row in shown] == ["jail1", "jail2"]
    for pattern in ("web*", "oth*"):
        assert "cannot find jail or VM " + pattern in last_line(hand(cbsd, "check", pattern))


def test_several_workdirs(cbsd: Toy, tmp_path: Path) -> None:
    with Site(tmp_path / "second", getfsstat=True) as other:
        second = Toy(other)
        second.add("jail9")
        # One host: what the other machine's table has is of no interest here.
        ended = cbsd.site.hand("status", "--json", "-w", str(cbsd.workdir), "-w", str(second.workdir))
    found = {(row["workdir"], row["environment"]) for row in json.loads(ended.stdout)["environments"]}
    assert found == {(str(cbsd.workdir), "jail1"), (str(cbsd.workdir), "jail2"), (str(second.workdir), "jail1"),
                     (str(second.workdir), "jail9")}  # fmt: skip


def test_without_a_workdir(cbsd: Toy) -> None:
    ended = cbsd.site.hand("check")
    assert ended.returncode == 3
    assert "give -w" in last_line(ended)


def test_without_cbsd(cbsd: Toy) -> None:
    """By directories, and from a list."""
    args = ["--env", "jail1", "--data", str(cbsd.site.point("data")), "--system", str(cbsd.site.point("system"))]
    assert cbsd.site.hand("check", "nfs", *args).returncode == 0
    cbsd.site.world.freeze(SERVER)
    ended = cbsd.site.hand("check", "nfs", *args)
    assert ended.returncode == 2
    assert ended.stdout.count("no answer") == 2
    assert cbsd.site.hand("check", *args).returncode == 3


# How it is told.


def test_as_json(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    document = json.loads(hand(cbsd, "check", "--json").stdout)
    assert document["level"] == "critical"
    (bad,) = [row for row in document["directories"] if row["level"] != "ok"]
    assert (bad["environment"], bad["directory"], bad["state"]) == ("jail1", "data", "not mounted")
    assert set(bad) == {"workdir", "environment", "backend", "directory", "point", "source", "fstype", "state",
                        "found", "level"}  # fmt: skip


def test_fault_100_only_what_has_changed(cbsd: Toy) -> None:
    assert check(cbsd, "--changed") == (0, [])
    cbsd.site.world.freeze(SERVER)
    assert len(check(cbsd, "--changed")[1]) == 3
    assert check(cbsd, "--changed") == (2, [])
    cbsd.site.world.thaw(SERVER)
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    assert len(check(cbsd, "--changed")[1]) == 1
    cbsd.site.preset("data")
    assert check(cbsd, "--changed") == (0, ["OK: no problems left"])
    assert check(cbsd, "--changed") == (0, [])


def test_changes_are_those_of_what_is_looked_at(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    assert len(check(cbsd, "--changed")[1]) == 1
    assert check(cbsd, "--changed", "jail2") == (0, [])
    assert check(cbsd, "--changed") == (2, [])


def test_changes_that_cannot_be_kept(cbsd: Toy) -> None:
    cbsd.site.world.command("umount", str(cbsd.site.point("data")))
    cbsd.site.world.set(full=True)
    status, lines = check(cbsd, "--changed")
    assert (status, len(lines)) == (2, 1)


def test_metrics_go_where_the_caller_is(cbsd: Toy, tmp_path: Path) -> None:
    ended = cbsd.site.world.run("envstart", "check", "-w", str(cbsd.workdir), "--prometheus", "out.prom", cwd=tmp_path)
    assert (ended.returncode, (tmp_path / "out.prom").exists()) == (0, True)


def test_fault_121_two_checks_at_once(cbsd: Toy) -> None:
    cbsd.site.world.freeze(SERVER)
    cbsd.site.configure(PROBE_TIMEOUT="60")
    first = cbsd.site.world.popen("envstart", "check", "-w", str(cbsd.workdir))
    lock = cbsd.site.world.path / "run" / "check.lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    asked: list[list[str]] = [[], ["--changed"], ["--nagios"], ["jail1"], ["--json"]]
    with ThreadPoolExecutor() as pool:
        bare, changed, nagios, one, document = pool.map(lambda words: hand(cbsd, "check", *words), asked)
    assert (bare.returncode, bare.stdout) == (0, "")
    assert f"another check is at work (pid {first.pid})" in last_line(bare)
    # cron mails whatever it says.
    assert (changed.returncode, changed.stdout, changed.stderr) == (0, "", "")
    assert (nagios.returncode, nagios.stdout.startswith("ENVSTART UNKNOWN - another check")) == (3, True)
    # Who wants an answer has none.
    assert one.returncode == 3
    assert json.loads(document.stdout)["level"] == "unknown"
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM


def test_fault_121_another_check_that_is_over_soon_is_waited_for(cbsd: Toy) -> None:
    lock = cbsd.site.world.path / "run" / "check.lock"
    assert check(cbsd) == (0, [])
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = cbsd.site.world.popen("envstart", "check", "--nagios", "-w", str(cbsd.workdir))
        time.sleep(1)
        assert waiting.poll() is None
    out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out.startswith("ENVSTART OK")) == (0, True)


def test_fault_119_status_of_environments_on_a_dead_server(cbsd: Toy) -> None:
    """One child looks at all of them, and nobody asks a directory for its links that has just given no answer."""
    for number in (3, 4, 5):
        cbsd.add(f"jail{number}")
        begin(cbsd, f"jail{number}")
    cbsd.site.world.freeze(SERVER)
    ended = hand(cbsd, "status")
    assert ended.returncode == 1
    assert ended.stdout.count("): running\n") == 4
    assert ended.stdout.count("no answer") == 12
    assert len([words for words in processes(cbsd.site) if " status " in words]) == 1


def test_status_shows_problems_first(cbsd: Toy) -> None:
    begin(cbsd, "jail2")
    cbsd.site.world.command("umount", str(cbsd.site.point("data", "jail2")))
    ended = hand(cbsd, "status")
    assert ended.returncode == 1
    headings = [line for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in headings] == ["jail2", "jail1"]
    assert "\033" not in ended.stdout


def test_somebody_wants_to_know_how_far_it_is(cbsd: Toy) -> None:
    cbsd.site.world.freeze(SERVER)
    cbsd.site.configure(PROBE_TIMEOUT="3")
    process = cbsd.site.world.popen("envstart", "check", "-w", str(cbsd.workdir))
    deadline = time.monotonic() + 60
    while not list((cbsd.site.world.path / "run").glob("probe.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert "waiting for an answer of " in err
    assert process.returncode == 2


# Recovery.


def test_fault_114_recover_by_the_names_in_the_table(cbsd: Toy) -> None:
    """docs/faults.md, 114: CBSD hangs before the hook is reached, whatever the hook could do."""
    cbsd.site.world.freeze(SERVER)
    points = [str(cbsd.site.point(which)) for which in ("data", "fstab", "system")]
    shown = hand(cbsd, "recover", "-n", "jail1")
    assert shown.returncode == 0
    assert sorted(line for line in shown.stdout.splitlines() if not line.startswith("#")) == [
        f"umount -N {point}" for point in points
    ]
    ended = hand(cbsd, "recover", "jail1")
    assert ended.returncode == 75
    assert "it runs" in last_line(ended)
    assert len(cbsd.site.table) == 3
    cbsd.site.world.stop_jail("jail1")
    cbsd.site.world.forget_calls()
    ended = hand(cbsd, "recover", "jail1")
    assert (ended.returncode, cbsd.site.table) == (0, [])
    assert sorted(call["argv"][-1] for call in cbsd.site.world.calls("umount")) == points
    assert all(call["argv"][1] == "-N" for call in cbsd.site.world.calls("umount"))


def test_fault_50_51_recover_and_start_again(cbsd: Toy) -> None:
    cbsd.site.world.stale(cbsd.site.point("data"))
    assert hand(cbsd, "recover", "--remount", "jail1").returncode == 75
    assert hand(cbsd, "recover", "--remount", "--running", "jail1").returncode == 0
    assert cbsd.site.table == cbsd.site.wanted()
    assert check(cbsd) == (0, [])


def test_recover_leaves_alone_what_is_well(cbsd: Toy) -> None:
    before = cbsd.site.table
    ended = hand(cbsd, "recover")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert cbsd.site.table == before


# A dead server is paid for once.


def test_fault_18_hooks_do_not_wait_one_after_the_other(cbsd: Toy) -> None:
    cbsd.site.configure(TIMEOUT="4", BREAKER="30")
    cbsd.site.world.freeze(SERVER)
    assert cbsd.site.start(name="jail2").returncode == 75
    assert cbsd.site.mounting != []
    cbsd.add("jail3")
    cbsd.site.world.forget_calls()
    ended = cbsd.site.start(name="jail3")
    assert (ended.returncode, cbsd.site.world.calls()) == (75, [])
    assert f"{SERVER}:2049 gave no answer" in last_line(ended)
    # By hand it is asked nonetheless.
    assert hand(cbsd, "start", "nfs", "-j", "jail3").returncode == 75
    assert cbsd.site.mounting != []


@pytest.mark.parametrize("how", ["thaw", "time", "off"])
def test_fault_19_a_server_that_is_back(cbsd: Toy, how: str) -> None:
    cbsd.site.configure(TIMEOUT="4", BREAKER="0" if how == "off" else "2")
    cbsd.site.world.freeze(SERVER)
    assert cbsd.site.start(name="jail2").returncode == 75
    if how == "thaw":
        cbsd.site.world.thaw(SERVER)
        assert cbsd.site.start(name="jail2").returncode == 0
        return
    if how == "time":
        time.sleep(2.1)
    cbsd.site.world.forget_calls()
    assert cbsd.site.start(name="jail2").returncode == 75
    assert cbsd.site.mounting != []
