"""The other node of a HAST resource. Run only in a child, by Host.call_with_timeout: it can ask a resolver, and hang.

Arguments and results are plain values.
"""

from __future__ import annotations

import time

from envstart.system.network import INET, INET6, connected, received

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


def role(remote: str, source: str, resource: str, timeout: float) -> str:
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
    host = address.rpartition("://")[2]
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        name, _, port = host.partition(":")
    else:
        name, port = host, ""
    return name, int(port) if port.isdigit() else _PORT
