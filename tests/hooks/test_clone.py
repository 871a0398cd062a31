"""``env_clone_nfs``: the server copies, the new data are mounted, and whatever fails is taken back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Ended, Site, last_line, wears

from envstart.backends import nfs

COPY = f"ssh root@{SERVER} cp -a {{old}} {{new}}"
UNDO = f"ssh root@{SERVER} rm -rf {{new}}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a host with jail1, whose server exports all that is below /nfs, and copies at our word."""
    with Site(tmp_path) as site:
        site.world.export(SERVER, "/nfs")
        for which in ("data", "system", "fstab"):
            (site.held(which) / "of-jail1").write_text(which)
        site.configure(CLONE_COMMAND=COPY, CLONE_UNDO_COMMAND=UNDO)
        yield site


def variables(site: Site, old: str = "jail1", new: str = "jail2") -> dict[str, str]:
    """Return what cbsd jclone sets for clone-local.d (docs/cbsd.md#clones)."""
    known = {"jname": old, "data": str(site.point("data", old)), "workdir": str(site.workdir), "newjname": new}
    return wears(**known, newdata=str(site.point("data", new)))


def clone(site: Site, *words: str, new: str = "jail2") -> Ended:
    return site.world.run("env_clone_nfs", *words, env=variables(site, new=new))


def remote(site: Site, name: str = "jail2") -> list[str]:
    """Return the directories of an environment that the server has."""
    return [which for which in ("data", "system", "fstab") if site.held(which, name).exists()]


def looks(site: Site) -> list[Path]:
    """Return the directories at which it was looked whether the server has something."""
    return [path for path in (site.world.path / "run").iterdir() if path.is_dir()]


def at_rest(site: Site) -> bool:
    """Whether a clone that failed has left nothing, on the server or here."""
    here = [*site.table, *looks(site)]
    return here == [] and remote(site) == [] and not site.point("data", "jail2").exists()


def test_a_clone_copies_all_directories_and_mounts_the_data(site: Site) -> None:
    ended = clone(site)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert site.table == [site.row("data", "jail2")]
    assert [(site.held(which, "jail2") / "of-jail1").read_text() for which in ("data", "system", "fstab")] == [
        "data",
        "system",
        "fstab",
    ]
    copies = [call["argv"][1:] for call in site.world.calls("ssh")]
    assert copies == [
        [f"root@{SERVER}", "cp", "-a", f"/nfs/{which}/jail1", f"/nfs/{which}/jail2"]
        for which in ("system", "fstab", "data")
    ]
    assert looks(site) == []


def test_the_clone_starts_as_any_other(site: Site) -> None:
    """CBSD copies the system directory on this host, which the mount then hides."""
    assert clone(site).returncode == 0
    for which in ("system", "fstab"):
        site.point(which, "jail2").mkdir()
    assert site.start(name="jail2").returncode == 0
    assert site.table == site.wanted("jail2")


@pytest.mark.parametrize("which", ["data", "system", "fstab"])
def test_an_existing_target_is_refused_before_anything_is_copied(site: Site, which: str) -> None:
    site.held(which, "jail2").mkdir()
    ended = clone(site)
    assert ended.returncode == os.EX_CONFIG
    assert f"cannot make {SERVER}:/nfs/{which}/jail2: it is there already" in last_line(ended)
    assert site.world.calls("ssh") == []
    assert (site.table, remote(site), os.listdir(site.held(which, "jail2"))) == ([], [which], [])
    # What was mounted to look is not mounted once more to bring it back.
    assert [call["name"] for call in site.world.calls() if call["name"] in ("mount_nfs", "umount")][-1] == "umount"


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("kind", ["fail", "do-it-say-fail", "say-ok-do-nothing"])
def test_a_copy_that_fails_takes_all_back(site: Site, kind: str, nth: int) -> None:
    site.world.fault("ssh", kind, nth=nth, text="cp: No space left on device")
    ended = clone(site)
    assert ended.returncode == 1
    target = f"{SERVER}:/nfs/{('system', 'fstab', 'data')[nth - 1]}/jail2"
    said_done = f"cannot find {target}: ssh said that it is done"
    assert (said_done if kind == "say-ok-do-nothing" else f"to {target}: ssh: ") in last_line(ended)
    assert at_rest(site)


