"""The small tools of the transcripts, for replay only: those that must see the simulated file systems or its time."""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time

from . import geom, guests, mounted, services, sessions, users, vfs, zpool
from .errors import text
from .machine import UID_VARIABLE, Machine, fail, killed, play, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .shapes import State

SHELL = "/bin/sh"
NOBODY = "65534"
TIMED_OUT = 124
RC_DEFAULTS = {"nfs_client_enable": "NO"}
NOT_FOUND = 127


def shorter(seconds: float) -> float:
    """Shorten the transcripts' times in replay: in the same order, and none too short for a busy machine."""
    return 0.6 + 0.03 * seconds


def ls(machine: Machine, args: list[str]) -> int:
    """Files before directories, and headers where there is more than one thing to list."""
    switches = args.pop(0) if args and args[0].startswith("-") else ""
    long = "l" in switches
    status = 0
    files: list[str] = []
    directories: list[tuple[str, list[str]]] = []
    words = [path for word in args for path in expanded(machine, word)]
    for path in words:
        try:
            place = machine.real_place(path)
            names = [] if os.path.isfile(place.real) else vfs.entries(place)
            if "a" in switches and place.mount["backing"]:
                names = [".", "..", *names]
        except OSError as problem:
            status = fail(f"ls: {path}: {text(problem.errno or 0)}")
            continue
        if os.path.isfile(place.real):
            files.append(path)
        else:
            directories.append((path, names))
    for path in files:
        say(path)
    for path, names in directories:
        if len(words) > 1:
            say(f"\n{path}:" if files or path != directories[0][0] else f"{path}:")
        if long:
            say("total 0")
        for name in names:
            say(listed_name(name, is_device=long and path.startswith("/dev/")))
    return status


def listed_name(name: str, *, is_device: bool) -> str:
    if name in (".", ".."):
        return f"drwxr-xr-x  2 root wheel 2 Nov 30 02:19 {name}"
    return f"crw-r-----  1 root operator 0x3c Nov 22 02:36 {name}" if is_device else name


def expanded(machine: Machine, word: str) -> list[str]:
    """Leave a pattern of /dev as it is: the shell finds nothing in the /dev of the system below."""
    directory, _, pattern = word.rpartition("/")
    if directory != "/dev" or not set(pattern) & set("*?["):
        return [word]
    names = fnmatch.filter(os.listdir(f"{machine.path}/dev"), pattern)
    return [f"/dev/{name}" for name in sorted(names)] or [word]


def stat(machine: Machine, args: list[str]) -> int:
    status = 0
    for path in args:
        try:
            say(machine.real_place(path).path)
        except OSError as problem:
            status = fail(f"stat: {path}: {text(problem.errno or 0)}")
    return status


def cat(machine: Machine, args: list[str]) -> int:
    status = 0
    for path in args:
        try:
            with open(machine.real_place(path).real, encoding="utf-8") as stream:
                sys.stdout.write(stream.read())
        except OSError as problem:
            status = fail(f"cat: {path}: {text(problem.errno or 0)}")
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


def sed(machine: Machine, args: list[str]) -> int:
    """Run sed -i '' '/NAME/d' /etc/hosts: the silent resolver is asked for that name from now on."""
    name = args[2].split("/")[-2]

    def act(state: State) -> None:
        state["settings"]["resolver"][name] = "again"

    machine.call(act)
    return 0


def sysrc(machine: Machine, args: list[str]) -> int:
    """Run sysrc -n NAME and sysrc -c NAME=VALUE, where rc.conf(5) says nothing."""
    name, _, value = args[1].partition("=")
    if name not in RC_DEFAULTS:
        return fail(f"sysrc: unknown variable '{name}'")
    if args[0] == "-n":
        say(RC_DEFAULTS[name])
    return 1 if value not in ("", RC_DEFAULTS[name]) else 0


def timed(machine: Machine, args: list[str]) -> int:
    """Run time(1)."""
    began = time.monotonic()
    status = subprocess.run(args, check=False).returncode
    return fail(f"{time.monotonic() - began:13.2f} real         0.03 user         0.03 sys", status)


def sleep(machine: Machine, args: list[str]) -> int:
    return os.execv("/bin/sleep", ["sleep", str(shorter(float(args[0])))])


