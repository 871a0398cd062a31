"""Which test names which fault and which case: ``test_fault_22_other_source``, ``test_case_a1_a4_words``.

The faults are the rows of docs/faults.md, the cases those of docs/cases.md.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
DOCS = ROOT / "docs"

# Number: why no test here names it, or what brings it.
NOT_HERE = {
    "8": "which address of a name is tried is decided inside mount_nfs(8)",
    "71": "envstart writes no time of day: syslog(3) stamps its lines",
}


def names_in(name: str) -> list[str]:
    """Return the faults and cases that a test names: 12 and 14 of ``test_fault_12_14_some_words``."""
    fault = re.match(r"test_fault((?:_\d+)+)(_|$)", name)
    case = re.match(r"test_case((?:_[abc]\d+)+)(_|$)", name)
    return (fault[1] if fault else case[1].upper() if case else "").split("_")[1:]


def tests_of() -> dict[str, list[str]]:
    """Return the tests that name each fault and case, as ``FILE::NAME``."""
    tests: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for name in names_in(node.name):
                    tests.setdefault(name, []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return tests


def numbered(page: str) -> list[str]:
    """Return the numbers of the rows in the tables of a page of docs/."""
    return re.findall(r"^\| ([ABC]?\d+) \| \S.* \| \S.* \|$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)


FAULTS, CASES = numbered("faults.md"), numbered("cases.md")


def untested(tests: dict[str, list[str]]) -> list[str]:
    """Return the faults and cases that have neither a test nor a reason."""
    return [name for name in [*FAULTS, *CASES] if name not in tests and name not in NOT_HERE]


def main() -> int:
    """Print one line per fault and case; return 1 if one has neither a test nor a reason."""
    tests = tests_of()
    for name in [*FAULTS, *CASES]:
        print(f"{name:>4} {', '.join(tests.get(name, [NOT_HERE.get(name, 'no test')]))}")
    missing = untested(tests)
    if missing:
        print(f"faults: no test names {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
