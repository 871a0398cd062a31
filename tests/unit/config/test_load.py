"""Where the configuration is found, who may have written it, and how it is told what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envstart import lifecycle
from envstart.config import common, list_file, load, places
from envstart.config.load import Config
from envstart.config.remedies import tool
from envstart.config.schema import Option, text
from envstart.engine import registry
from envstart.environment import in_workdir
from envstart.errors import ConfigError, EnvstartError, PermissionDeniedError, UnavailableError
from envstart.steps.mount import Mount

W = "/usr/jails"
_BAD = Path(__file__).with_name("bad_conf")
# The file in CBSD's manual (DFS page), as it stands there.
_CBSD_SAMPLE = """\
NFS_SERVER="172.16.0.1"
NFS_SERVER_ROOT_DIR="/nfs"
MOUNT_RCCONF=0
MOUNT_FSTAB=1
MOUNT_NFS_OPT="-orw -overs=4 -ointr -orsize=32768 -owsize=32768 -oacregmax=3 -oacdirmin=3 -oacdirmax=3 -ohard \
-oproto=tcp -otimeout=300"
"""


def _write(directory: Path, content: str | bytes, name: str = "x.conf") -> str:
    """Return a file that a checkout with umask 002 cannot spoil."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o644)
    return str(path)


def _load(path: str | None, name: str = "j1", backend: str = "nfs") -> Config:
    return load.load(backend, registry.backend(backend).OPTIONS, name, path, W)


def _nfs(directory: Path, content: str | bytes, name: str = "j1") -> Config:
    return _load(_write(directory, content), name)


def _told(directory: Path, content: str | bytes, name: str = "j1") -> list[str]:
    """Each mistake, without the file's name."""
    path = _write(directory, content)
    with pytest.raises(ConfigError) as caught:
        _load(path, name)
    return _lines(caught.value, path)


def _lines(error: EnvstartError, path: str) -> list[str]:
    lines = (line.replace(tool(), "envstart") for line in (*error.details, str(error)))
    return [line.replace(path, "FILE") for line in lines]


# ---------------------------------------------------------------------------------------------------------------------
# Where


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-c, the workdir's etc, the two directories of the system: the first that is there counts."""
    system = (str(tmp_path / "local"), str(tmp_path / "root"))
    monkeypatch.setattr(places, "SYSTEM_CONFIG_DIRS", system)
    workdir = str(tmp_path / "jails")
    directories = [f"{workdir}/etc", *system]
    assert places.candidates("nfs", workdir) == [f"{place}/env_start_nfs.conf" for place in directories]
    assert places.candidates("nfs", None) == [f"{place}/env_start_nfs.conf" for place in system]
    assert load.find("nfs", workdir) is None
    for place in reversed(directories):
        os.makedirs(place)
        Path(place, "env_start_nfs.conf").touch()
        assert load.find("nfs", workdir) == f"{place}/env_start_nfs.conf"
        assert load.find("nullfs", workdir) is None
    assert load.find("nfs", None) == f"{system[0]}/env_start_nfs.conf"
    assert load.find("nfs", workdir, "/x/y.conf") == "/x/y.conf"


def test_the_usual_places() -> None:
    assert places.candidates("nfs", W) == [
        "/usr/jails/etc/env_start_nfs.conf",
        "/usr/local/etc/envstart/env_start_nfs.conf",
        "/root/etc/env_start_nfs.conf",
    ]


def test_a_file_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dangling link in the first place must not mean the second place's server."""
    monkeypatch.setattr(places, "SYSTEM_CONFIG_DIRS", (str(tmp_path),))
    _write(tmp_path, 'NFS_SERVER="other"', "env_start_nfs.conf")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "env_start_nfs.conf").symlink_to("nowhere")
    found = load.find("nfs", str(tmp_path))
    assert found == f"{tmp_path}/etc/env_start_nfs.conf"
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file or directory"):
        _load(found)


