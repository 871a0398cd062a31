"""Break one load-bearing expression after the other in a copy of the tree, and see whether the tests notice.

`make proof-mutants` runs it.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("envstart", "tests", "tools", "hooks", "conf", "man", "setup.cfg", "README.md", "CONTRIBUTING.md")
# Seconds; a mutant that hangs has been noticed.
LONGEST = 600


class Mutant(NamedTuple):
    """A change of one function, and the tests that should notice it.

    ``function`` is MODULE:QUALIFIED.NAME. In it the expression or statement ``old`` becomes ``new`` wherever it is,
    however it is laid out; ``...`` in ``old`` stands for any expression, and as the only argument for any arguments.
    """

    title: str
    function: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "confirm is skipped",
        "envstart.engine.executor:_bring", "await step.check(...)", "None",
        ("tests/hooks/test_faults_server.py::test_fault_10_names_that_must_be_there",),
    ),
    Mutant(
        "no lock is taken",
        "envstart.engine.executor:_start", "Locks(...)", "Locks(host, ())",
        (
            "tests/hooks/test_faults_process.py::test_fault_49_start_and_start_at_once",
            "tests/hooks/test_promises.py::test_promise_10_several_starts_at_once",
        ),
    ),
    Mutant(
        "nothing is rolled back",
        "envstart.engine.executor:_roll_back", "host.roll_back()", "[]",
        ("tests/hooks/test_promises.py::test_promise_04_a_failed_start_takes_back_what_it_did",),
    ),
    Mutant(
        "a failure is not raised",
        "envstart.engine.executor:_start", "raise", "pass",
        (
            "tests/hooks/test_promises.py::test_never_0_unless_the_table_says_so",
            "tests/hooks/test_faults_process.py::test_fault_53_signal_while_it_mounts",
        ),
    ),
    Mutant(
        "rolled back is what is oldest first",
        "envstart.system.host:Journal.roll_back", "reversed(stages)", "stages",
        ("tests/hooks/test_thin.py::test_a_skeleton_that_lacks_what_a_link_leads_to_is_taken_back",),
    ),
    Mutant(
        "the deadline is ignored",
        "envstart.system.runner:Runner.run", "self.deadline.limit", "began + 45",
        ("tests/hooks/test_promises.py::test_promise_05_a_child_that_does_not_end",),
    ),
    Mutant(
        "a command that ignores TERM is not killed",
        "envstart.system.command:end_gradually", "(signal.SIGTERM, signal.SIGKILL)", "(signal.SIGTERM,)",
        ("tests/hooks/test_promises.py::test_promise_05_a_child_that_ignores_term_is_killed",),
    ),
    Mutant(
        "the cached table is not dropped",
        "envstart.system.host:Host.invalidate", "self._table = None", "pass",
        ("tests/hooks/test_lifecycle.py::test_start_start_stop_stop",),
    ),
    Mutant(
        "a killed hook's command holds no lock",
        "envstart.system.runner:Runner.run", "self.lock_fds if ... else ...", "()",
        ("tests/hooks/test_faults_process.py::test_fault_54_power_loss_while_it_mounts",),
    ),
    Mutant(
        "nocover is forgotten",
        "envstart.mounts.commands:_mount_on_freebsd", '(*options, "nocover")', "options",
        (
            "tests/hooks/test_promises.py::test_promise_03_the_kernel_refuses_to_stack",
            "tests/hooks/test_faults_table.py::test_fault_27_somebody_else_mounts_it_in_between",
        ),
    ),
    Mutant(
        "only the mount point is compared",
        "envstart.steps.mountpoint:inspect", "not await mount.matches(...)", "False",
        ("tests/hooks/test_faults_table.py::test_fault_22_other_source",),
    ),
    Mutant(
        "a stack of mounts is taken for one",
        "envstart.steps.mountpoint:inspect", "len(stack) > 1", "False",
        ("tests/hooks/test_faults_table.py::test_fault_26_two_of_ours_stacked",),
    ),
    Mutant(
        "it is not journalled before the act",
        "envstart.steps.mount:Mount.start", "host.on_failure(...)", "None",
        ("tests/hooks/test_promises.py::test_promise_04_a_failed_start_takes_back_what_it_did",),
    ),
    Mutant(
        "what lands late is not looked for",
        "envstart.steps.mount:Mount._undo_start", "_LATE", "0.0",
        ("tests/hooks/test_faults_process.py::test_fault_67_mount_that_lands_after_it_was_given_up",),
    ),
    Mutant(
        "a stop does not ask all before it begins",
        "envstart.engine.executor:stop", "[step.preflight_stop(...) for step in steps]", "[]",
        (
            "tests/hooks/test_faults_server.py::test_fault_5_server_died_before_the_stop",
            "tests/hooks/test_faults_stop.py::test_fault_112_environment_still_runs",
        ),
    ),
    Mutant(
        "a dead mount is unmounted in the ordinary way",
        "envstart.mounts.commands:unmount_unresponsive", '("umount", "-N", ...)', '("umount", point)',
        ("tests/hooks/test_faults_server.py::test_fault_3_dead_mounts_of_a_stopped_environment_are_mounted_anew",),
    ),
    Mutant(
        "everything is tried again",
        "envstart.engine.retry:until_it_heals", "TemporaryError", "Exception",
        ("tests/hooks/test_promises.py::test_promise_06_what_does_not_heal_fails_at_once",),
    ),
    Mutant(
        "the session is ended although others use it",
        "envstart.storage.iscsi:Session.stop", "await users_of(...)", "{}",
        (
            "tests/hooks/test_faults_session.py::test_fault_77_79_two_environments_on_one_target",
            "tests/hooks/test_faults_session.py::test_fault_79_disk_that_is_attached_by_geli",
        ),
    ),
    Mutant(
        "a configuration that others can write is read",
        "envstart.config.load:trusted_text", "0o022", "0",
        ("tests/unit/config/test_load.py::test_fault_98_writable_by_others",),
    ),
    Mutant(
        "the short way does not look at the table",
        "envstart.hooks.unchanged:is_unchanged", "_shown(...)", "True",
        ("tests/hooks/test_unchanged.py::test_whatever_has_changed_both_ways_say_the_same",),
    ),
    Mutant(
        "a disk that has gone is not noticed",
        "envstart.storage.devices:is_lost", "return True", "return False",
        ("tests/hooks/test_faults_session.py::test_a_volume_whose_disk_has_gone_is_mounted_anew",),
    ),
    Mutant(
        "devices are attached side by side on a full disk",
        "envstart.engine.locking:Locks.__aenter__", "self._take_all(...)", "self._take_all(take_turns=False)",
        ("tests/hooks/test_faults_block.py::test_fault_48_disk_is_full_and_two_start_at_once",),
    ),
    Mutant(
        "a mount that is hidden passes for mounted",
        "envstart.steps.mountpoint:inspect", "hidden(...)", "None",
        (
            "tests/hooks/test_faults_table.py::test_a_mount_above_hides_all",
            "tests/unit/hooks/test_unchanged.py::test_the_table_is_read_in_the_same_way",
        ),
    ),
    Mutant(
        "what has changed since the plan was made is written down",
        "envstart.hooks.remember:_record", "host.deadline.elapsed()", "0.0",
        ("tests/hooks/test_unchanged.py::test_a_configuration_that_comes_while_a_start_waits",),
    ),
)  # fmt: skip
# These take little time, and go with `make test`.
QUICK = ("nocover is forgotten", "only the mount point is compared", "nothing is rolled back", "no lock is taken")


def main() -> int:
    """Try the mutants that were asked for, and return how many are alive."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--only", default="", help="those whose title contains this")
    parser.add_argument("--quick", action="store_true", help="only a few")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if given.only in mutant.title]
    mutants = [mutant for mutant in mutants if not given.quick or mutant.title in QUICK]
    # A test that fails anyhow would catch whatever there is.
    with copied() as top:
        ended = tested(top, dict.fromkeys(name for mutant in mutants for name in mutant.tests))
    if ended.returncode:
        print(f"without any mutant the tests do not pass:\n{ended.stdout}")
        return 1
    with ThreadPoolExecutor(given.workers) as pool:
        survivors = [survived for survived in pool.map(survives, mutants) if survived]
    print(f"{len(mutants)} mutants, {len(survivors)} of them alive")
    return len(survivors)


