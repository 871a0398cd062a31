"""Tell which jails and VMs there are on this host, and which hook each has, as far as CBSD says it.

What cannot be read is said, and the rest is still told: without the database the directories of the workdir say which
there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from envstart.config import load, remedies, shell
from envstart.engine import registry
from envstart.environment import Environment
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError, UnavailableError, UsageError, reason
from envstart.system import cbsd_database, guests, probe
from envstart.system.cbsd_database import COLUMNS, Row, clean, is_jail
from envstart.system.files import read_text
from envstart.system.host import Host

RC_CONF = "/etc/rc.conf"
# What belongs to one environment below the workdir: the directory, and what follows its name there.
_OWN = {"jails-system": "", "jails-data": "-data", "jails-fstab": ""}


class EnvironmentRecord:
    """A jail or VM that CBSD knows. ``hook`` is its mnt_start ("": none), ``backend`` "" if that is none of ours.

    ``environment`` is None if CBSD's row cannot be used; ``problem`` says why. ``running`` is what the kernel says, and
    where it cannot be asked, what the database says (``jid``, 0: not running). ``status``: 0 off, 1 on, 2 slave,
    3 maintenance, or being changed right now.
    """

    def __init__(self, workdir: str, row: Row) -> None:
        """Take the values of a row of CBSD's."""
        self.name: str = row["jname"]
        self.workdir = workdir
        self.emulator: str = row["emulator"]
        self.hook: str = row["mnt_start"]
        self.backend: str = row["backend"]
        self.registered: bool = row["registered"]
        self.jid: int = row["jid"]
        self.status: int = row["status"]
        self.path: str = row["path"] or f"{workdir}/jails/{self.name}"
        self.running = bool(self.jid)
        self.environment: Environment | None = None
        self.problem = ""
        data = os.path.join(workdir, row["data"] or f"jails-data/{self.name}-data")
        # CBSD hands a VM no -f (docs/cbsd.md#arguments).
        fstab = f"{workdir}/jails-fstab/{self.name}" if self.is_jail else None
        system, rcconf = f"{workdir}/jails-system/{self.name}", f"{workdir}/jails-rcconf"
        try:
            self.environment = Environment(self.name, data, system, fstab, rcconf)
        except UsageError as error:
            self.problem = str(error)

    @classmethod
    def removed(cls, workdir: str, name: str, backend: str) -> EnvironmentRecord:
        """Return what CBSD does not know any more, as if it had had this backend's hook."""
        return cls(workdir, {**COLUMNS, "jname": name, "backend": backend, "registered": False})

    @classmethod
    def given(cls, environment: Environment, backend: str) -> EnvironmentRecord:
        """Return what somebody has named by its directories, and wants to be there."""
        record = cls.removed(environment.workdir or "", environment.name, backend)
        record.environment, record.problem, record.registered, record.running = environment, "", True, True
        return record

    @property
    def is_jail(self) -> bool:
        """Tell a jail, be it one of another architecture, from a VM."""
        return is_jail(self.emulator)


class Inventory(NamedTuple):
    """Jails and VMs of one workdir, by name; ``problems`` say what could not be read.

    ``complete``: the database could be, so that a name which is not here is none of CBSD's. ``real``: the workdir
    without links.
    """

    workdir: str
    real: str
    environments: Sequence[EnvironmentRecord]
    problems: Sequence[EnvstartError]
    complete: bool

    def get(self, name: str) -> EnvironmentRecord | None:
        """Return the jail or VM of this name."""
        return next((record for record in self.environments if record.name == name), None)

    def chosen(self, names: Sequence[str]) -> list[EnvironmentRecord]:
        """Return those that are named, and those with a hook of ours that a pattern fits; no names mean all."""
        import fnmatch

        def fits(record: EnvironmentRecord) -> bool:
            return not names or any(fnmatch.fnmatchcase(record.name, name) for name in names)

        return [record for record in self.environments if record.name in names or (record.backend and fits(record))]

    def owner(self, point: str) -> str | None:
        """Return the name of the jail or VM that a mount point in the workdir belongs to (docs/cbsd.md#paths)."""
        directory, last = os.path.split(point)
        holder = os.path.basename(directory)
        if os.path.dirname(directory) != self.real or holder not in _OWN or not last.endswith(_OWN[holder]):
            return None
        return last[: len(last) - len(_OWN[holder])] or None


def workdirs(given: Sequence[str]) -> list[str]:
    """Return ``given``, else what /etc/rc.conf says (docs/cbsd.md#paths); UsageError if that is nothing."""
    paths = [os.path.normpath(path) for path in given] or [path for path in (from_rc_conf(),) if path]
    if not paths:
        raise UsageError(f"cannot tell where CBSD's workdir is: {RC_CONF} has no cbsd_workdir", hint="give -w")
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"cannot use -w {path!r}: the path is not absolute")
    return list(dict.fromkeys(paths))


def from_rc_conf() -> str:
    """Return the workdir that /etc/rc.conf names; "" if it names none."""
    try:
        reading = shell.read(read_text(RC_CONF))
    except OSError:
        return ""
    values = [each.value for each in reading.assignments if each.key == "cbsd_workdir" and each.section is None]
    return values[-1].rstrip("/") if values else ""


