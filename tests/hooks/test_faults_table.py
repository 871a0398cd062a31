"""What the mount table and a mount point can be like before a start or a stop (failure catalogue B.2)."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from cbsd import NULLFS, SERVER, Site, Variant, last_line
from pace import in_time
from sim.shapes import State

THREE = ("system", "fstab", "data")


def replaced(args: list[str], option: str, value: str) -> list[str]:
    """Return the argv with another value of one option."""
    place = args.index(option) + 1
    return [*args[:place], value, *args[place + 1 :]]


def refused(site: Site, status: int, *words: str) -> None:
    """Let a start end with ``status`` and these words in its last line, and change nothing."""
    before = site.table
    ended = site.start()
    assert ended.returncode == status, ended.stderr
    for word in words:
        assert word in last_line(ended)
    assert site.table == before


def test_fault_21_same_source_already_mounted(site: Site) -> None:
    site.preset()
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [call["argv"] for call in site.world.calls()] == [["mount", "--libxo", "json"]]


def test_fault_22_other_source(site: Site) -> None:
    site.world.export(SERVER, "/nfs/other")
    site.world.mount(f"{SERVER}:/nfs/other", site.point("data"))
    refused(site, 78, site.source("data"), f"{SERVER}:/nfs/other (nfs) is mounted there", "umount")
    ended = site.stop()
    assert ended.returncode == 78
    assert f"{SERVER}:/nfs/other" in last_line(ended)
    assert len(site.table) == 1


@pytest.mark.parametrize(
    ("server", "root"),
    [("NFS.Example.COM", "/nfs"), ("nfs.example.com.", "/nfs"), ("nfs.example.com", "//nfs/")],
)
def test_fault_23_same_source_spelt_otherwise(site: Site, server: str, root: str) -> None:
    for which in THREE:
        site.world.export("nfs.example.com", f"/nfs/{which}/jail1")
        site.world.mount(f"nfs.example.com:/nfs/{which}/jail1/", site.point(which))
    site.configure(NFS_SERVER=server, NFS_SERVER_ROOT_DIR=root)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.mounting == []
    assert site.stop().returncode == 0
    assert site.table == []


def test_fault_24_read_only_instead_of_writable(site: Site) -> None:
    for which in THREE:
        site.world.mount(site.source(which), site.point(which), opts=["ro"] if which == "data" else [])
    ended = site.start()
    assert ended.returncode == 0
    assert "read-only" in last_line(ended)


def test_fault_25_other_file_system_type(site: Site) -> None:
    site.world.mount(site.source("data"), site.point("data"), "fusefs")
    refused(site, 78, "(fusefs) is mounted there")


def test_a_mount_above_hides_all(site: Site) -> None:
    """As a dataset does whose key was loaded late: the directories below it are local ones, and answer."""
    site.preset()
    above = site.point("data").parent
    site.world.mount("tmpfs", above, "tmpfs")
    site.point("data").mkdir(exist_ok=True)
    refused(site, 78, f"hidden by tmpfs (tmpfs), which was mounted on {above} later", f"umount {above}")
    told = site.hand("status", "nfs", *site.args())
    assert told.returncode == 1
    assert "stacked" in told.stdout
    before = site.table
    ended = site.stop()
    assert (ended.returncode, site.table) == (78, before)
    assert "hidden by" in last_line(ended)


@pytest.mark.parametrize("runs", [False, True])
def test_what_a_nullfs_shows_is_mounted_over(tmp_path: Path, *, runs: bool) -> None:
    """A pool that comes late: a nullfs goes on to show what was there before it."""
    with Site(tmp_path, NULLFS, getfsstat=True) as site:
        for _ in range(2):
            assert site.start().returncode == 0
        held = site.world.export(SERVER, "/files")
        for which in THREE:
            shutil.copytree(site.held(which).parent, held / which, dirs_exist_ok=True)
        site.world.mount(f"{SERVER}:/files", site.files)
        if runs:
            site.world.jail("jail1", 7)
        told = site.hand("status", "nullfs", *site.args()).stdout
        assert told.count(f"was mounted on {site.files} after it, over what it shows") == len(THREE)
        ended = site.start()
        assert ended.returncode == (75 if runs else 0), ended.stderr
        assert site.start().returncode == ended.returncode
        order = [row[1] for row in site.world.table()]
        assert all((order.index(str(site.point(which))) > order.index(str(site.files))) != runs for which in THREE)


def test_a_mount_above_that_came_first_is_what_it_lies_on(site: Site) -> None:
    site.world.mount("tmpfs", site.point("data").parent, "tmpfs")
    site.point("data").mkdir(exist_ok=True)
    for _ in range(2):
        ended = site.start()
        assert (ended.returncode, ended.stderr) == (0, "")
    assert site.stop().returncode == 0


def test_fault_26_two_of_ours_stacked(site: Site) -> None:
    site.preset()
    site.preset("data")
    refused(site, 78, "2 mounts are stacked")
    ended = site.stop()
    assert ended.returncode == 0, ended.stderr
    assert site.table == []


def test_fault_26_ours_below_a_stranger(site: Site) -> None:
    site.preset()
    site.world.mount("tmpfs", site.point("data"), "tmpfs")
    refused(site, 78, "tmpfs", site.source("data"))
    before = site.table
    assert site.stop().returncode == 78
    assert site.table == before


def test_fault_27_somebody_else_mounts_it_in_between(site: Site) -> None:
    site.world.fault("mount_nfs", "slow", seconds=0.6, times=3)
    with site.begin() as hook:
        while site.count("mount_nfs") < 3:
            time.sleep(0.02)
        site.preset("data")
        assert hook.wait() == 0
    assert site.table == site.wanted()


def test_fault_27_what_somebody_else_mounted_is_not_taken_back(site: Site) -> None:
    (site.held("data") / "fstab").mkdir()
    site.held("fstab").rmdir()
    site.configure(MOUNT_SYSTEM="0")
    site.world.fault("mount_nfs", "slow", seconds=0.6)
    args = replaced(site.args(), "-f", f"{site.point('data')}/fstab")
    with site.world.popen("env_start_nfs", *args) as hook:
        while not site.count("mount_nfs"):
            time.sleep(0.02)
        site.preset("data")
        assert hook.wait() == 66
    assert site.table == [site.row("data")]


def test_fault_28_mount_point_missing(site: Site) -> None:
    site.point("data").rmdir()
    assert site.start().returncode == 0
    assert site.table == site.wanted()
    assert os.lstat(site.point("data")).st_mode & 0o7777 == 0o755


def test_fault_28_a_mount_point_that_was_made_is_removed_again(site: Site) -> None:
    site.point("data").rmdir()
    site.held("system").rmdir()
    assert site.start().returncode == 66
    assert not site.point("data").exists()


def test_fault_28_configuration_forbids_to_make_it(site: Site) -> None:
    site.configure(CREATE_MOUNT_POINTS="0")
    site.point("data").rmdir()
    refused(site, 66, str(site.point("data")), "No such file or directory")


def test_fault_29_parent_missing_below_the_workdir(site: Site) -> None:
    shutil.rmtree(site.workdir / "jails-fstab")
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_29_parent_missing_elsewhere(site: Site, tmp_path: Path) -> None:
    ended = site.world.run("env_start_nfs", *replaced(site.args(), "-d", f"{tmp_path}/elsewhere/deep/data"))
    assert ended.returncode == 66
    assert not (tmp_path / "elsewhere").exists()
    assert site.table == []


def test_fault_30_mount_point_is_a_file(site: Site) -> None:
    site.point("data").rmdir()
    site.point("data").write_text("a file")
    refused(site, 66, str(site.point("data")), "Not a directory")


def test_fault_31_mount_point_is_a_link_within_the_workdir(site: Site) -> None:
    """As for a VM on ZFS (docs/cbsd.md#paths-of-a-vm)."""
    real = site.workdir / "vm" / "jail1"
    real.mkdir(parents=True)
    site.point("data").rmdir()
    site.point("data").symlink_to(real)
    for _ in range(2):
        assert site.start().returncode == 0
    assert (site.source("data"), str(real), "nfs") in site.table
    assert len(site.mounting) == 3
    assert site.stop().returncode == 0
    assert site.table == []


def test_fault_31_mount_point_is_a_link_out_of_the_workdir(site: Site, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    site.point("data").rmdir()
    site.point("data").symlink_to(tmp_path / "outside")
    refused(site, 77, f"{tmp_path}/outside", "out of the workdir")


def test_fault_31_the_workdir_itself_is_a_link(site: Site) -> None:
    link = site.workdir.with_name("link")
    link.symlink_to(site.workdir)
    args = [word.replace(str(site.workdir), str(link)) for word in site.args()]
    for _ in range(2):
        assert site.world.run("env_start_nfs", *args).returncode == 0
        assert site.table == site.wanted()
    assert len(site.mounting) == 3
    assert site.world.run("env_stop_nfs", *args).returncode == 0
    assert site.table == []


def test_fault_32_mount_point_is_a_link_to_itself(site: Site) -> None:
    site.point("data").rmdir()
    site.point("data").symlink_to(site.point("data"))
    refused(site, 66, "jail1-data")


def test_fault_32_mount_point_is_a_dangling_link(site: Site) -> None:
    site.point("data").rmdir()
    site.point("data").symlink_to(site.workdir / "jails-data" / "nowhere")
    ended = site.start()
    assert ended.returncode == 66
    assert "nowhere" in last_line(ended)
    assert site.table == []


def test_fault_33_mount_point_is_not_empty(site: Site) -> None:
    for name in "abcd":
        (site.point("data") / name).touch()
    ended = site.start()
    assert ended.returncode == 0
    assert "is not empty (a, b, c)" in ended.stderr
    assert site.table == site.wanted()


def test_fault_33_mount_point_must_be_empty(site: Site) -> None:
    (site.point("data") / "local.sqlite").touch()
    site.configure(HIDDEN_FILES="refuse")
    refused(site, 78, "is not empty (local.sqlite)", "move it away")


@pytest.mark.parametrize("shape", ["{0}/", "{0}//", "/{0}", "{1}/./{2}", "{1}//{2}"])
def test_fault_34_slashes_and_dots(site: Site, shape: str) -> None:
    args = replaced(site.args(), "-d", shape.format(site.point("data"), *os.path.split(site.point("data"))))
    for program in ("env_start_nfs", "env_start_nfs"):
        assert site.world.run(program, *args).returncode == 0
    assert site.table == site.wanted()
    assert len(site.mounting) == 3
    assert site.world.run("env_stop_nfs", *args).returncode == 0
    assert site.table == []


@pytest.mark.parametrize("path", ["jails-data/jail1-data", "{0}/../jails-data", "/..", "."])
def test_fault_35_relative_path_or_dot_dot(site: Site, path: str) -> None:
    ended = site.world.run("env_start_nfs", *replaced(site.args(), "-d", path.format(site.point("data"))))
    assert ended.returncode == 64
    assert site.world.calls() == []


def test_fault_36_blank_in_a_path(site: Site) -> None:
    point = site.workdir / "jails-data" / "my data"
    point.mkdir()
    args = replaced(site.args(), "-d", str(point))
    for _ in range(2):
        assert site.world.run("env_start_nfs", *args).returncode == 0
    assert (site.source("data"), str(point), "nfs") in site.table
    assert len(site.mounting) == 3


def test_fault_36_control_character_in_a_path(site: Site) -> None:
    ended = site.world.run("env_start_nfs", *replaced(site.args(), "-d", f"{site.point('data')}\nx"))
    assert ended.returncode == 64
    assert "control character" in last_line(ended)
    assert site.world.calls() == []


def test_fault_37_bytes_that_are_no_text(site: Site) -> None:
    point = site.workdir / "jails-data" / os.fsdecode(b"caf\xe9-\xc3\xa9")
    point.mkdir()
    args = replaced(site.args(), "-d", str(point))
    for _ in range(2):
        ended = site.world.run("env_start_nfs", *args)
        assert ended.returncode == 0, ended.stderr
    assert len(site.mounting) == 3
    assert site.world.run("env_stop_nfs", *args).returncode == 0
    assert site.table == []


def test_fault_37_they_are_escaped_on_the_terminal(site: Site) -> None:
    point = site.workdir / "jails-data" / os.fsdecode(b"caf\xe9")
    point.write_text("a file")
    ended = site.world.run("env_start_nfs", *replaced(site.args(), "-d", str(point)))
    assert ended.returncode == 66
    assert r"caf\udce9" in last_line(ended)


def test_fault_38_mount_point_too_long(site: Site) -> None:
    ended = site.world.run("env_start_nfs", *replaced(site.args(), "-d", "/x" * 512))
    assert ended.returncode == 64
    assert "1023 bytes" in last_line(ended)


def test_fault_38_source_too_long(site: Site) -> None:
    site.configure(NFS_SERVER_ROOT_DIR="/" + "n" * 100)
    refused(site, 78, "99 bytes")
    site.configure(NFS_SERVER_ROOT_DIR="/" + "n" * 1024, MOUNT_NFS_OPT="-overs=3")
    refused(site, 78, "1023 bytes")


def test_fault_39_resource_deadlock(tmp_path: Path) -> None:
    with Site(tmp_path, NULLFS) as site:
        words = "mount_nullfs: /x: Resource deadlock avoided"
        site.world.fault("mount_nullfs", text=words, times=None)
        refused(site, 1, "Resource deadlock avoided")
        assert site.count("mount_nullfs") <= 3, "it heals by no retry"


def test_a_source_that_does_not_exist_is_named_with_its_key(tmp_path: Path) -> None:
    with Site(tmp_path, NULLFS) as site:
        shutil.rmtree(site.held("data"))
        words = f"source directory {site.source('data')} does not exist; create it, or correct NULLFS_ROOT_DIR"
        refused(site, 66, f"{words} ({site.conf}:1)")


def test_fault_40_system_directory_within_the_data(site: Site) -> None:
    (site.held("data") / "system").mkdir()
    args = replaced(site.args(), "-s", f"{site.point('data')}/system")
    conf = site.world.path / "root/etc/env_start_nfs.conf"
    shutil.copy(site.conf, conf)
    assert site.world.run("env_start_nfs", *args).returncode == 0
    sources = [argv[-2].split("/")[2] for argv in site.mounting]
    assert sources.index("data") < sources.index("system")
    assert site.world.run("env_stop_nfs", *args).returncode == 0
    assert site.table == []


def test_fault_40_dead_mounts_within_one_another(site: Site) -> None:
    (site.held("data") / "fstab").mkdir()
    args = replaced(site.args(), "-f", f"{site.point('data')}/fstab")
    assert site.world.run("env_start_nfs", *args).returncode == 0
    site.world.freeze(SERVER)
    site.configure(STOP_FORCE="1")
    ended = site.world.run("env_stop_nfs", *args)
    assert ended.returncode == 0, ended.stderr
    assert site.table == []


def test_fault_40_a_mount_that_would_be_hidden(site: Site) -> None:
    (site.point("data") / "usr").mkdir()
    site.world.mount("tmpfs", site.point("data") / "usr", "tmpfs")
    refused(site, 78, "would hide", f"{site.point('data')}/usr")


def test_fault_41_shared_rcconf_directory(site: Site) -> None:
    site.configure(MOUNT_RCCONF="1")
    assert site.start().returncode == 0
    points = [point for _, point, _ in site.table]
    assert f"{site.workdir}/jails-rcconf/jail1" in points
    assert f"{site.workdir}/jails-rcconf" not in points


def test_fault_41_shared_rcconf_directory_declared_as_such(tmp_path: Path) -> None:
    keys = {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1"}
    with Site(tmp_path, Variant("shared", "nfs", keys, ("rcconf", "system", "fstab", "data"))) as site:
        site.add("jail2")
        for name in ("jail1", "jail2"):
            assert site.start(name=name).returncode == 0
        assert [point for _, point, _ in site.table].count(str(site.point("rcconf"))) == 1
        assert site.stop(name="jail1").returncode == 0
        assert site.table == site.wanted("jail2"), "it still serves the other environment"
        assert site.stop(name="jail2").returncode == 0
        assert site.table == []


@pytest.mark.parametrize("there", THREE)
def test_fault_42_half_mounted_since_a_crash(site: Site, there: str) -> None:
    site.preset(there)
    assert site.start().returncode == 0
    assert site.table == site.wanted()
    assert len(site.mounting) == 2


def test_fault_43_ten_thousand_mounts(site: Site) -> None:
    # The simulated kernel itself is slow with so many.
    site.configure(PROBE_TIMEOUT="20")
    site.preset()

    def crowd(state: State) -> None:
        first = state["mounts"][-1]
        others = [{**first, "node": f"/crowd/{number}", "fsid": f"c{number}"} for number in range(10_000)]
        state["mounts"][-1:] = [*others, first]  # type: ignore[list-item]

    site.world.machine.store.change(crowd)
    began = time.monotonic()
    assert site.start().returncode == 0
    assert in_time(began, 5)
    assert len(site.world.calls()) == 1


def test_fault_44_table_that_is_cut_off_while_it_is_read(site: Site) -> None:
    """The half of it is no JSON; it is read again."""
    site.world.fault("mount", "say-ok-do-nothing")
    site.preset()
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.mounting == []


def test_fault_45_table_cannot_be_read(site: Site) -> None:
    for kind in ("fail", "say-ok-do-nothing"):
        site.world.clear_faults()
        site.world.fault("mount", kind, times=None)
        for ended in (site.start(), site.stop()):
            assert ended.returncode == 75
            assert "cannot read the mount table" in last_line(ended)
    assert site.mounting == []
    assert site.count("umount") == 0


def test_fault_46_unmount_in_progress(site: Site) -> None:
    """The table does not show it (MNT_NOWAIT), but the kernel says EBUSY until it is done."""
    words = f"mount_nfs: nmount: {site.point('data')}: Device busy"
    site.world.fault("mount_nfs", text=words, times=4)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_46_unmount_that_never_ends(site: Site) -> None:
    site.configure(TIMEOUT="4")
    site.world.fault("mount_nfs", text="mount_nfs: nmount: /x: Device busy", times=None)
    refused(site, 75, "Device busy")


def test_fault_47_parent_is_read_only(site: Site) -> None:
    site.point("data").rmdir()
    site.world.mount("tmpfs", site.workdir / "jails-data", "tmpfs", ["ro"])
    refused(site, 66, str(site.point("data")), "Read-only file system")