def dd(machine: Machine, args: list[str]) -> int:
    given = dict(word.split("=", 1) for word in args)
    for name in ("if", "of"):
        device = given.get(name, "")
        if device.startswith("/dev/") and os.path.exists(machine.path + device):
            return dd_device(machine, device, writing=name == "of")
    mount = machine.real_place(os.path.dirname(given["of"])).mount if "of" in given else None
    if mount and mount["fstype"] == "zfs" and machine.state()["datasets"][mount["special"]]["quota"] != "none":
        return fail(
            f"dd: {given['of']}: Disc quota exceeded\n17+0 records in\n16+0 records out\n"
            "1048576 bytes transferred in 0.362501 secs (2892619 bytes/sec)"
        )
    return os.execvp("/bin/dd", ["dd", *(word.replace("bs=1m", "bs=1M") for word in args)])


def dd_device(machine: Machine, device: str, *, writing: bool) -> int:
    """One sector from or to a device, whatever is asked for; the kernel tells when it cannot write."""
    out = 1
    try:
        provider = machine.look(lambda state: geom.find(state, device))
        machine.look(lambda state: mounted.check_provider(state, provider.name, writing=writing))
    except OSError as problem:
        out = 0
        fail(f"dd: {device}: {text(problem.errno or 0)}")
        console(machine, provider.name)
    fail(f"1+0 records in\n{out}+0 records out\n{512 * out} bytes transferred in 0.005 secs (93108 bytes/sec)")
    return 1 - out


def console(machine: Machine, disk: str) -> None:
    found = sessions.of_disk(machine.state(), disk)
    if found is None:
        return
    unit = f"({disk}:iscsi{found[0]['id']}:0:0:{found[1]})"
    with open(f"{machine.path}/console", "a", encoding="utf-8") as stream:
        for line in (
            "CAM status: SCSI Status Error",
            "SCSI status: Reservation Conflict",
            "Error 5, Unretryable error",
        ):
            stream.write(f"{unit}: {line}\n")


def dmesg(machine: Machine, args: list[str]) -> int:
    try:
        with open(f"{machine.path}/console", encoding="utf-8") as stream:
            sys.stdout.write(stream.read())
    except FileNotFoundError:
        pass
    return 0


def hostname(machine: Machine, args: list[str]) -> int:
    say(machine.state()["settings"]["hostname"])
    return 0


def pgrep(machine: Machine, args: list[str]) -> int:
    name = args[-1]
    if not services.running(machine, name):
        return 1
    say(f"{services.PIDS[name]} {name}")
    return 0


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
    """Wait for the command to its end; one that hangs in the kernel does not end."""
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
    if number == signal.SIGKILL:
        killed(machine.store, [pid], lambda: os.kill(pid, number))
    else:
        os.kill(pid, number)


def ps(machine: Machine, args: list[str]) -> int:
    """Run ps axo pid,state,wchan,command, for the processes of this machine."""
    import psutil

    rows = [each.info for each in psutil.process_iter(["pid", "ppid", "cmdline"])]
    parents = {row["ppid"] for row in rows}
    say("PID STAT WCHAN    COMMAND")
    for row in rows:
        pid = row["pid"]
        command = command_line(machine, row["cmdline"] or [""])
        if command and pid != os.getpid():
            letters = users.status_letter(pid) + ("s" if leads_session(pid) else "")
            say(f"{pid:>3} {letters:<4} {'wait' if pid in parents else 'nanslp':<8} {command}")
    return 0


def leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def command_line(machine: Machine, words: list[str]) -> str:
    """Return the command as the simulated machine shows it, without the interpreter that plays it."""
    if machine.path not in " ".join(words):
        return ""
    if words[0] == SHELL:
        return " ".join(words)
    script = next((number for number, word in enumerate(words) if word.startswith(machine.path)), None)
    return "" if script is None else " ".join([os.path.basename(words[script]), *words[script + 1 :]])


TOOLS: dict[str, Callable[[Machine, list[str]], int]] = {
    "cat": cat,
    "dd": dd,
    "dmesg": dmesg,
    "hostname": hostname,
    "jail": guests.jail,
    "ls": ls,
    "pgrep": pgrep,
    "ps": ps,
    "python3": python3,
    "sed": sed,
    "sleep": sleep,
    "stat": stat,
    "su": su,
    "sysrc": sysrc,
    "time": timed,
    "timeout": timeout,
    "touch": touch,
    "zpool": zpool.main,
}


def main() -> int:
    return play(TOOLS)
