"""kern.geom.confxml as a FreeBSD kernel writes it (sys/geom/geom_dump.c), of a few geoms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple


class Uses(NamedTuple):
    """A consumer: what it is attached to, and how it has it open."""

    provider: str
    mode: str = "r0w0e0"
    config: Mapping[str, str] = {}


class Makes(NamedTuple):
    """A provider."""

    name: str
    config: Mapping[str, str] = {}
    aliases: tuple[str, ...] = ()
    # It is on its way out.
    withers: bool = False


class Geom(NamedTuple):
    """A geom of a class, with its parts in order."""

    kind: str
    name: str
    parts: tuple[Uses | Makes, ...] = ()
    config: Mapping[str, str] = {}


def text(*geoms: Geom) -> str:
    """Return the whole mesh; every provider is opened by a DEV geom too, as on a live host."""
    made = [part.name for geom in geoms for part in geom.parts if isinstance(part, Makes)]
    every = [*geoms, *(Geom("DEV", name, (Uses(name),)) for name in made)]
    lines = ["<mesh>"]
    for kind in dict.fromkeys(geom.kind for geom in every):
        lines += [f'  <class id="{_id("class", kind)}">', f"    <name>{kind}</name>"]
        for geom in every:
            if geom.kind == kind:
                lines += _geom(geom)
        lines.append("  </class>")
    return "\n".join([*lines, "</mesh>", ""])


def _geom(geom: Geom) -> list[str]:
    own = _id("geom", geom.kind + geom.name)
    lines = [
        f'    <geom id="{own}">',
        f'      <class ref="{_id("class", geom.kind)}"/>',
        f"      <name>{escape(geom.name)}</name>",
        "      <rank>1</rank>",
        *_config(geom.config),
    ]
    for part in geom.parts:
        if isinstance(part, Uses):
            lines += [
                f'      <consumer id="{_id("consumer", own + part.provider)}">',
                f'\t<geom ref="{own}"/>',
                f'\t<provider ref="{_id("provider", part.provider)}"/>',
                f"\t<mode>{part.mode}</mode>",
                *_config(part.config),
                "      </consumer>",
            ]
        else:
            lines += [
                f'      <provider id="{_id("provider", part.name)}">',
                f'\t<geom ref="{own}"/>',
                "\t<mode>r0w0e0</mode>",
                f"\t<name>{escape(part.name)}</name>",
                *(f"\t<alias>{escape(alias)}</alias>" for alias in part.aliases),
                *(["\t<wither/>"] if part.withers else []),
                "\t<mediasize>67108864</mediasize>",
                "\t<sectorsize>512</sectorsize>",
                *_config(part.config),
                "      </provider>",
            ]
    return [*lines, "    </geom>"]


def _config(config: Mapping[str, str]) -> list[str]:
    rows = [f"\t  <{key}>{escape(value)}</{key}>" for key, value in config.items()]
    return ["\t<config>", *rows, "\t</config>"] if rows else []


def escape(text: str) -> str:
    """Each byte for itself, whatever the encoding (g_conf_cat_escaped)."""
    return "".join(f"&#x{byte:X};" if byte > 0x7E or byte in b"&<>'\"" else chr(byte) for byte in os.fsencode(text))


def _id(kind: str, name: str) -> str:
    """Return an address in the kernel, one for each thing."""
    return f"0xfffff800{abs(hash((kind, name))) & 0xFFFFFFFF:08x}"
