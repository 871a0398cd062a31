"""That the failure catalogue is covered."""

from __future__ import annotations

import faults

# All numbers of the catalogue.
HERE = set(range(1, 123))


def test_every_fault_has_a_test_or_a_reason() -> None:
    there = set(faults.tests_of())
    assert HERE - there - set(faults.NOT_HERE) == set()
    assert there & set(faults.NOT_HERE) == set()
