"""Links that somebody with less rights has laid for root.

The root of a jail owns what is in its data directory, and whoever runs the storage what is in all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cbsd import Variant, last_line
from clients import CEPH, GLUSTER, ClientSite
from harmless import scene
from real import Namespace, Workdir, why_not
from thin_site import make_base, make_skeleton

KEYS = {"GELI_PROVIDER": "/dev/gpt/{name}", "GELI_KEYFILE": "{key}", "VOLUME_LAYOUT": "tree"}
GELI_TREE = Variant("geli, tree", "geli", KEYS, ("system", "fstab", "data"))
real_mounts = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def cbsd(namespace: Namespace) -> Workdir:
    return Workdir(namespace)


def host_etc(top: Path) -> Path:
    """Return a directory of the host that nobody else may get at."""
    etc = top / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root\n")
    return etc


def nested(cbsd: Workdir) -> list[str]:
    """Words of an environment whose system directory is inside its data directory, where the jail is root."""
    data = cbsd.point("data")
    return ["-c", f"{cbsd.path}/etc/env_start_nullfs.conf", "-d", str(data), "-j", "j1", "-s", f"{data}/system"]


# The mount point.


@real_mounts
def test_a_directory_in_the_data_is_a_link(cbsd: Workdir) -> None:
    etc = host_etc(cbsd.namespace.top)
    (cbsd.store / "data/j1/system").symlink_to(etc)
    result = cbsd.run("start", argv=nested(cbsd))
    assert result.status == os.EX_NOPERM
    assert f"a link leads to {etc}" in result.last
    assert cbsd.namespace.mounts() == []


@real_mounts
def test_what_the_bare_mount_point_holds_does_not_count(cbsd: Workdir) -> None:
    """A jail that ran without its mount has left a link there; the data that are mounted over it are sound."""
    etc = host_etc(cbsd.namespace.top)
    (cbsd.point("data") / "system").symlink_to(etc)
    (cbsd.store / "data/j1/system").mkdir()
    assert cbsd.run("start", argv=nested(cbsd)).status == 0
    data = str(cbsd.point("data"))
    assert [mounted.point for mounted in cbsd.namespace.mounts()] == [data, f"{data}/system"]
    assert cbsd.run("stop", argv=nested(cbsd)).status == 0
    assert cbsd.namespace.mounts() == []


@real_mounts
def test_a_directory_in_the_data_becomes_a_link_between_look_and_mount(cbsd: Workdir) -> None:
    etc = host_etc(cbsd.namespace.top)
    inner = cbsd.store / "data/j1/system"
    inner.mkdir()
    swap = f'case "$*" in *-data/system) rmdir "{inner}" && ln -s "{etc}" "{inner}" ;; esac'
    cbsd.namespace.in_front("mount", swap)
    result = cbsd.run("start", argv=nested(cbsd))
    assert result.status == os.EX_NOPERM
    assert f"on {etc}, by a link that somebody has made just now, and was taken away" in result.last
    assert cbsd.namespace.mounts() == []


@real_mounts
@pytest.mark.parametrize("which", ["point", "source"])
def test_a_layer_of_a_thin_jail_becomes_a_link_between_look_and_mount(cbsd: Workdir, which: str) -> None:
    top, data = cbsd.namespace.top, cbsd.point("data")
    etc, own = host_etc(top), cbsd.store / "skeleton/j1"
    make_base(cbsd.store / "base")
    make_skeleton(own)
    (own / "home/films").mkdir()
    (own / "home/shared").mkdir()
    fstab = top / "fstab"
    fstab.write_text(f"{own}/home/shared {data}/skeleton/home/films nullfs rw 0 0\n")
    fstab.chmod(0o644)
    cbsd.configure(BASE_DIR=cbsd.store / "base", THIN_FSTAB=fstab, MOUNT_FSTAB=0, MOUNT_SYSTEM=0)
    victim = own / "home" / ("films" if which == "point" else "shared")
    cbsd.namespace.in_front("mount", f'case "$*" in */home/films) rmdir "{victim}" && ln -s "{etc}" "{victim}" ;; esac')
    result = cbsd.run("start")
    assert result.status == os.EX_NOPERM
    assert "by a link that somebody has made just now, and was taken away" in result.last
    assert str(etc) in result.last
    assert cbsd.namespace.mounts() == []


@real_mounts
def test_a_stop_follows_no_link_to_another_mount(cbsd: Workdir) -> None:
    """Who owns the directory that a mount point is in can move it away while something is mounted there."""
    data, top = cbsd.point("data"), cbsd.namespace.top
    (cbsd.store / "data/j1/inner/system").mkdir(parents=True)
    words = [word.replace("-data/system", "-data/inner/system") for word in nested(cbsd)]
    cbsd.configure(TIMEOUT=3)
    assert cbsd.run("start", argv=words).status == 0
    (top / "host/system").mkdir(parents=True)
    cbsd.namespace.bind(cbsd.store / "rcconf", top / "host/system")
    cbsd.namespace.run("mv", f"{data}/inner", f"{data}/moved")
    cbsd.namespace.run("ln", "-s", f"{top}/host", f"{data}/inner")
    before = cbsd.namespace.mounts()
    result = cbsd.run("stop", argv=words)
    assert result.status == os.EX_TEMPFAIL
    assert f"mounted on it: {data}/moved/system" in result.last
    assert cbsd.namespace.mounts() == before


# The source.


@pytest.mark.parametrize("variant", [GLUSTER, CEPH], ids=lambda variant: variant.title)
@pytest.mark.parametrize("which", ["data", "system"])
def test_a_directory_of_a_client_is_a_link(tmp_path: Path, variant: Variant, which: str) -> None:
    """Who may write to the top of a volume could have the host's own files shown to a jail."""
    with ClientSite(tmp_path, variant) as site:
        etc, held = host_etc(tmp_path), site.held(which)
        held.rename(held.parent / "away")
        held.symlink_to(etc)
        ended = site.start()
        assert ended.returncode == os.EX_NOPERM, ended.stderr
        assert f"a link leads to {etc}" in last_line(ended)
        assert site.table == []


@pytest.mark.parametrize("which", ["data", "system", "fstab"])
def test_a_directory_of_a_tree_is_a_link(tmp_path: Path, which: str) -> None:
    with scene(tmp_path, GELI_TREE) as site:
        etc = host_etc(tmp_path)
        files = site.world.files("gpt/jail1.eli")
        (files / which).rename(files / "away")
        (files / which).symlink_to(etc)
        ended = site.start()
        assert ended.returncode == os.EX_NOPERM, ended.stderr
        assert f"a link leads to {etc}" in last_line(ended)
        assert site.table == []
