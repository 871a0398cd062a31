"""Check which jail or VM CBSD's argv (docs/cbsd.md#arguments) or variables (docs/cbsd.md#directory-hooks) name.

Pure, but for the links on the way to a workdir.
"""

import getopt
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from envstart.errors import UsageError
from envstart.paths import is_below, path_digest

SYNOPSIS = "-d data [-f fstab] -j jname [-r rcconf] -s sysdata [-c config] [-nv]"
_OPTIONS = {
    "-d": "data directory of the jail or VM",
    "-f": "directory of its fstab files (jails only)",
    "-j": "its name",
    "-r": "directory of rc.conf files, shared by all jails and VMs",
    "-s": "directory of its system data",
    "-c": "configuration file, instead of the usual places",
}
_FLAGS = {
    "-n": "say what would be done, and do nothing",
    "-v": "trace the commands, their beginning and end; twice: their output too",
    "-h": "this text",
}

# As string(3) has them in Python, whose import would cost each start half a millisecond.
LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_NAME_FIRST = frozenset(LETTERS + DIGITS + "_@%:")
_NAME = _NAME_FIRST | {"-"}
# A directory name is at most 255 bytes, and CBSD makes NAME-data of it.
_NAME_MAX = 250
# MNAMELEN is 1024 with the final NUL; a longer path cannot be in the mount table (statfs(2)).
_PATH_MAX = 1023
# Directories of the workdir that hold one entry per environment (docs/cbsd.md#paths).
_SHARED = ("jails", "jails-data", "jails-system", "jails-fstab", "jails-rcconf")
# Those of them in which an entry has the environment's name; in jails-data it is NAME-data.
_NAMED = ("jails-system", "jails-fstab")
# What CBSD itself lives from, below the workdir.
_CBSD_OWN = ("etc", "modules", "var")
# Where a careless data= would take away the ground that the host stands on.
_SYSTEM = frozenset(
    "/bin /boot /dev /etc /home /lib /lib64 /libexec /opt /proc /root /run /sbin /sys /tmp /usr /var".split()
)


class Environment:
    """Jail or VM as CBSD hands it over: a name and absolute, normalized directories.

    ``workdir`` is set when ``system`` is ``W/jails-system/NAME``; ``fstab`` and ``rcconf`` may be missing. ``key``, for
    locks and marks, is ``system`` with the workdir named without links, however the caller came to it.
    """

    __slots__ = ("name", "data", "system", "fstab", "rcconf", "workdir", "key")

    def __init__(self, name: str, data: str, system: str, fstab: str | None = None, rcconf: str | None = None) -> None:
        """Check the name and the directories; UsageError. Links on the way to the workdir are followed, here alone."""
        self.name = _check_name(name)
        self.data = _directory("-d", data)
        self.system = _directory("-s", system)
        self.fstab = _directory("-f", fstab) if fstab is not None else None
        self.rcconf = _directory("-r", rcconf) if rcconf is not None else None
        self.workdir = _workdir(self.system, name)
        self._refuse_shared()
        self.key = f"{os.path.realpath(self.workdir)}/jails-system/{name}" if self.workdir else self.system

    @property
    def directories(self) -> tuple[str, ...]:
        """Return those that are its own."""
        return tuple(path for path in (self.data, self.system, self.fstab) if path is not None)

    def _refuse_shared(self) -> None:
        """Refuse a path on which a mount would hide, or show, what others have (docs/cbsd.md#defects, 1)."""
        own = {"-d": self.data, "-s": self.system, "-f": self.fstab, "-r": self.rcconf}
        seen: dict[str, str] = {}
        for option, path in own.items():
            if path is None:
                continue
            parent, last = os.path.split(path)
            # An entry of one of the shared directories; an environment, and a workdir, can have the name of one.
            holder = os.path.basename(parent) if parent != self.workdir else ""
            named = (holder in _NAMED and last == self.name) or (holder == "jails-data" and last == f"{self.name}-data")
            if self.workdir and is_below(self.workdir, path):
                raise UsageError(f"cannot use {option} {path}: it holds the CBSD workdir {self.workdir}")
            if path in _SYSTEM:
                raise UsageError(f"cannot use {option} {path}: it is a directory of this host")
            if self.workdir and any(is_below(path, f"{self.workdir}/{entry}") for entry in _CBSD_OWN):
                raise UsageError(f"cannot use {option} {path}: it belongs to CBSD itself")
            if last in _SHARED and not named and not (option == "-r" and last == "jails-rcconf"):
                raise UsageError(f"cannot use {option} {path}: it holds the directories of all jails and VMs")
            if last.startswith("-"):
                raise UsageError(
                    f"cannot use {option} {path}: it was made from an empty name", hint="give CBSD a jname"
                )
            if not named and (holder in _NAMED or (holder == "jails-data" and last.endswith("-data"))):
                raise UsageError(f"cannot use {option} {path}: it does not belong to {self.name}")
            if path in seen:
                raise UsageError(f"cannot use {option} {path}: it is also {seen[path]}")
            seen[path] = option


