"""GEOM: which providers there are, who has them open, and which nodes of /dev show them.

Every function here works on the state inside one `Store.change`. Disks, memory disks, gates, ELI devices and
multipaths are kept in the state; partitions and labels come and go by `taste`.
"""

from __future__ import annotations

import errno
import os

from . import metadata
from .errors import error
from .provider import Provider as Provider
from .provider import depth as depth
from .provider import find as find
from .provider import image as image
from .provider import mediasize as mediasize
from .provider import name_of as name_of
from .provider import providers as providers
from .provider import sectorsize as sectorsize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import Disk, Open, State

    Mode = tuple[int, int, int]

CLOSED = (0, 0, 0)


# Who has what open


def added(*modes: Mode) -> Mode:
    return sum(m[0] for m in modes), sum(m[1] for m in modes), sum(m[2] for m in modes)


def through(kind: str, mode: Mode) -> Mode:
    """Return what an open provider of class KIND opens below it: partitions and labels keep other writers away."""
    r, w, e = mode
    if kind == "PART":
        return r, w, w + e
    if kind == "LABEL" and mode != CLOSED:
        return r, w, e + 1
    return mode


def consumers(state: State, name: str) -> list[tuple[str, str, Mode]]:
    """Class, geom and mode of everything that is attached to the provider NAME, be it open or not."""
    found = [("DEV", name, added(*(_opened_by(holder) for holder in holders(state, name))))]
    for mount in state["mounts"]:
        if mount["options"].get("provider") == name:
            found.append(("VFS", f"ffs.{name}", (1, 0, 0) if "ro" in mount["flags"] else (1, 1, 1)))
    for geom, eli in state["elis"].items():
        if eli["provider"] == name:
            found.append(("ELI", geom, (1, 0, 1) if eli["readonly"] else (1, 1, 1)))
    for geom, multipath in state["multipaths"].items():
        if name in multipath["paths"]:
            found.append(("MULTIPATH", geom, added((1, 1, 1), mode(state, f"multipath/{geom}"))))
    parts = [part for part, what in state["parts"].items() if what["lower"] == name]
    if parts:
        found.append(("PART", name, added(*(through("PART", mode(state, part)) for part in parts))))
    for label, lower in state["labels"].items():
        if lower == name:
            found.append(("LABEL", label, through("LABEL", mode(state, label))))
    return found


def holders(state: State, name: str) -> list[Open]:
    """Return the processes that have the node itself open, as fsck(8) while it works."""
    here = [holder for holder in state["opens"] if holder["name"] == name]
    here += [
        {"name": name, "pid": int(pid), "writes": False} for pid, other in state["opening"].items() if other == name
    ]
    if here:
        from .users import alive

        here = [holder for holder in here if alive(holder["pid"])]
    return here


def _opened_by(holder: Open) -> Mode:
    return 1, 1 if holder["writes"] else 0, 0


def mode(state: State, name: str) -> Mode:
    """Return the open counts that GEOM shows as rXwYeZ."""
    return added(*(mode for _, _, mode in consumers(state, name)))


def users(state: State, name: str) -> list[tuple[str, str]]:
    """Return the users of NAME and of names above it: ("mount", directory), ("eli", geom), ("multipath", geom)."""
    found = []
    for mount in state["mounts"]:
        if mount["options"].get("provider") == name:
            found.append(("mount", mount["node"]))
    for kind, geom, _ in consumers(state, name):
        if kind in ("ELI", "MULTIPATH"):
            found.append((kind.lower(), geom))
        elif kind == "LABEL":
            found += users(state, geom)
    for part, what in state["parts"].items():
        if what["lower"] == name:
            found += users(state, part)
    return found + [("process", str(holder["pid"])) for holder in holders(state, name)]


def check_access(state: State, name: str, wanted: Mode, by: tuple[str, str] = ("", "")) -> None:
    """g_access: EPERM where writers and the exclusive meet, EROFS for writing on what is read-only.

    BY is the consumer that asks; what it has open already is no obstacle to itself.
    """
    provider = providers(state)[name]
    others = added(CLOSED, *(m for kind, geom, m in consumers(state, name) if (kind, geom) != by))
    _, w, e = wanted
    if (w and others[2]) or (e and others[1]):
        raise error(errno.EPERM)
    if w and provider.readonly:
        raise error(errno.EROFS)
    if provider.kind == "PART":
        check_access(state, provider.lowers[0], through("PART", wanted), ("PART", provider.lowers[0]))
    elif provider.kind == "LABEL":
        check_access(state, provider.lowers[0], through("LABEL", wanted), ("LABEL", name))
    elif provider.kind == "MULTIPATH":
        for lower in provider.lowers:
            check_access(state, lower, wanted, ("MULTIPATH", name.partition("/")[2]))


def wrote(state: State, name: str) -> None:
    """NAME was opened for writing: an ELI device below it remembers, for `attach -d`."""
    if name in state["elis"]:
        state["elis"][name]["written"] = True
    elif name in state["labels"]:
        wrote(state, state["labels"][name])


