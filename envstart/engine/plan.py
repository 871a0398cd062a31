"""Describe a plan: steps in order, each a reversible act. Pure; executor.py carries the acts out."""

from collections.abc import Sequence
from typing import NamedTuple

from envstart.config.load import Config
from envstart.environment import Environment, Subject, file_name
from envstart.errors import ConfigError, EnvstartError
from envstart.paths import path_digest
from envstart.system.host import Host

# Name or address, and TCP port.
Server = tuple[str, int]
# States of a step, as `envstart status` shows them: of a mount, and of what lies below one.
MOUNTED = "mounted"
NOT_MOUNTED = "not mounted"
WRONG_SOURCE = "wrong source"
STACKED = "stacked"
UNKNOWN = "unknown"
READY = "ready"
NOT_READY = "not ready"
DEGRADED = "degraded"
LOST = "lost"
# Of a mount that was looked at.
NO_ANSWER = "no answer"
BROKEN = "broken"
NOT_USABLE = "not usable"
NOT_WRITABLE = "not writable"
# What `envstart check` says of them; what is not here is critical.
LEVELS = {MOUNTED: "ok", READY: "ok", DEGRADED: "warning", NOT_WRITABLE: "warning", UNKNOWN: "unknown"}
# How devices begin of which only a start learns the number: see Block.expected().
_NUMBERED = ("daN", "sdN", "mdN", "ggateN", "rbdN")


def is_guess(argv: Sequence[str]) -> bool:
    """Tell whether a command names a device whose number is not known yet."""
    return any(word.removeprefix("/dev/").startswith(_NUMBERED) for word in argv)


class Observation(NamedTuple):
    """Result of a look at a step: its ``status`` (a word from above), and what is there in ``detail``.

    ``problem``: what a start would mend; ``refusal``: why it would leave all as it is. ``warning``: what it would tell,
    and go on. ``pastable``: the commands of the step need nothing else than what they say.
    """

    status: str
    detail: str = ""
    problem: EnvstartError | None = None
    refusal: EnvstartError | None = None
    warning: str = ""
    pastable: bool = True

    def __str__(self) -> str:
        """Return the status, and the detail in parentheses."""
        return f"{self.status} ({self.detail})" if self.detail else self.status

    def settle(self) -> EnvstartError | None:
        """Return the problem that a start would mend; raise the refusal."""
        if self.refusal is not None:
            raise self.refusal
        return self.problem


class Step:
    """One reversible act. A subclass holds what the plan says; what there is, it asks the host each time."""

    # Its part of the jail or VM: "data", "system", "fstab", "rcconf" ... ; unique in a plan.
    name: str
    # The result, for people: source, directory ("" if it is none), kind.
    source: str
    point: str
    fstype: str
    # A resource that other environments use too; one at a time works on it ("": none).
    resource: str = ""
    # Whom it needs: one of them must be up.
    servers: tuple[Server, ...] = ()

    @property
    def touched_paths(self) -> Sequence[str]:
        """Return the directories whose real names it asks for (Host.real)."""
        return (self.point,) if self.point else ()

    def needs(self, other: "Step") -> bool:
        """Tell whether ``other`` must be started before this one."""
        raise NotImplementedError

    async def inspect(self, host: Host) -> Observation:
        """Return what there is, without an effect; raise what keeps it from being told."""
        raise NotImplementedError

    async def observe(self, host: Host) -> Observation:
        """Return what there is, for people: UNKNOWN where that cannot be told."""
        try:
            return await self.inspect(host)
        except (EnvstartError, OSError) as error:
            return Observation(UNKNOWN, str(error))

    async def check(self, host: Host) -> EnvstartError | None:
        """Return what a start has to mend, None if nothing; raise if what is there must be left alone."""
        observation = await self.inspect(host)
        if observation.warning:
            host.report.warn(observation.warning)
        return observation.settle()

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the commands that ``verb``, start or stop, would run now, for plan; raise if that cannot be told."""
        return ()

    async def preflight_remove_stale(self, host: Host) -> None:
        """Raise if remove_stale() cannot succeed: called for all steps before the first is cleared."""

    async def remove_stale(self, host: Host) -> None:
        """Remove what is broken, before anything is started: what lies on top of others comes first."""

    async def preflight_start(self, host: Host) -> None:
        """Raise what start() would end with before it changes anything, as far as that can be told now: for plan."""

    async def start(self, host: Host) -> None:
        """Make it so. What undoes an act is journalled (``host.on_failure``) before the act."""
        raise NotImplementedError

    async def preflight_stop(self, host: Host) -> None:
        """Raise if stop() cannot succeed: called for all steps before the first is stopped."""

    async def force_unresponsive(self, host: Host) -> None:
        """Undo by force what gives no answer, and never comes back, before the first step is stopped."""

    async def stop(self, host: Host) -> None:
        """Undo it; nothing to do is success. journal_stop() comes before the act, if there is one."""
        raise NotImplementedError

    def journal_stop(self, host: Host) -> None:
        """Journal a start, in case the stop fails, however far it came."""

        async def restart() -> None:
            if await self.check(host) is not None:
                await self.start(host)

        host.on_failure(restart)


class Plan(NamedTuple):
    """The steps of one jail or VM, in the order of starting; stopping goes the other way round."""

    backend: str
    environment: Environment
    config: Config
    steps: Sequence[Step]
    doubts: Sequence[str] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return doubts about the configuration, for plan and doctor: too weak to be told at every start."""
        return (*self.config.notes, *self.doubts)

    @property
    def subject(self) -> Subject:
        """Return what a command line of the tool must name to mean this plan."""
        return Subject(self.backend, self.environment, self.config.path)

    @property
    def locks(self) -> list[str]:
        """Return the locks to hold, in the order to take them: the jail's or VM's own, then the shared ones.

        Two workdirs can have environments of one name, so the place is in the name.
        """
        shared = sorted({f"shared.{path_digest(step.resource)}" for step in self.steps if step.resource})
        return [file_name(self.environment), *shared]


def stages(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the steps in groups that can be started side by side: each after those that it needs."""
    ordered: list[list[Step]] = []
    remaining = list(steps)
    while remaining:
        ready = [step for step in remaining if not any(step.needs(other) for other in remaining if other is not step)]
        if not ready:
            names = " and ".join(step.name for step in remaining)
            raise ConfigError(f"cannot order {names}: each needs the other")
        ordered.append(ready)
        remaining = [step for step in remaining if step not in ready]
    return ordered
