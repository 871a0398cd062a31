"""zpool(8), for replay only: a pool is the first part of its datasets' names."""

from __future__ import annotations

from .machine import Machine, fail, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

STATUS = """\
  pool: {name}
 state: ONLINE
config:

\tNAME        STATE     READ WRITE CKSUM
\t{name:<10}  ONLINE       0     0     0
\t  /pool/d0  ONLINE       0     0     0

errors: No known data errors"""


def main(machine: Machine, args: list[str]) -> int:
    verb, name = args[0], args[-1]
    pools = [dataset for dataset in machine.state()["datasets"] if "/" not in dataset]
    if verb == "list":
        for pool in pools:
            say(f"{pool}\tONLINE\toff")
    elif verb == "status":
        say(STATUS.format(name=name))
    elif verb in ("export", "import"):
        machine.call(lambda state: move(state, name, out=verb == "export"))
    else:
        return fail(f"unrecognized command '{verb}'", 2)
    return 0


def move(state: State, name: str, *, out: bool) -> None:
    if not out:
        state["datasets"].update(state["exported"].pop(name))
        return
    taken = [dataset for dataset in state["datasets"] if dataset.split("/")[0].split("@")[0] == name]
    state["exported"][name] = {dataset: state["datasets"].pop(dataset) for dataset in taken}
