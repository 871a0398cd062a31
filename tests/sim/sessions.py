"""What iscsid(8) and the kernel have made of the iSCSI sessions by now.

There is no daemon: `settle` works it out from the time and from the storage box whenever somebody looks.
"""

from __future__ import annotations

import errno
import os

from . import geom, reservations
from .errors import text
from .mounted import unmount_lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import Box, Disk, Session, State, Target

PORT = "3260"
WAITING = "Waiting for iscsid(8)"
FIRST_BUS = 7
NO_BUS = -1
# The machine has a pass device of its own, that of its DVD drive.
FIRST_PASS = 1


def normal(portal: str) -> str:
    """ADDRESS:PORT; the kernel compares portals as they are written, the network does not."""
    host, colon, port = portal.rpartition(":")
    if colon and port.isdigit() and (host.count(":") == 0 or host.endswith("]")):
        return portal
    return f"{portal}:{PORT}"


def new(target: str, portal: str, initiator: str, known: dict[str, str]) -> Session:
    return {
        "id": 0, "target": target, "portal": portal, "initiator": initiator,
        "isid": f"0x80{os.urandom(5).hex()}", "enabled": True, "discovery": False, "began": 0.0,
        "failed": False, "connected": False, "connected_at": 0.0, "reason": WAITING, "silent": False,
        "scanned": False, "scbus": NO_BUS, "luns": {}, "passes": {}, "barred": {}, "leaving": 0.0,
        "known": dict(known),
    }  # fmt: skip


def register(state: State, session: Session) -> None:
    state["session_serial"] += 1
    session["id"] = state["session_serial"]
    state["sessions"].append(session)


def nexus(session: Session) -> str:
    return f"{session['initiator']},i,{session['isid']}"


def of_disk(state: State, disk: str) -> tuple[Session, str] | None:
    """Return the session that brought DISK, and the number of the LUN there."""
    for session in state["sessions"]:
        for number, name in session["luns"].items():
            if name == disk:
                return session, number
    return None


def status(session: Session) -> str:
    """As iscsictl shows it without -v."""
    if session["reason"] and session["enabled"]:
        return session["reason"]
    if session["discovery"]:
        return "Discovery"
    if not session["enabled"]:
        return "Disabled"
    return "Connected" if session["connected"] else "Disconnected"


def leave(state: State, session: Session, now: float) -> None:
    """ISCSISREMOVE only asks for it: a thread of the kernel's takes the session away (docs/freebsd.md#iscsictl)."""
    session["leaving"] = session["leaving"] or now + state["settings"]["removal_seconds"]


def remove(state: State, machine: Machine, session: Session) -> None:
    drop_devices(state, machine, session)
    state["sessions"].remove(session)


def drop_devices(state: State, machine: Machine, session: Session) -> None:
    for name in session["luns"].values():
        geom.remove(state, machine, name)
    session.update({"luns": {}, "passes": {}, "barred": {}, "scanned": False, "scbus": NO_BUS})


# Time


def settle(state: State, machine: Machine, box: Box, now: float) -> list[float]:
    """Bring all sessions up to NOW; the points in time when there is more to do."""
    dues = []
    for session in list(state["sessions"]):
        if session["leaving"]:
            if now < session["leaving"]:
                dues.append(session["leaving"])
            else:
                remove(state, machine, session)
            continue
        if not session["enabled"]:
            lose(state, machine, session, now)
        elif session["connected"]:
            dues.append(watch(state, machine, box, session, now))
        if session["enabled"] and not session["connected"]:
            dues.append(log_in(state, machine, box, session, now))
        if session["enabled"] and session["connected"] and not (session["scanned"] or session["silent"]):
            dues.append(scan(state, machine, box, session, now))
        bar(box, session)
    return [due for due in dues if due]


def watch(state: State, machine: Machine, box: Box, session: Session, now: float) -> float:
    """Notice a portal that falls silent by the pings, one that goes away at once, a target by its absence."""
    portal = box["portals"].get(normal(session["portal"]))
    there = session["target"] in box["targets"]
    session["silent"] = portal is None or portal["state"] != "up" or not there
    if not session["silent"]:
        return 0.0
    patience = state["settings"]["ping_seconds"] if portal and portal["state"] == "frozen" else 0.0
    noticed = (portal["since"] if portal else now) + patience
    if now < noticed:
        return noticed
    lose(state, machine, session, now)
    return 0.0


def lose(state: State, machine: Machine, session: Session, now: float) -> None:
    """Lose the connection. The devices stay, and whoever uses them waits, unless the sysctl says otherwise."""
    if session["connected"]:
        session.update({"connected": False, "began": now, "failed": False, "reason": "", "silent": True})
        if state["settings"]["fail_on_disconnection"]:
            drop_devices(state, machine, session)
            unmount_lost(state)


def log_in(state: State, machine: Machine, box: Box, session: Session, now: float) -> float:
    settings = state["settings"]
    if not settings["iscsid"]:
        session.update({"began": 0.0, "reason": WAITING})
        return 0.0
    next_attempt = begin_attempt(state, box, session, now)
    if session["failed"]:
        return next_attempt
    picked_up, answered = (session["began"] + settings["login_seconds"] * part for part in (0.5, 1.0))
    if now < picked_up:
        return picked_up
    if session["reason"] == WAITING:
        session["reason"] = ""
    if now < answered:
        return answered
    address = redirection(box, session)
    if address:
        if is_logged_in(state, session["target"], address):
            # ISCSISMODIFY: Device busy. That iscsid(8) has ended is noticed by the kernel's login timeout.
            return next_attempt
        # The kernel lets it reconnect: iscsid(8) is asked anew, by the new address.
        session.update({"portal": address, "began": answered, "reason": WAITING})
        return now
    said = answer(box, session)
    if said != "":
        session.update({"failed": bool(said), "reason": said or session["reason"]})
        return next_attempt
    if session["discovery"]:
        discover(state, box, session, answered)
        return now
    # It was so before anybody looked.
    since = box["portals"][normal(session["portal"])]["since"]
    session.update({"connected": True, "connected_at": max(answered, since), "reason": "", "silent": False})
    return 0.0


