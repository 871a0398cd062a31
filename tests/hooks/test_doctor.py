"""``envstart doctor``: one thing wrong in a row, and what it says of it; and nothing on a host that is well."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blocks import GELI, BlockSite
from cbsd import NFS4, NULLFS, SERVER, Site, Variant
from doctor_site import database, examine, hook, well

from envstart.lifecycle import pkg_locking

NFS3 = Variant("nfs 3", "nfs", {"NFS_VERSION": "3"}, ("system", "fstab", "data"))
KRB5 = "-overs=4 -ominorversion=2 -osec=krb5p"
Row = tuple[str, str, str]


@pytest.fixture
def sick(tmp_path: Path) -> Any:
    """Return a maker of healthy sites, for the test to break."""
    made: list[Site] = []

    def make(variant: Variant = NFS4, **settings: Any) -> Site:
        kind = BlockSite if variant.backend not in ("nfs", "nullfs") else Site
        site = kind(tmp_path, variant, **settings)
        made.append(site)
        well(site)
        return site

    yield make
    for site in made:
        site.world.close()


ISCSI_WELL = Variant(
    "iscsi",
    "iscsi",
    {"FENCE": "scsi3", "ISCSI_CHAP_USER": "host1", "ISCSI_CHAP_SECRET_FILE": "{passphrase}"},
    ("data",),
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root's key files are trusted, and only root makes them")


@pytest.mark.parametrize(
    "variant",
    [NFS4, NFS3, NULLFS, pytest.param(ISCSI_WELL, marks=root_only), pytest.param(GELI, marks=root_only)],
    ids=lambda variant: variant.title,
)
@pytest.mark.parametrize("started", [False, True], ids=["stopped", "started"])
def test_a_host_that_is_well_has_no_findings(sick: Any, variant: Variant, *, started: bool) -> None:
    site: Site = sick(variant)
    if variant is NFS3:
        site.world.set(daemons=["ntpd", "rpcbind", "statd", "lockd"], rc_conf=["rpcbind", "statd", "lockd"])
        conf = site.held("data") / pkg_locking.CONF
        conf.parent.mkdir(parents=True)
        conf.write_text(pkg_locking.LINE)
    if started and variant.backend in ("nfs", "nullfs"):
        site.preset()
    before = site.footprint()
    # Locks of NFSv3 work, and have their price.
    assert [one for one in examine(site) if variant is not NFS3 or "nolockd" not in one["text"]] == []
    assert site.footprint() == before


def test_case_a9_locks_of_nfsv3_are_noted(sick: Any) -> None:
    site: Site = sick(NFS3)
    noted = [one for one in examine(site) if "can crash the host" in one["text"]]
    assert [(one["level"], one["about"]) for one in noted] == [("note", "jail1")]
    assert "-onolockd" in noted[0]["remedy"]
    site.configure(MOUNT_NFS_OPT="-overs=3 -onolockd")
    assert examine(site) == []


# The host.


def _jailed(site: Site) -> None:
    _sysctl(site, "security.jail.jailed", "1")


def _sysctl(site: Site, name: str, value: str) -> None:
    site.world.set(sysctls={**site.world.state["settings"]["sysctls"], name: value})


def _no_program(site: Site) -> None:
    (site.world.path / "bin" / "mount_nfs").unlink()


def _shadow(site: Site) -> None:
    script = site.workdir / "modules" / "mount_nfs"
    script.parent.mkdir()
    shutil.copy("/bin/sh", script)
    (site.world.path / "bin" / "mount_nfs").unlink()
    (site.world.path / "bin" / "mount_nfs").symlink_to(script)


def _no_module(site: Site) -> None:
    site.world._change(lambda state: state["modules"].clear())
    (site.world.path / "boot" / "nfscl.ko").unlink()


def _secure(site: Site) -> None:
    site.world._change(lambda state: state["modules"].clear())
    _sysctl(site, "kern.securelevel", "1")


def _run_directory(site: Site) -> None:
    (site.world.path / "run").chmod(0o777)


HOST: list[tuple[str, Callable[[Site], object], Row]] = [
    ("not root", lambda site: site.world.set(uid=1001), ("warning", "host", "others than root")),
    ("inside a jail", _jailed, ("critical", "host", "this is a jail")),
    ("a program is missing", _no_program, ("critical", "host", "mount_nfs is not installed")),
    ("CBSD's script", _shadow, ("critical", "host", "is CBSD's script, not the system's mount_nfs")),
    ("no module", _no_module, ("critical", "host", "nfscl.ko is nowhere in kern.module_path")),
    ("securelevel", _secure, ("critical", "host", "kern.securelevel forbids to load it")),
    ("no uuid", lambda site: _sysctl(site, "kern.hostuuid", ""), ("critical", "jail1", "kern.hostuuid is not set")),
    (
        "a zero uuid",
        lambda site: _sysctl(site, "kern.hostuuid", "00000000-0000-0000-0000-000000000000"),
        ("critical", "jail1", "kern.hostuuid is not set"),
    ),
    (
        "a board's uuid",
        lambda site: _sysctl(site, "kern.hostuuid", "03000200-0400-0500-0006-000700080009"),
        ("critical", "jail1", "which many boards have"),
    ),
    (
        "a uuid of ones",
        lambda site: _sysctl(site, "kern.hostuuid", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        ("critical", "jail1", "which many boards have"),
    ),
    ("no hostid", lambda site: _sysctl(site, "kern.hostid", "0"), ("critical", "jail1", "kern.hostid is 0")),
    ("no ntpd", lambda site: site.world.set(daemons=[]), ("note", "host", "ntpd does not run")),
    ("others write the state", _run_directory, ("critical", "host", "it must be a directory that only root can write")),
]


@pytest.mark.parametrize(("wrong", "row"), [row[1:] for row in HOST], ids=[row[0] for row in HOST])
def test_what_is_wrong_with_the_host(sick: Any, wrong: Callable[[Site], object], row: Row) -> None:
    site: Site = sick()
    wrong(site)
    the_only(examine(site), row)


def the_only(found: list[dict[str, str]], row: Row) -> dict[str, str]:
    """Return the one finding there is, which says this and has a remedy."""
    level, about, words = row
    (one,) = found
    assert (one["level"], one["about"]) == (level, about), one
    assert words in one["text"], one
    assert one["remedy"]
    return one


@root_only
@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"iscsid": False}, [("critical", "jail1", "the service iscsid does not run")]),
        ({"rc_conf": []}, [("warning", "jail1", "the service iscsid is not enabled")]),
        (
            {"iscsid": False, "rc_conf": []},
            [("critical", "jail1", "iscsid does not run"), ("warning", "jail1", "iscsid is not enabled")],
        ),
    ],
)
def test_services_of_iscsi(sick: Any, settings: dict[str, Any], rows: list[Row]) -> None:
    site: Site = sick(ISCSI_WELL, **settings)
    found = examine(site)
    assert len(found) == len(rows)
    for one, row in zip(found, rows):
        the_only([one], row)
    site.configure(ISCSI_START_DAEMON="1")
    assert examine(site) == []


def test_nfs_3_wants_its_locks(sick: Any) -> None:
    site: Site = sick(NFS3)
    texts = [one["text"] for one in examine(site)]
    for name in ("rpcbind", "statd", "lockd"):
        assert f"the service {name} does not run" in texts
    site.configure(MOUNT_NFS_OPT="-overs=3 -onolockd")
    assert examine(site) == []


def test_kerberos_wants_gssd(sick: Any) -> None:
    site: Site = sick()
    site.configure(MOUNT_NFS_OPT=KRB5)
    site.world.set(rc_conf=["gssd", "ntpd"])
    the_only(examine(site), ("warning", "jail1", "the service gssd does not run"))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("-orw -overs=4 -otls", ["tlsclntd"]),
        ("-orw -overs=4 -ominorversion=2 -osec=krb5p -osyskrb5 -otls", ["gssd", "tlsclntd"]),
    ],
)
def test_case_c21_options_that_want_a_daemon(sick: Any, options: str, names: list[str]) -> None:
    site: Site = sick()
    site.configure(MOUNT_NFS_OPT=options)
    site.world.set(rc_conf=["gssd", "tlsclntd", "ntpd"])
    told = [one["text"] for one in examine(site) if "service" in one["text"]]
    assert told == [f"the service {name} does not run" for name in names]


# The workdir.


def _zfsfeat(site: Site) -> None:
    (site.workdir / "nc.inventory").write_text('zfsfeat="0";\nzfsfeat="1";\n')


WORKDIR: list[tuple[str, Callable[[Site], object], Row]] = [
    ("no node name", lambda site: (site.workdir / "nodename").unlink(), ("critical", "host", "nodename is missing")),
    (
        "another node name",
        lambda site: (site.workdir / "nodename").write_text("node2.example.com\n"),
        ("warning", "host", "says node2.example.com, but CBSD's database is inv.node1.example.com.sqlite"),
    ),
    ("zfsfeat", _zfsfeat, ("warning", "host", "zfsfeat is on")),
    (
        "hammerfeat",
        lambda site: (site.workdir / "nc.inventory").write_text("hammerfeat=1\n"),
        ("warning", "host", "hammerfeat is on"),
    ),
]


@pytest.mark.parametrize(("wrong", "row"), [row[1:] for row in WORKDIR], ids=[row[0] for row in WORKDIR])
def test_what_is_wrong_with_the_workdir(sick: Any, wrong: Callable[[Site], object], row: Row) -> None:
    site: Site = sick()
    wrong(site)
    the_only(examine(site), row)


def test_zfsfeat_may_be_on_where_the_data_are_this_hosts_own(sick: Any) -> None:
    site: Site = sick(NULLFS)
    _zfsfeat(site)
    assert examine(site) == []


def test_a_database_that_cannot_be_read_is_told(sick: Any) -> None:
    site: Site = sick()
    (site.workdir / "var" / "db" / "local.sqlite").unlink()
    the_only(examine(site), ("critical", "host", "cannot read"))


# Environments: the hook.


def _executable(site: Site) -> None:
    hook(site).chmod(0o644)


def _python(site: Site, text: str) -> None:
    (hook(site).parent.parent / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{text}\n")


def _shebang(site: Site) -> None:
    """As pip installs it; its own Python is gone."""
    directory = hook(site).parent.parent / "venv" / "bin"
    directory.mkdir(parents=True)
    (directory / "envstart").write_text("#!/nowhere/python3\n")
    path = directory / hook(site).name
    path.touch(0o755)
    database(site, jail1=str(path))


HOOKS: list[tuple[str, Callable[[Site], object], Row]] = [
    ("not there", lambda site: hook(site).unlink(), ("critical", "jail1", "is not there")),
    ("not executable", _executable, ("critical", "jail1", "cannot be executed")),
    (
        "a blank",
        lambda site: database(site, jail1="/usr/local/my hooks/env_start_nfs"),
        ("critical", "jail1", "has a blank in its path"),
    ),
    ("no path", lambda site: database(site, jail1="env_start_nfs"), ("critical", "jail1", "has no absolute path")),
    (
        "another's",
        lambda site: database(site, jail1="/root/mine.sh"),
        ("note", "jail1", "is /root/mine.sh, which is none of envstart's hooks"),
    ),
    (
        "the stop hook",
        lambda site: database(site, jail1=str(hook(site)).replace("env_start_", "env_stop_")),
        ("critical", "jail1", "each start would unmount"),
    ),
    ("no Python", _shebang, ("critical", "jail1", "finds no Python")),
    ("a library", lambda site: _python(site, "echo tenacity"), ("warning", "jail1", "which lacks tenacity")),
    ("Python fails", lambda site: _python(site, "echo broken >&2; exit 1"), ("warning", "jail1", "lacks broken")),
]


@pytest.mark.parametrize(("wrong", "row"), [row[1:] for row in HOOKS], ids=[row[0] for row in HOOKS])
def test_what_is_wrong_with_the_hook(sick: Any, wrong: Callable[[Site], object], row: Row) -> None:
    site: Site = sick()
    wrong(site)
    the_only(examine(site), row)


def test_a_workdir_on_a_dead_server(sick: Any) -> None:
    site: Site = sick()
    site.world.export(SERVER, "/nfs/whole")
    site.world.mount(f"{SERVER}:/nfs/whole", site.workdir)
    site.world.freeze(SERVER)
    the_only(examine(site), ("critical", "host", "is it on a dead server?"))


def test_an_environment_without_a_hook_is_no_concern(sick: Any) -> None:
    site: Site = sick()
    database(site, jail1="0")
    assert examine(site) == []


# Environments: the configuration.


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        ({"MOUNT_NFS_OPT": "-overs=4 -ominorversion=2 -ointr"}, ("warning", "jail1", "MOUNT_NFS_OPT has intr")),
        ({"MOUNT_NFS_OPT": "-overs=4 -ominorversion=2 -osoft"}, ("warning", "jail1", "MOUNT_NFS_OPT has soft")),
        ({"MOUNT_NFS_OPT": "-overs=4 -obg"}, ("critical", "jail1", "has bg, which reports success before")),
        ({"MOUNT_NFS_OPT": "-overs=4"}, ("warning", "jail1", "has no minorversion")),
        ({"MOUNT_NFS_OPT": "-overs=4.1 -onoresvport"}, ("warning", "jail1", "has noresvport")),
        ({"MOUNT_NFS_OPT": "-overs=4.0 -onconnect=4"}, ("warning", "jail1", "has nconnect, which needs")),
        (
            {"MOUNT_NFS_OPT": "-overs=3 -onolockd -ominorversion=1"},
            ("warning", "jail1", "has minorversion, which only"),
        ),
        ({"MOUNT_NFS_OPT": "-overs=3 -onolockd -osoft"}, ("warning", "jail1", "has soft: a slow server becomes")),
        ({"NFS_SERVER": ""}, ("critical", "jail1", "NFS_SERVER is empty")),
        ({"NFS_SERVR": "x"}, ("critical", "jail1", "did you mean NFS_SERVER?")),
    ],
)
def test_mistakes_of_the_configuration(sick: Any, keys: dict[str, str], row: Row) -> None:
    site: Site = sick()
    site.configure(**keys)
    the_only(examine(site), row)


def test_every_mistake_has_a_finding_of_its_own(sick: Any) -> None:
    site: Site = sick()
    site.configure(TIMEOUT="x", ATTEMPTS="y")
    found = examine(site)
    assert [("TIMEOUT" in one["text"], "ATTEMPTS" in one["text"]) for one in found] == [(True, False), (False, True)]


def test_a_configuration_that_is_not_there(sick: Any) -> None:
    site: Site = sick()
    site.conf.unlink()
    the_only(examine(site), ("critical", "jail1", "cannot find env_start_nfs.conf"))


# Environments: servers.


def _server(site: Site, name: str, kind: str = "", **keys: str) -> None:
    """Give the site's server another name."""
    site.configure(NFS_SERVER=name, **keys)
    site.world.server(name)
    site.world.export(name, "/nfs")
    if kind:
        site.world.set(resolver={name: kind})


