"""``envstart``, the tool: the same work by hand, and what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cbsd import NULLFS, SERVER, Site, last_line
from toy import HOOKS, Toy

from envstart.cbsd import inventory
from envstart.cli import main
from envstart.errors import UsageError

TOOL = str(HOOKS / "envstart")
VERBS = ("start", "stop", "plan", "status")


def where(site: Site, name: str = "jail1") -> list[str]:
    return [site.variant.backend, "-w", str(site.workdir), "-j", name]


def commands_of(plan: str) -> list[list[str]]:
    """Return the lines of a plan that can be pasted."""
    return [shlex.split(line) for line in plan.splitlines() if line and not line.startswith("#")]


def records(site: Site, *words: str) -> dict[str, dict[str, Any]]:
    """``status --json`` by directory."""
    rows = json.loads(site.hand("status", *(words or where(site)), "--json").stdout)["directories"]
    return {row["directory"]: row for row in rows}


def list_file(site: Site, *names: str, mode: int = 0o644) -> str:
    """Return a list of environments, for a host without CBSD."""
    path = site.workdir / "etc" / "environments"
    path.write_text(
        "".join(
            f"[{name}]\ndata = {site.point('data', name)}\nsystem = {site.point('system', name)}\n"
            f"fstab = {site.point('fstab', name)}\n"
            for name in names
        )
    )
    path.chmod(mode)
    return str(path)


# Start and stop.


def test_start_and_stop_do_what_the_hooks_do(site: Site) -> None:
    for _ in range(2):
        ended = site.hand("start", *where(site))
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert site.table == site.wanted()
    for _ in range(2):
        ended = site.hand("stop", *where(site))
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert site.table == []


def test_the_environment_can_be_meant_by_its_directories(site: Site) -> None:
    assert site.hand("start", "nfs", *site.args()).returncode == 0
    assert site.table == site.wanted()


def test_a_failure_is_told_as_by_the_hook(site: Site) -> None:
    site.held("data").rename(site.held("data").with_name("elsewhere"))
    by_hook, by_hand = site.start(), site.hand("start", *where(site))
    assert by_hook.returncode == by_hand.returncode == 66
    assert last_line(by_hook).partition(": ")[2] == last_line(by_hand).partition(": ")[2]


def test_v_shows_the_commands_and_how_long_they_took(site: Site) -> None:
    lines = site.hand("start", *where(site), "-v").stderr.splitlines()
    for argv in site.mounting:
        begins = lines.index(f"envstart: jail1: {shlex.join(argv)}")
        ends = next(number for number, line in enumerate(lines) if line.endswith(f" s: {shlex.join(argv)}"))
        assert begins < ends
        assert lines[ends].startswith("envstart: jail1: # 0, ")


def test_vv_shows_what_they_said_too(site: Site) -> None:
    site.world.fault("mount_nfs", "do-it-say-fail", text="mount_nfs: a complaint")
    assert "  mount_nfs: a complaint" in site.hand("start", *where(site), "-vv").stderr
    assert "  mount_nfs: a complaint" not in site.hand("stop", *where(site), "-v").stderr


# Plan and dry run.


def test_the_lines_of_a_plan_can_be_pasted(site: Site) -> None:
    assert site.start().returncode == 0
    by_hook = site.world.mounts()
    assert site.stop().returncode == 0
    for argv in commands_of(site.hand("plan", *where(site)).stdout):
        assert site.world.command(*argv).returncode == 0
    assert site.table == site.wanted()
    differing = {"fsid"}

    def rows(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [{key: value for key, value in mount.items() if key not in differing} for mount in mounts]
        return sorted(kept, key=lambda mount: str(mount["node"]))

    assert rows(site.world.mounts()) == rows(by_hook)
    for argv in commands_of(site.hand("plan", *where(site), "--stop").stdout):
        assert site.world.command(*argv).returncode == 0
    assert site.table == []


@pytest.mark.parametrize("way", ["plan", "start -n", "start --dry-run", "stop -n", "hook -n"])
def test_a_plan_runs_nothing(site: Site, way: str) -> None:
    site.point("data").rmdir()
    verb, *flags = way.split()
    ended = site.start(*flags) if verb == "hook" else site.hand(verb, *where(site), *flags)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [call["argv"] for call in site.world.calls()] == [["mount", "--libxo", "json"]]
    assert not site.point("data").exists()
    assert list((site.world.path / "run").iterdir()) == []


def test_a_plan_says_what_is_there_and_why(site: Site) -> None:
    site.preset("system")
    site.world.mount("tmpfs", site.point("data"), "tmpfs")
    ended = site.hand("plan", *where(site))
    plan = ended.stdout
    assert plan.splitlines()[0] == f"# start jail1 (nfs, {site.conf})"
    assert f"# system: {site.source('system')} on {site.point('system')}: mounted; nothing to do" in plan
    assert f"# fstab: {site.source('fstab')} on {site.point('fstab')}: not mounted\n# mount_nfs " in plan
    assert "wrong source: tmpfs (tmpfs); start would refuse and not touch it" in plan
    # All or nothing.
    assert (commands_of(plan), ended.returncode) == ([], 78)
    assert last_line(ended) == last_line(site.hand("start", *where(site)))
    site.world.command("umount", str(site.point("data")))
    plan = site.hand("plan", *where(site), "--stop").stdout
    assert commands_of(plan) == [["umount", "-n", str(site.point("system"))]]


def test_a_plan_of_a_stop_goes_backwards(site: Site) -> None:
    site.preset()
    lines = [argv[-1] for argv in commands_of(site.hand("stop", *where(site), "-n").stdout)]
    assert lines == [str(site.point(which)) for which in ("data", "fstab", "system")]


def test_a_plan_warns_of_doubtful_options(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=4 -ointr")
    assert "\n# warning: " in site.hand("plan", *where(site)).stdout


# Check, recover.


def test_check_is_silent_when_all_is_well_and_else_says_what_is_not(site: Site) -> None:
    site.preset()
    fine = site.hand("check", *where(site))
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, "", "")
    site.world.command("umount", str(site.point("data")))
    ended = site.hand("check", *where(site))
    assert ended.returncode == 2
    assert ended.stdout == f"CRITICAL: jail1: data: {site.source('data')}: not mounted\n"


def test_taking_over_wants_to_be_told_what(site: Site) -> None:
    ended = site.hand("recover", "--preempt", "-w", str(site.workdir))
    assert ended.returncode == 64
    assert "which volume" in last_line(ended)
    assert site.world.calls() == []


# Status.


def test_status_of_each_kind(site: Site) -> None:
    site.configure(MOUNT_RCCONF="1")
    (site.workdir / "jails-rcconf/jail1").mkdir()
    site.preset("data")
    site.world.mount("tmpfs", site.point("system"), "tmpfs")
    site.preset("fstab", "fstab")
    found = records(site)
    assert {which: row["state"] for which, row in found.items()} == {
        "data": "mounted",
        "system": "wrong source",
        "fstab": "stacked",
        "rcconf": "not mounted",
    }
    assert found["system"] == {
        "environment": "jail1",
        "backend": "nfs",
        "directory": "system",
        "point": str(site.point("system")),
        "source": site.source("system"),
        "fstype": "nfs",
        "state": "wrong source",
        "found": "tmpfs (tmpfs)",
        "level": "critical",
    }
    ended = site.hand("status", *where(site))
    assert ended.returncode == 1
    header, *rows = ended.stdout.splitlines()
    assert header.split() == ["DIRECTORY", "STATE", "SOURCE", "MOUNT", "POINT", "FOUND"]
    assert rows[-1].split()[:2] == ["data", "mounted"], "what is wrong comes first"
    assert any("tmpfs (tmpfs)" in row for row in rows)


def test_status_0_means_all_is_mounted(site: Site) -> None:
    assert site.hand("status", *where(site)).returncode == 1
    site.preset()
    assert site.hand("status", *where(site)).returncode == 0


def test_status_when_the_table_cannot_be_read(site: Site) -> None:
    site.world.fault("mount", times=None)
    found = records(site)
    assert {row["state"] for row in found.values()} == {"unknown"}
    assert all("cannot read the mount table" in row["found"] for row in found.values())
    assert site.hand("status", *where(site)).returncode == 1


def test_case_c1_status_says_what_does_not_answer(site: Site) -> None:
    site.preset()
    site.world.freeze(SERVER)
    assert {row["state"] for row in records(site).values()} == {"no answer"}
    assert site.hand("status", *where(site)).returncode == 1


def test_status_of_nullfs(tmp_path: Path) -> None:
    with Site(tmp_path, NULLFS) as site:
        assert {row["state"] for row in records(site).values()} == {"not mounted"}
        assert site.hand("start", *where(site)).returncode == 0
        assert {row["state"] for row in records(site).values()} == {"mounted"}


# A list of environments.


def test_status_of_a_list(site: Site) -> None:
    site.add("jail2")
    site.preset(name="jail2")
    path = list_file(site, "jail1", "jail2")
    rows = json.loads(site.hand("status", "nfs", "-l", path, "--json").stdout)["directories"]
    assert {(row["environment"], row["state"]) for row in rows} == {("jail1", "not mounted"), ("jail2", "mounted")}
    assert {row["state"] for row in records(site, "nfs", "-l", path, "-j", "jail2").values()} == {"mounted"}


def test_start_of_one_of_a_list(site: Site) -> None:
    site.add("jail2")
    path = list_file(site, "jail1", "jail2")
    assert site.hand("start", "nfs", "-l", path, "-j", "jail2").returncode == 0
    assert site.table == site.wanted("jail2")
    ended = site.hand("start", "nfs", "-l", path)
    assert ended.returncode == 64
    assert "give -j" in last_line(ended)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = /x\n", "is in no section"),
        ("[jail1]\ndata = /x\n", "[jail1] has data, system"),
        ("[jail1]\ndata = /x\nsystem = /y\npath = /z\n", "nothing else"),
        ("[jail1]\ndata = x\nsystem = /y\n", "[jail1]: cannot use -d 'x'"),
        ("[jail1\n", "environments"),
    ],
)
def test_mistakes_in_a_list(site: Site, text: str, words: str) -> None:
    path = Path(list_file(site))
    path.write_text(text)
    ended = site.hand("status", "nfs", "-l", str(path))
    assert ended.returncode == 78
    assert words in last_line(ended)
    assert len(ended.stderr.splitlines()) == 1


def test_a_list_that_others_can_write_is_not_trusted(site: Site) -> None:
    ended = site.hand("status", "nfs", "-l", list_file(site, "jail1", mode=0o666))
    assert ended.returncode == 77
    assert "chmod go-w" in last_line(ended)


# Configuration.


def test_config_show_says_where_each_value_comes_from(site: Site) -> None:
    site.conf.write_text(f'NFS_SERVER="{SERVER}"\nTIMEOUT=30\n[jail*]\nTIMEOUT=40\n[jail1]\nREQUIRE_DATA="etc bin"\n')
    ended = site.hand("config", "show", *where(site))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert f"NFS_SERVER={SERVER}  # {site.conf}:1" in lines
    assert f"TIMEOUT=40  # {site.conf}:4 [jail*]" in lines
    assert f"REQUIRE_DATA='etc bin'  # {site.conf}:6 [jail1]" in lines
    assert "NFS_SERVER_ROOT_DIR=/nfs  # default" in lines


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ({}, ["NULLFS_DATA_DIR=TOP/data  # default", "NULLFS_RCCONF_DIR=TOP/rcconf  # default",
              "SKELETON_DIR=TOP/skeleton/jail1  # default", "BASE_DIR=''  # default: no thin jail"]),
        ({"NULLFS_ROOT_DIR": "/", "NULLFS_DATA_DIR": "/elsewhere"},
         ["NULLFS_DATA_DIR=/elsewhere  # FILE:2", "NULLFS_SYSTEM_DIR=/system  # default"]),
    ],
    ids=["all", "one"],
)  # fmt: skip
def test_case_c7_config_show_computes_defaults(tmp_path: Path, keys: dict[str, str], lines: list[str]) -> None:
    with Site(tmp_path, NULLFS) as site:
        given = {"NULLFS_ROOT_DIR": str(site.files), **keys}
        site.conf.write_text("".join(f'{key}="{value}"\n' for key, value in given.items()))
        shown = site.hand("config", "show", *where(site)).stdout.splitlines()
        for line in lines:
            assert line.replace("TOP", str(site.files)).replace("FILE", str(site.conf)) in shown


def test_case_c7_config_show_computes_what_other_keys_make_of_a_default(site: Site) -> None:
    shown = site.hand("config", "show", *where(site)).stdout
    assert "\nNFS_VERSION=4  # default\n" in shown
    assert "\nNFS_SERVER_DATA_DIR=/nfs/data  # default\n" in shown
    site.configure(NFS_VERSION="3")
    (line,) = [row for row in site.hand("config", "show", *where(site)).stdout.splitlines() if "MOUNT_NFS_OPT" in row]
    assert "vers=4" not in line
    assert "-onfsv3" in line


def test_case_c7_config_show_names_this_hosts_initiator(site: Site) -> None:
    path = site.workdir / "etc" / "x.conf"
    path.write_text('ISCSI_PORTAL=10.0.0.1\nISCSI_TARGET="iqn.2026-01.org:t"\n')
    path.chmod(0o644)
    shown = site.hand("config", "show", "iscsi", "-w", str(site.workdir), "-j", "jail1", "-c", str(path)).stdout
    assert re.search(r"^ISCSI_INITIATOR=iqn.1994-09.org.freebsd:\S+  # default$", shown, re.MULTILINE)


def test_config_show_fills_in_the_name(site: Site) -> None:
    path = site.workdir / "etc" / "x.conf"
    path.write_text('HAST_RESOURCE="vm-{name}"\n')
    path.chmod(0o644)
    ended = site.hand("config", "show", "hast", "-w", str(site.workdir), "-j", "jail1", "-c", str(path))
    assert f"HAST_RESOURCE=vm-jail1  # {path}:1" in ended.stdout.splitlines()


def test_config_check_of_a_good_file(site: Site) -> None:
    ended = site.hand("config", "check", *where(site))
    assert ended.returncode == 0
    assert ended.stdout == f"{site.conf}: OK for jail1\n"
    ended = site.hand("config", "check", "nfs", "-w", str(site.workdir))
    assert ended.returncode == 0
    assert site.world.calls() == []


def test_config_check_tells_every_mistake(site: Site) -> None:
    site.conf.write_text("NFS_SERVR=x\nTIMEOUT=soon\n[jail2]\nATTEMPTS=-1\n")
    for words in (where(site), ["nfs", "-w", str(site.workdir)]):
        ended = site.hand("config", "check", *words)
        assert ended.returncode == 78
        for line in (1, 2, 4):
            assert f"{site.conf}:{line}: " in ended.stderr
        assert "did you mean NFS_SERVER?" in ended.stderr
        assert "NFS_SERVER is not set" in ended.stderr
        assert last_line(ended).startswith("envstart: cannot use the configuration: 4 mistakes, the first: ")


def test_config_check_of_patterns(site: Site) -> None:
    """A server only in sections is no mistake, and what does not fit together in one of them is."""
    words = ["nfs", "-w", str(site.workdir)]
    site.conf.write_text("TIMEOUT=60\n[web*]\nNFS_SERVER=a\n[db?]\nNFS_SERVER=b\n")
    ended = site.hand("config", "check", *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        f"{site.conf}: OK for [web*] (as webx)",
        f"{site.conf}: OK for [db?] (as dbx)",
    ]
    site.conf.write_text("NFS_SERVER=a\n[web*]\nNFS_VERSION=3\nMOUNT_NFS_OPT=-overs=4\n")
    ended = site.hand("config", "check", *words)
    assert (ended.returncode, ended.stdout) == (78, f"{site.conf}: OK for any other\n")
    assert last_line(ended).startswith("envstart: cannot use NFS_VERSION=3 ")
    assert last_line(ended).endswith("; so for [web*] (as webx)")


def test_config_check_of_several_sections_with_mistakes(site: Site) -> None:
    """One that all of them have is told once, with all of them."""
    site.conf.write_text(
        "[web*]\nTIMEOUT=5\n[db1]\nTIMEOUT=6\n[c]\nNFS_SERVER=c\nNFS_VERSION=3\nMOUNT_NFS_OPT=-overs=4\n"
    )
    ended = site.hand("config", "check", "nfs", "-w", str(site.workdir))
    assert (ended.returncode, ended.stdout) == (78, "")
    first, second = ended.stderr.splitlines()
    assert "NFS_SERVER is not set" in first
    assert first.endswith("; so for [web*] (as webx), db1")
    assert second.endswith("; so for c")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[web*]\n"])
def test_config_check_of_an_empty_file(site: Site, text: str) -> None:
    site.conf.write_text(text)
    ended = site.hand("config", "check", "nfs", "-w", str(site.workdir))
    assert ended.returncode == 78
    assert "NFS_SERVER is not set" in last_line(ended)
    assert last_line(ended).endswith("; so for any")


def test_config_check_draws_attention_to_doubtful_options(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=4 -ointr")
    ended = site.hand("config", "check", *where(site))
    assert ended.returncode == 0
    assert ended.stdout.startswith("warning: ")


@pytest.mark.parametrize(
    ("backend", "key", "value"), [("nfs", "NFS_SERVER", SERVER), ("nullfs", "NULLFS_ROOT_DIR", "/x")]
)
def test_a_sample_that_is_filled_in_equals_the_defaults(site: Site, backend: str, key: str, value: str) -> None:
    sample = site.hand("config", "sample", backend).stdout
    path = site.workdir / "etc" / "sample.conf"

    def shown(text: str) -> list[str]:
        path.write_text(text)
        path.chmod(0o644)
        ended = site.hand("config", "show", backend, "-w", str(site.workdir), "-j", "jail1", "-c", str(path))
        assert ended.returncode == 0, ended.stderr
        return [line.partition("  #")[0] for line in ended.stdout.splitlines()]

    filled = sample.replace(f'{key}=""', f'{key}="{value}"')
    assert filled != sample
    defaults = shown(f"{key}={value}\n")
    assert shown(filled) == defaults
    # Also with every key written out.
    uncommented = [line[1:] if line.startswith("#") and line[1:2].isupper() else line for line in filled.splitlines()]
    assert shown("\n".join(uncommented) + "\n") == defaults


def test_a_sample_that_is_not_filled_in_is_refused(site: Site) -> None:
    site.conf.write_text(site.hand("config", "sample", "nfs").stdout)
    ended = site.start()
    assert ended.returncode == 78
    assert "NFS_SERVER is " in last_line(ended)


# Its command line.


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["start", "-h"], ["config", "-h"], ["config", "show", "--help"]])
def test_help(site: Site, words: list[str]) -> None:
    ended = site.hand(*words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: envstart")


def test_help_names_every_verb_and_every_status(site: Site) -> None:
    text = site.hand("-h").stdout
    for word in (*VERBS, "config", "64", "66", "69", "75", "77", "78"):
        assert word in text


def test_version(site: Site) -> None:
    ended = site.hand("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("envstart ")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["strat", "nfs"],
        ["start"],
        ["start", "ntfs", "-w", "/x", "-j", "jail1"],
        ["start", "nfs"],
        ["start", "nfs", "-j", "jail1"],
        ["start", "nfs", "-w", "/usr/jails"],
        ["start", "nfs", "-w", "/x", "-l", "/y"],
        ["start", "nfs", "-d", "/x", "-j", "jail1"],
        ["start", "nfs", "-w", "/x", "-j", "../x"],
        ["start", "nfs", "-w", "relative", "-j", "jail1"],
        ["start", "nfs", "-w", "/x", "-j", "jail1", "junk"],
        ["start", "nfs", "-w", "/x", "-j", "jail1", "--dry"],
        ["status", "nfs", "--bogus"],
        ["config"],
        ["config", "show"],
        ["config", "sample", "ntfs"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_64_and_one_line(site: Site, words: list[str]) -> None:
    ended = site.hand(*words)
    assert ended.returncode == os.EX_USAGE, ended.stderr
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("envstart: cannot ")
    assert site.world.calls() == []


def test_a_slow_reader_gets_it_all(site: Site) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    full = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            full += os.write(write, b" " * 512)
    os.set_blocking(write, True)
    process = subprocess.Popen([TOOL, "config", "sample", "iscsi"], stdout=write)
    os.close(write)
    # Longer than what is said beside other work waits.
    time.sleep(1.5)
    with open(read, encoding="utf-8") as stream:
        text = stream.read()
    assert process.wait(60) == 0
    assert text[full:] == site.hand("config", "sample", "iscsi").stdout


@pytest.mark.parametrize("value", ["x", "-5", "nan", "inf"])
@pytest.mark.parametrize("option", ["--grace", "--timeout"])
def test_a_length_of_time_that_is_none(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{option}: expected seconds, 0 or more, got '{value}'"):
        main.parser().parse_args(["orphans", f"{option}={value}"])


@pytest.mark.parametrize("words", ["config sample nfs", "-h", "status -h", "--version"])
def test_no_room_for_what_was_asked_for(words: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = subprocess.run([TOOL, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    told = "envstart: cannot write to standard output: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, told)


def test_a_vm_by_hand(site: Site) -> None:
    """CBSD hands a VM no fstab (docs/cbsd.md#arguments); its server has none either."""
    toy = Toy(site)
    toy.add("vm1", "bhyve")
    assert site.hand("start", "nfs", "-w", str(site.workdir), "-j", "vm1").returncode == 0
    points = {node for _, node, _ in site.table}
    assert points == {str(site.point(which, "vm1")) for which in ("data", "system")}
    assert site.hand("check", "nfs", "-w", str(site.workdir), "-j", "vm1").stdout == ""


def test_what_cbsd_knows_of_the_one_that_is_named(site: Site) -> None:
    """Somebody may try another backend, or start one before it is registered; that should be no mistake."""
    toy = Toy(site)
    site.add("later")
    for verb in ("plan", "start", "stop"):
        ended = site.hand(verb, "nfs", "-w", str(site.workdir), "-j", "later")
        assert (ended.returncode, f"warning: CBSD knows no later in {site.workdir}" in ended.stderr) == (0, True)
        toy.set("jail1", mnt_start="/usr/local/libexec/envstart/hooks/env_start_nullfs")
        ended = site.hand(verb, "nfs", "-w", str(site.workdir), "-j", "jail1")
        assert ended.returncode == 0
        assert "warning: CBSD starts jail1 by nullfs, not by nfs: /usr/local/libexec/envstart" in ended.stderr
        toy.set("jail1", mnt_start=toy.hook)
        ended = site.hand(verb, "nfs", "-w", str(site.workdir), "-j", "jail1")
        assert (ended.returncode, ended.stderr) == (0, "")
    ended = site.hand("start", "nfs", "-w", "jails", "-j", "jail1")
    assert last_line(ended) == "envstart: cannot use -w 'jails': the path is not absolute"


def test_config_check_looks_where_cbsd_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site.configure(TIMEOUT="abc")
    rc_conf = tmp_path / "rc.conf"
    rc_conf.write_text(f'cbsd_workdir="{site.workdir}"\n')
    monkeypatch.setattr(inventory, "RC_CONF", str(rc_conf))
    assert main.main(["config", "check", "nfs"]) == os.EX_CONFIG
    assert "TIMEOUT" in capfd.readouterr().err


def test_configuration_file_named_by_hand(site: Site, tmp_path: Path) -> None:
    conf = tmp_path / "other.conf"
    conf.write_text(f"NFS_SERVER={SERVER}\nMOUNT_FSTAB=0\n")
    conf.chmod(0o644)
    assert site.hand("start", *where(site), "-c", str(conf)).returncode == 0
    assert site.table == sorted([site.row("data"), site.row("system")])
    ended = site.hand("start", *where(site), "-c", str(tmp_path / "missing.conf"))
    assert ended.returncode == 78
    assert "missing.conf" in last_line(ended)


@pytest.mark.parametrize(("version", "needed"), [("3", True), ("4", False)])
def test_plan_says_what_pkg_needs(site: Site, version: str, *, needed: bool) -> None:
    site.configure(NFS_VERSION=version)
    ended = site.hand("plan", *where(site))
    assert ended.returncode == 0
    conf = f"{site.point('data')}/usr/local/etc/pkg.conf"
    line = f"# pkg(8) in there needs a line in {conf}: NFS_WITH_PROPER_LOCKING = true;"
    assert (line in ended.stdout) == needed
