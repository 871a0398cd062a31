"""A thin jail with real mounts: on Linux bind mounts, of which the base is read-only."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from jail_conf import filled
from jail_conf import jail as parsed
from real import HOOKS, Namespace, Workdir, gated, why_not
from thin_site import make_base, make_skeleton

from envstart.cli import jailconf
from envstart.hooks.remember import SETTLED

_WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)


@pytest.fixture
def cbsd(namespace: Namespace) -> Workdir:
    """Return a workdir whose environments are thin jails."""
    cbsd = Workdir(namespace)
    make_base(cbsd.store / "base")
    (cbsd.store / "base" / "bin" / "sh").write_text("shared\n")
    for name in ("j1", "j2"):
        make_skeleton(cbsd.store / "skeleton" / name)
    cbsd.configure(BASE_DIR=cbsd.store / "base", MOUNT_FSTAB=0, MOUNT_SYSTEM=0)
    return cbsd


def writes(cbsd: Workdir, name: str, environment: str = "j1") -> str:
    """Return what a process in the jail is told when it writes a file there; "" if it can."""
    path = cbsd.point("data", environment) / name
    process = cbsd.namespace.popen(["sh", "-c", 'echo written > "$1"', "sh", str(path)])
    return str(process.communicate(timeout=30)[1])


def test_the_base_takes_no_write_and_the_skeleton_does(cbsd: Workdir) -> None:
    for _ in range(2):
        cbsd.start()
        assert cbsd.namespace.points() == ["jails/jails-data/j1-data", "jails/jails-data/j1-data/skeleton"]
    for name in ("bin/sh", "new", "usr/new", "media/new"):
        assert "Read-only file system" in writes(cbsd, name)
    for name in ("etc/rc.conf", "usr/local/new", "var/new", "skeleton/new"):
        assert writes(cbsd, name) == ""
    assert (cbsd.store / "base" / "bin" / "sh").read_text() == "shared\n"
    assert (cbsd.store / "skeleton" / "j1" / "usr" / "local" / "new").read_text() == "written\n"
    for _ in range(2):
        cbsd.stop()
        assert cbsd.namespace.mounts() == []
    assert not os.listdir(cbsd.point("data"))


def test_the_stop_goes_from_the_top(cbsd: Workdir) -> None:
    called = gated(cbsd)
    cbsd.start()
    cbsd.stop()
    rows = called.read_text().splitlines()
    data = cbsd.point("data")
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        ("mount", str(data)),
        ("mount", f"{data}/skeleton"),
        ("umount", f"{data}/skeleton"),
        ("umount", str(data)),
    ]


def test_two_jails_on_one_base_write_each_to_its_own(cbsd: Workdir) -> None:
    cbsd.add("j2")
    for name in ("j1", "j2"):
        cbsd.start(name=name)
    assert writes(cbsd, "etc/motd", "j2") == ""
    assert [(cbsd.store / "skeleton" / name / "etc" / "motd").exists() for name in ("j1", "j2")] == [False, True]
    cbsd.stop(name="j1")
    assert writes(cbsd, "etc/motd", "j2") == ""


def test_what_uses_the_skeleton_keeps_all_of_it(cbsd: Workdir) -> None:
    cbsd.configure(BASE_DIR=cbsd.store / "base", MOUNT_FSTAB=0, MOUNT_SYSTEM=0, TIMEOUT=3)
    cbsd.start()
    before = cbsd.namespace.mounts()
    user = cbsd.namespace.popen(["sh", "-c", 'cd "$1" && exec sleep 600', "sh", f"{cbsd.point('data')}/etc/"])
    result = cbsd.run("stop")
    assert result.status == os.EX_TEMPFAIL
    assert f"cannot unmount {cbsd.point('data')}/skeleton: it is busy (" in result.last
    assert cbsd.namespace.mounts() == before
    user.kill()
    user.wait()
    cbsd.stop()
    assert cbsd.namespace.mounts() == []


def test_a_skeleton_that_is_not_there_takes_the_base_back(cbsd: Workdir) -> None:
    (cbsd.store / "skeleton" / "j1").rename(cbsd.store / "away")
    result = cbsd.run("start")
    assert result.status == os.EX_NOINPUT
    assert str(cbsd.store / "skeleton" / "j1") in result.last
    assert cbsd.namespace.mounts() == []


def test_a_link_of_the_jails_leads_no_mount_out_of_it(cbsd: Workdir) -> None:
    """A jail is root in its skeleton; the host mounts for it."""
    outside, data = cbsd.namespace.top / "outside", cbsd.point("data")
    (outside / "media").mkdir(parents=True)
    (cbsd.store / "skeleton" / "j1" / "home" / "trap").symlink_to(outside)
    fstab = cbsd.namespace.top / "fstab"
    fstab.write_text(f"{cbsd.store}/system {data}/skeleton/home/trap/media nullfs rw 0 0\n")
    fstab.chmod(0o644)
    cbsd.configure(BASE_DIR=cbsd.store / "base", THIN_FSTAB=fstab, MOUNT_FSTAB=0, MOUNT_SYSTEM=0)
    result = cbsd.run("start")
    assert result.status == os.EX_NOPERM
    assert f"a link leads to {outside}/media" in result.last
    assert cbsd.namespace.mounts() == []


def test_the_files_of_jailconf_are_what_the_hooks_need(cbsd: Workdir) -> None:
    """jail(8) on a host without CBSD: it runs what its exec.prepare and exec.release say."""
    top = cbsd.namespace.top
    (top / "containers").mkdir()
    (top / "web-nullfs-base").mkdir()
    (cbsd.store / "skeleton" / "j1").rename(top / "containers" / "web")
    conf, fstab = top / "thin.conf", top / "web-nullfs-base.fstab"
    base, hooks = str(cbsd.store / "base"), str(HOOKS)
    jail = jailconf.Jail(
        name="web",
        address="10.0.0.7/24",
        bridge="bridge0",
        base=base,
        directory=str(top),
        hooks=hooks,
        config=str(conf),
    )
    fstab.write_text(jailconf.fstab(jail))
    conf.write_text(f'NULLFS_ROOT_DIR="{top}"\nTHIN_FSTAB="{top}/{{name}}-nullfs-base.fstab"\nMOUNT_SYSTEM="0"\n')
    for path in (fstab, conf):
        path.chmod(0o644)
    read = [("name", "=", "web"), *parsed(jailconf.conf(jail))[1]]
    commands = {name: filled(value, read).split() for name, _, value in read}
    for parameter, points in (
        ("exec.prepare", ["web-nullfs-base", "web-nullfs-base/skeleton"]),
        ("exec.release", []),
    ):
        hook, *words = commands[parameter]
        for _ in range(2):
            result = cbsd.run(Path(hook), argv=words, variables={"PATH": "/bin:/usr/bin"})
            assert (result.status, result.out, result.err) == (0, "", "")
            assert cbsd.namespace.points() == points


def test_a_line_that_is_new_is_mounted_by_the_next_start(cbsd: Workdir) -> None:
    """A start that finds all as it was is over before it has read what the configuration names."""
    fstab, data = cbsd.namespace.top / "fstab", cbsd.point("data")
    fstab.write_text("")
    fstab.chmod(0o644)
    cbsd.configure(BASE_DIR=cbsd.store / "base", THIN_FSTAB=fstab, MOUNT_FSTAB=0, MOUNT_SYSTEM=0)
    # Only what has been left alone for so long is taken for unchanged.
    time.sleep(SETTLED + 0.1)
    for _ in range(2):
        cbsd.start()
    fstab.write_text(f"{cbsd.store}/system {data}/media nullfs ro 0 0\n")
    cbsd.start()
    assert str(data / "media") in [mounted.point for mounted in cbsd.namespace.mounts()]


def test_case_c15_a_line_of_two_files(cbsd: Workdir) -> None:
    data, source, fstab = cbsd.point("data"), cbsd.store / "resolv.conf", cbsd.store / "j1.fstab"
    point = data / "skeleton/etc/resolv.conf"
    source.write_text("nameserver 172.16.0.1\n")
    fstab.write_text(f"{source} {point} nullfs ro 0 0\n")
    fstab.chmod(0o644)
    cbsd.configure(BASE_DIR=cbsd.store / "base", MOUNT_FSTAB=0, MOUNT_SYSTEM=0, THIN_FSTAB=fstab)
    for _ in range(2):
        cbsd.start()
        assert cbsd.namespace.run("cat", str(point)) == source.read_text()
        assert "Read-only file system" in writes(cbsd, "etc/resolv.conf")
    cbsd.stop()
    assert cbsd.namespace.mounts() == []
    assert (cbsd.store / "skeleton/j1/etc/resolv.conf").read_bytes() == b""
