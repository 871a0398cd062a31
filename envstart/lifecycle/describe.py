"""Print what a start or a stop would do now, as lines to paste: for ``plan`` and for ``-n`` of the hooks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from envstart.engine import plan as plans
from envstart.engine.plan import Plan
from envstart.errors import EnvstartError
from envstart.lifecycle import pkg_locking
from envstart.lifecycle.forecast import Act, Forecast
from envstart.lifecycle.rehearsal import Rehearsal
from envstart.system.log import Report, printable, tell


def describe(plan: Plan, report: Report, verb: str) -> None:
    """Print the state and the commands that ``verb`` would run now; raise the error that it would end with."""
    report.planned = plan.subject
    host = Rehearsal(report)
    host.interactive = report.program == "envstart"
    lines = [f"# {verb} {plan.environment.name} ({plan.backend}, {plan.config.path or 'no configuration file'})"]
    lines += [f"# warning: {warning}" for warning in plan.warnings]
    if pkg_locking.needs_locking(plan):
        where = f"{plan.environment.data}/{pkg_locking.CONF}"
        lines.append(f"# pkg(8) in there needs a line in {where}: {pkg_locking.LINE}  (doctor looks for it)")
    forecast = Forecast(plan, host, verb)
    error = forecast.error
    lines += [f"# warning: {printable(warning)}" for warning in forecast.warnings]
    for act in forecast.backwards:
        if act.first:
            lines.append(f"# {_what(act)}: {act.state}; unmount it first")
            lines += _commands(act, act.first, error)
    for act in forecast.acts:
        lines.append(f"# {_what(act)}: {_why(act, verb)}")
        lines += _commands(act, act.commands, error)
    if error is not None:
        lines.append(f"# {verb} would end with exit status {error.status}: {printable(str(error))}")
    tell("\n".join(lines) + "\n")
    if error is not None:
        raise error


def _what(act: Act) -> str:
    return printable(f"{act.step.name}: {act.step.source}{' on ' + act.step.point if act.step.point else ''}")


def _commands(act: Act, commands: Sequence[tuple[str, ...]], error: EnvstartError | None) -> list[str]:
    """Return lines to paste; those that nothing would run, or that say less than the run knows, are comments."""
    return [
        f"{'# ' if error is not None or not act.state.pastable or plans.is_guess(argv) else ''}{shlex.join(argv)}"
        for argv in commands
    ]


def _why(act: Act, verb: str) -> str:
    state = act.state
    if act.error is not None:
        if state.status in (plans.NOT_MOUNTED, plans.NOT_READY):
            return f"{state}; {verb} would fail"
        return f"{state.status}: {state.detail}; {verb} would refuse and not touch it"
    if verb == "stop":
        if act.first:
            return "unmounted by then"
        if state.status == plans.MOUNTED:
            return "mounted" if act.commands else "mounted; stays, because another jail or VM has mounts from there"
        return str(state) if act.commands else f"{state}; nothing to do"
    if act.problem is None:
        return f"{'mounted' if state.status == plans.MOUNTED else state}; nothing to do"
    if act.first:
        return "mounted anew"
    if act.step.point and not act.commands:
        return f"{state}; looked at again when what it lies on is back"
    if state.status == plans.NOT_MOUNTED:
        return f"not mounted; {state.detail}" if state.detail else "not mounted"
    return str(state)
