"""The simulated commands refuse what the real ones refuse, and answer as the transcripts and sources say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sim.world import World

HOST = "files.example.com"
SOURCE = f"{HOST}:/nfs/data"
OPTIONS = ("-o", "nfsv4,retrycnt=1")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.create(tmp_path / "machine", connect_seconds=0.5, retry_seconds=0.2) as world:
        world.export(HOST, "/nfs/data")
        yield world


@pytest.fixture
def node(world: World) -> str:
    directory = world.path / "mnt"
    directory.mkdir()
    return str(directory)


def popen(world: World, *argv: str) -> subprocess.Popen[str]:
    """Begin a command that is expected to block."""
    return subprocess.Popen(
        [str(world.path / "bin" / argv[0]), *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"LC_ALL": "C"},
    )


def blocks(process: subprocess.Popen[str], seconds: float = 0.4) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def until_stuck(world: World, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 10
    while str(process.pid) not in world.state["stuck"]:
        assert time.monotonic() < end, "it does not block"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("mount", "-q"), 1, "mount: illegal option -- q\nusage: mount"),
        (("mount", "-t", "nfs", "-t", "ufs"), 1, "mount: only one -t option may be specified"),
        (("mount", "a", "b", "c"), 1, "usage: mount"),
        (("mount", "/dev/da0"), 1, "mount: /dev/da0: unknown special file or file system"),
        (("mount", "-u", "/nosuch"), 1, "mount: not currently mounted /nosuch"),
        (("mount_nfs", "-4", SOURCE, "/"), 1, "mount_nfs: illegal option -- 4\nusage: mount_nfs"),
        (("mount_nfs", "-o"), 1, "mount_nfs: option requires an argument -- o"),
        (("mount_nfs", "-o", "vers=4.1", SOURCE, "/"), 1, "mount_nfs: illegal vers value -- 4.1"),
        (("mount_nfs", "-o", "proto=rdma", SOURCE, "/"), 1, "mount_nfs: illegal proto value -- rdma"),
        (("mount_nfs", "-o", "sec=none", SOURCE, "/"), 1, "mount_nfs: illegal sec value -- none"),
        (("mount_nfs", "-o", "retrycnt=x", SOURCE, "/"), 1, "mount_nfs: illegal retrycnt value -- x"),
        (("mount_nfs", "nosuch.invalid:/x", "/"), 1, "mount_nfs: nosuch.invalid: Name does not resolve"),
        (("mount_nullfs", "/"), 1, "usage: mount_nullfs"),
        (("umount",), 1, "usage: umount"),
        (("umount", "-q", "/"), 1, "umount: illegal option -- q\nusage: umount"),
        (("umount", "-f", "-n", "/"), 1, "umount: -f and -n are mutually exclusive"),
        (("umount", "/"), 1, "umount: unmount of / failed: Invalid argument"),
        (("fuser", "-c"), 64, "usage: fuser"),
        (("fuser", "-c", "/nosuch"), 74, "fuser: files not accessible"),
        (("jls", "-j", "nosuch", "jid"), 1, 'jls: jail "nosuch" not found'),
        (("df", "/nosuch"), 1, "df: /nosuch: No such file or directory"),
        (("showmount", "-e", "nosuch.invalid"), 1, "showmount: can't do exports rpc"),
        (("mdconfig", "-d", "-u", "md7"), 1, "mdconfig: ioctl(/dev/mdctl): No such file or directory"),
        (("kldload", "nosuch"), 1, "kldload: can't load nosuch: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refusals(world: World, argv: tuple[str, ...], status: int, words: str) -> None:
    ended = world.command(*argv)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert words in ended.stderr
    assert world.table() == []


@pytest.mark.parametrize(
    "word", ["nfsvers=4", "nolock", "sync", "nodev", "_netdev", "defaults", "cto", "retry=1", "noauto"]
)
def test_nfs_refuses_foreign_options(world: World, node: str, word: str) -> None:
    ended = world.command("mount_nfs", "-o", f"nfsv4,{word}", SOURCE, node)
    name = word.partition("=")[0]
    assert ended.returncode == 1
    assert ended.stderr == f"mount_nfs: nmount: {node}, mount option <{name}> is unknown: Invalid argument\n"


@pytest.mark.parametrize("word", ["nocto", "nointr", "noatime", "exec", "rw", "nocover", "rsize=4096", "noresvport"])
def test_nfs_takes_its_own_options(world: World, node: str, word: str) -> None:
    assert world.command("mount_nfs", "-o", f"nfsv4,{word}", SOURCE, node).returncode == 0


def test_mount_swallows_what_is_for_itself(world: World, node: str) -> None:
    assert world.command("mount", "-t", "nfs", "-o", "nfsv4,noauto,late", SOURCE, node).returncode == 0
    assert [call["name"] for call in world.calls()] == ["mount", "mount_nfs"]


def test_nullfs_ignores_unknown_options_and_takes_a_list_for_one(world: World, node: str) -> None:
    source = str(world.path / "root")
    assert world.command("mount_nullfs", "-o", "ro,nosuid", source, node).returncode == 0
    assert world.mounts()[-1]["flags"] == ["local"]
    world.command("umount", node)
    assert world.command("mount_nullfs", "-o", "ro", "-o", "nosuch", source, node).returncode == 0
    assert world.mounts()[-1]["flags"] == ["ro", "local"]


def test_nullfs_of_a_missing_directory_is_a_usage_error(world: World, node: str) -> None:
    ended = world.command("mount_nullfs", "/no/such", node)
    assert (ended.returncode, ended.stderr) == (64, "mount_nullfs: /no: No such file or directory\n")


def test_only_root_mounts(world: World, node: str) -> None:
    world.set(uid=1001)
    ended = world.command("mount_nfs", *OPTIONS, SOURCE, node)
    assert ended.stderr == f"mount_nfs: nmount: {node}: Operation not permitted\n"


def test_umount_takes_a_source_for_a_name(world: World, node: str) -> None:
    source = str(world.path / "root")
    world.command("mount_nullfs", source, node)
    assert world.command("umount", source).returncode == 0
    assert world.table() == []


def test_umount_by_fsid_takes_one_layer_of_a_stack(world: World, node: str) -> None:
    world.mount(SOURCE, node)
    world.mount("tmpfs", node, "tmpfs")
    lower, upper = world.mounts()
    busy = world.command("umount", lower["fsid"])
    assert busy.stderr == f"umount: unmount of {node} failed: Device busy\n"
    assert world.command("umount", upper["fsid"]).returncode == 0
    assert world.table() == [(SOURCE, node, "nfs")]


def test_umount_of_another_type_fails_in_silence(world: World, node: str) -> None:
    world.mount(SOURCE, node)
    ended = world.command("umount", "-t", "nullfs", node)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_what_keeps_a_file_system(world: World, node: str) -> None:
    """Users keep it from a plain umount; a nullfs on top of it keeps it from a forced one too."""
    world.mount(SOURCE, node)
    other = world.path / "other"
    other.mkdir()
    with world.holder(node) as process:
        assert "Device busy" in world.command("umount", node).stderr
        assert world.command("fuser", "-c", node).stdout.split() == [str(process.pid)]
    process.wait()
    assert world.command("fuser", "-c", node).stdout == ""
    world.mount(node, other, "nullfs")
    assert "Device busy" in world.command("umount", "-f", node).stderr
    assert world.command("umount", str(other)).returncode == 0
    assert world.command("umount", node).returncode == 0


def test_a_mount_below_keeps_its_parent(world: World, node: str) -> None:
    below = world.export(HOST, "/nfs/data/below")
    world.mount(SOURCE, node)
    world.mount("tmpfs", f"{node}/below", "tmpfs")
    assert below.is_dir()
    assert "Device busy" in world.command("umount", node).stderr


def test_versions_and_states_of_a_server(world: World, node: str) -> None:
    world.server(HOST, versions=[4])
    third = world.command("mount_nfs", "-o", "nfsv3,retrycnt=1", SOURCE, node)
    assert third.stderr == f"[tcp] {SOURCE}: RPCPROG_NFS: RPC: Program not registered\n"
    world.server(HOST, versions=[2, 3])
    assert "Program/version mismatch" in world.command("mount_nfs", *OPTIONS, SOURCE, node).stderr
    world.refuse(HOST)
    probe = world.command("rpcinfo", "-n", "2049", "-t", HOST, "nfs", "4")
    assert (probe.returncode, probe.stdout) == (1, "program 100003 version 4 is not available\n")
    assert world.table() == []


def test_a_silent_server_costs_the_connection_timeout(world: World, node: str) -> None:
    world.freeze(HOST)
    began = time.monotonic()
    ended = world.command("mount_nfs", *OPTIONS, SOURCE, node)
    assert time.monotonic() - began >= 0.5
    assert ended.stderr == f"[tcp] {SOURCE}: nfsd: RPCPROG_NFS: RPC: Remote system error - Operation timed out\n"


def test_without_retrycnt_it_tries_for_ever(world: World, node: str) -> None:
    world.refuse(HOST)
    process = popen(world, "mount_nfs", "-o", "nfsv4", SOURCE, node)
    assert blocks(process, 0.6)
    world.up(HOST)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors.count("Connection refused") >= 2
    assert world.table() == [(SOURCE, node, "nfs")]


def test_killing_mount_leaves_its_helper_which_mounts_later(world: World, node: str) -> None:
    world.refuse(HOST)
    with popen(world, "mount", "-t", "nfs", "-o", "nfsv4", SOURCE, node) as process:
        while not world.calls("mount_nfs"):
            time.sleep(0.01)
        process.kill()
    world.up(HOST)
    end = time.monotonic() + 10
    while not world.table():
        assert time.monotonic() < end
        time.sleep(0.02)


BLOCKING = ["umount {}", "umount -f {}", "df {}", "mount -p", "mount -v", f"mount_nfs {SOURCE} {{}}"]
ANSWERING = ["mount", "mount --libxo json", "df -n", "nfsstat -m"]


@pytest.mark.parametrize("line", BLOCKING)
def test_what_blocks_on_a_dead_mount_and_is_not_ended_by_term(world: World, node: str, line: str) -> None:
    world.mount(SOURCE, node)
    world.freeze(HOST)
    with popen(world, *line.format(node).split()) as process:
        until_stuck(world, process)
        process.terminate()
        assert blocks(process)
        world.thaw(HOST)
        assert process.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("line", ANSWERING)
def test_what_answers_with_a_dead_mount(world: World, node: str, line: str) -> None:
    world.mount(SOURCE, node)
    world.freeze(HOST)
    ended = world.command(*line.split(), timeout=10)
    assert ended.returncode == 0
    assert node in ended.stdout


def test_dismount_goes_where_force_does_not(world: World, node: str) -> None:
    world.mount(SOURCE, node)
    world.freeze(HOST)
    with popen(world, "umount", node) as process:
        until_stuck(world, process)
        assert world.command("umount", "-N", node).returncode == 0
        assert process.wait(10) == 0
    assert world.table() == []


def test_dismount_comes_too_late_after_force(world: World, node: str) -> None:
    world.mount(SOURCE, node)
    world.freeze(HOST)
    with popen(world, "umount", "-f", node) as forced:
        until_stuck(world, forced)
        with popen(world, "umount", "-N", node) as late:
            until_stuck(world, late)
            world.thaw(HOST)
            _, errors = late.communicate(timeout=10)
            assert errors == f"umount: {node}: Invalid argument\n"
        assert forced.wait(10) == 0
    assert world.table() == []


def test_a_stale_mount_can_be_unmounted_and_no_more(world: World, node: str) -> None:
    world.mount(SOURCE, node)
    world.stale(node)
    assert world.command("df", node).stderr == f"df: {node}: Stale NFS file handle\n"
    assert node not in world.command("mount", "-p").stdout
    assert world.command("umount", node).returncode == 0


def test_listings(world: World, node: str) -> None:
    world.command("mount_nfs", "-o", "nfsv4,ro,noatime", SOURCE, node)
    plain = world.command("mount", "-t", "nfs").stdout
    assert plain == f"{SOURCE} on {node} (nfs, noatime, read-only)\n"
    listed = json.loads(world.command("mount", "--libxo", "json").stdout)["mount"]["mounted"]
    assert listed[-1] == {"special": SOURCE, "node": node, "fstype": "nfs", "opts": ["noatime", "read-only"]}
    assert [entry["node"] for entry in listed[:-1]] == ["/", "/dev"]
    assert "fsid" in json.loads(world.command("mount", "-v", "--libxo", "json").stdout)["mount"]["mounted"][0]


def test_jails_and_modules(world: World) -> None:
    world.jail("web", 7)
    assert world.command("jls", "-j", "web", "jid").stdout == "7\n"
    assert world.command("kldstat", "-q", "-m", "nullfs").returncode == 1
    assert world.command("kldload", "-n", "nullfs").returncode == 0
    assert world.command("kldstat", "-q", "-m", "nullfs").returncode == 0


def test_disks(world: World, node: str) -> None:
    world.disk("da0")
    assert "No such file" in world.command("mount", "/dev/da0", node).stderr
    world.newfs("da0", clean=False, soft_updates=False)
    refused = world.command("mount", "-t", "ufs", "/dev/da0", node)
    reason = f"R/W mount on {node} denied. Filesystem is not clean - run fsck.: Operation not permitted"
    assert refused.stderr == f"mount: /dev/da0: {reason}\n"
    assert world.command("fsck", "-t", "ufs", "-p", "/dev/da0").returncode == 0
    assert world.command("mount", "-t", "ufs", "/dev/da0", node).returncode == 0
    assert world.command("fstyp", "/dev/da0").stdout == "ufs\n"


def test_many_commands_at_once_lose_nothing(world: World) -> None:
    nodes = [world.path / f"n{number}" for number in range(16)]
    for directory in nodes:
        directory.mkdir()
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda directory: world.command("mount_nfs", *OPTIONS, SOURCE, str(directory)), nodes))
    assert [one.returncode for one in ended] == [0] * 16
    assert {row[1] for row in world.table()} == {str(directory) for directory in nodes}
    assert len({mount["fsid"] for mount in world.mounts()}) == 16
    assert sorted(call["number"] for call in world.calls()) == list(range(1, 17))


def test_calls_are_logged(world: World, tmp_path: Path) -> None:
    subprocess.run([str(world.path / "bin/mount")], env={"A": "1"}, cwd=tmp_path, stdin=subprocess.DEVNULL, check=True)
    subprocess.run([str(world.path / "bin/mount"), "-p"], env={}, stdin=subprocess.PIPE, check=True)
    first, second = world.calls("mount")
    assert (first["argv"], first["environment"]["A"], first["stdin_is_null"]) == (["mount"], "1", True)
    assert first["cwd"] == os.path.realpath(tmp_path)
    assert (second["argv"], second["stdin_is_null"]) == (["mount", "-p"], False)


def test_the_end_of_the_world_ends_what_hangs_in_it(tmp_path: Path) -> None:
    world = World.create(tmp_path / "machine")
    world.fault("mount", "hang", times=None)
    with popen(world, "mount") as process:
        end = time.monotonic() + 30
        while not world.calls("mount"):
            assert time.monotonic() < end, "it does not begin"
        assert blocks(process)
        world.close()
        assert process.wait(30) == 99


def test_commands_start_without_slow_modules(world: World) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})"
    code += "; import sim.mount, sim.nfs, sim.umount, sim.faults"
    code += "; print([name for name in ('typing', 'dataclasses', 'subprocess', 'pathlib') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
