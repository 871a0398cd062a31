"""Carry out a start or a stop as a whole: its plan, permission and time, and the report of what goes wrong."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

from envstart.config import common
from envstart.config import load as config
from envstart.engine import executor, registry
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.errors import EnvstartError, PermissionDeniedError, TemporaryError, exhausted, reason
from envstart.system.host import Host
from envstart.system.log import Report, write

# What sh(1) adds to the number of the signal that has ended a command.
SIGNALLED = 128


def load(backend: str, environment: Environment, path: str | None = None) -> Plan:
    """Plan a start by the configuration; ``path`` is used instead of the usual places. Every mistake counts."""
    file = config.find(backend, environment.workdir, path)
    settings = config.load(backend, registry.backend(backend).OPTIONS, environment.name, file, environment.workdir)
    return registry.make_plan(backend, environment, settings)


def planned(verb: str, backend: str, environment: Environment, path: str | None, host: Host) -> Plan:
    """Plan a start or a stop: a stop is never stricter than a start."""
    if verb == "start":
        return load(backend, environment, path)
    from envstart.lifecycle import stopping

    return stopping.plan(host, backend, environment, path)


def act(
    verb: str, plan: Plan, host: Host, *, unless: Callable[[], str] = lambda: "", timeout: float = float("inf")
) -> None:
    """Carry the plan out within TIMEOUT and ``timeout``; EnvstartError. ``unless``: see executor.stop()."""
    only_root(verb, plan.environment.name, host)
    host.report.planned = plan.subject
    host.deadline.set(min(plan.config[common.TIMEOUT], timeout))
    # Disabled by hooks/run-hook, for the imports. Who waits for a server for minutes does leave some garbage.
    gc.freeze()
    gc.enable()
    try:
        if verb == "start":
            count = executor.start(plan, host)
            if count:
                host.report.done(f"{count} of {len(plan.steps)} steps taken in {host.deadline.elapsed():.1f} s")
        else:
            executor.stop(plan, host, unless)
            host.report.done(f"stopped in {host.deadline.elapsed():.1f} s")
    except EnvstartError as error:
        left_behind = host.left_behind()
        if left_behind:
            error.add_note(f"left behind, since nothing ends it: {', '.join(left_behind)}")
        raise


def only_root(verb: str, name: str, host: Host) -> None:
    """PermissionDeniedError for anybody else."""
    if os.geteuid() != 0:
        from envstart.config import remedies

        again = remedies.again(host.report.program, host.report.argv)
        raise PermissionDeniedError(f"cannot {verb} {name}: only root can", hint=f"try: {again}")


def open_streams() -> None:
    """Open the standard streams that the caller has closed, so that no file opened later becomes one of them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given, which is this one.
            os.open(os.devnull, os.O_RDWR)


def guarded(report: Report, body: Callable[[], int]) -> int:
    """Run ``body``; an EnvstartError becomes its line and its status, a bug one line and EX_SOFTWARE."""
    try:
        return body()
    except (Exception, KeyboardInterrupt) as caught:
        error = failure(caught, report)
    report.fail(error)
    return error.status


def failure(caught: BaseException, report: Report) -> EnvstartError:
    """Return the error that a run ends with because of this exception."""
    if isinstance(caught, EnvstartError):
        return caught
    if isinstance(caught, KeyboardInterrupt):
        error = EnvstartError("interrupted", hint="no changes were made")
        error.status = SIGNALLED + 2
        return error
    if isinstance(caught, MemoryError):
        return TemporaryError("cannot go on: there is no memory left", hint="see top(1) and limits(1), and try again")
    if isinstance(caught, OSError) and exhausted(caught):
        return TemporaryError(f"cannot go on: {reason(caught)}", hint="see limits(1), and try again")
    if report.verbose:
        import traceback

        write(2, "".join(traceback.format_exception(type(caught), caught, caught.__traceback__)))
    bug = f"a bug in envstart, {type(caught).__name__}: {caught}"
    error = EnvstartError(f"cannot go on: {bug}", hint="-v shows where; please report it")
    error.status = os.EX_SOFTWARE
    return error
