"""How iscsictl -L shows the sessions."""

from __future__ import annotations

from . import libxo, sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, Session, State

SEGMENT, BURST = 262144, 1048576


def listing(state: State, *, verbose: bool, style: str) -> str:
    found = state["sessions"]
    if style and style != "text":
        entries = [whole(session) if verbose else short(session) for session in found]
        return libxo.render(style, "iscsictl", {"session": entries} if entries else {})
    if verbose:
        return "".join(as_text(session) for session in found)
    rows = [f"{'Target name':<36} {'Target portal':<16} State"]
    rows += [f"{session['target']:<36} {session['portal']:<16} {state_of(session)}" for session in found]
    return "".join(row + "\n" for row in rows)


def state_of(session: Session) -> str:
    status = sessions.status(session)
    return f"{status}: {nodes(session)}" if status == "Connected" else status


def nodes(session: Session) -> str:
    return "".join(f"{name} " for name in session["luns"].values())


def devices(session: Session) -> Json:
    return {
        "lun": [{"lun": int(number), "device": name} for number, name in session["luns"].items()],
        "scbus": session["scbus"],
        "bus": 0,
        "target": 0 if session["luns"] else -1,
    }


def short(session: Session) -> Json:
    status = sessions.status(session)
    entry: Json = {"name": session["target"], "portal": session["portal"], "state": status}
    if status == "Connected":
        entry["devices"] = devices(session)
    return entry


def whole(session: Session) -> Json:
    known = session["known"]
    extra = {
        name: int(known[name]) if known[name].isdigit() else known[name]
        for name in ("dscp", "pcp", "PingTimeout", "LoginTimeout")
        if name in known
    }
    entry: Json = {
        "sessionId": session["id"],
        "initiator": {
            "name": session["initiator"],
            "portal": known.get("initiator_portal", ""),
            "alias": known.get("alias", ""),
        },
        "target": {"name": session["target"], "portal": session["portal"], "alias": "", **extra},
        "auth": {
            "user": known.get("user", ""),
            "secret": known.get("secret", ""),
            "mutualUser": known.get("mutual_user", ""),
            "mutualSecret": known.get("mutual_secret", ""),
        },
        "type": "Discovery" if session["discovery"] else "Normal",
        "enable": "Yes" if session["enabled"] else "No",
        "state": "Connected" if session["connected"] else "Disconnected",
        "failureReason": session["reason"],
        "headerDigest": known.get("header_digest", "None"),
        "dataDigest": known.get("data_digest", "None"),
        "recvDataSegmentLen": SEGMENT,
        "sendDataSegmentLen": SEGMENT,
        "maxBurstLen": BURST,
        "firstBurstLen": BURST,
        "immediateData": "Yes",
        "iSER": known.get("iser", "No"),
        "offloadDriver": known.get("offload", "None"),
    }
    if session["connected"]:
        entry["devices"] = devices(session)
    return entry


def as_text(session: Session) -> str:
    entry = whole(session)
    initiator, target, auth = entry["initiator"], entry["target"], entry["auth"]
    rows = [
        ("Session ID", entry["sessionId"]),
        ("Initiator name", initiator["name"]),
        ("Initiator portal", initiator["portal"]),
        ("Initiator alias", initiator["alias"]),
        ("Target name", target["name"]),
        ("Target portal", target["portal"]),
        ("Target alias", target["alias"]),
        *((f"Target {name}", target[name]) for name in list(target)[3:]),
        ("User", auth["user"]),
        ("Secret", auth["secret"]),
        ("Mutual user", auth["mutualUser"]),
        ("Mutual secret", auth["mutualSecret"]),
        ("Session type", entry["type"]),
        ("Enable", entry["enable"]),
        ("Session state", entry["state"]),
        ("Failure reason", entry["failureReason"]),
        ("Header digest", entry["headerDigest"]),
        ("Data digest", entry["dataDigest"]),
        ("MaxRecvDataSegmentLength", entry["recvDataSegmentLen"]),
        ("MaxSendDataSegmentLength", entry["sendDataSegmentLen"]),
        ("MaxBurstLen", entry["maxBurstLen"]),
        ("FirstBurstLen", entry["firstBurstLen"]),
        ("ImmediateData", entry["immediateData"]),
        ("iSER (RDMA)", entry["iSER"]),
        ("Offload driver", entry["offloadDriver"]),
        *([("Device nodes", nodes(session))] if session["connected"] else []),
    ]
    return "".join(f"{label + ':':<26}{value}\n" for label, value in rows) + "\n"
