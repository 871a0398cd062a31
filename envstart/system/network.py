"""Ask a resolver or a server; only in a child, by Host.call_with_timeout: a resolver takes as long as it likes.

Arguments and results are plain values; what the network says is an OSError, which is passed on to the parent.
"""

from __future__ import annotations

import socket
import struct
import time

INET, INET6 = "IPv4", "IPv6"
# What resolve() says of a name: there is none, or nobody can tell right now.
UNKNOWN, UNRESOLVED = "unknown", "unresolved"

# RFC 5531: a call of procedure 0 (NULL), which every program has, without credentials.
_CALL, _REPLY, _RPC_VERSION = 0, 1, 2
_ACCEPTED, _SUCCESS, _PROGRAM_UNAVAILABLE, _MISMATCH = 0, 0, 1, 2
_NFS_PROGRAM = 100003
_XID = 0x656E7673
# The mark before a record: its length, and that it is the last of its message.
_LAST = 0x80000000
# More than a reply to NULL can have: it is no RPC server that sends it.
_REPLY_MAX = 4096


def resolve(name: str) -> tuple[str, list[str]]:
    """Return ("", the kinds of address that a name has), or (UNKNOWN or UNRESOLVED, []). An address names itself."""
    try:
        rows = socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return (UNRESOLVED if error.errno == socket.EAI_AGAIN else UNKNOWN), []
    families = {socket.AF_INET: INET, socket.AF_INET6: INET6}
    return "", sorted({families[row[0]] for row in rows if row[0] in families})


def null_call(name: str, port: int, version: int, kinds: list[str], timeout: float) -> str:
    """Ask an NFS server for nothing, over TCP: "" if it speaks this version, else what it says instead. OSError."""
    call = struct.pack(">10I", _XID, _CALL, _RPC_VERSION, _NFS_PROGRAM, version, 0, 0, 0, 0, 0)
    until = time.monotonic() + timeout
    with connected(name, port, kinds, until) as connection:
        connection.sendall(struct.pack(">I", _LAST | len(call)) + call)
        (mark,) = struct.unpack(">I", received(connection, 4, until))
        reply = received(connection, min(mark & ~_LAST, _REPLY_MAX), until)
    return _meaning(reply)


def connect(name: str, port: int, timeout: float) -> str:
    """Connect, and be gone: "". OSError."""
    connected(name, port, [INET, INET6], time.monotonic() + timeout).close()
    return ""


def _meaning(reply: bytes) -> str:
    alien = "something answers there that is no NFS server"
    words = struct.unpack(f">{len(reply) // 4}I", reply[: len(reply) // 4 * 4])
    if len(words) < 3 or words[:2] != (_XID, _REPLY):
        return alien
    if words[2] != _ACCEPTED:
        return "it refuses to be asked without credentials"
    # The verifier: its flavor, its length in bytes, and as many more of them as fill whole words.
    rest = words[5 + (words[4] + 3) // 4 :] if len(words) > 4 else ()
    if not rest:
        return alien
    if rest[0] == _MISMATCH and len(rest) > 2:
        return f"it speaks versions {rest[1]} to {rest[2]}"
    if rest[0] == _PROGRAM_UNAVAILABLE:
        return "it has no NFS"
    return "" if rest[0] == _SUCCESS else alien


def connected(
    name: str, port: int, kinds: list[str], until: float, source: tuple[str, int] | None = None
) -> socket.socket:
    """Connect to the first of its addresses that takes it; from ``source``, if that is given. OSError."""
    kind_of = {socket.AF_INET: INET, socket.AF_INET6: INET6}
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM):
        if kind_of.get(family) not in kinds:
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(0.1, until - time.monotonic()))
            if source is not None:
                connection.bind(source)
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failure = failure or error
    raise failure or OSError(0, "it has no address")


def received(connection: socket.socket, size: int, until: float) -> bytes:
    """Return so many bytes; OSError if they do not come."""
    data = b""
    while len(data) < size:
        connection.settimeout(max(0.1, until - time.monotonic()))
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError(0, "it closes the connection without an answer")
        data += piece
    return data
