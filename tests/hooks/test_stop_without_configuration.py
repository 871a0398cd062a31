"""Taking away is never stricter than bringing: a stop, a removal with a configuration that cannot be read, or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import toy
from cbsd import NFS4, SERVER, Site
from toy import Toy, at_rest, hand, until

from envstart.hooks.guard import Guard
from envstart.system import process_table
from envstart.system.host import Host
from envstart.system.log import Report

SPOILT: dict[str, Callable[[Path], object]] = {
    "another section": lambda conf: conf.write_text(conf.read_text() + '[other]\nTIMEOUT="ten"\nNFS_SERVR="x"\n'),
    "its own section": lambda conf: conf.write_text(conf.read_text() + '[env1]\nNFS_SERVER="not a server"\n'),
    "a general key": lambda conf: conf.write_text(conf.read_text() + 'TIMEOUT="ten"\n'),
    "a quote that is not closed": lambda conf: conf.write_text(conf.read_text() + '[other]\nNFS_SERVER="x\n[env1]\n'),
    "another server": lambda conf: conf.write_text(conf.read_text().replace(SERVER, "172.16.0.9")),
    "an empty file": lambda conf: conf.write_text(""),
    "no file": lambda conf: conf.unlink(),
    "somebody else's": lambda conf: conf.chmod(0o666),
    "no text": lambda conf: conf.write_bytes(b"\xff\x00\n" * 99),
}


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, NFS4, getfsstat=True) as site:
        yield Toy(site)


def held(cbsd: Toy, name: str = "env1") -> set[Path]:
    """Return the files on the server, without what CBSD itself writes in a stop or a removal."""
    own = [cbsd.site.held("data", name), cbsd.site.held("fstab", name), cbsd.site.held("system", name) / "remove.d"]
    return {path for top in own for path in top.rglob("*") if path.is_file() or path.is_symlink()}


def running(cbsd: Toy, emulator: str = "jail", baserw: int = 0) -> str:
    """Return a jail or VM that runs, with the links of ``envstart install``; the letter of its commands."""
    cbsd.add("env1", emulator, baserw=baserw)
    letter = {"jail": "j", "bhyve": "b"}[emulator]
    assert cbsd.run(f"{letter}start", "env1").returncode == 0
    assert hand(cbsd, "install", "env1").returncode == 0
    for number in range(40):
        (cbsd.held("data", "env1") / f"file{number}").write_text("kept\n")
    return letter


def record(cbsd: Toy) -> list[Path]:
    return sorted((cbsd.site.world.path / "var" / "db" / "envstart").glob("*.record"))


@pytest.mark.first(3)
@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize(("emulator", "baserw"), [("jail", 0), ("jail", 1), ("bhyve", 0)])
def test_case_a1_a_removal_spares_what_is_remote(cbsd: Toy, emulator: str, baserw: int, spoilt: str) -> None:
    letter = running(cbsd, emulator, baserw)
    before = held(cbsd)
    SPOILT[spoilt](cbsd.site.conf)
    ended = cbsd.run(f"{letter}remove", "env1")
    assert ended.returncode == 0, ended
    at_rest(cbsd)
    assert held(cbsd) == before
    assert (cbsd.site.table, cbsd.row("env1"), cbsd.runs("env1")) == ([], {}, False)
    assert not cbsd.site.point("data", "env1").exists()
    assert record(cbsd) == []


def started(cbsd: Toy, spoilt: str) -> None:
    """Start a jail by a configuration that cannot be used any more."""
    assert cbsd.site.start().returncode == 0
    SPOILT[spoilt](cbsd.site.conf)
    assert cbsd.site.start().returncode != 0


@pytest.mark.parametrize("spoilt", SPOILT)
def test_case_a1_a_stop_by_the_record(cbsd: Toy, spoilt: str) -> None:
    started(cbsd, spoilt)
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert record(cbsd) == []


@pytest.mark.parametrize("spoilt", SPOILT)
def test_case_a1_the_reaper_by_the_record(cbsd: Toy, spoilt: str) -> None:
    started(cbsd, spoilt)
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert (ended.returncode, cbsd.site.table) == (0, []), ended


@pytest.mark.parametrize("spoilt", [name for name in SPOILT if name != "another server"])
def test_case_a1_a_stop_without_a_record(cbsd: Toy, spoilt: str) -> None:
    """As after an upgrade from a version that kept none."""
    started(cbsd, spoilt)
    record(cbsd)[0].unlink()
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended


def test_case_a1_a_server_that_died_below_a_spoilt_configuration(cbsd: Toy) -> None:
    started(cbsd, "an empty file")
    cbsd.site.world.freeze(SERVER)
    ended = hand(cbsd, "recover", "jail1")
    assert (ended.returncode, cbsd.site.table) == (0, []), ended


@pytest.mark.first(3)
@pytest.mark.parametrize("nth", range(1, 4))
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_case_a1_a_start_that_was_killed(cbsd: Toy, nth: int, when: str) -> None:
    """At any of its commands; what it has mounted by then is removed with a configuration that says nothing."""
    cbsd.add("env1", baserw=0)
    for number in range(40):
        (cbsd.held("data", "env1") / f"file{number}").write_text("kept\n")
    before = held(cbsd)
    cbsd.site.world.fault(None, "kill-parent", nth=nth, when=when)
    cbsd.site.start(name="env1")
    cbsd.site.conf.write_text("")
    # As CBSD calls it, which has not started the jail.
    ended = cbsd.site.world.run("env_remove", env=cbsd.stop_variables("env1"))
    at_rest(cbsd)
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert held(cbsd) == before


@pytest.mark.parametrize("spoilt", ["another section", "an empty file"])
def test_case_a1_no_room_for_a_record(cbsd: Toy, spoilt: str) -> None:
    directory = cbsd.site.world.path / "var"
    directory.write_text("no directory can be made here")
    ended = cbsd.site.start()
    assert (ended.returncode, cbsd.site.table) == (0, cbsd.site.wanted())
    assert "cannot write" in ended.stderr
    # The short way would not try again.
    assert "cannot write" in cbsd.site.start().stderr
    SPOILT[spoilt](cbsd.site.conf)
    assert cbsd.site.stop().returncode == 0
    assert cbsd.site.table == []


def test_case_a1_two_workdirs_have_a_record_each(cbsd: Toy, tmp_path: Path) -> None:
    assert cbsd.site.start().returncode == 0
    other = tmp_path / "other"
    words = [word.replace(str(cbsd.workdir), str(other)) for word in cbsd.site.args()]
    shutil.copytree(cbsd.workdir / "etc", other / "etc")
    for word in words[1::2]:
        if word.startswith("/"):
            Path(word).mkdir(parents=True)
    assert cbsd.site.world.run("env_start_nfs", *words).returncode == 0
    assert len(record(cbsd)) == 2
    for conf in (cbsd.site.conf, other / "etc" / "env_start_nfs.conf"):
        conf.unlink()
    assert cbsd.site.world.run("env_stop_nfs", *words).returncode == 0
    assert cbsd.site.table == cbsd.site.wanted()
    assert cbsd.site.stop().returncode == 0
    assert (cbsd.site.table, record(cbsd)) == ([], [])


@pytest.mark.parametrize("change", ["cut", "another version", "writable", "a link", "not whole", "a directory"])
def test_a_record_that_cannot_be_trusted_is_not_there(cbsd: Toy, change: str) -> None:
    assert cbsd.site.start().returncode == 0
    (path,) = record(cbsd)
    text = path.read_text()
    if change == "cut":
        path.write_text(text[: len(text) // 2])
    elif change == "another version":
        path.write_text(text.replace("VERSION='1'", "VERSION='2'"))
    elif change == "writable":
        path.chmod(0o666)
    elif change == "a link":
        path.rename(path.with_suffix(".moved"))
        path.symlink_to(path.with_suffix(".moved"))
    elif change == "not whole":
        path.write_text(text.replace("DATA=", "DTA="))
    else:
        path.unlink()
        path.mkdir()
    # A start that finds all as it was writes it anew, where that is possible; so does none here.
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert "going on without it" in ended.stderr


def test_a_record_is_for_root_alone_and_has_what_a_plan_is_made_of(cbsd: Toy) -> None:
    cbsd.site.configure(NFS_SERVER_ROOT_DIR="/nfs", TIMEOUT="21")
    assert cbsd.site.start().returncode == 0
    (path,) = record(cbsd)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    lines = path.read_text().splitlines()
    assert {"BACKEND='nfs'", "NAME='jail1'", "TIMEOUT='21'", f"CONFIGURATION='{cbsd.site.conf}'"} <= set(lines)
    assert lines[-1] == "VERSION='1'"


def test_a_failed_start_leaves_the_record_that_was_there(cbsd: Toy) -> None:
    cbsd.site.world.fault("mount_nfs", times=None)
    assert cbsd.site.start().returncode != 0
    assert (record(cbsd), cbsd.site.table) == ([], [])


def test_the_short_way_notices_that_the_record_is_gone(cbsd: Toy) -> None:
    assert cbsd.site.start().returncode == 0
    assert cbsd.site.start().returncode == 0
    (path,) = record(cbsd)
    path.unlink()
    assert cbsd.site.start().returncode == 0
    assert record(cbsd) == [path]


# What goes on while CBSD waits.


def removing(cbsd: Toy) -> subprocess.Popen[str]:
    """``jremove`` of a jail of which something stays mounted, when it has been waiting for a while."""
    running(cbsd, baserw=0)
    films = cbsd.site.point("data", "env1") / "films"
    (cbsd.held("data", "env1") / "films").mkdir()
    (cbsd.site.world.path.parent / "shared").mkdir()
    (cbsd.site.world.path.parent / "shared" / "film").write_text("kept\n")
    cbsd.site.world.mount(str(cbsd.site.world.path.parent / "shared"), films, "nullfs")
    process = cbsd.begin("jremove", "env1")
    until(lambda: any("env_remove" in line for line in toy.processes(cbsd.site)), "env_remove does not begin")
    time.sleep(2)
    return process


def test_case_a1_a_mount_of_the_administrators_is_waited_for(cbsd: Toy) -> None:
    process = removing(cbsd)
    film = cbsd.site.world.path.parent / "shared" / "film"
    assert process.poll() is None
    time.sleep(12)
    assert film.exists()
    subprocess.run(
        [cbsd.site.world.path / "bin" / "umount", cbsd.site.point("data", "env1") / "films"], check=True, timeout=60
    )
    _, err = process.communicate(timeout=120)
    assert "waiting for 1" in err
    assert "films" in err
    assert film.exists()
    assert cbsd.site.table == []


def env_remove(cbsd: Toy) -> int:
    """Return the pid of env_remove itself, and not of one of its children."""
    columns = ["-o", "pid=", "-o", "ppid=", "-o", "args="]
    listing = subprocess.run(["ps", "-axww", *columns], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    own = [row for row in rows if str(cbsd.site.world.path) in row[2] and "env_remove" in row[2]]
    outer = {row[0] for row in own}
    return int(next(row[0] for row in own if row[1] not in outer and "process.py" in row[2]))


# A guard halts CBSD at once if env_remove is killed: its shell waits for nothing else.
@pytest.mark.first(4)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("whom", ["env_remove alone", "the process group"])
def test_case_a1_who_interrupts_it_loses_nothing(cbsd: Toy, number: signal.Signals, whom: str) -> None:
    process = removing(cbsd)
    before = held(cbsd)
    if whom == "the process group":
        os.killpg(process.pid, number)
    else:
        os.kill(env_remove(cbsd), number)
    process.communicate(timeout=120)
    until(lambda: not any("sudoexec" in line for line in toy.processes(cbsd.site)), "CBSD goes on")
    until(lambda: not any("env_remove" in line for line in toy.processes(cbsd.site)), "env_remove goes on")
    assert held(cbsd) == before
    assert (cbsd.site.world.path.parent / "shared" / "film").exists()
    assert cbsd.row("env1")


@pytest.mark.parametrize(("danger", "how"), [("a mount", "fails"), ("", "fails"), ("a mount", "ends")])
def test_case_a1_the_guard_ends_cbsd_if_something_is_mounted(danger: str, how: str) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as cbsd:
        callers = [(cbsd.pid, process_table.start_time(cbsd.pid))]
        with contextlib.suppress(ValueError), Guard(Host(Report("env_remove")), callers, lambda: danger):
            if how == "fails":
                raise ValueError("a bug")
        ended = danger and how == "fails"
        time.sleep(0.2)
        assert cbsd.poll() == (-signal.SIGKILL if ended else None)
        assert ended or psutil.Process(cbsd.pid).status() != psutil.STATUS_STOPPED
        cbsd.kill()


def test_case_a1_what_the_configuration_names_no_more(cbsd: Toy) -> None:
    """MOUNT_FSTAB was changed while it ran, and it was started again: nothing but the mount table has the mount."""
    letter = running(cbsd, "jail", 0)
    before = held(cbsd)
    cbsd.site.configure(MOUNT_FSTAB="0")
    assert cbsd.site.start(name="env1").returncode == 0
    ended = cbsd.run(f"{letter}remove", "env1")
    assert ended.returncode == 0, ended
    assert (held(cbsd), cbsd.site.table) == (before, [])


# What CBSD does not know.


def unregistered(cbsd: Toy) -> None:
    """jail1 is mounted, and CBSD has forgotten it, as junregister leaves it."""
    assert cbsd.site.start().returncode == 0
    cbsd.unregister("jail1")


def test_case_a2_mounted_and_not_registered_is_critical(cbsd: Toy) -> None:
    unregistered(cbsd)
    ended = hand(cbsd, "check")
    assert ended.returncode == 2
    assert "mounted and not registered" in ended.stdout
    assert "cbsd jremove jail1 would delete what is in it" in ended.stdout
    ended = hand(cbsd, "doctor")
    assert ended.returncode == 2
    assert "CRITICAL: jail1: " in ended.stdout
    assert "would delete what is in it" in ended.stdout


def test_case_a2_what_is_said_helps(cbsd: Toy) -> None:
    unregistered(cbsd)
    ended = hand(cbsd, "orphans", "--stop", "jail1", "--grace", "0")
    assert (ended.returncode, cbsd.site.table) == (0, [])
    assert hand(cbsd, "check").returncode == 0


def test_case_a2_what_cbsd_does_not_list_but_would_delete(cbsd: Toy) -> None:
    """A jdestroy looks for rc.conf_NAME in the system directory, where each stop leaves one."""
    assert cbsd.site.start().returncode == 0
    (cbsd.sysdata() / "rc.conf_jail1").write_text('jname="jail1";\n')
    cbsd.execute("DELETE FROM jails WHERE jname = ?", "jail1")
    age(cbsd)
    ended = hand(cbsd, "check")
    assert (ended.returncode, "mounted and not registered" in ended.stdout) == (2, True), ended


def age(cbsd: Toy) -> None:
    """Let the last start be long ago."""
    for path in (cbsd.site.world.path / "run").glob("*.started"):
        path.unlink()


def test_what_cbsd_knows_no_more_is_stopped_by_its_record(cbsd: Toy) -> None:
    assert cbsd.site.start().returncode == 0
    cbsd.execute("DELETE FROM jails WHERE jname = ?", "jail1")
    cbsd.site.conf.unlink()
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert (ended.returncode, cbsd.site.table, record(cbsd)) == (0, [], []), ended


@pytest.mark.parametrize(
    ("words", "protects"),
    [
        (("sudoexec/jcreate", "inter=0", "jconf=/tmp/FILE"), True),
        (("sudoexec/bcreate", "jconf=/tmp/FILE"), True),
        (("jailctl/jimport", "/var/tmp/jail1.img"), True),
        (("sudoexec/jcreate", "jname=other"), False),
        (("jailctl/jclone", "old=a", "new=other"), False),
        (("sudoexec/jcreate", "jname=jail1"), True),
    ],
)
def test_case_a8_what_is_made_without_a_name_protects_all(cbsd: Toy, words: tuple[str, ...], *, protects: bool) -> None:
    assert cbsd.site.start().returncode == 0
    command = [str(cbsd.distdir / words[0]), "-c", "import time; time.sleep(60)", *words[1:]]
    with subprocess.Popen(command, executable=sys.executable) as maker:
        ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
        maker.kill()
    assert (cbsd.site.table == cbsd.site.wanted()) == protects, ended
    assert (ended.returncode, f"pid {maker.pid}" in ended.stderr) == ((75, True) if protects else (0, False))


@pytest.mark.parametrize("verb", ["stop", "recover"])
def test_case_a1_no_place_for_a_lock(cbsd: Toy, verb: str) -> None:
    """Whatever is wrong with /var/run, what is mounted can be unmounted."""
    assert cbsd.site.start().returncode == 0
    run = cbsd.site.world.path / "run"
    shutil.rmtree(run)
    run.write_text("no directory can be made here")
    if verb == "recover":
        cbsd.site.world.freeze(SERVER)
    ended = hand(cbsd, "recover", "jail1") if verb == "recover" else cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert "going on without a lock" in ended.stderr
