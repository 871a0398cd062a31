"""What lies on a mount that is unmounted by force, by the table alone."""

from __future__ import annotations

import pytest

from envstart.mounts.table import Entry, Table
from envstart.steps import forced


def listed(*rows: tuple[str, str, str]) -> Table:
    return Table([Entry("/dev/ada0p2", "/", "ufs"), *(Entry(*row) for row in rows)])


def test_case_b1_the_lines_are_made_from_the_table_alone() -> None:
    nfs = Entry("nas:/a", "/d", "nfs")
    table = listed(
        ("/d", "/before", "nullfs"), ("nas:/a", "/d", "nfs"), ("/d", "/r", "nullfs"), ("devfs", "/r/dev", "devfs"),
        ("nas:/b", "/d/b", "nfs"), ("/r/etc", "/deep", "nullfs"), ("/dd", "/e", "nullfs"),
    )  # fmt: skip
    lines = forced.lines("freebsd", table, nfs, unresponsive=True, alone=False)
    assert [" ".join(line[1:]) for line in lines] == ["-N /d", "-f /deep", "-N /d/b", "-f /r/dev", "-f /r", "-f /d"]
    assert forced.foreign(table, nfs, ["/r", "/d"]) == ["/deep"]


@pytest.mark.parametrize(("alone", "words"), [(True, "-f -l /d"), (False, "-l /d")])
def test_case_a3_force_on_linux_only_where_nobody_else_is(alone: bool, words: str) -> None:
    (line,) = forced.lines("linux", listed(), Entry("x", "/d", "fuse.x", device="0:50"), unresponsive=True, alone=alone)
    assert line == ("umount", "--no-canonicalize", *words.split())
