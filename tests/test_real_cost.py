"""What a start costs, counted: modules, files, children, readings of the mount table; the same on every machine.

A limit is what it takes today: who needs more must say so here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from real import Workdir, namespace_of, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROOT = Path(__file__).resolve().parent.parent
# Runs the hook as hooks/run-hook does, and counts.
COUNTING = """
import sys
opened, forks, commands = [], [], []
def hear(event, args):
    if event == "open" and isinstance(args[0], str):
        opened.append(args[0])
    elif event == "os.fork":
        forks.append(1)
    elif event in ("os.exec", "os.posix_spawn", "subprocess.Popen"):
        commands.append(1)
before = set(sys.modules)
sys.addaudithook(hear)
sys.path.insert(0, sys.argv[1])
from envstart.fast import main
status = main(sys.argv[2], sys.argv[3:])
sys.addaudithook(lambda *_: None)
modules = sorted(set(sys.modules) - before)
import json
print(json.dumps([status, modules, [path for path in opened if not path.endswith((".pyc", ".py"))], len(forks)]))
"""
MODULES = {
    "_signal", "envstart", "envstart.children", "envstart.errors", "envstart.fast", "envstart.linux", "envstart.locks",
    "envstart.signals", "envstart.started", "envstart.state", "envstart.table", "envstart.touch", "errno", "fcntl",
    "genericpath", "marshal", "os", "os.path", "posixpath", "select", "stat", "_stat", "_collections_abc", "abc",
    "time", "__future__",
}  # fmt: skip


def counted(work: Workdir, program: str) -> tuple[Any, ...]:
    words = ["-I", "-S", "-c", COUNTING, str(ROOT), program, *work.argv()]
    return tuple(json.loads(work.namespace.run(sys.executable, *words)))


def test_when_all_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    with namespace_of(tmp_path / "top") as namespace:
        work = Workdir(namespace)
        # Younger files are not relied on.
        time.sleep(2.1)
        work.start()
        work.start()
        status, modules, opened, forks = counted(work, "env_start_nullfs")
        assert status == 0
        assert {name for name in modules if not name.startswith("encodings")} <= MODULES
        # One child asks all three directories.
        assert forks == 1
        assert opened.count("/proc/self/mountinfo") == 1
        ours = [path for path in opened if path != "/proc/self/mountinfo"]
        assert sorted(Path(path).suffix for path in ours) == [".env_start_nullfs", ".lock", ".started"]
        work.stop()


def test_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    with namespace_of(tmp_path / "top") as namespace:
        work = Workdir(namespace)
        status, modules, opened, forks = counted(work, "env_start_nullfs")
        assert status == 0
        heavy = {"re", "enum", "typing", "subprocess", "argparse", "json", "socket", "psutil", "tenacity", "configobj",
                 "logging", "ctypes", "dataclasses", "sqlite3", "threading"}  # fmt: skip
        assert not heavy & set(modules)
        # Three mounts, and one child that follows links and looks at each.
        assert forks <= 1 + 3
        assert opened.count("/proc/self/mountinfo") <= 2 * (1 + 2 * 3)
        work.stop()