def _export_only(site: Site, path: str) -> None:
    for which in ("data", "system", "fstab"):
        site.world.unexport(SERVER, f"/nfs/{which}/jail1")
    site.world.export(SERVER, path)


SERVERS: list[tuple[str, Callable[[Site], object], Row]] = [
    ("frozen", lambda site: site.world.freeze(SERVER), ("critical", "jail1", "cannot reach 172.16.0.1, port 2049: ")),
    ("no nfsd", lambda site: site.world.refuse(SERVER), ("critical", "jail1", "Connection refused")),
    ("down", lambda site: site.world.down(SERVER), ("critical", "jail1", "Host is down")),
    (
        "another version",
        lambda site: site.world.server(SERVER, versions=(2, 3)),
        ("critical", "jail1", "172.16.0.1 does not speak NFSv4: it speaks versions 2 to 3"),
    ),
    ("no such name", lambda site: _server(site, "nas1", "unknown"), ("critical", "jail1", "nas1 does not resolve")),
    (
        "no resolver",
        lambda site: _server(site, "nas1", "again"),
        ("warning", "jail1", "cannot be resolved at this time"),
    ),
    (
        "case C11: IPv6 only",
        lambda site: _server(site, "nas1", "inet6", MOUNT_NFS_OPT="-orw -overs=4 -ominorversion=2 -oproto=tcp"),
        ("critical", "jail1", "nas1 has only an IPv6 address, which the option proto=tcp leaves out"),
    ),
    (
        "case C11: IPv4 only",
        lambda site: _server(site, "nas1", "inet", MOUNT_NFS_OPT="-orw -overs=4 -ominorversion=2 -onoinet4"),
        ("critical", "jail1", "nas1 has only an IPv4 address, which the option noinet4 leaves out"),
    ),
    (
        "not exported",
        lambda site: site.world.unexport(SERVER, "/nfs/fstab/jail1"),
        ("warning", "jail1", "172.16.0.1 does not export /nfs/fstab/jail1"),
    ),
    (
        "another root",
        lambda site: _export_only(site, "/tank/else"),
        ("note", "jail1", "unless its V4 root is another one"),
    ),
    (
        "no rpcbind",
        lambda site: site.world.fault("showmount", text="showmount: can't do exports rpc"),
        ("note", "jail1", "does not tell what it exports: showmount: can't do exports rpc"),
    ),
]