def is_logged_in(state: State, target: str, portal: str) -> bool:
    return any((other["target"], other["portal"]) == (target, portal) for other in state["sessions"])


def begin_attempt(state: State, box: Box, session: Session, now: float) -> float:
    """Begin the login anew as often as its time has run out, and return when that will be next."""
    if not session["began"]:
        session["began"] = now
    limit = max(float(session["known"].get("LoginTimeout", 0)) or state["settings"]["login_timeout"], 0.01)
    while now >= session["began"] + limit and (session["failed"] or answer(box, session) is None):
        session["reason"] = session["reason"] if session["failed"] else text(errno.ETIMEDOUT)
        session.update({"began": session["began"] + limit, "failed": False})
    next_attempt: float = session["began"] + limit
    return next_attempt


def answer(box: Box, session: Session) -> str | None:
    """Return the answer to a login: "" for yes, why not, or None while nobody answers."""
    portal = normal(session["portal"])
    host = portal.rpartition(":")[0]
    known = box["portals"].get(portal)
    if known is None:
        neighbours = [what["state"] for name, what in box["portals"].items() if name.rpartition(":")[0] == host]
        if not neighbours:
            is_address = ":" in host or host.replace(".", "").isdigit()
            return None if is_address else "Name does not resolve"
        state = "refused" if neighbours[0] == "up" else neighbours[0]
    else:
        state = known["state"]
    if state != "up":
        return {"frozen": None, "refused": "Connection refused", "down": "Host is down"}[state]
    if session["known"].get("iser"):
        return "iSER not supported"
    return "" if session["discovery"] else admit(box["targets"].get(session["target"]), session, portal)


def redirection(box: Box, session: Session) -> str:
    """Where the target sends the one who logs in, which it does before it asks who that is."""
    portal, target = normal(session["portal"]), box["targets"].get(session["target"])
    is_up = box["portals"].get(portal, {"state": ""})["state"] == "up"
    return target["redirects"].get(portal, "") if target and is_up and not session["discovery"] else ""


def admit(target: Target | None, session: Session, portal: str) -> str:
    if target is None or portal not in target["portals"]:
        return "Not found"
    if target["initiators"] is not None and session["initiator"] not in target["initiators"]:
        return "Authorization failure"
    known = session["known"]
    if not target["chap"]:
        # An initiator that wants the target to authenticate itself offers CHAP alone.
        return "Unsupported AuthMethod" if known.get("mutual_user") else ""
    if not known.get("user"):
        return "Unsupported AuthMethod"
    chap = target["chap"].get(known["user"])
    if chap is None or chap["secret"] != known.get("secret"):
        return "Authentication failure"
    asked = known.get("mutual_user", ""), known.get("mutual_secret", "")
    if asked[0] and asked != (chap["mutual_user"], chap["mutual_secret"]):
        return "Mutual CHAP failed"
    return ""


def discover(state: State, box: Box, session: Session, now: float) -> None:
    """SendTargets: a session for every target of the portal; the one that asked is done."""
    state["sessions"].remove(session)
    portal = normal(session["portal"])
    for target, what in box["targets"].items():
        known = [(other["target"], other["portal"]) for other in state["sessions"]]
        if portal in what["portals"] and (target, session["portal"]) not in known:
            found = new(target, session["portal"], session["initiator"], session["known"])
            found["began"] = now
            register(state, found)


def scan(state: State, machine: Machine, box: Box, session: Session, now: float) -> float:
    """Let the units come up some time after the login, under the lowest numbers that are free."""
    due = session["connected_at"] + state["settings"]["scan_seconds"]
    if now < due:
        return due
    session["scanned"] = True
    buses = [other["scbus"] for other in state["sessions"]]
    session["scbus"] = next(bus for bus in range(FIRST_BUS, FIRST_BUS + len(buses) + 1) if bus not in buses)
    rescan(state, machine, box, session)
    return 0.0


def rescan(state: State, machine: Machine, box: Box, session: Session) -> None:
    """Find the LUNs that were added to the target after the login."""
    for number, lun in box["targets"][session["target"]]["luns"].items():
        if number in session["luns"]:
            continue
        name = next(f"da{unit}" for unit in range(1000) if f"da{unit}" not in state["disks"])
        taken = [each for other in state["sessions"] for each in other["passes"].values()]
        session["luns"][number] = name
        session["passes"][number] = next(unit for unit in range(FIRST_PASS, 1000) if unit not in taken)
        lunid = f"LAB     {lun['serial']}"
        disk: Disk = {
            "image": lun["image"], "ident": lun["serial"], "lunid": lunid, "descr": "LAB CTLDISK",
            "session": str(session["id"]),
        }  # fmt: skip
        geom.add_disk(state, machine, name, disk)


def bar(box: Box, session: Session) -> None:
    """Set what reservations of others keep this session from, LUN by LUN."""
    luns = box["targets"][session["target"]]["luns"] if session["target"] in box["targets"] else {}
    session["barred"] = {
        number: refused
        for number in session["luns"]
        if number in luns and (refused := reservations.barred(luns[number], nexus(session)))
    }
