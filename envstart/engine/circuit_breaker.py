"""Pay for a dead server once: fifty starts at boot do not wait for it one after the other (docs/faults.md, 18, 19).

A start that has failed notes which of its servers takes no connection. Hooks that come within BREAKER seconds try to
connect, for a tenth of a second; if that fails they end at once. Whoever starts by hand is not concerned.
"""

from __future__ import annotations

import contextlib
import os

from envstart.config import common
from envstart.engine.plan import Plan, Server
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError, TemporaryError
from envstart.paths import path_digest
from envstart.system import rundir
from envstart.system.host import Host

# Seconds for a connection. Over a longer way than this a server counts as down, until BREAKER seconds are over.
_QUICK = 0.1
# And for a resolver, and for a child to be made, on a host that has much to do.
_AROUND = 1.0


async def check(plan: Plan, host: Host) -> None:
    """TemporaryError if a server of the plan is known to be down, and still is."""
    if host.interactive or not plan.config[common.BREAKER]:
        return
    for servers in _needed(plan):
        ages = {server: rundir.age(record(server)) for server in servers}
        if any(age is None or age >= plan.config[common.BREAKER] for age in ages.values()):
            continue
        if not await connects(host, servers):
            age = max(age for age in ages.values() if age is not None)
            names = " and ".join(f"{name}:{port}" for name, port in servers)
            from envstart.config import remedies

            raise TemporaryError(
                f"cannot start {plan.environment.name}: {names} gave no answer {age:.0f} s ago, and takes no "
                "connection now",
                hint=f"it is asked again later (BREAKER), or at once: {remedies.of_subject(plan.subject, 'start')}",
            )
        for server in () if host.rehearsing else servers:
            with contextlib.suppress(OSError):
                os.unlink(rundir.path(record(server)))


async def record_failure(plan: Plan, host: Host) -> None:
    """After a failed start: note the servers that take no connection."""
    if not plan.config[common.BREAKER]:
        return
    for servers in _needed(plan):
        try:
            if not await connects(host, servers):
                for server in servers:
                    rundir.touch(record(server))
        except EnvstartError:
            # No time is left, or no child can be had: nothing is known.
            return


def _needed(plan: Plan) -> list[tuple[Server, ...]]:
    """Return groups of servers, of each of which one must be up."""
    return list(dict.fromkeys(step.servers for step in plan.steps if step.servers))


async def connects(host: Host, servers: tuple[Server, ...], timeout: float = _QUICK) -> bool:
    """Tell whether one of the servers takes a connection within ``timeout`` seconds."""
    # Not in the child: on a slow host that takes longer than the connection may.
    import socket  # noqa: F401

    from envstart.system import network

    for name, port in servers:
        try:
            await host.call_with_timeout(network.connect, name, port, timeout, timeout=timeout + _AROUND)
            return True
        except DeadlineExceededError:
            raise
        except (OSError, NoResponseError):
            continue
    return False


def record(server: Server) -> str:
    """Return the name of the file that says that a server is down."""
    return f"down.{path_digest(f'{server[0]}:{server[1]}')}"
