"""A HAST resource as this node's hastd(8) tells of it by hastctl(8), and as the other node tells of itself."""

from __future__ import annotations

import os
from typing import NamedTuple

from envstart.errors import ConfigError, DeadlineExceededError, TemporaryError, UnavailableError
from envstart.steps.block import only_on_freebsd
from envstart.storage import hast_protocol
from envstart.system.command import Result
from envstart.system.host import Host

PRIMARY, SECONDARY, INIT = "primary", "secondary", "init"
COMPLETE = "complete"
# Seconds that a secondary may take to join a new primary before that counts as degraded, and to say what it is.
JOIN = 2.0
_ASKED = 2.0
# Where the devices are, as long as there is one.
_NODES = "/dev/hast"


class NoDaemonError(UnavailableError):
    """hastd(8) does not run."""


class Resource(NamedTuple):
    """A line of hastd's list. ``status``: complete, degraded, "" without a worker; ``dirty``: bytes not replicated."""

    device: str
    role: str
    status: str
    dirty: str
    remote: str
    source: str

    def __str__(self) -> str:
        """Return role and status, and of a primary what is dirty, for people."""
        words = [self.role, *([self.status] if self.status else [])]
        if self.role == PRIMARY:
            words.append(f"{self.dirty} dirty")
        return ", ".join(words)


async def read(host: Host, name: str) -> Resource:
    """Return the resource as it is now; NoDaemonError without hastd(8)."""
    only_on_freebsd(host, "HAST")
    resource: Resource = await host.ask(("hastctl", "list", name), lambda result: parse(result, name))
    return resource


async def read_if_running(host: Host, name: str) -> Resource | None:
    """Return the resource; None without hastd(8), if that has left no device: this node is primary of nothing then."""
    try:
        return await read(host, name)
    except NoDaemonError:
        if os.path.exists(_NODES):
            raise
        return None


def parse(result: Result, name: str) -> Resource:
    """Read ``hastctl list NAME``. ValueError when it says nothing of it."""
    failure = f"cannot use HAST resource {name}"
    words = result.words
    if "Unable to connect to hastd" in words or result.status == 71:
        raise NoDaemonError(f"{failure}: hastd(8) is not running", hint="service hastd enable && service hastd start")
    if "Unable to open configuration file" in words:
        raise ConfigError(f"{failure}: {words}", hint="write hast.conf(5)")
    parts = [line.strip().partition(": ") for line in result.out.splitlines()]
    rows = {key: value.strip() for key, _, value in parts}
    if "role" not in rows:
        if result.status == 0 or rows.get("error") == "1" or "error 1 " in words.lower():
            raise ConfigError(f"{failure}: hast.conf(5) has no such resource ({words})", hint="correct HAST_RESOURCE")
        raise ValueError(words)
    # "name" in hast.conf(5) can give it another one.
    device = f"/dev/hast/{rows.get('provname') or name}"
    status, dirty, remote = rows.get("status", ""), rows.get("dirty", "?"), rows.get("remoteaddr", "?")
    return Resource(device, rows["role"], status, dirty, remote, rows.get("sourceaddr", ""))


async def peer_role(host: Host, name: str) -> str | None:
    """Return the role that the other node says it has; "" if it says nothing, None if there is no connection to it."""
    resource = await read(host, name)
    if resource.remote in ("?", "none"):
        return None
    asked = (resource.remote, resource.source, name, _ASKED)
    try:
        return str(await host.call_with_timeout(hast_protocol.role, *asked, timeout=_ASKED + JOIN))
    except DeadlineExceededError:
        raise
    except (TemporaryError, OSError):
        return None


async def wins_tie_break(host: Host, name: str) -> bool:
    """Tell whether this node keeps what both took at the same moment: the one with the lower address does."""
    remote = (await read(host, name)).remote
    try:
        own, other = await host.call_with_timeout(hast_protocol.addresses, remote, timeout=JOIN)
    except (TemporaryError, OSError):
        return False
    return bool(own < other)
