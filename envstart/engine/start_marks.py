"""Mark when a jail or VM was last started on this host, and what a failed start has left at work.

Between the hook's end and the moment in which CBSD's database and the kernel say that it runs, nothing else tells that
it is about to (docs/cbsd.md#calls).
"""

from __future__ import annotations

from envstart.system import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def record_start(name: str) -> None:
    """Mark the jail or VM of this lock as started now; without room on the disk there is no mark."""
    rundir.touch(f"{name}.started")


def start_token(name: str) -> bytes:
    """Return a token that differs after each start."""
    return rundir.read(f"{name}.started")


def age(name: str) -> float | None:
    """Return the seconds since the last start; None without a mark."""
    return rundir.age(f"{name}.started")


def within(name: str, seconds: float) -> bool:
    """Tell whether it was started less than so many seconds ago."""
    passed = age(name)
    return passed is not None and passed < seconds


def record_leftovers(name: str, pids: Sequence[int]) -> None:
    """Record the commands that a start has left behind: nothing ends them, and each can still mount."""
    from envstart.system import process_table

    rundir.write(f"{name}.left", "".join(f"{pid} {process_table.start_time(pid)}\n" for pid in pids).encode())


def leftovers(name: str) -> list[int]:
    """Return those of them that are still at work."""
    rows = [line.split() for line in rundir.read(f"{name}.left").splitlines()]
    if not rows:
        return []
    from envstart.system import process_table

    try:
        alive = [int(pid) for pid, began in rows if process_table.same_process(int(pid), float(began))]
    except ValueError:
        # Only a part of it was written: the disk was full.
        alive = []
    if not alive:
        rundir.write(f"{name}.left", b"")
    return alive
