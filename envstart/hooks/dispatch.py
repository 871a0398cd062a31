"""Run a hook, told by the name it is called by: ``env_start_BACKEND``, ``env_stop_BACKEND`` and the others.

argv -> Environment -> Config -> Plan -> executor; whatever goes wrong is one line on stderr and an exit status.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from envstart import environment, lifecycle
from envstart.config import common
from envstart.engine import registry
from envstart.errors import UsageError
from envstart.system.host import Host
from envstart.system.log import Report, tell
from envstart.system.process import Child


def main(program: str, argv: Sequence[str], began: float | None = None, hung: Sequence[Child] = ()) -> int:
    """Run the hook ``program`` and return its exit status; ``began`` and ``hung``: of the short way."""
    lifecycle.open_streams()
    # Not where the caller was: it can be deleted, on a dead server, or in the way of an unmount.
    os.chdir("/")
    # A start that CBSD has put into the background loses its output: what is wrong must be in syslog, from the first.
    report = Report(program, facility="local0")
    report.argv = argv
    began = time.monotonic() if began is None else began
    return lifecycle.guarded(report, lambda: _main(program, argv, Host(report, began, hung)))


def _main(program: str, argv: Sequence[str], host: Host) -> int:
    report = host.report
    if program in ("env_poststop", "env_remove"):
        from envstart.hooks import poststop, remove

        run = poststop.main if program == "env_poststop" else remove.main
        return poststop.without_arguments(program, argv, lambda: run(report))
    if program == "env_clone_nfs":
        from envstart.hooks import clone

        return clone.main(argv, host)
    verb, backend = _meaning(program)
    arguments = environment.parse(argv)
    if arguments.help:
        tell(environment.usage(program) + "\n")
        return os.EX_OK
    report.verbose = arguments.verbose
    from_variables = verb == "stop" and not argv
    subject = environment.from_variables(os.environ) if from_variables else arguments.environment()
    for option in arguments.repeated:
        report.warn(f"{option} is given more than once; the last one counts")
    plan = lifecycle.planned(verb, backend, subject, arguments.values.get("-c"), host)
    report.about(subject.name, plan.config[common.LOG_FACILITY])
    if arguments.dry_run:
        from envstart.lifecycle.forecast import describe

        describe(plan, report, verb)
        return os.EX_OK
    lifecycle.act(verb, plan, host)
    if verb == "start" and not (report.verbose or arguments.repeated):
        from envstart.hooks import remember

        remember.save(program, argv, plan, host)
    return os.EX_OK


def _meaning(program: str) -> tuple[str, str]:
    """Return verb and backend of a program such as ``env_start_nfs``."""
    first, _, rest = program.partition("_")
    verb, _, backend = rest.partition("_")
    if first != "env" or verb not in ("start", "stop") or backend not in registry.NAMES:
        raise UsageError(
            f"cannot tell what {program!r} is: a hook is called env_start_BACKEND or env_stop_BACKEND, of "
            + ", ".join(registry.NAMES)
        )
    return verb, backend
