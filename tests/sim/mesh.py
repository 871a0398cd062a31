"""The GEOM mesh as the kernel tells it: every geom with its consumers and providers, and all of it as XML."""

from __future__ import annotations

import os

from . import geom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

    Mode = geom.Mode
    Config = list[tuple[str, str]]

# Class of a provider and the module without which the kernel does not have it.
MODULES = {"ELI": "geom_eli", "MULTIPATH": "geom_multipath", "GATE": "geom_gate"}
CLASSES = ("VFS", "DEV", "ELI", "LABEL", "PART", "MULTIPATH", "GATE", "MD", "DISK")
ELI_FLAGS = (("on_last_close", "W-DETACH"), ("readonly", "READ-ONLY"))


class Geom:
    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.config: Config = []
        self.consumers: list[tuple[str, Mode, Config]] = []
        self.providers: list[tuple[str, Config]] = []


def has_class(state: State, kind: str) -> bool:
    return kind not in MODULES or MODULES[kind] in state["modules"]


def geoms(state: State, wanted: str = "") -> list[Geom]:
    """All geoms, or those of the class WANTED."""
    found: dict[tuple[str, str], Geom] = {}

    def known(kind: str, name: str) -> Geom:
        return found.setdefault((kind, name), Geom(kind, name))

    for provider in geom.providers(state).values():
        name = _geom_name(provider)
        known(provider.kind, name).providers.append((provider.name, _provider_config(state, provider)))
    for provider in geom.providers(state).values():
        for kind, name, mode in geom.consumers(state, provider.name):
            config: Config = []
            if kind == "MULTIPATH":
                first = state["multipaths"][name]["paths"][0] == provider.name
                config = [("State", "ACTIVE" if first else "PASSIVE")]
            known(kind, name).consumers.append((provider.name, mode, config))
    for each in found.values():
        each.config = _geom_config(state, each)
    return [each for kind in CLASSES for each in found.values() if each.kind == kind and wanted in ("", kind)]


def _geom_name(provider: geom.Provider) -> str:
    """Return the name of the geom: one that makes many providers is named after what it sits on."""
    if provider.kind == "PART":
        return provider.lowers[0]
    return provider.name.partition("/")[2] if provider.kind == "MULTIPATH" else provider.name


