"""A process of the simulated machine sees its file systems through the ordinary functions of Python."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.world import World

HOST = "files.example.com"
PRELUDE = """
import ctypes, io, os, pathlib, shutil, sys
sys.path.insert(0, {tests!r})
from sim import fakes, shim
fakes.install_psutil({state!r})
fakes.install_c_library({state!r})
shim.install({state!r})
D = {top!r}
def error(function, *args):
    try:
        function(*args)
    except OSError as problem:
        return type(problem).__name__, problem.errno, problem.filename
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.create(tmp_path / "machine") as world:
        backing = world.export(HOST, "/nfs/data")
        (backing / "file").write_text("content")
        (backing / "sub").mkdir()
        for name in ("data", "empty", "ro", "thin"):
            (world.path / "top" / name).mkdir(parents=True)
        (world.path / "top/data/covered").write_text("")
        (world.path / "top/link").symlink_to("data")
        world.mount(f"{HOST}:/nfs/data", world.path / "top/data")
        world.mount(f"{HOST}:/etc", world.path / "top/empty")
        world.mount(f"{HOST}:/nfs/data", world.path / "top/ro", opts=["ro"])
        yield world


def prelude(world: World) -> str:
    return PRELUDE.format(
        tests=str(Path(__file__).resolve().parents[1]), state=str(world.path), top=str(world.path / "top")
    )


def inside(world: World, expression: str) -> str:
    """Return the repr of EXPRESSION in a process of the machine, where D is the directory of the mounts."""
    argv = [sys.executable, "-I", "-c", f"{prelude(world)}\nprint(repr(({expression})).replace(D, 'D'))"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sorted(os.listdir(D + '/data'))", "['file', 'sub']"),
        ("sorted(entry.name for entry in os.scandir(D + '/link'))", "['file', 'sub']"),
        ("sorted(os.listdir(os.fsencode(D + '/data')))", "[b'file', b'sub']"),
        ("open(D + '/link/file').read()", "'content'"),
        ("pathlib.Path(D, 'data/file').read_text()", "'content'"),
        ("os.path.exists(D + '/data/covered')", "False"),
        ("os.path.realpath(D + '/link/file')", "'D/data/file'"),
        ("os.path.ismount(D + '/data'), os.path.ismount(D)", "(True, False)"),
        ("os.path.samefile(D + '/data/sub/..', D + '/data')", "True"),
        ("os.listdir(D + '/empty')", "[]"),
        ("sys.platform, os.getuid(), os.geteuid()", "('freebsd14', 0, 0)"),
        ("error(os.rmdir, D + '/data')[1]", "16"),
        ("error(os.rename, D + '/data', D + '/x')[1]", "16"),
        ("error(open, D + '/empty/x', 'w')", "('OSError', 5, 'D/empty/x')"),
        ("error(os.mkdir, D + '/empty/x')", "('OSError', 5, 'D/empty/x')"),
        ("error(open, D + '/ro/x', 'w')", "('OSError', 30, 'D/ro/x')"),
        ("error(os.unlink, D + '/ro/file')", "('OSError', 30, 'D/ro/file')"),
        ("error(open, D + '/data/nosuch')", "('FileNotFoundError', 2, 'D/data/nosuch')"),
        ("error(os.stat, D + '/data/file/x')[0]", "'NotADirectoryError'"),
        ("os.chdir(D + '/link'), os.getcwd(), os.path.exists('file')", "(None, 'D/data', True)"),
        ("os.path.exists('/dev/null'), open('/dev/null').read()", "(True, '')"),
        ("[setattr(shim, 'HOST_ONLY', (D + '/data/f',)), error(open, D + '/data/file')][1][1]", "2"),
        ("[hasattr(ctypes.CDLL(None), name) for name in ('getfsstat', 'unmount', 'printf')]", "[False, False, False]"),
        ("__import__('psutil').disk_partitions(all=True)[-1].mountpoint", "'D/ro'"),
    ],
)
def test_what_a_process_sees(world: World, expression: str, expected: str) -> None:
    assert inside(world, expression) == expected


def test_what_it_writes_lands_on_the_server(world: World) -> None:
    inside(world, "os.mkdir(D + '/data/new'), open(D + '/data/new/f', 'w').write('x')")
    inside(world, "os.rename(D + '/data/new', D + '/data/old')")
    assert (world.export(HOST, "/nfs/data") / "old/f").read_text() == "x"
    assert not (world.path / "top/data/old").exists()
    inside(world, "shutil.rmtree(D + '/data/old')")
    assert not (world.export(HOST, "/nfs/data") / "old").exists()


def test_a_nullfs_shows_its_source_as_it_was_when_it_was_mounted(world: World) -> None:
    world.mount(str(world.path / "top/data"), world.path / "top/thin", "nullfs")
    assert inside(world, "sorted(os.listdir(D + '/thin'))") == "['file', 'sub']"
    world.mount("tmpfs", world.path / "top/data", "tmpfs")
    assert inside(world, "sorted(os.listdir(D + '/thin')), os.listdir(D + '/data')") == "(['file', 'sub'], [])"


def test_a_nullfs_is_as_dead_as_what_is_below_it(world: World) -> None:
    world.mount(str(world.path / "top/data"), world.path / "top/thin", "nullfs")
    world.stale(world.path / "top/data")
    assert inside(world, "error(os.listdir, D + '/thin')[1]") == str(errno.ESTALE)


def test_a_frozen_server_blocks_until_it_is_back(world: World) -> None:
    world.freeze(HOST)
    assert inside(world, "os.listdir(D)") != ""
    argv = [sys.executable, "-I", "-c", f"{prelude(world)}\nos.stat(D + '/data')"]
    with subprocess.Popen(argv) as process:
        end = time.monotonic() + 10
        while str(process.pid) not in world.state["stuck"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        world.thaw(HOST)
        assert process.wait(10) == 0


def test_a_frozen_server_does_not_stop_work_elsewhere(world: World) -> None:
    world.freeze(HOST)
    assert inside(world, "os.mkdir(D + '/new'), os.rmdir(D + '/new')") == "(None, None)"
