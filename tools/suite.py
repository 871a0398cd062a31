"""Run a suite part by part, and say in plain words what came of it: `make check`, `make test` and `make proof`.

suite.py check|test|proof [PART...]     SEED=N: the order of the tests, as the last lines of another run name it

A part that fails keeps no other from running; the last lines name it with the command that runs it alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from parts import CORES, ROOT, Outcome, has, program, pytest, run, size, tool

sys.path.append(str(ROOT / "tests"))

import faults
from sim import tracing

# Of the package, by `make test`, in percent.
LINES, BRANCHES = 90, 85
PROMISES = [str(number) for number in range(1, 13)]
DOCUMENT = ROOT / "docs" / "proof.md"
# More than there are cores: most of its time a test waits.
_SIDE = 4 * CORES
_STATIC = (
    tool("style", "the style of the code", "ruff", "check", "."),
    tool("layout", "the layout of the code", "ruff", "format", "--check", "."),
    tool("types", "the types", "mypy"),
    tool("layers", "the layers of imports", "lint-imports"),
)
_BESIDE, _APART = ("-m", "not proof and not alone"), ("-m", "not proof and alone")
_UNITS = ("tests/unit", "tests/docs", "tests/sim")
CHECK = (
    *_STATIC,
    pytest("units", "functions, documents, simulation", *_BESIDE, *_UNITS, workers=CORES + 1),
)
TEST = (
    *_STATIC,
    pytest("units", "functions, documents, tools, simulation", *_BESIDE, *_UNITS, "tests/tools", workers=CORES + 1),
    pytest("hooks", "hooks and tool as processes on the simulated FreeBSD", *_BESIDE, "tests/hooks", workers=_SIDE),
    pytest("real", "mounts of this kernel", *_BESIDE, "tests/real", workers=_SIDE),
    pytest("alone", "tests beside which nothing may run", *_APART, "tests"),
)  # fmt: skip
_LIFECYCLE, _STORM, _GLUSTER = (
    "tests/hooks/test_lifecycle.py",
    "tests/hooks/test_storm.py",
    "tests/real/test_gluster.py",
)
_CEPH = ("tests/real/test_ceph.py", "tests/real/test_cephfs_kernel.py", "tests/real/test_rbd.py")
_OTHERS = ("tests", *(f"--ignore={path}" for path in (_LIFECYCLE, _STORM, _GLUSTER, *_CEPH)))
PROOF = (
    pytest("slow", "the tests that are marked proof", "-m", "proof and not alone", *_OTHERS, workers=_SIDE),
    pytest("alone", "those of them beside which nothing may run", "-m", "proof and alone", *_OTHERS),
    pytest(
        "lifecycle", "every command of a start and a stop going wrong in every way",
        _LIFECYCLE, workers=CORES + 1, ENVSTART_ALL_WAYS=size("WAYS", "all"),
    ),
    program(
        "histories", "histories of starts, stops, faults and crashes, and the promises after each act",
        "soak.py", "--twice", "--histories", size("HISTORIES", 2000),
    ),
    pytest("storm", "fifty hooks at any moment", _STORM, ENVSTART_STORM=size("STORM", 30)),
    pytest(
        "fuzz", "what is read from commands, files and callers",
        "tests/unit/test_fuzz.py", "tests/hooks/test_fuzz.py", "tests/unit/config/test_shell.py",
        workers=CORES, ENVSTART_FUZZ=size("FUZZ", 20),
    ),
    program("mutants", "expressions broken one by one: do the tests notice?", "mutants.py"),
    program(
        "bench", "limits of a hook's memory and of a check's growth, on a busy machine too",
        "bench.py", "--steady", "--rounds=3",
    ),
    pytest("gluster", "a real GlusterFS server", _GLUSTER),
    pytest("ceph", "a real Ceph cluster of one machine", *_CEPH),
    pytest("lab", "virtual machines with real kernels", "tests/lab", workers=2, ENVSTART_LAB=size("LAB", "short")),
)  # fmt: skip
SUITES = {"check": CHECK, "test": TEST, "proof": PROOF}


def main() -> int:
    """Run a suite, or those of its parts that are named. 1 if any of them fails."""
    suite, *names = sys.argv[1:]
    parts = [part for part in SUITES[suite] if part.name in names or not names]
    if len(parts) < len(names):
        print(f"make {suite}: its parts are {', '.join(part.name for part in SUITES[suite])}", file=sys.stderr)
        return os.EX_USAGE
    variables = {"SEED": size("SEED", int(time.time()))}
    with tempfile.TemporaryDirectory(prefix="suite-") as top:
        arcs = Path(top) / "arcs"
        if suite == "test" and has("coverage"):
            variables[tracing.VARIABLE] = str(arcs)
        outcomes = [run(part, Path(top), variables) for part in parts]
        print(f"\n== make {suite} SEED={variables['SEED']}: what came of it\n")
        told(outcomes)
        wrong = [again(suite, outcome) for outcome in outcomes if outcome.status]
        if suite == "test" and not names:
            wrong += [*unplayed(outcomes), *(uncovered(arcs) if arcs.exists() else [])]
    if suite == "proof" and os.environ.get("WRITE"):
        write(outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(f"\nmake {suite}: {'FAILED' if wrong else 'all passed'}, {seconds // 60:.0f} min {seconds % 60:.0f} s")
    print("".join(f"    {line}\n" for line in wrong), end="")
    return 1 if wrong else 0


def told(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each part, the reasons of what was skipped, and the tests that failed."""
    for outcome in outcomes:
        print(f"{outcome.part.name:10} {outcome.seconds:5.0f} s  {outcome.result}")
    cases = [case for outcome in outcomes for case in outcome.cases]
    reasons = Counter(case.why for case in cases if case.outcome == "skipped")
    print("".join(f"skipped {count:,}: {why}\n" for why, count in reasons.most_common()), end="")
    print("".join(f"failed: {case.test}\n" for case in cases if case.outcome == "failed"), end="")