@pytest.mark.parametrize(("wrong", "row"), [row[1:] for row in SERVERS], ids=[row[0] for row in SERVERS])
def test_what_is_wrong_with_the_server(sick: Any, wrong: Callable[[Site], object], row: Row) -> None:
    site: Site = sick()
    wrong(site)
    the_only(examine(site), row)


@pytest.mark.parametrize("name", ["nas1", "[2001:db8::1]"])
def test_a_server_that_is_well_by_name_or_by_address(sick: Any, name: str) -> None:
    site: Site = sick()
    _server(site, name)
    if name.startswith("["):
        site.world.server(name.strip("[]"))
        site.world.export(name.strip("[]"), "/nfs")
    assert examine(site) == []


def test_an_exported_parent_is_enough(sick: Any) -> None:
    site: Site = sick()
    # As it is below a V4 root of the server's.
    _export_only(site, "/tank/nfs")
    assert examine(site) == []


@root_only
def test_portals(sick: Any) -> None:
    site: BlockSite = sick(ISCSI_WELL)
    site.storage.refuse()
    the_only(examine(site), ("critical", "jail1", "cannot reach 172.16.0.1, port 3260: Connection refused"))
    site.storage.target("iqn.2026-11.lab.storage:other", ["172.16.0.2"])
    site.configure(ISCSI_PORTAL="172.16.0.2 172.16.0.1:3260")
    the_only(examine(site), ("warning", "jail1", "there is another portal"))


