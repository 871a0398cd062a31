"""Forecast what a start or a stop would do now, by its own decisions on a Rehearsal, for ``plan`` and ``-n``."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Coroutine, Sequence
from typing import Any

from envstart.engine import circuit_breaker, executor
from envstart.engine.plan import LOST, MOUNTED, NOT_MOUNTED, NOT_READY, Observation, Plan, Step, is_guess, stages
from envstart.errors import EnvstartError, TemporaryError, UnavailableError
from envstart.lifecycle import pkg_locking
from envstart.lifecycle.rehearsal import Rehearsal
from envstart.steps import mountpoint, observe
from envstart.steps.mount import Mount
from envstart.system import rundir
from envstart.system.log import Report, printable, tell

Commands = list[tuple[str, ...]]


class Act:
    """Part of a run: how it would treat one step.

    ``problem``: what is missing before a start; ``first``: commands that come before those of all steps; ``error``: why
    the run would refuse, or fail, here.
    """

    def __init__(self, step: Step, state: Observation) -> None:
        """Begin with the step and its state."""
        self.step, self.state = step, state
        self.problem: EnvstartError | None = None
        self.error: EnvstartError | None = None
        self.first: Commands = []
        self.commands: Commands = []


class Forecast:
    """The acts in the order of the run, the error that it would end with, and what it would warn of."""

    def __init__(self, plan: Plan, host: Rehearsal, verb: str) -> None:
        """Rehearse the run of ``verb``."""
        self.verb = verb
        self.error: EnvstartError | None = None
        self._host = host
        self._plan = plan
        states = dict(zip(plan.steps, observe.states(host, plan.steps)))
        # As a start takes them, and the other way round, in which what is unmounted comes.
        self._forwards = [Act(step, states[step]) for group in stages(plan.steps) for step in group]
        self.backwards = self._forwards[::-1]
        self.acts = self._forwards if verb == "start" else self.backwards
        (self._start if verb == "start" else self._stop)()
        self.error = self.error or next((act.error for act in self._forwards if act.error is not None), None)
        self.warnings = list(dict.fromkeys(host.report.warnings))

    def _do(self, act: Act | None, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something of the run's; an EnvstartError is the act's, or that of all."""
        try:
            return self._host.complete(coroutine)
        except EnvstartError as error:
            if act is None:
                self.error = self.error or error
            else:
                act.error = act.error or error
        return None

    def _start(self) -> None:
        """Follow executor.start()."""
        host, plan = self._host, self._plan
        self._do(None, _check_lock_directory())
        self._do(None, circuit_breaker.check(plan, host))
        self._do(None, executor.refuse_twins(host, [step.point for step in plan.steps if step.point]))
        for act in self.acts:
            act.problem = self._do(act, act.step.check(host))
        pending = [act for act in self.acts if act.problem is not None]
        told = len(host.report.warnings)
        for act in pending:
            self._do(act, act.step.preflight_remove_stale(host))
        for act in reversed(pending):
            host.take()
            self._do(act, act.step.remove_stale(host))
            act.first = host.take()
        # What clearing says is among the lines.
        del host.report.warnings[told:]
        for act in pending:
            self._bring(act, [other.step for other in pending])

    def _bring(self, act: Act, pending: list[Step]) -> None:
        host, step = self._host, act.step
        waits = any(step.needs(other) for other in pending if other is not step)
        if isinstance(step, Mount) and not act.first:
            if act.state.status == NOT_MOUNTED:
                if not waits:
                    self._do(act, _prepare(host, step))
                    act.commands = host.take()
            else:
                if not waits:
                    # It stays as it is.
                    act.error = act.error or act.problem
                return
        self._do(act, step.preflight_start(host))
        act.commands += host.take()
        if act.state.status != LOST:
            act.commands += self._required(act)

    def _stop(self) -> None:
        """Follow executor.stop()."""
        host, plan = self._host, self._plan
        try:
            executor.refuse_leftovers(plan)
        except TemporaryError as error:
            self.error = error
        for act in self._forwards:
            self._do(act, act.step.preflight_stop(host))
        if self.error or any(act.error for act in self.acts):
            for act in self.acts:
                act.commands = self._commands(act)
            return
        host.take()
        told = len(host.report.warnings)
        for act in self.acts:
            self._do(act, act.step.force_unresponsive(host))
            act.first = host.take()
        del host.report.warnings[told:]
        for act in self.acts:
            if isinstance(act.step, Mount):
                self._do(act, act.step.stop(host))
                act.commands = host.take()
            else:
                act.commands = self._required(act)

    def _commands(self, act: Act) -> Commands:
        """Return the commands of a step; none where they cannot be told."""
        with contextlib.suppress(EnvstartError):
            return list(self._host.complete(act.step.commands(self._host, self.verb)))
        return []

    def _required(self, act: Act) -> Commands:
        """Return the commands of a step, whose programs must be there."""
        commands = self._commands(act)
        for argv in commands:
            try:
                self._host.require(argv[0])
            except UnavailableError as error:
                act.error = act.error or error
        return commands


async def _check_lock_directory() -> None:
    """Raise what keeps a start from its lock; a directory that is missing is made by the run."""
    if os.geteuid() == 0 and os.path.lexists(rundir.DIR):
        rundir.directory()


async def _prepare(host: Rehearsal, mount: Mount) -> None:
    point = await host.real(mount.point)
    await mountpoint.refuse_links(host, mount, point)
    await mountpoint.prepare(host, mount, point, [])


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
        f"{'# ' if error is not None or not act.state.pastable or is_guess(argv) else ''}{shlex.join(argv)}"
        for argv in commands
    ]


def _why(act: Act, verb: str) -> str:
    state = act.state
    if act.error is not None:
        if state.status in (NOT_MOUNTED, NOT_READY):
            return f"{state}; {verb} would fail"
        return f"{state.status}: {state.detail}; {verb} would refuse and not touch it"
    if verb == "stop":
        if act.first:
            return "unmounted by then"
        if state.status == MOUNTED:
            return "mounted" if act.commands else "mounted; stays, because another jail or VM has mounts from there"
        return str(state) if act.commands else f"{state}; nothing to do"
    if act.problem is None:
        return f"{'mounted' if state.status == MOUNTED else state}; nothing to do"
    if act.first:
        return "mounted anew"
    if act.step.point and not act.commands:
        return f"{state}; looked at again when what it lies on is back"
    if state.status == NOT_MOUNTED:
        return f"not mounted; {state.detail}" if state.detail else "not mounted"
    return str(state)
