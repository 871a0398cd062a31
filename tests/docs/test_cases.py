"""Each fault of docs/faults.md, and each case of docs/cases.md, has a test that names it."""

from __future__ import annotations

import faults

ALL_FAULTS = [str(number) for number in range(1, 123)]
ALL_CASES = [f"{letter}{number}" for letter, last in (("A", 9), ("B", 7), ("C", 22)) for number in range(1, last + 1)]


def test_every_fault_has_a_test_or_a_reason() -> None:
    tests = faults.tests_of()
    assert [name for name in faults.untested(tests) if name in faults.FAULTS] == []
    assert set(tests) & set(faults.NOT_HERE) == set()


def test_the_pages_have_every_fault_and_case() -> None:
    assert (faults.FAULTS, faults.CASES) == (ALL_FAULTS, ALL_CASES)


def test_a_test_names_only_what_there_is() -> None:
    assert set(faults.tests_of()) - set(faults.FAULTS) - set(ALL_CASES) == set()


def test_names_in_a_test() -> None:
    assert faults.names_in("test_fault_12_14_some_words") == ["12", "14"]
    assert faults.names_in("test_case_a1_c22_some_b4_words") == ["A1", "C22"]
    assert faults.names_in("test_case_a1") == ["A1"]
    assert faults.names_in("test_a1_case") == []


def test_every_case_has_a_test() -> None:
    assert [name for name in faults.untested(faults.tests_of()) if name in ALL_CASES] == []