@pytest.mark.parametrize("backend", registry.NAMES)
def test_defect_2_no_file_is_an_error_not_a_default_server(backend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(None, backend=backend)
    assert str(caught.value) == (
        f"cannot find env_start_{backend}.conf in /usr/jails/etc, /usr/local/etc/envstart, /root/etc; "
        f"write one: {tool()} config sample {backend} > /usr/jails/etc/env_start_{backend}.conf"
    )


def test_no_file_is_needed_when_nothing_is_required() -> None:
    found = load.load("x", common.OPTIONS, "j1", None, None)
    assert (found.path, found.value("TIMEOUT"), found.origin("TIMEOUT")) == (None, 120, "default")


# ---------------------------------------------------------------------------------------------------------------------
# Whose


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o622, 0o602])
def test_fault_98_writable_by_others(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    os.chmod(path, mode)
    with pytest.raises(PermissionDeniedError) as caught:
        _load(path)
    assert caught.value.status == 77
    assert str(caught.value) == f"cannot trust {path}: others can write it; chmod go-w {path}"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444, 0o755])
def test_modes_that_are_fine(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    os.chmod(path, mode)
    assert _load(path).value("NFS_SERVER") == "x"


def test_fault_98_foreign_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(PermissionDeniedError) as caught:
        _load(path)
    owner = os.stat(path).st_uid
    assert str(caught.value) == f"cannot trust {path}: it belongs to user {owner}; chown root {path}"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """User and group of CBSD on this host."""
    ids = (12345, 12346) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    known = pwd.struct_passwd(("cbsd", "*", *ids, "", W, "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"cbsd": known}.__getitem__)
    return ids


@pytest.mark.parametrize("mode", [0o644, 0o664, 0o660])
def test_what_cbsd_has_written_is_trusted(tmp_path: Path, own: tuple[int, int], mode: int) -> None:
    """In W/etc, which is cbsd's, CBSD's umask 002 lets its user and group write (docs/cbsd.md#owners)."""
    path = _write(tmp_path, 'NFS_SERVER="x"')
    for user in (own[0], os.geteuid()):
        os.chown(path, user, own[1])
        os.chmod(path, mode)
        assert _load(path).value("NFS_SERVER") == "x"


@pytest.mark.parametrize("mode", [0o646, 0o666])
def test_fault_98_what_cbsd_has_written_and_others_can_write(tmp_path: Path, own: tuple[int, int], mode: int) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    os.chown(path, *own)
    os.chmod(path, mode)
    with pytest.raises(PermissionDeniedError):
        _load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_fault_98_a_group_that_is_not_cbsds(tmp_path: Path, own: tuple[int, int]) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    os.chown(path, own[0], own[1] + 1)
    os.chmod(path, 0o664)
    with pytest.raises(PermissionDeniedError):
        _load(path)


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    link = tmp_path / "link"
    link.symlink_to(path)
    assert _load(str(link)).value("NFS_SERVER") == "x"
    os.chmod(path, 0o666)
    with pytest.raises(PermissionDeniedError):
        _load(str(link))


def test_what_is_no_file(tmp_path: Path) -> None:
    """A FIFO without a writer must not keep us waiting either."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (str(tmp_path), str(fifo), os.devnull):
        with pytest.raises((ConfigError, PermissionDeniedError)) as caught:
            _load(path)
        assert str(caught.value) == f"cannot read {path}: {path} is no regular file"


def test_fault_97_what_cannot_be_opened(tmp_path: Path) -> None:
    """Never the defaults instead."""
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as one:
        directory = os.open(tmp_path, os.O_RDONLY)
        try:
            os.fchdir(directory)
            one.bind("socket")
        finally:
            os.chdir("/")
            os.close(directory)
    for name in ("none", "loop", "none/none", "socket", "x" * 300):
        path = f"{tmp_path}/{name}"
        with pytest.raises(ConfigError, match=r"^cannot read ") as caught:
            _load(path)
        assert caught.value.status == 78


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = _write(tmp_path, 'NFS_SERVER="x"')
    before = os.listdir("/dev/fd")
    for wanted in (path, str(tmp_path), os.devnull):
        with contextlib.suppress(EnvstartError):
            _load(wanted)
    assert len(os.listdir("/dev/fd")) == len(before)


def test_more_than_a_megabyte(tmp_path: Path) -> None:
    content = b'NFS_SERVER="x"\n' + b"#\n" * (1 << 19)
    path = _write(tmp_path, content)
    with pytest.raises(ConfigError, match=r"it has more than 1048576 bytes$"):
        _load(path)
    assert _nfs(tmp_path, content[: 1 << 20]).value("NFS_SERVER") == "x"


# ---------------------------------------------------------------------------------------------------------------------
# What


def test_cbsd_sample_works_unchanged(tmp_path: Path) -> None:
    found = _nfs(tmp_path, _CBSD_SAMPLE)
    assert found.value("NFS_SERVER") == "172.16.0.1"
    assert found.value("NFS_SERVER_ROOT_DIR") == "/nfs"
    assert (found.value("MOUNT_RCCONF"), found.value("MOUNT_FSTAB")) == (False, True)
    assert found.value("MOUNT_NFS_OPT") == (
        *("rw", "vers=4", "intr", "rsize=32768", "wsize=32768", "acregmax=3", "acdirmin=3", "acdirmax=3", "hard"),
        *("proto=tcp", "timeout=300"),
    )
    assert found.value("NFS_MOUNT_TIMEOUT") == 10
    assert not found.notes
    plan = lifecycle.load("nfs", in_workdir("j1", W), found.path)
    assert [(step.source, step.point) for step in plan.steps] == [
        ("172.16.0.1:/nfs/system/j1", f"{W}/jails-system/j1"),
        ("172.16.0.1:/nfs/fstab/j1", f"{W}/jails-fstab/j1"),
        ("172.16.0.1:/nfs/data/j1", f"{W}/jails-data/j1-data"),
    ]


def test_defect_3_fstab_is_mounted_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    assert _nfs(tmp_path, 'NFS_SERVER="x"').value("MOUNT_FSTAB") is True


def test_defect_13_a_flag_that_is_neither_is_refused(tmp_path: Path) -> None:
    assert _nfs(tmp_path, "NFS_SERVER=x MOUNT_FSTAB=yes MOUNT_SYSTEM=off").value("MOUNT_FSTAB") is True
    assert "MOUNT_FSTAB='ja' is neither 1 nor 0" in _told(tmp_path, "NFS_SERVER=x MOUNT_FSTAB=ja")[0]


def test_defect_15_the_callers_variables_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sudo -E`` hands them over. Not as a value, and not inside one."""
    for key in ("NFS_SERVER", "NFS_SERVER_ROOT_DIR", "MOUNT_NFS_OPT", "TIMEOUT", "HOME"):
        monkeypatch.setenv(key, "/evil")
    found = _nfs(tmp_path, 'NFS_SERVER="x"')
    assert (found.value("NFS_SERVER"), found.value("NFS_SERVER_ROOT_DIR"), found.value("TIMEOUT")) == ("x", "/nfs", 120)
    assert "has $HOME, which is not set above it" in _told(tmp_path, "NFS_SERVER=x\nNFS_SERVER_ROOT_DIR=$HOME")[0]


def test_sections_override_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = """\
NFS_SERVER="all"
TIMEOUT=10
[web*]
NFS_SERVER="webs"
TIMEOUT=20
[web1]
NFS_SERVER="one"
[?eb2]
NFS_SERVER="two"
[web*]
ATTEMPTS=5
"""
    path = _write(tmp_path, content)
    found = {name: _load(path, name) for name in ("db", "web", "web1", "web2", "Web1", "xweb1")}
    assert {name: one.value("NFS_SERVER") for name, one in found.items()} == {
        "db": "all",
        "web": "webs",
        "web1": "one",
        "web2": "two",
        "Web1": "all",
        "xweb1": "all",
    }
    assert [found[name].value("TIMEOUT") for name in ("db", "web1", "web2")] == [10, 20, 20]
    assert [found[name].value("ATTEMPTS") for name in ("db", "web1")] == [0, 5]
    assert found["db"].origin("NFS_SERVER") == f"{path}:1"
    assert found["web1"].origin("NFS_SERVER") == f"{path}:7 [web1]"
    assert found["web1"].origin("TIMEOUT") == f"{path}:5 [web*]"
    assert found["web1"].origin("STOP_FORCE") == "default"
    assert not found["web1"].notes


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("", {"any": "any"}),
        ("TIMEOUT=5\n", {"any": "any"}),
        ("NFS_SERVER=a\n", {"any": "any"}),
        ("NFS_SERVER=a\n[web1]\nTIMEOUT=5\n", {"web1": "web1", "any": "any other"}),
        ("[web*]\nNFS_SERVER=a\n[d?b]\nNFS_SERVER=b\n", {"webx": "[web*] (as webx)", "dxb": "[d?b] (as dxb)"}),
        ("TIMEOUT=5\n[web1]\nNFS_SERVER=a\n[web1]\nATTEMPTS=5\n", {"web1": "web1"}),
        ("NFS_SERVER=\n[web1]\nNFS_SERVER=a\n", {"web1": "web1"}),
    ],
)
def test_who_sees_all_of_a_file(tmp_path: Path, content: str, wanted: dict[str, str]) -> None:
    assert load.examples(_write(tmp_path, content), registry.backend("nfs").OPTIONS) == wanted


def test_a_section_alone_can_name_the_server(tmp_path: Path) -> None:
    content = "[j1]\nNFS_SERVER=x\n"
    assert _nfs(tmp_path, content).value("NFS_SERVER") == "x"
    assert "NFS_SERVER is not set" in _told(tmp_path, content, "j2")[0]


def test_fault_102_an_empty_value_is_the_default(tmp_path: Path) -> None:
    found = _nfs(tmp_path, "NFS_SERVER=x\nTIMEOUT=\nNFS_SERVER_DATA_DIR=''\nNFS_VERSION=3\n[j1]\nNFS_VERSION=\"\"\n")
    assert (found.value("TIMEOUT"), found.value("NFS_SERVER_DATA_DIR"), found.value("NFS_VERSION")) == (120, None, None)
    assert found.origin("TIMEOUT") == "default"
    assert found.text("TIMEOUT") == "120"
    assert "FILE:1: NFS_SERVER is empty: name or address of the server" in _told(tmp_path, "NFS_SERVER=")[0]


def test_fault_99_the_last_of_a_duplicate_counts_and_it_is_noted(tmp_path: Path) -> None:
    path = _write(tmp_path, "NFS_SERVER=a\nTIMEOUT=5\nNFS_SERVER=b\n[j1]\nTIMEOUT=6\nTIMEOUT=7\n[j*]\nTIMEOUT=8\n")
    found = _load(path)
    assert (found.value("NFS_SERVER"), found.value("TIMEOUT")) == ("b", 8)
    assert found.notes == (
        f"{path}:3: NFS_SERVER is set again; the last one counts",
        f"{path}:6: TIMEOUT is set again; the last one counts",
    )
    assert _nfs(tmp_path, 'NFS_SERVER=a\nMOUNT_NFS_OPT=-orw\nMOUNT_NFS_OPT="$MOUNT_NFS_OPT -ohard"').notes == ()


def test_fault_104_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    """One that only other values use is a helper, as in sh(1)."""
    told = _told(tmp_path, "NFS_SERVER=x\nTIMEOT=5\nzzzzz=1\nmount_fstab=1\n")
    assert told[:3] == [
        "FILE:2: has the unknown key TIMEOT; did you mean TIMEOUT?",
        "FILE:3: has the unknown key zzzzz",
        "FILE:4: has the unknown key mount_fstab; did you mean MOUNT_FSTAB?",
    ]
    found = _nfs(tmp_path, "BASE=/tank\nNFS_SERVER=x\nNFS_SERVER_ROOT_DIR=$BASE/nfs\n")
    assert found.value("NFS_SERVER_ROOT_DIR") == "/tank/nfs"


def test_fault_100_bytes_arrive_as_they_are_written(tmp_path: Path) -> None:
    """Latin-1, no newline at the end. CRLF and BOM are refused: sh(1) would make them part of a value, or of a key."""
    found = _nfs(tmp_path, b"NFS_SERVER=x\nNFS_SERVER_ROOT_DIR=/n\xe9\xff/\xd0\xbf")
    assert os.fsencode(found.value("NFS_SERVER_ROOT_DIR")) == b"/n\xe9\xff/\xd0\xbf"


def test_the_name_is_filled_in_for_the_environment_that_is_meant(tmp_path: Path) -> None:
    content = """\
ISCSI_PORTAL=nas
ISCSI_TARGET="iqn.2026-11.lab:{name}"
ISCSI_SERIAL="disk-{name}"
GELI_KEYFILE="/root/{name}.key"
[a@b]
ISCSI_TARGET="iqn.2026-11.lab:ab"
"""
    path = _write(tmp_path, content)
    found = _load(path, "j1", "iscsi")
    assert [found.value(key) for key in ("ISCSI_TARGET", "ISCSI_SERIAL", "GELI_KEYFILE")] == [
        "iqn.2026-11.lab:j1",
        "disk-j1",
        ("/root/j1.key",),
    ]
    assert found.text("GELI_KEYFILE") == "/root/{name}.key"
    # All keys that cannot have the name are told, but not one that a section has set.
    with pytest.raises(ConfigError) as caught:
        _load(path, "a@b", "iscsi")
    wrong = "has something else than letters, digits and . _ -; name it in a section [NAME]"
    assert _lines(caught.value, path) == [
        f"cannot use the configuration: one mistake: FILE:3: ISCSI_SERIAL='disk-a@b' {wrong}; "
        "correct it and try: envstart config check -c FILE iscsi"
    ]


def test_a_name_where_nothing_is_filled_in_is_a_mistake(tmp_path: Path) -> None:
    """Another environment's section too; a command for the server has words of its own."""
    content = """\
NFS_SERVER=x
NFS_SERVER_DATA_DIR="/nfs/{name}"
CLONE_COMMAND="cp -a {old} {new}"
CLONE_UNDO_COMMAND="rm -rf {new}"
[j2]
REQUIRE_DATA="etc {etc}"
"""
    wrong = "nothing is filled in here; write it out, in a section [NAME] if need be"
    assert _told(tmp_path, content)[:2] == [
        f"FILE:2: NFS_SERVER_DATA_DIR='/nfs/{{name}}' has '{{name}}'; {wrong}",
        f"FILE:6: REQUIRE_DATA='etc {{etc}}' has '{{etc}}'; {wrong}",
    ]
    assert (
        _nfs(tmp_path, content.replace("{name}", "a").replace("{etc}", "")).value("CLONE_UNDO_COMMAND")[-1] == "{new}"
    )


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Those of other environments' sections too: they are told before their start."""
    told = _told(tmp_path, "TIMEOT=5\n[j2]\nTIMEOUT=0\nMOUNT_FSTAB=$(x)\n[j3]\nEMPTY_DIR=x\n")
    assert told == [
        "FILE:1: has the unknown key TIMEOT; did you mean TIMEOUT?",
        "FILE:3: TIMEOUT='0' is invalid: expected 2..86400 seconds",
        "FILE:4: has a command substitution, which is never run; write the value itself",
        "FILE:6: EMPTY_DIR='x' is none of refuse, warn, ignore",
        "FILE: NFS_SERVER is not set: name or address of the server",
        "cannot use the configuration: 5 mistakes, the first: FILE:1: has the unknown key TIMEOT; did you mean "
        "TIMEOUT?; correct it and try: envstart config check -c FILE nfs",
    ]


def test_a_file_of_another_kind_is_told_in_bounds(tmp_path: Path) -> None:
    for content in (
        "zz\n" * 5000,
        "zz%d=1\n" * 5000,
        "[\n" * 5000,
        "NFS_SERVER=x\nTIMEOUT=" + "x" * 100_000,
        "z" * 100_000,
    ):
        told = _told(tmp_path, content)
        assert len(told) <= 52
        assert max(map(len, told)) < 300
    assert _told(tmp_path, "zz\n" * 5000)[-2] == "FILE: ... and 4951 more"
    assert "5001 mistakes" in _told(tmp_path, "zz\n" * 5000)[-1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("NFS_VERSION=3\nMOUNT_NFS_OPT=-overs=4", "NFS_VERSION=3 (FILE:2): MOUNT_NFS_OPT (FILE:3) says 4"),
        ("NFS_VERSION=4\nMOUNT_NFS_OPT=-onfsv3", "NFS_VERSION=4 (FILE:2): MOUNT_NFS_OPT (FILE:3) says 3"),
        ("NFS_SERVER_DATA_DIR=/" + "d" * 97, "FreeBSD cuts an NFSv4 path after 99 bytes"),
        ("NFS_VERSION=3\nNFS_SERVER_DATA_DIR=/" + "d" * 1100, "a source has at most 1023 bytes"),
    ],
)
def test_cross_checks(tmp_path: Path, content: str, text: str) -> None:
    path = _write(tmp_path, f"NFS_SERVER=x\n{content}\n")
    with pytest.raises(ConfigError) as caught:
        lifecycle.load("nfs", in_workdir("j1", W), path)
    assert text in str(caught.value).replace(path, "FILE")


