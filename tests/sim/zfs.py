"""zfs(8), as far as hooks use it, and as an administrator looks in; mount(8) mounts its datasets too."""

from __future__ import annotations

import errno
import os
import shutil

from . import kernel
from .errors import error
from .machine import Machine, fail, say
from .options import UsageError, getopt, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Dataset, State
    from .vfs import Place


def main(machine: Machine, argv: list[str]) -> int:
    verbs = {"get": get, "clone": clone, "mount": mount_by_name, "unmount": unmount}
    if not argv:
        return fail("missing command", 2)
    if argv[0] not in verbs:
        return fail(f"unrecognized command '{argv[0]}'", 2)
    return verbs[argv[0]](machine, argv[1:])


def get(machine: Machine, argv: list[str]) -> int:
    """``zfs get -H -p -o value PROPERTY[,...] DATASET``: a line for each."""
    try:
        found, (wanted, name) = getopt(argv, "Hpo:")
    except (UsageError, ValueError):
        return fail("missing property argument", 2)
    assert values(found, "o") == ["value"], "only this column is known here"
    dataset = machine.state()["datasets"].get(name)
    if dataset is None:
        return fail(f"cannot open '{name}': dataset does not exist")
    mounted = any(mount["special"] == name for mount in machine.state()["mounts"])
    known = {"mounted": "yes" if mounted else "no", **dataset}
    for word in wanted.split(","):
        say(str(known[word]))
    return 0


def clone(machine: Machine, argv: list[str]) -> int:
    found, (snapshot, name) = getopt(argv, "o:pu")
    given = dict(value.split("=", 1) for value in values(found, "o"))
    path = f"{machine.path}/fs/zfs-{name.replace('/', '-')}"

    def act(state: State) -> str:
        if machine.uid(state) != 0:
            return f"cannot create '{name}': permission denied"
        if snapshot not in state["datasets"]:
            return f"cannot open '{snapshot}': dataset does not exist"
        parent = name.rpartition("/")[0]
        if parent not in state["datasets"]:
            return f"cannot create '{name}': parent does not exist"
        if name in state["datasets"]:
            return f"cannot create '{name}': dataset already exists"
        inherited = f"{state['datasets'][parent]['mountpoint']}/{name.rpartition('/')[2]}"
        made: Dataset = {
            "files": path, "origin": snapshot,
            "mountpoint": given.get("mountpoint", inherited), "canmount": given.get("canmount", "on"),
        }  # fmt: skip
        # What one that was killed has left: of a real one there is all or nothing.
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(state["datasets"][snapshot]["files"], path, symlinks=True)
        state["datasets"][name] = made
        return ""

    complaint = machine.call(act)
    if complaint:
        return fail(complaint)
    return mount_by_name(machine, [name]) if machine.state()["datasets"][name]["canmount"] == "on" else 0


def mount_by_name(machine: Machine, argv: list[str]) -> int:
    (name,) = argv
    dataset = machine.state()["datasets"].get(name)
    if dataset is None:
        return fail(f"cannot open '{name}': dataset does not exist")
    if dataset["mountpoint"] in ("none", "legacy"):
        return fail(f"cannot mount '{name}': {dataset['mountpoint']} mountpoint")
    if any(known["special"] == name for known in machine.state()["mounts"]):
        return fail(f"cannot mount '{name}': filesystem already mounted")
    os.makedirs(dataset["mountpoint"], exist_ok=True)
    machine.call(lambda state: mount(state, name, machine.place(state, dataset["mountpoint"]), []))
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


def mount(state: State, name: str, place: Place, flags: list[str]) -> None:
    dataset = state["datasets"].get(name)
    if dataset is None:
        raise error(errno.ENOENT)
    if any(known["special"] == name and known["fstype"] == "zfs" for known in state["mounts"]):
        raise error(errno.EBUSY)
    kernel.add_mount(state, place, name, "zfs", [*flags, "local"], backing=dataset["files"])
