"""Command lines of the tool that messages tell somebody to type: complete, so that they can be pasted as they are."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from envstart.config import places
from envstart.environment import Environment, Subject
from envstart.system.site_packages import ROOT


def known(verb: str, names: Sequence[str], workdirs: Sequence[str] = (), *options: str) -> str:
    """Return the command line of ``verb`` for environments that CBSD knows; no names: for all of them."""
    return _line(verb, *options, *names, *(word for workdir in workdirs for word in ("-w", workdir)))


def of_subject(subject: Subject | None, verb: str, *options: str) -> str:
    """Return the command line of ``verb`` for what a run is about."""
    return of(*subject, verb, *options) if subject is not None else _line(verb, *options)


def of(backend: str, environment: Environment, path: str | None, verb: str, *options: str) -> str:
    """Return the command line of ``verb`` for a jail or VM; ``path`` is its configuration file."""
    usual = path is None or path in places.candidates(backend, environment.workdir)
    words = [] if usual or path is None else ["-c", path]
    if environment.workdir:
        words += ["-w", environment.workdir]
    else:
        directories = {
            "-d": environment.data, "-s": environment.system, "-f": environment.fstab, "-r": environment.rcconf,
        }  # fmt: skip
        words += [word for option, path in directories.items() if path for word in (option, path)]
    return _line(verb, *options, backend, *words, "-j", environment.name)


def set_hook(name: str, backend: str, *, is_jail: bool) -> str:
    """Return CBSD's command line that gives a jail or VM the start hook of ``backend``."""
    hook = f"{os.path.dirname(os.path.realpath(tool()))}/env_start_{backend}"
    return shlex.join(("cbsd", "jset" if is_jail else "bset", f"jname={name}", f"mnt_start={hook}"))


def again(program: str, argv: Sequence[str]) -> str:
    """Return the command line ``argv`` of a hook, or of the tool, for root."""
    return shlex.join(("sudo", tool(program), *argv))


def tool(program: str = "envstart") -> str:
    """Return how a shell finds a program of ours: by its name in a directory of the system, else by its path.

    Nothing is asked of the caller's PATH, whose directories can be on a dead server.
    """
    from envstart.system.runner import SYSTEM_PATH

    beside = (f"{ROOT}/hooks", os.path.dirname(sys.executable), os.path.dirname(os.path.abspath(sys.argv[0])))
    own = next((f"{place}/{program}" for place in beside if os.access(f"{place}/{program}", os.X_OK)), program)
    real = os.path.realpath(own)
    if own == program or any(os.path.realpath(f"{place}/{program}") == real for place in SYSTEM_PATH):
        return program
    installed = f"{places.prefix(ROOT)}/sbin/{program}"
    return installed if os.path.realpath(installed) == real else own


def _line(verb: str, *words: str) -> str:
    return shlex.join((*(("sudo",) if os.geteuid() else ()), tool(), *verb.split(), *words))
