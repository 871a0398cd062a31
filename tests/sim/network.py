"""The network of a simulated machine, under the module `socket`: its resolver, and who takes a TCP connection.

A name is its own address, so that connect() finds the server. Nothing leaves this process.
"""

from __future__ import annotations

import errno
import importlib.machinery
import struct
import sys

from . import clock
from .box import read
from .errors import text
from .sessions import normal
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

NFS_PORT = 2049
NFS_PROGRAM = 100003
HAST_PORT = 8457
REFUSALS = {"refused": errno.ECONNREFUSED, "down": getattr(errno, "EHOSTDOWN", errno.EHOSTUNREACH)}


def install(state: str) -> None:
    """Whoever imports socket from now on gets this network; most hooks never do."""
    network = Network(state)
    if "socket" in sys.modules:
        network.take_over(sys.modules["socket"])
    else:
        sys.meta_path.insert(0, SocketFinder(network))


class SocketFinder:
    def __init__(self, network: Network) -> None:
        self.network = network

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "socket":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.loader is not None
        loader, network = spec.loader, self.network

        class Loader:
            def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
                return loader.create_module(spec)

            def exec_module(self, module: ModuleType) -> None:
                loader.exec_module(module)
                network.take_over(module)

        spec.loader = Loader()  # type: ignore[assignment]
        return spec


class Network:
    def __init__(self, state: str) -> None:
        self.store = Store(state)

    def take_over(self, module: Any) -> None:
        network = self

        def getaddrinfo(host: str, port: Any, family: int = 0, type: int = 0, *_: Any, **__: Any) -> Any:
            kind = network.kind(host)
            if kind == "again":
                network.wait_for_resolver()
            if kind in ("again", "unknown"):
                number = module.EAI_AGAIN if kind == "again" else module.EAI_NONAME
                raise module.gaierror(number, "Name does not resolve")
            families = {"inet6": [module.AF_INET6], "both": [module.AF_INET6, module.AF_INET]}
            return [(each, type, 0, "", (host, port or 0)) for each in families.get(kind, [module.AF_INET])]

        class Simulated(module.socket):  # type: ignore[misc]
            def connect(self, address: Any) -> None:
                if self.type & module.SOCK_DGRAM:
                    # Whatever it is, there is a way to it.
                    return
                self.server = network.taken(address[0], address[1], self)
                self.port = address[1]
                self.reply = b""

            def getsockname(self) -> Any:
                return network.own_address(), 0

            def sendall(self, data: bytes, *_: Any) -> None:
                if self.port == HAST_PORT:
                    self.reply = hastd(data, self.server["role"])
                else:
                    self.reply = nfsd(data, self.server["versions"]) if self.port == NFS_PORT else b""

            def recv(self, size: int, *_: Any) -> bytes:
                piece, self.reply = self.reply[:size], self.reply[size:]
                return piece

        vars(module).update({"getaddrinfo": getaddrinfo, "socket": Simulated})

    def kind(self, host: str) -> str:
        """Return the resolver's answer: inet, inet6, both, again, unknown. Settings count first, then the servers."""
        state = self.store.read()
        if ":" in host:
            return "inet6"
        if host in state["settings"]["resolver"]:
            return state["settings"]["resolver"][host]
        return "inet" if host.replace(".", "").isdigit() or host in state["servers"] else "unknown"

    def wait_for_resolver(self) -> None:
        self.store.sleep(self.store.read()["settings"]["resolver_seconds"] / clock.SPEED[0])

    def taken(self, host: str, port: int, connection: Any) -> Any:
        """Return the server that takes the connection; else the error, at once or when the time is over."""
        state = self.store.read()
        known: Any = state["servers"].get(host) if port == NFS_PORT else None
        if port == HAST_PORT:
            known = self.peer(host)
        if known is None:
            known = read(state["storage"])["portals"].get(normal(f"{host}:{port}"), {"state": "frozen"})
        if known["state"] == "frozen":
            self.store.sleep((connection.gettimeout() or state["settings"]["connect_seconds"]) / clock.SPEED[0])
            raise TimeoutError(errno.ETIMEDOUT, text(errno.ETIMEDOUT))
        if known["state"] != "up":
            number = REFUSALS[known["state"]]
            raise OSError(number, text(number))
        return known

    def peer(self, address: str) -> Any:
        """Return the node of this address, to which hastd(8) answers if nothing keeps them apart."""
        for resource in read(self.store.read()["storage"])["resources"].values():
            for node in resource["nodes"].values():
                if node["address"] == address:
                    return {"state": "up" if node["alive"] and resource["linked"] else "frozen", "role": node["role"]}
        return None

    def own_address(self) -> str:
        """Return this host's own address, as a socket tells it: that of its node in the HAST resources."""
        state = self.store.read()
        hostname = state["settings"]["hostname"]
        nodes = [resource["nodes"] for resource in read(state["storage"])["resources"].values()]
        return next((found[hostname]["address"] for found in nodes if hostname in found), "")


def nfsd(data: bytes, versions: list[int]) -> bytes:
    """Return the answer to a call of procedure NULL (RFC 5531), as nfsd gives it."""
    mark, xid, kind, rpc, program, version, procedure = struct.unpack(">7I", data[:28])
    assert (mark & 0x7FFFFFFF, kind, rpc, procedure) == (len(data) - 4, 0, 2, 0)
    words = [xid, 1, 0, 0, 0, 0]
    if program != NFS_PROGRAM:
        words[5] = 1
    elif version not in versions:
        words[5:] = [2, min(versions), max(versions)]
    reply = struct.pack(f">{len(words)}I", *words)
    return struct.pack(">I", 0x80000000 | len(reply)) + reply


def hastd(data: bytes, role: str) -> bytes:
    """Return the answer to a node that wants to be primary, by listen_accept() of sbin/hastd/hastd.c.

    A resource, and a token of 16 bytes that it has not given out, are all that it is sent (sbin/hastd/nv.c: kind,
    sizes, then name and value to whole eights).
    """
    version, size = struct.unpack("<BI", data[:5])
    fields = {}
    rest = data[5:]
    assert (version, len(rest)) == (1, size)
    while rest:
        kind, named, valued = struct.unpack("<BBI", rest[:6])
        name, value = rest[6 : 6 + named], rest[6 + -(-named // 8) * 8 :][:valued]
        assert name.endswith(b"\0")
        fields[name[:-1]] = kind, value
        rest = rest[6 + -(-named // 8) * 8 + -(-valued // 8) * 8 :]
    kind, token = fields[b"token"]
    # A node that has not been connected yet takes zeros for its own.
    assert (kind, len(token)) == (10, 16)
    assert any(token)
    assert fields[b"resource"][0] == 17
    assert fields[b"resource"][1].endswith(b"\0")
    words = f"Remote node acts as {role} for the resource and not as secondary."
    text = (words if role != "secondary" else "Token doesn't match.").encode() + b"\0"
    field = struct.pack("<BBI", 17, 7, len(text)) + b"errmsg\0\0" + text + bytes(-len(text) % 8)
    return struct.pack("<BI", 2, len(field)) + field
