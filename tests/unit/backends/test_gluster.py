"""GlusterFS without a machine: keys, command lines, the errors of a log, the number of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from envstart.backends import gluster
from envstart.backends.gluster import log_errors
from envstart.mounts import commands
from envstart.mounts.table import Entry
from envstart.steps.fuse import one_word
from envstart.system import files, rundir


@pytest.mark.parametrize(
    ("parse", "value", "wanted"),
    [
        (gluster.servers, "nas1 nas2.example.com 10.0.0.1", ("nas1", "nas2.example.com", "10.0.0.1")),
        (gluster.mount_options, "rw,log-level=WARNING -oacl", ("rw", "log-level=WARNING", "acl")),
        (gluster.mount_options, "xlator-option=*dht.lookup-unhashed=off", ("xlator-option=*dht.lookup-unhashed=off",)),
        (one_word, "/var/log//glusterfs/x.log", "/var/log/glusterfs/x.log"),
    ],
)
def test_what_a_key_means(parse: object, value: str, wanted: object) -> None:
    assert callable(parse)
    assert parse(value) == wanted


def test_command_lines() -> None:
    options = ("rw", "log-file=/l", "backup-volfile-servers=b:c")
    words = "mount_glusterfs -o rw,log-file=/l,backup-volfile-servers=b:c a:v /p"
    assert " ".join(commands.mount("freebsd", "glusterfs", options, "a:v", "/p")) == words
    words = "mount.glusterfs a:v /p -o rw,log-file=/l,backup-volfile-servers=b:c"
    assert " ".join(commands.mount("linux", "glusterfs", options, "a:v", "/p")) == words


LOG = """\
[2026-11-22 11:01:17.100000 +0000] E [x.c:1:f] 0-old: an older one
[2026-11-22 11:01:18.331592 +0000] I [glusterfsd.c:2] 0-x: E is for error
[2026-11-22 11:01:18.331599 +0000] E [glusterfsd-mgmt.c:2170:mgmt_getspec_cbk] 0-glusterfs: failed to get the file
[2026-11-22 11:01:18.331606 +0000] E [MSGID: 1] [glusterfsd-mgmt.c:2371:g] 0-mgmt: failed to fetch [{key=nosuch}]
Final graph:
"""


def test_the_errors_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOG)
    wanted = "0-glusterfs: failed to get the file / 0-mgmt: failed to fetch [{key=nosuch}]"
    assert log_errors(str(path), "2026-11-22 11:01:18") == wanted
    assert log_errors(str(path), "2026-11-22 11:01:19") == ""


def test_where_no_note_can_be_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path / "run"))
    (tmp_path / "run").write_text("no directory")
    assert files.load_note("client") == ""


def test_numbers_of_both_systems() -> None:
    assert Entry("/dev/fuse", "/p", "fusefs", fsid="0100").fsid == "0100"
    assert Entry("ceph-fuse", "/p", "fuse.ceph-fuse", device="0:57").fsid == "0:57"
