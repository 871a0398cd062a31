"""iscsictl(8): sessions are registered and taken away; that somebody logs in is the work of iscsid(8)."""

from __future__ import annotations

import errno
import sys
import time

from . import daemons, iscsiconf, sessions
from .errors import error, text
from .iscsilist import listing
from .machine import Machine, fail, warn, words_of
from .options import UsageError, getopt, letters, take_libxo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .iscsiconf import Entry
    from .shapes import Session, State

USAGE = """\
usage: iscsictl -A -p portal -t target [-u user -s secret] [-w timeout] [-r] [-e on | off]
       iscsictl -A -d discovery-host [-u user -s secret] [-e on | off]
       iscsictl -A -a [-c path]
       iscsictl -A -n nickname [-c path]
       iscsictl -M -i session-id [-p portal] [-t target] [-u user] [-s secret] [-e on | off]
       iscsictl -M -i session-id -n nickname [-c path]
       iscsictl -R [-p portal] [-t target]
       iscsictl -R -a
       iscsictl -R -n nickname [-c path]
       iscsictl -L [-v] [-w timeout]"""
LONGEST_PORTAL, LONGEST_NAME, LONGEST_SECRET = 46, 223, 16
SWITCHES = {"on": True, "off": False, "yes": True, "no": False}
# What iscsi.conf(5) calls it, and what the session does.
NAMES = {
    "chapIName": "user", "chapSecret": "secret", "tgtChapName": "mutual_user", "tgtChapSecret": "mutual_secret",
    "InitiatorAddress": "initiator_portal", "InitiatorAlias": "alias", "HeaderDigest": "header_digest",
    "DataDigest": "data_digest", "offload": "offload", "dscp": "dscp", "pcp": "pcp", "PingTimeout": "PingTimeout",
    "LoginTimeout": "LoginTimeout",
}  # fmt: skip


class RefusedError(Exception):
    """The text and the end: `iscsictl: TEXT`, exit 1."""


def main(machine: Machine, argv: list[str]) -> int:
    style, argv = take_libxo(argv)
    try:
        found, operands = getopt(argv, "AMRLac:d:e:i:n:p:rs:t:u:vw:")
        switches, given = letters(found), dict(found)
        if operands or len(switches & {"A", "M", "R", "L"}) > 1:
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"iscsictl: {problem.complaint}")
        return fail(USAGE)
    try:
        check(switches)
        open_device(machine)
        return act(machine, switches, given, style)
    except (RefusedError, iscsiconf.InvalidConfigError) as problem:
        return fail(f"iscsictl: {problem}")


def check(switches: set[str]) -> None:
    """Refuse switches that do not go together."""
    for one, other in ("ap", "at", "an", "ad", "np", "nt", "nd", "dp", "dt"):
        if {one, other} <= switches and "M" not in switches:
            raise RefusedError(f"-{one} and -{other} are mutually exclusive")
    if "A" in switches:
        check_addition(switches)
    elif "M" in switches and "i" not in switches:
        raise RefusedError("-M requires -i")
    elif "R" in switches and not switches & {"a", "n", "p", "t"}:
        raise RefusedError("must specify either -a, -n, -t, or -p")
    if switches & {"R", "M"} and "w" in switches:
        raise RefusedError(f"-w cannot be used with -{'R' if 'R' in switches else 'M'}")


def check_addition(switches: set[str]) -> None:
    """Refuse switches that do not go with -A."""
    if not switches & {"a", "n", "d", "p", "t"}:
        raise RefusedError("must specify -a, -n or -t/-p")
    for one, other in (("p", "t"), ("t", "p"), ("u", "s"), ("s", "u")):
        if one in switches and other not in switches:
            raise RefusedError(f"-{one} must always be used with -{other}")
    if "i" in switches:
        raise RefusedError("-i cannot be used with -A")


def open_device(machine: Machine) -> None:
    state = machine.state()
    if machine.uid(state) != 0:
        raise RefusedError(f"failed to open /dev/iscsi: {text(errno.EACCES)}")
    if state["settings"]["no_iscsi_module"]:
        raise RefusedError(f"failed to open /dev/iscsi: {text(errno.ENOENT)}")
    if "iscsi" not in state["modules"]:
        machine.call(lambda state: state["modules"].append("iscsi"))


def act(machine: Machine, switches: set[str], given: dict[str, str], style: str) -> int:
    if "A" in switches:
        failed = max([add(machine, session) for session in wanted(machine, switches, given)], default=0)
        # A failed add counts -1 and a wait that runs out +1, and they are added up.
        return abs(wait(machine, given) - failed)
    if "M" in switches:
        return modify(machine, given)
    if "R" in switches:
        return remove(machine, switches, given)
    status = wait(machine, given)
    sys.stdout.write(listing(machine.state(), verbose="v" in switches, style=style))
    return status


