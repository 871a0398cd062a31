"""The command line's parser, and the options that several verbs share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from envstart.engine import registry
from envstart.errors import UsageError
from envstart.system.log import Report, tell

# What carries a verb out: the options given, and where messages go; returns the exit status.
Run = Callable[[argparse.Namespace, Report], int]


class Parser(argparse.ArgumentParser):
    """Parser whose mistakes and help go the way of all messages."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"cannot read the command line: {message}", hint=f"try: {self.prog} -h")

    def _print_message(self, message: str, file: object = None) -> None:
        # The help and the version: argparse itself does not notice a disk without room.
        tell(message)


Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"

_NAMES = "jails and VMs that CBSD knows, as in 'web*'"

VERBOSE = Parser(add_help=False)
_TRACE = "show each command when it begins and when it ends; twice: its output too"
VERBOSE.add_argument("-v", dest="verbose", action="count", default=0, help=_TRACE)

CONFIG = Parser(add_help=False, parents=[VERBOSE])
CONFIG.add_argument("-c", dest="config", metavar="FILE", help="configuration file, instead of the usual places")

_DIRECTORIES = Parser(add_help=False)
_DIRECTORIES.add_argument("-j", "--env", dest="name", metavar="NAME", help="name of the jail or VM")
_DIRECTORIES.add_argument("-d", "--data", metavar="DIR", help="its data directory")
_DIRECTORIES.add_argument("-s", "--system", metavar="DIR", help="its system directory")
_DIRECTORIES.add_argument("-f", "--fstab", metavar="DIR", help="its fstab directory")
_DIRECTORIES.add_argument("-r", "--rcconf", metavar="DIR", help="the directory of rc.conf files")
_DIRECTORIES.add_argument("-l", "--list", metavar="FILE", help="list of jails and VMs, for hosts without CBSD")

# A backend, and the jail or VM (of a list: the jails and VMs) that it mounts.
GIVEN = Parser(add_help=False, parents=[CONFIG, _DIRECTORIES])
GIVEN.add_argument("backend", choices=registry.NAMES, metavar="BACKEND", help=", ".join(registry.NAMES))
GIVEN.add_argument("-w", "--workdir", metavar="DIR", help="CBSD's workdir, instead of the directories")

_WORKDIRS = Parser(add_help=False)
_SEVERAL = "CBSD's workdir; several are looked at one after the other; default: cbsd_workdir in /etc/rc.conf"
_WORKDIRS.add_argument("-w", "--workdir", dest="workdirs", metavar="DIR", action="append", default=[], help=_SEVERAL)

# Jails and VMs of CBSD's, all if none is named.
LISTED = Parser(add_help=False, parents=[VERBOSE, _WORKDIRS])
LISTED.add_argument("names", nargs="*", metavar="NAME", help=f"{_NAMES}; default: all")

# Jails and VMs of CBSD's, of which one must be named.
NAMED = Parser(add_help=False, parents=[VERBOSE, _WORKDIRS])
NAMED.add_argument("names", nargs="+", metavar="NAME", help=f"{_NAMES}; '*': and all new ones")

# One or the other.
EITHER = Parser(add_help=False, parents=[CONFIG, _WORKDIRS, _DIRECTORIES])
_NAMES_OR_BACKEND = f"{_NAMES}, default: all; or the backend of the one that -j, -d or -l names"
EITHER.add_argument("names", nargs="*", metavar="NAME|BACKEND", help=_NAMES_OR_BACKEND)

DRY_RUN = Parser(add_help=False)
DRY_RUN.add_argument("-n", "--dry-run", dest="dry_run", action="store_true", help="only say what would be done")

JSON = Parser(add_help=False)
JSON.add_argument("--json", action="store_true", help="as one JSON document")


def add_verb(verbs: Verbs, name: str, text: str, run: Run, parents: Sequence[Parser]) -> Parser:
    """Return the parser of a verb, with the options of ``parents``."""
    verb = verbs.add_parser(name, help=text, parents=parents, allow_abbrev=False)
    verb.set_defaults(run=run, verb=name)
    return verb


def absolute(path: str) -> str:
    """Return the absolute path; UsageError where nobody can tell it."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError(f"cannot use {path}: the working directory is no more", hint="give the whole path") from None


def seconds(text: str) -> float:
    """Return a length of time from the command line; ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text!r}")
    return value
