"""hastctl(8)."""

from __future__ import annotations

from . import box, daemons, resources
from .machine import Machine, fail, say, warn
from .options import UsageError, getopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Box, Resource, State

USAGE = """\
usage: hastctl create [-d] [-c config] [-e extentsize] [-k keepdirty]
\t\t[-m mediasize] name ...
       hastctl role [-d] [-c config] <init | primary | secondary> all | name ...
       hastctl list [-d] [-c config] [all | name ...]
       hastctl status [-d] [-c config] [all | name ...]
       hastctl dump [-d] [-c config] [all | name ...]"""
EX_USAGE, EX_DATAERR, EX_OSERR, EX_OSFILE, EX_IOERR, EX_NOPERM = 64, 65, 71, 72, 74, 77
UNKNOWN = 1
EXTENT = "2097152 (2.0MB)"
COUNTERS = ("reads", "writes", "deletes", "flushes", "activemap updates")


def words_of(argv: list[str]) -> tuple[str, str, list[str]]:
    """Return the verb, the role and the resources of a command line; UsageError."""
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    if verb not in ("create", "role", "list", "status", "dump"):
        raise UsageError
    _, names = getopt(rest, "c:de:k:m:h")
    role = names.pop(0) if verb == "role" and names else ""
    if verb == "role" and role not in (resources.INIT, resources.PRIMARY, resources.SECONDARY):
        raise UsageError
    if verb in ("create", "role") and not names:
        raise UsageError
    return verb, role, names


def main(machine: Machine, argv: list[str]) -> int:
    try:
        verb, role, names = words_of(argv)
    except UsageError:
        return fail(USAGE, EX_USAGE)
    state = machine.state()
    known = resources.mine(state, box.read(state["storage"]))
    if not known:
        reason = "No such file or directory"
        return fail(f"[ERROR] Unable to open configuration file /etc/hast.conf: {reason}.", EX_OSFILE)
    names = list(known) if names in ([], ["all"]) else names
    if verb == "create":
        return max(create(machine, known, name) for name in names)
    if verb == "dump":
        return max(dump(state, known, name) for name in names)
    if machine.uid(state) != 0:
        return fail("[ERROR] Unable to connect to hastd via /var/run/hastctl: Permission denied.", EX_OSERR)
    if not state["settings"]["hastd"]:
        reason = "No such file or directory"
        return fail(f"[ERROR] Unable to connect to hastd via /var/run/hastctl: {reason}.", EX_OSERR)
    if verb == "role":
        return change_role(machine, known, names, role)
    return status(state, known, names) if verb == "status" else list_resources(state, known, names)


def change_role(machine: Machine, known: dict[str, Resource], names: list[str], role: str) -> int:
    """Change the role; the device of a primary is not there yet when that is done."""

    def change(state: State) -> None:
        host = resources.host_of(state)
        for name in names:
            if name in known:
                box.change(state["storage"], lambda changed: resources.set_role(changed, name, host, role))  # noqa: B023
        daemons.settle(state, machine)

    machine.call(change)
    strangers = [name for name in names if name not in known]
    for name in strangers:
        warn(f"[WARNING] [{name}] Received error {UNKNOWN} from hastd.")
    return UNKNOWN if strangers else 0


class View:
    """A resource as this node's hastd tells about it."""

    def __init__(self, state: State, resource: Resource) -> None:
        host = resources.host_of(state)
        self.node = resource["nodes"][host]
        peer = resources.other(resource, host)
        self.remote = peer["address"] if peer else "none"
        self.role = self.node["role"]
        connected = resources.connected(resource, host, state["settings"]["hast_connect_seconds"])
        primary = self.role == resources.PRIMARY
        # A secondary has a worker only while it is connected, and only a worker knows a status.
        self.working = primary or connected
        self.status = ("complete" if connected else "degraded") if self.working else ""


def status(state: State, known: dict[str, Resource], names: list[str]) -> int:
    say("Name\tStatus\t Role\t\tComponents")
    ending = 0
    for name in names:
        if name not in known:
            say(f"{name}\tERR{UNKNOWN}")
            ending = UNKNOWN
            continue
        view = View(state, known[name])
        say(f"{name}\t{view.status or '-':<9}{view.role:<15}{view.node['local']}\t{view.remote}")
    return ending


def list_resources(state: State, known: dict[str, Resource], names: list[str]) -> int:
    ending = 0
    for name in names:
        say(f"{name}:")
        if name not in known:
            say(f"  error: {UNKNOWN}")
            ending = UNKNOWN
            continue
        view = View(state, known[name])
        primary = view.role == resources.PRIMARY
        rows = [
            f"role: {view.role}",
            f"provname: {name}",
            f"localpath: {view.node['local']}",
            f"extentsize: {EXTENT if view.working else '0 (0B)'}",
            f"keepdirty: {64 if primary else 0}",
            f"remoteaddr: {view.remote}",
            "replication: memsync",
            *([f"status: {view.status}", f"workerpid: {view.node['pid']}"] if view.working else []),
            "dirty: 0 (0B)",
            "statistics:",
            *(f"  {counter}: 0" for counter in COUNTERS),
            "  local errors: read: 0, write: 0, delete: 0, flush: 0",
            f"  queues: local: 0, send: 0, recv: 0, done: 0, idle: {255 if view.working else 0}",
        ]
        for row in rows:
            say(f"  {row}")
    return ending


def dump(state: State, known: dict[str, Resource], name: str) -> int:
    if name not in known:
        return fail(f"[ERROR] Unknown resource {name}.", EX_DATAERR)
    resource = known[name]
    node = resource["nodes"][resources.host_of(state)]
    if not node["created"]:
        warn(f"[ERROR] [{name}] Unable to verify magic in metadata on {node['local']}.")
        return 255
    rows = [
        "datasize: 33549824 (32MB)",
        f"extentsize: {EXTENT}",
        "keepdirty: 64",
        "localoff: 4608",
        "resuid: 0",
        "localcnt: 0",
        "remotecnt: 0",
        f"prevrole: {node['previous']}",
    ]
    say(f"resource: {name}")
    for row in rows:
        say(f"    {row}")
    return 0


def create(machine: Machine, known: dict[str, Resource], name: str) -> int:
    """Write new metadata: the content of the provider is lost, and so is every quarrel about it."""
    if name not in known:
        return fail(f"[ERROR] Unknown resource {name}.", EX_DATAERR)
    host = resources.host_of(machine.state())
    node = known[name]["nodes"][host]
    if node["role"] == resources.PRIMARY:
        return fail(f"[ERROR] [{name}] Unable to lock {node['local']}: Resource temporarily unavailable.", EX_IOERR)

    def renew(changed: Box) -> None:
        changed["resources"][name]["torn"] = False
        changed["resources"][name]["nodes"][host].update({"created": True, "previous": resources.INIT})

    box.change(machine.state()["storage"], renew)
    return 0
