"""Which jails and VMs run: the kernel is asked, not CBSD's database (contract §3)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .children import Result
    from .host import Host


async def runs(host: Host, name: str) -> bool:
    """Whether the jail or the bhyve VM of this name runs. Elsewhere than on FreeBSD that is not known by name."""
    return host.platform == "freebsd" and (os.path.exists(f"/dev/vmm/{name}") or name in await jails(host))


async def jails(host: Host) -> Any:
    """Names of all jails that run (``jls -j`` takes a number for a jid); Temporary if that cannot be told."""
    return await host.ask(("jls", "-h", "name"), _names)


def _names(result: Result) -> frozenset[str]:
    if result.status != 0:
        raise ValueError(result.words)
    # Where there was no room for what it prints, it succeeds all the same (jls.c): without the header it is not whole.
    header, *names = result.out.split() or [""]
    if header != "name":
        raise ValueError("what it has printed is lost; is a disk full?")
    return frozenset(names)
