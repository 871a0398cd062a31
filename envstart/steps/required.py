"""A directory that must be a mount point before anything in it is used.

Where the disk is not mounted, what lies there are the empty directories that the mount would hide.
"""

from __future__ import annotations

from collections.abc import Sequence

from envstart.config.load import Config
from envstart.config.schema import SELF, Option
from envstart.engine import plan
from envstart.errors import ConfigError, DeadlineExceededError, NoResponseError, TemporaryError
from envstart.paths import is_below
from envstart.system.host import Host


def steps(config: Config, key: Option[str], used: str, itself: str) -> list[plan.Step]:
    """Return what looks at the directory that the key names, if it names one: ``used`` must lie in it."""
    path = itself if config[key] == SELF else config[key]
    if not path:
        return []
    if not is_below(used, path):
        raise ConfigError(f"cannot use {key.name}={path}: {used} does not lie in it", hint="correct one of them")
    return [MountedDirectory(key.name, path)]


class MountedDirectory(plan.Step):
    """A mount point that is somebody else's: it is looked at, and never touched."""

    name, point, fstype = "required", "", "mount point"

    def __init__(self, key: str, path: str) -> None:
        """Take the key that asks for it, and its path."""
        self.source, self._key = path, key

    @property
    def touched_paths(self) -> Sequence[str]:
        """Return the directory."""
        return (self.source,)

    def needs(self, other: plan.Step) -> bool:
        """Tell that it needs nothing."""
        return False

    async def inspect(self, host: Host) -> plan.Observation:
        """Return a refusal if it is no mount point: no run can mend that."""
        cannot = f"cannot use what lies in {self.source}"
        try:
            real = await host.real(self.source)
        except (NoResponseError, DeadlineExceededError) as error:
            raise TemporaryError(f"{cannot}: it gives {error}", hint="is it on a dead server?") from None
        if (await host.mounts()).at(real):
            return plan.Observation(plan.READY)
        text = f"it is no mount point, which {self._key} asks for"
        refusal = TemporaryError(f"{cannot}: {text}", hint=f"mount {self.source}, and start again")
        return plan.Observation(plan.NOT_READY, text, refusal=refusal)

    async def start(self, host: Host) -> None:
        """Raise if it is no mount point."""
        await self.check(host)

    async def stop(self, host: Host) -> None:
        """Leave it: it was there before us."""
