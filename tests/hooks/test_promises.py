"""What envstart promises, one test or more for each, with hooks run as processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from cbsd import NFS4, NULLFS, SERVER, Site, Variant, last_line, wears
from pace import in_time, pace

# CBSD's environment of a start, (docs/cbsd.md#process), and what an attacker would add to it.
CBSD_VARIABLES = {
    "BLOCKSIZE": "K", "CBSD_APP": "jstart", "CBSD_PWD": "/root", "LANG": "C.UTF-8", "NOINTER": "1",
    "NO_CBSD_HISTORY": "yes", "PS1": "cbsd@\\h> ", "TERM": "dumb", "freebsdhostversion": "1400507",
    "workdir": "/somewhere/else", "data": "/somewhere/else/data", "path": "/usr/jails/jails/jail9",
    "jname": "jail9", "name": "", "mount_fstab": "/x", "rcconf": "/x", "baserw": "1", "emulator": "jail",
    "jid": "0", "status": "0", "mnt_start": "/root/probe.sh", "mnt_stop": "/root/probe_stop.sh",
}  # fmt: skip
EVIL = {
    "NFS_SERVER": "evil.example.com", "NFS_SERVER_ROOT_DIR": "/evil", "NFS_SERVER_DATA_DIR": "/evil/data",
    "MOUNT_FSTAB": "0", "MOUNT_RCCONF": "1", "MOUNT_NFS_OPT": "-osoft", "TIMEOUT": "3600", "LEASE": "ignore",
    "ENV": "/evil.sh", "BASH_ENV": "/evil.sh", "IFS": "/", "PYTHONPATH": "/evil", "ENVSTART_CONFIG": "/evil.conf",
}  # fmt: skip


# 1. Idempotent.


def test_promise_01_twice_is_like_once(site: Site) -> None:
    for _ in range(2):
        assert site.start().returncode == 0
        assert site.table == site.wanted()
    assert len(site.mounting) == 3
    for _ in range(2):
        assert site.stop().returncode == 0
        assert site.table == []
    assert site.count("umount") == 3


def test_promise_01_one_life_after_the_other(site: Site) -> None:
    for _ in range(4):
        assert site.start().returncode == 0
        assert site.table == site.wanted()
        assert site.stop().returncode == 0
        assert site.table == []


# 2. The mount table decides.


# The hook must be there to be looked at while it waits.
@pytest.mark.alone
def test_promise_02_a_dead_mounted_directory_is_not_touched_by_the_hook_itself(site: Site) -> None:
    """Whoever touches it hangs and cannot be killed; a child of its own does, with an end."""
    site.configure(TIMEOUT="4")
    site.preset()
    site.world.freeze(SERVER)
    for verb in ("start", "stop"):
        began = time.monotonic()
        with site.begin(verb) as hook:
            while hook.poll() is None:
                assert str(hook.pid) not in site.world.state["stuck"], "the hook itself hangs"
                assert in_time(began, 1, waiting=4)
                time.sleep(0.05)


def test_promise_02_a_dead_server_that_is_none_of_ours_does_not_matter(site: Site) -> None:
    site.world.export("dead", "/x")
    other = site.workdir / "jails-data" / "other-data"
    other.mkdir()
    site.world.mount("dead:/x", other)
    site.world.freeze("dead")
    for act in (site.start, site.stop):
        began = time.monotonic()
        ended = act()
        assert (ended.returncode, ended.stderr) == (0, "")
        assert in_time(began, 3)


def test_promise_02_cannot_tell_is_an_error(site: Site) -> None:
    site.preset("data")
    site.world.fault("mount", times=None, text="mount: getmntinfo: Cannot allocate memory")
    for act in (site.start, site.stop):
        ended = act()
        assert ended.returncode == 75
        assert "cannot read the mount table" in last_line(ended)
    assert site.table == [site.row("data")]


# 3. What is mounted must be what is wanted.


@pytest.mark.parametrize(
    "strangers",
    [
        [("tmpfs", "tmpfs")],
        [(f"{SERVER}:/nfs/data/jail1", "fusefs")],
        [(f"{SERVER}:/nfs/system/jail1", "nfs")],
        [(f"{SERVER}:/nfs/data/jail1", "nfs"), ("tmpfs", "tmpfs")],
        [("tmpfs", "tmpfs"), (f"{SERVER}:/nfs/data/jail1", "nfs")],
    ],
    ids=["source", "type", "directory", "above", "below"],
)
def test_promise_03_anything_else_is_refused_and_left_alone(site: Site, strangers: list[tuple[str, str]]) -> None:
    for source, fstype in strangers:
        site.world.mount(source, site.point("data"), fstype)
    before = site.table
    for ended in (site.start(), site.stop()):
        assert ended.returncode == 78
        for source, fstype in strangers:
            assert f"{source} ({fstype})" in last_line(ended)
        assert site.table == before


def test_promise_03_the_kernel_refuses_to_stack(site: Site) -> None:
    assert site.start().returncode == 0
    assert all(("-o", "nocover") in pairwise(argv) for argv in site.mounting)


# 4. All or nothing.


@pytest.mark.parametrize("missing", ["system", "fstab", "data"])
def test_promise_04_a_failed_start_takes_back_what_it_did(site: Site, missing: str) -> None:
    site.held(missing).rename(site.held(missing).with_name("elsewhere"))
    assert site.start().returncode == 66
    assert site.table == []


def test_promise_04_and_only_that(site: Site) -> None:
    site.preset("system")
    (site.held("data") / "etc").rmdir()
    site.held("data").rmdir()
    assert site.start().returncode == 66
    assert site.table == [site.row("system")]


def test_promise_04_what_cannot_be_taken_back_is_said(site: Site) -> None:
    site.configure(TIMEOUT="4", REQUIRE_DATA="nothing-like-this")
    site.world.fault("umount", times=None, text="umount: unmount of /x failed: Device busy")
    ended = site.start()
    assert ended.returncode == 66
    assert "REQUIRE_DATA" in last_line(ended)
    assert "could not all be taken back" in last_line(ended)
    assert str(site.point("data")) in last_line(ended).partition("taken back")[2]


# 5. It ends.


# Nine hooks at once must have come to their unmounts within so short a TIMEOUT.
@pytest.mark.alone
def test_promise_05_a_child_that_does_not_end(tmp_path: Path) -> None:
    """Its deadline and a second is the most that the hook takes; what it leaves behind is in the last line."""

    def wrong(case: tuple[str, str]) -> str:
        command, kind = case
        with Site(tmp_path / command / kind) as site:
            site.configure(TIMEOUT="4", NFS_MOUNT_TIMEOUT="60")
            if command == "umount":
                site.preset()
            site.world.fault(command, kind, times=None)
            began = time.monotonic()
            ended = site.stop() if command == "umount" else site.start()
            ends = in_time(began, 1, waiting=4)
            seconds = time.monotonic() - began
            left = [] if kind != "unkillable" else [f"pid {pid} (" for pid in site.world.state["stuck"]]
        fine = ended.returncode != 0 and ends and all(words in last_line(ended) for words in left)
        return "" if fine else f"{command}, {kind}: {seconds:.1f} s, {ended}"

    kinds = ("hang", "ignore-term", "unkillable")
    with ThreadPoolExecutor(9) as pool:
        found = list(
            pool.map(wrong, [(command, kind) for command in ("mount_nfs", "umount", "mount") for kind in kinds])
        )
    assert not any(found), "\n".join(found)


def test_promise_05_a_child_that_ignores_term_is_killed(site: Site) -> None:
    site.configure(ATTEMPTS="1")
    site.world.fault("mount_nfs", "ignore-term")
    assert site.start().returncode == 75
    for call in site.world.calls("mount_nfs"):
        with pytest.raises(ProcessLookupError):
            os.kill(call["pid"], 0)


# A quarter of so short a TIMEOUT must be enough for the roll back.
@pytest.mark.alone
def test_promise_05_the_roll_back_has_time_of_its_own(site: Site) -> None:
    site.configure(TIMEOUT="4", NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang", nth=3)
    began = time.monotonic()
    assert site.start().returncode == 75
    assert in_time(began, 1, waiting=4)
    assert len(site.world.calls("umount")) == 2
    assert site.table == []


# 6. Retries only what can heal.


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("mount_nfs: nmount: /x, mount option <bad> is unknown: Invalid argument", 78),
        (f"[tcp] {SERVER}:/nfs/data/jail1: Permission denied", 77),
        (f"[tcp] {SERVER}:/nfs/data/jail1: No such file or directory", 66),
        ("mount_nfs: something new", 1),
    ],
)
def test_promise_06_what_does_not_heal_fails_at_once(site: Site, words: str, status: int) -> None:
    site.configure(MOUNT_SYSTEM="0", MOUNT_FSTAB="0")
    site.world.fault("mount_nfs", text=words, times=None)
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == status
    assert words in last_line(ended)
    assert site.count("mount_nfs") == 1
    assert in_time(began, 2)


def test_promise_06_a_name_that_there_is_not_fails_at_once(site: Site) -> None:
    """It is looked up once more, by which a name that nobody could look up for a moment is told from it."""
    site.configure(MOUNT_SYSTEM="0", MOUNT_FSTAB="0", NFS_SERVER="nowhere.example.com")
    ended = site.start()
    assert ended.returncode == 1
    assert "nowhere.example.com:2049: Name does not resolve" in last_line(ended)
    assert site.count("mount_nfs") == 1


# Attempts within so short a TIMEOUT are counted.
@pytest.mark.alone
def test_promise_06_a_dead_server_is_tried_with_growing_pauses(site: Site) -> None:
    site.configure(TIMEOUT="5", MOUNT_SYSTEM="0", MOUNT_FSTAB="0")
    site.world.refuse(SERVER)
    began = time.monotonic()
    assert site.start().returncode == 75
    assert in_time(began, 1, waiting=5)
    calls = site.world.calls("mount_nfs")
    assert 3 <= len(calls) <= 40, "too few, or without a pause"


# The moment of the last attempt is measured.
@pytest.mark.alone
def test_case_b4_the_last_attempt_is_made_as_late_as_the_limit_allows(site: Site) -> None:
    site.configure(TIMEOUT="8", MOUNT_SYSTEM="0", MOUNT_FSTAB="0")
    site.world.refuse(SERVER)
    began = time.monotonic()
    ended = site.start()
    seconds = time.monotonic() - began
    assert ended.returncode == 75
    assert "Connection refused" in last_line(ended)
    # The reserve of the roll back is a quarter, and an attempt has half a second.
    assert seconds > (6 - 1) * pace()
    assert in_time(began, 1, waiting=8)


@pytest.mark.parametrize("attempts", [1, 3])
def test_promise_06_as_often_as_configured(site: Site, attempts: int) -> None:
    site.configure(ATTEMPTS=str(attempts), MOUNT_SYSTEM="0", MOUNT_FSTAB="0")
    site.world.refuse(SERVER)
    assert site.start().returncode == 75
    assert site.count("mount_nfs") == attempts


# 7. Nobody is hurt.


def test_promise_07_no_command_but_these_and_no_force(site: Site) -> None:
    site.configure(TIMEOUT="3")
    assert site.start().returncode == 0
    with site.world.holder(site.point("data")) as process:
        assert site.stop().returncode == 75
        assert process.poll() is None
    assert site.stop().returncode == 0
    assert {call["name"] for call in site.world.calls()} <= {"mount", "mount_nfs", "umount", "fuser", "jls"}
    assert all({"-f", "-N"}.isdisjoint(call["argv"]) for call in site.world.calls("umount"))


def test_promise_07_the_shared_rcconf_directory_is_never_covered(site: Site) -> None:
    site.add("jail2")
    site.configure(MOUNT_RCCONF="1")
    for name in ("jail1", "jail2"):
        assert site.start(name=name).returncode == 0
    points = [point for _, point, _ in site.table]
    assert f"{site.workdir}/jails-rcconf" not in points
    assert {f"{site.workdir}/jails-rcconf/{name}" for name in ("jail1", "jail2")} <= set(points)


def test_promise_07_the_shared_rcconf_directory_stays_while_others_use_it(tmp_path: Path) -> None:
    keys = {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1"}
    with Site(tmp_path, Variant("shared", "nfs", keys, ("rcconf", "system", "fstab", "data"))) as site:
        site.add("jail2")
        assert site.start(name="jail1").returncode == 0
        assert site.start(name="jail2").returncode == 0
        assert site.stop(name="jail1").returncode == 0
        assert site.table == site.wanted("jail2")


# 8. Configuration is read, never run.


@pytest.mark.parametrize("text", ["$(touch {0})", "`touch {0}`", "$((1))", "${{X:=`touch {0}`}}", "<(touch {0})"])
def test_promise_08_configuration_is_never_run(site: Site, tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    site.conf.write_text(f"NFS_SERVER={SERVER}\nNFS_SERVER_ROOT_DIR={text.format(trap)}\n")
    ended = site.start()
    assert ended.returncode == 78
    assert f"{site.conf}:2" in last_line(ended)
    assert not trap.exists()
    assert site.world.calls() == []


# 9. The last line on stderr says why.


@pytest.mark.parametrize(
    ("keys", "reason", "remedy"),
    [
        ({"NFS_SERVER": ""}, "NFS_SERVER is empty", "envstart config check -c "),
        ({"TIMEOUT": "soon"}, "TIMEOUT='soon' is invalid: expected", "envstart config check -c "),
        ({"NFS_SERVER_ROOT_DIR": "/elsewhere"}, "No such file or directory", "correct the path"),
        ({"REQUIRE_DATA": "bin"}, "has no bin", "is it the right directory"),
        ({"NFS_SERVER": "nowhere.example.com"}, "Name does not resolve", "correct the server's name"),
    ],
)
def test_promise_09_the_last_line_says_why_and_what_to_do(
    site: Site, keys: dict[str, str], reason: str, remedy: str
) -> None:
    site.configure(**keys)
    ended = site.start()
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert ended.stderr.endswith("\n")
    assert last_line(ended).startswith("env_start_nfs: ")
    assert ": cannot " in last_line(ended)
    assert reason in last_line(ended)
    assert remedy in last_line(ended)


def test_promise_09_success_is_quiet(site: Site) -> None:
    for act in (site.start, site.start, site.stop, site.stop):
        ended = act()
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_promise_09_the_same_words_are_in_syslog(site: Site) -> None:
    """A start that CBSD put into the background has lost its output (docs/cbsd.md#process)."""
    assert site.start().returncode == 0
    site.held("data").rename(site.held("data").with_name("elsewhere"))
    assert site.stop().returncode == 0
    ended = site.start()
    log = site.world.syslog()
    assert any("mount_nfs " in line for line in log)
    assert any("3 of 3 steps taken" in line for line in log)
    assert any("env_stop_nfs: jail1: stopped" in line for line in log)
    assert log[-1].endswith(last_line(ended))
    assert all("envstart: env_" in line for line in log)


def test_promise_09_no_syslog_where_none_is_wanted(site: Site) -> None:
    site.configure(LOG_FACILITY="none")
    assert site.start().returncode == 0
    assert site.world.syslog() == []


# 10. Two at once are as good as one after the other.


@pytest.mark.parametrize("count", [2, 20])
def test_promise_10_several_starts_at_once(site: Site, count: int) -> None:
    site.configure(TIMEOUT="60")
    with ThreadPoolExecutor(count) as pool:
        ended = list(pool.map(lambda _: site.start(), range(count)))
    assert {one.returncode for one in ended} == {0}, "".join(one.stderr for one in ended)
    assert sorted(argv[-1] for argv in site.mounting) == sorted(point for _, point, _ in site.wanted())
    assert site.table == site.wanted()


def test_promise_10_start_and_stop_at_once(site: Site) -> None:
    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda number: (site.stop if number % 2 else site.start)(), range(6)))
    assert {one.returncode for one in ended} == {0}, "".join(one.stderr for one in ended)
    assert site.table in ([], site.wanted())


