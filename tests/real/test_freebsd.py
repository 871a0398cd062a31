"""FreeBSD's own kernel: nullfs, thin jails, md, GELI, UFS, ZFS, this host's own NFS, iSCSI and HAST, jail(8).

As root on FreeBSD these tests change the host, and take all back: what they make carries one name, and is looked for
before and after each case (tests/helpers/freebsd_machine.py). Elsewhere they are rehearsed on the simulated FreeBSD.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import freebsd_services as services
import pytest
from freebsd_machine import (
    NAME,
    ROOT,
    Ended,
    Host,
    Machine,
    disk,
    image,
    jails,
    leftovers,
    new_ufs,
    sweep,
    table,
    told,
    until,
    why_not,
)
from freebsd_rehearsal import Rehearsal
from thin_site import make_base, make_skeleton

ON_FREEBSD = sys.platform.startswith("freebsd")
pytestmark = [
    pytest.mark.skipif(ON_FREEBSD and bool(why_not()), reason=why_not()),
    *([pytest.mark.alone] if ON_FREEBSD else []),
]
# A rehearsal of these shows nothing of the package that tests/hooks does not.
real_above_all = pytest.mark.alone if ON_FREEBSD else pytest.mark.proof
KEY = b"0123456789abcdef" * 4
KINDS = {"data": "jails-data/{}-data", "system": "jails-system/{}", "fstab": "jails-fstab/{}"}


class Case(NamedTuple):
    """A kind of storage.

    ``needs``: see Machine.lacks(). ``prepare`` makes what is to be mounted, and returns the keys of the configuration;
    ``points`` are mounted while the jail is started; with ``wrong`` in the configuration nothing can be mounted.
    """

    backend: str
    needs: tuple[str, ...]
    prepare: Callable[[Machine], Mapping[str, object]]
    points: tuple[str, ...]
    wrong: Mapping[str, object]


def directories(top: Path, machine: Machine) -> None:
    for kind in (*KINDS, "rcconf"):
        made = machine.real(top) / kind / NAME
        made.mkdir(parents=True)
        (made / "from-store").write_text(f"{kind}\n")


def nullfs(machine: Machine) -> Mapping[str, object]:
    directories(machine.top / "store", machine)
    return {"NULLFS_ROOT_DIR": machine.top / "store"}


def thin(machine: Machine) -> Mapping[str, object]:
    make_skeleton(machine.top / "store" / "skeleton" / NAME)
    return base(machine)


def base(machine: Machine) -> Mapping[str, object]:
    make_base(machine.top / "store" / "base")
    return {"NULLFS_ROOT_DIR": machine.top / "store", "BASE_DIR": machine.top / "store" / "base", **DATA_ALONE}


def geli(machine: Machine) -> Mapping[str, object]:
    for name, key in (("key", KEY), ("wrong-key", KEY[::-1])):
        (machine.top / name).write_bytes(key)
        (machine.top / name).chmod(0o600)
    path = image(machine, "geli.img", 32)
    unit = disk(machine, path)
    told(machine, "geli", "init", "-s", "4096", "-B", "none", "-P", "-K", machine.top / "key", unit)
    told(machine, "geli", "attach", "-p", "-k", machine.top / "key", unit)
    new_ufs(machine, f"/dev/{unit}.eli", ())
    told(machine, "geli", "detach", f"{unit}.eli")
    told(machine, "mdconfig", "-d", "-u", unit)
    return {"GELI_PROVIDER": path, "GELI_KEYFILE": machine.top / "key"}


def zfs(machine: Machine) -> Mapping[str, object]:
    """Make a pool with a template, of which the skeleton is to be a clone."""
    keys = base(machine)
    (machine.top / "store" / "skeleton").mkdir()
    told(machine, "zpool", "create", "-f", "-m", "none", NAME, image(machine, "pool.img", 128))
    told(machine, "zfs", "create", "-o", "mountpoint=none", "-o", "canmount=noauto", f"{NAME}/template")
    point = machine.top / "making"
    point.mkdir()
    told(machine, "mount", "-t", "zfs", f"{NAME}/template", point)
    make_skeleton(machine.real(point))
    told(machine, "umount", point)
    told(machine, "zfs", "snapshot", f"{NAME}/template@base")
    # The jail is of the same name.
    return {**keys, "ZFS_CLONE": f"{NAME}/{{name}}", "ZFS_SKELETON_SNAPSHOT": f"{NAME}/template@base"}


def nfs(machine: Machine) -> Mapping[str, object]:
    return {**served(machine), "NFS_SERVER_ROOT_DIR": "/files"}


def nfs3(machine: Machine) -> Mapping[str, object]:
    options = {"NFS_VERSION": 3, "MOUNT_NFS_OPT": "-orw -onfsv3 -otcp -onolockd"}
    return {**served(machine), "NFS_SERVER_ROOT_DIR": machine.top / "srv" / "files", **options}


def served(machine: Machine) -> Mapping[str, object]:
    top = services.serve_nfs(machine, "files")
    directories(top / "files", machine)
    return {"NFS_SERVER": services.ADDRESS, "NFS_MOUNT_TIMEOUT": 30}


def iscsi(machine: Machine) -> Mapping[str, object]:
    services.serve_iscsi(machine)
    return {"ISCSI_PORTAL": services.ADDRESS, "ISCSI_TARGET": services.TARGET, "ISCSI_LOGIN_TIMEOUT": 30}


def hast(machine: Machine) -> Mapping[str, object]:
    services.serve_hast(machine)
    return {"HAST_RESOURCE": NAME, "HAST_WAIT": 10}


DATA_ALONE = {"MOUNT_SYSTEM": 0, "MOUNT_FSTAB": 0}
DATA, SYSTEM, FSTAB = KINDS.values()
SKELETON = f"{DATA}/skeleton"
MD = ("mdconfig", "newfs")
CASES = {
    "nullfs": Case("nullfs", ("kernel:nullfs",), nullfs, (DATA, SYSTEM, FSTAB), {"NULLFS_ROOT_DIR": "/nosuch"}),
    "thin jail": Case("nullfs", ("kernel:nullfs",), thin, (DATA, SKELETON), {"BASE_DIR": "/nosuch"}),
    "md, geli and ufs": Case(
        "geli", ("kernel:g_eli=geom_eli", *MD), geli, (DATA,), {"GELI_KEYFILE": "{top}/wrong-key"}
    ),
    "zfs": Case("nullfs", ("kernel:zfs", "zpool"), zfs, (DATA, SKELETON), {"ZFS_CLONE": f"{NAME}/nosuch/x"}),
    "nfs 4": Case("nfs", (*MD, *services.NFS_NEEDS), nfs, (DATA, SYSTEM, FSTAB), {"NFS_SERVER_ROOT_DIR": "/nosuch"}),
    "nfs 3": Case("nfs", (*MD, *services.NFS_NEEDS), nfs3, (DATA, SYSTEM, FSTAB), {"NFS_SERVER_ROOT_DIR": "/nosuch"}),
    "iscsi": Case(
        "iscsi",
        (*MD, *services.ISCSI_NEEDS),
        iscsi,
        (DATA,),
        {"ISCSI_TARGET": f"{services.TARGET}-nosuch", "ISCSI_LOGIN_TIMEOUT": 5},
    ),
    "hast": Case("hast", (*MD, *services.HAST_NEEDS), hast, (DATA,), {"HAST_RESOURCE": "nosuch"}),
}


class Jail:
    """The jail of the tests: the directories that CBSD makes for it, and the configuration of its hooks."""

    def __init__(self, machine: Machine, case: Case) -> None:
        self.machine = machine
        self.case = case
        self.workdir = machine.top / "jails"
        for shared in ("etc", "jails-data", "jails-fstab", "jails-rcconf", "jails-system"):
            (self.workdir / shared).mkdir(parents=True)
        for place in KINDS.values():
            (self.workdir / place.format(NAME)).mkdir()
        self.keys = case.prepare(machine)
        self.configure()
        # What a stop leaves: an NFS server's own file system, say.
        self.rest = leftovers(machine)

    def configure(self, **keys: object) -> None:
        quick = {"TIMEOUT": 120, "PROBE_TIMEOUT": 15, "LOG_FACILITY": "none"}
        values = {
            key: str(value).replace("{top}", str(self.machine.top))
            for key, value in {**quick, **self.keys, **keys}.items()
        }
        conf = self.workdir / "etc" / f"env_start_{self.case.backend}.conf"
        conf.write_text("".join(f'{key}="{value}"\n' for key, value in values.items()))
        conf.chmod(0o644)

    def point(self, place: str) -> Path:
        return self.workdir / place.format(NAME)

    def words(self, verb: str) -> list[str]:
        data, system, fstab = (str(self.point(place)) for place in (DATA, SYSTEM, FSTAB))
        hook = f"{ROOT}/hooks/env_{verb}_{self.case.backend}"
        return [hook, "-d", data, "-f", fstab, "-j", NAME, "-r", f"{self.workdir}/jails-rcconf", "-s", system]

    def run(self, verb: str) -> Ended:
        return self.machine.run(*self.words(verb))

    def is_started(self) -> bool:
        """Tell whether the table shows all mounts of the jail, each once."""
        return self.mounted() == sorted(str(self.point(place)) for place in self.case.points)

    def mounted(self) -> list[str]:
        return sorted(point for _, point, _ in table(self.machine) if point.startswith(f"{self.workdir}/"))

    def is_stopped(self) -> bool:
        """Tell whether all is as before the first start; what ends an iSCSI session does so a little later."""
        end = time.monotonic() + 10
        while leftovers(self.machine) != self.rest and time.monotonic() < end:
            time.sleep(0.1)
        return leftovers(self.machine) == self.rest


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Yield a FreeBSD with nothing left of earlier tests; those that are ended by TERM end as by ^C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = Rehearsal(tmp_path_factory.mktemp("freebsd")) if why_not() else Host()
    assert sweep(made, services.end_services) == []
    try:
        yield made
    finally:
        left = sweep(made, services.end_services)
        signal.signal(signal.SIGTERM, before)
        if isinstance(made, Rehearsal):
            made.close()
        else:
            shutil.rmtree(made.top, ignore_errors=True)
    assert left == []


@pytest.fixture(scope="module", params=list(CASES))
def jail(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Jail]:
    """Yield the jail with its storage. In the end it is left started, as by a run that was killed, and swept up."""
    case = CASES[request.param]
    if why := machine.lacks(*case.needs):
        pytest.skip(why)
    try:
        jail = Jail(machine, case)
        yield jail
        ended = jail.run("start")
    finally:
        left = sweep(machine, services.end_services)
    assert (ended.status, left) == (0, []), ended
    assert not machine.exists(services.HAST_CONF) or "hast" not in case.backend


@pytest.fixture(autouse=True)
def stopped(jail: Jail) -> Iterator[None]:
    """Leave the jail stopped to the next test, whatever became of this one."""
    yield
    jail.configure()
    jail.run("stop")


def test_start_twice_and_stop_twice(jail: Jail) -> None:
    for _ in range(2):
        ended = jail.run("start")
        assert ended.status == 0, ended
        assert jail.is_started(), table(jail.machine)
    for _ in range(2):
        ended = jail.run("stop")
        assert ended.status == 0, ended
        assert jail.is_stopped(), leftovers(jail.machine)


@real_above_all
def test_what_is_written_is_kept(jail: Jail) -> None:
    place = SKELETON if SKELETON in jail.case.points else DATA
    for written in ("", "kept\n"):
        assert jail.run("start").status == 0
        file = jail.machine.real(jail.point(place)) / "written"
        assert (file.read_text() if file.exists() else "") == written
        file.write_text("kept\n")
        assert jail.run("stop").status == 0


@real_above_all
@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0])
def test_killed_in_the_middle(jail: Jail, seconds: float) -> None:
    """Whatever it has come to, the next start and the next stop mend it."""
    for verb in ("start", "stop"):
        with jail.machine.begin(*jail.words(verb)) as hook:
            time.sleep(seconds)
            hook.kill()
        ended = jail.run(verb)
        assert ended.status == 0, ended
        assert jail.is_started() if verb == "start" else jail.is_stopped(), leftovers(jail.machine)


@real_above_all
def test_a_wrong_source_is_refused(jail: Jail) -> None:
    jail.configure(**jail.case.wrong)
    ended = jail.run("start")
    assert ended.status not in (0, 64), ended
    assert "Traceback" not in ended.out
    assert jail.is_stopped(), leftovers(jail.machine)


@real_above_all
def test_what_somebody_else_has_mounted_is_left_alone(jail: Jail) -> None:
    other = jail.machine.top / "other"
    other.mkdir(exist_ok=True)
    told(jail.machine, "mount_nullfs", other, jail.point(DATA))
    before = table(jail.machine)
    ended = jail.run("start")
    assert ended.status not in (0, 64), ended
    assert str(other) in ended.out
    assert table(jail.machine) == before
    told(jail.machine, "umount", jail.point(DATA))
    assert jail.is_stopped(), leftovers(jail.machine)


@real_above_all
@pytest.mark.parametrize("jail", ["nfs 4"], indirect=True)
def test_the_nfs_server_is_taken_away_and_comes_back(jail: Jail) -> None:
    assert jail.run("start").status == 0
    assert jail.is_started()
    jail.machine.run("pkill", "-USR1", "-x", "nfsd")
    until(lambda: jail.machine.run("pgrep", "-x", "nfsd").status != 0, "nfsd does not end")
    jail.configure(STOP_FORCE=1)
    ended = jail.run("stop")
    assert ended.status == 0, ended
    assert jail.mounted() == []
    jail.configure()
    services.begin_nfsd(jail.machine)
    ended = jail.run("start")
    assert ended.status == 0, ended
    assert jail.is_started(), table(jail.machine)


@real_above_all
@pytest.mark.parametrize("jail", ["nullfs"], indirect=True)
def test_case_c16_a_nullfs_whose_source_was_removed_and_made_anew(jail: Jail) -> None:
    """Nothing in the table tells of it."""
    source = jail.machine.top / "store" / "data" / NAME
    assert jail.run("start").status == 0
    shutil.rmtree(source)
    source.mkdir()
    (source / "new").touch()
    ended = jail.run("start")
    assert ended.status == 0, ended
    assert (jail.machine.real(jail.point(DATA)) / "new").exists()


@pytest.mark.parametrize("jail", ["thin jail"], indirect=True)
def test_jail_8_with_the_files_of_jailconf(jail: Jail) -> None:
    machine, conf = jail.machine, vnet_jail(jail)
    for _ in range(2):
        told(machine, "jail", "-f", conf, "-c", NAME)
        assert jails(machine) == [NAME]
        kinds = [fstype for _, point, fstype in table(machine) if point.startswith(f"{machine.top}/vnet/")]
        assert kinds == ["nullfs", "nullfs", "devfs"]
        assert machine.run("jail", "-f", conf, "-c", NAME).status != 0
        assert jails(machine) == [NAME]
        told(machine, "jail", "-f", conf, "-r", NAME)
        assert jails(machine) == []
        assert table(machine) == []
    told(machine, "ifconfig", NAME, "destroy")


def vnet_jail(jail: Jail) -> Path:
    """Return the jail.conf(5) of a jail from the host's own programs, on a bridge of its own."""
    machine, top, base = jail.machine, jail.machine.top / "vnet", jail.machine.top / "store" / "base"
    if why := machine.lacks("feature:vimage", "kernel:if_bridge", "kernel:if_epair"):
        pytest.skip(why)
    # One program under many names (rescue(8)).
    told(machine, "cp", "/rescue/sh", base / "bin" / "sh")
    (base / "sbin").mkdir()
    for name in ("bin/sleep", "sbin/ifconfig", "sbin/route"):
        (base / name).hardlink_to(base / "bin" / "sh")
    skeleton = top / "containers" / NAME
    make_skeleton(skeleton)
    (top / f"{NAME}-nullfs-base").mkdir()
    # A jail in which nothing runs is over.
    (skeleton / "etc" / "rc").write_text("sleep 100000 < /dev/null > /dev/null 2>&1 &\n")
    (skeleton / "etc" / "rc.shutdown").touch()
    (skeleton / "etc" / "master.passwd").write_text("root:*:0:0::0:0:Charlie:/root:/bin/sh\n")
    told(machine, "pwd_mkdb", "-p", "-d", skeleton / "etc", skeleton / "etc" / "master.passwd")
    # exec.clean takes PATH from the class of root there.
    told(machine, "cp", "/etc/login.conf", skeleton / "etc" / "login.conf")
    interface = told(machine, "ifconfig", "bridge", "create").strip()
    told(machine, "ifconfig", interface, "name", NAME)
    files = {f"{NAME}.conf": [], f"{NAME}.fstab": ["--print-fstab"]}
    keys = machine.top / "vnet.conf"
    words = ["--address", "10.77.7.2/24", "--bridge", NAME, "--base", str(base), "--dir", str(top), "-c", str(keys)]
    for name, more in files.items():
        (machine.top / name).write_text(told(machine, f"{ROOT}/hooks/envstart", "jailconf", NAME, *words, *more))
    keys.write_text(f'NULLFS_ROOT_DIR="{top}"\nTHIN_FSTAB="{machine.top}/{{name}}.fstab"\nMOUNT_SYSTEM="0"\n')
    for path in (keys, machine.top / f"{NAME}.fstab"):
        path.chmod(0o644)
    return machine.top / f"{NAME}.conf"
