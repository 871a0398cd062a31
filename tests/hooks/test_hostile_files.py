"""What somebody with less rights has put where root looks: the root of a jail, or who runs the storage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import HAST
from cbsd import NULLFS, Site, last_line
from harmless import scene

from envstart.storage import host_mark
from envstart.system import filesystem

SECRET = "root:$6$verysecret:0:0::0:0:Charlie &:/root:/bin/sh\n"


def link(path: Path, host: Path) -> None:
    path.symlink_to(host)


def fifo(path: Path, host: Path) -> None:
    os.mkfifo(path)


def device(path: Path, host: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path, host: Path) -> None:
    path.mkdir()
    (path / "file").touch()


TRAPS = [link, fifo, device, directory]
trapped = pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
Trap = Callable[[Path, Path], None]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a file of the host that only root may read."""
    path = tmp_path / "master.passwd"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@trapped
def test_a_lease_is_a_file(tmp_path: Path, host: Path, trap: Trap) -> None:
    with Site(tmp_path, NULLFS) as site:
        trap(site.held("system") / "locked", host)
        ended = site.start()
        assert ended.returncode == 1
        assert f"{site.point('system')}/locked is no regular file" in last_line(ended)
        assert "verysecret" not in ended.stderr + "".join(site.world.syslog())
        # It is no dead server either, which would be unmounted by force.
        assert all("-f" not in call["argv"] for call in site.world.calls("umount"))
        assert site.table == []


@trapped
def test_a_probe_harms_no_file(tmp_path: Path, host: Path, trap: Trap) -> None:
    with Site(tmp_path, NULLFS) as site:
        assert site.start().returncode == 0
        trap(site.held("data") / ".envstart.probe", host)
        checked = site.hand("check", "nullfs", "-w", str(site.workdir), "-j", "jail1", "--level", "write")
        assert checked.returncode == (2 if trap is directory else 0), checked.stderr
        assert host.read_text() == SECRET
        # In a directory that shows nothing else it is what tells an export from none.
        (site.held("data") / "etc").rmdir()
        assert site.start().returncode == (66 if trap is directory else 0)
        assert host.read_text() == SECRET


@trapped
@pytest.mark.parametrize("name", [host_mark.NAME, f"{host_mark.NAME}.new"])
def test_a_mark_that_is_no_mark_keeps_nobody_from_stopping(tmp_path: Path, host: Path, trap: Trap, name: str) -> None:
    with scene(tmp_path, HAST) as site:
        assert site.start().returncode == 0
        path = site.world.real(site.point("data")) / name
        path.unlink(missing_ok=True)
        trap(path, host)
        ended = site.stop()
        assert ended.returncode == 0, ended.stderr
        assert site.footprint() == site.rest
        # It is still there, and in the way of the next mark.
        for run in (site.start, site.stop):
            assert (ended := run()).returncode == 0, ended.stderr
        assert site.footprint() == site.rest
        assert host.read_text() == SECRET


@trapped
def test_links_for_cbsd_are_put_nowhere_else(tmp_path: Path, trap: Trap) -> None:
    system, elsewhere = tmp_path / "system", tmp_path / "elsewhere"
    system.mkdir()
    elsewhere.mkdir()
    (elsewhere / "envstart").symlink_to("/x/env_poststop")
    trap(system / "master_poststop.d", elsewhere)
    targets = {"master_poststop.d": "/y/env_poststop"}
    if trap is directory:
        assert filesystem.put_links(str(system), targets, "envstart") == [f"{system}/master_poststop.d/envstart"]
    else:
        with pytest.raises(OSError):
            filesystem.put_links(str(system), targets, "envstart")
    filesystem.take_links(str(system), {"master_poststop.d": "env_poststop"}, "envstart")
    assert os.listdir(elsewhere) == ["envstart"]
    assert os.readlink(elsewhere / "envstart") == "/x/env_poststop"


def test_a_directory_that_is_swapped_while_it_is_made(
    tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must have its mode from the beginning: a change of mode would go where the link leads."""
    mkdir = os.mkdir

    def swapped(path: str, mode: int) -> None:
        mkdir(path, mode)
        assert os.stat(path).st_mode & 0o777 == 0o755
        os.rmdir(path)
        os.symlink(host, path)

    monkeypatch.setattr(os, "mkdir", swapped)
    umask = os.umask(0o077)
    try:
        filesystem.make_directories([str(tmp_path / "made")], 0o755)
    finally:
        os.umask(umask)
    assert host.stat().st_mode & 0o777 == 0o600


def test_directories_that_another_start_makes_and_takes_away_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What environments share: made by the one between look and act of the other, and taken away by its roll back."""
    parent, mkdir, come = tmp_path / "parent", os.mkdir, iter(["made", "gone", "", ""])

    def raced(path: str, mode: int) -> None:
        other = next(come)
        if other == "made":
            mkdir(parent, 0o700)
        elif other == "gone":
            os.rmdir(parent)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", raced)
    umask = os.umask(0o022)
    try:
        filesystem.make_directories([str(parent), str(parent / "own")], 0o700)
    finally:
        os.umask(umask)
    assert (parent / "own").is_dir()
    assert list(come) == []


def test_what_stands_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    umask = os.umask(0o022)
    try:
        with pytest.raises(FileExistsError):
            filesystem.make_directories([str(tmp_path / "link")], 0o700)
    finally:
        os.umask(umask)


@trapped
def test_a_list_of_environments_waits_for_no_file(tmp_path: Path, host: Path, trap: Trap) -> None:
    """jails-rcconf can be shared by a server."""
    with Site(tmp_path, NULLFS) as site:
        trap(site.workdir / "jails-rcconf" / "rc.conf_other", host)
        ended = site.hand("status", "-w", str(site.workdir), "--json")
        names = [row["environment"] for row in json.loads(ended.stdout)["environments"]]
        assert "jail1" in names
        assert "verysecret" not in ended.stdout + ended.stderr
