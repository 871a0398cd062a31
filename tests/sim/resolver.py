"""What the simulated programs are told by the resolver: the address families of a name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine

# Of the time that umount(8) waits for a dead resolver: it gives up after one question (tests/transcripts/nfs-names.txt:
# 5 s, and 31 s).
MOUNT_SHARE = 1 / 6


def is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def resolved(machine: Machine, host: str, share: float = 1.0) -> set[str]:
    """Return the address families of HOST; wait for a resolver that does not answer, some callers for a SHARE."""
    state = machine.state()
    if ":" in host:
        return {"inet6"}
    kind = state["settings"]["resolver"].get(host)
    if kind is None:
        return {"inet"} if host in state["servers"] or is_address(host) else set()
    if kind == "again":
        machine.store.sleep(state["settings"]["resolver_seconds"] * share)
    return {"both": {"inet", "inet6"}, "inet": {"inet"}, "inet6": {"inet6"}}.get(kind, set())
