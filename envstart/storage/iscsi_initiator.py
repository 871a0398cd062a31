"""The iSCSI initiator of this kind of host: iscsictl(8) of FreeBSD, open-iscsi of Linux."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from envstart.config.load import Config
from envstart.steps import diagnosis
from envstart.storage.iscsi_session import SessionInfo
from envstart.system.command import Result
from envstart.system.host import Host


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
