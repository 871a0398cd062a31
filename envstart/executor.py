"""The order of things: look, act, look again; on failure take back what was done, newest first (promises 1 and 4).

Knows nothing about file systems; the steps do.
"""

from __future__ import annotations

from .errors import Error
from .plan import waves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host
    from .plan import Plan, Step


def start(plan: Plan, host: Host) -> int:
    """Make everything of the plan so, or leave everything as it was and raise; returns how many steps it took."""
    groups = waves(plan.steps)
    with host.locks(plan.locks):
        host.wait(host.mounts())
        lacking = host.together([step.check(host) for step in plan.steps])
        pending = {step.name for step, lack in zip(plan.steps, lacking) if lack is not None}
        if not pending:
            return 0
        host.signals.arm()
        try:
            for group in groups:
                host.wave()
                host.together([_bring(step, host) for step in group if step.name in pending])
        except BaseException as error:
            failures = host.roll_back()
            if isinstance(error, Error) and failures:
                error.also(f"and it could not all be taken back: {'; '.join(failures)}")
            raise
    return len(pending)


async def _bring(step: Step, host: Host) -> None:
    await step.start(host)
    lack = await step.check(host)
    if lack is not None:
        raise lack


def stop(plan: Plan, host: Host) -> None:
    """Take everything of the plan away, last step first; the first that cannot be stopped ends it.

    All are asked before one is touched, so that a stop that cannot succeed changes nothing (fault 109).
    """
    steps = [step for group in waves(plan.steps) for step in group]
    with host.locks(plan.locks):
        host.wait(host.mounts())
        host.together([step.before_stop(host) for step in steps])
        for step in reversed(steps):
            host.wait(step.stop(host))