def test_promise_10_two_environments_that_share_rcconf(tmp_path: Path) -> None:
    keys = {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1"}
    with Site(tmp_path, Variant("shared", "nfs", keys, ("rcconf", "system", "fstab", "data"))) as site:
        site.add("jail2")
        with site.begin(name="jail1") as one, site.begin(name="jail2") as other:
            assert (one.wait(), other.wait()) == (0, 0)
        assert site.table == sorted({*site.wanted("jail1"), *site.wanted("jail2")})
        with site.begin("stop", name="jail1") as one, site.begin("stop", name="jail2") as other:
            assert (one.wait(), other.wait()) == (0, 0)
        assert site.table == []


# Never 0 unless the mount table says that all is there.


@pytest.mark.parametrize("variant", [NFS4, NULLFS], ids=["nfs", "nullfs"])
@pytest.mark.parametrize("nth", [1, 3])
def test_never_0_unless_the_table_says_so(tmp_path: Path, variant: Variant, nth: int) -> None:
    with Site(tmp_path, variant) as site:
        site.world.fault(f"mount_{site.variant.backend}", "say-ok-do-nothing", nth=nth, times=None)
        assert site.start().returncode == 1
        assert site.table == []


# What the caller hands down, beyond the arguments.


def decoys(directory: Path) -> Path:
    """Programs that leave a trace when they are run, under the names of all that envstart runs."""
    directory.mkdir()
    for name in ("mount", "mount_nfs", "mount_nullfs", "umount", "jls", "fuser", "df", "sh", "python3", "readlink"):
        program = directory / name
        program.write_text(f"#!/bin/sh\n: > {shlex.quote(str(directory))}/taken.$(/usr/bin/basename $0)\n")
        program.chmod(0o755)
    return directory


def test_decoys_in_the_callers_path_are_never_run(site: Site, tmp_path: Path) -> None:
    """CBSD's PATH begins with directories that have a jls of their own (docs/cbsd.md#process)."""
    first = decoys(tmp_path / "decoys")
    for act in (site.start, site.start, site.stop):
        assert act(env=wears(PATH=f"{first}:/sbin:/usr/sbin:/bin:/usr/bin")).returncode == 0
    assert list(first.glob("taken.*")) == []
    assert len(site.mounting) == 3


def test_children_get_nothing_from_the_caller(site: Site) -> None:
    assert site.start(env={**EVIL, **CBSD_VARIABLES, "PATH": "/evil"}).returncode == 0
    for call in site.world.calls():
        assert sorted(call["environment"]) == ["HOME", "LC_ALL", "PATH"]
        assert call["environment"]["PATH"] == f"{site.world.path}/bin"
        assert call["environment"]["LC_ALL"] == "C"
        assert call["stdin_is_null"]
        assert call["session"] == call["pid"], "it could be reached by the caller's terminal"
        assert call["cwd"] == "/"


def test_the_callers_environment_changes_nothing_that_is_mounted(site: Site) -> None:
    ended = site.start(env={**EVIL, **CBSD_VARIABLES})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.table == site.wanted()
    assert "soft" not in site.mounting[0]


def test_a_stop_that_is_called_with_variables_alone(site: Site) -> None:
    """As CBSD runs what lies in master_poststop.d: no argument, jname, data and workdir in the environment."""
    site.preset()
    variables = {"jname": "jail1", "data": str(site.point("data")), "workdir": str(site.workdir)}
    ended = site.world.run("env_stop_nfs", env=wears(**{**CBSD_VARIABLES, **variables}))
    assert ended.returncode == 0, ended.stderr
    assert site.table == []


def test_a_start_is_never_called_with_variables_alone(site: Site) -> None:
    variables = {"jname": "jail1", "data": str(site.point("data")), "workdir": str(site.workdir)}
    assert site.world.run("env_start_nfs", env=wears(**variables)).returncode == 64
    assert site.world.calls() == []


def test_output_into_a_full_pipe_that_nobody_reads(site: Site) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    began = time.monotonic()
    command = site.world.argv("env_start_nfs", *site.args(), "-vv")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=wears()) as hook:
        assert hook.wait(60) == 0
    # It may wait a little for a reader that is slow, once.
    assert in_time(began, 5)
    assert site.table == site.wanted()
    os.close(read)
    os.close(write)


