"""What GEOM knows: providers, what lies on what, and who has it open. One reading of the whole graph.

``kern.geom.confxml`` is asked because it opens no device (diskinfo(8) and fstyp(8) block on a disk whose session is
gone), and because it tells in one piece what lies on what; geom(8) and its relatives print parts of the same text
(docs/freebsd.md#geom).
"""

from __future__ import annotations

import os

from envstart.errors import NoResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from envstart.mounts.table import Entry
    from envstart.system.host import Host
    from envstart.system.process import Result

_ASK = ("sysctl", "-n", "kern.geom.confxml")
# Seconds it may take; it is memory that is read.
_PATIENCE = 10.0


class Consumer:
    """One that may have a provider open: reads, writes and exclusive openings by the geom it belongs to."""

    __slots__ = ("geom", "provider", "reads", "writes", "exclusive", "config")

    def __init__(self, geom: Geom, mode: str, config: dict[str, str]) -> None:
        self.geom = geom
        self.provider: Provider | None = None
        self.reads, self.writes, self.exclusive = _mode(mode)
        self.config = config

    @property
    def open(self) -> bool:
        """Whether it uses the provider now."""
        return bool(self.reads or self.writes or self.exclusive)


class Provider:
    """What appears as a device ``/dev/NAME``."""

    __slots__ = ("geom", "name", "config", "consumers")

    def __init__(self, geom: Geom, name: str, config: dict[str, str]) -> None:
        self.geom = geom
        self.name = name
        self.config = config
        self.consumers: list[Consumer] = []


