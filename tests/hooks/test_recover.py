"""A server that dies below a jail that runs: what lies on its mounts is unmounted in the order that FreeBSD takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Ended, Site, last_line
from pace import in_time
from toy import Toy

# What a dead server may cost, in seconds of the simulated machine.
MINUTE = 60.0


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    """Yield a host on which jail1 runs with all that it needs mounted, and jail2 does not."""
    with Site(tmp_path, getfsstat=True) as site:
        toy = Toy(site)
        toy.add("jail2")
        site.preset()
        for name in ("dev", "etc", "sub"):
            (site.held("data") / name).mkdir(exist_ok=True)
        site.world.jail("jail1", 2)
        toy.set("jail1", jid=2, status=1)
        yield toy


def recover(cbsd: Toy, *words: str) -> Ended:
    return cbsd.site.hand("recover", *words, "-w", str(cbsd.workdir), "jail1")


def pasted(ended: Ended) -> list[str]:
    """Return what is printed to be pasted."""
    return [line for line in ended.stdout.splitlines() if not line.startswith("#")]


def unmounts(cbsd: Toy) -> list[list[str]]:
    return [call["argv"][1:] for call in cbsd.site.world.calls("umount")]


def check_freed(cbsd: Toy, upon: list[list[str]], *, kept: bool) -> None:
    """``recover --running`` does as ``-n`` has said: the data, and ``upon``, what lies on it; ``kept`` by a nullfs."""
    site = cbsd.site
    site.world.freeze(SERVER)
    data, others = str(site.point("data")), [["-N", str(site.point(which))] for which in ("fstab", "system")]
    wanted = [["-N", data], *upon, *([["-f", data]] if kept else [])]
    shown = recover(cbsd, "-n", "--running")
    assert shown.returncode == 0, shown
    lines = [line.split()[1:] for line in pasted(shown)]
    assert [line for line in lines if line not in others] == wanted
    assert unmounts(cbsd) == []
    refused = recover(cbsd)
    assert (refused.returncode, "it runs" in last_line(refused), unmounts(cbsd)) == (75, True, [])
    # What a start and a recovery tell somebody to type is what helps: a stop by CBSD waits for the server too.
    remedy = f"envstart recover --running nfs -w {cbsd.workdir} -j jail1"
    started = site.start()
    assert (started.returncode, "gives no answer, and jail1 runs" in last_line(started)) == (75, True)
    assert f"; wait until it answers, or: {remedy}" in last_line(started)
    assert last_line(refused).endswith(f"; stop it first, or: {remedy}")
    began = time.monotonic()
    ended = recover(cbsd, "--running")
    assert ended.returncode == 0, ended
    assert in_time(began, MINUTE)
    assert [line for line in unmounts(cbsd) if line not in others] == wanted
    for _, point in upon:
        assert f"{point}: unmounted" in ended.stderr
    assert site.table == []
    site.world.thaw(SERVER)
    assert site.stop().returncode == 0
    assert site.start().returncode == 0
    assert site.is_all_there()


def test_case_b1_devfs_lies_on_a_dead_server(cbsd: Toy) -> None:
    """CBSD with baserw=1: the root of the jail is its data."""
    devfs = cbsd.site.point("data") / "dev"
    cbsd.site.world.mount("devfs", devfs, "devfs")
    check_freed(cbsd, [["-f", str(devfs)]], kept=False)


def test_case_b1_nullfs_with_devfs_on_it(cbsd: Toy) -> None:
    """CBSD with baserw=0: the root of the jail is a directory of its own, which shows the data."""
    root = cbsd.workdir / "jails" / "jail1"
    root.mkdir(exist_ok=True)
    cbsd.site.world.mount(str(cbsd.site.point("data")), root, "nullfs")
    cbsd.site.world.mount("devfs", root / "dev", "devfs")
    check_freed(cbsd, [["-f", f"{root}/dev"], ["-f", str(root)]], kept=True)


def test_case_b1_with_recursive_forced_unmount(cbsd: Toy) -> None:
    """The sysctl is as the administrator has set it: one umount -N takes the nullfs along."""
    root = cbsd.workdir / "jails" / "jail1"
    root.mkdir(exist_ok=True)
    cbsd.site.world.mount(str(cbsd.site.point("data")), root, "nullfs")
    cbsd.site.world.command("sysctl", "vfs.recursive_forced_unmount=1")
    cbsd.site.world.freeze(SERVER)
    ended = recover(cbsd, "--running")
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert {line[0] for line in unmounts(cbsd)} == {"-N"}
    assert not [call for call in cbsd.site.world.calls("sysctl") if "=" in call["argv"][-1]][1:]


def test_case_b2_an_unmount_hangs_already(cbsd: Toy) -> None:
    """Somebody has typed it: the mount is no longer in the table, and whoever looks at the directory hangs."""
    site, data = cbsd.site, cbsd.site.point("data")
    site.world.freeze(SERVER)
    plain = subprocess.Popen([site.world.path / "bin" / "umount", data], env={})
    while any(mount["node"] == str(data) and not mount["leaving"] for mount in site.world.mounts()):
        time.sleep(0.02)
    shown = recover(cbsd, "-n", "--running")
    assert shown.returncode == 0, shown
    assert f"umount -N {data}" in pasted(shown)
    ended = recover(cbsd, "--running")
    assert ended.returncode == 0, ended
    assert plain.wait(10) == 0
    assert site.table == []
    site.world.thaw(SERVER)
    assert site.start().returncode == 0


def test_case_b1_what_is_not_the_jails_own_is_left_alone(cbsd: Toy, tmp_path: Path) -> None:
    """A nullfs of the data somewhere else, as another jail could have it: named, and nothing is done."""
    devfs, elsewhere = cbsd.site.point("data") / "dev", tmp_path / "elsewhere"
    elsewhere.mkdir()
    cbsd.site.world.mount("devfs", devfs, "devfs")
    cbsd.site.world.mount(str(cbsd.site.point("data") / "etc"), elsewhere, "nullfs")
    cbsd.site.world.freeze(SERVER)
    before = cbsd.site.table
    for words in (["--running"], ["-n", "--running"]):
        ended = recover(cbsd, *words)
        assert (ended.returncode, ended.stdout, cbsd.site.table, unmounts(cbsd)) == (75, "", before, [])
        assert f"{elsewhere} lies on it" in last_line(ended)


def test_case_b1_a_stop_by_force_takes_the_same_way(cbsd: Toy) -> None:
    cbsd.site.configure(STOP_FORCE="1")
    devfs = cbsd.site.point("data") / "dev"
    cbsd.site.world.mount("devfs", devfs, "devfs")
    cbsd.site.world.stop_jail("jail1")
    cbsd.site.world.freeze(SERVER)
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert unmounts(cbsd).index(["-N", str(cbsd.site.point("data"))]) < unmounts(cbsd).index(["-f", str(devfs)])


def test_case_a4_force_leaves_no_mount_behind(cbsd: Toy) -> None:
    """A forced unmount over a devfs would leave it in the table, and each later start would be refused."""
    cbsd.site.configure(STOP_FORCE="1", TIMEOUT="3")
    cbsd.site.world.stop_jail("jail1")
    devfs = cbsd.site.point("data") / "dev"
    cbsd.site.world.mount("devfs", devfs, "devfs")
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert cbsd.site.start().returncode == 0


def test_case_a4_force_spares_what_others_show(cbsd: Toy, tmp_path: Path) -> None:
    cbsd.site.configure(STOP_FORCE="1", TIMEOUT="3")
    cbsd.site.world.stop_jail("jail1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cbsd.site.world.mount(str(cbsd.site.point("data") / "etc"), elsewhere, "nullfs")
    before = cbsd.site.table
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (75, before), ended
    assert f"{elsewhere} lies on it" in last_line(ended)
    assert not any(line[0] == "-f" for line in unmounts(cbsd))


@pytest.mark.parametrize("runs", [True, False])
def test_case_a9_locks_of_nfsv3(cbsd: Toy, *, runs: bool) -> None:
    """umount(8): a forced unmount while rpc.lockd runs can crash the host. A start does not do it by itself."""
    cbsd.site.configure(MOUNT_NFS_OPT="-onfsv3,hard", TIMEOUT="5")
    cbsd.site.world.stop_jail("jail1")
    cbsd.set("jail1", jid=0, status=0)
    if runs:
        cbsd.site.world.command("service", "lockd", "onestart")
    cbsd.site.world.freeze(SERVER)
    ended = cbsd.site.start()
    assert ended.returncode == 75
    assert ("can crash the host" in last_line(ended)) == runs
    assert any(line[0] == "-N" for line in unmounts(cbsd)) != runs
    ended = recover(cbsd)
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    assert ("can crash the host" in ended.stderr) == runs
