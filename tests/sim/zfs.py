"""zfs(8), as far as hooks use it, and as an administrator looks in; mount(8) mounts its datasets too."""

from __future__ import annotations

import errno
import os
import shutil

from . import kernel, vfs
from .errors import error
from .machine import Machine, fail, say
from .options import UsageError, getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Dataset, State
    from .vfs import Place

FLAGS = ["local", "nfsv4acls"]


def main(machine: Machine, argv: list[str]) -> int:
    verbs = {
        "clone": clone, "create": create, "destroy": destroy, "get": get, "list": list_all, "mount": mount_by_name,
        "set": set_property, "snapshot": snapshot, "unmount": unmount,
    }  # fmt: skip
    if not argv:
        return fail("missing command", 2)
    if argv[0] not in verbs:
        return fail(f"unrecognized command '{argv[0]}'", 2)
    return verbs[argv[0]](machine, argv[1:])


def kind(name: str, dataset: Dataset) -> str:
    if "@" in name:
        return "snapshot"
    return "volume" if dataset["mountpoint"] == "-" else "filesystem"


def shown(state: State, name: str) -> dict[str, str]:
    """Return the properties of a dataset as zfs(8) prints them."""
    dataset = state["datasets"][name]
    mounted = any(mount["special"] == name for mount in state["mounts"])
    known = {"name": name, "type": kind(name, dataset), "mounted": "yes" if mounted else "no"}
    known.update({key: value for key, value in dataset.items() if isinstance(value, str)})
    return {**known, "mountpoint": "-", "canmount": "-", "mounted": "-"} if known["type"] == "snapshot" else known


def get(machine: Machine, argv: list[str]) -> int:
    """``zfs get -H -p -o value PROPERTY[,...] DATASET``: a line for each."""
    try:
        found, (wanted, name) = getopt(argv, "Hpo:")
    except (UsageError, ValueError):
        return fail("missing property argument", 2)
    assert values(found, "o") == ["value"], "only this column is known here"
    state = machine.state()
    if name not in state["datasets"]:
        return fail(f"cannot open '{name}': dataset does not exist")
    for word in wanted.split(","):
        say(shown(state, name)[word])
    return 0


def list_all(machine: Machine, argv: list[str]) -> int:
    """``zfs list [-Hpr] [-d DEPTH] [-o PROPERTY,...] [-t TYPE,...] [DATASET ...]``: with -H, or nothing to list."""
    found, names = getopt(argv, "Hprd:o:t:")
    state = machine.state()
    missing = [name for name in names if name not in state["datasets"]]
    for name in missing:
        fail(f"cannot open '{name}': dataset does not exist")
    types = ",".join(values(found, "t")).split(",") if values(found, "t") else ["filesystem", "volume"]
    depth = int((values(found, "d") or ["999" if "r" in letters(found) or not names else "0"])[-1])
    rows = [
        shown(state, name)
        for name in sorted(state["datasets"])
        if (not names or any(level(name, top) <= depth for top in names))
        and ({"all", shown(state, name)["type"]} & set(types) or name in names)
    ]
    if not rows and not missing:
        fail("no datasets available")
    for row in rows:
        assert "H" in letters(found), "only -H is known here"
        say("\t".join(row[word] for word in ",".join(values(found, "o")).split(",")))
    return 1 if missing else 0


def level(name: str, top: str) -> float:
    """Return how deep NAME lies below TOP, infinity where it does not."""
    below = name[len(top) :]
    if not name.startswith(top) or (below and below[0] not in "/@"):
        return float("inf")
    return below.count("/") + below.count("@")


def given(found: list[tuple[str, str]]) -> dict[str, str]:
    return dict(value.split("=", 1) for value in values(found, "o"))


def add(state: State, machine: Machine, name: str, properties: dict[str, str], origin: str) -> str:
    """Make a file system, or return what zfs(8) says of the attempt."""
    if machine.uid(state) != 0:
        return f"cannot create '{name}': permission denied"
    if origin != "-" and origin not in state["datasets"]:
        return f"cannot open '{origin}': dataset does not exist"
    parent = name.rpartition("/")[0]
    if parent not in state["datasets"]:
        return f"cannot create '{name}': parent does not exist"
    if name in state["datasets"]:
        return f"cannot create '{name}': dataset already exists"
    above = state["datasets"][parent]["mountpoint"]
    inherited = above if above in ("none", "legacy") else f"{above}/{name.rpartition('/')[2]}"
    path = f"{machine.path}/fs/zfs-{name.replace('/', '-')}"
    made: Dataset = {
        "files": path, "origin": origin, "quota": properties.get("quota", "none"),
        "readonly": properties.get("readonly", "off"), "mountpoint": properties.get("mountpoint", inherited),
        "canmount": properties.get("canmount", "on"),
    }  # fmt: skip
    # What one that was killed has left: of a real one there is all or nothing.
    shutil.rmtree(path, ignore_errors=True)
    if origin == "-":
        os.makedirs(path)
    else:
        shutil.copytree(state["datasets"][origin]["files"], path, symlinks=True)
    state["datasets"][name] = made
    return ""


