"""What lies on a mount that is unmounted by force, by the table alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
import stubs

from envstart.errors import TemporaryError
from envstart.mounts.table import Entry, Table
from envstart.steps import forced
from envstart.system.command import Result


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
def test_case_a3_force_on_linux_only_where_nobody_else_is(*, alone: bool, words: str) -> None:
    (line,) = forced.lines("linux", listed(), Entry("x", "/d", "fuse.x", device="0:50"), unresponsive=True, alone=alone)
    assert line == ("umount", "--no-canonicalize", *words.split())


@pytest.mark.parametrize(("platform", "done"), [("linux", True), ("freebsd", False)])
def test_a_forced_unmount_that_waits_for_the_server(platform: str, *, done: bool) -> None:
    """The mount is out of the table by then.

    Linux has taken it out and says good-bye to the server; FreeBSD leaves out what it still works on
    (docs/freebsd.md#mount-table).
    """
    entry = Entry("nas:/a", "/mnt/a", "nfs")

    class Waiting(stubs.Stub):
        async def run(self, argv: Sequence[str], **_: object) -> Result:
            self._table = Table([Entry("/dev/ada0p2", "/", "ufs")])
            return Result(None, "", "", 5.0, alive=True)

    host = Waiting(mounts=[entry])
    host.platform = platform
    host.unresponsive = {"/mnt/a"}
    with contextlib.nullcontext() if done else pytest.raises(TemporaryError, match="still works on it"):
        stubs.done(forced.unmount(host.host, entry, unresponsive=True, alone=True))
    assert host.unresponsive == (set() if done else {"/mnt/a"})