def test_a_copy_that_hangs_ends_in_time(site: Site) -> None:
    site.configure(CLONE_COMMAND=COPY, CLONE_UNDO_COMMAND=UNDO, CLONE_TIMEOUT="1")
    site.world.fault("ssh", "hang", nth=2)
    ended = clone(site)
    assert ended.returncode == os.EX_TEMPFAIL
    assert "on the server it may go on; raise CLONE_TIMEOUT" in last_line(ended)
    assert at_rest(site)


# The rest must be done within so short a TIMEOUT; fourteen seconds are waited for.
@pytest.mark.alone
@pytest.mark.proof
def test_the_time_of_a_copy_does_not_count_for_the_rest(site: Site) -> None:
    # So long that a quarter of all the time, which is for the roll back, is more than TIMEOUT.
    site.configure(CLONE_COMMAND=COPY, TIMEOUT="4", CLONE_TIMEOUT="60")
    site.world.fault("ssh", "slow", nth=1, seconds=14)
    assert clone(site).returncode == 0
    assert site.table == [site.row("data", "jail2")]


def test_data_that_cannot_be_mounted_take_the_copies_back(site: Site) -> None:
    # Three looks before, three after the copies; the seventh is meant to stay.
    site.world.fault("mount_nfs", nth=7, times=None, text="mount_nfs: nmount: x: Operation not permitted")
    ended = clone(site)
    assert ended.returncode == os.EX_NOPERM
    assert at_rest(site)


def test_without_an_undo_command_what_is_left_is_named(site: Site) -> None:
    site.configure(CLONE_COMMAND=COPY)
    site.world.fault("ssh", nth=2)
    ended = clone(site)
    assert ended.returncode == 1
    for which in ("system", "fstab"):
        assert f"{SERVER}:/nfs/{which}/jail2 stays as far as it was made: remove it" in ended.stderr
    assert remote(site) == ["system"]
    assert "cannot copy /nfs/fstab/jail1" in last_line(ended)


def test_an_undo_that_fails_is_told_in_the_last_line(site: Site) -> None:
    site.world.fault("ssh", nth=2, times=2, text="ssh: Connection reset")
    ended = clone(site)
    assert f"cannot remove {SERVER}:/nfs/fstab/jail2: ssh: ssh: Connection reset" in last_line(ended)


def test_a_signal_takes_all_back(site: Site) -> None:
    site.world.fault("ssh", "hang", nth=3)
    with site.world.popen("env_clone_nfs", env=variables(site)) as hook:
        until = time.monotonic() + 20
        while site.count("ssh") < 3 and time.monotonic() < until:
            time.sleep(0.02)
        hook.send_signal(signal.SIGTERM)
        hook.communicate()
    assert hook.returncode == 128 + signal.SIGTERM
    assert at_rest(site)


def test_a_kill_leaves_what_the_next_run_refuses(site: Site) -> None:
    site.world.fault("ssh", "kill-parent", nth=1, when="after")
    assert clone(site).returncode == -signal.SIGKILL
    site.world.clear_faults()
    ended = clone(site)
    assert ended.returncode == os.EX_CONFIG
    assert "/nfs/system/jail2: it is there already" in last_line(ended)
    assert site.table == []


def test_a_look_that_a_kill_has_left_is_taken_away(site: Site) -> None:
    site.held("data", "jail2").mkdir()
    site.world.fault("mount_nfs", "kill-parent", nth=3, when="after")
    assert clone(site).returncode == -signal.SIGKILL
    assert len(site.table) == 1
    site.held("data", "jail2").rmdir()
    site.world.clear_faults()
    assert clone(site).returncode == 0
    assert site.table == [site.row("data", "jail2")]


def test_a_dead_server_ends_it_before_anything_is_copied(site: Site) -> None:
    site.configure(CLONE_COMMAND=COPY, TIMEOUT="4")
    site.world.freeze(SERVER)
    ended = clone(site)
    assert ended.returncode == os.EX_TEMPFAIL
    assert site.world.calls("ssh") == []
    site.world.thaw(SERVER)
    assert at_rest(site)


