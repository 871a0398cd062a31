"""docs/security.md promises a test for each thing that is refused: it is there, and no attack is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def names_in(name: str) -> list[str]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 50
    assert PAGE.count("::") == len(named)
    assert [f"{file}::{test}" for file, test in named if test not in names_in(file)] == []


def test_every_row_of_what_is_tried_names_a_test() -> None:
    tables = PAGE.split("## Who is trusted")[1].split("\n## ", 1)[1]
    rows = [line for line in tables.splitlines() if line.startswith("| ") and not line.startswith("| what is tried")]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []


def test_every_test_of_an_attack_is_named() -> None:
    for name in ("links", "files", "caller"):
        file = f"tests/hooks/test_hostile_{name}.py"
        # What only shows that another test is about something.
        left = {test for test in names_in(file) if f"{file}::{test}" not in PAGE} - {"test_enough_descriptors"}
        assert left == set(), file
