"""ssh(1) to a file server of the simulation, where a shell knows cp -a, rm -rf and mkdir -p."""

from __future__ import annotations

import os
import shlex
import shutil

from .machine import Machine, fail
from .options import getopt
from .store import BlockedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .shapes import Server, State


def main(machine: Machine, argv: list[str]) -> int:
    _, (where, *words) = getopt(argv, "o:i:l:p:")
    host = where.rpartition("@")[2]

    def connected(state: State) -> Server:
        server = state["servers"].get(host)
        if server is not None and server["state"] == "frozen":
            raise BlockedError(host)
        return state["servers"][host]

    if host not in machine.state()["servers"]:
        return fail(f"ssh: connect to host {host} port 22: Host is down", 255)
    tree = machine.look(connected)["tree"]
    # The shell there splits anew what ssh has put together.
    program, switch, *paths = shlex.split(" ".join(words))
    return COMMANDS[program, switch](tree, *paths)


def copy(tree: str, old: str, new: str) -> int:
    if not os.path.isdir(tree + old):
        return fail(f"cp: {old}: No such file or directory")
    # Into a directory that is there already, as cp(1) does it.
    into = f"{new}/{os.path.basename(old)}" if os.path.isdir(tree + new) else new
    shutil.copytree(tree + old, tree + into, symlinks=True)
    return 0


def remove(tree: str, path: str) -> int:
    shutil.rmtree(tree + path, ignore_errors=True)
    return 0


def make(tree: str, path: str) -> int:
    os.makedirs(tree + path, exist_ok=True)
    return 0


COMMANDS: dict[tuple[str, str], Callable[..., int]] = {("cp", "-a"): copy, ("rm", "-rf"): remove, ("mkdir", "-p"): make}