def test_a_dead_server_is_asked_once_for_all_and_has_one_finding(sick: Any) -> None:
    site: Site = sick()
    names = [f"jail{number}" for number in range(1, 7)]
    for name in names[1:]:
        site.add(name)
    database(site, **{name: str(hook(site)) for name in names})
    site.preset()
    site.world.freeze(SERVER)
    found = examine(site)
    assert [one["level"] for one in found] == ["critical", "critical"]
    assert sum("(for jail1, jail2, jail3 and 3 more)" in one["text"] for one in found) == 1
    assert sum("the system directory of jail1 gives no answer" in one["text"] for one in found) == 1


# Environments: secrets.


@root_only
@pytest.mark.parametrize(("variant", "secret"), [(GELI, "key"), (ISCSI_WELL, "passphrase")], ids=["geli", "iscsi"])
@pytest.mark.parametrize("wrong", ["mode", "owner", "gone"])
def test_secrets(sick: Any, variant: Variant, secret: str, wrong: str) -> None:
    site: BlockSite = sick(variant)
    path = site.secrets / secret
    if wrong == "mode":
        path.chmod(0o644)
    elif wrong == "owner":
        os.chown(path, 65534, 0)
    else:
        path.unlink()
    one = the_only(examine(site), ("critical", "jail1", str(path)))
    expected = {"mode": f"chmod 600 {path}", "owner": f"chown root {path}", "gone": "put it there"}[wrong]
    assert expected in one["remedy"]


