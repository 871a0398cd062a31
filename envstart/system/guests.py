"""Tell which jails and VMs run: of jails and bhyve VMs the kernel is asked, of other VMs their processes or Xen.

CBSD's database counts for neither by itself (docs/cbsd.md#running): after a crash of the host it still has the number
of a process that is gone, and of a running Xen domain it has 0 (CBSD's sudoexec/xstart never learns its number).
"""

from __future__ import annotations

import os
from typing import Any

from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError
from envstart.system import process_table
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds that a look at all processes may take, and a question to Xen.
_SEARCH = 5.0


async def runs(host: Host, name: str) -> bool:
    """Tell whether the kernel runs a jail or a bhyve VM of this name; Linux runs neither."""
    return host.platform == "freebsd" and (is_bhyve(name) or name in await jails(host))


def is_bhyve(name: str) -> bool:
    """Tell whether the kernel runs a bhyve VM of this name."""
    return os.path.exists(f"/dev/vmm/{name}")


async def jails(host: Host) -> Any:
    """Return the names of all jails that run; TemporaryError if they cannot be told."""
    # Not -j NAME, which takes a number for a jid.
    return await host.ask(("jls", "-h", "name"), _names)


async def jail_roots(host: Host) -> Any:
    """Return the root directories of all jails that run by their names; TemporaryError if that cannot be told."""
    return await host.ask(("jls", "-h", "name", "path"), _paths)


def _names(result: Result) -> frozenset[str]:
    return frozenset(line.split()[0] for line in _rows(result, "name"))


def _paths(result: Result) -> dict[str, str]:
    rows = (line.partition(" ") for line in _rows(result, "name path"))
    return {name: path.strip() for name, _, path in rows}


def _rows(result: Result, titles: str) -> list[str]:
    """Return the lines after the header; ValueError if it is not whole."""
    if result.status != 0:
        raise ValueError(result.words)
    # It succeeds also where there is no room for its output (usr.sbin/jls/jls.c): without the header it is not whole.
    header, *rows = [line.strip() for line in result.out.splitlines() if line.strip()] or [""]
    if header != titles:
        raise ValueError("what it has printed is lost; is a disk full?")
    return rows


class Machines:
    """The VMs of other emulators than bhyve; their processes, and Xen, are asked once at most."""

    def __init__(self, host: Host) -> None:
        """Ask nobody yet."""
        self._host = host
        self._told: dict[str, frozenset[str] | None] = {}

    async def runs(self, name: str, emulator: str, jid: int, status: int) -> bool | None:
        """Tell whether a VM runs; None if that cannot be told.

        ``jid`` and ``status`` are those of CBSD's database: the number of a process, and 1 for on.
        """
        ask = _domains if emulator == "xen" else _named
        if ask.__name__ not in self._told:
            self._told[ask.__name__] = await ask(self._host)
        names = self._told[ask.__name__]
        if names is None:
            return True if jid or status == 1 else None
        return name in names or (emulator != "xen" and jid > 0 and process_table.send_signal(jid, 0))


async def _domains(host: Host) -> frozenset[str] | None:
    """Return the names of the Xen domains, none without xl(1), which runs them; None if it does not tell."""
    if host.find("xl") is None:
        return frozenset()
    try:
        domains: frozenset[str] = await host.ask(("xl", "list"), _first_column, timeout=_SEARCH)
        return domains
    except EnvstartError:
        return None


async def _named(host: Host) -> frozenset[str] | None:
    """Return the words on the command lines of emulators, the names of their VMs among them; None without an answer."""
    try:
        words = await host.call_with_timeout(process_table.machines, timeout=_SEARCH)
    except (NoResponseError, DeadlineExceededError, OSError):
        return None
    return None if words is None else frozenset(words)


def _first_column(result: Result) -> frozenset[str]:
    if result.status != 0 or not result.out.startswith("Name"):
        raise ValueError(result.words)
    return frozenset(line.split()[0] for line in result.out.splitlines()[1:] if line.strip())
