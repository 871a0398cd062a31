"""Operating the environments of a CBSD host: a stop that happens, a removal that spares what is remote, the reaper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy
from cbsd import NFS4, SERVER, Site, last_line
from toy import Toy, at_rest, hand, until

from envstart.cbsd import inventory
from envstart.errors import UnavailableError
from envstart.hooks import poststop
from envstart.system import filesystem, process_table
from envstart.system.log import Report

# No other run of the tests on this host has one of that name.
ENV = f"env{os.getpid()}"
KINDS = [("jail", 1), ("jail", 0), ("bhyve", 0)]
LETTER = {"jail": "j", "bhyve": "b"}


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, NFS4, getfsstat=True) as site:
        yield Toy(site)


def started(cbsd: Toy, emulator: str, baserw: int, *, install: bool = True) -> str:
    """Start an environment whose stop is taken care of, and return the letter of its commands."""
    cbsd.add(ENV, emulator, baserw=baserw)
    letter = LETTER[emulator]
    ended = cbsd.run(f"{letter}start", ENV)
    assert ended.returncode == 0, ended
    if install:
        assert hand(cbsd, "install", ENV).returncode == 0
    return letter


# The links.


def test_links_go_where_cbsd_looks_and_nowhere_else(cbsd: Toy) -> None:
    refused = hand(cbsd, "install", "jail1")
    assert refused.returncode == 75
    assert "it is not mounted" in last_line(refused)
    cbsd.run("jstart")
    made = hand(cbsd, "install", "*")
    own = [f"{cbsd.site.point('system')}/{name}/envstart" for name in ("master_poststop.d", "remove.d")]
    assert set(own) <= set(made.stdout.splitlines())
    for name, program in (("master_poststop.d", "env_poststop"), ("remove.d", "env_remove")):
        for directory in (cbsd.sysdata() / name, cbsd.skeleton(name)):
            assert (directory / "envstart").resolve() == toy.HOOKS / program
    assert hand(cbsd, "install", "*").stdout == ""
    taken = hand(cbsd, "uninstall", "*")
    assert sorted(taken.stdout.splitlines()) == sorted(made.stdout.splitlines())
    assert not (cbsd.sysdata() / "remove.d" / "envstart").is_symlink()


def test_links_of_several_workdirs_and_what_cannot_be_told(cbsd: Toy, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "var" / "db").mkdir(parents=True)
    assert cbsd.run("jstart").returncode == 0
    ended = cbsd.site.hand("install", "-w", str(other), "-w", str(cbsd.workdir), "jail1")
    assert (ended.returncode, ended.stdout.count("/envstart\n")) == (75, 2), ended
    cbsd.site.conf.write_text(cbsd.site.conf.read_text() + "TYPO=1\n")
    ended = hand(cbsd, "install", "jail1")
    assert ended.returncode == 78
    assert "TYPO" in last_line(ended)
    ended = hand(cbsd, "uninstall", "jail1")
    assert (ended.returncode, ended.stdout.count("/envstart\n")) == (0, 2), ended
    cbsd.link.unlink()
    (cbsd.workdir / "etc" / "env_start_nullfs.conf").write_text("")
    ended = hand(cbsd, "install", "jail1")
    assert ended.returncode == 78
    assert "cannot tell which hook jail1 has: cannot read" in last_line(ended)


def test_new_vms_get_the_links_as_well(cbsd: Toy) -> None:
    cbsd.run("jstart")
    hand(cbsd, "install", "*")
    assert (cbsd.skeleton("master_poststop.d", "bhyve") / "envstart").is_symlink()


@pytest.mark.parametrize("program", ["env_poststop", "env_remove"])
def test_a_program_knows_itself_behind_its_link(tmp_path: Path, program: str) -> None:
    """Run for real: CBSD calls it by the name of the link."""
    link = tmp_path / "envstart"
    link.symlink_to(toy.HOOKS / program)
    ended = subprocess.run([link], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.split(": ")[:2]) == (64, [program, "cannot tell which jail or VM is meant"])


# A stop that happens.


@pytest.mark.first(2)
@pytest.mark.parametrize(("emulator", "baserw"), KINDS)
def test_a_stop_of_cbsd_leaves_nothing_mounted(cbsd: Toy, emulator: str, baserw: int) -> None:
    letter = started(cbsd, emulator, baserw)
    ended = cbsd.run(f"{letter}stop", ENV)
    assert ended.returncode == 0, ended
    at_rest(cbsd)
    assert cbsd.site.table == []
    assert str(cbsd.site.point("system", ENV)) in [call["argv"][-1] for call in cbsd.site.world.calls("umount")]
    assert cbsd.run(f"{letter}start", ENV).returncode == 0
    assert cbsd.runs(ENV)


def test_what_cbsd_does_in_the_background_is_waited_for(cbsd: Toy) -> None:
    """save-jail-info writes into the system directory when the stop is over: into the bare mount point, if need be."""
    started(cbsd, "jail", 1)
    system = cbsd.site.point("system", ENV)
    with cbsd.aftermath():
        cbsd.run("jstop", ENV)
        looks = cbsd.site.count("jls")
        until(lambda: cbsd.site.count("jls") > looks + 2 or not cbsd.mounted(), "nobody looks whether CBSD has ended")
        assert f"jails-system/{system.name}" in cbsd.mounted()
    at_rest(cbsd)
    assert (cbsd.site.table, list(system.iterdir())) == ([], [])
    assert (cbsd.sysdata(ENV) / "stats.json").exists()


def test_a_second_stop_of_a_vm_is_waited_for(cbsd: Toy) -> None:
    """The wrapper of a VM ends with a bstop of its own, which writes into the system directory before its hooks."""
    started(cbsd, "bhyve", 0)
    command = [str(cbsd.distdir / "sudoexec" / "bstop"), "-c", "import time; time.sleep(60)", f"jname={ENV}"]
    with subprocess.Popen(command, executable=sys.executable) as second:
        cbsd.run("bstop", ENV)
        looks = cbsd.site.count("jls")
        until(lambda: cbsd.site.count("jls") > looks + 2 or not cbsd.mounted(), "nobody looks whether CBSD has ended")
        assert f"jails-system/{ENV}" in cbsd.mounted()
        second.kill()
    at_rest(cbsd)
    assert cbsd.site.table == []


def test_a_start_that_comes_first_is_left_alone(cbsd: Toy) -> None:
    """CBSD is done and the environment runs again, while the stop of the one before still waits for its turn."""
    started(cbsd, "jail", 1)
    cbsd.site.world.fault("jls", "slow", seconds=4, times=None)
    cbsd.run("jstop", ENV)
    cbsd.site.world.clear_faults()
    cbsd.run("jstart", ENV)
    own = sorted(cbsd.mounted())
    until(lambda: not any("env_poststop" in line for line in toy.processes(cbsd.site)), "it waits for ever")
    assert (sorted(cbsd.mounted()), cbsd.runs(ENV)) == (own, True)


def test_a_start_that_could_leave_no_mark(cbsd: Toy) -> None:
    """On a full disk the mark of a start is not made: that CBSD is at it shows all the same."""
    cbsd.add("unmarked")
    assert cbsd.run("jstart", "unmarked").returncode == 0
    assert hand(cbsd, "install", "unmarked").returncode == 0
    begins = ["sh", "-c", "sleep 60; :", "/usr/local/cbsd/sudoexec/jstart", 'jname="unmarked"']
    with subprocess.Popen(begins, start_new_session=True) as start:
        try:
            cbsd.run("jstop", "unmarked")
            at_rest(cbsd)
            told = [line for line in cbsd.site.world.syslog() if "CBSD starts it" in line]
            assert len(told) == 1
            assert f"cannot stop unmarked: CBSD starts it (pid {start.pid}); it is not touched" in told[0]
            assert cbsd.site.table != []
        finally:
            os.killpg(start.pid, signal.SIGKILL)
    assert hand(cbsd, "orphans", "--stop", "--grace", "0").returncode == 0
    assert cbsd.site.table == []


def test_a_stop_that_is_called_twice(cbsd: Toy) -> None:
    """The end of a VM calls bstop once more, when its directories are gone already (docs/cbsd.md#directory-hooks)."""
    started(cbsd, "bhyve", 0)
    cbsd.run("bstop", ENV)
    cbsd.run("bstop", ENV)
    at_rest(cbsd)
    assert cbsd.site.table == []


@pytest.mark.first(1)
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_killed_at_any_command_the_reaper_finishes_it(cbsd: Toy, when: str) -> None:
    site = cbsd.site
    reached = 0
    for number in range(1, 100):
        site.preset()
        site.world.forget_calls()
        site.world.fault(None, "kill-parent", nth=number, when=when)
        assert site.world.run("env_poststop", env=cbsd.stop_variables()).returncode == 0
        at_rest(cbsd)
        site.world.clear_faults()
        if len(site.world.calls()) < number:
            assert site.table == []
            break
        reached = number
        ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
        assert (ended.returncode, site.table) == (0, []), (number, ended)
    # The kernel is asked what runs, and three directories are unmounted.
    assert 4 <= reached < 99


def test_what_cbsd_has_left_on_top_is_waited_for(cbsd: Toy) -> None:
    """Its clean-up died halfway; somebody repeats it."""
    started(cbsd, "jail", 0)
    cbsd.site.world.fault("umount", "kill-parent", nth=2)
    cbsd.run("jstop", ENV)
    own = {f"jails-data/{ENV}-data", f"jails-fstab/{ENV}", f"jails-system/{ENV}"}
    assert own < set(cbsd.mounted())
    cbsd.run("jcleanup", ENV)
    at_rest(cbsd)
    assert cbsd.site.table == []


# A removal.


def files(cbsd: Toy, name: str) -> set[str]:
    """Return the files on the server, but for what CBSD writes and deletes while an environment lives."""
    found = set()
    for which in ("data", "system", "fstab"):
        top = cbsd.held(which, name)
        found |= {f"{which}/{path.relative_to(top)}" for path in top.rglob("*")}
    passing = ("stats.json", "locked", "local.sqlite-wal", "local.sqlite-shm", f"rc.conf_{ENV}")
    return {path for path in found if not path.endswith(passing)}


@pytest.mark.first(2)
@pytest.mark.parametrize(("emulator", "baserw"), KINDS)
@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_a_removal_keeps_the_files_on_the_server(cbsd: Toy, emulator: str, baserw: int, *, running: bool) -> None:
    letter = started(cbsd, emulator, baserw, install=False)
    if not running:
        # A stop that nobody took care of: the shares are still mounted.
        cbsd.run(f"{letter}stop", ENV)
        at_rest(cbsd)
    assert hand(cbsd, "install", ENV).returncode == 0
    before = files(cbsd, ENV)
    ended = cbsd.run(f"{letter}remove", ENV)
    assert ended.returncode == 0, ended
    at_rest(cbsd)
    assert files(cbsd, ENV) == before
    assert (cbsd.site.table, cbsd.row(ENV), cbsd.runs(ENV)) == ([], {}, False)
    assert not cbsd.site.point("data", ENV).exists()


def test_case_a1_a_removal_when_the_hook_cannot_be_told(cbsd: Toy) -> None:
    """CBSD goes on when this ends, and deletes what is mounted: the mount table alone must do."""
    cbsd.site.preset()
    variables = cbsd.stop_variables()
    for backend in ("nfs", "nullfs"):
        (cbsd.workdir / "etc" / f"env_start_{backend}.conf").touch()
    (cbsd.workdir / "var" / "db" / "local.sqlite").unlink()
    ended = cbsd.site.world.run("env_remove", env=variables)
    assert (ended.returncode, cbsd.site.table) == (0, [])
    assert "local.sqlite: there is no such file" in ended.stderr


@pytest.mark.parametrize("program", ["env_poststop", "env_remove"])
def test_links_from_a_skeleton_in_one_that_has_another_hook(cbsd: Toy, program: str) -> None:
    cbsd.add("jail2", hook="/root/bin/mine")
    cbsd.site.preset()
    before = cbsd.site.table
    ended = cbsd.site.world.run(program, env=cbsd.stop_variables("jail2"))
    at_rest(cbsd)
    assert (ended.returncode, ended.stderr, cbsd.site.table) == (0, "", before)
    assert not [line for line in cbsd.site.world.syslog() if "cannot" in line]


# The reaper.


def test_the_reaper_leaves_alone_what_runs_and_what_starts(cbsd: Toy) -> None:
    cbsd.run("jstart")
    cbsd.add("jail2")
    assert cbsd.site.start(name="jail2").returncode == 0
    before = cbsd.site.table
    assert hand(cbsd, "orphans", "--stop").returncode == 0
    assert cbsd.site.table == before
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert (ended.returncode, cbsd.site.foreign("jail2")) == (0, cbsd.site.table)
    assert cbsd.runs()


def test_the_reaper_by_another_way_to_the_workdir(cbsd: Toy) -> None:
    """What was started a moment ago is known by the name that the workdir has without links."""
    link = cbsd.workdir.with_name("link")
    link.symlink_to(cbsd.workdir)
    assert cbsd.site.start().returncode == 0
    before = cbsd.site.table
    ended = cbsd.site.hand("orphans", "--stop", "-w", str(link))
    assert (ended.returncode, cbsd.site.table) == (0, before)
    words = [word.replace(str(cbsd.workdir), str(link)) for word in cbsd.site.args()]
    assert cbsd.site.world.run("env_stop_nfs", *words).returncode == 0
    assert cbsd.site.table == []
    assert len(list((cbsd.site.world.path / "run").glob("jail1.*.lock"))) == 1


def test_the_reaper_waits_for_cbsd(cbsd: Toy) -> None:
    """A jail that is being made can take longer than the reaper's patience."""
    cbsd.site.preset()
    command = [str(cbsd.distdir / "sudoexec" / "jcreate"), "-c", "import time; time.sleep(60)", "jname=jail1"]
    with subprocess.Popen(command, executable=sys.executable) as maker:
        before = cbsd.site.table
        ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
        maker.kill()
    assert (ended.returncode, cbsd.site.table) == (75, before)
    assert f"CBSD is at work on it (pid {maker.pid})" in last_line(ended)
    assert hand(cbsd, "orphans", "--stop", "--grace", "0").returncode == 0
    assert cbsd.site.table == []


def test_the_reaper_knows_what_is_not_registered_any_more(cbsd: Toy) -> None:
    cbsd.site.preset()
    cbsd.unregister("jail1")
    assert all(node in hand(cbsd, "orphans").stdout for _, node, _ in cbsd.site.table)
    assert hand(cbsd, "orphans", "--stop", "--grace", "0").returncode == 0
    assert cbsd.site.table == []


@pytest.mark.parametrize(("emulator", "runs"), [("jail", True), ("bhyve", True), ("qemu", False)])
def test_the_reaper_without_a_database_leaves_all_alone(cbsd: Toy, emulator: str, *, runs: bool) -> None:
    """What an environment is was in there, and of a qemu VM also whether it runs."""
    if runs:
        started(cbsd, emulator, 0)
    else:
        cbsd.site.preset()
    cbsd.site.configure(STOP_FORCE="1")
    database = cbsd.workdir / "var" / "db" / "local.sqlite"
    database.rename(database.with_suffix(".gone"))
    before = cbsd.site.table
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert (ended.returncode, ended.stdout, cbsd.site.table) == (75, "", before), ended
    assert "local.sqlite: there is no such file" in ended.stderr


@pytest.mark.parametrize("closed", ["var/db", "var/db/inv.node.sqlite"])
def test_a_database_that_others_may_not_read(closed: str) -> None:
    """CBSD makes the directory 0770 and the file 0660. pytest's own directory lets nobody else in."""
    with tempfile.TemporaryDirectory() as workdir:
        database = Path(workdir, "var", "db", "inv.node.sqlite")
        database.parent.mkdir(parents=True)
        database.touch()
        database.with_name("local.sqlite").symlink_to(database.name)
        os.chmod(workdir, 0o755)
        user = os.geteuid()
        os.chmod(f"{workdir}/{closed}", 0o700 if user == 0 else 0)
        os.seteuid(user or 65534)
        try:
            _, problems, complete, _ = inventory.collect(workdir)
        finally:
            os.seteuid(user)
            os.chmod(f"{workdir}/{closed}", 0o700)
    ((message, hint),) = problems
    assert message == f"cannot read {workdir}/var/db/local.sqlite: Permission denied"
    assert hint.startswith("run it as root: sudo ")
    # The whole command line, with the tool by the path that it was called by.
    assert hint.endswith(f"envstart check -w {workdir}")
    assert not complete


def test_a_python_without_sqlite(cbsd: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FreeBSD's package of it is: the module is a package of its own."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    rows, problems, complete, _ = inventory.collect(str(cbsd.workdir))
    assert ([row["jname"] for row in rows], complete) == (["jail1"], False)
    ((message, hint),) = problems
    assert message.endswith(" has no sqlite3")
    assert hint == f"pkg install py{sys.version_info[0]}{sys.version_info[1]}-sqlite3"
    stub = cbsd.site.point("system") / "local.sqlite"
    stub.write_bytes(b"")
    assert filesystem.bare([str(stub.parent)]) == [(["local.sqlite"], False)]


# A dead server.


def test_the_reaper_waits_for_a_dead_server_once(cbsd: Toy) -> None:
    """At the shutdown of a host there is a minute for all (rc.d/envstart), and those of other servers come after it."""
    site, other = cbsd.site, "172.16.0.2"
    # Names that no CBSD of another test, whose processes this one sees too, is at work on.
    names = [f"silent{number}" for number in range(5)]
    for name in (*names, "last"):
        cbsd.add(name)
    site.configure(PROBE_TIMEOUT="3")
    site.conf.write_text(site.conf.read_text() + f'[last]\nNFS_SERVER="{other}"\n')
    for name in names:
        site.preset(name=name)
    for which in ("data", "system", "fstab"):
        site.world.export(other, f"/nfs/{which}/last")
        site.world.mount(f"{other}:/nfs/{which}/last", site.point(which, "last"))
    site.world.freeze(SERVER)
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0", "--timeout", "60")
    assert ended.returncode == 75
    assert {node for source, node, _ in site.table if source.startswith(other)} == set(), ended.stderr
    assert len(site.table) == 3 * len(names)
    said = ended.stderr.splitlines()
    assert sum("set STOP_FORCE=1" in line for line in said) == 1
    assert sum(f"{SERVER} gave no answer a moment ago" in line for line in said) == len(names) - 1


def test_a_dead_server_is_paid_for_once(cbsd: Toy) -> None:
    cbsd.site.configure(TIMEOUT="5", NFS_MOUNT_TIMEOUT="1")
    names = [f"env{number}" for number in range(5)]
    for name in names:
        cbsd.site.add(name)
    cbsd.site.world.freeze(SERVER)
    assert cbsd.site.start().returncode == 75
    assert cbsd.site.mounting
    cbsd.site.world.forget_calls()
    for name in names:
        ended = cbsd.site.start(name=name)
        assert (ended.returncode, f"{SERVER}:2049" in last_line(ended)) == (75, True)
    assert cbsd.site.mounting == []
    cbsd.site.world.thaw(SERVER)
    assert cbsd.site.start(name=names[0]).returncode == 0


def test_without_psutil_a_stop_happens_all_the_same(cbsd: Toy) -> None:
    """Who has called, and who still writes into the system directory, ps(1) tells as well."""
    started(cbsd, "jail", 1)
    cbsd.site.world.set(no_modules=["psutil"])
    with cbsd.aftermath():
        cbsd.run("jstop", ENV)
        looks = cbsd.site.count("jls")
        until(lambda: cbsd.site.count("jls") > looks + 2 or not cbsd.mounted(), "nobody looks whether CBSD has ended")
        assert f"jails-system/{ENV}" in cbsd.mounted()
    at_rest(cbsd)
    assert cbsd.site.table == []


def test_without_psutil_a_removal_spares_what_is_remote(cbsd: Toy) -> None:
    letter = started(cbsd, "jail", 0)
    (cbsd.held("data", ENV) / "file").write_text("kept\n")
    cbsd.site.world.set(no_modules=["psutil"])
    ended = cbsd.run(f"{letter}remove", ENV)
    assert ended.returncode == 0, ended
    at_rest(cbsd)
    assert (cbsd.held("data", ENV) / "file").exists()
    assert cbsd.site.table == []


def test_without_psutil_the_same_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    told = []
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60; : jname=env1", "/sudoexec/jstart", f"jname={ENV}"]) as child:
        for library in (psutil, None):
            monkeypatch.setitem(sys.modules, "psutil", library)
            began = process_table.start_time(child.pid)
            told.append(
                (
                    process_table.find_cbsd_process(["/sudoexec/jstart"], ENV),
                    process_table.find_by_argv(["sh"], f"jname={ENV}"),
                    [pid for pid, _ in process_table.cbsd_ancestors("pytest")],
                    process_table.same_process(child.pid, began),
                    process_table.same_process(child.pid, began - 60),
                )
            )
        child.kill()
    assert told[0] == told[1]
    assert (told[0][0], told[0][3:]) == (child.pid, (True, False))


def test_without_psutil_and_ps_nothing_is_stopped_under_cbsds_hands(cbsd: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell then when CBSD has ended, which still writes into the system directory."""
    for name, value in cbsd.stop_variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(process_table, "_by_ps", dict)
    monkeypatch.setattr(os, "fork", None)
    with pytest.raises(UnavailableError) as caught:
        poststop.main(Report("env_poststop"))
    assert "psutil is missing" in str(caught.value)


@pytest.mark.parametrize("program", ["env_poststop", "env_remove"])
def test_the_programs_behind_the_links_by_hand(cbsd: Toy, program: str) -> None:
    cbsd.site.preset()
    run = cbsd.site.world.run
    ended = run(program, "-h")
    assert (ended.returncode, ended.stdout.startswith(f"usage: {program}")) == (0, True)
    for argv, variables, words in (([], {}, "install has put"), (["-x"], cbsd.stop_variables(), "takes no arguments")):
        ended = run(program, *argv, env=variables)
        assert (ended.returncode, words in last_line(ended)) == (64, True)
    at_rest(cbsd)
    assert cbsd.site.table == cbsd.site.wanted()
