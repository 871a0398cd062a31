"""Block devices of FreeBSD, as one reading of GEOM's graph tells them.

``kern.geom.confxml`` is asked because it opens no device (diskinfo(8) and fstyp(8) block on a disk whose session is
gone), and because it tells in one piece what lies on what; geom(8) and its relatives print parts of the same text
(docs/freebsd.md#geom).
"""

import os
from typing import Any

from envstart.errors import NoResponseError
from envstart.storage.graph import Consumer, Geom, Graph, Provider
from envstart.system.command import Result
from envstart.system.host import Host

_LIST = ("sysctl", "-n", "kern.geom.confxml")
# Seconds it may take; it is memory that is read.
_TIMEOUT = 10.0


async def read(host: Host) -> Graph:
    """Return the graph as it is now; TemporaryError if it cannot be told, NoResponseError while a disk holds it up."""
    # The opener of a disk that gives no answer waits for its capacity with GEOM's lock in hand (g_disk_access() in
    # sys/geom/geom_disk.c, daopen() in sys/cam/scsi/scsi_da.c).
    try:
        return await host.ask(_LIST, parse, timeout=_TIMEOUT)
    except NoResponseError as error:
        error.hint = (
            "GEOM waits for a disk: look for its session in iscsictl -L, which iscsictl -R -t TARGET ends; a new "
            "primary of HAST holds it up for 20 seconds, if the other node is silent"
        )
        raise


def parse(result: Result) -> Graph:
    """Read ``kern.geom.confxml``. ValueError when it is not whole."""
    from xml.etree import ElementTree

    if result.status != 0:
        raise ValueError(result.words)
    try:
        mesh = ElementTree.fromstring(os.fsencode(result.out))
    except ElementTree.ParseError as error:
        raise ValueError(f"kern.geom.confxml cannot be read: {error}") from None
    if mesh.tag != "mesh":
        raise ValueError("kern.geom.confxml is no mesh")
    by_id: dict[str, Provider] = {}
    by_name: dict[str, Provider] = {}
    references: list[tuple[Consumer, str]] = []
    for class_, element in ((each, element) for each in mesh.findall("class") for element in each.findall("geom")):
        geom = Geom(class_.findtext("name", ""), _text(element.find("name")), _config(element))
        for child in element.findall("consumer"):
            consumer = Consumer(geom, child.findtext("mode", ""))
            geom.consumers.append(consumer)
            references += [(consumer, target.get("ref", "")) for target in child.findall("provider")[:1]]
        for child in element.findall("provider"):
            provider = by_id[child.get("id", "")] = Provider(geom, _text(child.find("name")), _config(child))
            # One that is on its way out is open still, and a new one can have its name by now.
            if child.find("wither") is None and element.find("wither") is None:
                geom.providers.append(provider)
                by_name.update({_text(alias): provider for alias in child.findall("alias")})
                by_name[provider.name] = provider
    for consumer, reference in references:
        consumer.provider = by_id.get(reference)
        if consumer.provider is not None:
            consumer.provider.consumers.append(consumer)
    return Graph(by_name)


def _config(element: Any) -> dict[str, str]:
    config = element.find("config")
    return {} if config is None else {child.tag: _text(child).strip() for child in config}


def _text(element: Any) -> str:
    """Return the text in it. The kernel writes each byte above ~ as a character of its own (g_conf_cat_escaped)."""
    text = "" if element is None else element.text or ""
    return text if text.isascii() else os.fsdecode(text.encode("latin-1", "replace"))
