"""Jails and VMs that run."""

from __future__ import annotations

import pytest

from envstart.system import guests
from envstart.system.command import Result


def test_names_of_jails_that_are_lost_on_a_full_disk() -> None:
    """jls(8) does not look whether what it prints arrives (usr.sbin/jls/jls.c)."""
    for out, names in (("name\n", set()), ("name\njail1\nname\n", {"jail1", "name"})):
        assert guests._names(Result(0, out, "", 0.0, alive=False)) == names
    for status, out in ((0, ""), (0, "jail1\n"), (1, "name\njail1\n")):
        with pytest.raises(ValueError, match=r"disk full|jail1"):
            guests._names(Result(status, out, "", 0.0, alive=False))