# Environments: what is mounted.


def test_links_of_install(sick: Any) -> None:
    site: Site = sick()
    (site.held("system") / "remove.d" / "envstart").unlink()
    site.preset()
    one = the_only(examine(site), ("warning", "jail1", "lacks remove.d/envstart"))
    assert one["remedy"] == f"envstart install jail1 -w {site.workdir}"


def test_a_link_that_leads_nowhere_is_none(sick: Any) -> None:
    site: Site = sick()
    (site.held("system") / "master_poststop.d" / "envstart").unlink()
    (site.held("system") / "master_poststop.d" / "envstart").symlink_to("/nowhere/env_poststop")
    site.preset()
    the_only(examine(site), ("warning", "jail1", "lacks master_poststop.d/envstart"))


def test_links_are_looked_for_where_the_system_directory_is_the_hosts_own(sick: Any) -> None:
    site: Site = sick()
    site.configure(MOUNT_SYSTEM="0")
    the_only(examine(site), ("warning", "jail1", "lacks master_poststop.d/envstart and remove.d/envstart"))


@pytest.mark.parametrize("name", ["locked", "."])
def test_a_clock_that_is_behind_the_servers(sick: Any, name: str) -> None:
    site: Site = sick()
    path = site.held("system") / name
    if name == "locked":
        path.write_text("node1.example.com\n")
    ahead = time.time() + 600
    os.utime(path, (ahead, ahead))
    site.preset()
    the_only(examine(site), ("warning", "jail1", "s in the future"))


