"""A HAST resource as this node's hastd(8) tells of it by hastctl(8), and as the other node's tells of itself.

The other one is asked by the protocol of the two, in a child: that can ask a resolver, and hang.
"""

import os
import time
from typing import NamedTuple

from envstart.config.schema import split_host_port
from envstart.errors import ConfigError, DeadlineExceededError, TemporaryError, UnavailableError
from envstart.steps.block import only_on_freebsd
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.network import INET, INET6, connected, received

PRIMARY, SECONDARY, INIT = "primary", "secondary", "init"
COMPLETE = "complete"
# Seconds that a secondary may take to join a new primary before that counts as degraded, and to say what it is.
JOIN = 2.0
_ASKED = 2.0
# Where the devices are, as long as there is one.
_NODES = "/dev/hast"
# hastd's own (sbin/hastd/hast.h).
_PORT = 8457
# It must have this length, and not be all zero, as that of a node is that has not been connected yet.
_TOKEN = b"envstart asks it"
# Its messages (sbin/hastd/hast_proto.c, sbin/hastd/nv.c): the version with these fields alone, and kinds of a field.
_VERSION = 1
_BYTES, _STRING = 10, 17
_ANSWER_MAX = 4096
# The answer of listen_accept() in sbin/hastd/hastd.c to a node that wants to be its primary, and its role then.
_ROLES = {b"acts as primary": "primary", b"acts as init": "init", b"Token doesn't match": "secondary"}


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
    return await host.ask(("hastctl", "list", name), lambda result: parse(result, name))


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
        return await host.call_with_timeout(ask_role, *asked, timeout=_ASKED + JOIN)
    except DeadlineExceededError:
        raise
    except (TemporaryError, OSError):
        return None


async def wins_tie_break(host: Host, name: str) -> bool:
    """Tell whether this node keeps what both took at the same moment: the one with the lower address does."""
    remote = (await read(host, name)).remote
    try:
        own, other = await host.call_with_timeout(addresses, remote, timeout=JOIN)
    except (TemporaryError, OSError):
        return False
    return own < other


def ask_role(remote: str, source: str, resource: str, timeout: float) -> str:
    """Ask the other node for its role: primary, secondary, init; "" if it does not say. OSError without a way to it."""
    # hastd(8) tells its peer alone, which is known by its address. The question is the first message of a node that
    # wants to be primary, with a token that nobody has given out: so nothing comes of it.
    until = time.monotonic() + timeout
    own = (split_address(source)[0], 0) if source else None
    with connected(*split_address(remote), [INET, INET6], until, own) as connection:
        try:
            connection.sendall(request(resource))
            size = int.from_bytes(received(connection, 5, until)[1:], "little")
            answer = received(connection, min(size, _ANSWER_MAX), until)
        except OSError:
            # Nobody but its peer is told.
            return ""
    return next((role for words, role in _ROLES.items() if words in answer), "")


def request(resource: str) -> bytes:
    """Return the first message of a node that wants to be primary."""
    fields = _field(_STRING, "resource", resource.encode() + b"\0") + _field(_BYTES, "token", _TOKEN)
    return bytes([_VERSION]) + len(fields).to_bytes(4, "little") + fields


def _field(kind: int, name: str, value: bytes) -> bytes:
    """Return a field, with name and value filled up to whole eights of bytes."""
    head = bytes([kind, len(name) + 1]) + len(value).to_bytes(4, "little")
    return head + b"".join(data + bytes(-len(data) % 8) for data in (name.encode() + b"\0", value))


def addresses(remote: str) -> tuple[bytes, bytes]:
    """Return this host's address towards another one, and that one's; nothing is sent. OSError."""
    import socket

    name, port = split_address(remote)
    family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        own = probe.getsockname()
    return socket.inet_pton(family, own[0]), socket.inet_pton(family, str(address[0]))


def split_address(address: str) -> tuple[str, int]:
    """Split an address as in hast.conf(5): ``tcp4://HOST:PORT``, the first and the last of it optional."""
    return split_host_port(address.rpartition("://")[2], _PORT)
