"""Carry out a plan: look, act, look again; on failure undo the acts, newest first (docs/promises.md, 1 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envstart.engine import circuit_breaker, record, start_marks
from envstart.engine.locking import Locks
from envstart.engine.plan import Plan, Step, stages
from envstart.errors import (
    BlockedError,
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    SignalError,
    TemporaryError,
)
from envstart.system.host import Host


def start(plan: Plan, host: Host) -> int:
    """Make everything of the plan so, or leave everything as it was and raise; return how many steps it took."""
    groups = stages(plan.steps)
    host.complete(circuit_breaker.check(plan, host))
    try:
        return _start(plan, host, groups)
    except (TemporaryError, BlockedError):
        host.complete(circuit_breaker.record_failure(plan, host))
        raise


def _start(plan: Plan, host: Host, groups: list[list[Step]]) -> int:
    with Locks(host, plan.locks):
        _survey(plan, host)
        host.complete(refuse_twins(host, [step.point for step in plan.steps if step.point]))
        lacking = host.gather([step.check(host) for step in plan.steps])
        pending = {step.name for step, problem in zip(plan.steps, lacking) if problem is not None}
        recorded = record.save(plan, host.report)
        if not pending:
            start_marks.record_start(plan.locks[0])
            return 0
        host.signals.arm()
        try:
            host.gather([step.preflight_remove_stale(host) for step in plan.steps if step.name in pending])
            for group in reversed(groups):
                host.gather([step.remove_stale(host) for step in group if step.name in pending])
            for group in groups:
                host.journal.begin_stage()
                host.gather([_bring(step, host) for step in group if step.name in pending])
        except BaseException as error:
            failures = _roll_back(host, error)
            if unfinished := host.unfinished():
                start_marks.record_leftovers(plan.locks[0], unfinished)
            if not (failures or unfinished):
                record.restore(plan.environment, recorded)
            raise
        start_marks.record_start(plan.locks[0])
    return len(pending)


def stop(plan: Plan, host: Host, unless: Callable[[], str] = lambda: "") -> None:
    """Undo everything of the plan, last step first, or leave everything as it was and raise (docs/faults.md, 109).

    All are asked before one is touched; one that then turns out to be busy brings those back that went before it.
    ``unless`` is called when the locks are held, and returns why nothing may be touched nonetheless ("": it may).
    """
    groups = stages(plan.steps)
    steps = [step for group in groups for step in group]
    with Locks(host, plan.locks, needed=False):
        why = unless()
        if why:
            raise TemporaryError(f"cannot stop {plan.environment.name}: {why}; it is not touched")
        refuse_leftovers(plan)
        if _survey(plan, host) and host.platform == "freebsd":
            # To touch one waits for an unmount that is under way, which the table leaves out there
            # (docs/freebsd.md#mount-table); if that has failed, it is there again. One reading for all steps.
            host.invalidate()
            host.complete(host.mounts())
        host.gather([step.preflight_stop(host) for step in steps])
        host.signals.arm()
        try:
            # Of these each can take a minute: side by side. An unmount that is at work when another one fails is not
            # cut off; what it has done is taken back with the rest.
            for group in reversed(groups):
                host.gather([step.force_unresponsive(host) for step in group])
            for group in reversed(groups):
                host.journal.begin_stage()
                host.gather([step.stop(host) for step in group])
        except BaseException as error:
            _roll_back(host, error)
            raise
        record.restore(plan.environment, None)


def refuse_leftovers(plan: Plan) -> None:
    """TemporaryError if a command that a start has left behind is still at work."""
    if left := start_marks.leftovers(plan.locks[0]):
        raise TemporaryError(
            f"cannot stop {plan.environment.name}: pid {left[0]}, which a start has left behind since nothing ends "
            "it, can still mount when its server is back",
            hint="stop again then",
        )


def _survey(plan: Plan, host: Host) -> bool:
    """Read the mount table and the directories' real names once for all steps; tell whether any was touched."""
    try:
        return bool(host.complete(host.resolve([place for step in plan.steps for place in step.touched_paths])))
    except (NoResponseError, DeadlineExceededError):
        # One of them lies on something dead; each is asked for by itself then, so that the right one is told.
        return True


async def refuse_twins(host: Host, points: Sequence[str]) -> None:
    """ConfigError if two mount points are one directory by links, as CBSD makes them (docs/cbsd.md#paths-of-a-vm)."""
    points_by_path: dict[str, str] = {}
    for point in points:
        try:
            real = await host.real(point)
        except (NoResponseError, DeadlineExceededError):
            # Who asks for it by itself tells it.
            continue
        if points_by_path.setdefault(real, point) != point:
            raise ConfigError(
                f"cannot mount on {point}: it and {points_by_path[real]} are one directory, {real}",
                hint="replace the links by directories",
            )


async def _bring(step: Step, host: Host) -> None:
    await step.start(host)
    problem = await step.check(host)
    if problem is not None:
        raise problem


def _roll_back(host: Host, error: BaseException) -> list[str]:
    """Roll back, and return what could not be undone, after telling it."""
    has_begun = not host.journal.is_empty()
    failures = host.roll_back()
    text = f"it could not all be taken back: {'; '.join(failures)}"
    if failures and isinstance(error, EnvstartError):
        error.add_note(f"and {text}")
    elif failures:
        host.report.warn(text)
    elif has_begun and isinstance(error, SignalError):
        error.hint = "what this run did was undone"
    return failures
