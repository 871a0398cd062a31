"""What the toy CBSD's shell scripts do with files: a shell of the system below would not see the simulated mounts.

Each is a command of its own, named after the one of FreeBSD's that CBSD uses, or after what CBSD makes of several.
"""

from __future__ import annotations

import os
import stat
import sys

from . import guests, vfs
from .faults import silence
from .machine import Machine, fail, play, say, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROCESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "process.py")
BUSY_SECONDS = 25


def seeing(machine: Machine) -> None:
    from . import shim

    shim.install(machine.path)


def test(machine: Machine, args: list[str]) -> int:
    """-d and -e."""
    seeing(machine)
    found = os.path.isdir if args[0] == "-d" else os.path.exists
    return 0 if found(args[1]) else 1


def mkdir(machine: Machine, args: list[str]) -> int:
    """Run mkdir -p."""
    seeing(machine)
    for path in args[1:]:
        os.makedirs(path, exist_ok=True)
    return 0


def rmdir(machine: Machine, args: list[str]) -> int:
    seeing(machine)
    try:
        for path in args:
            os.rmdir(path)
    except OSError as problem:
        return fail(f"rmdir: {problem.filename}: {words_of(problem)}")
    return 0


def rm(machine: Machine, args: list[str]) -> int:
    """Run rm -f and rm -rf."""
    seeing(machine)
    return max(removed(path, recursively="r" in args[0]) for path in args[1:])


def removed(path: str, *, recursively: bool) -> int:
    """As rm(1) does it, going down into what is mounted, too."""
    status = 0
    try:
        directory = stat.S_ISDIR(os.lstat(path).st_mode)
        if directory and not recursively:
            return fail(f"rm: {path}: is a directory")
        if directory:
            for name in os.listdir(path):
                status |= removed(f"{path}/{name}", recursively=recursively)
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return status
    except OSError as problem:
        return fail(f"rm: {path}: {words_of(problem)}")
    return status


def wipe(machine: Machine, args: list[str]) -> int:
    """Run the two find(1) of CBSD's removedir: the directories in a directory, with all below them, then the files."""
    seeing(machine)
    paths = [f"{args[0]}/{name}" for name in os.listdir(args[0])]
    for path in sorted(paths, key=lambda path: not os.path.isdir(path)):
        removed(path, recursively=True)
    return 0


def hooks(machine: Machine, args: list[str]) -> int:
    """Run find(1) of external_exec_master_script: executable files and links, in the order of the directory."""
    seeing(machine)
    try:
        names = os.listdir(args[0])
    except OSError as problem:
        return fail(f"find: {args[0]}: {words_of(problem)}")
    for name in names:
        mode = os.lstat(f"{args[0]}/{name}").st_mode
        if stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and mode & 0o111):
            say(name)
    return 0


def realpath(machine: Machine, args: list[str]) -> int:
    try:
        say(machine.real_place(args[0]).path)
    except OSError as problem:
        return fail(f"realpath: {args[0]}: {words_of(problem)}")
    return 0


def cat(machine: Machine, args: list[str]) -> int:
    seeing(machine)
    try:
        with open(args[0], encoding="utf-8") as stream:
            sys.stdout.write(stream.read())
    except OSError as problem:
        return fail(f"cat: {args[0]}: {words_of(problem)}")
    return 0


def put(machine: Machine, args: list[str]) -> int:
    """Write a file, as the > of a shell does."""
    seeing(machine)
    try:
        with open(args[0], "w", encoding="utf-8") as stream:
            stream.write(sys.stdin.read())
    except OSError as problem:
        return fail(f"cannot create {args[0]}: {words_of(problem)}", 2)
    return 0


def execute(machine: Machine, args: list[str]) -> int:
    """Run the program at a path in the place of this process; our own hooks as processes of the machine."""
    try:
        place = machine.real_place(args[0])
    except OSError as problem:
        return fail(f"{args[0]}: {words_of(problem)}", 127)
    name = os.path.basename(place.path)
    argv = [sys.executable, "-I", PROCESS, machine.path, name] if name.startswith("env_") else [place.real]
    # Python's own doing (PEP 538); CBSD gives none.
    os.environ.pop("LC_CTYPE", None)
    return os.execv(argv[0], [*argv, *args[1:]])


def daemonize(machine: Machine, args: list[str]) -> int:
    if os.fork() == 0:
        os.setsid()
        silence()
        os.execv(args[0], args)
    return 0


def sql(machine: Machine, args: list[str]) -> int:
    """cbsdsqlrw: opens with CREATE, and in WAL mode, which makes a file of 4096 bytes where there is none."""
    return statement(machine, args[0], args[1], "rwc")


def sqlro(machine: Machine, args: list[str]) -> int:
    return statement(machine, args[0], args[1], "ro")


def statement(machine: Machine, path: str, text: str, mode: str) -> int:
    import sqlite3

    try:
        real = machine.look(lambda state: vfs.resolve(state, path, machine.empty)).real
        connection = sqlite3.connect(f"file:{real}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
        with connection:
            if mode == "rwc":
                connection.execute("PRAGMA journal_mode=WAL")
            for row in connection.execute(text):
                say("|".join(str(value) for value in row))
        connection.close()
    except (OSError, sqlite3.Error) as problem:
        return fail(f"{path}: {problem}")
    return 0


def variables(machine: Machine, args: list[str]) -> int:
    """subr/rcconf.subr: the columns of an environment as assignments of sh(1), and in MYCOL and VMCOL their names."""
    import shlex
    import sqlite3

    database, name = args
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=BUSY_SECONDS)
    connection.row_factory = sqlite3.Row
    for table, names in (("jails", "MYCOL"), ("bhyve", "VMCOL")):
        row = connection.execute(f"SELECT * FROM {table} WHERE jname = ?", (name,)).fetchone()
        if row is None and table == "jails":
            return 1
        columns = row.keys() if row is not None else []
        say(f"{names}={shlex.quote(' '.join(columns))}")
        for column in columns:
            say(f"{column}={shlex.quote('' if row[column] is None else str(row[column]))}")
    return 0


TOOLS: dict[str, Callable[[Machine, list[str]], int]] = {
    "bhyvectl": guests.bhyvectl,
    "bhyverun": guests.bhyverun,
    "cat": cat,
    "daemonize": daemonize,
    "execute": execute,
    "hooks": hooks,
    "jail": guests.jail,
    "mkdir": mkdir,
    "put": put,
    "realpath": realpath,
    "rm": rm,
    "rmdir": rmdir,
    "sql": sql,
    "sqlro": sqlro,
    "test": test,
    "variables": variables,
    "wipe": wipe,
}


def main() -> int:
    return play(TOOLS)
