"""The disk of one LUN of an iSCSI target: its sessions among all of the host, and its device."""

import os
from collections.abc import Sequence

from envstart.config.load import Config
from envstart.errors import ConfigError
from envstart.steps.block import only_on_freebsd
from envstart.storage import devices, iscsi_keys
from envstart.storage.graph import Graph
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_redirection import Logins
from envstart.storage.iscsi_session import CONNECTED, SessionInfo, normal_portal
from envstart.system.host import Host


class Lun:
    """LUN ``number`` of ``target``, over a session by way of one of ``portals``, or of all of them (multipath)."""

    def __init__(self, config: Config, target: str, portals: Sequence[str]) -> None:
        """Take the number, the partition and the name of the multipath device from the configuration."""
        self.config = config
        self.target = target
        self.portals = tuple(portals)
        self.number: int = config[iscsi_keys.ISCSI_LUN]
        self.multipath: str | None = config[iscsi_keys.ISCSI_MULTIPATH]
        self.logins = Logins(target)
        self._partition: str = config[iscsi_keys.ISCSI_PARTITION] or ""

    async def all_sessions(self, host: Host) -> list[SessionInfo]:
        """Return all sessions to the target, ours and those of others."""
        return [session for session in await initiator_of(host).sessions(host) if session.target == self.target]

    async def by_portal(self, host: Host) -> dict[str, SessionInfo]:
        """Return our sessions by the portal that was logged in to (as normal_portal() has it), in our order."""
        # A session by way of another portal is somebody else's (docs/faults.md, 82).
        if self.multipath:
            only_on_freebsd(host, "ISCSI_MULTIPATH")
        return await self.logins.by_portal(host, self.portals, await self.all_sessions(host))

    async def sessions(self, host: Host) -> list[SessionInfo]:
        """Return our sessions in the order of the portals."""
        return list({session.portal: session for session in (await self.by_portal(host)).values()}.values())

    async def session_at(self, host: Host, portal: str) -> SessionInfo | None:
        """Return our session by way of this portal."""
        return (await self.by_portal(host)).get(normal_portal(portal))

    async def foreign_sessions(self, host: Host) -> list[SessionInfo]:
        """Return the sessions of others to the target."""
        ours = [session.portal for session in await self.sessions(host)]
        return [session for session in await self.all_sessions(host) if session.portal not in ours]

    async def missing_paths(self, host: Host) -> str:
        """Tell which paths of a multipath device are missing; "" if none is (docs/faults.md, 95)."""
        if not self.multipath:
            return ""
        up = [portal for portal, session in (await self.by_portal(host)).items() if session.state == CONNECTED]
        down = [portal for portal in self.portals if normal_portal(portal) not in up]
        return f"no session by way of {', '.join(down)}" if down else ""

    async def disks(self, host: Host) -> list[str]:
        """Return the devices that the LUN is, by sessions that are up."""
        sessions = await self.sessions(host)
        return [f"/dev/{session.disks[self.number]}" for session in sessions if self.number in session.disks]

    async def device(self, host: Host) -> str | None:
        """Return the disk, its partition or the multipath device, as far as it is there."""
        disks = await self.disks(host)
        if not disks:
            return None
        graph = await devices.read(host)
        path = self._path(disks[0])
        # The disk is known to CAM first, then to GEOM, then to devfs.
        if graph.provider(path) is None or not os.path.exists(path):
            return None
        if self.multipath:
            self._check_paths(graph, f"/dev/multipath/{self.multipath}", disks)
        for disk in disks:
            self._check_identity(graph, disk)
        return path

    def expected(self, host: Host) -> str:
        """Return the device that it will be, as far as that can be told."""
        return self._path(initiator_of(host).DISK)

    def _path(self, disk: str) -> str:
        return (f"/dev/multipath/{self.multipath}" if self.multipath else disk) + self._partition

    def _check_paths(self, graph: Graph, whole: str, disks: list[str]) -> None:
        """Raise ConfigError when the multipath device is made of other disks than ours."""
        provider = graph.provider(whole)
        paths = [path.provider.name for path in provider.geom.consumers if path.provider] if provider else []
        foreign = ", ".join(path for path in paths if f"/dev/{path}" not in disks)
        if foreign:
            raise ConfigError(
                f"cannot use {whole}: {foreign} is one of its paths, but no LUN {self.number} of {self.target}",
                hint="correct ISCSI_MULTIPATH",
            )

    def _check_identity(self, graph: Graph, disk: str) -> None:
        """Raise ConfigError for another serial number: the name of a disk changes by login (docs/faults.md, 78)."""
        expected = self.config[iscsi_keys.ISCSI_SERIAL]
        provider = graph.provider(disk)
        serial = provider.config.get("ident", "") if provider else ""
        if expected and serial != expected:
            raise ConfigError(
                f"cannot use {disk}: LUN {self.number} of {self.target} has the serial number {serial!r}, "
                f"ISCSI_SERIAL says {expected!r}",
                hint="is it another disk?",
            )
