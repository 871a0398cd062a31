"""Command lines of both systems, and what the words of a command mean."""

from __future__ import annotations

import os

import pytest

from envstart.mounts import commands
from envstart.steps import diagnosis
from envstart.system.command import Result

SAMPLE = ("rw", "vers=4", "intr", "rsize=32768", "hard", "proto=tcp", "timeout=300")


def test_nfs_on_freebsd() -> None:
    argv = commands.mount("freebsd", "nfs", ("rw", "nfsv4"), "nas:/x", "/mnt")
    assert " ".join(argv) == "mount_nfs -o rw -o nfsv4 -o retrycnt=1 -o nocover nas:/x /mnt"


def test_nfs_on_freebsd_of_a_path_with_a_colon() -> None:
    """mount_nfs(8) splits at the last one, unless the host is in brackets."""
    for source, given in (("nas:/x/a:b", "[nas]:/x/a:b"), ("[::1]:/x/a:b", "[::1]:/x/a:b"), ("[::1]:/x", "[::1]:/x")):
        assert commands.mount("freebsd", "nfs", ("rw",), source, "/mnt")[-2] == given
    assert "nas:/x/a:b" in commands.mount("linux", "nfs", ("rw",), "nas:/x/a:b", "/mnt")


def test_nullfs_on_freebsd_has_each_option_by_itself() -> None:
    argv = commands.mount("freebsd", "nullfs", ("ro", "nosuid"), "/base", "/jail")
    assert " ".join(argv) == "mount_nullfs -o ro -o nosuid -o nocover /base /jail"


def test_nfs_on_linux_in_its_own_spelling() -> None:
    argv = commands.mount("linux", "nfs", SAMPLE, "nas:/x", "/mnt")
    options = "-o rw -o vers=4 -o rsize=32768 -o hard -o proto=tcp -o timeo=300 -o retry=0"
    assert " ".join(argv) == f"mount.nfs nas:/x /mnt {options}"
    assert "vers=3" in commands.mount("linux", "nfs", ("nfsv3",), "nas:/x", "/mnt")


def test_bind_mount_on_linux() -> None:
    argv = commands.mount("linux", "nullfs", ("ro",), "/base", "/jail")
    assert " ".join(argv) == "mount --bind -o ro /base /jail"


def test_unmounting() -> None:
    assert commands.unmount("freebsd", "nfs", "/mnt") == ("umount", "-n", "/mnt")
    assert commands.unmount("freebsd", "ufs", "/mnt") == ("umount", "/mnt")
    assert commands.force_unmount("freebsd", "/mnt") == ("umount", "-f", "/mnt")
    assert commands.unmount_unresponsive("freebsd", "nfs", "/mnt") == ("umount", "-N", "/mnt")
    assert commands.unmount_unresponsive("freebsd", "nullfs", "/mnt") == ("umount", "-f", "/mnt")
    assert "--no-canonicalize" in commands.unmount("linux", "nfs", "/mnt")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        # docs/freebsd.md#nfs-messages, tests/transcripts/nfs.txt and nfs-dead-server.txt
        ("[tcp] nas:/x: nfsd: RPCPROG_NFS: RPC: Remote system error - Connection refused", os.EX_TEMPFAIL),
        ("[tcp] nas:/x: nfsd: RPCPROG_NFS: RPC: Remote system error - Host is down", os.EX_TEMPFAIL),
        ("[tcp] nas:/x: RPCPROG_NFS: RPC: Program not registered", os.EX_TEMPFAIL),
        ("[tcp] nas:/x: NFSPROC_NULL: RPC: Timed out", os.EX_TEMPFAIL),
        ("mount_nfs: nmount: /mnt, in grace period", os.EX_TEMPFAIL),
        ("mount_nfs: nmount: /mnt: Device busy", os.EX_TEMPFAIL),
        ("mount_nfs: nas: Name could not be resolved at this time", os.EX_TEMPFAIL),
        ("[tcp] nas:/x: Permission denied", os.EX_NOPERM),
        ("mount_nfs: nmount: /mnt: Operation not permitted", os.EX_NOPERM),
        ("mount_nfs: nmount: /mnt, wrong security flavor", os.EX_NOPERM),
        ("[tcp] nas:/x: No such file or directory", os.EX_NOINPUT),
        ("mount_nullfs: /base: must be same type as /mnt (file or directory)", os.EX_NOINPUT),
        ("mount_nfs: nmount: /mnt, mount option <x> is unknown: Invalid argument", os.EX_CONFIG),
        ("mount_nfs: illegal nfs version value -- 9", os.EX_CONFIG),
        ("[tcp] nas:/x: NFSPROC_NULL: RPC: Program/version mismatch; low version = 3, high version = 4", os.EX_CONFIG),
        ("mount: x: Invalid fstype: Invalid argument", os.EX_UNAVAILABLE),
        ("mount_nfs: nas:2049: Name does not resolve", 1),
        ("something that nobody has seen", 1),
        # mount.nfs(8) and mount(8) of Linux
        ("mount.nfs: Connection timed out for nas:/x on /mnt", os.EX_TEMPFAIL),
        ("mount.nfs: access denied by server while mounting nas:/x", os.EX_NOPERM),
        ("mount.nfs: mounting nas:/x failed, reason given by server: No such file or directory", os.EX_NOINPUT),
        ("mount.nfs: an incorrect mount option was specified for /mnt", os.EX_CONFIG),
        ("mount: /mnt: special device /base does not exist.", os.EX_NOINPUT),
    ],
)
def test_what_the_words_of_a_mount_command_mean(monkeypatch: pytest.MonkeyPatch, words: str, status: int) -> None:
    monkeypatch.setattr(diagnosis, "BOOTING", 0.0)
    error = diagnosis.of_mount(Result(1, "", words + "\n", 0.1, alive=False), "mount nas:/x on /mnt")
    assert error.status == status
    assert str(error).startswith(f"cannot mount nas:/x on /mnt: {words}; ")
    assert "\n" not in str(error)


def test_no_answer_can_heal() -> None:
    error = diagnosis.of_mount(Result(None, "", "", 10.0, alive=False), "mount nas:/x on /mnt")
    assert error.status == os.EX_TEMPFAIL
    assert "no answer in 10.0 s" in str(error)
