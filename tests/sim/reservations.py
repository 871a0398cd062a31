"""SCSI-3 persistent reservations on one LUN, as ctl(4) keeps them: keys, a holder, and who may do what.

A nexus is an initiator with the ISID of one session. What it registered stays when it logs out, and a session that is
added anew is another nexus.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Lun

WR_EX, EX_AC, WR_EX_RO, EX_AC_RO, WR_EX_AR, EX_AC_AR = 1, 3, 5, 6, 7, 8
VALID = (WR_EX, EX_AC, WR_EX_RO, EX_AC_RO, WR_EX_AR, EX_AC_AR)
REGISTRANTS = (WR_EX_RO, EX_AC_RO, WR_EX_AR, EX_AC_AR)
ALL_REGISTRANTS = (WR_EX_AR, EX_AC_AR)
EXCLUSIVE_ACCESS = (EX_AC, EX_AC_RO, EX_AC_AR)

CONFLICT = "Reservation Conflict"
INVALID = "ILLEGAL REQUEST asc:26,4 (Invalid release of persistent reservation)"
UNKNOWN = "ILLEGAL REQUEST asc:24,0 (Invalid field in CDB)"
PREEMPTED = "UNIT ATTENTION asc:2a,3 (Reservations preempted)"
RELEASED = "UNIT ATTENTION asc:2a,4 (Reservations released)"
REGISTRATIONS_PREEMPTED = "UNIT ATTENTION asc:2a,5 (Registrations preempted)"


class RefusedError(Exception):
    """The command had no effect; the text is its SCSI status or sense."""


def barred(lun: Lun, nexus: str) -> str:
    """Return what NEXUS is refused: "" nothing, "w" writing, "rw" reading as well."""
    kind = lun["kind"]
    if not kind or holds(lun, nexus) or (kind in REGISTRANTS and nexus in lun["keys"]):
        return ""
    return "rw" if kind in EXCLUSIVE_ACCESS else "w"


def holds(lun: Lun, nexus: str) -> bool:
    if lun["kind"] in ALL_REGISTRANTS:
        return nexus in lun["keys"]
    return bool(lun["kind"]) and lun["holder"] == nexus


def holder_key(lun: Lun) -> int | None:
    """Return the key that read_reservation shows: 0 where all registrants hold it."""
    if not lun["kind"]:
        return None
    return 0 if lun["kind"] in ALL_REGISTRANTS else lun["keys"].get(lun["holder"], 0)


def take_attention(lun: Lun, nexus: str) -> None:
    """Tell a pending unit attention instead of doing what was asked, once."""
    pending = lun["attention"].pop(nexus, "")
    if pending:
        raise RefusedError(pending)


def act(lun: Lun, nexus: str, action: str, key: int, new_key: int, kind: int) -> None:
    if action == "register_ignore":
        register(lun, nexus, new_key)
        return
    if action == "register":
        if lun["keys"].get(nexus, 0) != key:
            raise RefusedError(CONFLICT)
        register(lun, nexus, new_key)
        return
    if nexus not in lun["keys"] or lun["keys"][nexus] != key:
        raise RefusedError(CONFLICT)
    if action == "reserve":
        reserve(lun, nexus, kind)
    elif action == "release":
        release(lun, nexus, kind)
    elif action == "clear":
        clear(lun, nexus)
    elif action in ("preempt", "preempt_abort"):
        preempt(lun, nexus, new_key, kind)
    else:
        raise RefusedError(UNKNOWN)


def register(lun: Lun, nexus: str, key: int) -> None:
    if not key and nexus not in lun["keys"]:
        return
    lun["generation"] += 1
    if key:
        lun["keys"][nexus] = key
        return
    held = holds(lun, nexus)
    del lun["keys"][nexus]
    if held and (lun["kind"] not in ALL_REGISTRANTS or not lun["keys"]):
        end(lun, nexus)


def end(lun: Lun, nexus: str) -> None:
    """End the reservation, and tell those who could write because they are registered."""
    if lun["kind"] in REGISTRANTS:
        tell_others(lun, nexus, RELEASED)
    lun["kind"], lun["holder"] = 0, ""


def tell_others(lun: Lun, nexus: str, attention: str) -> None:
    for other in lun["keys"]:
        if other != nexus:
            lun["attention"][other] = attention


def reserve(lun: Lun, nexus: str, kind: int) -> None:
    if kind not in VALID:
        raise RefusedError(UNKNOWN)
    if lun["kind"] and not (holds(lun, nexus) and lun["kind"] == kind):
        raise RefusedError(CONFLICT)
    lun["kind"], lun["holder"] = kind, nexus


def release(lun: Lun, nexus: str, kind: int) -> None:
    if not holds(lun, nexus):
        return
    if kind != lun["kind"]:
        raise RefusedError(INVALID)
    end(lun, nexus)


def clear(lun: Lun, nexus: str) -> None:
    tell_others(lun, nexus, PREEMPTED)
    lun["generation"] += 1
    lun["keys"].clear()
    lun["kind"], lun["holder"] = 0, ""


def preempt(lun: Lun, nexus: str, victim: int, kind: int) -> None:
    """Remove the victim's registrations, but for one's own; a reservation that it held moves to NEXUS."""
    everybody = victim == 0 and lun["kind"] in ALL_REGISTRANTS
    moves = everybody or (bool(lun["kind"]) and holder_key(lun) == victim)
    victims = [other for other, key in lun["keys"].items() if other != nexus and (everybody or key == victim)]
    if not victims and not moves:
        raise RefusedError(CONFLICT)
    if moves and kind not in VALID:
        raise RefusedError(UNKNOWN)
    for other in victims:
        del lun["keys"][other]
        lun["attention"][other] = REGISTRATIONS_PREEMPTED
    if moves:
        if kind != lun["kind"] and lun["kind"] in REGISTRANTS:
            tell_others(lun, nexus, RELEASED)
        lun["kind"], lun["holder"] = kind, nexus
    lun["generation"] += 1
