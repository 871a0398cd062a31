"""A session of the iSCSI initiator to one target, and the disk that one of its LUNs is.

The list of sessions decides, never a command's status. Who makes the list is told by initiators.initiator_of().
"""

from __future__ import annotations

import os

from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.errors import ConfigError, EnvstartError, NoResponseError, NotFoundError, TemporaryError, UnavailableError
from envstart.paths import path_digest
from envstart.steps import diagnosis
from envstart.steps.block import Block, only_on_freebsd
from envstart.storage import devices
from envstart.storage.graph import Graph
from envstart.storage.iscsi_freebsd import CONNECTED, SessionInfo, normal_portal, split_portal
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_redirection import Logins
from envstart.system import rundir
from envstart.system.polling import Polling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.load import Config
    from envstart.system.host import Host

# Seconds that iscsid may take to notice a new session, and that a scan for a new LUN may take.
_NOTICE = 2.0
_SCAN = 1.0
# Seconds that a process may take to close our disk after the unmount, and the kernel to take a session away.
_CLOSING = 2.0
_LEAVING = 5.0


class Session(Block):
    """The disk of LUN ``lun`` of ``target``, over the first of ``portals`` that works, or over all of them at once."""

    fstype = "iscsi"

    def __init__(self, config: Config, target: str, portals: Sequence[str]) -> None:
        self._lun: int = config["ISCSI_LUN"]
        super().__init__("session", f"{portals[0]} {target} lun {self._lun}")
        self.target = target
        self.portals = tuple(portals)
        self.multipath: str | None = config["ISCSI_MULTIPATH"]
        # Sessions belong to the host, whatever environment's LUN they carry.
        self.resource = f"iscsi {target}"
        self.servers = tuple(split_portal(portal) for portal in portals)
        self.config = config
        self._added: list[str] = []
        self._logins = Logins(target)

    # Which sessions are ours, and which disk.

    async def _all(self, host: Host) -> list[SessionInfo]:
        """Return all sessions to our target."""
        return [one for one in await initiator_of(host).sessions(host) if one.target == self.target]

    async def _by_portal(self, host: Host) -> dict[str, SessionInfo]:
        """Return our sessions by the portal that was logged in to (as normal_portal() has it), in our order; one by way
        of another portal is somebody else's (docs/faults.md, 82)."""
        if self.multipath:
            only_on_freebsd(host, "ISCSI_MULTIPATH")
        return await self._logins.by_portal(host, initiator_of(host), self.portals, await self._all(host))

    async def _sessions(self, host: Host) -> list[SessionInfo]:
        """Return our sessions in the order of the portals."""
        return list({one.portal: one for one in (await self._by_portal(host)).values()}.values())

    async def _disks(self, host: Host) -> list[str]:
        """Devices of our LUN, of sessions that are up."""
        sessions = await self._sessions(host)
        return [f"/dev/{one.disks[self._lun]}" for one in sessions if self._lun in one.disks]

    async def device(self, host: Host) -> str | None:
        disks = await self._disks(host)
        if not disks:
            return None
        graph = await devices.read(host)
        whole = f"/dev/multipath/{self.multipath}" if self.multipath else disks[0]
        path = whole + (self.config["ISCSI_PARTITION"] or "")
        # The disk is known to CAM first, then to GEOM, then to devfs.
        if graph.provider(path) is None or not os.path.exists(path):
            return None
        if self.multipath:
            await self._check_paths(host, graph, whole, disks)
        for disk in disks:
            self._check_identity(graph, disk)
        return path

    def expected(self, host: Host) -> str:
        whole = f"/dev/multipath/{self.multipath}" if self.multipath else initiator_of(host).DISK
        return whole + (self.config["ISCSI_PARTITION"] or "")

    async def _check_paths(self, host: Host, graph: Graph, whole: str, disks: list[str]) -> None:
        """ConfigError when the multipath device is made of other disks than ours."""
        provider = graph.provider(whole)
        paths = (
            [consumer.provider.name for consumer in provider.geom.consumers if consumer.provider] if provider else []
        )
        foreign = [path for path in paths if f"/dev/{path}" not in disks]
        if foreign:
            raise ConfigError(
                f"cannot use {whole}: {', '.join(foreign)} is one of its paths, but no LUN {self._lun} of "
                f"{self.target}",
                hint="correct ISCSI_MULTIPATH",
            )

    def _check_identity(self, graph: Graph, disk: str) -> None:
        """The number in daN changes from login to login; the disk's own serial number does not (docs/faults.md, 78)."""
        wanted = self.config["ISCSI_SERIAL"]
        provider = graph.provider(disk)
        serial = provider.config.get("ident", "") if provider else ""
        if wanted and serial != wanted:
            raise ConfigError(
                f"cannot use {disk}: LUN {self._lun} of {self.target} has the serial number {serial!r}, "
                f"ISCSI_SERIAL says {wanted!r}",
                hint="is it another disk?",
            )

    async def why_down(self, host: Host) -> str:
        sessions = await self._sessions(host)
        if sessions and not any(one.state == CONNECTED for one in sessions):
            return f"the session to {self.target} is down ({sessions[0].state}), and may come back"
        return ""

    async def recheck_down(self, host: Host) -> str:
        polling = Polling(host, initiator_of(host).NOTICED, f"the session to {self.target}")
        while True:
            host.invalidate()
            why = await self.why_down(host)
            if why or not await self._sessions(host) or not await polling.again():
                return why

    # Is it so?

    async def check(self, host: Host) -> EnvstartError | None:
        # What a run has sent away that was killed then is listed as ever until it is gone.
        polling = Polling(host, _LEAVING, f"the end of the session to {self.target}")
        while any(_leaves(one) for one in await self._sessions(host)) and await polling.again():
            pass
        device = await self.device(host)
        if device is None:
            return NotFoundError(f"cannot use {self.source}: there is no session, or it has no such disk yet")
        lacking = await self._lacking(host)
        if lacking:
            host.report.warn(f"{device} is degraded: {lacking}")
        return None

    async def _lacking(self, host: Host) -> str:
        """Which paths of a multipath device are not there (docs/faults.md, 95)."""
        if not self.multipath:
            return ""
        up = [portal for portal, one in (await self._by_portal(host)).items() if one.state == CONNECTED]
        down = [portal for portal in self.portals if normal_portal(portal) not in up]
        return f"no session by way of {', '.join(down)}" if down else ""

    # Make it so.

    async def preflight_start(self, host: Host) -> None:
        tools = initiator_of(host)
        await tools.check_daemon(host, f"log in to {self.target}", self.config["ISCSI_START_DAEMON"])
        await tools.settings(host, self.config, self.target, self.portals[0])

    async def start(self, host: Host) -> None:
        # What is there before we add anything need not be ours to take back.
        self._added = []
        host.on_failure(lambda: self._undo_start(host))
        await until_it_heals(lambda: self._attempt(host), host, self.target, self.config["ATTEMPTS"])

    async def _attempt(self, host: Host) -> None:
        await self._check_same_disk(host)
        errors: list[EnvstartError] = []
        portals = await self._in_order(host)
        for portal in portals:
            try:
                await self._login(host, portal)
                if not self.multipath:
                    break
            except (TemporaryError, NotFoundError, UnavailableError) as error:
                errors.append(error)
                if len(portals) > 1:
                    host.report.trace(str(error))
        if len(errors) == len(portals):
            # One that can heal is worth another attempt, whatever is wrong with the others.
            raise next((error for error in errors if isinstance(error, TemporaryError)), errors[0])
        try:
            await self._wait_for_device(host)
        except NoResponseError:
            # It holds up all of GEOM, and with it every other environment of the host.
            await self._undo_start(host)
            raise

    async def _in_order(self, host: Host) -> list[str]:
        """The portals to try: first those that have a session; no other if our disk is in use by way of one, since a
        second session would show the same disk under a second name."""
        there = await self._by_portal(host)
        if self.multipath or not there:
            return list(self.portals)
        first = [portal for portal in self.portals if normal_portal(portal) in there]
        if self._lun in await self._users(host, list(there.values())):
            return first
        return [*first, *(portal for portal in self.portals if portal not in first)]

    async def _login(self, host: Host, portal: str) -> None:
        """A session by way of one portal with our LUN in it, or an error and no session that was not there before."""
        doing = f"log in to {self.target} at {portal}"
        current = await self._at(host, portal)
        if current is not None and current.state != CONNECTED and not await self._users(host, [current]):
            # iscsid tries again only once a minute (docs/freebsd.md#iscsi-timing).
            await self._logout(host, current)
            current = None
        if current is None:
            tools = initiator_of(host)
            text = await tools.settings(host, self.config, self.target, portal)
            self._added.append(portal)
            if tools.REDIRECTS:
                self._logins.begin(portal, await self._sessions(host), await self._all(host))
            result = await tools.login(host, self.config, self.target, portal, text)
            if any(words in result.words for words in tools.ALREADY):
                # Somebody else was faster: not ours to take back.
                self._added.remove(portal)
                self._logins.end([normal_portal(portal)])
            elif result.status != 0:
                final = diagnosis.first(tools.OF_LOGIN, result.words, doing)
                raise final or TemporaryError(f"cannot {doing}: {result.words}")
        try:
            session = await self._wait_for_disk(host, portal, doing)
            await self._logins.arrived(host, initiator_of(host), portal, session)
        except EnvstartError:
            if portal in self._added:
                # iscsid would try for ever (docs/faults.md, 74 and 75).
                try:
                    await self._forget(host, portal)
                except EnvstartError as second:
                    # The roll back asks again.
                    host.report.trace(str(second))
            raise

    async def _wait_for_disk(self, host: Host, portal: str, doing: str) -> SessionInfo:
        polling = Polling(host, self.config["ISCSI_LOGIN_TIMEOUT"], f"the login to {self.target} at {portal}")
        began = host.deadline.elapsed()
        rescanned = asked = False
        while True:
            session = await self._at(host, portal)
            state = session.state if session else "the session is gone"
            if session and state == CONNECTED and self._lun in session.disks:
                return session
            waited = host.deadline.elapsed() - began
            final = diagnosis.first(initiator_of(host).OF_STATE, state, doing)
            if final is not None:
                raise final
            if "iscsid" in state and not asked and waited > _NOTICE:
                asked = True
                await initiator_of(host).check_daemon(host, doing, start=self.config["ISCSI_START_DAEMON"])
            if session and state == CONNECTED and session.bus >= 0 and not rescanned and waited > _SCAN:
                # A LUN that was added to the target after the login is seen only then.
                rescanned = True
                await initiator_of(host).rescan(host, session, self.config["ISCSI_LOGIN_TIMEOUT"])
            if state not in ("", CONNECTED, "Disconnected") and "iscsid" not in state:
                raise TemporaryError(f"cannot {doing}: {state}", hint="is the target up, and can it be reached?")
            if not await polling.again():
                break
        if session and state == CONNECTED:
            luns = ", ".join(str(lun) for lun in sorted(session.disks)) or "none"
            raise NotFoundError(
                f"cannot {doing}: it has no LUN {self._lun} (it has {luns})", hint="correct ISCSI_LUN, or add it"
            )
        remedy, ours = "is the target up?", [one.portal for one in await self._sessions(host)]
        if elsewhere := [one.portal for one in await self._all(host) if one.portal not in ours]:
            # iscsid(8) cannot redirect a session to where another one is (ISCSISMODIFY: Device busy).
            remedy = f"is the target up, or redirects it to {elsewhere[0]}? add that to ISCSI_PORTAL then"
        raise TemporaryError(f"cannot {doing}: the session is down ({state}) after {waited:.1f} s", hint=remedy)

    async def _wait_for_device(self, host: Host) -> None:
        """Disk, partition and multipath device come by themselves; none is ever made here."""
        polling = Polling(host, self.config["ISCSI_LOGIN_TIMEOUT"], f"the disk of {self.source}")
        while await self.device(host) is None:
            if not await polling.again():
                disks = ", ".join(await self._disks(host)) or f"the LUN of {self.target}"
                what, remedy = f"partition {self.config['ISCSI_PARTITION']}", "correct ISCSI_PARTITION"
                if self.multipath:
                    what, remedy = (
                        f"multipath/{self.multipath}",
                        f"once, by hand: gmultipath label {self.multipath} DISK",
                    )
                raise NotFoundError(f"cannot find {what} on {disks}", hint=remedy)

    async def _check_same_disk(self, host: Host) -> None:
        """Somebody else's session, be it down now, can have the same disk; mounted twice, it would be destroyed."""
        ours = [one.portal for one in await self._sessions(host)]
        for other in [one for one in await self._all(host) if one.portal not in ours]:
            disk = (await initiator_of(host).disks(host, other)).get(self._lun, "")
            users = await devices.users(host, disk)
            if users:
                raise ConfigError(
                    f"cannot log in to {self.target}: a session by way of {other.portal} has the same LUN, and "
                    f"{', '.join(users)} uses it",
                    hint="add that portal to ISCSI_PORTAL, or end that first",
                )

    # Take it away.

    async def stop(self, host: Host) -> None:
        sessions = await self._sessions(host)
        polling = Polling(host, _CLOSING, f"whoever uses the disk of {self.source}")
        while users := await self._users(host, sessions):
            # Another LUN is another jail's (docs/faults.md, 77 and 79); who has ours open may be about to close it.
            others = self._others(users)
            if others or not await polling.again():
                if not others and await self._only_hang(host, sessions):
                    break
                host.report.note(f"the session to {self.target} stays: {_names(users)} uses it")
                return
        if sessions:
            self.journal_stop(host)
        for session in sessions:
            await self._logout(host, session)
        if not sessions:
            initiator_of(host).tidy(self.target, self.portals)
            self._logins.end([normal_portal(portal) for portal in self.portals])

    async def _only_hang(self, host: Host, sessions: Sequence[SessionInfo]) -> bool:
        """Whether what has our disk open waits for a session that is down, and is to be ended by force: nothing is
        mounted from it any more, as far as the mount table has it."""
        if not self.config["STOP_FORCE"] or not await self.why_down(host):
            return False
        tools = initiator_of(host)
        names = [name for one in sessions for name in (await tools.disks(host, one)).values()]
        return not any(tools.is_on(entry.source, name) for entry in await host.mounts() for name in names)

    async def fail_pending_io(self, host: Host) -> None:
        sessions = await self._sessions(host)
        others = self._others(await self._users(host, sessions))
        if others:
            raise TemporaryError(
                f"cannot end the session to {self.target}, which is down: {_names(others)} uses it too, "
                "and may come back with it",
                hint="wait for the target",
            )
        for one in sessions:
            await self._logout(host, one)

    async def _users(self, host: Host, sessions: Sequence[SessionInfo]) -> dict[int, list[str]]:
        """Who uses the disks of these sessions, by LUN; a multipath device that nobody uses is no user."""
        graph = await devices.read(host)
        by_lun: dict[int, list[str]] = {}
        for one in sessions:
            for lun, device in (await initiator_of(host).disks(host, one)).items():
                provider = graph.provider(device)
                if provider is None:
                    continue
                for upper in graph.on(provider, "MULTIPATH") or [provider]:
                    users = await devices.users(host, upper.name)
                    if users:
                        by_lun.setdefault(lun, []).extend(users)
        return by_lun

    def _others(self, users: dict[int, list[str]]) -> dict[int, list[str]]:
        return {lun: names for lun, names in users.items() if lun != self._lun}

    async def _logout(self, host: Host, session: SessionInfo) -> None:
        if host.rehearsing:
            await host.run(initiator_of(host).logging_out(session))
            return
        portals = [portal for portal, one in (await self._by_portal(host)).items() if one.portal == session.portal]
        rundir.touch(_departure(session))
        result = await initiator_of(host).logout(host, session)
        # The command only asks for it; until the kernel has done it, the session is listed as it was.
        polling = Polling(host, _LEAVING, f"the end of the session to {self.target}")
        while any(one.portal == session.portal for one in await self._all(host)):
            if result.status != 0 or not await polling.again():
                why = "the kernel still has it" if result.status == 0 else result.words
                raise TemporaryError(f"cannot log out of {session.target} at {session.portal}: {why}")
        rundir.write(_departure(session), b"")
        self._logins.end(portals)

    async def _forget(self, host: Host, portal: str) -> None:
        session = await self._at(host, portal)
        if session is not None:
            await self._logout(host, session)
        self._added.remove(portal)

    async def _undo_start(self, host: Host) -> None:
        for portal in list(self._added):
            host.invalidate()
            session = await self._at(host, portal)
            users = await self._others_than_us(host, session) if session else []
            if users:
                raise TemporaryError(f"cannot log out of {self.target}: {', '.join(users)} uses it")
            await self._forget(host, portal)

    async def _others_than_us(self, host: Host, session: SessionInfo) -> list[str]:
        """Who uses the disks of a session that this run has made. Where it is down, or something of this run hangs in
        the kernel, that has them open, or keeps GEOM from telling; it ends with the session, and what is mounted
        counts alone."""
        if session.state == CONNECTED and not host.left_behind():
            try:
                users = await self._users(host, [session])
                return [_names(users)] if users else []
            except NoResponseError:
                pass
        tools = initiator_of(host)
        names = [*(await tools.disks(host, session)).values(), f"multipath/{self.multipath}"]
        return [entry.point for entry in await host.mounts() if any(tools.is_on(entry.source, name) for name in names)]

    async def _at(self, host: Host, portal: str) -> SessionInfo | None:
        return (await self._by_portal(host)).get(normal_portal(portal))

    # What is there.

    async def state(self, host: Host) -> plan.State:
        tools = initiator_of(host)
        login = [tools.logging_in(self.target, portal) for portal in self.portals]
        start = login if self.multipath else login[:1]
        try:
            sessions = await self._sessions(host)
            device = await self.device(host)
            others = self._others(await self._users(host, sessions))
            lacking = await self._lacking(host)
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if sessions and await self.why_down(host) and await tools.disks(host, sessions[0]):
            return plan.State(plan.LOST, f"the session is down ({sessions[0].state})")
        if not sessions:
            needs = tools.by_hand(self.config["ISCSI_CHAP_USER"])
            detail = f"no session; {needs}" if needs else "no session"
            return plan.State(plan.NOT_READY, detail, start=start, pastable=not needs)
        if device is None:
            return plan.State(plan.NOT_READY, f"no disk: {sessions[0].state}", start=start)
        stop = [] if others else [tools.logging_out(one) for one in sessions]
        return plan.State(plan.DEGRADED if lacking else plan.READY, lacking or device, stop=stop)


def _departure(session: SessionInfo) -> str:
    """The file that says when a session was sent away."""
    return f"logout.{path_digest(f'{session.target} {session.portal}')}"


def _leaves(session: SessionInfo) -> bool:
    age = rundir.age(_departure(session))
    return age is not None and age < _LEAVING


def _names(users: dict[int, list[str]]) -> str:
    return ", ".join(dict.fromkeys(name for names in users.values() for name in names))
