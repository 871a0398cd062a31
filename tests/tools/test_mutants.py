"""Each mutant of ``make proof-mutants`` still changes something, and names tests that there are."""

from __future__ import annotations

import ast

import mutants
import pytest
from mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.title)
def test_it_can_be_made(mutant: Mutant) -> None:
    path, text = mutants.mutated(mutant, ROOT)
    assert text != ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) + "\n"
    compile(text, path, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.title)
def test_its_tests_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_the_quick_ones_are_among_them() -> None:
    assert set(mutants.QUICK) <= {mutant.title for mutant in MUTANTS}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"function": "envstart.nowhere:start"}, "no module envstart.nowhere"),
        ({"function": "tools.mutants:nowhere"}, "tools.mutants has no nowhere"),
        ({"old": "no_such_thing(...)"}, "tools.mutants:main has no no_such_thing"),
    ],
)
def test_one_that_changes_nothing_is_an_error(change: dict[str, str], complaint: str) -> None:
    mutant = Mutant("m", "tools.mutants:main", "len(...)", "0", ())._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match=complaint):
        mutants.mutated(mutant, ROOT)


@pytest.mark.parametrize(
    ("old", "count"),
    [
        ("f(...)", 2),
        ("f(1)", 0),
        ("f(1, ..., key=3)", 1),
        ("f(1, 2, key=3)", 1),
        ("x if ... else ...", 1),
        ("return 0", 1),
        ("g(...)", 0),
    ],
)
def test_how_something_is_found_however_it_is_laid_out(old: str, count: int) -> None:
    tree = ast.parse("def a():\n    f(\n        1,\n        2, key=3)\n    f()\n    (x if y else\n z)\n    return 0\n")
    change = mutants.Change(old, "pass" if old.startswith("return") else "None")
    change.visit(tree)
    assert change.count == count
