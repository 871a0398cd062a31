"""The sessions of an iSCSI initiator as they are listed, and the spelling of portals."""

from typing import NamedTuple

from envstart.config.schema import split_host_port

# RFC 7143.
_PORT = 3260
CONNECTED = "Connected"


class SessionInfo(NamedTuple):
    """A listed session. ``disks``: device by LUN; ``bus``: number of its SCSI bus, -1 while unknown."""

    target: str
    portal: str
    state: str
    disks: dict[int, str]
    bus: int
    # Linux alone lists the kernel's number of it, and its disks also while it is down.
    number: int = -1
    all_disks: dict[int, str] | None = None


def split_portal(portal: str) -> tuple[str, int]:
    """Return its name or address, and its port."""
    return split_host_port(portal.lower(), _PORT)


def normal_portal(portal: str) -> str:
    """Return a portal in one spelling: iscsictl(8) takes ``A`` and ``A:3260`` for two (docs/freebsd.md#iscsictl)."""
    address, port = split_portal(portal)
    return address if port == _PORT else join_portal(address, port)


def join_portal(address: str, port: str | int) -> str:
    """Return the portal of an address and a port; an IPv6 address stands in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
