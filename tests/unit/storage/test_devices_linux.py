"""Block devices of Linux, out of a recorded sysfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sysfs_tree import Sysfs

from envstart.mounts.table import Entry, Table
from envstart.storage import devices_linux
from envstart.storage.graph import Graph


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "sys")


def graph(sysfs: Sysfs, *mounts: Entry, proc: str = "/nonexistent") -> Graph:
    return devices_linux.graph_of(Table(mounts), str(sysfs), proc)


def users(found: Graph, device: str) -> list[tuple[str, str]]:
    provider = found.provider(device)
    assert provider is not None
    return [(user.geom.kind, user.geom.name) for user in found.users(provider)]


@pytest.mark.parametrize(
    ("serial", "read"), [(b"serial0\0", "serial0"), (b"  disk-1  ", "disk-1"), (b"", ""), (b"caf\xe9", "caf�")]
)
def test_fault_78_the_serial_number(sysfs: Sysfs, serial: bytes, read: str) -> None:
    sysfs.disk("sda", "8:0", serial)
    provider = graph(sysfs).provider("/dev/sda")
    assert provider is not None
    assert (provider.geom.kind, provider.config["ident"]) == ("DISK", read)


def test_who_uses_a_disk(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.disk("sda", "8:0", parts=2)
    sysfs.disk("sdb", "8:16")
    sysfs.disk("sdc", "8:32")
    sysfs.mapping("dm-0", "253:0", "sdb")
    (tmp_path / "swaps").write_text("Filename\tType\tSize\n/dev/sdc partition 1 0 -2\n")
    found = graph(
        sysfs,
        Entry("/dev/sda2", "/mnt", "ext4", device="8:2"),
        Entry("/dev/sda2", "/jail", "ext4", device="8:2", root="/data"),
        Entry("/dev/mapper/x", "/secret", "xfs", device="253:0"),
        proc=str(tmp_path),
    )
    # By way of a partition, of a mapping that lies on it, and for swapping.
    assert users(found, "/dev/sda") == [("ext4", "/mnt, /jail")]
    assert users(found, "/dev/sda1") == []
    assert users(found, "/dev/sdb") == [("dm", "dm-0")]
    assert users(found, "/dev/dm-0") == [("xfs", "/secret")]
    assert users(found, "/dev/sdc") == [("swap", "sdc")]
    assert users(found, "/dev/vda") == []
    assert found.provider("/dev/sdz") is None


def test_a_file_system_that_is_mounted_nowhere_here(sysfs: Sysfs) -> None:
    """It was unmounted while it was in use, or other processes alone see it."""
    sysfs.disk("sda", "8:0")
    (sysfs.top / "fs" / "ext4" / "sda").mkdir(parents=True)
    (sysfs.top / "fs" / "ext4" / "features").mkdir()
    assert users(graph(sysfs), "/dev/sda") == [("ext4", "a file system that is mounted nowhere here")]
    mounted = Entry("/dev/sda", "/mnt", "ext4", device="8:0")
    assert users(graph(sysfs, mounted), "/dev/sda") == [("ext4", "/mnt")]


def test_what_blocks_a_partition(sysfs: Sysfs) -> None:
    sysfs.disk("sda", "8:0", parts=1)
    found = graph(sysfs, Entry("/dev/sda", "/mnt", "ext4", device="8:0"))
    part = found.provider("/dev/sda1")
    assert part is not None
    assert [user.geom.name for user in found.blocking(part)] == ["/mnt"]


def test_a_device_by_a_link(sysfs: Sysfs, tmp_path: Path) -> None:
    sysfs.disk("sda", "8:0")
    (tmp_path / "by-id").symlink_to("/dev/sda")
    provider = graph(sysfs).provider(str(tmp_path / "by-id"))
    assert provider is not None
    assert provider.name == "sda"


def test_processes_that_have_a_device_open(tmp_path: Path) -> None:
    device = str(tmp_path / "sda")
    Path(device).touch()
    child = os.fork()
    if not child:
        os.open(device, os.O_RDONLY)
        os.kill(os.getpid(), 19)
        os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        assert devices_linux.openers([device]) == [(child, False)]
        assert devices_linux.openers([f"{device}1"]) == []
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
