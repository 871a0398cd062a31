"""Other processes than our children, by psutil; where that is missing, ps(1) tells what an unmount depends on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from envstart.environment import is_name
from envstart.errors import UnavailableError
from envstart.system import command, files, site_packages

# Programs that run VMs: QEMU, VirtualBox, bhyve.
_EMULATORS = ("qemu", "VBox", "VirtualBox", "bhyve")
# Seconds that two readings of one begin can differ by: ps(1) tells whole seconds, of two clocks' difference.
_SAME = 2.5
# POSIX, but for etimes, which FreeBSD and procps have (bin/ps/keyword.c); a header after = is the rest of the word.
_PS = ("ps", "-axww", "-o", "pid=", "-o", "ppid=", "-o", "etimes=", "-o", "state=", "-o", "command=")


def _psutil() -> Any:
    """Return the library; None if it is missing."""
    site_packages.reach()
    try:
        import psutil
    except ImportError:
        return None
    return psutil


class _Process(NamedTuple):
    """A process. It ``started`` so many seconds after the boot, or, by ps(1), at that time.monotonic()."""

    pid: int
    parent: int
    started: float
    is_zombie: bool
    words: list[str]


def _process(line: str) -> _Process:
    pid, parent, elapsed, state, *words = line.split()
    return _Process(int(pid), int(parent), time.monotonic() - int(elapsed), state.startswith("Z"), words)


def _by_ps() -> dict[int, _Process]:
    """Return all processes by their pid; none if ps(1) does not tell them."""
    out = files.for_output()
    try:
        ps = command.start("/bin/ps", _PS, {"LC_ALL": "C"}, (None, out, out))
        os.waitpid(ps.pid, 0)
        listed = [_process(line) for line in files.output(out).splitlines()]
    except (OSError, ValueError):
        return {}
    finally:
        os.close(out)
    return {process.pid: process for process in listed}


def _finder() -> Callable[[int], _Process | None]:
    """Return a function that finds a process by its pid."""
    psutil = _psutil()
    return _by_ps().get if psutil is None else lambda pid: _by_psutil(psutil, pid)


def _by_psutil(psutil: Any, pid: int) -> _Process | None:
    try:
        process = psutil.Process(pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        # When the clock is set, the kernel adds to the time of the boot (sys/kern/kern_proc.c): the difference stays.
        started = process.create_time() - psutil.boot_time()
        return _Process(pid, process.ppid(), started, is_zombie, [] if is_zombie else process.cmdline())
    except psutil.Error:
        return None


def _alive() -> Iterator[tuple[int, list[str]]]:
    """Return pid and command line of each process; of one that has ended the kernel keeps no arguments."""
    psutil = _psutil()
    if psutil is None:
        yield from ((listed.pid, listed.words) for listed in _by_ps().values() if not listed.is_zombie)
        return
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"]:
            yield process.pid, process.info["cmdline"]


def describe(pids: Sequence[int]) -> str:
    """Return pid, user and command of each for people."""
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


def find_by_argv(programs: Sequence[str], *arguments: str) -> list[int]:
    """Return the processes of these programs with all these arguments; in a child, which a process can hold up."""
    return [
        pid
        for pid, words in _alive()
        if set(arguments) <= set(words) and any(os.path.basename(word) in programs for word in words)
    ]


def machines() -> list[str] | None:
    """Return the words on the command lines of emulators, their VMs among them; in a child, as find_by_argv()."""
    arguments: list[str] = []
    processes = list(_alive())
    for _, argv in processes:
        if argv and os.path.basename(argv[0]).startswith(_EMULATORS):
            # QEMU also takes guest=NAME,debug-threads=on.
            arguments += [word.partition(",")[0].removeprefix("guest=") for word in argv[1:]]
    return arguments if processes else None


def holders(point: str) -> list[int]:
    """Return the processes with a working directory, root or open file at or below ``point``, on Linux (proc(5))."""
    prefix = point.rstrip("/") + "/"
    targets = ((pid, _target(link)) for pid in os.listdir("/proc") if pid.isdigit() for link in _links(pid))
    return list(dict.fromkeys(int(pid) for pid, target in targets if target == point or target.startswith(prefix)))


def _links(pid: str) -> list[str]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    return [f"/proc/{pid}/{name}" for name in ("cwd", "root", "exe", *(f"fd/{number}" for number in descriptors))]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def only_zombies(group: int) -> bool:
    """Tell whether all that is left of a process group has ended, and waits for its parent to notice."""
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


def cbsd_ancestors(part: str) -> list[tuple[int, float]]:
    """Return pid and start_time() of our ancestors with ``part`` in their command line. UnavailableError."""
    find = _finder()
    process = find(os.getpid())
    if process is None:
        remedy = site_packages.how_to_install("psutil")
        raise UnavailableError(
            "cannot tell who has called this: Python's psutil is missing, and ps(1) fails", hint=remedy
        )
    ancestors = []
    while (parent := find(process.parent)) is not None and parent.pid != parent.parent:
        if any(part in word for word in parent.words):
            ancestors.append((parent.pid, parent.started))
        process = parent
    return ancestors


def find_cbsd_process(parts: Sequence[str], name: str) -> int:
    """Return the pid of a process with one of ``parts`` in a word that names this jail or VM as CBSD's do, or 0."""
    for pid, words in _unquoted():
        if any(part in word for part in parts for word in words) and {name, f"jname={name}"} & set(words):
            return pid
    return 0


def _unquoted() -> Iterator[tuple[int, list[str]]]:
    """Yield pid and command line of each process without quotes: CBSD passes some words on with them."""
    for pid, argv in _alive():
        yield pid, [word.replace('"', "") for word in argv]


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
    for pid, words in _unquoted():
        programs = [number for number, word in enumerate(words) if _is_creating(word)]
        if programs and not any(word.startswith(_NAMING) or is_name(word) for word in words[programs[0] + 1 :]):
            return pid
    return 0


def _is_creating(word: str) -> bool:
    directory, _, name = word.rpartition("/")
    return name in _CREATING and os.path.basename(directory) in ("sudoexec", "jailctl", "bhyvectl", "tools", "xenctl")


def same_process(pid: int, started: float) -> bool:
    """Tell whether the process of this number is the one that began then (see start_time())."""
    process = _finder()(pid)
    return process is not None and not process.is_zombie and abs(process.started - started) < _SAME


def start_time(pid: int) -> float:
    """Return when the process of this number began, for same_process(); 0 if that cannot be told."""
    process = _finder()(pid)
    return process.started if process is not None else 0.0


async def end(pids: Sequence[int], *, gently: bool = True) -> None:
    """Send TERM if ``gently``, and KILL after a short while."""

    def send(number: int) -> bool:
        return sum(send_signal(pid, number) for pid in pids) > 0

    await command.end_gradually(send, lambda: not send(0), gently=gently)


def send_signal(pid: int, number: int) -> bool:
    """Send a signal (0: none); tell whether there is such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