def survives(mutant: Mutant) -> bool:
    """Tell whether the tests pass with a mutant, or say nothing about it."""
    with copied() as top:
        path, text = mutated(mutant, top)
        path.write_text(text, encoding="utf-8")
        began = time.monotonic()
        try:
            ended = tested(top, mutant.tests)
            # 1: a test has failed; anything else but that says nothing.
            caught = ended.returncode == 1
            noticed = [line for line in ended.stdout.splitlines() if line.startswith("FAILED")] or [ended.stdout[-300:]]
        except subprocess.TimeoutExpired:
            caught, noticed = True, [f"it hangs for {LONGEST} s"]
        word = "caught" if caught else "ALIVE "
        by = noticed[0].partition(" - ")[0].replace("FAILED tests/", "")
        print(f"{word}  {time.monotonic() - began:5.1f} s  {mutant.title}: {by}", flush=True)
        return not caught


def mutated(mutant: Mutant, top: Path) -> tuple[Path, str]:
    """Return the file of the mutant's module below ``top``, and its mutated text. LookupError: nothing to change."""
    module, _, name = mutant.function.partition(":")
    base = top.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.exists():
        raise LookupError(f"{mutant.title}: there is no module {module}")
    tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    node = tree
    for part in name.split("."):
        within = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        if not within:
            raise LookupError(f"{mutant.title}: {module} has no {name}")
        node = within[-1]
    change = Change(mutant.old, mutant.new)
    change.visit(node)
    if not change.count:
        raise LookupError(f"{mutant.title}: {mutant.function} has no {mutant.old}")
    return path, ast.unparse(ast.fix_missing_locations(tree)) + "\n"


class Change(ast.NodeTransformer):
    """Replaces what matches ``old``, and counts how often."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = _parsed(old), _parsed(new)
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if _matches(self.old, node):
            self.count += 1
            return self.new
        return self.generic_visit(node)


def _parsed(text: str) -> ast.AST:
    """Return the tree of an expression or a statement."""
    (statement,) = ast.parse(text).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _matches(old: Any, node: Any) -> bool:
    """Tell whether NODE, which may be a part of one, is as OLD, in which ``...`` stands for anything."""
    if _is_any(old):
        return True
    if isinstance(old, list):
        return len(old) == len(node) and all(map(_matches, old, node))
    if not isinstance(old, ast.AST):
        return bool(old == node)
    if type(old) is not type(node):
        return False
    fields = ("func",) if isinstance(old, ast.Call) and list(map(_is_any, old.args)) == [True] else old._fields
    return all(_matches(getattr(old, field), getattr(node, field)) for field in fields)


def _is_any(old: Any) -> bool:
    return isinstance(old, ast.Constant) and old.value is ...


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a copy of the tree."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as top:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(top) / name)
        (Path(top) / ".venv").symlink_to(ROOT / ".venv")
        yield Path(top)


def tested(top: Path, names: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run these tests in a copy of the tree. subprocess.TimeoutExpired."""
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    return subprocess.run(argv, cwd=top, capture_output=True, text=True, timeout=LONGEST)


if __name__ == "__main__":
    sys.exit(main())
