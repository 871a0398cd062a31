"""Why an NFS server's directory could not be mounted: what mount_nfs(8) does not say, and what of it is untrue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Site, last_line

from envstart.backends import nfs

DEFAULT = next(option.default for option in nfs.OPTIONS if option.name == "MOUNT_NFS_OPT")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a host with the jail jail1; nothing is mounted."""
    with Site(tmp_path) as site:
        yield site


def name_server(site: Site, name: str, kind: str, **keys: str) -> None:
    """Let the jail's directories come from a server of this name, which has addresses of this kind."""
    site.world.set(resolver={name: kind})
    site.world.server(name)
    top = site.world.export(name, "/nfs")
    for which in ("data", "system", "fstab"):
        (top / which / "jail1").mkdir(parents=True)
    site.configure(**{"NFS_SERVER": name, "MOUNT_NFS_OPT": str(DEFAULT), **keys})


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nas4", "inet"), ("nas6", "inet6"), ("nas46", "both"), ("172.16.0.7", "inet"), ("fd00:10::1", "inet6")],
)
def test_case_c11_the_default_takes_any_address(site: Site, name: str, kind: str) -> None:
    name_server(site, name, kind)
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(site.table) == 3


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        (
            "inet6",
            "proto=tcp",
            "has only an IPv6 address, which the option proto=tcp leaves out; write tcp in place of",
        ),
        ("inet", "proto=tcp6", "has only an IPv4 address, which the option proto=tcp6 leaves out; write tcp in place"),
        ("inet6", "proto=udp", "has only an IPv6 address, which the option proto=udp leaves out; write udp in place"),
        ("inet6", "noinet6", "has only an IPv6 address, which the option noinet6 leaves out; take noinet6 out"),
    ],
)
@pytest.mark.parametrize("warned", ["", " -ointr"])
def test_case_c11_an_address_that_the_options_leave_out_is_told(
    site: Site, kind: str, option: str, words: str, warned: str
) -> None:
    """mount_nfs(8) ends without a word, or with a warning that is not the reason."""
    version = 3 if "udp" in option else 4
    name_server(site, "nas", kind, MOUNT_NFS_OPT=f"-orw -overs={version} -o{option}{warned}")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "cannot mount nas:/nfs/" in last_line(ended)
    assert f": nas {words}" in last_line(ended)
    assert "resolver" not in last_line(ended)
    assert site.table == []


@pytest.mark.parametrize(
    ("jailed", "options", "words"),
    [
        ("0", "-orw -overs=4", "Operation not permitted; is this host in the networks of the export? if NAT changes"),
        ("0", "-orw -overs=4 -onoresvport", "Operation not permitted; take noresvport out of MOUNT_NFS_OPT, or let"),
        ("1", "-orw -overs=4", "Operation not permitted: this is a jail; run CBSD and its hooks on the host"),
    ],
)
def test_case_c12_what_is_not_permitted_to_root(site: Site, jailed: str, options: str, words: str) -> None:
    site.world.set(sysctls={"security.jail.jailed": jailed})
    site.configure(MOUNT_NFS_OPT=options)
    text = f"mount_nfs: nmount: {site.point('system')}: Operation not permitted"
    site.world.fault("mount_nfs", times=None, text=text)
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert words in last_line(ended)
    assert "as root" not in last_line(ended)
    assert ("this is a jail" in last_line(ended)) == (jailed == "1")


def test_case_c12_a_mount_point_is_not_looked_for_on_the_server(site: Site) -> None:
    site.configure(MOUNT_SYSTEM="0", MOUNT_FSTAB="0")
    site.world.fault("mount_nfs", times=None, text=f"mount_nfs: {site.point('data')}: No such file or directory")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert last_line(ended).endswith("No such file or directory; make the directory, or correct the path")


@pytest.mark.parametrize(
    ("options", "name", "option"),
    [
        ("-orw -overs=4 -otls", "tlsclntd", "tls"),
        ("-orw -overs=4 -osec=krb5i", "gssd", "sec=krb5i"),
        ("-orw -overs=4 -ominorversion=2 -osec=krb5 -osyskrb5", "gssd", "sec=krb5"),
    ],
)
def test_case_c21_a_start_names_the_daemon_that_it_lacks(site: Site, options: str, name: str, option: str) -> None:
    """The kernel says no more than Invalid argument, or Permission denied."""
    site.configure(MOUNT_NFS_OPT=options)
    ended = site.start()
    assert ended.returncode == os.EX_UNAVAILABLE
    assert f"{option} needs the service {name}, which does not run; service {name} enable; " in last_line(ended)
    assert site.table == []
    site.world.set(daemons=["ntpd", name])
    assert site.start().returncode == 0


def test_case_c21_a_kernel_without_tls_is_told(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=4 -otls")
    site.world.set(daemons=["ntpd", "tlsclntd"])
    site.world.fault("mount_nfs", times=None, text=f"mount_nfs: nmount: {site.point('system')}: Invalid argument")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "does this kernel do TLS?" in last_line(ended)


def test_a_server_that_does_not_export_it_is_told_as_before(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=3")
    site.world.unexport(SERVER, "/nfs/system/jail1")
    ended = site.start()
    assert ended.returncode == os.EX_NOPERM
    assert "let the server export it to this host" in last_line(ended)
