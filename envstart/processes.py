"""Processes that are not our children: who they are, and whether they are still there (psutil's only door)."""

from __future__ import annotations

import os
import time

from . import libraries
from .environment import is_name
from .errors import Unavailable
from .tasks import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_TERM, _KILL = 15, 9
# Seconds between TERM and KILL.
_GRACE = 1.0
# Programs that run VMs: QEMU, VirtualBox, bhyve.
_EMULATORS = ("qemu", "VBox", "VirtualBox", "bhyve")
# Seconds that two readings of one begin can differ by.
_SAME = 1.0


def _psutil() -> Any:
    """The library; None if it is missing."""
    libraries.reach()
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def describe(pids: Sequence[int]) -> str:
    """Who they are, for people: pid, user, command."""
    psutil = _psutil()
    if psutil is None:
        return ", ".join(f"pid {pid}" for pid in pids)
    texts = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                texts.append(f"pid {pid}, {process.username()}, {' '.join(process.cmdline())[:60] or process.name()}")
        except psutil.Error:
            texts.append(f"pid {pid}")
    return "; ".join(texts) or "nobody that could be found"


def naming(programs: Sequence[str], *wanted: str) -> list[int]:
    """Processes of one of these programs that have all the words that are ``wanted`` among their arguments. Runs in a
    child: it reads those of every process, and can be held up by one."""
    psutil = _psutil()
    if psutil is None:
        return []
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if set(wanted) <= set(words) and any(os.path.basename(one) in programs for one in words):
            found.append(process.pid)
    return found


def machines() -> list[str] | None:
    """Return the words on the command lines of all processes of emulators, among them the names of their VMs; None if
    that cannot be told. Runs in a child, as naming() does."""
    psutil = _psutil()
    if psutil is None:
        return None
    found: list[str] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        argv = process.info["cmdline"] or []
        if argv and process.info["status"] != psutil.STATUS_ZOMBIE and os.path.basename(argv[0]).startswith(_EMULATORS):
            # QEMU also takes guest=NAME,debug-threads=on.
            found += [word.partition(",")[0].removeprefix("guest=") for word in argv[1:]]
    return found


def only_zombies(group: int) -> bool:
    """Whether all that is left of a process group has ended, and waits for its parent to notice."""
    psutil = _psutil()
    if psutil is None:
        return False
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return False
        except OSError:
            continue
    return True


def callers(part: str) -> list[tuple[int, float]]:
    """Of the processes that we descend from, those with ``part`` in a word of their command line: pid, and its begin
    for is_still(). Unavailable if that cannot be told."""
    psutil = _psutil()
    if psutil is None:
        remedy = libraries.how_to_install("psutil")
        raise Unavailable(f"cannot tell who has called this: Python's psutil is missing; {remedy}")
    found = []
    for process in psutil.Process().parents():
        try:
            if any(part in word for word in process.cmdline()):
                found.append((process.pid, _since_boot(psutil, process)))
        except psutil.Error:
            continue
    return found


def working(parts: Sequence[str], name: str) -> int:
    """The pid of a process that has one of these ``parts`` in a word of its command line, and names this environment as
    CBSD's own programs do; 0 if there is none."""
    psutil = _psutil()
    if psutil is None:
        return 0
    for process in psutil.process_iter(["cmdline", "status"]):
        # CBSD passes some of its words on with their quotes.
        words = [given.replace('"', "") for given in process.info["cmdline"] or ()]
        fits = any(part in given for part in parts for given in words)
        if fits and {name, f"jname={name}"} & set(words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            return int(process.pid)
    return 0


# Commands of CBSD that make a jail or VM, and may take its name from a file (jconf=FILE, an image).
_CREATING = frozenset(
    "jcreate bcreate qcreate xcreate vcreate jimport bimport jclone bclone jrclone jcoldmigrate jregister bregister "
    "xregister jconstruct jconstruct-tui bconstruct-tui jrestore brestore".split()
)
# What names a jail or VM in their arguments.
_NAMING = ("jname=", "new=", "newjname=")


def creating() -> int:
    """Return the pid of a process by which CBSD makes a jail or VM that its arguments do not name; 0 if there is none.

    A path does not count as a name: an image can hold another one than its file has.
    """
    psutil = _psutil()
    if psutil is None:
        return 0
    for process in psutil.process_iter(["cmdline", "status"]):
        words = [given.replace('"', "") for given in process.info["cmdline"] or ()]
        programs = [number for number, word in enumerate(words) if _is_creating(word)]
        if not programs or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        given = words[programs[0] + 1 :]
        if not any(word.startswith(_NAMING) or is_name(word) for word in given):
            return int(process.pid)
    return 0


def _is_creating(word: str) -> bool:
    directory, _, name = word.rpartition("/")
    return name in _CREATING and os.path.basename(directory) in ("sudoexec", "jailctl", "bhyvectl", "tools", "xenctl")


def is_still(pid: int, began: float) -> bool:
    """Whether the process of this number is the one that began then (see began())."""
    psutil = _psutil()
    if psutil is None:
        return False
    try:
        process = psutil.Process(pid)
        same = abs(_since_boot(psutil, process) - began) < _SAME
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def began(pid: int) -> float:
    """When the process of this number began, for is_still(); 0 if that cannot be told."""
    psutil = _psutil()
    if psutil is None:
        return 0.0
    try:
        return _since_boot(psutil, psutil.Process(pid))
    except psutil.Error:
        return 0.0


def _since_boot(psutil: Any, process: Any) -> float:
    """Seconds from the system's boot to a process's begin. By the time of day all processes begin at another time when
    the clock is set, as after a boot: the kernel keeps that of the boot, and adds to it (kern_proc.c of FreeBSD)."""
    return float(process.create_time() - psutil.boot_time())


async def end(pids: Sequence[int], gently: bool = True) -> None:
    """TERM if ``gently``, a short while, KILL."""
    for number in (_TERM, _KILL) if gently else (_KILL,):
        alive = [pid for pid in pids if _signal(pid, number)]
        until = time.monotonic() + _GRACE
        while any(_signal(pid, 0) for pid in alive) and time.monotonic() < until:
            # They are no children of ours: their end comes without a word.
            await Wait(time.monotonic() + 0.05)


def _signal(pid: int, number: int) -> bool:
    """Send a signal (0: none); whether there is such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