def _mount_options(path: str) -> tuple[str, ...]:
    step = lifecycle.load("nfs", in_workdir("j1", W), path).steps[-1]
    assert isinstance(step, Mount)
    return tuple(step.options)


def test_nfs_version_and_its_options_fit(tmp_path: Path) -> None:
    for content, present, absent in (
        ("NFS_VERSION=3", "nfsv3", "vers=4"),
        ("NFS_VERSION=4", "vers=4", "nfsv3"),
        ("NFS_VERSION=3\nMOUNT_NFS_OPT=-orw", "nfsv3", "vers=4"),
        ("NFS_VERSION=3\nMOUNT_NFS_OPT=-overs=3", "vers=3", "vers=4"),
    ):
        options = _mount_options(_write(tmp_path, f"NFS_SERVER=x\n{content}\n"))
        assert present in options, content
        assert absent not in options, content


def test_what_waits_for_ever_is_taken_out_of_the_options(tmp_path: Path) -> None:
    options = _nfs(tmp_path, "NFS_SERVER=x\nMOUNT_NFS_OPT='-orw,retrycnt=0,fg -oretrycnt=1000 -o hard,cover'\n")
    assert options.value("MOUNT_NFS_OPT") == ("rw", "hard")
    for option in ("bg", "bgnow", "rw,bg"):
        told = _told(tmp_path, f"NFS_SERVER=x\nMOUNT_NFS_OPT=-o{option}\n")
        assert "which reports success before anything is mounted" in told[0]


