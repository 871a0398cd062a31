"""The small tools of the transcripts, for replay only: those that must see the simulated file systems or its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from . import users, vfs
from .errors import text
from .machine import UID_VARIABLE, Machine, fail, say, spared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

SHELL = "/bin/sh"
NOBODY = "65534"
TIMED_OUT = 124
NOT_FOUND = 127


def shorter(seconds: float) -> float:
    """Times of the transcripts in replay: in the same order, and none too short for a busy machine."""
    return 0.6 + 0.03 * seconds


def ls(machine: Machine, args: list[str]) -> int:
    long = bool(args) and args[0].startswith("-") and "l" in args.pop(0)
    status = 0
    for path in args:
        try:
            place = machine.real_place(path)
            names = vfs.entries(place)
        except OSError as problem:
            status = fail(f"ls: {path}: {text(problem.errno or 0)}")
            continue
        if long:
            say("total 0")
        for name in names:
            say(name)
    return status


def stat(machine: Machine, args: list[str]) -> int:
    status = 0
    for path in args:
        try:
            say(machine.real_place(path).path)
        except OSError as problem:
            status = fail(f"stat: {path}: {text(problem.errno or 0)}")
    return status


def touch(machine: Machine, args: list[str]) -> int:
    status = 0
    for path in args:
        try:
            place = machine.look(lambda state: vfs.resolve(state, path, machine.empty))  # noqa: B023
            vfs.check_writable(machine.state(), place)
            with open(place.real, "a", encoding="utf-8"):
                os.utime(place.real)
        except OSError as problem:
            status = fail(f"touch: {path}: {text(problem.errno or 0)}")
    return status


def sleep(machine: Machine, args: list[str]) -> int:
    return os.execv("/bin/sleep", ["sleep", str(shorter(float(args[0])))])


def dd(machine: Machine, args: list[str]) -> int:
    return os.execvp("/bin/dd", ["dd", *(word.replace("bs=1m", "bs=1M") for word in args)])


def su(machine: Machine, args: list[str]) -> int:
    if args[:3] != ["-m", "nobody", "-c"]:
        return fail("su: only -m nobody -c COMMAND is simulated")
    os.environ[UID_VARIABLE] = NOBODY
    return os.execv(SHELL, [SHELL, "-c", args[3]])


def python3(machine: Machine, args: list[str]) -> int:
    from . import fakes, shim

    fakes.install_psutil(machine.path)
    shim.install(machine.path)
    exec(compile(args[1], "<string>", "exec"), {"__name__": "__main__"})
    return 0


def timeout(machine: Machine, args: list[str]) -> int:
    """It waits for its command to the end, and what hangs in the kernel does not end."""
    number, grace = signal.SIGTERM, None
    while args and args[0].startswith("-"):
        switch, value = args.pop(0), args.pop(0)
        if switch == "-k":
            grace = shorter(float(value))
        else:
            number = getattr(signal, f"SIG{value}")
    limit = shorter(float(args.pop(0)))
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp(args[0], args)
        except OSError as problem:
            os._exit(fail(f"timeout: exec({args[0]}): {text(problem.errno or 0)}", NOT_FOUND))
    status = wait_until(pid, time.monotonic() + limit)
    if status is not None:
        return status
    send(machine, pid, number)
    if grace is not None and wait_until(pid, time.monotonic() + grace) is None:
        send(machine, pid, signal.SIGKILL)
    wait_until(pid, None)
    return TIMED_OUT


def wait_until(pid: int, end: float | None) -> int | None:
    while end is None or time.monotonic() < end:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if found:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.01)
    return None


def send(machine: Machine, pid: int, number: int) -> None:
    if number != signal.SIGKILL or not spared(machine.store, pid):
        os.kill(pid, number)


def ps(machine: Machine, args: list[str]) -> int:
    """ps axo pid,state,wchan,command, for the processes of this machine."""
    listing = subprocess.run(["/bin/ps", "-axo", "pid,ppid,sess"], capture_output=True, text=True, check=True)
    rows = [[int(word) for word in line.split()] for line in listing.stdout.splitlines()[1:]]
    parents = {parent for _, parent, _ in rows}
    say("PID STAT WCHAN    COMMAND")
    for pid, _, session in rows:
        command = command_line(machine, pid)
        if command and pid != os.getpid():
            letters = users.status_letter(pid) + ("s" if session == pid else "")
            say(f"{pid:>3} {letters:<4} {'wait' if pid in parents else 'nanslp':<8} {command}")
    return 0


def command_line(machine: Machine, pid: int) -> str:
    """The command as the simulated machine shows it, without the interpreter that plays it."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as stream:
            words = stream.read().rstrip("\0").split("\0")
    except OSError:
        return ""
    if machine.path not in " ".join(words):
        return ""
    if words[0] == SHELL:
        return " ".join(words)
    script = next((number for number, word in enumerate(words) if word.startswith(machine.path)), None)
    return "" if script is None else " ".join([os.path.basename(words[script]), *words[script + 1 :]])


TOOLS: dict[str, Callable[[Machine, list[str]], int]] = {
    "dd": dd,
    "ls": ls,
    "ps": ps,
    "python3": python3,
    "sleep": sleep,
    "stat": stat,
    "su": su,
    "timeout": timeout,
    "touch": touch,
}


def main() -> int:
    machine = Machine(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
    status = TOOLS[os.path.basename(sys.argv[0])](machine, sys.argv[1:])
    sys.stdout.flush()
    return status