def test_signals_that_the_caller_ignores(site: Site) -> None:
    """nohup(1) ignores HUP; an ignored CHLD would take the children's exit statuses away."""
    command = shlex.join(site.world.argv("env_start_nfs", *site.args()))
    text = f"trap '' HUP CHLD; exec {command}"
    assert subprocess.run(["/bin/sh", "-c", text], env=wears()).returncode == 0
    assert site.table == site.wanted()


def test_signals_that_the_caller_blocks(site: Site) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang")
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        hook = site.begin()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with hook:
        while not site.count("mount_nfs"):
            time.sleep(0.02)
        hook.terminate()
        assert hook.wait(20) == 128 + signal.SIGTERM
    assert site.table == []


def test_six_call_shapes(site: Site) -> None:
    """VMs come without -f: then there is no fstab directory to mount (docs/cbsd.md#arguments)."""
    assert site.world.run("env_start_nfs", *site.args(fstab=False)).returncode == 0
    assert site.table == sorted([site.row("system"), site.row("data")])
    assert site.world.run("env_stop_nfs", *site.args(fstab=False)).returncode == 0
    assert site.table == []


@pytest.mark.parametrize("name", ["a:b", "_%a-b", "a@b:c"])
def test_names_with_all_that_cbsd_allows(site: Site, name: str) -> None:
    """CBSD's validate_jname (docs/cbsd.md#arguments); mount_nfs(8) cuts a source at its last colon."""
    site.add(name)
    for times in (1, 2):
        ended = site.start(name=name)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        assert len(site.table) == 3
        assert {point for _, point, _ in site.table} == {point for _, point, _ in site.wanted(name)}, times
    assert site.hand("check", "nfs", "-w", str(site.workdir), "-j", name).returncode == 0
    ended = site.stop(name=name)
    assert (ended.returncode, ended.stderr, site.table) == (0, "", [])


def test_nothing_is_done_without_a_configuration(site: Site) -> None:
    site.conf.unlink()
    ended = site.start()
    assert ended.returncode == 78
    assert "cannot find env_start_nfs.conf" in last_line(ended)
    assert "envstart config sample nfs" in last_line(ended)
    assert site.world.calls() == []


# 11. Unmounting is never stricter than mounting; 12 is in test_plan.py.


@pytest.mark.parametrize("text", ["NFS_SERVER='nas", 'TIMEOUT="ten"\n', "", None])
def test_promise_11_a_mistake_in_the_configuration_costs_no_unmount(site: Site, text: str | None) -> None:
    assert site.start().returncode == 0
    if text is None:
        site.conf.unlink()
    else:
        site.conf.write_text(text)
    assert site.start().returncode != 0
    ended = site.stop()
    assert (ended.returncode, site.table) == (0, []), ended
    assert "warning: cannot " in ended.stderr
    assert ".record" in ended.stderr
