"""What a check has found, and the guard that every check runs under."""

from __future__ import annotations

from envstart.config import remedies
from envstart.errors import DeadlineExceededError, EnvstartError, NoResponseError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from envstart.cbsd.inventory import Found, Inventory
    from envstart.engine.plan import Plan
    from envstart.mounts.table import Table

HOST = "host"
CRITICAL, WARNING, NOTE = "critical", "warning", "note"
# How many names a line has room for.
_NAMED = 3


class Finding:
    """Something that is wrong, or will be. ``level``: critical: the next start fails, or hurts; warning: so it will one
    day; note: it may be meant. ``about``: "host", or an environment's name."""

    __slots__ = ("level", "about", "text", "remedy")

    def __init__(self, level: str, about: str, text: str, remedy: str) -> None:
        self.level = level
        self.about = about
        self.text = text
        self.remedy = remedy


class Case:
    """An environment that one of our backends brings, and its plan."""

    __slots__ = ("found", "plan")

    def __init__(self, found: Found, plan: Plan) -> None:
        self.found = found
        self.plan = plan

    @property
    def name(self) -> str:
        """The environment's."""
        return self.found.name


def see_check(workdirs: Sequence[str]) -> str:
    """Return the remedy where something below one of these gives no answer."""
    return f"is it on a dead server? {remedies.known('check', [], workdirs)}"


class Scene:
    """What is examined: the inventories, the environments that have a plan, and the mount table."""

    __slots__ = ("inventories", "cases", "mounts")

    def __init__(self, inventories: Sequence[Inventory], cases: Sequence[Case], mounts: Table) -> None:
        self.inventories = inventories
        self.cases = cases
        self.mounts = mounts

    def see_check(self) -> str:
        """Return the remedy where something gives no answer."""
        return see_check([inventory.workdir for inventory in self.inventories])

    def fstypes(self) -> set[str]:
        """The kinds of all steps of all plans."""
        return {step.fstype for case in self.cases for step in case.plan.steps}


async def guarded(scene: Scene, check: Awaitable[list[Finding]], what: str) -> list[Finding]:
    """A check that cannot be made is a finding like another."""
    try:
        return await check
    except (NoResponseError, DeadlineExceededError) as error:
        return [Finding(WARNING, HOST, f"cannot look at {what}: {error.message}", error.hint or scene.see_check())]
    except EnvstartError as error:
        return [of_error(WARNING, HOST, error)]
    except OSError as error:
        return [Finding(WARNING, HOST, f"cannot look at {what}: {reason(error)}", "try again")]


def of_error(level: str, about: str, error: EnvstartError) -> Finding:
    """Return an error as a finding."""
    return Finding(level, about, error.message, error.hint)


def several(names: Sequence[str]) -> str:
    """Names for one line."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def of_several(level: str, names: Sequence[str], text: str, remedy: str) -> Finding:
    """What concerns all of these environments."""
    if len(names) == 1:
        return Finding(level, names[0], text, remedy)
    return Finding(level, HOST, f"{text} (for {several(names)})", remedy)
