"""``env_poststop`` and ``env_remove``: what CBSD runs from an environment's directory hooks (see install.py).

Both get no arguments but variables, and their status is ignored (contract §1.7). When the first is called, CBSD still
uses the directories; so it leaves a process behind that waits until CBSD has ended, and then stops the environment.
The second is called right before CBSD wipes what is in the directories (§1.9).
"""

from __future__ import annotations

import os
import time

from . import children, environment, hook, inventory, processes, started
from .errors import Error, Misconfigured, Missing, Temporary, Usage
from .host import Host
from .plan import file_name
from .report import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .environment import Environment
    from .inventory import Found
    from .plan import Plan
    from .report import Report
    from .table import Table

_CALLED = "jname, data and workdir are not all set; CBSD sets them for what install has put in its directories"
# Programs of CBSD's that write into a system directory after a stop has called us.
_WRITING = ("/save-jail-info", *(f"/sudoexec/{letter}stop" for letter in "jbqx"))
_STARTING = tuple(f"/sudoexec/{letter}start" for letter in "jbqx")
# CBSD's command that stops a VM; VirtualBox's is no program of sudoexec/.
_STOPS = {"bhyve": "bstop", "qemu": "qstop", "xen": "xstop", "virtualbox": "vstop"}
# Seconds that CBSD gets to end its stop. What comes later is found by `envstart orphans --stop`.
_PATIENCE = 900.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
# Seconds that CBSD's own stop may take, when an environment is removed while it runs.
_STOPPING = 300.0


def main(program: str, argv: Sequence[str], report: Report) -> int:
    """Run the program and return its exit status; raises Error."""
    if list(argv) in (["-h"], ["--help"]):
        tell(f"usage: {program}, with jname, data and workdir as variables; CBSD calls it, by what install makes\n")
        return os.EX_OK
    if argv:
        raise Usage(f"cannot use {argv[0]!r}: {program} takes no arguments; -h tells what it needs")
    return poststop(report) if program == "env_poststop" else remove(report)


def poststop(report: Report) -> int:
    """Return at once; what has to be done is done when CBSD has ended."""
    wanted = environment.from_variables(os.environ, _CALLED)
    mark, callers = started.mark(file_name(wanted)), processes.callers("/sudoexec/")
    if os.fork():
        return os.EX_OK
    # CBSD lists its hooks in a pipe, and reads it to its end: nothing of it may stay open.
    null = os.open(os.devnull, os.O_RDWR)
    children.become_child((None, null, null), ())
    os._exit(hook.guarded(report, lambda: _when_ended(report, wanted, mark, callers)))


def _when_ended(report: Report, wanted: Environment, mark: bytes, callers: list[tuple[int, float]]) -> int:
    report.about(wanted.name, report.facility or "none")
    host = Host(report)
    host.deadline.set(2 * _PATIENCE)
    began, pause = time.monotonic(), _FIRST_PAUSE
    until = began + _PATIENCE
    while True:
        if started.mark(file_name(wanted)) != mark:
            report.trace("was started again")
            return os.EX_OK
        try:
            found = _found(host, wanted)
        except Missing:
            # It was removed, and env_remove has done what is to be done.
            return os.EX_OK
        if found is None:
            return os.EX_OK
        assert found.environment is not None
        plan = hook.load(found.backend, found.environment)
        busy = _busy(host, found, plan, callers)
        if not busy:
            break
        if time.monotonic() >= until:
            from . import remedies

            later = remedies.known("orphans", [wanted.name], [found.workdir], "--stop")
            raise Temporary(f"cannot stop {wanted.name}: {busy}; later: {later}")
        with host.waiting(f"CBSD to end its stop: {busy}", until, began):
            host.wait(host.sleep(pause))
        host.forget()
        pause = min(pause * 1.5, _LONGEST_PAUSE)

    def unless() -> str:
        host.forget()
        if started.mark(file_name(wanted)) != mark:
            return "it was started again"
        # Where no mark can be made, on a full disk, that is all that tells.
        if at_work := processes.working(_STARTING, wanted.name):
            return f"CBSD starts it (pid {at_work})"
        now = _found(host, wanted)
        if now is None:
            return "it has another hook now"
        return "it runs" if now.running else ""

    hook.act("stop", plan, Host(report), unless)
    return os.EX_OK


def _busy(host: Host, found: Found, plan: Plan, callers: list[tuple[int, float]]) -> str:
    """What shows that CBSD has not ended yet."""
    alive = [pid for pid, began in callers if processes.is_still(pid, began)]
    if alive:
        return f"CBSD is still at work (pid {alive[0]})"
    # What writes into the system directory later: what CBSD leaves in the background (contract §1.7), and another stop,
    # such as that by which the wrapper of a VM ends.
    others = processes.working(_WRITING, found.name)
    if others:
        return f"CBSD is still at work (pid {others})"
    points = [step.point for step in plan.steps if step.point]
    path, data, *own = (host.wait(host.real(name)) for name in (found.path, plan.environment.data, *points))
    left = left_by_cbsd(host.wait(host.mounts()), path, data, own)
    return f"{left[0]} is still mounted" if left else ""


def left_by_cbsd(table: Table, path: str, data: str, own: Sequence[str]) -> list[str]:
    """What is mounted on a jail's root ``path`` and on its ``data`` that CBSD has yet to unmount: all but our ``own``,
    as a thin jail's skeleton. All are named as the table names them."""
    found = [*table.below(path), *table.below(data)]
    # With baserw=1 the jail lives in its data directory itself (contract §2.1).
    found += [entry.point for entry in table.at(path)] if path != data else []
    return [point for point in found if point not in own]


def _found(host: Host, wanted: Environment) -> Found | None:
    """What CBSD says of the environment, None if its hook is none of ours: it has our links from a skeleton. Missing if
    CBSD knows it no more, Misconfigured if it cannot be told which hook it has."""
    assert wanted.workdir is not None
    listed = host.wait(inventory.read(host, wanted.workdir))
    found: Found | None = listed.get(wanted.name)
    if found is None and listed.complete:
        raise Missing(f"cannot find {wanted.name}: {wanted.workdir} has no such environment")
    if found is not None and not found.backend and listed.complete:
        return None
    if found is None or not found.backend or found.environment is None:
        why = (found.problem if found else "") or "; ".join(listed.problems)
        raise Misconfigured(f"cannot tell what to do for {wanted.name}: {why}")
    return found


def remove(report: Report) -> int:
    """Unmount, by force if need be, before CBSD deletes what is mounted."""
    wanted = environment.from_variables(os.environ, _CALLED)
    report.about(wanted.name, report.facility or "none")
    host = Host(report)
    host.deadline.set(2 * _STOPPING)
    try:
        found = _found(host, wanted)
        if found is None:
            return os.EX_OK
        if found.running:
            _stop_by_cbsd(host, found)
        assert found.environment is not None
        hook.act("stop", hook.load(found.backend, found.environment, force=True), Host(report))
    except Error as error:
        error.also("CBSD will now delete what is mounted: interrupt it")
        raise
    return os.EX_OK


def _stop_by_cbsd(host: Host, found: Found) -> None:
    """What CBSD does next anyway: only then the directories can be unmounted."""
    verb = "jstop" if found.is_jail else _STOPS.get(found.emulator, "bstop")
    variables = (f"workdir={found.workdir}", "NOINTER=1")
    result = host.wait(host.run(("env", *variables, "cbsd", verb, "inter=0", f"jname={found.name}"), timeout=_STOPPING))
    if result.status != 0:
        host.report.warn(f"cbsd {verb} {found.name}: {result.words}")
