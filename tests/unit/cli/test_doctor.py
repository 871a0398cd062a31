"""What the doctor reads, without a host: Pythons, pkg.conf, answers of servers, programs of backends."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from doctor_site import ROOT
from stubs import planned

from envstart.cli.doctor import hooks, machine
from envstart.cli.doctor.finding import Finding, text
from envstart.errors import reason
from envstart.lifecycle import pkg_locking
from envstart.system import network


def looked_for(top: Path, directory: str) -> list[str]:
    """Where a hook in this directory below ``top`` looks for a Python."""
    own = top / directory / "run-hook"
    script = (
        (own if own.exists() else ROOT / "hooks" / "run-hook")
        .read_text()
        .replace('[ -x "$python" ] && exec', 'echo "$python"; :')
    )
    hook = str(top / directory / "x")
    ended = subprocess.run(["sh", "-c", script], env={"hook": hook}, capture_output=True, text=True)
    return [os.path.normpath(path) for path in ended.stdout.splitlines()]


@pytest.mark.parametrize("own", ["$root/.venv/bin/python", "/opt/x/bin/python3.12"])
def test_case_c9_pythons_are_looked_for_as_the_hooks_do(tmp_path: Path, own: str) -> None:
    """Also where `make install PYTHON=...` has named one."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "envstart").mkdir()
    text = (ROOT / "hooks" / "run-hook").read_text()
    (tmp_path / "hooks" / "run-hook").write_text(re.sub("(?m)^own=.*", f"own={own}", text, count=1))
    assert looked_for(tmp_path, "hooks") == hooks.pythons(str(tmp_path))


@pytest.mark.parametrize(
    ("first", "python"),
    [("#!/some where/bin/python3.11", "/some where/bin/python3.11"), ("#!/bin/sh", "{}/python3"), ("", "{}/python3")],
)
def test_pythons_are_looked_for_as_the_hooks_of_pip_do(tmp_path: Path, first: str, python: str) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    # A path that is too long for the first line comes in the second.
    (directory / "envstart").write_text(first + '\n\'\'\'exec\' "/long/python" "$0" "$@"\n')
    assert looked_for(tmp_path, "bin") == [python.format(directory)] == [hooks.python_of_pip(str(directory))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NFS_WITH_PROPER_LOCKING = true;", True),
        ("NFS_WITH_PROPER_LOCKING: yes", True),
        ('"NFS_WITH_PROPER_LOCKING" = "on";', True),
        ("NFS_WITH_PROPER_LOCKING true", True),
        ("A = 1; NFS_WITH_PROPER_LOCKING=true", True),
        ("NFS_WITH_PROPER_LOCKING = false;", False),
        ("# NFS_WITH_PROPER_LOCKING = true;", False),
        ("NFS_WITH_PROPER_LOCKING = true;\nNFS_WITH_PROPER_LOCKING = false;", False),
        ("NFS_WITH_PROPER_LOCKING", False),
        ("PKG_DBDIR = /var/db/pkg;", False),
        ("", False),
    ],
)
def test_pkg_conf(text: str, *, expected: bool) -> None:
    assert pkg_locking.has_locking(text) is expected


def test_what_several_share_is_told_once() -> None:
    shared = [Finding("warning", name, "it is slow", "make it faster") for name in ("jail1", "jail2")]
    alone = Finding("note", "host", "it is there", "")
    assert text([*shared, alone]) == "WARNING: jail1, jail2: it is slow\n    make it faster\nNOTE: host: it is there\n"
    assert text([]) == ""


def served(reply: bytes, version: int = 4) -> tuple[str, bytes]:
    """Return what null_call() makes of an answer, and what the server was asked, over a real connection."""
    asked = b""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            nonlocal asked
            connection, _ = server.accept()
            with connection:
                asked = connection.recv(4096)
                # In pieces, as a network may.
                for at in range(0, len(reply), 7):
                    connection.sendall(reply[at : at + 7])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            answer = network.null_call("127.0.0.1", server.getsockname()[1], version, [network.INET], 10)
        except OSError as error:
            answer = reason(error)
        thread.join()
    return answer, asked


