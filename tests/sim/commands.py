"""One program under the names of all system commands; its state lies beside the directory it was started from."""

from __future__ import annotations

import importlib
import os
import sys
import time

from . import faults
from .machine import Machine, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[[Machine, list[str]], int]

# Name of the command: the module it is in and the function there. A module is loaded when its command runs.
COMMANDS = {
    "camcontrol": ("camcontrol", "main"),
    "ceph-fuse": ("cephfuse", "main"),
    "df": ("df", "main"),
    "diskinfo": ("geomlist", "diskinfo"),
    "fsck": ("fsck", "fsck"),
    "fsck_ffs": ("fsck", "fsck_ffs"),
    "fsck_ufs": ("fsck", "fsck_ffs"),
    "fstat": ("who", "fstat"),
    "fstyp": ("fsck", "fstyp"),
    "fuser": ("who", "fuser"),
    "geli": ("geli", "main"),
    "geom": ("geomlist", "geom_command"),
    "glabel": ("geomlist", "glabel"),
    "gmultipath": ("multipath", "main"),
    "hastctl": ("hast", "main"),
    "hastd": ("services", "hastd"),
    "iscsictl": ("iscsictl", "main"),
    "iscsid": ("services", "iscsid"),
    "jail": ("guests", "jail"),
    "jls": ("who", "jls"),
    "kldload": ("modules", "kldload"),
    "kldstat": ("modules", "kldstat"),
    "mdconfig": ("disk", "mdconfig"),
    "mount": ("mount", "main"),
    "mount_glusterfs": ("gluster", "main"),
    "mount_nfs": ("nfs", "main"),
    "mount_nullfs": ("nullfs", "main"),
    "newfs": ("fsck", "newfs"),
    "nfsstat": ("rpc", "nfsstat"),
    "rbd": ("rbd", "rbd"),
    "rbd-ggate": ("rbd", "ggate"),
    "rpcinfo": ("rpc", "rpcinfo"),
    "service": ("services", "service"),
    "showmount": ("rpc", "showmount"),
    "ssh": ("ssh", "main"),
    "sysctl": ("modules", "sysctl"),
    "umount": ("umount", "main"),
    "zfs": ("zfs", "main"),
}
PROGRAM = ".freebsd"
DEAD = 255


def main() -> int:
    name = os.path.basename(sys.argv[0])
    machine = Machine(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
    machine.settle()
    module, function = COMMANDS[name]
    command: Command = getattr(importlib.import_module(f".{module}", __package__), function)
    number, fault = machine.store.change(lambda state: faults.count_call(state, name))
    log(machine, number, name)
    panic = machine.state()["panic"]
    if panic:
        return fail(f"panic: {panic}", DEAD)

    def act() -> int:
        # A device that does not answer is met before anything is said or done, so that the command can begin again.
        return machine.until_done(lambda: command(machine, sys.argv[1:]))

    status = faults.run_with(fault, machine, act) if fault else act()
    return flushed(status)


def flushed(status: int) -> int:
    """Flush the output and return the status; a reader that went away is no reason for a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def log(machine: Machine, number: int, name: str) -> None:
    machine.store.log_call(
        {
            "number": number,
            "name": name,
            "argv": [name, *sys.argv[1:]],
            "environment": dict(os.environ),
            "pid": os.getpid(),
            "parent": os.getppid(),
            "session": os.getsid(0),
            "cwd": os.getcwd(),
            "stdin_is_null": stdin_is_null(),
            "stdin_links_and_mode": stdin_links_and_mode(),
            "time": time.time(),
        }
    )


def stdin_links_and_mode() -> tuple[int, int]:
    """Return how many names it has, and who may open it; zeros where it is closed."""
    try:
        status = os.fstat(0)
    except OSError:
        return 0, 0
    return status.st_nlink, status.st_mode & 0o7777


def stdin_is_null() -> bool:
    try:
        return os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return False
