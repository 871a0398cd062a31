"""Which fault of the failure catalogue has which test: a test names its numbers: ``test_fault_22_other_source``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent

# Number: why no test here names it, or what brings it.
NOT_HERE = {
    8: "which address of a name is tried is decided inside mount_nfs(8)",
    71: "envstart writes no time of day: syslog(3) stamps its lines",
}


def numbers_of(name: str) -> list[int]:
    """``test_fault_12_14_some_words``: 12 and 14."""
    found = re.match(r"test_fault((?:_\d+)+)(_|$)", name)
    return [int(number) for number in found[1].split("_")[1:]] if found else []


def tests_of() -> dict[int, list[str]]:
    """The tests of each fault, as ``FILE::NAME``."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for number in numbers_of(node.name):
                    found.setdefault(number, []).append(f"{path.name}::{node.name}")
    return found


def main() -> None:
    """One line per number."""
    for number, tests in sorted({**{number: [why] for number, why in NOT_HERE.items()}, **tests_of()}.items()):
        print(f"{number:4} {', '.join(tests)}")


if __name__ == "__main__":
    main()