def test_an_ipv6_address_gets_its_brackets(tmp_path: Path) -> None:
    for written in ("2001:db8::1", "[2001:db8::1]"):
        path = _write(tmp_path, f"NFS_SERVER='{written}'\n")
        plan = lifecycle.load("nfs", in_workdir("j1", W), path)
        assert plan.steps[-1].source == "[2001:db8::1]:/nfs/data/j1"
        assert "tcp" in _mount_options(path)
        content = f"NFS_SERVER='{written}'\nMOUNT_NFS_OPT='-orw -oproto=tcp'\n"
        assert "proto=tcp6" in _mount_options(_write(tmp_path, content))


# ---------------------------------------------------------------------------------------------------------------------
# A folder of mistakes


@pytest.mark.parametrize("path", sorted(_BAD.glob("*.conf")), ids=lambda path: path.stem)
def test_bad_conf(path: Path, tmp_path: Path) -> None:
    """NAME.conf with the lines that it must draw in NAME.txt; the last of them is the last on stderr."""
    copy = _write(tmp_path, path.read_bytes())
    with pytest.raises(EnvstartError) as caught:
        lifecycle.load("nfs", in_workdir("j1", W), copy)
    assert caught.value.status == 78
    assert _lines(caught.value, copy) == path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()


def test_bad_conf_is_complete() -> None:
    names = {path.stem for path in _BAD.glob("*.conf")}
    assert names == {path.stem for path in _BAD.glob("*.txt")}
    assert len(names) > 50


