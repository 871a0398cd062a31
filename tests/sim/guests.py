"""Jails and VMs that run: jail(8), bhyvectl(8), and CBSD's bhyverun.sh in the place of bhyve(8).

A guest is a process that does nothing but hold the file systems it runs on, so that they are busy. It ends with its
world.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

from . import kernel, users
from .faults import silence
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Guest, Mount, State
    from .vfs import Place

JAIL_USAGE = "usage: jail [-f conf_file] -c|-r|-R jail | -c name=value ..."
# In the environment of what runs in a jail with enforce_statfs=2.
ENFORCE_STATFS = "SIM_ENFORCE_STATFS"


def visible_mounts(state: State) -> list[Mount]:
    """Return what getfsstat(2) tells this process: prison_canseemount() of sys/kern/kern_jail.c."""
    return [mount for mount in state["mounts"] if mount["node"] == "/" or os.environ.get(ENFORCE_STATFS) != "2"]


def jail(machine: Machine, args: list[str]) -> int:
    try:
        found, operands = getopt(args, "cf:rR")
        if not operands or not letters(found) & {"c", "r", "R"}:
            raise UsageError
    except UsageError:
        return fail(JAIL_USAGE)
    files = values(found, "f")
    if letters(found) & {"r", "R"}:
        return remove(machine, operands[0], told=bool(files))
    if files:
        return create(machine, operands[0], files[-1])
    return run_in_jail(machine, operands) if "enforce_statfs=2" in operands else create_given(machine, operands)


def create_given(machine: Machine, operands: list[str]) -> int:
    """``name=NAME path=PATH persist``, or with ``command=PROGRAM ARGUMENT ...``, which is waited for."""
    given: dict[str, str] = {}
    command: list[str] = []
    for number, word in enumerate(operands):
        key, _, value = word.partition("=")
        if key == "command":
            command = [value, *operands[number + 1 :]]
            break
        given[key] = value
    name = given["name"]
    if name in machine.state()["jails"]:
        return fail(f"jail: {name} already exists")
    child = subprocess.Popen(command) if command else None
    register(machine, name, machine.real_place(given["path"]), child.pid if child else begin(machine), given)
    if child is None:
        return 0
    status = child.wait()
    machine.call(lambda state: gone(state, machine, name))
    return fail(f"jail: {' '.join(command)}: exited on signal {-status}") if status < 0 else status


def create(machine: Machine, name: str, file: str) -> int:
    """Return the parameters of the jail NAME in jail.conf(5): here only its path, and whether it has a devfs."""
    settings = configured(file)
    if name in machine.state()["jails"]:
        return fail(f"jail: {name} already exists")
    try:
        root = machine.real_place(settings["path"])
        dev = machine.real_place(f"{root.path}/dev") if "mount.devfs" in settings else None
    except OSError as problem:
        return fail(f"jail: {name}: {problem.filename}: {words_of(problem)}")
    if dev is not None:
        machine.call(lambda state: mount_devfs(state, machine, f"{root.path}/dev"))
    register(machine, name, root, begin(machine), settings, devfs="" if dev is None else f"{root.path}/dev")
    say(f"{name}: created")
    return 0


def register(machine: Machine, name: str, root: Place, pid: int, settings: dict[str, str], devfs: str = "") -> None:
    def act(state: State) -> None:
        state["jails"][name] = 1 + max(state["jails"].values(), default=0)
        hostname = settings.get("host.hostname", "")
        guest: Guest = {"pid": pid, "root": root.path, "devfs": devfs, "hostname": hostname}
        state["guests"][name] = guest
        hold(state, root.mount["node"], pid, "j")

    machine.call(act)


def run_in_jail(machine: Machine, words: list[str]) -> int:
    """Run a command in the root of the host; should jail(8) be killed, the jail stays (its clear_persist())."""
    at = next((number for number, word in enumerate(words) if word.startswith("command=")), len(words))
    parameters = {key: value for key, _, value in (word.partition("=") for word in words[:at])}
    argv = [word.removeprefix("command=") for word in words[at:]]
    name = parameters["name"]
    if not argv:
        return fail("jail: without a command this is not simulated", 70)
    if name in machine.state()["jails"]:
        return fail(f'jail: "{name}" already exists')
    machine.call(lambda state: state["jails"].update({name: 1 + max(state["jails"].values(), default=0)}))
    pid = os.fork()
    if pid == 0:
        os.environ[ENFORCE_STATFS] = parameters.get("enforce_statfs", "2")
        try:
            os.execve(f"{machine.path}/bin/{argv[0]}", argv, dict(os.environ))
        except OSError as problem:
            warn(f"jail: exec {argv[0]}: {words_of(problem)}")
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    machine.call(lambda state: state["jails"].pop(name))
    if status == 0:
        return 0
    return fail(f"jail: {' '.join(argv)}: " + (f"exited on signal {-status}" if status < 0 else "failed"))


def configured(file: str) -> dict[str, str]:
    """NAME = "VALUE"; and NAME; of a jail.conf(5) with one jail in it."""
    with open(file, encoding="utf-8") as stream:
        lines = [line.strip().rstrip(";") for line in stream]
    pairs = [line.partition("=") for line in lines if line and line[-1] not in "{}"]
    return {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def mount_devfs(state: State, machine: Machine, node: str) -> None:
    backing = f"{machine.path}/fs/devfs-{state['serial'] + 1}"
    os.makedirs(backing)
    kernel.add_mount(state, machine.place(state, node), "devfs", "devfs", [], backing=backing)


def remove(machine: Machine, name: str, *, told: bool) -> int:
    """Its processes first, then what jail(8) itself has mounted. It is TOLD of a jail that a file describes."""
    state = machine.state()
    name = next((known for known, jid in state["jails"].items() if str(jid) == name), name)
    if name not in state["jails"]:
        return fail(f'jail: "{name}" not found')
    guest = state["guests"].get(name)
    if guest is not None:
        end(guest["pid"])
    machine.call(lambda state: gone(state, machine, name))
    if told:
        say(f"{name}: removed")
    return 0


def gone(state: State, machine: Machine, name: str) -> None:
    state["jails"].pop(name, None)
    guest = state["guests"].pop(name, None)
    if guest is None or not guest["devfs"]:
        return
    devfs = next((mount for mount in reversed(state["mounts"]) if mount["node"] == guest["devfs"]), None)
    if devfs is not None and devfs["fstype"] == "devfs":
        kernel.unmount(state, machine, devfs["fsid"], force=True)


def bhyverun(machine: Machine, args: list[str]) -> int:
    """Run a VM with the files that are its disks, and print the pid of its process, which goes on."""
    name, *disks = args
    device = f"{machine.path}/dev/vmm/{name}"
    if os.path.exists(device):
        return fail(f"bhyve: vm {name} could not be opened: Device busy", 4)
    nodes = []
    for disk in disks:
        try:
            nodes.append(machine.real_place(disk).mount["node"])
        except OSError as problem:
            return fail(f"bhyve: could not open backing file {disk}: {words_of(problem)}", 4)
    os.makedirs(os.path.dirname(device), exist_ok=True)
    with open(device, "w", encoding="utf-8"):
        pid = begin(machine)

    def act(state: State) -> None:
        for node in nodes:
            hold(state, node, pid, "w")

    machine.call(act)
    say(str(pid))
    return 0


def bhyvectl(machine: Machine, args: list[str]) -> int:
    """Take --destroy --vm=NAME."""
    name = next((word[len("--vm=") :] for word in args if word.startswith("--vm=")), "")
    if not name or "--destroy" not in args:
        return fail("usage: bhyvectl --vm=<vmname> --destroy")
    try:
        os.unlink(f"{machine.path}/dev/vmm/{name}")
    except FileNotFoundError:
        return fail(f"VM:{name} is not created.")
    return 0


def begin(machine: Machine) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        silence()
        machine.store.sleep(float("inf"))
        os._exit(0)
    return pid


def end(pid: int) -> None:
    """TERM, and KILL for what has not ended a moment after it (exec.stop and stop.timeout in jail(8))."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + (1 if number == signal.SIGTERM else 60)
        while users.alive(pid) and time.monotonic() < until:
            time.sleep(0.01)


def hold(state: State, node: str, pid: int, how: str) -> None:
    state["holders"].setdefault(node, []).append({"pid": pid, "how": how})