async def read_files(host: Host, workdir: str) -> Inventory:
    """Read what CBSD's files say of a workdir, and run nothing; never raise for what is in them."""
    try:
        rows, problems, complete, real = await host.call_with_timeout(collect, workdir, timeout=cbsd_database.TIMEOUT)
    except (NoResponseError, DeadlineExceededError) as error:
        unread = EnvstartError(f"{workdir} gives {error}", hint="is it on a dead server?")
    except OSError as error:
        unread = EnvstartError(f"cannot read {workdir}: {reason(error)}")
    else:
        records = sorted((EnvironmentRecord(workdir, row) for row in rows), key=lambda record: record.name)
        errors = [EnvstartError(message, hint=hint) for message, hint in problems]
        return Inventory(workdir, real, records, errors, complete)
    return Inventory(workdir, workdir, [], [unread], complete=False)


async def read(host: Host, workdir: str) -> Inventory:
    """Read all jails and VMs of a workdir, and ask which of them run; never raise for what is in its files."""
    inventory = await read_files(host, workdir)
    if not inventory.environments:
        return inventory
    complete, (jails, machines) = inventory.complete, await _alive(host)
    others = guests.Machines(host)
    for record in inventory.environments:
        if record.registered and not complete:
            # What it is, only the database could tell.
            record.running = record.name in (jails or ()) or record.name in (machines or ())
        elif record.is_jail and jails is not None:
            record.running = record.name in jails
        elif record.emulator == "bhyve" and machines is not None:
            record.running = record.name in machines
        elif record.registered and not record.is_jail and record.emulator != "bhyve":
            runs = await others.runs(record.name, record.emulator, record.jid, record.status)
            # What cannot be told counts as running: its directories are not to be unmounted.
            record.running = runs is not False
    return inventory


async def _alive(host: Host) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Return the names of the jails and bhyve VMs that the kernel runs; None where it cannot be asked."""
    if host.platform != "freebsd":
        return None, None
    try:
        jails: frozenset[str] | None = await guests.jails(host)
    except EnvstartError as error:
        host.report.warn(f"{error}; what runs is taken from CBSD's database")
        jails = None
    # It is missing while the module is not loaded.
    return jails, frozenset(names_in("/dev/vmm"))


# In a child, because the workdir itself can be on a dead server; messages are given with their hints.
Problems = list[tuple[str, str]]


def collect(workdir: str) -> tuple[list[Row], Problems, bool, str]:
    """Return rows, problems, whether the database could be read, and the workdir without links, as plain values."""
    problems: Problems = []
    rows: dict[str, Row] = {}
    try:
        rows = {row["jname"]: row for row in cbsd_database.read(workdir)}
    except PermissionError as error:
        # CBSD lets its own group in, and nobody else (docs/cbsd.md#databases).
        as_root = f"run it as root: {remedies.known('check', [], [workdir])}" if os.geteuid() else ""
        problems.append((f"cannot read {workdir}{cbsd_database.DATABASE}: {reason(error)}", as_root))
    except UnavailableError as error:
        problems.append((error.message, error.hint))
    complete = not problems
    for row in _unregistered(workdir, problems):
        rows.setdefault(row["jname"], row)
    if not complete:
        # The hook is that of the one backend that has a configuration.
        configured = [name for name in registry.NAMES if load.find(name, workdir)]
        hook = f"env_start_{configured[0]}" if len(configured) == 1 else ""
        for name in (name for name in names_in(f"{workdir}/jails-system") if not name.startswith(".")):
            rows.setdefault(name, {**COLUMNS, "jname": name, "registered": True, "mnt_start": hook})
    for row in rows.values():
        row["backend"] = backend_of(row["mnt_start"])
    return list(rows.values()), problems, complete, os.path.realpath(workdir)


def backend_of(hook: str) -> str:
    """Return the backend that a hook's path stands for, links followed; "" if it is none of ours."""
    for path in (hook, os.path.realpath(hook)) if hook and "\0" not in hook else ():
        name = os.path.basename(path)
        if name.startswith("env_start_") and name[len("env_start_") :] in registry.NAMES:
            return name[len("env_start_") :]
    return ""


def names_in(directory: str) -> list[str]:
    """Return the names in a directory, in order; none if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _unregistered(workdir: str, problems: Problems) -> list[Row]:
    """Return rows of what was taken out of the database, and left its values in a file."""
    directory = f"{workdir}/jails-rcconf"
    rows = []
    for name in (name for name in names_in(directory) if name.startswith("rc.conf_")):
        try:
            descriptor = probe.open_regular(f"{directory}/{name}", follow=True)
            with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
                reading = shell.read(file.read(1 << 20))
        except OSError as error:
            problems.append((f"cannot read {directory}/{name}: {reason(error)}", ""))
            continue
        values = dict(COLUMNS)
        for assignment in reading.assignments:
            if assignment.key in values:
                values[assignment.key] = assignment.value.replace("CBSDROOT", workdir)
        values["jname"] = values["jname"] or name[len("rc.conf_") :]
        # It does not run, whatever it did when it was written down.
        rows.append(clean({**values, "jid": 0}, registered=False))
    return rows
