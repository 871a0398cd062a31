"""When an environment was last started on this host: between the hook's end and the moment in which CBSD's database and
the kernel say that it runs, nobody else can tell that it is about to (docs/cbsd.md#calls). And what a start that has
failed has left at work."""

from __future__ import annotations

from envstart.system import rundir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def record_start(name: str) -> None:
    """Say that the environment of this lock was started now. Without room for that, nobody is told."""
    rundir.touch(f"{name}.started")


def start_token(name: str) -> bytes:
    """What is another one after each start."""
    return rundir.read(f"{name}.started")


def age(name: str) -> float | None:
    """Return how many seconds ago the environment was last started; None if that is not written anywhere."""
    return rundir.age(f"{name}.started")


def within(name: str, seconds: float) -> bool:
    """Whether it was started less than so many seconds ago."""
    passed = age(name)
    return passed is not None and passed < seconds


def record_leftovers(name: str, pids: Sequence[int]) -> None:
    """Say that a start has left these commands behind: nothing ends them, and each can still mount."""
    from envstart.system import process_table

    rundir.write(f"{name}.left", "".join(f"{pid} {process_table.start_time(pid)}\n" for pid in pids).encode())


def leftovers(name: str) -> list[int]:
    """Which of them are still at work."""
    rows = [line.split() for line in rundir.read(f"{name}.left").splitlines()]
    if not rows:
        return []
    from envstart.system import process_table

    try:
        alive = [int(pid) for pid, began in rows if process_table.same_process(int(pid), float(began))]
    except ValueError:
        # Only a part of it was written: the disk was full. A stop must not fail by that.
        alive = []
    if not alive:
        rundir.write(f"{name}.left", b"")
    return alive
