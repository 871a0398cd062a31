"""Findings of the doctor, what they are made from, and the guard that every check runs under."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from envstart.cbsd.inventory import EnvironmentRecord, Inventory
from envstart.config import remedies
from envstart.engine.plan import Plan
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError, reason
from envstart.mounts.table import Table

HOST = "host"
CRITICAL, WARNING, NOTE = "critical", "warning", "note"
# How many names a line has room for.
_NAMED = 3


class Finding(NamedTuple):
    """Something that is wrong, or will be; the fields are the keys of the JSON document.

    ``level``: critical: the next start fails, or hurts; warning: so it will one day; note: it may be meant. ``about``:
    "host", or a jail's or VM's name.
    """

    level: str
    about: str
    text: str
    remedy: str


# A check, which yields findings; and the checks of one part, each with what it looks at, not yet begun.
Check = AsyncIterator[Finding]
Checks = Iterator[tuple[str, Check]]


class Subject(NamedTuple):
    """Jail or VM that a backend of ours mounts for, and its plan."""

    record: EnvironmentRecord
    plan: Plan

    @property
    def name(self) -> str:
        """Return the name of the jail or VM."""
        return self.record.name


class Context(NamedTuple):
    """The inventories, the jails and VMs that have a plan, and the mount table: what is examined."""

    inventories: Sequence[Inventory]
    subjects: Sequence[Subject]
    mounts: Table

    def see_check(self) -> str:
        """Return the remedy where something gives no answer."""
        return see_check([inventory.workdir for inventory in self.inventories])

    def fstypes(self) -> set[str]:
        """Return the kinds of all steps of all plans."""
        return {step.fstype for subject in self.subjects for step in subject.plan.steps}


def users(context: Context, needs: Callable[[Subject], Iterable[str]]) -> dict[str, list[str]]:
    """Return all that jails and VMs need of something, each with the names of those that do."""
    names: dict[str, list[str]] = {}
    for subject in context.subjects:
        for need in sorted(set(needs(subject))):
            names.setdefault(need, []).append(subject.name)
    return names


def see_check(workdirs: Sequence[str]) -> str:
    """Return the remedy where something below one of these gives no answer."""
    return f"is it on a dead server? {remedies.known('check', [], workdirs)}"


async def guarded(context: Context, what: str, check: Check) -> list[Finding]:
    """Return the findings of a check; one that cannot be made is a finding like another."""
    try:
        return [finding async for finding in check]
    except (NoResponseError, DeadlineExceededError) as error:
        return [Finding(WARNING, HOST, f"cannot look at {what}: {error.message}", error.hint or context.see_check())]
    except EnvstartError as error:
        return [of_error(WARNING, HOST, error)]
    except OSError as error:
        return [Finding(WARNING, HOST, f"cannot look at {what}: {reason(error)}", "try again")]


def of_error(level: str, about: str, error: EnvstartError) -> Finding:
    """Return an error as a finding."""
    return Finding(level, about, error.message, error.hint)


def of_several(level: str, names: Sequence[str], text: str, remedy: str) -> Finding:
    """Return what concerns all of these jails and VMs as one finding."""
    if len(names) == 1:
        return Finding(level, names[0], text, remedy)
    return Finding(level, HOST, f"{text} (for {several(names)})", remedy)


def several(names: Sequence[str]) -> str:
    """Return the names for one line."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def text(findings: Sequence[Finding]) -> str:
    """Return two lines for each finding, the second its remedy; what several jails and VMs share is told once."""
    shared: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        shared.setdefault((finding.level, finding.text, finding.remedy), []).append(finding.about)
    return "".join(
        f"{level.upper()}: {several(abouts)}: {what}\n" + (f"    {remedy}\n" if remedy else "")
        for (level, what, remedy), abouts in shared.items()
    )