def wanted(machine: Machine, switches: set[str], given: dict[str, str]) -> list[Session]:
    """Return the sessions that the switches or the configuration file describe."""
    state = machine.state()
    if switches & {"a", "n"}:
        path = given.get("c", iscsiconf.PATH)
        entries = iscsiconf.load(machine, path)
        if "n" in given and given["n"] not in entries:
            raise RefusedError(f"target {given['n']} not found in {path}")
        return [described(state, entry) for nick, entry in entries.items() if given.get("n", nick) == nick]
    entry = {"TargetAddress": given.get("d", given.get("p", ""))}
    if "t" in given:
        iscsiconf.check_name(given["t"])
        entry["TargetName"] = given["t"]
    if "u" in given:
        entry.update({"chapIName": given["u"], "chapSecret": given["s"]})
    if "d" in given:
        entry["SessionType"] = "Discovery"
    if "r" in switches:
        entry["protocol"] = "iSER"
    if given.get("e", "on").lower() not in SWITCHES:
        raise RefusedError('invalid argument to -e, must be either "on" or "off"')
    entry["enable"] = given.get("e", "on").lower()
    return [described(state, entry)]


def described(state: State, entry: Entry) -> Session:
    """Return a session that is not registered yet: its number is given when it is."""
    initiator = entry.get("InitiatorName", f"iqn.1994-09.org.freebsd:{state['settings']['hostname']}")
    known = {NAMES[name]: value for name, value in entry.items() if name in NAMES}
    for name in ("secret", "mutual_secret"):
        if name in known:
            known[name] = known[name][:LONGEST_SECRET]
    if entry.get("protocol") == "iSER":
        known["iser"] = "Yes"
    if entry.get("AuthMethod") == "None":
        for name in ("user", "secret", "mutual_user", "mutual_secret"):
            known.pop(name, None)
    target, portal = entry.get("TargetName", "")[:LONGEST_NAME], entry["TargetAddress"][:LONGEST_PORTAL]
    session = sessions.new(target, portal, initiator, known)
    session["discovery"] = entry.get("SessionType") == "Discovery"
    session["enabled"] = SWITCHES.get(entry.get("enable", "on"), True)
    return session


def add(machine: Machine, session: Session) -> int:
    def register(state: State) -> None:
        if not session["portal"]:
            raise error(errno.EINVAL)
        names = (session["target"], session["portal"])
        if any((other["target"], other["portal"]) == names for other in state["sessions"]):
            raise error(errno.EBUSY)
        sessions.register(state, session)
        daemons.settle(state, machine)

    try:
        machine.call(register)
    except OSError as problem:
        return fail(f"iscsictl: ISCSISADD: {words_of(problem)}")
    return 0


def wait(machine: Machine, given: dict[str, str]) -> int:
    """-w: until all sessions are connected, whoever added them, or the time is over."""
    if "w" not in given:
        return 0
    if not given["w"].isdigit():
        raise RefusedError("invalid timeout")
    second = machine.state()["settings"]["wait_second"]
    limit = int(given["w"]) * second
    until = time.time() + limit
    while True:
        machine.settle()
        if all(session["connected"] for session in machine.state()["sessions"]):
            return 0
        if limit and time.time() >= until:
            return 1
        machine.store.sleep(min(second, 0.05))


def remove(machine: Machine, switches: set[str], given: dict[str, str]) -> int:
    chosen: list[tuple[str, str]] = [(given.get("t", ""), given.get("p", ""))]
    if "n" in given:
        path = given.get("c", iscsiconf.PATH)
        entry = iscsiconf.load(machine, path).get(given["n"])
        if entry is None:
            raise RefusedError(f"target {given['n']} not found in {path}")
        chosen = [(entry.get("TargetName", ""), entry["TargetAddress"])]

    def take(state: State) -> None:
        found = [
            session
            for session in state["sessions"]
            for target, portal in chosen
            if target in ("", session["target"]) and portal in ("", session["portal"])
        ]
        if not found:
            raise error(errno.ESRCH)
        for session in found:
            sessions.leave(state, session, time.time())
        daemons.settle(state, machine)

    try:
        machine.call(take)
    except OSError as problem:
        return fail(f"iscsictl: ISCSISREMOVE: {words_of(problem)}")
    return 0


def modify(machine: Machine, given: dict[str, str]) -> int:
    """Only what the switches name is changed; the session then logs in anew."""

    def change(state: State) -> None:
        found = [session for session in state["sessions"] if str(session["id"]) == given["i"]]
        if not found:
            raise error(errno.ESRCH)
        session = found[0]
        for letter, name in (("u", "user"), ("s", "secret")):
            if letter in given:
                session["known"][name] = given[letter]
        sessions.lose(state, machine, session, time.time())
        session["portal"] = given.get("p", session["portal"])
        session["target"] = given.get("t", session["target"])
        session["enabled"] = SWITCHES.get(given.get("e", "").lower(), session["enabled"])
        daemons.settle(state, machine)

    try:
        machine.call(change)
    except OSError:
        return fail(f"iscsictl: session-id {given['i']} not found")
    return 0