class Geom:
    """One geom: what it consumes, what it provides."""

    __slots__ = ("kind", "name", "config", "consumers", "providers")

    def __init__(self, kind: str, name: str, config: dict[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.config = config
        self.consumers: list[Consumer] = []
        self.providers: list[Provider] = []


class Graph:
    """All providers of the host by name."""

    def __init__(self, providers: dict[str, Provider]) -> None:
        self._providers = providers

    def __iter__(self) -> Iterator[Provider]:
        return iter(dict.fromkeys(self._providers.values()))

    def provider(self, device: str) -> Provider | None:
        """The provider behind ``/dev/NAME``; None if there is none."""
        return self._providers.get(device.removeprefix("/dev/"))

    def base(self, provider: Provider) -> Provider:
        """The provider of which this one is only another name, glabel(8)'s or a label that GEOM found."""
        while provider.geom.kind == "LABEL" and provider.geom.consumers:
            below = provider.geom.consumers[0].provider
            if below is None:
                break
            provider = below
        return provider

    def names(self, provider: Provider) -> list[Provider]:
        """All names of the same storage, this one among them."""
        base = self.base(provider)
        return [other for other in self if self.base(other) is base]

    def same(self, one: str, other: str) -> bool:
        """Whether two devices are names of the same storage."""
        first, second = self.provider(one), self.provider(other)
        return first is not None and second is not None and self.base(first) is self.base(second)

    def users(self, provider: Provider) -> list[Consumer]:
        """Who has it open, under any of its names; what only passes an opening on is looked through."""
        found = []
        for name in self.names(provider):
            for consumer in name.consumers:
                # A class that has a look at a new provider closes it again at once.
                passing = consumer.geom.kind == "LABEL" or consumer.geom.name.endswith(":taste")
                if not consumer.open or passing:
                    continue
                if consumer.geom.kind == "PART":
                    for part in consumer.geom.providers:
                        found += self.users(part)
                else:
                    found.append(consumer)
        return found

    def blocking(self, provider: Provider) -> list[Consumer]:
        """Who keeps it from being opened for writing and exclusively: writers and exclusive users of it, and of what
        it lies on, as far as they do not come by way of the same geom (docs/freebsd.md#geom: it then says EPERM)."""
        found = [consumer for consumer in self.users(provider) if consumer.writes or consumer.exclusive]
        base = self.base(provider)
        for below in base.geom.consumers:
            if below.provider is not None and base.geom.kind == "PART":
                found += [
                    consumer
                    for consumer in below.provider.consumers
                    if consumer.geom is not base.geom and (consumer.writes or consumer.exclusive)
                ]
        return found

    def on(self, provider: Provider, kind: str) -> list[Provider]:
        """The providers that geoms of a class make of this storage: the .eli of a provider, say."""
        return [
            upper
            for name in self.names(provider)
            for consumer in name.consumers
            if consumer.geom.kind == kind
            for upper in consumer.geom.providers
        ]


async def read(host: Host) -> Graph:
    """The graph as it is now; TemporaryError if it cannot be told, NoResponseError while all of GEOM waits for one
    disk: whoever opens it first waits for its capacity with GEOM's lock in hand (g_disk_access in
    sys/geom/geom_disk.c, daopen). On Linux it is made of what sysfs tells (blockdev.py)."""
    if host.platform != "freebsd":
        from envstart.storage import devices_linux

        return devices_linux.read(await host.mounts())
    try:
        graph: Graph = await host.ask(_ASK, _parsed, patience=_PATIENCE)
    except NoResponseError as error:
        error.hint = (
            "GEOM waits for a disk: look for its session in iscsictl -L, which iscsictl -R -t TARGET ends; a new "
            "primary of HAST holds it up for 20 seconds, if the other node is silent"
        )
        raise
    return graph


async def who(host: Host, provider: Provider, blocking: bool = False) -> list[str]:
    """Who has it open, or only those that are ``blocking`` others, for people: mount points, providers, a process."""
    table = await host.mounts()
    graph = await read(host)
    # What has changed since is another graph, with another provider of that name, or none.
    now = graph.provider(provider.name)
    consumers = [] if now is None else graph.blocking(now) if blocking else graph.users(now)
    found = []
    for consumer in consumers:
        device = f"/dev/{consumer.provider.name if consumer.provider else provider.name}"
        if consumer.geom.kind == "VFS":
            points = [entry.point for entry in table if entry.source == device]
            found.append(f"{', '.join(points) or 'a file system'} (mounted from {device})")
        elif consumer.geom.kind == "DEV":
            found.append(f"a process that has {device} open")
        else:
            found.append(f"{consumer.geom.name} ({consumer.geom.kind})")
    if now is not None and not found and host.platform != "freebsd":
        from envstart.storage import devices_linux

        return await devices_linux.others(host, now, blocking)
    return found


async def lost(host: Host, entry: Entry) -> bool:
    """Whether the disk has gone that a file system was mounted from. That stays in the table, and what the kernel has
    kept of it is still shown (g_vfs_orphan() of sys/geom/geom_vfs.c). A new disk can have the name by now, and can be
    mounted too; of two mounts with one source, which GEOM refuses, the last one lives."""
    if host.platform != "freebsd":
        return not os.path.exists(f"/sys/dev/block/{entry.device}")
    for _ in range(2):
        table, graph = await host.mounts(), await read(host)
        if entry.number not in [one.number for one in table.at(entry.point)]:
            return False
        namesakes = [one.point for one in table if (one.source, one.fstype) == (entry.source, entry.fstype)]
        provider = graph.provider(entry.source)
        users = provider.consumers if provider is not None else []
        if namesakes[-1] == entry.point and any(user.open and user.geom.kind == "VFS" for user in users):
            return False
        # The table and the graph are not of one moment.
        host.forget()
    return True


def _parsed(result: Result) -> Graph:
    if result.status != 0:
        raise ValueError(result.words)
    return parse(result.out)


def parse(text: str) -> Graph:
    """Read ``kern.geom.confxml``. ValueError when it is not whole."""
    from xml.etree import ElementTree

    try:
        mesh = ElementTree.fromstring(os.fsencode(text))
    except ElementTree.ParseError as error:
        raise ValueError(f"kern.geom.confxml cannot be read: {error}") from None
    if mesh.tag != "mesh":
        raise ValueError("kern.geom.confxml is no mesh")
    by_id: dict[str, Provider] = {}
    by_name: dict[str, Provider] = {}
    waiting: list[tuple[Consumer, str]] = []
    for kind in mesh.findall("class"):
        for element in kind.findall("geom"):
            geom = Geom(kind.findtext("name", ""), _text(element.find("name")), _config(element))
            for child in element.findall("consumer"):
                consumer = Consumer(geom, child.findtext("mode", ""), _config(child))
                geom.consumers.append(consumer)
                target = child.find("provider")
                if target is not None:
                    waiting.append((consumer, target.get("ref", "")))
            for child in element.findall("provider"):
                provider = Provider(geom, _text(child.find("name")), _config(child))
                by_id[child.get("id", "")] = provider
                # One that is on its way out is open still, and a new one can have its name by now.
                if child.find("wither") is None and element.find("wither") is None:
                    geom.providers.append(provider)
                    by_name.update({_text(alias): provider for alias in child.findall("alias")})
                    by_name[provider.name] = provider
    for consumer, reference in waiting:
        found = by_id.get(reference)
        if found is not None:
            consumer.provider = found
            found.consumers.append(consumer)
    return Graph(by_name)


def _config(element: Any) -> dict[str, str]:
    config = element.find("config")
    return {} if config is None else {child.tag: _text(child).strip() for child in config}


def _text(element: Any) -> str:
    """What is in it. The kernel writes each byte above ~ as a character of its own (g_conf_cat_escaped)."""
    text = "" if element is None else element.text or ""
    return text if text.isascii() else os.fsdecode(text.encode("latin-1", "replace"))


def _mode(text: str) -> tuple[int, int, int]:
    """``r1w1e1`` as three numbers."""
    counts = text.replace("r", " ").replace("w", " ").replace("e", " ").split()
    if len(counts) != 3:
        return 0, 0, 0
    return int(counts[0]), int(counts[1]), int(counts[2])
