"""What the fuzz tests share: how much they try, and texts as a cut, a torn read, a bad disk or an enemy makes them.

In `make test` each tries little, and the same each time; `make proof-fuzz` tries FUZZ times as much, in ways that hang
on the SEED that it prints.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("ENVSTART_FUZZ", "1"))
# Values that a program which is sure of its types does not expect.
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 70,
    0.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\udcff\n",
    [],
    {},
    [[]],
    {"x": {}},
    ["/"],
)
# Samples: a mount table, a configuration, words of the command lines of hooks and of the tool.
ROOT = {"special": "/dev/da0", "node": "/", "fstype": "ufs", "opts": ["local"]}
MOUNTED = json.dumps(
    {"mount": {"mounted": [ROOT, {"special": "nas:/x", "node": "/a b", "fstype": "nfs", "opts": ["read-only"]}]}}
)
CONFIGURATION = (
    b'NFS_SERVER="10.0.0.1"\nTIMEOUT=20\nexport MOUNT_FSTAB=0\n[web*]\nNFS_SERVER=nas\nREQUIRE_DATA="etc bin"\n'
)
WORDS = [
    *"-d -f -j -r -s -c -n -v -h -- --help - / /a /a/../b j1 -vn -d/x -jj1 \udcff /\x1b[m".split(),
    *("", "a\nb", "/usr/jails/jails-data/j1-data", "/usr/jails/jails-system/j1"),
]
VERBS = (
    "start stop status check plan recover orphans doctor config install jailconf show sample nfs nullfs --json "
    "--nagios --level write --stop --grace 1 nan -w -l --env --data --timeout --address 10.0.0.1/24 --preempt"
).split()
# JSON that is nested without end.
DEEP = ("[" * 100_000, '{"a":' * 100_000)


def tries(count: int) -> Callable[[Any], Any]:
    """Return settings of one fuzz test, which tries ``count`` inputs in `make test`."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


@st.composite
def mutants(draw: st.DrawFn, samples: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of the samples after a few accidents; ``words`` are pieces that mean something to its reader."""
    data = draw(st.sampled_from(samples))
    junk = st.binary(max_size=8) | st.sampled_from([*words, b"\0", b"\n", b"\xff", b" ", b'"', b"\\"])
    place = st.integers(0, 1 << 20)
    kind = st.sampled_from(("cut", "drop", "insert", "flip", "double"))
    for what, one, other, piece in draw(st.lists(st.tuples(kind, place, place, junk), max_size=5)):
        at = one % (len(data) + 1)
        end = min(len(data), at + other % 64)
        if what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[end:]
        elif what == "insert":
            data = data[:at] + piece + data[at:]
        elif what == "double":
            data = data[:end] + data[at:]
        elif at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << other % 8)]) + data[at + 1 :]
    return data


@st.composite
def bent(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """Return a JSON sample of which some values are other ones."""
    tree = json.loads(draw(st.sampled_from(samples)))
    for number, odd in draw(st.lists(st.tuples(st.integers(0, 1 << 20), st.sampled_from(ODD)), min_size=1, max_size=3)):
        places = list(_places(tree))
        if places:
            holder, key = places[number % len(places)]
            if odd == 0.5:
                # As if it was left out.
                del holder[key]
            else:
                holder[key] = copy.deepcopy(odd)
    return json.dumps(tree)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """All containers and keys in it."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])