def again(suite: str, outcome: Outcome) -> str:
    """Return the part and the command that runs it alone."""
    name = outcome.part.name
    return f"{name}: make proof-{name}" if suite == "proof" else f"{name}: make {suite} PARTS={name}"


def unplayed(outcomes: Sequence[Outcome]) -> list[str]:
    """Print how many promises, faults and cases were shown, and return those that no test was there for."""
    numbers: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for case in (case for outcome in outcomes for case in outcome.cases):
        name = case.test.rpartition("::")[2].partition("[")[0]
        promise = re.match(r"test_promise_0?(\d+)_", name)
        numbers[case.outcome].update([f"promise {promise[1]}"] if promise else faults.names_in(name))
    lacking = []
    for title, all_of_them in (
        ("promises", [f"promise {number}" for number in PROMISES]),
        ("faults", [number for number in faults.FAULTS if number not in faults.NOT_HERE]),
        ("cases", faults.CASES),
    ):
        shown = [number for number in all_of_them if number in numbers["passed"]]
        print(f"{title}: {len(shown)} of {len(all_of_them)} shown")
        lacking += [number for number in all_of_them if not any(number in seen for seen in numbers.values())]
    return [f"no test was run for {', '.join(lacking)}: make faults"] if lacking else []


def uncovered(arcs: Path) -> list[str]:
    """Print the coverage of the package, keep it for `coverage report`, and return what falls short of the limits."""
    import coverage

    file = str(ROOT / ".coverage")
    data = coverage.CoverageData(file)
    data.erase()
    data.add_arcs(tracing.arcs_of(arcs))
    data.touch_files([str(path) for path in (ROOT / "envstart").rglob("*.py")])
    data.write()
    measured = coverage.Coverage(data_file=file, config_file=str(ROOT / "setup.cfg"))
    measured.load()
    report = arcs.with_name("coverage.json")
    measured.json_report(outfile=str(report))
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    lines = 100 * totals["covered_lines"] / totals["num_statements"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    words = f"{lines:.1f} % of lines, {branches:.1f} % of branches (at least {LINES} and {BRANCHES})"
    print(f"coverage of envstart/: {words}; {os.path.relpath(sys.executable)} -m coverage report -m")
    return [f"coverage: {words}"] if lines < LINES or branches < BRANCHES else []


def write(outcomes: Sequence[Outcome]) -> None:
    """Put what was found into the rows of the document, and leave the rows of other parts as they are."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for outcome in outcomes:
        name = outcome.part.name
        row = f"| {name} | {outcome.part.title} | {outcome.found} | {outcome.seconds:.0f} s |"
        text = re.sub(rf"^\| {name} \|.*$", row.replace("\\", r"\\"), text, flags=re.MULTILINE)
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # The part that was running has had the signal too.
        sys.exit(130)
