"""A server that is up is never called down because this host has much to do (docs/faults.md, 18 and 19)."""

from __future__ import annotations

import socket
import time

import pytest

from envstart.engine import circuit_breaker
from envstart.system import network
from envstart.system.host import Host
from envstart.system.log import Report


@pytest.mark.parametrize("listening", [True, False])
def test_faults_18_19_on_a_slow_host(monkeypatch: pytest.MonkeyPatch, *, listening: bool) -> None:
    """The time for a connection is for the connection alone, not for the child that asks for it."""
    connect = network.connect

    def late(name: str, port: int, timeout: float) -> str:
        time.sleep(0.5)
        return connect(name, port, timeout)

    monkeypatch.setattr(network, "connect", late)
    host = Host(Report("test"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        assert host.complete(circuit_breaker.connects(host, (server.getsockname(),))) is listening