def mount_what_is_made(machine: Machine, complaint: str, name: str) -> int:
    if complaint:
        return fail(complaint)
    dataset = machine.state()["datasets"][name]
    mounts = dataset["canmount"] == "on" and dataset["mountpoint"] not in ("none", "legacy")
    return mount_by_name(machine, [name]) if mounts else 0


def create(machine: Machine, argv: list[str]) -> int:
    found, (name,) = getopt(argv, "o:pu")
    parents = name.split("/")
    if "p" in letters(found):
        for number in range(1, len(parents)):
            above = "/".join(parents[:number])
            machine.call(lambda state: add(state, machine, above, {}, "-"))  # noqa: B023
    complaint = machine.call(lambda state: add(state, machine, name, given(found), "-"))
    return mount_what_is_made(machine, complaint, name)


def clone(machine: Machine, argv: list[str]) -> int:
    found, (origin, name) = getopt(argv, "o:pu")
    complaint = machine.call(lambda state: add(state, machine, name, given(found), origin))
    return mount_what_is_made(machine, complaint, name)


def snapshot(machine: Machine, argv: list[str]) -> int:
    (name,) = argv
    top = name.partition("@")[0]

    def act(state: State) -> str:
        if top not in state["datasets"]:
            return f"cannot open '{top}': dataset does not exist"
        if name in state["datasets"]:
            return f"cannot create snapshot '{name}': dataset already exists"
        if machine.uid(state) != 0:
            return "cannot create snapshots : permission denied"
        path = f"{machine.path}/fs/zfs-{name.replace('/', '-')}"
        shutil.copytree(state["datasets"][top]["files"], path, symlinks=True)
        state["datasets"][name] = {**state["datasets"][top], "files": path, "origin": "-"}
        return ""

    complaint = machine.call(act)
    return fail(complaint) if complaint else 0


def destroy(machine: Machine, argv: list[str]) -> int:
    """Refuse: no hook destroys anything."""
    (name,) = argv
    clones = sorted(other for other, dataset in machine.state()["datasets"].items() if dataset["origin"] == name)
    assert clones, "only the refusal is known here"
    lines = [f"cannot destroy '{name}': snapshot has dependent clones", "use '-R' to destroy the following datasets:"]
    return fail("\n".join([*lines, *clones]))


def set_property(machine: Machine, argv: list[str]) -> int:
    """Set a property; a new mountpoint mounts the dataset, too, unless canmount is off (docs/freebsd.md#zfs)."""
    assignment, name = argv
    key, value = assignment.split("=", 1)

    def act(state: State) -> str:
        if name not in state["datasets"]:
            return f"cannot open '{name}': dataset does not exist"
        if machine.uid(state) != 0:
            return f"cannot set property for '{name}': permission denied"
        state["datasets"][name].update({key: value})  # type: ignore[misc]
        return ""

    complaint = machine.call(act)
    if complaint or key != "mountpoint":
        return fail(complaint) if complaint else 0
    return mount_what_is_made(machine, "", name)


def mount_by_name(machine: Machine, argv: list[str]) -> int:
    (name,) = argv
    dataset = machine.state()["datasets"].get(name)
    if dataset is None:
        return fail(f"cannot open '{name}': dataset does not exist")
    if dataset["mountpoint"] in ("none", "legacy"):
        return fail(f"cannot mount '{name}': {dataset['mountpoint']} mountpoint")
    if any(known["special"] == name for known in machine.state()["mounts"]):
        return fail(f"cannot mount '{name}': filesystem already mounted")
    place = machine.look(lambda state: vfs.resolve(state, dataset["mountpoint"], machine.empty))
    os.makedirs(place.real, exist_ok=True)
    machine.call(lambda state: mount(state, name, machine.place(state, dataset["mountpoint"]), [], []))
    return 0


def unmount(machine: Machine, argv: list[str]) -> int:
    (name,) = argv
    known = next((known for known in machine.state()["mounts"] if name in (known["special"], known["node"])), None)
    if known is None:
        return fail(f"cannot unmount '{name}': not currently mounted")
    fsid = known["fsid"]
    try:
        machine.call(lambda state: kernel.unmount(state, machine, fsid, force=False))
    except OSError:
        return fail(f"cannot unmount '{known['node']}': pool or dataset is busy")
    return 0


def mount(state: State, name: str, place: Place, flags: list[str], words: list[str]) -> None:
    dataset = state["datasets"].get(name)
    if dataset is None:
        raise error(errno.ENOENT)
    if any(known["special"] == name and known["fstype"] == "zfs" for known in state["mounts"]):
        raise error(errno.EBUSY)
    if "@" in name:
        flags = ["ro", "noatime", *flags]
    elif dataset["readonly"] == "on" and not {"rw", "noro"} & set(words):
        flags = ["ro", *flags]
    kernel.add_mount(state, place, name, "zfs", [*flags, *FLAGS], backing=dataset["files"])
