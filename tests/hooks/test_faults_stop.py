"""Stop, leases, and what is found later (failure catalogue B.6)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from cbsd import NULLFS, SERVER, Site, last_line
from pace import in_time


def lease(site: Site, node: str, minutes: float) -> None:
    """CBSD's lease in the system directory on the server."""
    locked = site.held("system") / "locked"
    locked.write_text(f"{node}\n")
    os.utime(locked, (time.time() - 60 * minutes,) * 2)


def test_fault_109_busy_at_stop(site: Site) -> None:
    site.configure(TIMEOUT="3")
    site.preset()
    with site.world.holder(site.point("data")) as process:
        ended = site.stop()
    assert ended.returncode == 75
    assert f"it is busy (pid {process.pid}, " in last_line(ended)
    assert "sleep 600" in last_line(ended)
    assert site.count("umount") > 1, "it was tried once only"
    assert site.table == site.wanted(), "half a stop"


def test_fault_109_busy_for_a_while(site: Site) -> None:
    site.preset()
    with site.world.holder(site.point("data")) as process, site.begin("stop") as hook:
        while not site.count("fuser"):
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert hook.wait() == 0
    assert site.table == []


def test_fault_109_holders_may_be_ended(site: Site) -> None:
    site.configure(STOP_KILL="1")
    site.preset()
    with site.world.holder(site.point("data")) as process:
        ended = site.stop()
        assert ended.returncode == 0, ended.stderr
        assert process.wait() == -signal.SIGTERM
    assert site.table == []
    assert f"ending pid {process.pid}" in ended.stderr


def test_fault_109_force_is_allowed(site: Site) -> None:
    site.configure(STOP_FORCE="1", TIMEOUT="3")
    site.preset()
    with site.world.holder(site.point("data")) as process:
        ended = site.stop()
        assert ended.returncode == 0, ended.stderr
        assert process.poll() is None
    assert site.table == []
    assert ["umount", "-f", str(site.point("data"))] in [call["argv"] for call in site.world.calls("umount")]


def test_a_dead_server_of_somebody_else_holds_no_stop_up(site: Site) -> None:
    """sync(2), with which a plain umount(8) begins, waits for all to whom something is to be written."""
    site.preset()
    elsewhere = site.world.path / "mnt"
    elsewhere.mkdir()
    site.world.export("172.16.0.9", "/nfs")
    site.world.mount("172.16.0.9:/nfs", elsewhere, "nfs")
    site.world.dirty(elsewhere)
    site.world.freeze("172.16.0.9")
    site.configure(TIMEOUT="6")
    ended = site.stop()
    assert ended.returncode == 0, ended.stderr
    assert [row[1] for row in site.table] == [str(elsewhere)]


def test_fault_109_force_is_not_used_unasked(site: Site) -> None:
    site.configure(TIMEOUT="3")
    site.preset()
    with site.world.holder(site.point("system")):
        assert site.stop().returncode == 75
    assert not [call for call in site.world.calls("umount") if "-f" in call["argv"]]


def test_fault_109_a_search_for_holders_that_hangs(site: Site) -> None:
    site.configure(TIMEOUT="4")
    site.preset()
    site.world.fault("fuser", "unkillable", times=None)
    began = time.monotonic()
    with site.world.holder(site.point("data")):
        ended = site.stop()
    assert ended.returncode == 75
    assert in_time(began, 1, waiting=4)


def test_fault_109_a_search_for_holders_that_hangs_is_not_begun_again(site: Site) -> None:
    """Each can be held up for ever by an open file on another server (docs/freebsd.md#fuser), and stay behind."""
    site.configure(TIMEOUT="10")
    site.preset()
    site.world.fault("fuser", "hang", times=None)
    with site.world.holder(site.point("data")):
        ended = site.stop()
    assert (ended.returncode, "it is busy" in last_line(ended)) == (75, True)
    assert site.count("umount") > 2, "it was not tried again"
    assert site.count("fuser") == 1


def test_fault_109_what_is_mounted_on_top_keeps_it_busy(site: Site) -> None:
    site.configure(TIMEOUT="3")
    site.preset()
    (site.held("data") / "dev").mkdir()
    site.world.mount("devfs", site.point("data") / "dev", "devfs")
    ended = site.stop()
    assert ended.returncode == 75
    assert f"mounted on it: {site.point('data')}/dev" in last_line(ended)


def test_fault_110_our_working_directory_is_in_what_we_unmount(site: Site) -> None:
    """As for a hook in master_poststop.d, which lies in the system directory."""
    assert site.start().returncode == 0
    with site.begin("stop", cwd=site.point("system")) as hook:
        assert hook.wait() == 0
    assert site.table == []


