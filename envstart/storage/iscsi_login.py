"""The beginning and the end of iSCSI sessions. The list of sessions decides, never a status.

A login is over when the disk of the LUN is there. A logout only asks for it: the session is listed as ever until the
kernel is done.
"""

from envstart.errors import ConfigError, EnvstartError, NoResponseError, NotFoundError, TemporaryError, UnavailableError
from envstart.paths import path_digest
from envstart.steps import diagnosis
from envstart.storage import devices, iscsi_keys
from envstart.storage.iscsi_initiator import initiator_of, mounted_from, names, users_of
from envstart.storage.iscsi_lun import Lun
from envstart.storage.iscsi_session import CONNECTED, SessionInfo, normal_portal
from envstart.system import rundir
from envstart.system.host import Host, Polling

# Seconds that iscsid may take to notice a new session, and that a scan for a new LUN may take.
_NOTICE = 2.0
_SCAN = 1.0
# Seconds that the kernel may take to end a session.
_ENDING = 5.0


class Login:
    """The sessions that one run adds: it alone takes them back."""

    def __init__(self, lun: Lun, source: str) -> None:
        """Have added nothing yet; ``source``: the step's, for messages."""
        self._lun = lun
        self._source = source
        self._timeout: int = lun.config[iscsi_keys.ISCSI_LOGIN_TIMEOUT]
        self._added: list[str] = []

    async def attempt(self, host: Host) -> None:
        """Log in by way of the first portal that works, or of all, and wait for the device."""
        await self._check_same_disk(host)
        errors: list[EnvstartError] = []
        portals = await self._in_order(host)
        for portal in portals:
            try:
                await self._login(host, portal)
                if not self._lun.multipath:
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
            await self.undo(host)
            raise

    async def undo(self, host: Host) -> None:
        """End what this run has added, unless somebody else uses it by now."""
        for portal in list(self._added):
            host.invalidate()
            session = await self._lun.session_at(host, portal)
            users = await self._other_users(host, session) if session else ""
            if users:
                raise TemporaryError(f"cannot log out of {self._lun.target}: {users} uses it")
            await self._end(host, portal)

    async def _check_same_disk(self, host: Host) -> None:
        """Refuse a disk that somebody else's session has too, be it down now: mounted twice, it would be destroyed."""
        for session in await self._lun.foreign_sessions(host):
            disk = (await initiator_of(host).disks(host, session)).get(self._lun.number, "")
            users = await devices.users(host, disk)
            if users:
                raise ConfigError(
                    f"cannot log in to {self._lun.target}: a session by way of {session.portal} has the same LUN, and "
                    f"{', '.join(users)} uses it",
                    hint="add that portal to ISCSI_PORTAL, or end that first",
                )

    async def _in_order(self, host: Host) -> list[str]:
        """Return the portals to try: first those that have a session, and no other if our disk is in use there."""
        sessions, portals = await self._lun.by_portal(host), list(self._lun.portals)
        if self._lun.multipath or not sessions:
            return portals
        first = [portal for portal in portals if normal_portal(portal) in sessions]
        if self._lun.number in await users_of(host, list(sessions.values())):
            # A second session would show the same disk under a second name.
            return first
        return [*first, *(portal for portal in portals if portal not in first)]

    async def _login(self, host: Host, portal: str) -> None:
        """Have a session by way of one portal with our LUN in it, or raise and leave none that was not there before."""
        act = f"log in to {self._lun.target} at {portal}"
        current = await self._lun.session_at(host, portal)
        if current is not None and current.state != CONNECTED and not await users_of(host, [current]):
            # iscsid tries again only once a minute (docs/freebsd.md#iscsi-timing).
            await logout(host, self._lun, current)
            # A login that was still under way can have been redirected before it was ended.
            current = await self._lun.session_at(host, portal)
        if current is None:
            await self._add(host, portal, act)
        try:
            session = await self._wait_for_disk(host, portal, act)
            await self._lun.logins.arrived(host, portal, session)
        except EnvstartError:
            if portal in self._added:
                # iscsid would try for ever (docs/faults.md, 74 and 75).
                try:
                    await self._end(host, portal)
                except EnvstartError as second:
                    # The roll back asks again.
                    host.report.trace(str(second))
            raise

    async def _add(self, host: Host, portal: str, act: str) -> None:
        initiator, lun = initiator_of(host), self._lun
        settings = await initiator.settings(host, lun.config, lun.target, portal)
        self._added.append(portal)
        if initiator.REDIRECTS:
            lun.logins.begin(portal, await lun.sessions(host), await lun.all_sessions(host))
        result = await initiator.login(host, lun.config, lun.target, portal, settings)
        if any(words in result.words for words in initiator.ALREADY):
            # Somebody else was faster: not ours to take back.
            self._added.remove(portal)
            lun.logins.end([normal_portal(portal)])
        elif result.status != 0:
            final = diagnosis.first(initiator.OF_LOGIN, result.words, act)
            raise final or TemporaryError(f"cannot {act}: {result.words}")

    async def _wait_for_disk(self, host: Host, portal: str, act: str) -> SessionInfo:
        polling = Polling(host, self._timeout, f"the login to {self._lun.target} at {portal}")
        began = host.deadline.elapsed()
        rescanned = asked = False
        while True:
            session = await self._lun.session_at(host, portal)
            if session and session.state == CONNECTED and self._lun.number in session.disks:
                return session
            state, waited = session.state if session else "the session is gone", host.deadline.elapsed() - began
            self._check_state(host, state, act)
            if "iscsid" in state and not asked and waited > _NOTICE:
                asked = True
                await initiator_of(host).check_daemon(host, act, start=self._lun.config[iscsi_keys.ISCSI_START_DAEMON])
            if session and state == CONNECTED and session.bus >= 0 and not rescanned and waited > _SCAN:
                # A LUN that was added to the target after the login is seen only then.
                rescanned = True
                await initiator_of(host).rescan(host, session, self._timeout)
            if not await polling.again():
                raise await self._no_disk(host, session, act, f"the session is down ({state}) after {waited:.1f} s")

    def _check_state(self, host: Host, state: str, act: str) -> None:
        """Raise what a session in this state will never get over by itself."""
        final = diagnosis.first(initiator_of(host).OF_STATE, state, act)
        if final is not None:
            raise final
        if state not in ("", CONNECTED, "Disconnected") and "iscsid" not in state:
            raise TemporaryError(f"cannot {act}: {state}", hint="is the target up, and can it be reached?")

    async def _no_disk(self, host: Host, session: SessionInfo | None, act: str, down: str) -> EnvstartError:
        if session and session.state == CONNECTED:
            luns = ", ".join(str(lun) for lun in sorted(session.disks)) or "none"
            return NotFoundError(
                f"cannot {act}: it has no LUN {self._lun.number} (it has {luns})", hint="correct ISCSI_LUN, or add it"
            )
        hint = "is the target up?"
        if foreign := await self._lun.foreign_sessions(host):
            # iscsid(8) cannot redirect a session to where another one is (ISCSISMODIFY: Device busy).
            hint = f"is the target up, or redirects it to {foreign[0].portal}? add that to ISCSI_PORTAL then"
        return TemporaryError(f"cannot {act}: {down}", hint=hint)

    async def _wait_for_device(self, host: Host) -> None:
        """Wait for disk, partition and multipath device, which come by themselves; none is ever made here."""
        lun = self._lun
        polling = Polling(host, self._timeout, f"the disk of {self._source}")
        while await lun.device(host) is None:
            if not await polling.again():
                disks = ", ".join(await lun.disks(host)) or f"the LUN of {lun.target}"
                what, hint = f"partition {lun.config[iscsi_keys.ISCSI_PARTITION]}", "correct ISCSI_PARTITION"
                if lun.multipath:
                    what = f"multipath/{lun.multipath}"
                    hint = f"once, by hand: gmultipath label {lun.multipath} DISK"
                raise NotFoundError(f"cannot find {what} on {disks}", hint=hint)

    async def _end(self, host: Host, portal: str) -> None:
        session = await self._lun.session_at(host, portal)
        if session is not None:
            await logout(host, self._lun, session)
        self._added.remove(portal)

    async def _other_users(self, host: Host, session: SessionInfo) -> str:
        """Tell the users of the disks of a session that this run has made."""
        if session.state == CONNECTED and not host.left_behind():
            try:
                return names(await users_of(host, [session]))
            except NoResponseError:
                pass
        # Where it is down, or something of this run hangs in the kernel, that has them open, or keeps GEOM from
        # telling; it ends with the session, and what is mounted counts alone.
        return ", ".join(await mounted_from(host, [session], f"multipath/{self._lun.multipath}"))