# ---------------------------------------------------------------------------------------------------------------------
# Anything


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [*_CBSD_SAMPLE.encode().splitlines(), b"[j*]", b"[j1]", b"[x]", b"TIMEOUT=5", b"A=$B", b"[[x]]"]
            ),
        ),
        max_size=8,
    )
)
def test_any_file_ends_in_a_plan_or_in_an_error(tmp_path: Path, lines: list[bytes]) -> None:
    path = _write(tmp_path, b"\n".join(lines))
    try:
        lifecycle.load("nfs", in_workdir("j1", W), path)
    except EnvstartError as error:
        assert error.status == 78  # noqa: PT017


# ---------------------------------------------------------------------------------------------------------------------
# A list of environments, for hosts without CBSD


def test_case_b4_without_configobj_a_list_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "configobj", None)
    with pytest.raises(UnavailableError, match="Python's configobj is missing; "):
        list_file.environments(_write(tmp_path, "[j1]\ndata = /a/j1\nsystem = /b/j1\n"))


def test_list_of_environments(tmp_path: Path) -> None:
    path = _write(tmp_path, "[j1]\ndata = /a/j1\nsystem = /b/j1\n[j2]\ndata=/a, b/j2\nsystem=/b/j2\nfstab=/c/j2\n")
    found = list_file.environments(path)
    assert [(one.name, one.data, one.system, one.fstab) for one in found] == [
        ("j1", "/a/j1", "/b/j1", None),
        ("j2", "/a, b/j2", "/b/j2", "/c/j2"),
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("data=/a\n", "data is in no section; begin with [NAME]"),
        ("[j1]\ndata=/a\n", "[j1] has data, system and perhaps fstab and rcconf, nothing else"),
        ("[j1]\ndata=/a\nsystem=/b\nx=1\n", "[j1] has data, system and perhaps fstab and rcconf, nothing else"),
        ("[j1]\ndata=/a\nsystem=/b\n[[x]]\n", "[j1] has data, system and perhaps fstab and rcconf, nothing else"),
        ("[j1]\ndata=/a\nsystem=/b\n[[fstab]]\n", ""),
        ("[../x]\ndata=/a\nsystem=/b\n", "[../x]: cannot use -j"),
        ("[j1]\ndata=a\nsystem=/b\n", "[j1]: cannot use -d 'a': the path is not absolute"),
        ("[j1\n", ""),
        ("[j1]\n[j1]\n", ""),
    ],
)
def test_list_of_environments_that_is_wrong(tmp_path: Path, content: str, text: str) -> None:
    path = _write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        list_file.environments(path)
    assert str(caught.value).startswith(f"cannot use {path}: {text}")


