"""What a mounted directory that takes no file means, for a start, for a check and for the short way of a start."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from cbsd import SERVER
from stubs import Stub, done, planned

from envstart.errors import NotFoundError
from envstart.hooks import unchanged
from envstart.mounts.table import Entry
from envstart.steps.health import interpret
from envstart.steps.mount import Mount
from envstart.system import probe
from envstart.system.probe import ProbeResult

FULL, QUOTA, READ_ONLY = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS))


def data_of(tmp_path: Path, fstype: str, *options: str, **keys: str) -> Mount:
    """Return a mount of the data directory of this type, with these options."""
    plan = planned(tmp_path, "nfs", NFS_SERVER=SERVER, **keys)
    (data,) = [step for step in plan.steps if isinstance(step, Mount) and step.name == "data"]
    data.fstype, data.options = fstype, options
    return data


@pytest.mark.parametrize(
    ("fstype", "options", "why", "words"),
    [
        ("nfs", ("ro",), READ_ONLY, ""),
        ("nfs", ("rw",), READ_ONLY, "(Read-only file system); let it be written to"),
        ("nfs", ("rw",), FULL, "(No space left on device): the disk is full"),
        ("nfs", ("rw",), QUOTA, f"({QUOTA}): the disk is full"),
        ("nfs", ("rw",), "Input/output error", "an NFSv4 server shows what it does not export"),
        ("nfs", ("rw",), "Permission denied", "let the server map root to root"),
        ("nullfs", ("ro",), READ_ONLY, ""),
        ("nullfs", ("rw",), READ_ONLY, ""),
        ("nullfs", ("rw",), "Permission denied", ""),
        ("nullfs", ("rw",), FULL, "(No space left on device): the disk is full"),
        ("zfs", ("rw",), READ_ONLY, ""),
        ("ufs", ("rw",), READ_ONLY, ""),
        ("ext4", ("rw",), QUOTA, f"({QUOTA}): the disk is full"),
        ("ufs", ("rw",), "Input/output error", "is it broken?"),
        ("glusterfs", ("rw",), READ_ONLY, "(Read-only file system); let it be written to"),
    ],
)
def test_case_c10_an_empty_directory_that_takes_no_file(
    tmp_path: Path, fstype: str, options: tuple[str, ...], why: str, words: str
) -> None:
    """Only a server can show like that what it does not export, and only what it shall let be written to."""
    data = data_of(tmp_path, fstype, *options)
    health = interpret(data, "freebsd", data.point, ProbeResult(probe.EMPTY, why))
    error = health.problem or health.refusal
    assert (error is None) == (not words)
    assert words in str(error or "")
    assert ("not export" in str(error)) == ("not export" in words)
    row = (data.point, fstype, "", "ro" in options, (data.point, (), None, False))
    assert unchanged._is_fine(row, (probe.EMPTY, why, None, "")) == (not words)


def test_case_c10_what_is_asked_for_is_missed_in_an_empty_directory(tmp_path: Path) -> None:
    data = data_of(tmp_path, "nullfs", "ro", REQUIRE_DATA="etc")
    health = interpret(data, "freebsd", data.point, ProbeResult(probe.EMPTY, READ_ONLY))
    assert "has no etc, which REQUIRE_DATA asks for" in str(health.refusal)
    row = (data.point, "nullfs", "", True, (data.point, ("etc",), None, False))
    assert not unchanged._is_fine(row, (probe.EMPTY, READ_ONLY, None, ""))


@pytest.mark.parametrize(("fstype", "words"), [("nfs", "let the server map root"), ("nullfs", "may root use it?")])
def test_case_c12_who_refuses_root(tmp_path: Path, fstype: str, words: str) -> None:
    data = data_of(tmp_path, fstype, "rw")
    health = interpret(data, "freebsd", data.point, ProbeResult(probe.DENIED, "Permission denied"))
    assert words in str(health.refusal)
    assert ("server" in str(health.refusal)) == (fstype == "nfs")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a removed directory has a path by /proc alone")
def test_case_c16_what_a_nullfs_shows_was_removed_and_made_anew(tmp_path: Path) -> None:
    """FreeBSD's table tells nothing of it; shown read-only it would pass for a directory that may be empty."""
    directory, file = tmp_path / "directory", tmp_path / "file"
    directory.mkdir()
    file.touch()
    held = [os.open(path, os.O_RDONLY) for path in (directory, file)]
    shown, shown_file = (f"/proc/self/fd/{number}" for number in held)
    assert probe.probe(shown, (), None)[0] == probe.USABLE
    assert not probe.was_removed(shown_file)
    directory.rmdir()
    directory.mkdir()
    file.unlink()
    assert probe.probe(shown, (), None) == (probe.BROKEN, "the directory that it shows was removed", None)
    assert probe.was_removed(shown_file)
    for number in held:
        os.close(number)


@pytest.mark.parametrize("unmounted", [True, False])
def test_a_mount_that_went_away_during_the_look_is_mounted_again(tmp_path: Path, *, unmounted: bool) -> None:
    """The umount of a stop that was killed goes on; what was looked into was the directory below."""
    data = data_of(tmp_path, "nfs", REQUIRE_DATA="etc")
    stub = Stub(mounts=[Entry(data.source, data.point, "nfs")])
    stub.looked[data.point] = ProbeResult(probe.LACKING, "etc")
    if unmounted:
        stub.later = Stub()._table
        assert "nothing is mounted there" in str(done(data.check(stub.host)))
    else:
        with pytest.raises(NotFoundError, match="REQUIRE_DATA asks for"):
            done(data.check(stub.host))
