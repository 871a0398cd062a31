"""Ask many mounted directories whether they answer, by one child for each file server.

While an earlier child still hangs there, be it of another run, nobody is asked again (docs/faults.md, 4).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from envstart.errors import EnvstartError
from envstart.paths import path_digest
from envstart.system import probe as verdict
from envstart.system import rundir
from envstart.system.host import Host, Polling
from envstart.system.probe import ProbeResult

# Servers that are asked side by side.
_SIDE_BY_SIDE = 16


class Probe:
    """A mounted directory to look at (see probe.examine), and after that its ``answer``."""

    __slots__ = ("server", "item", "answer")

    def __init__(
        self, server: str, point: str, required: tuple[str, ...], lease: tuple[str, str] | None, *, write: bool
    ) -> None:
        """Keep what to look at."""
        self.server = server
        self.item = (point, required, lease, write)
        self.answer = ProbeResult()


def ask(host: Host, probes: Sequence[Probe], timeout: float) -> None:
    """Fill in the answers; ``timeout`` is what each directory gets, in seconds."""
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(probe.server, []).append(probe)
    waiting = iter(groups.items())

    async def worker(waiting: Iterator[tuple[str, list[Probe]]]) -> None:
        for server, group in waiting:
            await _ask_server(host, server, group, timeout)

    host.gather([worker(waiting) for _ in range(min(_SIDE_BY_SIDE, len(groups)))])


async def _ask_server(host: Host, server: str, group: list[Probe], timeout: float) -> None:
    descriptor = None
    try:
        # Another run can be asking it at this moment.
        polling = Polling(host, timeout, f"another run to have its answer of {server}", longest=0.05)
        while descriptor is None:
            descriptor, told = rundir.claim_lock(f"probe.{path_digest(server)}")
            if descriptor is None and (told or not await polling.again()):
                for probe in group:
                    probe.answer = ProbeResult(ProbeResult.HUNG, told or "another run waits for it too")
                return
        rundir.sign_lock(descriptor, "")
    except (EnvstartError, OSError):
        # Without the right, or the room, for a record.
        pass
    try:
        keep = () if descriptor is None else (descriptor,)
        answers, pid = await host.map_with_timeout(verdict.examine, [probe.item for probe in group], timeout, keep)
        for probe, (number, value) in zip(group, answers):
            probe.answer = ProbeResult(ProbeResult.FAILED, value) if number else ProbeResult(*value)
        silent = group[len(answers) :]
        if silent:
            point, clock = silent[0].item[0], time.strftime("%H:%M:%S")
            who = f"pid {pid} waits for {point} since {clock}" if pid else f"asked for {point} at {clock}"
            for probe in silent:
                probe.answer = ProbeResult(ProbeResult.HUNG, who)
            if descriptor is not None:
                rundir.sign_lock(descriptor, who)
    finally:
        if descriptor is not None:
            # The lock stays with a child that hangs.
            os.close(descriptor)