def reply_of(*words: int) -> bytes:
    """Return a record of one fragment (RFC 5531, 11)."""
    return struct.pack(f">{len(words) + 1}I", 0x80000000 | 4 * len(words), *words)


XID = 0x656E7673


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (reply_of(XID, 1, 0, 0, 0, 0), ""),
        (reply_of(XID, 1, 0, 1, 8, 7, 7, 0), ""),
        (reply_of(XID, 1, 0, 0, 0, 2, 3, 3), "it speaks versions 3 to 3"),
        (reply_of(XID, 1, 0, 0, 0, 1), "it has no NFS"),
        (reply_of(XID, 1, 1, 1, 5), "it refuses to be asked without credentials"),
        (reply_of(XID + 1, 1, 0, 0, 0, 0), "something answers there that is no NFS server"),
        (reply_of(XID, 1, 0, 0, 0, 5), "something answers there that is no NFS server"),
        (reply_of(XID, 1, 0, 0, 4096), "something answers there that is no NFS server"),
        (reply_of(), "something answers there that is no NFS server"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it closes the connection without an answer"),
        (b"", "it closes the connection without an answer"),
    ],
)
def test_a_null_call(reply: bytes, answer: str) -> None:
    said, asked = served(reply)
    assert said == answer
    # Call, RPC version 2, NFS, version 4, procedure 0, no credentials, no verifier: 40 bytes.
    assert asked == reply_of(XID, 0, 2, 100003, 4, 0, 0, 0, 0, 0)


def test_a_connection_is_refused_or_taken_for_real() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.connect("127.0.0.1", port, 5) == ""
        # Not over IPv4, if that is not allowed.
        with pytest.raises(OSError, match="no address"):
            network.null_call("127.0.0.1", port, 4, [network.INET6], 5)
    with pytest.raises(ConnectionRefusedError):
        network.connect("127.0.0.1", port, 5)


def test_an_address_is_its_own_name() -> None:
    assert network.resolve("127.0.0.1") == ("", [network.INET])
    assert network.resolve("[::1]") == ("", [network.INET6])


@pytest.mark.parametrize(
    ("backend", "keys", "linux"),
    [
        ("nfs", {"NFS_SERVER": "nas"}, True),
        ("gluster", {"GLUSTER_SERVER": "nas", "GLUSTER_VOLUME": "v"}, True),
        ("ceph", {"CEPH_USER": "a", "CEPH_CLIENT": "fuse"}, True),
        ("ceph", {"CEPH_USER": "a", "CEPH_CLIENT": "kernel"}, True),
        ("rbd", {"CEPH_USER": "a", "RBD_IMAGE": "a/b", "VOLUME_FSTYPE": "ext4"}, True),
        ("rbd", {"CEPH_USER": "a", "RBD_IMAGE": "a/b"}, False),
        ("iscsi", {"ISCSI_PORTAL": "nas", "ISCSI_TARGET": "iqn.2024-01.a:b"}, False),
        ("geli", {"GELI_PROVIDER": "/dev/gpt/a", "GELI_KEYFILE": "/k"}, False),
        ("hast", {"HAST_RESOURCE": "a"}, False),
        ("nullfs", {"NULLFS_ROOT_DIR": "/a", "ZFS_CLONE": "pool/a"}, False),
    ],
)
def test_programs_of_all_backends_are_looked_for(
    backend: str, keys: dict[str, str], *, linux: bool, tmp_path: Path
) -> None:
    fstypes = {step.fstype for step in planned(tmp_path, backend, **keys).steps}
    # A look at a device, and a mark in a volume, need no other program than the mount.
    fstypes -= {"fsck", "mark", "provider"}
    assert fstypes <= set(machine._PROGRAMS["linux" if linux else "freebsd"])
