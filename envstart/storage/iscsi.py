"""A session of the iSCSI initiator to one target, and the disk that one of its LUNs is."""

from collections.abc import Sequence

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.errors import EnvstartError, NotFoundError, TemporaryError
from envstart.steps.block import Block
from envstart.storage import iscsi_keys
from envstart.storage.iscsi_initiator import initiator_of, mounted_from, names, other_luns, users_of
from envstart.storage.iscsi_login import Login, logout, wait_for_departures
from envstart.storage.iscsi_lun import Lun
from envstart.storage.iscsi_session import CONNECTED, SessionInfo, normal_portal, split_portal
from envstart.system.host import Host, Polling

# Seconds that a process may take to close our disk after the unmount.
_CLOSING = 2.0


class Session(Block):
    """The disk of one LUN of ``target``, over the first of ``portals`` that works, or over all of them at once."""

    fstype = "iscsi"

    def __init__(self, config: Config, target: str, portals: Sequence[str]) -> None:
        """Take the rest from the configuration, without looking at anything."""
        self.lun = Lun(config, target, portals)
        super().__init__("session", f"{portals[0]} {target} lun {self.lun.number}")
        # Sessions belong to the host, whatever environment's LUN they carry.
        self.resource = f"iscsi {target}"
        self.servers = tuple(split_portal(portal) for portal in portals)

    async def device(self, host: Host) -> str | None:
        """Return the disk, its partition or the multipath device, as far as it is there."""
        return await self.lun.device(host)

    def expected(self, host: Host) -> str:
        """Return the device that it will be, as far as that can be told."""
        return self.lun.expected(host)

    async def why_down(self, host: Host) -> str:
        """Tell that all sessions are down."""
        sessions = await self.lun.sessions(host)
        if sessions and not any(session.state == CONNECTED for session in sessions):
            return f"the session to {self.lun.target} is down ({sessions[0].state}), and may come back"
        return ""

    async def recheck_down(self, host: Host) -> str:
        """Look again until the kernel would have taken a silent target for lost."""
        polling = Polling(host, initiator_of(host).NOTICED, f"the session to {self.lun.target}")
        while True:
            host.invalidate()
            why = await self.why_down(host)
            if why or not await self.lun.sessions(host) or not await polling.again():
                return why

    async def check(self, host: Host) -> EnvstartError | None:
        """Return what is lacking, as soon as no session is on its way out."""
        await wait_for_departures(host, self.lun)
        return await super().check(host)

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell how the sessions and the disk are; warn of a multipath device that lacks paths."""
        sessions, device = await self.lun.sessions(host), await self.device(host)
        problem = None
        if device is None:
            problem = NotFoundError(f"cannot use {self.source}: there is no session, or it has no such disk yet")
        if not sessions:
            needs = initiator_of(host).needs(self.lun.config[iscsi_keys.ISCSI_CHAP_USER])
            detail = f"no session; {needs}" if needs else "no session"
            return plan.Observation(plan.NOT_READY, detail, problem, pastable=not needs)
        if await self.why_down(host) and await initiator_of(host).disks(host, sessions[0]):
            return plan.Observation(plan.LOST, f"the session is down ({sessions[0].state})", problem)
        if device is None:
            return plan.Observation(plan.NOT_READY, f"no disk: {sessions[0].state}", problem)
        if missing := await self.lun.missing_paths(host):
            return plan.Observation(plan.DEGRADED, missing, warning=f"{device} is degraded: {missing}")
        return plan.Observation(plan.READY, device)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the commands that log in or out."""
        initiator, lun = initiator_of(host), self.lun
        if verb == "start":
            login = [initiator.login_argv(lun.target, portal) for portal in lun.portals]
            return login if lun.multipath else login[:1]
        sessions = await lun.sessions(host)
        others = other_luns(await users_of(host, sessions), self.lun.number)
        return [] if others else [initiator.logout_argv(session) for session in sessions]

    async def preflight_start(self, host: Host) -> None:
        """Check the daemon, and that the secrets can be read."""
        config, target = self.lun.config, self.lun.target
        await initiator_of(host).check_daemon(host, f"log in to {target}", start=config[iscsi_keys.ISCSI_START_DAEMON])
        await initiator_of(host).settings(host, config, target, self.lun.portals[0])

    async def start(self, host: Host) -> None:
        """Log in, as often as it takes."""
        login = Login(self.lun, self.source)
        host.on_failure(lambda: login.undo(host))
        await until_it_heals(lambda: login.attempt(host), host, self.lun.target, self.lun.config[common.ATTEMPTS])

    async def stop(self, host: Host) -> None:
        """Log out, unless somebody uses the session."""
        sessions = await self.lun.sessions(host)
        polling = Polling(host, _CLOSING, f"whoever uses the disk of {self.source}")
        while users := await users_of(host, sessions):
            # Whoever has our own disk open may be about to close it.
            others = other_luns(users, self.lun.number)
            if others or not await polling.again():
                if not others and await self._only_hang(host, sessions):
                    break
                host.report.note(f"the session to {self.lun.target} stays: {names(users)} uses it")
                return
        if sessions:
            self.journal_stop(host)
        for session in sessions:
            await logout(host, self.lun, session)
        if not sessions:
            initiator_of(host).tidy(self.lun.target, self.lun.portals)
            self.lun.logins.end([normal_portal(portal) for portal in self.lun.portals])

    async def _only_hang(self, host: Host, sessions: Sequence[SessionInfo]) -> bool:
        """Tell whether the users of our disk wait for a session that is down, and are to be ended by force."""
        force = self.lun.config[common.STOP_FORCE] and await self.why_down(host)
        # As far as the mount table has it.
        return bool(force) and not await mounted_from(host, sessions)

    async def fail_pending_io(self, host: Host) -> None:
        """End the sessions, which are down, and with them whatever waits for our disk; never another LUN's."""
        sessions = await self.lun.sessions(host)
        others = other_luns(await users_of(host, sessions), self.lun.number)
        if others:
            raise TemporaryError(
                f"cannot end the session to {self.lun.target}, which is down: {names(others)} uses it too, "
                "and may come back with it",
                hint="wait for the target",
            )
        for session in sessions:
            await logout(host, self.lun, session)
