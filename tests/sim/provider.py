"""The providers of GEOM: what each is made of, the file behind it and how large it is."""

from __future__ import annotations

import errno
import os

from .errors import error
from .mounted import check_provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import State

SECTOR = 512


class Provider:
    """A node of /dev. LOWERS are the providers it is made of."""

    def __init__(self, name: str, kind: str, image: str, lowers: list[str], *, readonly: bool = False) -> None:
        self.name = name
        self.kind = kind
        self.image = image
        self.lowers = lowers
        self.readonly = readonly


def providers(state: State) -> dict[str, Provider]:
    found = [Provider(name, "DISK", disk["image"], []) for name, disk in state["disks"].items()]
    found += [
        Provider(f"md{unit}", "MD", what["image"], [], readonly=what["readonly"])
        for unit, what in state["units"].items()
    ]
    found += [Provider(name, "GATE", gate["image"], []) for name, gate in state["gates"].items()]
    found += [Provider(name, "PART", part["image"], [part["lower"]]) for name, part in state["parts"].items()]
    found += [
        Provider(name, "ELI", eli["image"], [eli["provider"]], readonly=eli["readonly"])
        for name, eli in state["elis"].items()
    ]
    known = {provider.name: provider for provider in found}
    for name, multipath in state["multipaths"].items():
        image = known[multipath["paths"][0]].image if multipath["paths"] else ""
        known[f"multipath/{name}"] = Provider(f"multipath/{name}", "MULTIPATH", image, list(multipath["paths"]))
    for name, lower in state["labels"].items():
        if lower in known:
            known[name] = Provider(name, "LABEL", known[lower].image, [lower])
    return known


def name_of(device: str) -> str:
    return device[len("/dev/") :] if device.startswith("/dev/") else device


def find(state: State, device: str) -> Provider:
    """Return the provider behind the node DEVICE; a missing node is ENOENT, and one whose disk is silent blocks."""
    provider = providers(state).get(name_of(device))
    if provider is None or not device.startswith("/dev/"):
        raise error(errno.ENOENT, device)
    check_provider(state, provider.name, writing=False, opening=True)
    return provider


def image(state: State, machine: Machine, device: str) -> str:
    """Return the file behind the node DEVICE."""
    return find(state, device).image


def mediasize(state: State, name: str) -> int:
    provider = providers(state)[name]
    if provider.kind == "ELI":
        return (mediasize(state, provider.lowers[0]) - SECTOR) // sectorsize(state, name) * sectorsize(state, name)
    if provider.kind == "MULTIPATH":
        return mediasize(state, provider.lowers[0]) - SECTOR
    return mediasize(state, provider.lowers[0]) if provider.kind == "LABEL" else os.path.getsize(provider.image)


def sectorsize(state: State, name: str) -> int:
    provider = providers(state)[name]
    if provider.kind == "LABEL":
        return sectorsize(state, provider.lowers[0])
    return state["elis"][name]["sectorsize"] if provider.kind == "ELI" else SECTOR


def depth(state: State, name: str) -> int:
    """How many classes below NAME keep something in the last sector of the same image."""
    known = providers(state)
    provider = known.get(name)
    if provider is None or provider.kind not in ("MULTIPATH", "LABEL"):
        return 0
    return (provider.kind == "MULTIPATH") + (depth(state, provider.lowers[0]) if provider.lowers else 0)
