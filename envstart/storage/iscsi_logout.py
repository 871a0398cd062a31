"""The end of an iSCSI session: the command only asks for it; the session is listed as ever until the kernel is done."""

from __future__ import annotations

from envstart.errors import TemporaryError
from envstart.paths import path_digest
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_lun import Lun
from envstart.storage.iscsi_session import SessionInfo
from envstart.system import rundir
from envstart.system.host import Host, Polling

# Seconds that the kernel may take to end a session.
_ENDING = 5.0


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
    lun.logins.end(portals)


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
