"""The iSCSI initiator of this kind of host: iscsi_freebsd.py is FreeBSD's, iscsi_linux.py that of Linux."""

from __future__ import annotations

from envstart.storage import iscsi_freebsd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from envstart.config.load import Config
    from envstart.steps import diagnosis
    from envstart.storage.iscsi_freebsd import SessionInfo
    from envstart.system.command import Result
    from envstart.system.host import Host

    class Initiator(Protocol):
        """What the modules initiator and open_iscsi have in common: see there."""

        DISK: str
        NOTICED: float
        OF_STATE: diagnosis.Rows
        OF_LOGIN: diagnosis.Rows
        ALREADY: tuple[str, ...]
        REDIRECTS: bool

        async def sessions(self, host: Host) -> list[SessionInfo]: ...
        async def disks(self, host: Host, session: SessionInfo) -> dict[int, str]: ...
        async def numbers(self, host: Host) -> dict[tuple[str, str], int]: ...
        async def settings(self, host: Host, config: Config, target: str, portal: str) -> str: ...
        async def login(self, host: Host, config: Config, target: str, portal: str, text: str) -> Result: ...
        async def logout(self, host: Host, session: SessionInfo) -> Result: ...
        async def rescan(self, host: Host, session: SessionInfo, timeout: float) -> None: ...
        async def check_daemon(self, host: Host, doing: str, start: bool) -> None: ...
        def tidy(self, target: str, portals: Sequence[str]) -> None: ...
        def by_hand(self, user: str | None) -> str: ...
        def logging_in(self, target: str, portal: str) -> tuple[str, ...]: ...
        def logging_out(self, session: SessionInfo) -> tuple[str, ...]: ...
        def is_on(self, source: str, disk: str) -> bool: ...
        def own_name(self, config: Config) -> str: ...


def initiator_of(host: Host) -> Initiator:
    """The iSCSI initiator of this kind of host."""
    if host.platform == "freebsd":
        return iscsi_freebsd
    from envstart.storage import iscsi_linux

    return iscsi_linux
