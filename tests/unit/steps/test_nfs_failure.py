"""Addresses that mount_nfs(8) may use, and words of it that blame no server."""

from __future__ import annotations

import pytest

from envstart.mounts import commands
from envstart.steps import diagnosis, nfs_failure
from envstart.system.command import Result


def test_case_c11_linux_has_the_same_option() -> None:
    """nfs(5): proto=tcp is IPv4 there too, and tcp any."""
    argv = commands.mount("linux", "nfs", ("rw", "tcp"), "nas6:/x", "/y")
    assert argv == ("mount.nfs", "nas6:/x", "/y", "-o", "rw", "-o", "tcp", "-o", "retry=0")


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (("tcp",), ("IPv4", "IPv6")),
        (("proto=tcp", "noinet6"), ("IPv4",)),
        (("proto=tcp6",), ("IPv6",)),
        (("noinet4", "noinet6"), ()),
    ],
)
def test_case_c11_kinds_of_address(options: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    assert nfs_failure.kinds(options) == kinds
    assert bool(nfs_failure.excluding(options, ["IPv6"])) == ("IPv6" not in kinds)


@pytest.mark.parametrize(
    "text", ["Permission denied", "Operation not permitted", "No such file or directory", "Input/output error"]
)
def test_case_c12_what_lies_on_this_host_is_not_a_servers(text: str) -> None:
    """The same words of mount_nullfs(8): no server is to export it, and who starts it is root."""
    local = str(diagnosis.of_mount(Result(1, "", f"mount_nullfs: /x: {text}\n", 0.1, alive=False), "mount /x on /y"))
    assert f"mount_nullfs: /x: {text}; " in local
    assert not any(word in local for word in ("server", "as root", "export"))
