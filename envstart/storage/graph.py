"""Block devices as a graph: what lies on what, and who has it open. Pure; the words are those of GEOM (geom(4))."""

from __future__ import annotations

from collections.abc import Iterator


class Consumer:
    """The place where a geom may have a provider open: its reads, writes and exclusive openings."""

    def __init__(self, geom: Geom, mode: str) -> None:
        """Take the openings from ``mode``, as in r1w1e1; what is no mode has none."""
        self.geom = geom
        self.provider: Provider | None = None
        counts = mode.replace("r", " ").replace("w", " ").replace("e", " ").split()
        self.reads, self.writes, self.exclusive = map(int, counts) if len(counts) == 3 else (0, 0, 0)
        self.open = bool(self.reads or self.writes or self.exclusive)


class Provider:
    """A device ``/dev/NAME``."""

    def __init__(self, geom: Geom, name: str, config: dict[str, str]) -> None:
        """Belong to ``geom``, without consumers yet."""
        self.geom = geom
        self.name = name
        self.config = config
        self.consumers: list[Consumer] = []


class Geom:
    """One geom: what it consumes, what it provides."""

    def __init__(self, kind: str, name: str, config: dict[str, str] | None = None) -> None:
        """Be of the class ``kind``, without consumers and providers yet."""
        self.kind = kind
        self.name = name
        self.config = config or {}
        self.consumers: list[Consumer] = []
        self.providers: list[Provider] = []


class Graph:
    """All providers of the host by name."""

    def __init__(self, providers: dict[str, Provider]) -> None:
        """Hold these; one that has several names is there by each."""
        self._providers = providers

    def __iter__(self) -> Iterator[Provider]:
        """Return the providers, each once."""
        return iter(dict.fromkeys(self._providers.values()))

    def provider(self, device: str) -> Provider | None:
        """Return the provider behind ``/dev/NAME``; None if there is none."""
        return self._providers.get(device.removeprefix("/dev/"))

    def base(self, provider: Provider) -> Provider:
        """Return the provider of which this is only another name, glabel(8)'s or a label that GEOM read."""
        consumers = provider.geom.consumers if provider.geom.kind == "LABEL" else []
        below = consumers[0].provider if consumers else None
        return self.base(below) if below else provider

    def names(self, provider: Provider) -> list[Provider]:
        """Return all names of the same storage, this one among them."""
        base = self.base(provider)
        return [other for other in self if self.base(other) is base]

    def same(self, device: str, other: str) -> bool:
        """Tell whether two devices are names of the same storage."""
        first, second = self.provider(device), self.provider(other)
        return first is not None and second is not None and self.base(first) is self.base(second)

    def users(self, provider: Provider) -> list[Consumer]:
        """Return its users, under any of its names; what only passes an opening on is looked through."""
        users = []
        for consumer in (consumer for name in self.names(provider) for consumer in name.consumers):
            # A class that has a look at a new provider closes it again at once.
            passing = consumer.geom.kind == "LABEL" or consumer.geom.name.endswith(":taste")
            if not consumer.open or passing:
                continue
            if consumer.geom.kind == "PART":
                users += [user for part in consumer.geom.providers for user in self.users(part)]
            else:
                users.append(consumer)
        return users

    def blocking(self, provider: Provider) -> list[Consumer]:
        """Return the consumers that keep it from being opened for writing and exclusively (docs/freebsd.md#geom)."""
        # Also those of what it lies on, as far as they do not come by way of the same geom.
        users, geom = self.users(provider), self.base(provider).geom
        if geom.kind == "PART":
            below = [consumer.provider for consumer in geom.consumers if consumer.provider is not None]
            users += [user for lower in below for user in lower.consumers if user.geom is not geom]
        return [user for user in users if user.writes or user.exclusive]

    def on(self, provider: Provider, kind: str) -> list[Provider]:
        """Return the providers that geoms of a class make of this storage: the .eli of a provider, say."""
        consumers = [consumer for name in self.names(provider) for consumer in name.consumers]
        return [upper for user in consumers if user.geom.kind == kind for upper in user.geom.providers]