def test_pkg_on_nfs_3(sick: Any) -> None:
    site: Site = sick(NFS3)
    site.configure(MOUNT_NFS_OPT="-overs=3 -onolockd")
    (site.world.path / pkg_locking.CONF).unlink()
    one = the_only(examine(site), ("warning", "host", "does not say that locks work"))
    assert pkg_locking.LINE in one["remedy"]
    site.preset()
    own, inside = examine(site)
    assert inside["about"] == "jail1"
    assert inside["remedy"] == f"echo '{pkg_locking.LINE}' >> {site.point('data')}/usr/local/etc/pkg.conf"
    assert own["about"] == "host"


# Names, order, text.


def test_names_restrict_it(sick: Any) -> None:
    site: Site = sick()
    site.add("jail2")
    database(site, jail1=str(hook(site)), jail2="/root/other.sh")
    assert [one["about"] for one in examine(site)] == ["jail2"]
    assert examine(site, "jail1") == []
    assert site.hand("doctor", "-w", str(site.workdir), "jail3").returncode == os.EX_USAGE


def test_the_worst_comes_first(sick: Any) -> None:
    site: Site = sick()
    site.world.set(daemons=[])
    _zfsfeat(site)
    site.world.freeze(SERVER)
    assert [one["level"] for one in examine(site)] == ["critical", "warning", "note"]
