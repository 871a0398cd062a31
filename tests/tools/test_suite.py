"""The parts of the suites, and what is said of them in the Makefile, in docs/proof.md and in CI."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import parts
import pytest
import suite
from parts import ROOT

yaml = pytest.importorskip("yaml")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
# One test of each outcome.
TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.parametrize("way", ["a.b::c"])
def test_fails(way):
    assert not way

def test_skips():
    pytest.skip("no disk")
"""


def test_the_document_names_each_part_of_make_proof() -> None:
    rows = re.findall(r"^\| (\S+) \| (.+?) \|", suite.DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows[1:] == [(part.name, part.title) for part in suite.PROOF]


def test_each_part_of_make_proof_is_a_target() -> None:
    proofs = {target.removeprefix("proof-") for target in TARGETS if target.startswith("proof-")}
    assert proofs == {part.name for part in suite.PROOF}


def scripts(task: dict[str, Any]) -> Iterator[str]:
    """Yield the commands of a task of CI, each of them a line."""
    for name, script in task.items():
        if name.endswith("script"):
            yield from script.splitlines()


def test_ci_calls_targets_that_there_are() -> None:
    tasks = yaml.safe_load((ROOT / ".cirrus.yml").read_text(encoding="utf-8"))
    assert [name for name in tasks if not name.endswith("_task")] == []
    lines = [line for task in tasks.values() for line in scripts(task)]
    called = [target for line in lines for target in re.findall(r"\bmake (\S+?)\b", line)]
    assert set(called) == {"check", "test", "demo"}
    assert set(called) <= TARGETS
    assert ".ci/run" in lines
    debian = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^for target in (.*); do$", debian, re.MULTILINE) == ["test demo proof"]
    assert subprocess.run(["sh", "-n", ROOT / ".ci" / "run"]).returncode == 0


@pytest.mark.parametrize(("marker", "ways"), [("not proof", range(1, 3)), ("proof", range(3, 6))])
def test_the_first_ways_are_for_make_test_and_the_others_for_make_proof(marker: str, ways: Sequence[int]) -> None:
    test = "tests/hooks/test_two_hosts.py::test_what_a_killed_start_registered_does_not_stay_on_the_target"
    argv = [sys.executable, "-m", "pytest", "--import-mode=importlib", "-o", "addopts=", "--collect-only", "-q"]
    ended = subprocess.run([*argv, "-m", marker, test], cwd=ROOT, capture_output=True, text=True)
    assert [line for line in sorted(ended.stdout.splitlines()) if "::" in line] == [f"{test}[{way}]" for way in ways]


def test_a_failure_is_named_with_its_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_three.py").write_text(TESTS)
    part = parts.pytest("three", "three tests", "-p", "no:cacheprovider", str(tmp_path / "test_three.py"))
    outcome = parts.run(part, tmp_path, {"SEED": "1"})
    assert outcome.status == 1
    assert outcome.result == "1 passed, 1 failed, 1 skipped"
    suite.told([outcome])
    words = capfd.readouterr().out
    assert "\n== three: three tests\n" in words
    assert "::test_fails[a.b::c]\n" in words
    assert "skipped 1: no disk\n" in words
    assert suite.again("test", outcome) == "three: make test PARTS=three"
    assert suite.again("proof", outcome) == "three: make proof-three"