class Arguments(NamedTuple):
    """A parsed command line: the values given, not yet an environment."""

    values: dict[str, str]
    repeated: list[str]
    verbose: int
    dry_run: bool
    help: bool

    def environment(self) -> Environment:
        """Return the jail or VM that is named; UsageError without ``-d``, ``-j`` and ``-s``."""
        lacking = [option for option in ("-d", "-j", "-s") if option not in self.values]
        if lacking:
            raise UsageError(f"cannot do without {' and '.join(lacking)}", hint=f"usage: {SYNOPSIS}")
        get = self.values.get
        return Environment(self.values["-j"], self.values["-d"], self.values["-s"], get("-f"), get("-r"))


def parse(argv: Sequence[str]) -> Arguments:
    """Read getopt(3) style options, or raise UsageError."""
    hint = f"usage: {SYNOPSIS}"
    try:
        options, rest = getopt.getopt(list(argv), "d:f:j:r:s:c:nvh", ["help"])
    except getopt.GetoptError as error:
        raise UsageError(f"cannot read the options: {error}", hint=hint) from None
    flags = [option for option, _ in options if option not in _OPTIONS]
    given = [(option, value) for option, value in options if option in _OPTIONS]
    for option, value in given:
        if not value:
            raise UsageError(f"cannot read {option}: its value is empty", hint=hint)
        if value.startswith("-"):
            raise UsageError(f"cannot read {option}: its value {value!r} looks like an option", hint=hint)
        if option == "-c" and not value.startswith("/"):
            # CBSD runs hooks in /var/empty, and they leave it for / before they read this.
            raise UsageError(f"cannot use -c {value!r}: the path is not absolute")
    if rest:
        remedy = "a path with a space arrives as two words, CBSD cannot pass one"
        raise UsageError(f"cannot read {rest[0]!r}: no option takes it", hint=remedy)
    names = [option for option, _ in given]
    repeated = [option for number, option in enumerate(names) if option in names[:number]]
    return Arguments(dict(given), repeated, flags.count("-v"), "-n" in flags, "-h" in flags or "--help" in flags)


def from_variables(variables: Mapping[str, str], otherwise: str = f"no arguments; usage: {SYNOPSIS}") -> Environment:
    """Return the jail or VM that CBSD's stop hooks name by variables; UsageError, with what ``otherwise`` says."""
    if not all(variables.get(name) for name in ("jname", "data", "workdir")):
        raise UsageError(f"cannot tell which jail or VM is meant: {otherwise}")
    return in_workdir(variables["jname"], variables["workdir"], variables["data"])


def in_workdir(name: str, workdir: str, data: str = "") -> Environment:
    """Return the jail or VM ``name`` with CBSD's usual directories below ``workdir`` (docs/cbsd.md#paths)."""
    _check_name(name)
    return Environment(
        name,
        data or f"{workdir}/jails-data/{name}-data",
        f"{workdir}/jails-system/{name}",
        f"{workdir}/jails-fstab/{name}",
        f"{workdir}/jails-rcconf",
    )


def usage(program: str) -> str:
    """Return the help text of a hook."""
    rows = [f"  {option} {text}" for option, text in {**_OPTIONS, **_FLAGS}.items()]
    return "\n".join([f"usage: {program} {SYNOPSIS}", *rows])


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a jail or VM."""
    return bool(text) and text[0] in _NAME_FIRST and _NAME.issuperset(text)


def _check_name(name: str) -> str:
    """Return a name that has CBSD's own grammar (docs/cbsd.md#arguments) in full; UsageError."""
    if not name:
        raise UsageError("cannot use -j: the name is empty")
    if not is_name(name):
        raise UsageError(f"cannot use -j {name!r}: a name has letters, digits and _ @ % : -, and does not begin with -")
    if len(name) > _NAME_MAX:
        raise UsageError(f"cannot use -j {name[:20]}...: a name has at most {_NAME_MAX} characters")
    return name


def _directory(option: str, path: str) -> str:
    if not path:
        raise UsageError(f"cannot use {option}: the path is empty")
    if not path.startswith("/"):
        raise UsageError(f"cannot use {option} {path!r}: the path is not absolute")
    # The first is quick, and true of most.
    if not path.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise UsageError(f"cannot use {option} {path!r}: the path has a control character")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f"cannot use {option} {path!r}: the path has a .. in it")
    if not parts:
        raise UsageError(f"cannot use {option} {path!r}: that is the root directory")
    path = "/" + "/".join(parts)
    if len(os.fsencode(path)) > _PATH_MAX:
        raise UsageError(f"cannot use {option} {path[:40]}...: a mount point has at most {_PATH_MAX} bytes")
    return path


def _workdir(system: str, name: str) -> str | None:
    parent, last = os.path.split(system)
    workdir, holder = os.path.split(parent)
    return workdir if holder == "jails-system" and last == name and workdir != "/" else None


class Subject(NamedTuple):
    """Subject of a run: the backend, the jail or VM, and its configuration file (None: none)."""

    backend: str
    environment: Environment
    path: str | None


def file_name(environment: Environment) -> str:
    """Return a file name that is one jail's or VM's own."""
    return f"{environment.name[:64]}.{path_digest(environment.key)}"
