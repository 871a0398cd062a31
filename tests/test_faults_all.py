"""That the failure catalogue is covered."""

from __future__ import annotations

import faults

# B.1, B.2, B.3 and B.6, as far as they concern what there is by now.
HERE = {*range(1, 18), 20, *range(21, 48), *range(49, 73), *range(109, 113), 115, 116, 117, 122}


def test_every_fault_has_a_test_or_a_reason() -> None:
    there = set(faults.tests_of())
    assert HERE - there - set(faults.NOT_HERE) == set()
    assert there & set(faults.NOT_HERE) == set()
