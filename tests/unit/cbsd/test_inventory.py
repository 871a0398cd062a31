"""What CBSD's files say of a workdir."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from envstart.cbsd import inventory
from envstart.system.host import Host


def test_a_workdir_whose_name_is_no_utf_8(host: Host, tmp_path: Path) -> None:
    workdir = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.makedirs(f"{workdir}/var/db")
    with open(f"{workdir}/var/db/local.sqlite", "wb") as file:
        with sqlite3.connect(":memory:") as connection:
            connection.execute("CREATE TABLE jails (jname TEXT)")
            connection.execute("INSERT INTO jails VALUES ('jail1')")
        file.write(connection.serialize())
    listing = host.complete(inventory.read_files(host, workdir))
    assert (listing.complete, list(map(str, listing.problems))) == (True, [])
    assert [record.name for record in listing.environments] == ["jail1"]
