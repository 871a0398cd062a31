"""The iSCSI initiator of this kind of host, iscsictl(8) of FreeBSD or open-iscsi of Linux, and who uses its disks.

Another LUN of a session is another jail's (docs/faults.md, 77 and 79).
"""

from collections.abc import Sequence
from typing import Protocol

from envstart.config.load import Config
from envstart.steps import diagnosis
from envstart.storage import devices
from envstart.storage.iscsi_session import SessionInfo
from envstart.system.command import Result
from envstart.system.host import Host

# Descriptions of users, for people, by LUN.
Users = dict[int, list[str]]


class _Initiator(Protocol):
    """The names that iscsi_freebsd and iscsi_linux have in common: see there."""

    DISK: str
    NOTICED: float
    OF_STATE: diagnosis.Rows
    OF_LOGIN: diagnosis.Rows
    ALREADY: tuple[str, ...]
    REDIRECTS: bool

    async def sessions(self, host: Host) -> list[SessionInfo]: ...
    async def disks(self, host: Host, session: SessionInfo) -> dict[int, str]: ...
    async def settings(self, host: Host, config: Config, target: str, portal: str) -> str: ...
    async def login(self, host: Host, config: Config, target: str, portal: str, text: str) -> Result: ...
    async def logout(self, host: Host, session: SessionInfo) -> Result: ...
    async def rescan(self, host: Host, session: SessionInfo, timeout: float) -> None: ...
    async def check_daemon(self, host: Host, act: str, *, start: bool) -> None: ...
    def tidy(self, target: str, portals: Sequence[str]) -> None: ...
    def needs(self, user: str | None) -> str: ...
    def login_argv(self, target: str, portal: str) -> tuple[str, ...]: ...
    def logout_argv(self, session: SessionInfo) -> tuple[str, ...]: ...
    def is_on(self, source: str, disk: str) -> bool: ...
    def own_name(self, config: Config) -> str: ...


def initiator_of(host: Host) -> _Initiator:
    """Return the iSCSI initiator of this kind of host."""
    if host.platform == "freebsd":
        from envstart.storage import iscsi_freebsd

        return iscsi_freebsd
    from envstart.storage import iscsi_linux

    return iscsi_linux


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
