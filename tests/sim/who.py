"""fuser(1), fstat(1) and jls(8)."""

from __future__ import annotations

import os
import stat
import sys

from . import vfs
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt, letters, take_libxo, values
from .store import BlockedError
from .users import alive, command_name, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Holder, State

FUSER_USAGE = "usage: fuser [-cfhkmu] [-M core] [-N system] [-s signal] file ..."
FSTAT_USAGE = "usage: fstat [-fmnv] [-M core] [-N system] [-p pid] [-u user] [file ...]"
JLS_USAGE = "usage: jls [-dhNnqv] [-j jail] [parameter ...]"
PARAMETERS = ("jid", "name", "host.hostname", "path", "dying")
EX_USAGE = 64
EX_IOERR = 74


def holders_of(state: State, machine: Machine, path: str) -> tuple[str, list[Holder]]:
    """Who uses the file system of PATH. The attributes of every open file are asked for, so one dead one blocks."""
    place = machine.place(state, path)
    for mount in state["mounts"]:
        used = any(alive(holder["pid"]) for holder in state["holders"].get(mount["node"], []))
        if used and not vfs.answers(state, mount["host"]):
            raise BlockedError(mount["host"])
    return place.path, users(state, place.mount)


def fuser(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "cfhkmM:N:s:u")
        if not operands:
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"fuser: {problem.complaint}")
        return fail(FUSER_USAGE, EX_USAGE)
    accessible = []
    for path in operands:
        try:
            _, holders = machine.look(lambda state: holders_of(state, machine, path))  # noqa: B023
            accessible.append((path, holders))
        except OSError as problem:
            warn(f"fuser: {path}: {words_of(problem)}")
    if not accessible:
        return fail("fuser: files not accessible", EX_IOERR)
    for path, holders in accessible:
        print_users(path, holders, with_names="u" in letters(found))
        if "k" in letters(found):
            kill_all(holders, (values(found, "s") or ["KILL"])[0])
    return 0


def print_users(path: str, holders: list[Holder], *, with_names: bool) -> None:
    os.write(2, f"{path}:".encode("utf-8", "surrogateescape"))
    for holder in holders:
        os.write(1, b"%6d" % holder["pid"])
        os.write(2, f"{holder['how']}{'(root)' if with_names else ''}".encode())
    os.write(2, b"\n")


def kill_all(holders: list[Holder], name: str) -> None:
    import signal

    number = int(name) if name.isdigit() else getattr(signal, f"SIG{name.upper()}")
    for holder in holders:
        os.kill(holder["pid"], number)


def fstat(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "fmnvM:N:p:u:")
    except UsageError as problem:
        warn(f"fstat: {problem.complaint}")
        return fail(FSTAT_USAGE)
    if not operands:
        return fail("fstat: only -f FILE is simulated", 70)
    rows = ["USER     CMD          PID   FD MOUNT      INUM MODE         SZ|DV R/W"]
    status = 0
    for path in operands:
        try:
            node, holders = machine.look(lambda state: holders_of(state, machine, path))  # noqa: B023
        except OSError as problem:
            status = fail(f"fstat: {path}: {problem.strerror}")
            continue
        rows += [row(holder, node, letter) for holder in holders for letter in holder["how"]]
    if "f" in letters(found):
        sys.stdout.write("\n".join(rows) + "\n")
    return status


def row(holder: Holder, node: str, letter: str) -> str:
    """Return the line of a holder; the column of descriptors tells a file open for writing from a directory."""
    descriptor = {"c": "wd", "r": "root", "j": "jail", "x": "text"}.get(letter, "1")
    kind = stat.S_IFDIR | 0o755 if letter in "crj" else stat.S_IFREG | 0o644
    how = "w" if letter == "w" else "r"
    name = command_name(holder["pid"])
    mode = stat.filemode(kind)
    return f"root     {name:<10} {holder['pid']:>5} {descriptor:>4} {'-':<10} {2:>6} {mode} {0:>7} {how:>2}"


def jls(machine: Machine, argv: list[str]) -> int:
    style, argv = take_libxo(argv)
    try:
        found, wanted = getopt(argv, "adhj:Nnqsv")
    except UsageError as problem:
        warn(f"jls: {problem.complaint}")
        return fail(JLS_USAGE)
    for parameter in wanted:
        if parameter not in PARAMETERS:
            return fail(f"jls: unknown parameter: {parameter}")
    if "h" in letters(found):
        say(" ".join(wanted))
    elif not wanted and not style:
        say("   JID  IP Address      Hostname                      Path")
    jails = jails_of(machine.state())
    for name in values(found, "j"):
        jails = [jail for jail in jails if name in (jail["name"], jail["jid"])]
        if not jails:
            return fail(f'jls: jail "{name}" not found')
    if style:
        say(jls_json(jails))
    else:
        print_jails(jails, wanted)
    return 0


def print_jails(jails: list[dict[str, str]], wanted: list[str]) -> None:
    for jail in jails:
        if wanted:
            say(" ".join(jail[parameter] for parameter in wanted))
        else:
            say(f"{jail['jid']:>6}  {'':<15} {jail['host.hostname']:<29} {jail['path']}")


def jails_of(state: State) -> list[dict[str, str]]:
    """Return the parameters of each jail; those that no jail(8) has made have what CBSD would give them."""
    jails = []
    for name, jid in state["jails"].items():
        guest = state["guests"].get(name)
        path, hostname = (guest["root"], guest["hostname"]) if guest else (f"/usr/jails/jails/{name}", name)
        jails.append({"jid": str(jid), "name": name, "host.hostname": hostname, "path": path, "dying": "false"})
    return jails


def jls_json(jails: list[dict[str, str]]) -> str:
    entries = [
        f'{{"jid":{jail["jid"]},"ipv4":"","hostname":"{jail["host.hostname"]}","path":"{jail["path"]}"}}'
        for jail in jails
    ]
    return f'{{"__version": "2", "jail-information": {{"jail": [{", ".join(entries)}]}}}}'
