"""Breaks one load-bearing line after the other in a copy of the tree; the tests must notice each: `make mutants`.

A mutant whose text the code no longer has, once, counts as alive.
"""

from __future__ import annotations

import argparse
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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("envstart", "tests", "tools", "hooks", "conf", "man", "setup.cfg", "README.md")
# Seconds; a mutant that hangs has been noticed.
LONGEST = 600


class Mutant(NamedTuple):
    """In ``file`` the text ``old``, which is there once, becomes ``new``; ``tests`` are those that should notice."""

    title: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "confirm is skipped", "executor.py",
        "    lack = await step.check(host)\n", "    lack: EnvstartError | None = None\n",
        ("hooks/test_faults_server::test_fault_10_names_that_must_be_there",),
    ),
    Mutant(
        "no lock is taken", "executor.py",
        "    with host.locks(plan.locks):\n        _survey(plan, host)\n        host.wait",
        "    with host.locks(()):\n        _survey(plan, host)\n        host.wait",
        (
            "hooks/test_faults_process::test_fault_49_start_and_start_at_once",
            "hooks/test_promises::test_promise_10_several_starts_at_once",
        ),
    ),
    Mutant(
        "nothing is rolled back", "executor.py",
        "failures = host.roll_back()", "failures: list[str] = []",
        ("hooks/test_promises::test_promise_04_a_failed_start_takes_back_what_it_did",),
    ),
    Mutant(
        "a failure is not raised", "executor.py",
        "                record.restore(plan.environment, recorded)\n            raise\n        started",
        "                record.restore(plan.environment, recorded)\n        started",
        (
            "hooks/test_promises::test_never_0_unless_the_table_says_so",
            "hooks/test_faults_process::test_fault_53_signal_while_it_mounts",
        ),
    ),
    Mutant(
        "rolled back is what is oldest first", "host.py",
        "for wave in reversed(journal):", "for wave in journal:",
        ("hooks/test_thin::test_a_skeleton_that_lacks_what_a_link_leads_to_is_taken_back",),
    ),
    Mutant(
        "the deadline is ignored", "host.py",
        "limit = self.deadline.end if reserve else self.deadline.limit", "limit = began + 45",
        ("hooks/test_promises::test_promise_05_a_child_that_does_not_end",),
    ),
    Mutant(
        "a command that ignores TERM is not killed", "host.py",
        "(_TERM, _KILL) if gently else (_KILL,):\n            child.kill",
        "(_TERM,) if gently else (_KILL,):\n            child.kill",
        ("hooks/test_promises::test_promise_05_a_child_that_ignores_term_is_killed",),
    ),
    Mutant(
        "the cached table is not dropped", "host.py",
        "        self._table = None\n        self._answers.clear()", "        self._answers.clear()",
        ("hooks/test_lifecycle::test_start_start_stop_stop",),
    ),
    Mutant(
        "a killed hook's command holds no lock", "host.py",
        "self.own if hold else ()", "()",
        ("hooks/test_faults_process::test_fault_54_power_loss_while_it_mounts",),
    ),
    Mutant(
        "nocover is forgotten", "commands.py",
        '*words, "-o", "nocover", source, point)', "*words, source, point)",
        (
            "hooks/test_promises::test_promise_03_the_kernel_refuses_to_stack",
            "hooks/test_faults_table::test_fault_27_somebody_else_mounts_it_in_between",
        ),
    ),
    Mutant(
        "only the mount point is compared", "mount.py",
        "if entry is not None and not await self._matches(host, table, entry):", "if False:",
        ("hooks/test_faults_table::test_fault_22_other_source",),
    ),
    Mutant(
        "a stack of mounts is taken for one", "mountpoint.py",
        "    if len(stack) > 1:\n        found", "    if len(stack) > 9:\n        found",
        ("hooks/test_faults_table::test_fault_26_two_of_ours_stacked",),
    ),
    Mutant(
        "it is not journalled before the act", "mount.py",
        "        host.on_failure(lambda: self._take_back(host, point, undo))\n", "",
        ("hooks/test_promises::test_promise_04_a_failed_start_takes_back_what_it_did",),
    ),
    Mutant(
        "what lands late is not looked for", "mount.py",
        "_LATE if undo.cut_off else 0.0", "0.0",
        ("hooks/test_faults_process::test_fault_67_mount_that_lands_after_it_was_given_up",),
    ),
    Mutant(
        "a stop does not ask all before it begins", "executor.py",
        "        host.together([step.before_stop(host) for step in steps])\n", "",
        (
            "hooks/test_faults_server::test_fault_5_server_died_before_the_stop",
            "hooks/test_faults_stop::test_fault_112_environment_still_runs",
        ),
    ),
    Mutant(
        "a dead mount is unmounted in the ordinary way", "commands.py",
        'return ("umount", "-N", point)', 'return ("umount", point)',
        ("hooks/test_faults_server::test_fault_3_dead_mounts_of_a_stopped_environment_are_mounted_anew",),
    ),
    Mutant(
        "everything is tried again", "retry.py",
        "    except TemporaryError as error:\n        first = [error]",
        "    except Exception as error:\n        first = [TemporaryError(str(error))]",
        ("hooks/test_promises::test_promise_06_what_does_not_heal_fails_at_once",),
    ),
    Mutant(
        "the session is ended although others use it", "block/session.py",
        "while users := await self._users(host, sessions):", "while users := dict[int, list[str]]():",
        (
            "hooks/test_faults_session::test_fault_77_79_two_environments_on_one_target",
            "hooks/test_faults_session::test_fault_79_disk_that_is_attached_by_geli",
        ),
    ),
    Mutant(
        "a configuration that others can write is read", "config.py",
        "writable = status.st_mode & 0o022\n", "writable = status.st_mode & 0o000\n",
        ("unit/config/test_load::test_fault_98_writable_by_others",),
    ),
    Mutant(
        "the short way does not look at the table", "fast.py",
        "if not _shown(ground, points, rows) or not", "if not",
        ("hooks/test_unchanged::test_whatever_has_changed_both_ways_say_the_same",),
    ),
    Mutant(
        "a disk that has gone is not noticed", "block/geom.py",
        "        host.forget()\n    return True\n", "        host.forget()\n    return False\n",
        ("hooks/test_faults_session::test_a_volume_whose_disk_has_gone_is_mounted_anew",),
    ),
    Mutant(
        "devices are attached side by side on a full disk", "locks.py",
        "await self._take_all(turns=True)", "await self._take_all()",
        ("hooks/test_faults_block::test_fault_48_disk_is_full_and_two_start_at_once",),
    ),
    Mutant(
        "a mount that is hidden passes for mounted", "mountpoint.py",
        "    refuse_hidden(table, stack[0])\n", "",
        (
            "hooks/test_faults_table::test_a_mount_above_hides_all",
            "hooks/test_unchanged::test_the_table_is_read_in_the_same_way",
        ),
    ),
    Mutant(
        "what has changed since the plan was made is written down", "fast.py",
        " - host.deadline.elapsed()", "",
        ("hooks/test_unchanged::test_a_configuration_that_comes_while_a_start_waits",),
    ),
)  # fmt: skip
# These take little time, and go with `make test`.
QUICK = ("nocover is forgotten", "only the mount point is compared", "nothing is rolled back", "no lock is taken")


def main() -> int:
    """How many have survived."""
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
        survivors = [survived for survived in pool.map(tried, mutants) if survived]
    print(f"{len(mutants)} mutants, {len(survivors)} of them alive")
    return len(survivors)


def tried(mutant: Mutant) -> bool:
    """Whether the tests pass with it, or say nothing about it."""
    with copied() as top:
        path = top / "envstart" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            print(
                f"ALIVE   {mutant.title}: {mutant.file} has {mutant.old!r} {text.count(mutant.old)} times", flush=True
            )
            return True
        path.write_text(text.replace(mutant.old, mutant.new))
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


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as top:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(top) / name)
        (Path(top) / ".venv").symlink_to(ROOT / ".venv")
        yield Path(top)


def tested(top: Path, names: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """How these tests end in a copy of the tree. subprocess.TimeoutExpired."""
    tests = [f"tests/{name.replace('::', '.py::')}" for name in names]
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(argv, cwd=top, capture_output=True, text=True, timeout=LONGEST)


if __name__ == "__main__":
    sys.exit(main())
