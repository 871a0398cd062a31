"""Sessions that an iSCSI target has sent to another address than the one that was logged in to.

FreeBSD's iscsid(8) writes that address over the first one (kernel_modify() of usr.sbin/iscsid/login.c), so that
``iscsictl -L`` shows the session under none of our portals; the kernel's number of it stays. So a login leaves a note
of its target before it begins: the portal, and which sessions there were. What comes up after that, while the portal
itself has no session, is ours. open-iscsi keeps the portal (persistent_address), and needs no note.
"""

from collections.abc import Collection, Sequence

from envstart.errors import EnvstartError
from envstart.paths import path_digest
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_session import SessionInfo, normal_portal
from envstart.system import files
from envstart.system.host import Host

# In place of the number of a session, as long as that is not known.
_UNKNOWN = "-"


class Logins:
    """The logins to one target that may have been redirected. Who changes it holds the lock of the target."""

    def __init__(self, target: str) -> None:
        """Name the note after the target, without reading it."""
        self._name = f"login.{path_digest(target)}"
        # The note that there was no room for.
        self._own: tuple[dict[str, str], set[str]] | None = None

    def begin(self, portal: str, ours: Collection[SessionInfo], listed: Sequence[SessionInfo]) -> None:
        """Note that a session by way of ``portal`` comes next, where ``listed`` are there now, ``ours`` among them."""
        logins, _ = self._load()
        logins[normal_portal(portal)] = _UNKNOWN
        addresses = {normal_portal(session.portal) for session in ours}
        self._save(logins, {normal_portal(session.portal) for session in listed} - addresses)

    async def arrived(self, host: Host, portal: str, session: SessionInfo) -> None:
        """Note the number of the session that a login has brought, if it is listed under another address."""
        logins, others = self._load()
        if normal_portal(session.portal) == normal_portal(portal) or normal_portal(portal) not in logins:
            return
        host.report.trace(f"{session.target} at {portal} has redirected the session to {session.portal}")
        logins[normal_portal(portal)] = (await _numbers(host)).get((session.target, session.portal), _UNKNOWN)
        self._save(logins, others)
        if self._own is not None:
            why = f"cannot note that {session.target} has redirected the session to {session.portal}: there is no room"
            host.report.warn(f"{why}; a later stop leaves it; add that address to ISCSI_PORTAL")

    def end(self, portals: Collection[str]) -> None:
        """Forget the logins by way of these portals (as normal_portal() has them): their sessions are gone."""
        logins, others = self._load()
        left = {portal: number for portal, number in logins.items() if portal not in portals}
        if left != logins:
            self._save(left, others)

    async def by_portal(
        self, host: Host, portals: Sequence[str], sessions: Sequence[SessionInfo]
    ) -> dict[str, SessionInfo]:
        """Return the session to the target of each portal (as normal_portal() has it) that has one."""
        at = {normal_portal(session.portal): session for session in sessions}
        normal = [normal_portal(portal) for portal in portals]
        absent = [portal for portal in normal if portal not in at] if initiator_of(host).REDIRECTS and sessions else []
        logins, others = self._load() if absent else ({}, set())
        by_portal = {portal: at[portal] for portal in normal if portal in at}
        for portal in absent:
            new: list[SessionInfo] = []
            if (number := logins.get(portal)) == _UNKNOWN:
                new = [session for address, session in at.items() if address not in others and address not in logins]
            elif number:
                numbers = await _numbers(host)
                new = [each for each in sessions if numbers.get((each.target, each.portal)) == number]
            if new:
                by_portal[portal] = new[0]
        return {portal: by_portal[portal] for portal in normal if portal in by_portal}

    def _load(self) -> tuple[dict[str, str], set[str]]:
        """Return the logins, with the numbers of their sessions, and the addresses where other sessions were."""
        if self._own is not None:
            return dict(self._own[0]), set(self._own[1])
        lines = [line.split() for line in files.load_note(self._name).splitlines()]
        logins = {words[1]: words[2] for words in lines if len(words) == 3 and words[0] == "login"}
        return logins, {words[1] for words in lines if len(words) == 2 and words[0] == "other"}

    def _save(self, logins: dict[str, str], others: set[str]) -> None:
        lines = [f"login {portal} {number}\n" for portal, number in logins.items()]
        lines += [f"other {address}\n" for address in sorted(others)]
        try:
            files.save_note(self._name, "".join(lines) if logins else "")
            self._own = None
        except EnvstartError:
            self._own = logins, others


async def _numbers(host: Host) -> dict[tuple[str, str], str]:
    from envstart.storage import iscsi_freebsd

    return {place: str(number) for place, number in (await iscsi_freebsd.numbers(host)).items()}
