"""HAST resources: the role of each node, who is connected with whom, and when /dev/hast/NAME is there."""

from __future__ import annotations

import time

from . import box, geom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import Box, Node, Resource, State

INIT, PRIMARY, SECONDARY = "init", "primary", "secondary"
BOTH_PRIMARY, BOTH_WRITING = "both primary", "both writing"


def host_of(state: State) -> str:
    return state["settings"]["hostname"]


def mine(state: State, known: Box) -> dict[str, Resource]:
    """Return the resources that this machine has in its hast.conf."""
    host = host_of(state)
    return {name: resource for name, resource in known["resources"].items() if host in resource["nodes"]}


def gate(name: str) -> str:
    return f"hast/{name}"


def settle(state: State, machine: Machine, known: Box, now: float) -> list[float]:
    """Let the device of a primary come some time after the role, and go with it; return when to look again."""
    dues = []
    for name, resource in mine(state, known).items():
        node = resource["nodes"][host_of(state)]
        there = gate(name) in state["gates"]
        due = node["since"] + state["settings"]["hast_seconds"]
        if node["role"] != PRIMARY and there:
            geom.remove(state, machine, gate(name))
        elif node["role"] == PRIMARY and not there and now < due:
            dues.append(due)
        elif node["role"] == PRIMARY and not there:
            if state["settings"]["hast_falls_back"] or not node["created"]:
                box.change(state["storage"], lambda changed: fall_back(changed, name, host_of(state)))  # noqa: B023
            else:
                geom.add_gate(state, machine, gate(name), resource["image"])
    return dues


def fall_back(known: Box, name: str, host: str) -> None:
    """Take the role back in silence, as hastd does when its worker could not start."""
    known["resources"][name]["nodes"][host].update({"role": INIT, "since": time.time()})


def set_role(known: Box, name: str, host: str, role: str) -> None:
    resource = known["resources"][name]
    node = resource["nodes"][host]
    note_writers(known, name)
    if node["role"] == role:
        return
    previous = role if role != INIT else node["previous"]
    node.update({"role": role, "since": time.time(), "previous": previous, "pid": node["pid"] + 1})
    if sum(each["role"] == PRIMARY and each["alive"] for each in resource["nodes"].values()) > 1:
        resource["split"] = resource["split"] or BOTH_PRIMARY


def note_writers(known: Box, name: str) -> None:
    """Two primaries that both have it mounted for writing: from then on the two copies differ for good."""
    resource = known["resources"][name]
    primaries = [host for host, node in resource["nodes"].items() if node["role"] == PRIMARY and node["alive"]]
    if len(primaries) > 1 and all(writes(known, host, gate(name)) for host in primaries):
        resource.update({"split": BOTH_WRITING, "torn": True})


def writes(known: Box, host: str, provider: str) -> bool:
    from .store import Store

    try:
        mounts = Store(known["worlds"][host]).read()["mounts"]
    except FileNotFoundError:
        return False
    return any(mount["options"].get("provider") == provider and "ro" not in mount["flags"] for mount in mounts)


def connected(resource: Resource, host: str, seconds: float) -> bool:
    """Tell whether this node and the other one, primary and secondary, are connected by now."""
    node, peer = resource["nodes"][host], other(resource, host)
    if peer is None or not resource["linked"] or resource["torn"]:
        return False
    if not (node["alive"] and peer["alive"]) or {node["role"], peer["role"]} != {PRIMARY, SECONDARY}:
        return False
    return time.time() >= max(node["since"], peer["since"], resource["linked_since"]) + seconds


def other(resource: Resource, host: str) -> Node | None:
    return next((node for name, node in resource["nodes"].items() if name != host), None)
