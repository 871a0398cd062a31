"""Parts of a suite (suite.py): commands, and what came of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 1
# What pytest ends with where a marker leaves no test.
_NO_TESTS = 5


class Part(NamedTuple):
    """A command of a suite. ``lacks``: why this machine cannot run it."""

    name: str
    title: str
    argv: Sequence[str]
    environment: Mapping[str, str] = {}
    lacks: str = ""


class Case(NamedTuple):
    """A test: how pytest calls it; passed, failed or skipped; the reason of that."""

    test: str
    outcome: str
    why: str = ""


class Outcome(NamedTuple):
    """What came of a part, and of its tests if it has some. ``said`` is its last line."""

    part: Part
    status: int
    seconds: float
    said: str
    cases: Sequence[Case] = ()

    @property
    def result(self) -> str:
        """Return in few words how it ended."""
        if self.cases:
            counts = Counter(case.outcome for case in self.cases)
            return ", ".join(f"{counts[word]:,} {word}" for word in ("passed", "failed", "skipped") if counts[word])
        return f"skipped: {self.part.lacks}" if self.part.lacks else "failed" if self.status else "passed"

    @property
    def found(self) -> str:
        """Return the same with the figures of a program that counts other things than tests."""
        return self.result if self.cases or self.part.lacks else f"{self.result}: {self.said}"


def tool(name: str, title: str, program: str, *argv: str) -> Part:
    """Return a part that is a program, which a system's packages may not have."""
    own = Path(sys.executable).parent / program
    path = str(own) if own.exists() else shutil.which(program)
    return Part(name, title, (path or program, *argv), lacks="" if path else f"{program} is not installed")


def pytest(name: str, title: str, *argv: str, workers: int = 0, **environment: str) -> Part:
    """Return a part that is a run of pytest, with so many processes side by side."""
    side = ("-n", str(workers), "--dist", "worksteal") if workers and has("xdist") else ()
    return Part(name, title, (sys.executable, "-m", "pytest", *side, *argv), environment)


def program(name: str, title: str, *argv: str) -> Part:
    """Return a part that is another program of tools/."""
    return Part(name, title, (sys.executable, f"tools/{argv[0]}", *argv[1:]))


def has(module: str) -> bool:
    """Tell whether this environment has a module."""
    return importlib.util.find_spec(module) is not None


def size(variable: str, usual: object) -> str:
    """Return how much of something there is to be: what the caller says, or as usual."""
    return os.environ.get(variable, str(usual))


def run(part: Part, top: Path, variables: Mapping[str, str]) -> Outcome:
    """Run a part, print what it says as it comes, and tell what came of it. TOP: a directory for its report."""
    print(f"\n== {part.name}: {part.title}", flush=True)
    if part.lacks:
        print(f"skipped: {part.lacks}")
        return Outcome(part, 0, 0.0, "")
    argv, report = list(part.argv), top / f"{part.name}.xml"
    if "pytest" in argv:
        argv.append(f"--junitxml={report}")
        argv.append(f"--hypothesis-seed={variables['SEED']}")
        argv += [f"--randomly-seed={variables['SEED']}"] if has("pytest_randomly") else []
    began = time.monotonic()
    environment = {**os.environ, **variables, **part.environment}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        tail = b""
        while piece := os.read(process.stdout.fileno(), 65536):
            os.write(1, piece)
            tail = (tail + piece)[-4096:]
    seconds = time.monotonic() - began
    print(f"{part.name}: {seconds:.0f} s", flush=True)
    cases = tuple(_cases(report)) if report.exists() else ()
    status = 0 if process.returncode == _NO_TESTS and not cases else process.returncode
    return Outcome(part, status, seconds, (tail.decode(errors="replace").splitlines() or [""])[-1], cases)


def _cases(report: Path) -> Iterator[Case]:
    """Yield the tests of a run from pytest's report in the format of JUnit."""
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            yield Case(test, "failed")
        elif skipped is not None:
            yield Case(test, "skipped", skipped.get("message", ""))
        else:
            yield Case(test, "passed")
