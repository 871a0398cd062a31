"""umount(8), with its way to find out what is meant by a name."""

from __future__ import annotations

import errno

from . import kernel, vfs
from .machine import Machine, fail, say, sleep_in_kernel, warn, words_of
from .options import UsageError, getopt, letters, values
from .resolver import resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Mount, State

USAGE = """\
usage: umount [-fNnv] special ... | node ... | fsid ...
       umount -a | -A [-F fstab] [-fnv] [-h host] [-t type]"""


def main(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "AaF:fh:Nnt:v")
        switches = letters(found)
        every = bool(switches & {"A", "a", "h"})
        if every == bool(operands):
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"umount: {problem.complaint}")
        return fail(USAGE)
    if {"f", "n"} <= switches:
        return fail("umount: -f and -n are mutually exclusive")
    types = ",".join(values(found, "t"))
    if "a" in switches:
        return fail("umount: fstab reading failure")
    if not switches & {"f", "n", "N"}:
        machine.call(kernel.sync)
    if every:
        return unmount_all(machine, switches, types, values(found, "h"))
    if "N" in switches:
        if switches - {"N", "v"}:
            return fail("umount: -N cannot be used with other selection options")
        return max(dismount(machine, name) for name in operands)
    return max(unmount_name(machine, name, switches, types) for name in operands)


def unmount_all(machine: Machine, switches: set[str], types: str, hosts: list[str]) -> int:
    status = 0
    for mount in reversed(vfs.listed(machine.state())):
        if mount["node"] in ("/", "/dev") or (hosts and mount["host"] not in hosts):
            continue
        if not types or mount["fstype"] in types.split(","):
            look_up(machine, mount)
            status |= unmount(machine, mount, switches)
    return status


def in_table(state: State, name: str) -> Mount | None:
    """Return the newest mount with that fsid, else on that directory, else from that source."""
    newest_first = list(reversed(vfs.listed(state)))
    for key in ("fsid", "node", "special"):
        for mount in newest_first:
            if mount[key] == name:
                return mount
    return None


def find(state: State, name: str) -> tuple[Mount | None, str]:
    trimmed = name.rstrip("/") or "/"
    path, _, host = trimmed.rpartition("@")
    for candidate in (name, trimmed, f"{host}:{path}"):
        mount = in_table(state, candidate)
        if mount is not None:
            return mount, trimmed if candidate != name else name
    return None, trimmed


def unmount_name(machine: Machine, name: str, switches: set[str], types: str) -> int:
    state = machine.state()
    mount, name = find(state, name)
    stacked = mount is not None and sum(other["node"] == name for other in vfs.listed(state)) > 1
    if mount is None or stacked:
        try:
            place = machine.real_place(name)
        except OSError as problem:
            warn(f"umount: {name}: statfs: {words_of(problem)}")
        else:
            if place.is_root:
                mount = place.mount
            elif vfs.is_directory(place):
                return fail(f"umount: {name}: not a file system root directory")
    if mount is None:
        return fail(f"umount: {name}: unknown file system")
    if types and mount["fstype"] not in types.split(","):
        return 1
    look_up(machine, mount)
    return unmount(machine, mount, switches)


def look_up(machine: Machine, mount: Mount) -> None:
    """Ask for the server's name with any flag, be it needed or not; the answer stops nothing."""
    if mount["fstype"] == "nfs" and not resolved(machine, mount["host"]):
        warn("umount: can't get net id for host")


def unmount(machine: Machine, mount: Mount, switches: set[str]) -> int:
    force = "f" in switches
    tried = False

    def act(state: State) -> None:
        nonlocal tried
        gone = vfs.by_fsid(state, mount["fsid"]) is None
        # Gone while this process hung in unmount(2): what let it go has finished its work as well.
        if not (tried and gone):
            tried = True
            kernel.unmount(state, machine, mount["fsid"], force=force)

    try:
        machine.call(act)
    except OSError as problem:
        status = fail(f"umount: unmount of {mount['node']} failed: {words_of(problem)}")
        if problem.errno == errno.ENOENT:
            warn("umount: retrying using path instead of file system ID")
            warn(f"umount: unmount of {mount['node']} failed: Invalid argument")
        return status
    if "v" in switches:
        say(f"{mount['special']}: unmount from {mount['node']}")
    return 0


def dismount(machine: Machine, name: str) -> int:
    """-N cancels what hangs on the mount before it unmounts by force, without a look at the path."""
    try:
        fsid = machine.call(lambda state: kernel.begin_dismount(state, machine, name))
    except OSError as problem:
        warn(f"umount: {name}: {words_of(problem)}")
        for stuck in machine.state()["mounts"]:
            if stuck["node"] == name and (stuck["leaving"] or stuck["queued"]):
                unmount(machine, stuck, {"f"})
        return 1
    mount = vfs.by_fsid(machine.state(), fsid)
    if mount is not None and not kernel.uppers(machine.state(), mount):
        sleep_in_kernel(machine.store, machine.state()["settings"]["force_seconds"])
    try:
        machine.call(lambda state: kernel.end_dismount(state, fsid))
    except OSError as problem:
        return fail(f"umount: {name}: {words_of(problem)}")
    return 0
