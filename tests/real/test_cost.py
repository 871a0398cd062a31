"""What a run costs, counted: modules, files, processes, readings of the mount table; the same on every machine.

A limit is what it takes today: who needs more must say so here.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from real import DIRECTORIES, Workdir, namespace_of, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROOT = Path(__file__).resolve().parents[2]
# Runs a hook as hooks/run-hook does, or the tool, and counts. An audit hook hears whatever opens a file or forks.
# On a machine that is slow nothing may count more: no question waits so long for its turn that it gets another child.
COUNTING = """
import sys
counted = {"opened": [], "forks": 0, "tables": 0, "compiled": []}
def hear(event, args):
    if event == "open" and isinstance(args[0], str) and ".py" not in args[0]:
        counted["opened"].append(args[0])
    elif event in ("os.fork", "os.posix_spawn", "subprocess.Popen"):
        counted["forks"] += 1
    elif event == "compile" and args[1] == "<string>" and not args[0].startswith(b"lambda _cls"):
        counted["compiled"].append(args[0].decode())
before = set(sys.modules)
sys.addaudithook(hear)
sys.path.insert(0, sys.argv[1])
from envstart.mounts import table_linux
read = table_linux.mount_table
def count(*args):
    counted["tables"] += 1
    if "envstart.system.prober" in sys.modules:
        sys.modules["envstart.system.prober"]._TURN = 60
    return read(*args)
table_linux.mount_table = count
if sys.argv[2] == "envstart":
    from envstart.cli import main
    counted["status"] = main.main(sys.argv[3:])
else:
    from envstart import hooks
    counted["status"] = hooks.main(sys.argv[2], sys.argv[3:])
counted["modules"] = sorted(set(sys.modules) - before)
import json
print(json.dumps(counted))
"""
# Prints those of some files without which the short way would still be taken.
WITHOUT_EACH = """
import sys
root, program, count, *words = sys.argv[1:]
files, argv = words[:int(count)], words[int(count):]
sys.path.insert(0, root)
from envstart.hooks import unchanged
identity = unchanged.identity
def is_taken_without(other):
    unchanged.identity = lambda path: None if path == other else identity(path)
    return unchanged.is_unchanged(program, argv, [])
assert is_taken_without("")
print(*filter(is_taken_without, files))
"""
# Modules of the short way: of the package, and of the interpreter.
SHORT = {f"envstart.{name}" for name in """
    engine engine.start_marks hooks hooks.unchanged mounts mounts.table mounts.table_linux paths
    system system.probe system.process system.rundir system.signals
""".split()} | set("envstart _signal _stat errno fcntl marshal posix select stat time __future__".split())  # fmt: skip
# Modules of the package on the long way, of a start and of a stop.
LONG = SHORT | {f"envstart.{name}" for name in """
    backends backends.nullfs config config.common config.directories config.load config.places config.remedies
    config.schema config.shell
    engine.circuit_breaker engine.executor engine.locking engine.plan engine.record engine.registry engine.retry
    environment errors hooks.dispatch hooks.remember lifecycle lifecycle.stopping
    mounts.commands
    steps steps.health steps.mount steps.mount_spec steps.mount_state
    steps.mountpoint steps.sources steps.thin_keys
    steps.unmount system.command system.files system.filesystem system.host system.log
    system.loop  system.prober system.progress system.runner
    system.scheduler
    system.site_packages
