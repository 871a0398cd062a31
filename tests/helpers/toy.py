"""A toy CBSD around a Site: its database and its files (docs/cbsd.md#paths), and its commands as they treat mounts.

The commands are the shell scripts in toy/; they run on the simulated FreeBSD as hooks do. A jail or a VM that one of
them starts is a process that holds what it runs on, until it is stopped or the world ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from cbsd import Ended, Site
from sim import userland
from sim.world import LAUNCHER, TESTS

T = TypeVar("T")
Value = str | int | None

NODE = "node1.example.com"
HOOKS = TESTS.parent / "hooks"
SCRIPTS = TESTS / "helpers" / "toy"
RELEASE = "14.0"
ARCH = "amd64"
# Those that CBSD makes in each environment's system directory (docs/cbsd.md#directory-hooks); one more, tests, it does
# not make.
HOOK_DIRECTORIES = (
    "master_create.d", "master_prestart.d", "master_poststart.d", "master_prestop.d", "master_poststop.d",
    "master_reboot.d", "create.d", "start.d", "stop.d", "remove.d", "clone.d", "clone-local.d", "rename.d", "facts.d",
)  # fmt: skip
# What new environments begin with; one for jails, one for VMs.
SKELETONS = ("FreeBSD-jail-default-system-skel", "bhyve-system-default")
BASE = ("bin", "dev", "etc", "usr/local", "var")

# docs/cbsd.md#databases: the columns that count, with the types and defaults of CBSD's own schema.
SCHEMA = {
    "jails": {
        "jname": "text default 0 unique PRIMARY KEY",
        "jid": "integer default 0",
        "path": "text default 0",
        "host_hostname": "text default 0",
        "ip4_addr": "text default 0",
        "mount_devfs": "boolean default 0",
        "mount_fstab": "boolean default 0",
        "baserw": "boolean default 0",
        "mount_ports": "boolean default 0",
        "astart": "integer default 0",
        "data": "text default 0",
        "mdsize": "integer default 0",
        "rcconf": "text default 0",
        "ver": "text default 0",
        "arch": "text default 0",
        "status": "integer default 0",
        "emulator": "text default 'jail'",
        "protected": "integer default 0",
        "hidden": "integer default 0",
        "maintenance": "text default 0",
        "boot_delay": "integer default 0",
        "b_order": "integer default 10",
        "state_time": "TIMESTAMP DATE DEFAULT (datetime('now','localtime'))",
        "mnt_start": "text default 0",
        "mnt_stop": "text default 0",
        "gid": "UNSIGNED INTEGER DEFAULT 0",
        "tags": "text default 0",
    },
    "bhyve": {
        "jname": "text default 0 unique",
        "astart": "integer default 0",
        "vm_cpus": "integer default 1",
        "vm_ram": "integer default 536870912",
        "vm_os_type": "text default 'freebsd'",
        "mnt_start": "text default 0",
        "mnt_stop": "text default 0",
        "boot_delay": "integer default 0",
        "bhyverun_wrapper": "text default '/usr/local/cbsd/share/bhyverun.sh'",
    },
}
CONSTRAINTS = {"jails": "", "bhyve": ", FOREIGN KEY(jname) REFERENCES jails(jname)"}


class Toy:
    """CBSD on the host of ``site``; what the site has made is registered as the jail ``jail1``."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.workdir = site.workdir
        self.database = self.workdir / "var" / "db" / f"inv.{NODE}.sqlite"
        self.distdir = site.world.path / "usr" / "local" / "cbsd"
        self._lay_out()
        self._install()
        self.add("jail1")

    def _lay_out(self) -> None:
        base = self.workdir / "basejail" / f"base_{ARCH}_{ARCH}_{RELEASE}"
        skeletons = [self.workdir / "share" / name / hook for name in SKELETONS for hook in HOOK_DIRECTORIES]
        own = [self.workdir / name for name in ("ftmp", "tmp", "modules", "var/db", "var/log", "var/run")]
        for directory in (*own, *(base / name for name in BASE), *skeletons):
            directory.mkdir(parents=True, exist_ok=True)
        for directory in skeletons:
            (directory / "placeholder").touch()
        (base / "bin" / "sh").write_text("base\n")
        (self.workdir / "nodename").write_text(f"{NODE}\n")
        (self.workdir / "nc.inventory").write_text(f'nodename="{NODE}"\nzfsfeat="0"\nhammerfeat="0"\nparallel="5"\n')
        self.link.symlink_to(self.database.name)
        with self.connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for table, columns in SCHEMA.items():
                connection.execute(_create(table, columns))

    def _install(self) -> None:
        tools, scripts = self.site.world.path / "userland", self.distdir / "sudoexec"
        for directory in (tools, scripts, self.distdir / "tools"):
            directory.mkdir(parents=True)
        program = tools / ".tool"
        program.write_text(LAUNCHER.format(python=sys.executable, tests=str(TESTS)).replace("commands", "userland"))
        program.chmod(0o755)
        for name in userland.TOOLS:
            (tools / name).symlink_to(".tool")
        shutil.copy(SCRIPTS / "cbsd.subr", self.distdir)
        others = {"cbsd": self.site.world.path / "bin", "save-jail-info": self.distdir / "tools"}
        for script in SCRIPTS.glob("*.sh"):
            path = others.get(script.stem, scripts) / script.stem
            shutil.copy(script, path)
            path.chmod(0o755)

    # The scene.

    @property
    def link(self) -> Path:
        """The name under which CBSD knows the database of its own node."""
        return self.workdir / "var" / "db" / "local.sqlite"

    @property
    def hook(self) -> str:
        """The mnt_start of the site's backend."""
        return str(HOOKS / f"env_start_{self.site.variant.backend}")

    def add(
        self, name: str, emulator: str = "jail", hook: str | None = None, baserw: int = 1, **columns: Value
    ) -> None:
        """Add an environment: its directories here and where they are held, and its row. ``hook`` "": it has none."""
        if not self.site.point("system", name).exists():
            self.site.add(name)
        (self.workdir / "jails" / name).mkdir()
        self._fill(name, emulator)
        hook = self.hook if hook is None else hook
        row = {
            "jname": name,
            "path": str(self.workdir / "jails" / name),
            "host_hostname": f"{name}.my.domain",
            "ip4_addr": "DHCP",
            "mount_devfs": 1,
            "mount_fstab": str(self.site.point("fstab", name) / "fstab"),
            "baserw": baserw if emulator == "jail" else 0,
            "data": str(self.site.point("data", name)),
            "rcconf": str(self.workdir / "jails-rcconf" / f"rc.conf_{name}"),
            "ver": RELEASE,
            "arch": ARCH,
            "emulator": emulator,
            "mnt_start": hook or "0",
            "mnt_stop": hook.replace("env_start_", "env_stop_") or "0",
            **columns,
        }
        self._insert("jails", row)
        if emulator == "bhyve":
            self._insert("bhyve", {"jname": name, "mnt_start": row["mnt_start"], "mnt_stop": row["mnt_stop"]})

    def _fill(self, name: str, emulator: str) -> None:
        """Make what CBSD has made in the environment's directories by the time it is stopped again."""
        for directory in HOOK_DIRECTORIES:
            (self.sysdata(name) / directory).mkdir(parents=True)
            (self.sysdata(name) / directory / "placeholder").touch()
        data = self.held("data", name)
        if emulator != "bhyve":
            for directory in BASE:
                (data / directory).mkdir(parents=True, exist_ok=True)
            (data / "bin" / "sh").write_text("base\n")
            return
        (data / "dsk1.vhd").write_text("a disk\n")
        with contextlib.closing(sqlite3.connect(self.sysdata(name) / "local.sqlite")) as connection, connection:
            connection.execute("CREATE TABLE settings (created text, state_time text, jailed text default 0)")
            connection.execute("INSERT INTO settings (created) VALUES ('1795317748')")

    def held(self, which: str, name: str = "jail1") -> Path:
        """Where the files are that a started environment shows."""
        brought = which in self.site.variant.directories
        return self.site.held(which, name) if brought else self.site.point(which, name)

    def sysdata(self, name: str = "jail1") -> Path:
        return self.held("system", name)

    def skeleton(self, directory: str, emulator: str = "jail") -> Path:
        """Return a directory of hooks of which new environments get a copy."""
        return self.workdir / "share" / SKELETONS[emulator == "bhyve"] / directory

    def probe(self, directory: str, text: str, name: str = "jail1") -> Path:
        """Write a hook of a test's own, in sh(1); it sees the files of the system below."""
        path = self.sysdata(name) / directory / "probe"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def unregister(self, name: str) -> Path:
        """As junregister leaves it: no row, and the columns in a file, which it gives back."""
        row = self.row(name)
        path = self.workdir / "jails-rcconf" / f"rc.conf_{name}"
        lines = [f'{column}="{value}";\n' for column, value in row.items()]
        path.write_text("".join(lines).replace(str(self.workdir), "CBSDROOT"))
        self.execute("DELETE FROM bhyve WHERE jname = ?", name)
        self.execute("DELETE FROM jails WHERE jname = ?", name)
        return path

    # The database.

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            connection.row_factory = sqlite3.Row
            yield connection

    def execute(self, statement: str, *values: Value) -> None:
        with self.connection() as connection:
            connection.execute(statement, values)

    def row(self, name: str = "jail1", table: str = "jails") -> dict[str, Any]:
        """All columns; of an environment that is not there, none."""
        with self.connection() as connection:
            found = connection.execute(f"SELECT * FROM {table} WHERE jname = ?", (name,)).fetchone()
        return dict(found) if found else {}

    def set(self, name: str, table: str = "jails", **columns: Value) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self.execute(f"UPDATE {table} SET {assignments} WHERE jname = ?", *columns.values(), name)

    def _insert(self, table: str, row: Mapping[str, Value]) -> None:
        marks = ", ".join("?" * len(row))
        self.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())

    # What can be wrong with it.

    def older(self, table: str, *columns: str) -> None:
        """Drop these columns from the table, as a CBSD that did not know them yet has it."""
        kept = {name: type_ for name, type_ in SCHEMA[table].items() if name not in columns}
        names = ", ".join(kept)
        with self.connection() as connection:
            connection.execute(f"ALTER TABLE {table} RENAME TO newer")
            connection.execute(_create(table, kept))
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM newer")
            connection.execute("DROP TABLE newer")

    def settle(self, mode: str = "WAL") -> None:
        """All in the one file, with no log beside it; ``mode`` DELETE: nor will there be one."""
        with self.connection() as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        if mode == "WAL":
            with self.connection() as connection:
                connection.execute("PRAGMA journal_mode=WAL")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep a writer in the middle of its transaction; readers are shut out only if there is no write-ahead log."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("UPDATE jails SET status = status")
            yield
            connection.execute("ROLLBACK")

    def cut(self, size: int) -> None:
        """Only so many bytes of the database are there."""
        self.settle("DELETE")
        os.truncate(self.database, size)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nobody can write, or make a file beside the database, but root with all its powers; see ``powerless``."""
        directory = self.database.parent
        modes = {path: path.stat().st_mode for path in (directory, *directory.iterdir()) if not path.is_symlink()}
        for path in modes:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    # What is done, and what came of it.

    def environment(self) -> dict[str, str]:
        """Return the caller's variables, as cbsd(8) gives them to its commands (docs/cbsd.md#process)."""
        return {
            "BLOCKSIZE": "K",
            "CBSD_PWD": "/root",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "MM_CHARSET": "UTF-8",
            "NO_CBSD_HISTORY": "yes",
            "PS1": "cbsd@\\h> ",
            "TERM": "dumb",
            "freebsdhostversion": "1400507",
            "workdir": str(self.workdir),
        }

    def stop_variables(self, name: str = "jail1") -> dict[str, str]:
        """Return what the hooks of a stop are given (docs/cbsd.md#directory-hooks)."""
        row = self.row(name)
        given = ("baserw", "data", "emulator", "jid", "jname", "mount_fstab", "path", "rcconf", "status")
        path = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
        own = {column: str(row[column]) for column in given}
        return {"HOME": "/root", "PATH": path, "workdir": str(self.workdir), **own}

    @contextlib.contextmanager
    def aftermath(self) -> Iterator[None]:
        """Hold up what a stop leaves at work in the background until the block ends."""
        held = self.distdir / "held"
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    def begin(self, command: str, name: str = "jail1") -> subprocess.Popen[str]:
        """``cbsd COMMAND inter=0 jname=NAME`` as a process beside the test."""
        return subprocess.Popen(
            [str(self.distdir / "sudoexec" / command), "inter=0", f"jname={name}"],
            env=self.environment(),
            cwd=self.site.world.path / "empty",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, name: str = "jail1", timeout: float = 120) -> Ended:
        """Run a command of CBSD's to its end."""
        process = self.begin(command, name)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def runs(self, name: str = "jail1") -> bool:
        """Whether the machine runs the jail or the VM, whatever the database says."""
        device = self.site.world.path / "dev" / "vmm" / name
        return name in self.site.world.state["jails"] or device.exists()

    def mounted(self) -> list[str]:
        """Where something is mounted, the oldest first, below the workdir's name."""
        top = f"{self.workdir}/"
        return [mount["node"][len(top) :] for mount in self.site.world.mounts() if mount["node"].startswith(top)]