def test_fault_111_cbsd_has_unmounted_the_data_by_force(site: Site) -> None:
    site.preset("system", "fstab")
    for _ in range(2):
        ended = site.stop()
        assert (ended.returncode, ended.stderr) == (0, "")
        assert site.table == []


def test_fault_112_environment_still_runs(site: Site) -> None:
    """A jail keeps its root directory busy: the kernel refuses, and nothing is taken from under it."""
    site.configure(TIMEOUT="3")
    site.preset()
    site.world.jail("jail1", 7)
    with site.world.holder(site.point("data"), "rj"):
        ended = site.stop()
    assert ended.returncode == 75
    assert site.table == site.wanted()


@pytest.mark.parametrize("minutes", [0, 29])
def test_fault_115_another_node_holds_a_fresh_lease(site: Site, minutes: int) -> None:
    lease(site, "node2.example.com", minutes)
    ended = site.start()
    assert ended.returncode == 75
    assert f"node node2.example.com had jail1 in use {minutes} minutes ago" in last_line(ended)
    assert site.table == []


def test_fault_115_lease_is_looked_at_although_all_is_mounted(site: Site) -> None:
    site.preset()
    lease(site, "node2.example.com", 5)
    assert site.start().returncode == 75
    assert site.table == site.wanted()


def test_fault_115_lease_has_run_out(site: Site) -> None:
    lease(site, "node2.example.com", 31)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("key", "words"), [("warn", "node2.example.com"), ("ignore", "")])
def test_fault_115_lease_is_overridden(site: Site, key: str, words: str) -> None:
    lease(site, "node2.example.com", 5)
    site.configure(LEASE=key)
    ended = site.start()
    assert ended.returncode == 0
    assert words in ended.stderr
    assert site.table == site.wanted()


def test_fault_116_own_lease_since_a_crash(site: Site) -> None:
    lease(site, "node1.example.com", 5)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")


def test_fault_116_own_name_is_the_hosts_where_cbsd_has_written_none(site: Site) -> None:
    (site.workdir / "nodename").unlink()
    lease(site, site.world.state["settings"]["hostname"], 5)
    assert site.start().returncode == 0


def test_fault_116_lease_without_a_name(site: Site) -> None:
    lease(site, "", 5)
    assert site.start().returncode == 0


def test_fault_117_directories_that_take_no_file(site: Site) -> None:
    """root_squash, or a mount that is read-only on purpose: what has files in it is usable."""
    for which in site.variant.directories:
        (site.held(which) / "file").touch()
    site.configure(MOUNT_NFS_OPT="-oro -overs=4")
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.table == site.wanted()


def test_fault_117_a_probe_leaves_nothing_behind(site: Site) -> None:
    assert site.start().returncode == 0
    assert list(site.held("system").iterdir()) == []


def test_fault_122_control_c_by_hand(site: Site) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang")
    where = ("-w", str(site.workdir), "-j", "jail1")
    with site.world.popen("envstart", "start", "nfs", *where) as tool:
        while not site.count("mount_nfs"):
            time.sleep(0.02)
        tool.send_signal(signal.SIGINT)
        words = tool.communicate()[1]
    assert tool.returncode == 130
    assert "Traceback" not in words
    assert words.splitlines()[-1].endswith("interrupted by signal 2; what this run did was undone")
    assert site.table == []


def test_fault_58_a_dead_mount_that_others_show_is_not_broken_for_good(site: Site) -> None:
    """A refused `umount -N` has marked it, and nothing takes that back: it would not heal with its server."""
    site.configure(STOP_FORCE="1")
    assert site.start().returncode == 0
    shown = site.world.path / "jail" / "etc"
    shown.mkdir(parents=True)
    assert site.world.command("mount_nullfs", str(site.point("data") / "etc"), str(shown)).returncode == 0
    site.world.freeze(SERVER)
    before = site.table
    ended = site.stop()
    assert ended.returncode == 75
    assert f"{shown} lies on it, and does not belong to it alone; unmount that first" in last_line(ended)
    assert not any("-N" in call["argv"] for call in site.world.calls("umount"))
    site.world.thaw(SERVER)
    assert site.table == before


def test_fault_58_what_shows_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    """A nullfs has the locks of what it shows: an unmount waits for the server, and so does a start."""
    with Site(tmp_path, NULLFS) as site:
        site.configure(TIMEOUT="8")
        held = site.world.export(SERVER, "/files")
        for which in ("data/jail1/etc", "system/jail1", "fstab/jail1"):
            (held / which).mkdir(parents=True)
        site.world.mount(f"{SERVER}:/files", site.files)
        assert site.start().returncode == 0
        site.world.freeze(SERVER)
        before = site.table
        ended = site.start()
        assert ended.returncode == 75
        assert f"{SERVER}:/files (nfs) on {site.files} gives no answer; it is not touched" in last_line(ended)
        assert (site.table, site.world.calls("umount")) == (before, [])
