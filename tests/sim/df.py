"""df(1), with sizes that say nothing."""

from __future__ import annotations

import json
import sys

from . import vfs
from .listing import wait_for_all
from .machine import Machine, fail, warn, words_of
from .mount import of_type
from .options import UsageError, getopt, letters, take_libxo, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Mount, State

USAGE = """\
usage: df [-b | -g | -H | -h | -k | -m | -P] [-acilnT] [-t type] [-,]
          [file | filesystem ...]"""
TOTAL, USED, FREE = 2088927, 190882, 1793599


def main(machine: Machine, argv: list[str]) -> int:
    style, argv = take_libxo(argv)
    try:
        found, operands = getopt(argv, "abcgHhiklmnPTt:,")
    except UsageError as problem:
        warn(f"df: {problem.complaint}")
        return fail(USAGE)
    status = 0
    if operands:
        mounts = []
        for name in operands:
            try:
                mounts.append(machine.look(lambda state: file_system_of(state, machine, name)))  # noqa: B023
            except OSError as problem:
                status = fail(f"df: {name}: {words_of(problem)}")
        if not mounts:
            return status
    elif "n" in letters(found):
        mounts = vfs.listed(machine.state())
    else:
        mounts = machine.look(wait_for_all)
    chosen = [mount for mount in mounts if of_type(mount["fstype"], ",".join(values(found, "t")))]
    sys.stdout.write(as_json(chosen) if style.startswith("json") else as_table(chosen))
    return status


def file_system_of(state: State, machine: Machine, name: str) -> Mount:
    for mount in reversed(state["mounts"]):
        if name == mount["special"] and name.startswith("/dev/"):
            return mount
    mount = machine.place(state, name).mount
    vfs.reach(state, mount, name)
    return mount


def as_table(mounts: list[Mount]) -> str:
    width = max([len("Filesystem"), *(len(mount["special"]) for mount in mounts)])
    lines = [f"{'Filesystem':<{width}} 1K-blocks   Used   Avail Capacity  Mounted on"]
    sizes = f"{TOTAL:>9} {USED:>6} {FREE:>7}    10%    "
    lines += [f"{mount['special']:<{width}} {sizes}{mount['node']}" for mount in mounts]
    return "\n".join(lines) + "\n"


def as_json(mounts: list[Mount]) -> str:
    rows = [
        {
            "name": mount["special"],
            "total-blocks": TOTAL,
            "used-blocks": USED,
            "available-blocks": FREE,
            "used-percent": 10,
            "mounted-on": mount["node"],
        }
        for mount in mounts
    ]
    return json.dumps({"storage-system-information": {"filesystem": rows}}) + "\n"
