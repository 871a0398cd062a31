"""CephFS in the simulated FreeBSD; the real one: tests/real. What it shares with gluster is in test_gluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, last_line
from clients import CEPH, ClientSite

from envstart.mounts import commands


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ClientSite]:
    with ClientSite(tmp_path, CEPH) as site:
        yield site


def test_the_command_line(site: ClientSite) -> None:
    site.configure(CEPH_USER="host1", CEPH_CONF="/c", CEPH_FS_NAME="files", CEPH_MONITORS=f"{SERVER} mon2:6789")
    assert site.start().returncode == 0
    (argv,) = [call["argv"] for call in site.world.calls("ceph-fuse")]
    access = ["--id=host1", "-c", "/c", "-m", f"{SERVER},mon2:6789"]
    wanted = ["ceph-fuse", *access, "--client_mds_namespace=files", "-r", "/jails", "-o", "rw", str(site.volume())]
    assert argv == wanted


def test_both_systems_run_the_same() -> None:
    for platform in ("freebsd", "linux"):
        argv = commands.mount(platform, "ceph-fuse", ("-r", "/x", "-o", "ro"), "source", "/p")
        assert argv == ("ceph-fuse", "-r", "/x", "-o", "ro", "/p")


def test_directories_lie_in_what_the_client_mounts(site: ClientSite) -> None:
    site.configure(CEPH_DATA_DIR="/elsewhere/data")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "does not lie in CEPH_ROOT_DIR, /jails" in last_line(ended)
    assert site.world.calls() == []


def test_a_root_that_is_not_there(site: ClientSite) -> None:
    site.configure(CEPH_ROOT_DIR="/nosuch")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "ceph mount failed with (2) No such file or directory" in last_line(ended)
    assert site.footprint() == site.rest


def test_another_root_is_another_source(site: ClientSite) -> None:
    """Neither table nor client tells it, but the note does; a stop goes by the record of the start."""
    site.preset()
    (site.held("data").parent.parent.parent / "other").mkdir()
    site.configure(CEPH_ROOT_DIR="/other")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert f"admin@{SERVER}:/other" in last_line(ended)
    assert site.is_all_there()
    assert site.stop().returncode == 0
    assert site.footprint() == site.rest


def test_the_kernel_may_show_the_device_instead_of_the_program(site: ClientSite) -> None:
    """So does libfuse 2 (docs/freebsd.md#ceph-fuse)."""
    site.preset()
    site.world._change(lambda state: state["mounts"][2].update({"special": "/dev/fuse", "fstype": "fusefs.ceph-fus"}))
    assert site.world.mounts()[0]["fstype"] == "fusefs.ceph-fus"
    assert site.start().returncode == 0
    assert site.stop().returncode == 0
    assert site.footprint() == site.rest


def test_a_dead_client_is_mounted_anew(site: ClientSite) -> None:
    site.preset()
    before = site.client()
    site.kill_client()
    assert site.start().returncode == 0
    assert site.is_all_there()
    assert site.client() != before


def test_silent_monitors_end_in_time_and_nothing_is_mounted_later(site: ClientSite) -> None:
    site.configure(TIMEOUT="12")
    site.world.freeze(SERVER)
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert site.footprint() == site.rest
    assert site.clients() == []
