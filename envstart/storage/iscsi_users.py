"""The users of the disks of iSCSI sessions: another LUN of a session is another jail's (docs/faults.md, 77 and 79)."""

from __future__ import annotations

from collections.abc import Sequence

from envstart.storage import devices
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_session import SessionInfo
from envstart.system.host import Host

# Descriptions of users, for people, by LUN.
Users = dict[int, list[str]]


async def users_of(host: Host, sessions: Sequence[SessionInfo]) -> Users:
    """Return the users of the disks of these sessions; a multipath device that nobody uses is no user."""
    graph = await devices.read(host)
    by_lun: Users = {}
    for session in sessions:
        for lun, disk in (await initiator_of(host).disks(host, session)).items():
            provider = graph.provider(disk)
            uppers = [] if provider is None else graph.on(provider, "MULTIPATH") or [provider]
            for upper in uppers:
                if users := await devices.users(host, upper.name):
                    by_lun.setdefault(lun, []).extend(users)
    return by_lun


def other_luns(users: Users, lun: int) -> Users:
    """Return the users of all LUNs but this."""
    return {number: names for number, names in users.items() if number != lun}


def names(users: Users) -> str:
    """Return the users for people, each once."""
    return ", ".join(dict.fromkeys(name for names in users.values() for name in names))


async def mounted_from(host: Host, sessions: Sequence[SessionInfo], *more: str) -> list[str]:
    """Return the mount points of what is mounted from the disks of these sessions, or from one more."""
    initiator = initiator_of(host)
    disks = [disk for session in sessions for disk in (await initiator.disks(host, session)).values()]
    mounts = await host.mounts()
    return [entry.point for entry in mounts if any(initiator.is_on(entry.source, disk) for disk in (*disks, *more))]
