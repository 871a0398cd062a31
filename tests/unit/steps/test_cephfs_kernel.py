"""CephFS by the kernel of Linux: keys, the command line, whose mount it is. Mounted for real: tests/real."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stubs import Stub, answer, done, planned

from envstart.engine.plan import Plan
from envstart.errors import (
    ConfigError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
    UnavailableError,
)
from envstart.mounts import commands, table_linux
from envstart.mounts.table import Entry, Table
from envstart.steps import ceph, cephfs_kernel, fuse
from envstart.steps.cephfs_kernel import KernelMount
from envstart.steps.mountpoint import Undo
from envstart.system.command import Result
from envstart.system.host import Host

KEYS = {"CEPH_USER": "host1", "CEPH_MONITORS": "10.0.0.1 mon2:6789", "CEPH_CLIENT": "kernel", "MOUNT_FSTAB": "0"}
POINT = "/usr/jails/jails-data/env1-data"
FSID = "5d4d3a2e-6d8a-4d62-9f0a-3c1f0f0a0001"


def plan(path: Path, **keys: str) -> Plan:
    return planned(path, "ceph", **{**KEYS, **keys})


def mount(path: Path, **keys: str) -> KernelMount:
    """Return the mount of the data."""
    (found,) = [step for step in plan(path, **keys).steps if isinstance(step, KernelMount) and step.name == "data"]
    return found


def entry(source: str, *options: str, fstype: str = "ceph", root: str = "/") -> Entry:
    return Entry(source, POINT, fstype, ("rw", "secret=<hidden>", "name=host1", *options), "0:45", root)


def is_ours(step: KernelMount, found: Entry) -> bool:
    stub = Stub(mounts=[found])
    return done(step.matches(stub.host, done(stub.mounts()), found))


class LinuxStub(Stub):
    """A host that tells what commands were given to read."""

    platform = "linux"

    def __init__(self, answers: dict[str, Result]) -> None:
        super().__init__(answers)
        self.given: list[object] = []
        self.unresponsive: set[str] = set()

    async def run(self, argv: Any, **how: object) -> Result:
        self.given.append(how.get("stdin"))
        return await super().run(argv)


# The plan.


def test_a_directory_is_a_mount_of_its_own(tmp_path: Path) -> None:
    steps = plan(tmp_path, CEPH_ROOT_DIR="/jails").steps
    assert [(step.name, step.fstype, step.source, step.point) for step in steps] == [
        ("system", "ceph", "10.0.0.1,mon2:6789:/jails/system/env1", "/usr/jails/jails-system/env1"),
        ("data", "ceph", "10.0.0.1,mon2:6789:/jails/data/env1", POINT),
    ]


def test_the_command_line(tmp_path: Path) -> None:
    step = mount(
        tmp_path,
        CEPH_FS_NAME="files",
        CEPH_CONF="/c",
        CEPH_KEYRING="/k",
        CEPH_MODE="ro",
        MOUNT_CEPH_OPT="noatime ms_mode=crc",
        CEPH_MOUNT_TIMEOUT="12",
    )
    options = (
        "ro,noatime,ms_mode=crc,name=host1,mount_timeout=10,mds_namespace=files,conf=/c,secretfile=/proc/self/fd/0"
    )
    argv = commands.mount("linux", step.fstype, step.options, step.source, POINT)
    assert argv == ("mount.ceph", "10.0.0.1,mon2:6789:/data/env1", POINT, "-o", options)


def test_what_is_not_set_is_left_to_ceph(tmp_path: Path) -> None:
    step = mount(tmp_path, CEPH_MONITORS="")
    assert step.source == ":/data/env1"
    assert step.options == ("rw", "name=host1", "mount_timeout=28")


@pytest.mark.parametrize("value", ["noatime,nowsync", "-o recover_session=clean", "ip=10.0.0.7", "snapdirname=.snap"])
def test_options(value: str) -> None:
    assert cephfs_kernel.mount_options(value)


@pytest.mark.parametrize("value", ["secret=abc", "name=x", "ro", "fs=x", "conf=/x", "a;b", "a=$b"])
def test_what_is_no_option(value: str) -> None:
    with pytest.raises(ValueError, match=r"key of its own|no option has"):
        cephfs_kernel.mount_options(value)


def test_the_shared_rcconf_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RCCONF_SHARED=1"):
        plan(tmp_path, MOUNT_RCCONF="1", RCCONF_SHARED="1")


# Which client.


def by_kernel(path: Path, **keys: str) -> bool:
    return any(isinstance(step, KernelMount) for step in plan(path, **keys).steps)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where notes are kept."""
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setattr("envstart.system.rundir.DIR", str(directory))
    return directory


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_the_kernel_where_it_can(
    *, there: bool, tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cephfs_kernel, "is_there", lambda: there)
    assert by_kernel(tmp_path, CEPH_CLIENT="auto") is there
    assert by_kernel(tmp_path, CEPH_CLIENT="") is there
    assert by_kernel(tmp_path, CEPH_CLIENT="kernel")
    assert not by_kernel(tmp_path, CEPH_CLIENT="fuse")