def _provider_config(state: State, provider: geom.Provider) -> Config:
    size = geom.mediasize(state, provider.name)
    if provider.kind == "DISK":
        disk = state["disks"][provider.name]
        remote = bool(disk["session"])
        found = [("fwheads", "64" if remote else "255"), ("fwsectors", "32" if remote else "63")]
        found += [("rotationrate", "0" if remote else "unknown"), ("ident", disk["ident"])]
        if disk["lunid"]:
            found += [("lunid", disk["lunid"]), ("lunname", disk["lunid"])]
        return [*found, ("descr", disk["descr"])]
    if provider.kind == "MD":
        unit = state["units"][provider.name[2:]]
        access = "read-only" if unit["readonly"] else "read-write"
        return [
            ("unit", provider.name[2:]), ("sectorsize", "512"), ("fwheads", "0"), ("fwsectors", "0"),
            ("length", str(size)), ("compression", "off"), ("access", access), ("type", "vnode"),
            ("file", unit["file"]), ("label", ""),
        ]  # fmt: skip
    if provider.kind == "PART":
        part = state["parts"][provider.name]
        index = provider.name.rpartition("p")[2]
        return [("length", str(size)), ("offset", "20480"), ("index", index), ("type", "freebsd-ufs")] + (
            [("label", part["label"])] if part["label"] else []
        )
    if provider.kind == "LABEL":
        return [("length", str(size)), ("offset", "0"), ("index", "0"), ("seclength", str(size // 512))]
    return [("State", _path_state(state, provider.name.partition("/")[2]))] if provider.kind == "MULTIPATH" else []


def _path_state(state: State, name: str) -> str:
    multipath = state["multipaths"][name]
    return "DEGRADED" if len(multipath["paths"]) == 1 or multipath["failed"] else "OPTIMAL"


def _geom_config(state: State, each: Geom) -> Config:
    if each.kind == "ELI":
        eli = state["elis"][each.name]
        flags = ", ".join([*(word for key, word in ELI_FLAGS if eli[key]), "AUTORESIZE"])  # type: ignore[literal-required]
        return [
            ("KeysTotal", "1"), ("KeysAllocated", "1"), ("Flags", flags), ("UsedKey", str(eli["keyno"])),
            ("Version", "7"), ("Crypto", "accelerated software"), ("KeyLength", "128"),
            ("EncryptionAlgorithm", "AES-XTS"), ("State", "ACTIVE"),
        ]  # fmt: skip
    if each.kind == "MULTIPATH":
        uuid = state["multipaths"][each.name]["uuid"]
        return [
            ("State", _path_state(state, each.name)), ("UUID", uuid), ("Mode", "Active/Passive"), ("Type", "AUTOMATIC"),
        ]  # fmt: skip
    if each.kind == "PART":
        return [("scheme", "GPT"), ("entries", "128"), ("modified", "false"), ("state", "OK")]
    return []


def show(mode: Mode) -> str:
    return f"r{mode[0]}w{mode[1]}e{mode[2]}"


def rank(state: State, name: str) -> int:
    lowers = geom.providers(state)[name].lowers
    return 1 + max((rank(state, lower) for lower in lowers), default=0)


def confxml(state: State) -> str:
    """kern.geom.confxml. References are numbers, as the kernel prints its pointers; here they hang on the names."""
    everything = geoms(state)
    lines = ["<mesh>"]
    for kind in CLASSES:
        if not has_class(state, kind):
            continue
        lines += [f'  <class id="{_pointer("class", kind)}">', f"    <name>{kind}</name>"]
        for each in everything:
            if each.kind == kind:
                lines += _geom_lines(state, each)
        lines.append("  </class>")
    return "\n".join([*lines, "</mesh>"])


def _geom_lines(state: State, each: Geom) -> list[str]:
    pointer = _pointer("geom", each.kind, each.name)
    height = 1 + max((rank(state, name) for name, _, _ in each.consumers), default=0)
    lines = [
        f'    <geom id="{pointer}">',
        f'      <class ref="{_pointer("class", each.kind)}"/>',
        f"      <name>{_escaped(each.name)}</name>",
        f"      <rank>{height}</rank>",
        *_config_lines(each.config, "      "),
    ]
    for name, mode, config in each.consumers:
        lines += [
            f'\t<consumer id="{_pointer("consumer", each.kind, each.name, name)}">',
            f'\t  <geom ref="{pointer}"/>',
            f'\t  <provider ref="{_pointer("provider", name)}"/>',
            f"\t  <mode>{show(mode)}</mode>",
            *_config_lines(config, "\t  "),
            "\t</consumer>",
        ]
    for name, config in each.providers:
        stripe = 8192 if each.kind == "DISK" and state["disks"][name]["session"] else 0
        lines += [
            f'\t<provider id="{_pointer("provider", name)}">',
            f'\t  <geom ref="{pointer}"/>',
            f"\t  <mode>{show(geom.mode(state, name))}</mode>",
            f"\t  <name>{_escaped(name)}</name>",
            f"\t  <mediasize>{geom.mediasize(state, name)}</mediasize>",
            f"\t  <sectorsize>{geom.sectorsize(state, name)}</sectorsize>",
            f"\t  <stripesize>{stripe}</stripesize>",
            "\t  <stripeoffset>0</stripeoffset>",
            *_config_lines(config, "\t  "),
            "\t</provider>",
        ]
    return [*lines, "    </geom>"]


def _config_lines(config: Config, indent: str) -> list[str]:
    inner = [f"{indent}  <{key}>{_escaped(value)}</{key}>" for key, value in config]
    return [f"{indent}<config>", *inner, f"{indent}</config>"]


def _pointer(*words: str) -> str:
    from binascii import crc32

    return f"0xfffff800{crc32(' '.join(words).encode()):08x}"


def _escaped(text: str) -> str:
    """Byte by byte, whatever the encoding (g_conf_cat_escaped in sys/geom/geom_dump.c)."""
    return "".join(_escaped_byte(byte) for byte in os.fsencode(text))


def _escaped_byte(byte: int) -> str:
    if byte > 0x7E or chr(byte) in "&<>'\"":
        return f"&#x{byte:X};"
    return chr(byte) if byte > 0x1F or chr(byte) in "\t\n\r" else "?"
