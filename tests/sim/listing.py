"""The ways in which mount(8) prints the mount table."""

from __future__ import annotations

from . import libxo, vfs
from .store import BlockedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, Mount, State

# In the order in which mount(8) prints them.
WORDS = {
    "async": "asynchronous", "local": "local", "noatime": "noatime", "noexec": "noexec", "nosuid": "nosuid",
    "nosymfollow": "nosymfollow", "ro": "read-only", "sync": "synchronous", "union": "union",
    "suiddir": "suiddir", "soft-updates": "soft-updates", "nfsv4acls": "nfsv4acls",
}  # fmt: skip
FSTAB_WORDS = ("sync", "noexec", "nosuid", "union", "async", "noatime", "nosymfollow", "suiddir", "nfsv4acls")


def wait_for_all(state: State) -> list[Mount]:
    """getmntinfo(MNT_WAIT): every file system is asked; one that fails drops out, one that is dead blocks."""
    answered: list[Mount] = []
    for mount in state["mounts"]:
        try:
            vfs.reach(state, mount, mount["node"])
        except BlockedError:
            raise
        except OSError:
            continue
        answered.append(mount)
    return answered


def words(mount: Mount) -> list[str]:
    return [word for flag, word in WORDS.items() if flag in mount["flags"]]


def as_text(mount: Mount, *, verbose: bool) -> str:
    details = "".join(f", {word}" for word in words(mount))
    if verbose:
        details += f", fsid {mount['fsid']}, vnodes: count 1 "
    return f"{mount['special']} on {mount['node']} ({mount['fstype']}{details})\n"


def fstab_options(mount: Mount) -> str:
    first = "ro" if "ro" in mount["flags"] else "rw"
    return ",".join([first, *(word for word in FSTAB_WORDS if word in mount["flags"])])


def passes(mount: Mount) -> int:
    if mount["fstype"] != "ufs":
        return 0
    return 1 if mount["node"] == "/" else 2


def tabs(text: str) -> str:
    if len(text) >= 24:
        return " "
    return "\t" * (1 + (len(text) < 8) + (len(text) < 16))


def as_fstab(mount: Mount) -> str:
    special, node, options = mount["special"], mount["node"], fstab_options(mount)
    padding = "\t" if len(options) < 8 else ""
    names = f"{special}{tabs(special)}{node}{tabs(node)}{mount['fstype']}"
    return f"{names}\t{options}{padding}\t{passes(mount)} {passes(mount)}\n"


def as_json(mounts: list[Mount], switches: set[str], *, pretty: bool) -> str:
    entries = [fstab_entry(mount) if "p" in switches else entry(mount, verbose="v" in switches) for mount in mounts]
    name = "fstab" if "p" in switches else "mounted"
    if pretty:
        return libxo.pretty({"mount": {name: entries}}) + "\n"
    items = ", ".join(compact(found) for found in entries)
    return f'{{"mount": {{"{name}": [{items}]}}}}\n'


def entry(mount: Mount, *, verbose: bool) -> Json:
    found: Json = {"special": mount["special"], "node": mount["node"], "fstype": mount["fstype"]}
    if words(mount):
        found["opts"] = words(mount)
    if verbose:
        found["fsid"] = mount["fsid"]
        found["vnodes"] = {"count": 1}
    return found


def fstab_entry(mount: Mount) -> Json:
    return {
        "device": mount["special"],
        "mntpoint": mount["node"],
        "fstype": mount["fstype"],
        "opts": fstab_options(mount),
        "dump": passes(mount),
        "pass": passes(mount),
    }


def compact(found: Json) -> str:
    """Write it as libxo does, with a blank before the list of options and nowhere else."""
    parts = []
    for key, value in found.items():
        if isinstance(value, list):
            parts.append(f' "{key}": [{",".join(libxo.leaf(item) for item in value)}]')
        elif isinstance(value, dict):
            parts.append(f'"{key}":{compact(value)}')
        else:
            parts.append(f'"{key}":{libxo.leaf(value)}')
    return "{" + ",".join(parts) + "}"