def _create(table: str, columns: Mapping[str, str]) -> str:
    rows = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
    return f"CREATE TABLE {table} ({rows}{CONSTRAINTS[table]})"


def powerless(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a child of root's that file modes hold for, and return its result (Linux)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        result: Any = None
        try:
            _obey_modes()
            result = function(*arguments)
        except BaseException as error:
            result = error
        finally:
            os.write(write, pickle.dumps(result))
            os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        result = pickle.load(stream)
    os.waitpid(pid, 0)
    if isinstance(result, BaseException):
        raise result
    return cast(T, result)


def _obey_modes() -> None:
    """Give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, see capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    # Effective, permitted, inheritable: of the lower 32 capabilities, then of the upper.
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~0b110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def processes(site: Site) -> list[str]:
    """Return the command lines of what still runs in the site's machine, guests included."""
    columns = ["-o", "pid=", "-o", "stat=", "-o", "args="]
    listing = subprocess.run(["ps", "-axww", *columns], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    place = str(site.world.path)
    return [row[2] for row in rows if len(row) == 3 and place in row[2] and not row[1].startswith("Z")]


def until(done: Callable[[], bool], what: str) -> None:
    """Wait until it is so, for a minute."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def at_rest(cbsd: Toy) -> None:
    """Wait for all that goes on in the background."""
    until(lambda: not processes(cbsd.site), "something goes on for ever")


def hand(cbsd: Toy, *words: str) -> Ended:
    """Run the tool for the workdir of this CBSD."""
    return cbsd.site.hand(*words, "-w", str(cbsd.workdir))