async def logout(host: Host, lun: Lun, session: SessionInfo) -> None:
    """End a session of ours, and wait until it is gone."""
    if host.rehearsing:
        await host.run(initiator_of(host).logout_argv(session))
        return
    portals = [portal for portal, ours in (await lun.by_portal(host)).items() if ours.portal == session.portal]
    rundir.touch(_departure(session))
    result = await initiator_of(host).logout(host, session)
    polling = Polling(host, _ENDING, f"the end of the session to {session.target}")
    while any(listed.portal == session.portal for listed in await lun.all_sessions(host)):
        if result.status != 0 or not await polling.again():
            why = "the kernel still has it" if result.status == 0 else result.words
            raise TemporaryError(f"cannot log out of {session.target} at {session.portal}: {why}")
    rundir.write(_departure(session), b"")
    redirected = await lun.by_portal(host)
    lun.logins.end([portal for portal in portals if portal not in redirected])


async def wait_for_departures(host: Host, lun: Lun) -> None:
    """Wait for the end of what a killed run has sent away a moment ago."""
    polling = Polling(host, _ENDING, f"the end of the session to {lun.target}")
    while any(_is_departing(session) for session in await lun.sessions(host)) and await polling.again():
        pass


def _departure(session: SessionInfo) -> str:
    """Return the file that says when a session was sent away."""
    return f"logout.{path_digest(f'{session.target} {session.portal}')}"


def _is_departing(session: SessionInfo) -> bool:
    age = rundir.age(_departure(session))
    return age is not None and age < _ENDING