def closed(state: State, machine: Machine, name: str) -> None:
    """Somebody closed NAME: an ELI device may go with its last user, and everything is tasted again."""
    lower = state["labels"].get(name, name)
    state["untasted"] = [other for other in state["untasted"] if other != lower]
    eli = state["elis"].get(lower)
    if eli and eli["on_last_close"] and eli["written"] and mode(state, lower) == CLOSED:
        del state["elis"][lower]
        closed(state, machine, eli["provider"])
    taste(state, machine)


# Coming and going


def add_disk(state: State, machine: Machine, name: str, disk: Disk) -> None:
    state["disks"][name] = disk
    taste(state, machine)


def add_gate(state: State, machine: Machine, name: str, image: str, spec: str = "", pid: int = 0) -> None:
    if "geom_gate" not in state["modules"]:
        # hastd(8) and ggatel(8) load it.
        state["modules"].append("geom_gate")
    state["gates"][name] = {"image": image, "spec": spec, "pid": pid}
    taste(state, machine)


def remove(state: State, machine: Machine, name: str) -> None:
    """NAME is ripped out, and all that is above it. Its file systems stay in the table, dead."""
    _remove(state, name)
    taste(state, machine)


def _remove(state: State, name: str) -> None:
    for mount in state["mounts"]:
        if mount["options"].get("provider") == name:
            mount["options"].update(provider="", image="", lost="yes")
    for above in [provider for provider in providers(state).values() if name in provider.lowers]:
        if above.kind == "MULTIPATH":
            multipath = state["multipaths"][above.name.partition("/")[2]]
            multipath["paths"].remove(name)
            if multipath["paths"]:
                continue
        _remove(state, above.name)
    state["opens"] = [holder for holder in state["opens"] if holder["name"] != name]
    for table in ("disks", "gates", "elis", "parts", "labels"):
        state[table].pop(name, None)
    state["units"].pop(name[len("md") :], None)
    if name.startswith("multipath/"):
        state["multipaths"].pop(name[len("multipath/") :], None)


def taste(state: State, machine: Machine) -> None:
    """Every class looks at every provider again; what is open stays, what somebody else writes on is let go."""
    _taste_multipaths(state)
    _taste_parts(state)
    _taste_labels(state)
    _make_nodes(state, machine)


def _taste_multipaths(state: State) -> None:
    if "geom_multipath" not in state["modules"]:
        return
    for provider in providers(state).values():
        if provider.kind not in ("DISK", "MD") or mode(state, provider.name)[1] or provider.name in state["untasted"]:
            continue
        found = metadata.tail(provider.image, metadata.MULTIPATH)
        if found is None:
            continue
        known = state["multipaths"].setdefault(found["name"], {"uuid": found["uuid"], "paths": [], "failed": []})
        if known["uuid"] == found["uuid"]:
            known["paths"].append(provider.name)


def _taste_parts(state: State) -> None:
    """One geom holds all partitions of a disk, so that writing on one of them lets none go."""
    bare = [provider for provider in providers(state).values() if provider.kind in ("DISK", "MD", "GATE")]
    others = {each.name: [m for kind, _, m in consumers(state, each.name) if kind != "PART"] for each in bare}
    state["parts"] = {name: part for name, part in state["parts"].items() if mode(state, name) != CLOSED}
    for provider in bare:
        table = metadata.head(provider.image, metadata.GPT)
        if table is None or added(CLOSED, *others[provider.name])[1]:
            continue
        for suffix, label in table.items():
            lower, image = provider.name, f"{provider.image}.{suffix}"
            state["parts"].setdefault(f"{lower}{suffix}", {"lower": lower, "image": image, "label": label})


def _taste_labels(state: State) -> None:
    kept = {name: lower for name, lower in state["labels"].items() if mode(state, name) != CLOSED}
    state["labels"] = dict(kept)
    for provider in [each for each in providers(state).values() if each.kind != "LABEL"]:
        written = mode(state, provider.name)[1]
        for label in [] if written else _labels_on(state, provider):
            state["labels"].setdefault(label, provider.name)


def _labels_on(state: State, provider: Provider) -> list[str]:
    found = []
    if provider.kind == "DISK" and state["disks"][provider.name]["ident"]:
        found.append(f"diskid/DISK-{state['disks'][provider.name]['ident']}")
    if provider.kind == "PART" and state["parts"][provider.name]["label"]:
        found.append(f"gpt/{state['parts'][provider.name]['label']}")
    superblock = metadata.head(provider.image, metadata.UFS)
    if superblock and superblock["label"]:
        found.append(f"ufs/{superblock['label']}")
    return found


def _make_nodes(state: State, machine: Machine) -> None:
    """Nodes are links to the images. A directory of /dev is there as long as something is in it."""
    wanted = {provider.name: provider.image for provider in providers(state).values()}
    for name, target in state["nodes"].items():
        if wanted.get(name) != target:
            node = f"{machine.path}/dev/{name}"
            if os.path.islink(node):
                os.unlink(node)
            if "/" in name and not os.listdir(os.path.dirname(node)):
                os.rmdir(os.path.dirname(node))
    for name, target in wanted.items():
        if state["nodes"].get(name) != target:
            node = f"{machine.path}/dev/{name}"
            os.makedirs(os.path.dirname(node), exist_ok=True)
            os.symlink(target, node)
    state["nodes"] = wanted