def test_auto_stays_with_ceph_fuse_while_that_is_mounted(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mount.ceph can be installed while an environment runs."""
    monkeypatch.setattr(cephfs_kernel, "is_there", lambda: True)
    environment = plan(tmp_path).environment
    (notes / f"{fuse._note(environment)}.note").write_text("host1@10.0.0.1:/\n0:45")
    assert not by_kernel(tmp_path, CEPH_CLIENT="auto")
    assert by_kernel(tmp_path, CEPH_CLIENT="kernel")


def test_another_kernel_has_no_client(tmp_path: Path) -> None:
    stub = Stub()
    with pytest.raises(ConfigError, match="set CEPH_CLIENT=fuse"):
        done(mount(tmp_path)._run(stub.host, ("mount.ceph",)))
    assert stub.called == []


def test_file_systems_of_the_kernel() -> None:
    assert table_linux.has_file_system("proc")
    assert not table_linux.has_file_system("nosuchfs")
    assert not table_linux.has_file_system("")


# Whose mount it is.


@pytest.mark.parametrize(
    "found",
    [
        entry("10.0.0.1:6789:/data/env1"),
        entry("10.0.0.9,10.0.0.1:/data/env1"),
        entry(f"host1@{FSID}.=/data/env1", "mon_addr=10.0.0.9:6789/10.0.0.1:6789"),
        entry(f"another.user@{FSID}.=/data/env1"),
    ],
)
def test_it_is_ours(found: Entry, tmp_path: Path) -> None:
    assert is_ours(mount(tmp_path, CEPH_MONITORS="10.0.0.1 10.0.0.2:6789"), found)


@pytest.mark.parametrize(
    "found",
    [
        entry("10.0.0.1:/data/env2"),
        entry("10.0.0.1:/"),
        entry("10.0.0.7:6789,10.0.0.8:6789:/data/env1"),
        entry(f"host1@{FSID}.=/data/env1", "mon_addr=10.0.0.7:6789"),
        entry("10.0.0.1:/data/env1", fstype="nfs4"),
        entry("10.0.0.1:/data/env1", fstype="fuse.ceph-fuse"),
        entry("10.0.0.1:/data/env1", root="/etc"),
        entry("[fe80::1]:6789:/data/env1"),
    ],
)
def test_it_is_not_ours(found: Entry, tmp_path: Path) -> None:
    assert not is_ours(mount(tmp_path, CEPH_MONITORS="10.0.0.1 10.0.0.2:6789"), found)


def test_a_name_of_a_monitor_tells_nothing(tmp_path: Path) -> None:
    """It is not looked up: a resolver can hang."""
    for monitors in ("mon1", "mon1 mon2:6789", ""):
        assert is_ours(mount(tmp_path, CEPH_MONITORS=monitors), entry("10.0.0.7:6789:/data/env1"))


@pytest.mark.parametrize(
    ("wanted", "found", "words"),
    [
        ("", entry("10.0.0.1:/data/env1", "mds_namespace=other"), "from the file system other, and the configuration"),
        ("files", entry("10.0.0.1:/data/env1"), "from the file system that is the cluster's default, and"),
        ("files", entry("10.0.0.1:/data/env1", "fs=other"), "configuration says the file system files"),
        ("files", entry(f"a@{FSID}.other=/data/env1"), "from the file system other"),
    ],
)
def test_the_directory_of_another_file_system(wanted: str, found: Entry, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        is_ours(mount(tmp_path, CEPH_FS_NAME=wanted), found)


def test_the_file_system_as_either_syntax_tells_it(tmp_path: Path) -> None:
    step = mount(tmp_path, CEPH_FS_NAME="a.b", CEPH_MONITORS="10.0.0.1")
    assert is_ours(step, entry("10.0.0.1:6789:/data/env1", "mds_namespace=a.b"))
    assert is_ours(step, entry(f"host1@{FSID}.a.b=/data/env1"))


def test_all_mounts_of_a_cluster_hang_together(tmp_path: Path) -> None:
    step = mount(tmp_path)
    found = entry("10.0.0.1:6789,10.0.0.2:6789:/data/env1")
    assert step.server(Table([found])) == "10.0.0.1:6789,10.0.0.2:6789"
    assert entry(f"host1@{FSID}.files=/data/env1").server == f"host1@{FSID}.files"


# Mounted is not yet of use.


def test_a_mount_that_gives_no_answer_yet_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MDS waits for a client that has died, as after a crash of this host; what is mounted stays mounted."""
    stub = LinuxStub({})
    stub.unresponsive = {POINT}
    stub._table = Table([entry("10.0.0.1:/data/env1")])
    answers: list[EnvstartError | None] = [NoResponseError("no answer"), None, NotFoundError("no etc")]

    async def judge(mount: object, host: Host, point: str) -> EnvstartError | None:
        return answers.pop(0)

    monkeypatch.setattr("envstart.steps.health.check_health", judge)
    step = mount(tmp_path)
    with pytest.raises(NoResponseError):
        done(step._attempt(stub.host, POINT, Undo()))
    assert stub.unresponsive == set()
    # Whatever else is wrong is told by check().
    for _ in range(2):
        done(step._attempt(stub.host, POINT, Undo()))
    assert (answers, stub.called) == ([], [])


# The key.


def test_the_key_comes_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trusted(host: Host, config: object) -> None:
        pass

    monkeypatch.setattr(ceph, "check_key", trusted)
    reading = "ceph-authtool --print-key --name client.host1 /k"
    stub = LinuxStub({reading: answer("c2VjcmV0\n"), "mount.ceph x": answer()})
    step = mount(tmp_path, CEPH_KEYRING="/k")
    for _ in range(2):
        assert done(step._run(stub.host, ("mount.ceph", "x"))).status == 0
    assert stub.called == [reading, "mount.ceph x", "mount.ceph x"]
    assert stub.given == [None, "c2VjcmV0", "c2VjcmV0"]
    assert "c2VjcmV0" not in " ".join(step.options)


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (
            "entity client.host1 not found",
            PermissionDeniedError,
            "/k has none of client.host1; correct CEPH_KEYRING, or CEPH_USER",
        ),
        ("error reading file /k", PermissionDeniedError, "/k has none of client.host1"),
        ("ended by signal 11", TemporaryError, "ended by signal 11"),
    ],
)
def test_a_keyring_without_the_key(
    words: str, kind: type[EnvstartError], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trusted(host: Host, config: object) -> None:
        pass

    monkeypatch.setattr(ceph, "check_key", trusted)
    stub = LinuxStub({"ceph-authtool --print-key --name client.host1 /k": answer(err=words, status=1)})
    with pytest.raises(kind, match=told):
        done(mount(tmp_path, CEPH_KEYRING="/k")._run(stub.host, ("mount.ceph",)))


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        ("mount error: ceph filesystem not supported by the system", UnavailableError, os.EX_UNAVAILABLE),
        ("mount error 2 = No such file or directory", NotFoundError, os.EX_NOINPUT),
        ("mount error 13 = Permission denied", PermissionDeniedError, os.EX_NOPERM),
        ("mount error 22 = Invalid argument", ConfigError, os.EX_CONFIG),
        ("unable to determine mon addresses", ConfigError, os.EX_CONFIG),
        ("secret is not valid base64: Invalid argument. / couldn't append", PermissionDeniedError, os.EX_NOPERM),
        ("server name not found: m (Name or service not known) / failed to resolve source", EnvstartError, 1),
        ("server name not found: m (Temporary failure in name resolution) / failed", TemporaryError, os.EX_TEMPFAIL),
        ("mount error 110 = Connection timed out", TemporaryError, os.EX_TEMPFAIL),
        ("mount error: no mds server is up or the cluster is laggy", TemporaryError, os.EX_TEMPFAIL),
    ],
)
def test_what_mount_ceph_says(words: str, kind: type[EnvstartError], status: int) -> None:
    error = KernelMount.diagnose(answer(words, status=1), "mount a on b")
    assert isinstance(error, kind)
    assert error.status == status