def test_list_of_environments_is_trusted_like_the_configuration(tmp_path: Path) -> None:
    path = _write(tmp_path, "[j1]\ndata=/a\nsystem=/b\n")
    os.chmod(path, 0o666)
    with pytest.raises(PermissionDeniedError):
        list_file.environments(path)


def test_text_of_an_option_without_default_help() -> None:
    """A row alone, as a new backend's author meets it."""
    rows = (Option("A", text, None, "the a"), Option("B", text, "b", "the b"))
    with pytest.raises(ConfigError, match=r"cannot find env_start_x\.conf in /usr/local/etc/envstart, /root/etc"):
        load.load("x", rows, "j1", None, None)


@pytest.mark.parametrize(
    ("root", "prefix"),
    [
        ("opt/x/libexec/envstart", "{top}/opt/x"),
        # By the name that hooks/run-hook gives it, below a link.
        ("link/libexec/envstart/hooks/..", "{top}/opt/x"),
        ("home/me/envstart", "/usr/local"),
        ("lib/python3.11/site-packages", "/usr/local"),
    ],
)
def test_case_c9_the_package_knows_its_prefix(tmp_path: Path, root: str, prefix: str) -> None:
    (tmp_path / "opt/x/libexec/envstart/hooks").mkdir(parents=True)
    (tmp_path / "link").symlink_to("opt/x")
    assert places.prefix(f"{tmp_path}/{root}") == prefix.format(top=tmp_path)
