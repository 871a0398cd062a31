"""The simulated disks: who has what open, what comes and goes with it, and what a mistake costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sim import geom
from sim.disks import new_image
from sim.world import World

KEY = b"a key\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.create(tmp_path / "machine") as world:
        (tmp_path / "key").write_bytes(KEY)
        yield world


@pytest.fixture
def key(tmp_path: Path) -> str:
    return str(tmp_path / "key")


@pytest.fixture
def node(world: World) -> str:
    directory = world.path / "mnt"
    directory.mkdir()
    return str(directory)


def ok(world: World, *argv: str) -> str:
    result = world.command(*argv)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def refused(world: World, *argv: str) -> str:
    result = world.command(*argv)
    assert result.returncode == 1, result
    return result.stderr.strip()


def mode(world: World, name: str) -> tuple[int, int, int]:
    return geom.mode(world.state, name)


def nodes(world: World) -> set[str]:
    return set(world.state["nodes"])


def encrypted(world: World, key: str, name: str = "da0", *switches: str) -> None:
    world.geli_init(name, keys=[KEY])
    ok(world, "geli", "attach", "-p", "-k", key, *switches, name)


# Open counts


def test_modes_of_a_mounted_file_system(world: World, node: str) -> None:
    world.disk("da0", partitions={"p1": "env1"})
    world.newfs("da0p1")
    ok(world, "mount", "-o", "ro", "/dev/gpt/env1", node)
    assert [mode(world, name) for name in ("gpt/env1", "da0p1", "da0")] == [(1, 0, 0), (1, 0, 1), (1, 0, 1)]
    ok(world, "mount", "-u", "-o", "rw", "/dev/gpt/env1", node)
    assert [mode(world, name) for name in ("gpt/env1", "da0p1", "da0")] == [(1, 1, 1), (1, 1, 2), (1, 1, 3)]
    assert geom.users(world.state, "da0") == [("mount", node)]
    ok(world, "umount", node)
    assert mode(world, "da0") == (0, 0, 0)


def test_modes_of_an_encrypted_device(world: World, node: str, key: str) -> None:
    world.disk("da0")
    encrypted(world, key)
    assert (mode(world, "da0"), mode(world, "da0.eli")) == ((1, 1, 1), (0, 0, 0))
    world.newfs("da0.eli")
    ok(world, "mount", "/dev/da0.eli", node)
    assert (mode(world, "da0"), mode(world, "da0.eli")) == ((1, 1, 1), (1, 1, 1))
    assert geom.users(world.state, "da0") == [("eli", "da0.eli")]
    ok(world, "umount", node)
    ok(world, "geli", "detach", "da0")
    ok(world, "geli", "attach", "-p", "-k", key, "-r", "da0")
    assert mode(world, "da0") == (1, 0, 1)


@pytest.mark.parametrize("options", [(), ("-o", "ro")])
def test_one_device_node_is_mounted_once(world: World, node: str, options: tuple[str, ...]) -> None:
    world.disk("da0")
    world.newfs("da0")
    ok(world, "mount", "/dev/da0", node)
    assert refused(world, "mount", *options, "/dev/da0", node) == "mount: /dev/da0: Device busy"


def test_a_writer_keeps_out_those_under_another_name(world: World, node: str) -> None:
    world.disk("da0")
    world.newfs("da0", label="env1")
    ok(world, "mount", "/dev/ufs/env1", node)
    assert refused(world, "mount", "/dev/da0", node) == "mount: /dev/da0: Operation not permitted"
    assert refused(world, "newfs", "/dev/da0") == "newfs: /dev/da0: failed to open disk for writing"
    assert world.command("fsck_ffs", "-p", "/dev/da0").returncode == 8
    assert world.superblock("da0")["label"] == "env1"


def test_a_reader_under_its_own_name_keeps_nobody_out(world: World, node: str) -> None:
    world.disk("da0")
    world.newfs("da0", label="env1")
    ok(world, "mount", "-o", "ro", "/dev/da0", node)
    ok(world, "mount", "/dev/ufs/env1", node)


def test_read_only_devices(world: World, node: str, tmp_path: Path) -> None:
    ok(world, "mdconfig", "-a", "-t", "vnode", "-o", "readonly", "-f", str(new_image(tmp_path / "img", 32 << 20)))
    world.newfs("md0")
    assert refused(world, "mount", "/dev/md0", node) == "mount: /dev/md0: Read-only file system"
    assert world.command("fsck_ffs", "-p", "/dev/md0").returncode == 8
    ok(world, "mount", "-o", "ro", "/dev/md0", node)
    assert refused(world, "mount", "-u", "-o", "rw", "/dev/md0", node) == "mount: /dev/md0: Read-only file system"


def test_fsck_holds_the_device_while_it_works(world: World, node: str) -> None:
    world.set(fsck_seconds=60.0)
    world.disk("da0")
    world.newfs("da0", clean=False, label="env1")
    argv = [str(world.path / "bin/fsck_ffs"), "-p", "/dev/da0"]
    fsck = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env={})
    end = time.monotonic() + 30
    while not world.state["opens"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert mode(world, "da0") == (1, 1, 0)
    assert "ufs/env1" not in nodes(world)
    assert refused(world, "mount", "/dev/da0", node) == "mount: /dev/da0: Operation not permitted"
    fsck.kill()
    fsck.wait()
    assert mode(world, "da0") == (0, 0, 0)
    ok(world, "mount", "/dev/da0", node)
    assert world.superblock("da0")["unclean"]


# Labels


def test_labels_vanish_while_somebody_writes(world: World, node: str) -> None:
    world.disk("da0", ident="S1", partitions={"p1": "env1"})
    world.newfs("da0p1", label="data")
    everything = {"da0", "da0p1", "gpt/env1", "ufs/data", "diskid/DISK-S1"}
    assert nodes(world) == everything
    ok(world, "mount", "/dev/da0p1", node)
    assert nodes(world) == {"da0", "da0p1"}
    assert not (world.path / "dev/gpt").exists()
    ok(world, "umount", node)
    assert nodes(world) == everything
    ok(world, "mount", "/dev/gpt/env1", node)
    assert nodes(world) == {"da0", "da0p1", "gpt/env1"}
    ok(world, "umount", node)
    ok(world, "mount", "-o", "ro", "/dev/da0p1", node)
    assert nodes(world) == everything
    assert (world.path / "dev/gpt/env1").resolve() == Path(world.image("da0p1"))


def test_an_attached_device_takes_the_labels_away(world: World, key: str) -> None:
    world.disk("da0", partitions={"p1": "env1", "p2": "env2"})
    encrypted(world, key, "gpt/env1")
    assert nodes(world) == {"da0", "da0p1", "da0p2", "gpt/env1", "gpt/env1.eli", "gpt/env2"}
    assert ok(world, "glabel", "status", "-s") == "gpt/env1  N/A  da0p1\ngpt/env2  N/A  da0p2\n"
    ok(world, "geli", "detach", "gpt/env1.eli")
    ok(world, "geli", "attach", "-p", "-k", key, "da0p1")
    assert nodes(world) == {"da0", "da0p1", "da0p1.eli", "da0p2", "gpt/env2"}


def test_two_disks_with_one_label(world: World) -> None:
    for name in ("da0", "da1"):
        world.disk(name)
        world.newfs(name, label="env1")
    assert world.state["labels"] == {"ufs/env1": "da0"}
    world.unplug("da0")
    assert world.state["labels"] == {"ufs/env1": "da1"}


# GELI


def test_the_second_attach_is_the_end_of_the_machine(world: World, key: str) -> None:
    world.disk("da0")
    encrypted(world, key)
    assert world.panic == ""
    assert "Cannot access da0 (error=1)." in refused(world, "geli", "attach", "-p", "-k", key, "da0")
    assert world.panic
    result = world.command("mount")
    assert (result.returncode, result.stdout) == (255, "")
    assert result.stderr.startswith("panic: ")


def test_a_refused_attach_harms_nobody_where_nothing_is_attached(world: World, node: str, key: str) -> None:
    world.disk("da0")
    world.geli_init("da0", keys=[KEY])
    world.newfs("da0")
    ok(world, "mount", "/dev/da0", node)
    assert "Cannot access da0 (error=1)." in refused(world, "geli", "attach", "-p", "-k", key, "da0")
    assert world.panic == ""


def test_a_try_of_the_key_touches_nothing(world: World, key: str) -> None:
    world.disk("da0")
    encrypted(world, key)
    ok(world, "geli", "attach", "-C", "-p", "-k", key, "da0")
    wrong = Path(key).with_name("wrong")
    wrong.write_text("wrong")
    assert "Wrong key for da0." in refused(world, "geli", "attach", "-C", "-p", "-k", str(wrong), "da0")
    assert world.panic == ""


def test_keys_and_passphrases_count_in_their_order(world: World, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\nmore\n")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    world.disk("da0")
    world.geli_init("da0", keys=[b"one\nmore\n", b"two\nmore\n"], passphrases=["one", "two"])
    words = ["geli", "attach", "-j", one, "-j", two]
    assert "Wrong key" in refused(world, *words, "-k", two, "-k", one, "da0")
    assert "Wrong key" in refused(world, "geli", "attach", "-p", "-k", one, "-k", two, "da0")
    assert "Inappropriate ioctl for device" in refused(world, "geli", "attach", "-k", one, "-k", two, "da0")
    ok(world, *words, "-k", one, "-k", two, "da0")


def test_what_is_refused_before_a_provider_is_looked_at(world: World, key: str) -> None:
    world.disk("da0")
    for switches, text in (
        (["-p"], "geli: No key components given."),
        (["-p", "-k", key, "-j", key], "geli: Options -j and -p are mutually exclusive."),
        (["-p", "-k", "/nosuch"], "geli: Cannot open keyfile /nosuch: No such file or directory."),
    ):
        assert refused(world, "geli", "attach", *switches, "da0") == text
    world.geli_init("da0", keys=[KEY])
    assert "Missing -p flag." in refused(world, "geli", "attach", "-k", key, "-j", key, "da0")


def test_without_the_module(world: World) -> None:
    assert "Command 'status' not available; try 'load' first." in refused(world, "geli", "status")
    assert refused(world, "geli", "detach", "da0") == 'geli: Class not found: "ELI"'
    ok(world, "kldload", "geom_eli")
    assert ok(world, "geli", "status") == ""


@pytest.mark.parametrize("program", [("newfs", "-U", "/dev/da0.eli"), ("fsck_ffs", "-p", "/dev/da0.eli")])
def test_detach_on_last_close(world: World, key: str, program: tuple[str, ...]) -> None:
    world.disk("da0")
    encrypted(world, key, "da0", "-d")
    world.newfs("da0.eli")
    assert world.state["elis"]["da0.eli"]["on_last_close"]
    ok(world, "fstyp", "/dev/da0.eli")
    assert "da0.eli" in nodes(world)
    ok(world, *program)
    assert "da0.eli" not in nodes(world)
    assert mode(world, "da0") == (0, 0, 0)


def test_detach_later(world: World, node: str, key: str) -> None:
    world.disk("da0")
    encrypted(world, key)
    world.newfs("da0.eli")
    ok(world, "mount", "/dev/da0.eli", node)
    ok(world, "geli", "detach", "-l", "da0")
    assert "da0.eli" in nodes(world)
    ok(world, "umount", node)
    assert "da0.eli" not in nodes(world)


def test_the_inside_may_be_prepared_while_it_is_not_attached(world: World, node: str, key: str) -> None:
    world.disk("da0")
    world.geli_init("da0", keys=[KEY])
    world.newfs("da0.eli", label="secret")
    (world.files("da0.eli") / "file").touch()
    assert ok(world, "fstyp", "-u", "/dev/da0") == "geli\n"
    assert refused(world, "fstyp", "/dev/da0") == "fstyp: /dev/da0: filesystem not recognized"
    ok(world, "geli", "attach", "-p", "-k", key, "da0")
    assert "ufs/secret" in nodes(world)
    ok(world, "mount", "/dev/da0.eli", node)
    assert world.real(f"{node}/file").exists()


# Gone


def test_a_disk_that_is_ripped_out_takes_along_what_is_above_it(world: World, node: str, key: str) -> None:
    image = world.disk("da0")
    encrypted(world, key)
    world.newfs("da0.eli")
    ok(world, "mount", "/dev/da0.eli", node)
    world.unplug("da0")
    assert nodes(world) == set()
    assert world.table() == [("/dev/da0.eli", node, "ufs")]
    see = "import os, sys; sys.path.insert(0, sys.argv[1]); from sim import shim; shim.install(sys.argv[2])\n"
    # What is in memory is shown; what would have to be written is not.
    touch = f"{see}\nos.stat(sys.argv[3])\ntry: os.mkdir(sys.argv[3] + '/new')\nexcept OSError as e: print(e.strerror)"
    argv = [sys.executable, "-c", touch, str(Path(__file__).resolve().parents[1]), str(world.path), node]
    seen = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert seen.stdout == "Device not configured\n"
    world.disk("da0", image=image)
    assert mode(world, "da0") == (0, 0, 0)
    ok(world, "umount", node)
    assert world.table() == []
    assert not world.superblock(f"{image}.eli")["clean"]


# Multipath


def test_multipath_by_its_metadata(world: World, node: str) -> None:
    image = world.disk("da0", lunid="L1")
    world.disk("da1", lunid="L1", image=image)
    ok(world, "gmultipath", "label", "big", "da0", "da1")
    assert nodes(world) == {"da0", "da1", "multipath/big"}
    assert [mode(world, name) for name in ("da0", "da1", "multipath/big")] == [(1, 1, 1), (1, 1, 1), (0, 0, 0)]
    rows = "multipath/big  OPTIMAL  da0 (ACTIVE)\nmultipath/big  OPTIMAL  da1 (PASSIVE)\n"
    assert ok(world, "gmultipath", "status", "-s") == rows
    ok(world, "newfs", "-L", "env1", "/dev/multipath/big")
    assert world.state["labels"] == {"ufs/env1": "multipath/big"}
    ok(world, "mount", "/dev/multipath/big", node)
    assert refused(world, "gmultipath", "stop", "big") == "gmultipath: failed to stop big (err=16)"
    world.unplug("da0")
    assert ok(world, "gmultipath", "status", "-s") == "multipath/big  DEGRADED  da1 (ACTIVE)\n"
    assert world.real(node).is_dir()
    world.disk("da0", image=image)
    assert mode(world, "da0") == (2, 2, 2)
    for name in ("da0", "da1"):
        world.unplug(name)
    assert nodes(world) == set()
    ok(world, "umount", node)


def test_multipath_stop_leaves_the_metadata_and_destroy_does_not(world: World) -> None:
    world.disk("da0")
    ok(world, "kldload", "geom_multipath")
    world.multipath_label("da0", "big")
    world.unplug("da0")
    world.disk("da0", image=world.path / "disks/da0.img")
    assert "multipath/big" in nodes(world)
    ok(world, "gmultipath", "stop", "big")
    assert nodes(world) == {"da0"}
    ok(world, "newfs", "/dev/da0")
    assert "multipath/big" in nodes(world)
    ok(world, "gmultipath", "destroy", "big")
    ok(world, "newfs", "/dev/da0")
    assert nodes(world) == {"da0"}


def test_an_encrypted_multipath_keeps_both_metadata(world: World, key: str) -> None:
    world.disk("da0")
    ok(world, "gmultipath", "label", "big", "da0")
    encrypted(world, key, "multipath/big")
    assert "multipath/big.eli" in nodes(world)
    ok(world, "geli", "detach", "multipath/big.eli")
    assert ok(world, "fstyp", "-u", "/dev/multipath/big") == "geli\n"
    ok(world, "gmultipath", "stop", "big")
    assert world.command("fstyp", "-u", "/dev/da0").returncode == 1


# The file system and its image


def test_two_machines_may_mount_one_image(world: World, node: str, tmp_path: Path) -> None:
    image = world.disk("da0")
    world.newfs("da0")
    with World.create(tmp_path / "other", hostname="node2") as other:
        other.disk("da1", image=image)
        ok(world, "mount", "/dev/da0", node)
        world.real(f"{node}/file").touch()
        there = tmp_path / "there"
        there.mkdir()
        ok(other, "mount", "/dev/da1", str(there))
        assert other.real(there / "file").exists()


def test_the_superblock_is_there_in_bytes(world: World, node: str) -> None:
    image = world.disk("da0")
    world.newfs("da0", label="env1")

    def block() -> tuple[int, int, bytes, bytes]:
        data = image.read_bytes()[65536 : 65536 + 1376]
        magic = int.from_bytes(data[1372:], "little")
        return magic, data[209], data[212:680].rstrip(b"\0"), data[680:712].rstrip(b"\0")

    assert block() == (0x19540119, 1, b"", b"env1")
    ok(world, "mount", "/dev/da0", node)
    assert block() == (0x19540119, 0, node.encode(), b"env1")
    ok(world, "umount", node)
    assert block() == (0x19540119, 1, node.encode(), b"env1")
    world.blank("da0")
    assert block() == (0, 0, b"", b"")


@pytest.mark.parametrize(
    ("superblock", "message"),
    [
        ({"unfinished": True}, "Invalid argument"),
        ({"bad_hash": True}, "Integrity check failed"),
        (
            {"clean": False, "soft_updates": False},
            "R/W mount on {node} denied. Filesystem is not clean - run fsck.: Operation not permitted",
        ),
        (
            {"clean": False, "journal": True},
            "R/W mount on {node} denied. Filesystem is not clean - run fsck."
            " Forced mount will invalidate journal contents: Operation not permitted",
        ),
    ],
)
def test_what_cannot_be_mounted(world: World, node: str, superblock: dict[str, bool], message: str) -> None:
    world.disk("da0")
    world.newfs("da0", **superblock)
    assert refused(world, "mount", "/dev/da0", node) == f"mount: /dev/da0: {message.format(node=node)}"


def test_special_files_that_are_no_disk(world: World, node: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    world.disk("da0")
    assert refused(world, "mount", "da0", node) == "mount: da0: No such file or directory"
    assert refused(world, "mount", f"{tmp_path}/file", node) == f"mount: {tmp_path}/file: Block device required"
    world.foreign("da0", "zfs")
    assert refused(world, "mount", "/dev/da0", node) == "mount: /dev/da0: No such file or directory"
    assert ok(world, "fstyp", "-u", "/dev/da0") == "zfs\n"


def test_fsck_of_what_is_mounted_read_only(world: World, node: str) -> None:
    world.disk("da0")
    world.newfs("da0", clean=False)
    ok(world, "mount", "-o", "ro", "/dev/da0", node)
    assert world.command("fsck_ffs", "-y", "/dev/da0").returncode == 4
    assert world.superblock("da0")["clean"]


# What is told about it


def test_the_mesh_agrees_with_geli(world: World, node: str, key: str, tmp_path: Path) -> None:
    world.disk("da0", ident="S1", lunid="L1", partitions={"p1": "env1"})
    encrypted(world, key, "gpt/env1")
    world.newfs("gpt/env1.eli")
    ok(world, "mount", "/dev/gpt/env1.eli", node)
    ok(world, "mdconfig", "-a", "-t", "vnode", "-f", str(new_image(tmp_path / "a&b", 1 << 20)))
    mesh = ElementTree.fromstring(ok(world, "sysctl", "-n", "kern.geom.confxml"))
    classes = {each.findtext("name"): each for each in mesh.iter("class") if each.get("id")}
    names = {each.get("id"): each.findtext("name") for each in mesh.iter("provider")}
    eli = classes["ELI"].findall("geom")
    status = [
        f"{each.findtext('name')}  {each.findtext('config/State')}  {names[ref.get('ref')]}\n"
        for each in eli
        for ref in each.iter("provider")
        if ref.get("ref")
    ]
    assert "".join(status) == ok(world, "geli", "status", "-s") == "gpt/env1.eli  ACTIVE  gpt/env1\n"
    shown = {each.findtext("name"): each.findtext("mode") for each in mesh.iter("provider") if each.get("id")}
    assert shown == {
        "da0": "r1w1e3",
        "da0p1": "r1w1e2",
        "gpt/env1": "r1w1e1",
        "gpt/env1.eli": "r1w1e1",
        "md0": "r0w0e0",
    }
    assert [each.findtext("name") for each in classes["VFS"].iter("geom") if each.get("id")] == ["ffs.gpt/env1.eli"]
    assert classes["VFS"].findtext("geom/consumer/mode") == "r1w1e1"
    assert classes["DISK"].findtext("geom/provider/config/ident") == "S1"
    assert classes["MD"].findtext("geom/provider/config/file") == str(tmp_path / "a&b")
    assert len(classes["DEV"].findall("geom")) == len(shown)


def test_diskinfo(world: World) -> None:
    world.disk("da0", ident="S1")
    assert ok(world, "diskinfo", "-s", "da0") == "S1\n"
    assert ok(world, "diskinfo", "/dev/da0").split("\t")[:4] == ["/dev/da0", "512", "33554432", "65536"]
    assert refused(world, "diskinfo", "da9") == "diskinfo: da9: No such file or directory"
    assert "   ident: S1\n" in ok(world, "geom", "disk", "list", "da0")


def test_who_the_machine_is(world: World, tmp_path: Path) -> None:
    assert ok(world, "sysctl", "-n", "kern.hostname") == "node1\n"
    uuid = ok(world, "sysctl", "-n", "kern.hostuuid")
    with World.create(tmp_path / "other", hostname="node2") as other:
        assert ok(other, "sysctl", "-n", "kern.hostuuid") != uuid
