"""Run ``env_poststop``, which CBSD calls after each stop from the jail's or VM's own directories (cbsd/links.py).

It gets no arguments but variables, and its status is ignored (docs/cbsd.md#directory-hooks). CBSD still uses the
directories then; so it leaves a process behind that waits until CBSD has ended, and then unmounts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from envstart import lifecycle
from envstart.cbsd import inventory
from envstart.cbsd.inventory import EnvironmentRecord
from envstart.engine import start_marks
from envstart.engine.plan import Plan
from envstart.engine.record import load as load_record
from envstart.environment import Environment, file_name, from_variables
from envstart.errors import ConfigError, NotFoundError, TemporaryError, UsageError
from envstart.lifecycle import stopping
from envstart.mounts.table import Table
from envstart.system import guests, process, process_table
from envstart.system.host import Host, Polling
from envstart.system.log import Report, tell

_VARIABLES = "jname, data and workdir are not all set; CBSD sets them for what install has put in its directories"
# Programs of CBSD's that write into a system directory after a stop has called us.
_WRITING = ("/save-jail-info", *(f"/sudoexec/{letter}stop" for letter in "jbqx"))
_STARTING = tuple(f"/sudoexec/{letter}start" for letter in "jbqx")
# Seconds that CBSD gets to end its stop. What comes later is found by `envstart orphans --stop`.
_TIMEOUT = 900.0


def without_arguments(program: str, argv: Sequence[str], run: Callable[[], int]) -> int:
    """Run a program that takes no arguments, and return its exit status; raises EnvstartError."""
    if list(argv) in (["-h"], ["--help"]):
        tell(f"usage: {program}, with jname, data and workdir as variables; CBSD calls it, by what install makes\n")
        return os.EX_OK
    if argv:
        raise UsageError(f"cannot use {argv[0]!r}: {program} takes no arguments", hint="-h tells what it needs")
    return run()


def main(report: Report) -> int:
    """Return at once, and leave a process that unmounts when CBSD has ended."""
    subject = named_by_cbsd()
    token, ancestors = start_marks.start_token(file_name(subject)), process_table.cbsd_ancestors("/sudoexec/")
    if os.fork():
        return os.EX_OK
    # CBSD lists its hooks in a pipe, and reads it to its end: nothing of it may stay open.
    null = os.open(os.devnull, os.O_RDWR)
    process.become_child((None, null, null), ())
    os._exit(lifecycle.guarded(report, lambda: _when_ended(report, subject, token, ancestors)))


def named_by_cbsd() -> Environment:
    """Return the jail or VM that CBSD's variables name; UsageError if they name none."""
    return from_variables(os.environ, _VARIABLES)


def look_up(host: Host, environment: Environment) -> EnvironmentRecord | None:
    """Return what CBSD says of a jail or VM; None if its hook is not ours: it has our links from a skeleton.

    Where CBSD's database cannot tell its hook, the record of its last start can. NotFoundError if CBSD does not know
    it any more, ConfigError if nothing tells its hook.
    """
    assert environment.workdir is not None
    listed = host.complete(inventory.read(host, environment.workdir))
    registered: EnvironmentRecord | None = listed.get(environment.name)
    if registered is None and listed.complete:
        raise NotFoundError(f"cannot find {environment.name}: {environment.workdir} has no such jail or VM")
    if registered is not None and not registered.backend and listed.complete:
        return None
    if registered is not None and registered.backend and registered.environment is not None:
        return registered
    recorded = load_record(environment, host.report)
    if recorded is None:
        why = (registered.problem if registered else "") or "; ".join(map(str, listed.problems))
        raise ConfigError(f"cannot tell what to do for {environment.name}: {why}")
    by_record = EnvironmentRecord.given(recorded.environment, recorded.backend)
    variables = dict(os.environ)
    by_record.emulator = variables.get("emulator") or by_record.emulator
    by_record.running = registered.running if registered else host.complete(guests.runs(host, environment.name))
    return by_record


def _when_ended(report: Report, subject: Environment, token: bytes, ancestors: list[tuple[int, float]]) -> int:
    report.about(subject.name, report.facility or "none")
    host = Host(report)
    host.deadline.set(2 * _TIMEOUT)
    plan = _plan_when_ended(host, subject, token, ancestors)
    if plan is not None:
        lifecycle.act("stop", plan, Host(report), unless=lambda: _in_use(host, subject, token))
    return os.EX_OK


def _plan_when_ended(host: Host, subject: Environment, token: bytes, ancestors: list[tuple[int, float]]) -> Plan | None:
    """Wait until CBSD has ended, and return the plan of the stop; None if there is nothing to stop."""
    polling = Polling(host, _TIMEOUT, "CBSD to end its stop", first=0.1, longest=2.0)
    plan: Plan | None = None
    while True:
        if start_marks.start_token(file_name(subject)) != token:
            host.report.trace("was started again")
            return None
        try:
            record = look_up(host, subject)
        except NotFoundError:
            # It was removed, and env_remove has done what is to be done.
            return None
        if record is None:
            return None
        assert record.environment is not None
        plan = plan or stopping.plan(host, record.backend, record.environment)
        busy = _busy(host, record, plan, ancestors)
        if not busy:
            return plan
        polling.what = f"CBSD to end its stop: {busy}"
        if not host.complete(polling.again()):
            from envstart.config import remedies

            later = remedies.known("orphans", [subject.name], [record.workdir], "--stop")
            raise TemporaryError(f"cannot stop {subject.name}: {busy}", hint=f"later: {later}")


def _in_use(host: Host, subject: Environment, token: bytes) -> str:
    """Return why the stop must not touch it any more, "" if it may."""
    host.invalidate()
    if start_marks.start_token(file_name(subject)) != token:
        return "it was started again"
    # Where no mark can be made, on a full disk, that is all that tells.
    if pid := process_table.find_cbsd_process(_STARTING, subject.name):
        return f"CBSD starts it (pid {pid})"
    record = look_up(host, subject)
    if record is None:
        return "it has another hook now"
    return "it runs" if record.running else ""


def _busy(host: Host, record: EnvironmentRecord, plan: Plan, ancestors: list[tuple[int, float]]) -> str:
    """Return what shows that CBSD has not ended yet, "" if nothing does."""
    if alive := [pid for pid, began in ancestors if process_table.same_process(pid, began)]:
        return f"CBSD is still at work (pid {alive[0]})"
    # What writes into the system directory later: what CBSD leaves in the background (docs/cbsd.md#directory-hooks),
    # and another stop, such as that by which the wrapper of a VM ends.
    if pid := process_table.find_cbsd_process(_WRITING, record.name):
        return f"CBSD is still at work (pid {pid})"
    points = [step.point for step in plan.steps if step.point]
    path, data, *own = (host.complete(host.real(name)) for name in (record.path, plan.environment.data, *points))
    left = left_by_cbsd(host.complete(host.mounts()), path, data, own)
    return f"{left[0]} is still mounted" if left else ""


def left_by_cbsd(table: Table, path: str, data: str, own: Sequence[str]) -> list[str]:
    """Return what CBSD has yet to unmount on a jail's root ``path`` and its ``data``: all but our ``own``.

    All are named as the table names them; a thin jail's skeleton is one of our own.
    """
    points = [*table.below(path), *table.below(data)]
    # With baserw=1 the jail lives in its data directory itself (docs/cbsd.md#paths-of-a-jail).
    points += [entry.point for entry in table.at(path)] if path != data else []
    return [point for point in points if point not in own]