""".split()}  # fmt: skip
# No time for these in a start or a stop that goes well; the rest of the standard library is at hand there.
HEAVY = {"asyncio", "dataclasses", "logging", "json", "argparse", "ctypes", "sqlite3", "multiprocessing", "concurrent",
         "psutil", "tenacity", "configobj"}  # fmt: skip


class Cost(NamedTuple):
    """What one run took. ``opened``: how often files of each suffix were, modules not counted.

    ``compiled``: texts, such as the type of a NamedTuple's field; the first one costs a millisecond. What namedtuple()
    makes for itself does not.
    """

    status: int
    modules: set[str]
    forks: int
    tables: int
    opened: dict[str, int]
    compiled: list[str]


def counted(work: Workdir, program: str, *words: str) -> Cost:
    argv = ["-I", "-S", "-c", COUNTING, str(ROOT), program, *(words or work.argv())]
    found = json.loads(work.namespace.run(sys.executable, *argv))
    opened = Counter(path if path.startswith(("/proc/", "/dev/")) else Path(path).suffix for path in found["opened"])
    # The interpreter's own come as they are used.
    modules = {name for name in found["modules"] if not name.startswith("encodings")}
    return Cost(found["status"], modules, found["forks"], found["tables"], dict(opened), found["compiled"])


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workdir]:
    """Yield an environment of four directories."""
    (tmp_path / "top").mkdir()
    with namespace_of(tmp_path / "top") as namespace:
        work = Workdir(namespace)
        work.configure(MOUNT_RCCONF=1)
        # Younger files are not relied on.
        time.sleep(2.1)
        yield work


def test_a_start_and_a_stop_of_four(work: Workdir) -> None:
    # All commands are at work before the first one ends, as those are that ask a server.
    for command in ("mount", "umount"):
        work.namespace.in_front(command, "sleep 0.5")
    # Two readings make one that can be relied on. What a start finds out it writes down.
    start, again, stop = (counted(work, f"env_{verb}_nullfs") for verb in ("start", "start", "stop"))
    assert (start.status, again.status, stop.status) == (0, 0, 0)
    assert beyond_second_tier(start.modules) == set()
    assert (start.compiled, stop.compiled) == ([], [])
    # One child answers all questions.
    assert start.forks <= 1 + 4
    # Before the first command, and after each.
    assert start.tables <= 1 + 4
    # The record of what is mounted, looked for and written.
    files = {".env_start_nullfs": 2, ".conf": 1, ".lock": 1, ".started": 1, ".record": 1, ".new": 1}
    assert within(start, files)
    assert again.modules <= SHORT
    assert (again.forks, again.tables) == (1, 1)
    assert again.opened == {".env_start_nullfs": 1, ".lock": 1, ".started": 1, "/proc/self/mountinfo": 1}
    assert beyond_second_tier(stop.modules) == set()
    assert stop.forks <= 1 + 4
    assert stop.tables <= 1 + 4
    assert within(stop, {".env_stop_nullfs": 1, ".conf": 1, ".lock": 1, ".left": 1, ".record": 1})


def test_the_short_way_ends_with_any_module_of_a_start(work: Workdir) -> None:
    """Another version of any of them, or one of another name, can plan other mounts."""
    start = counted(work, "env_start_nullfs")
    modules = [name.replace(".", "/") for name in start.modules if name.startswith("envstart")]
    files = [
        str(file) for name in modules for file in (ROOT / f"{name}.py", ROOT / name / "__init__.py") if file.exists()
    ]
    assert len(files) == len(modules)
    argv = [str(ROOT), "env_start_nullfs", str(len(files)), *files, *work.argv()]
    assert work.namespace.run(sys.executable, "-I", "-S", "-c", WITHOUT_EACH, *argv).split() == []


def test_a_stop_with_nothing_to_do(work: Workdir) -> None:
    stop = counted(work, "env_stop_nullfs")
    assert stop.status == 0
    assert beyond_second_tier(stop.modules) == set()
    assert stop.forks <= 1
    assert stop.tables <= 1
    assert within(stop, {".env_stop_nullfs": 1, ".conf": 1, ".lock": 1, ".left": 1, ".record": 1})


@pytest.mark.parametrize("count", [10, 100])
def test_a_check_of_many(work: Workdir, count: int) -> None:
    """Nothing is read or asked for each of them but its configuration."""
    names = [f"e{number}" for number in range(count)]
    kinds = {**DIRECTORIES, "rcconf": "jails-rcconf/{}"}
    script = "set -e\n"
    for name in names:
        work.add(name)
        (work.path / kinds["rcconf"].format(name)).mkdir()
        for which, place in kinds.items():
            script += f"mount --bind {work.store}/{which}/{name} {work.path}/{place.format(name)}\n"
    work.namespace.run("sh", "-c", script)
    database = work.path / "var" / "db" / "local.sqlite"
    database.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE jails (jname TEXT, jid INTEGER, status INTEGER, mnt_start TEXT)")
        connection.executemany("INSERT INTO jails VALUES (?, 1, 1, 'env_start_nullfs')", [(name,) for name in names])
    check = counted(work, "envstart", "check", "-w", str(work.path))
    assert check.status == 0
    # The database, the names of directories, and the one file system that all of them are on.
    assert check.forks <= 3
    assert check.tables <= 1
    assert within(check, {".conf": count, ".lock": 2})
    assert not {name for name in check.modules if name.startswith(("envstart.storage", "envstart.cli.doctor."))}


def within(cost: Cost, limits: dict[str, int]) -> bool:
    """Tell whether no file was opened more often than this.

    A reading of the table takes two of its file, and one more whenever it changes in between; each command has nothing
    to read.
    """
    limits = {**limits, "/proc/self/mountinfo": 3 * cost.tables, "/dev/null": cost.forks}
    return all(count <= limits.get(name, 0) for name, count in cost.opened.items())


def beyond_second_tier(modules: set[str]) -> set[str]:
    """Return what a run has imported of the package that is not listed, and what is heavy of the rest."""
    return {name for name in modules if name.startswith("envstart")} - LONG | modules & HEAVY