def test_two_servers_cannot_clone(site: Site) -> None:
    with site.conf.open("a") as stream:
        stream.write('[jail2]\nNFS_SERVER="172.16.0.2"\n')
    ended = clone(site)
    assert ended.returncode == os.EX_CONFIG
    assert f"one is on {SERVER}, the other on 172.16.0.2" in last_line(ended)


def test_a_program_may_be_named_by_its_whole_path(site: Site, tmp_path: Path) -> None:
    """It may say a lot, and leave behind what it likes."""
    program, told, server = tmp_path / "snapshot", tmp_path / "told", site.world.path / "servers" / SERVER
    lines = (
        "#!/bin/sh",
        "PATH=/bin:/usr/bin",
        f'echo "$1 $2" >> {told}',
        f"cp -R {server}$1 {server}$2",
        "head -c 30000000 /dev/zero",
        "sleep 600 &",
        f"echo $! >> {told}.pids",
    )
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    site.configure(CLONE_COMMAND=f"{program} {{old}} {{new}}")
    ended = clone(site)
    for pid in Path(f"{told}.pids").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    assert ended.returncode == 0, ended.stderr
    kinds = ("system", "fstab", "data")
    assert told.read_text().splitlines() == [f"/nfs/{kind}/jail1 /nfs/{kind}/jail2" for kind in kinds]


def test_what_is_there_and_no_directory_is_there(site: Site) -> None:
    """The command that takes back would remove it."""
    site.world.fault("mount_nfs", nth=3, text="mount_nfs: nmount: x: Not a directory")
    ended = clone(site)
    assert ended.returncode == os.EX_NOINPUT
    assert "Not a directory" in last_line(ended)
    assert site.world.calls("ssh") == []


def test_a_name_with_a_colon(site: Site) -> None:
    ended = clone(site, new="a:b")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_directory_that_a_shell_would_split_is_refused(site: Site) -> None:
    site.configure(CLONE_COMMAND=COPY, NFS_SERVER_ROOT_DIR="/nfs; reboot")
    ended = clone(site)
    assert ended.returncode == os.EX_CONFIG
    assert "would not take '/nfs; reboot/system/jail1' for one word" in last_line(ended)
    assert site.world.calls("ssh") == []


def test_without_a_command_nothing_is_done(site: Site) -> None:
    site.configure()
    ended = clone(site)
    assert ended.returncode == os.EX_CONFIG
    assert f"CLONE_COMMAND is not set; as in: ssh root@{SERVER} cp -a {{old}} {{new}}" in last_line(ended)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"newjname": ""}, "cannot tell what to clone: newjname not set"),
        ({"newjname": "jail1"}, "cannot clone jail1 to itself"),
        ({"newjname": "../jail2"}, "cannot use -j '../jail2'"),
        ({"jname": "", "data": ""}, "cannot tell what to clone: jname, data not set"),
        ({"newdata": "/etc"}, "it is a directory of this host"),
        ({"newdata": "data"}, "the path is not absolute"),
    ],
)
def test_variables_that_do_not_tell(site: Site, changes: dict[str, str], words: str) -> None:
    ended = site.world.run("env_clone_nfs", env={**variables(site), **changes})
    assert ended.returncode == os.EX_USAGE
    assert words in last_line(ended)


def test_n_shows_what_would_be_run(site: Site) -> None:
    ended = clone(site, "-n")
    assert ended.returncode == 0
    assert f"ssh root@{SERVER} cp -a /nfs/data/jail1 /nfs/data/jail2\n" in ended.stdout
    assert site.world.calls("ssh") == []
    assert "newjname" in clone(site, "-h").stdout
    assert clone(site, "-d", "/x").returncode == os.EX_USAGE


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        ("ssh nas cp -a {old} /nfs/{new}", "has '/nfs/{new}'; of words with braces there is {old} and {new}"),
        ("ssh nas cp -a {old} {name}", "has '{name}'"),
        ("ssh nas cp -a {old}", "lacks {old} or {new} as a word of its own"),
        ("bin/copy {old} {new}", "begins with 'bin/copy'; begin with the name of a program, or its whole path"),
        ("{old} {new}", "begins with '{old}'"),
    ],
)
def test_a_command_that_is_none(value: str, mistake: str) -> None:
    with pytest.raises(ValueError) as caught:
        nfs.clone_command("{old}", "{new}")(value)
    assert mistake in str(caught.value)
