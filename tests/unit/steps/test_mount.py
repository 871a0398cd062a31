"""The mount of a directory: what takes it back again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UPGRADED = """
import sys
from pathlib import Path
from stubs import Stub, done, planned
from envstart.mounts.table import Entry, Table
from envstart.steps.mountpoint import Undo

data = planned(Path(sys.argv[1]), "nfs", NFS_SERVER="nas", MOUNT_SYSTEM="0", MOUNT_FSTAB="0").steps[0]
mounted = Entry(data.source, data.point, "nfs")
stub = Stub({f"umount -n {data.point}": ""}, [mounted])

async def probe(*_, timeout):
    stub.later = Stub()._table

async def run(argv, run=stub.run, **_):
    stub.invalidate()
    return await run(argv)

stub.probe, stub.run = probe, run

class Upgraded:
    def find_spec(self, name, *_):
        if name.startswith("envstart"):
            raise ImportError(f"{name} is of another version")

sys.meta_path.insert(0, Upgraded())
undo = Undo()
undo.tried = True
done(data._undo_start(stub.host, data.point, undo))
print(*stub.called)
"""


def test_a_mount_is_taken_back_although_the_package_is_another_one_by_then(tmp_path: Path) -> None:
    """A start waits for minutes, and an upgrade does not wait for it."""
    child = subprocess.run(
        [sys.executable, "-c", UPGRADED, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stderr, child.stdout) == ("", "umount -n /usr/jails/jails-data/env1-data\n")
