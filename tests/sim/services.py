"""service(8) for the daemons that hooks ask about, and these daemons when they are started by hand."""

from __future__ import annotations

import time

from . import box, daemons
from .machine import Machine, fail, say, warn
from .resources import INIT, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Box, State

# Of those after ctld nothing is simulated but that they run.
PIDS = {
    "iscsid": 40, "hastd": 41, "ctld": 42, "ntpd": 43, "rpcbind": 44, "statd": 45, "lockd": 46, "gssd": 47,
    "nfsd": 48, "tlsclntd": 49,
}  # fmt: skip
VERBS = ("start", "stop", "restart", "status")


def service(machine: Machine, argv: list[str]) -> int:
    if len(argv) < 2:
        return fail("usage: service [-j <jail name or id>] [-E var=value] <rc.d script> <start|stop|etc.>")
    name, verb = argv[0], argv[1]
    if name not in PIDS:
        places = "/etc/rc.d or the local startup\ndirectories (/usr/local/etc/rc.d)"
        return fail(f"{name} does not exist in {places}, or is not executable")
    if verb == "enabled":
        return 0 if name in machine.state()["settings"]["rc_conf"] else 1
    plain = verb[3:] if verb.startswith("one") else verb
    if plain not in VERBS:
        warn(f"/etc/rc.d/{name}: unknown directive '{verb}'.")
        return fail(f"Usage: /etc/rc.d/{name} [fast|force|one|quiet]({'|'.join(VERBS)})")
    if plain == verb and name not in machine.state()["settings"]["rc_conf"]:
        say(f"Cannot '{verb}' {name}. Set {name}_enable to YES in /etc/rc.conf or use 'one{verb}' instead of '{verb}'.")
        return 1
    if plain == "restart":
        stop(machine, name)
        return start(machine, name)
    return {"start": start, "stop": stop, "status": status}[plain](machine, name)


def running(machine: Machine, name: str) -> bool:
    settings = machine.state()["settings"]
    return {"iscsid": settings["iscsid"], "hastd": settings["hastd"]}.get(name, name in settings["daemons"])


def status(machine: Machine, name: str) -> int:
    if running(machine, name):
        say(f"{name} is running as pid {PIDS[name]}.")
        return 0
    say(f"{name} is not running.")
    return 1


def start(machine: Machine, name: str) -> int:
    if running(machine, name):
        warn(f"{name} already running? (pid={PIDS[name]}).")
        return 1
    say(f"Starting {name}.")
    run(machine, name, runs=True)
    return 0


def stop(machine: Machine, name: str) -> int:
    if not running(machine, name):
        warn(f"{name} not running? (check /var/run/{name}.pid).")
        return 1
    say(f"Stopping {name}.\nWaiting for PIDS: {PIDS[name]}.")
    run(machine, name, runs=False)
    return 0


def run(machine: Machine, name: str, *, runs: bool) -> None:
    """Start or end the daemon. Sessions live on without theirs; a role does not."""

    def flip(state: State) -> None:
        if name == "iscsid":
            state["settings"]["iscsid"] = runs
        elif name == "hastd":
            state["settings"]["hastd"] = runs
            if state["storage"]:
                box.change(state["storage"], lambda known: no_roles(known, host_of(state), alive=runs))
        else:
            others = [one for one in state["settings"]["daemons"] if one != name]
            state["settings"]["daemons"] = [*others, name] if runs else others
        daemons.settle(state, machine)

    machine.call(flip)


def no_roles(known: Box, host: str, *, alive: bool) -> None:
    for resource in known["resources"].values():
        if host in resource["nodes"]:
            resource["nodes"][host].update({"role": INIT, "since": time.time(), "alive": alive})


def iscsid(machine: Machine, argv: list[str]) -> int:
    return by_hand(machine, "iscsid")


def hastd(machine: Machine, argv: list[str]) -> int:
    return by_hand(machine, "hastd")


def by_hand(machine: Machine, name: str) -> int:
    if machine.uid(machine.state()) != 0:
        return fail(f"{name}: Cannot open or create pidfile: Permission denied")
    if running(machine, name):
        return fail(f"{name}: daemon already running, pid: {PIDS[name]}")
    run(machine, name, runs=True)
    return 0


def sysctls(state: State) -> dict[str, str]:
    """kern.iscsi, which is there with its module."""
    settings = state["settings"]
    if "iscsi" not in state["modules"]:
        return {}
    return {
        "kern.iscsi.fail_on_shutdown": "1",
        "kern.iscsi.fail_on_disconnection": str(settings["fail_on_disconnection"]),
        "kern.iscsi.maxtags": "255",
        "kern.iscsi.login_timeout": f"{settings['login_timeout']:g}",
        "kern.iscsi.iscsid_timeout": "60",
        "kern.iscsi.ping_timeout": "5",
        "kern.iscsi.debug": "1",
    }


def set_sysctl(state: State, name: str, value: str) -> None:
    if name == "kern.iscsi.fail_on_disconnection":
        state["settings"]["fail_on_disconnection"] = int(value)
    elif name == "kern.iscsi.login_timeout":
        state["settings"]["login_timeout"] = float(value)
