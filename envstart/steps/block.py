"""Steps that make or guard a block device: each lies on another one, and the last one is a device."""

from __future__ import annotations

import os

from envstart.engine import plan
from envstart.errors import NotFoundError, TemporaryError, UnavailableError
from envstart.system.host import Host, Polling


class Block(plan.Step):
    """A step that makes, or guards, a block device. It needs the one it lies on, ``lower``."""

    point = ""

    def __init__(self, name: str, source: str, lower: Block | None = None) -> None:
        """Take the name in the plan, what it is for people, and the step that it lies on."""
        self.name, self.source, self.lower = name, source, lower

    def needs(self, other: plan.Step) -> bool:
        """Tell if it lies on the other."""
        return other is self.lower

    async def device(self, host: Host) -> str | None:
        """Return the device ``/dev/NAME`` that the next step works on, as far as it is there; else None."""
        return await self.underneath(host)

    async def underneath(self, host: Host) -> str | None:
        """Return the device of the step that this one lies on."""
        return await self.lower.device(host) if self.lower is not None else None

    def expected(self, host: Host) -> str:
        """Return the device it will be, as far as that can be told, for plan: a number not known yet is N."""
        return self.lower.expected(host) if self.lower is not None else self.source

    async def why_down(self, host: Host) -> str:
        """Return why whoever touches the device would wait for ever, without touching it; "" if nothing says so."""
        return await self.lower.why_down(host) if self.lower is not None else ""

    async def recheck_down(self, host: Host) -> str:
        """Return why_down() of a device that has just given no answer: it is looked at anew."""
        host.invalidate()
        below = await self.lower.recheck_down(host) if self.lower is not None else ""
        return below or await self.why_down(host)

    async def fail_pending_io(self, host: Host) -> None:
        """Let what waits for a dead device fail, by force: only if why_down() says so, and nobody else is hurt."""
        if self.lower is not None:
            await self.lower.fail_pending_io(host)

    async def below(self, host: Host) -> str:
        """Return the device of ``lower``, which must be there by now; TemporaryError."""
        device = await self.underneath(host)
        if device is None:
            raise TemporaryError(f"cannot use {self.source}: what it lies on is not there any more", hint="try again")
        return device


class Node(Block):
    """A provider that is there by itself: a disk, a partition, a label."""

    fstype = "provider"

    def __init__(self, path: str, timeout: float) -> None:
        """Take the path, and the seconds that it may take to appear."""
        super().__init__("provider", path)
        self._timeout = timeout

    async def device(self, host: Host) -> str | None:
        """Return the device without links, as far as it is there."""
        if not os.path.exists(self.source):
            return None
        # GEOM knows no link, as devfs.conf(5) makes them.
        real = os.path.realpath(self.source)
        return real if real.startswith("/dev/") else self.source

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell if the device is there."""
        if os.path.exists(self.source):
            return plan.Observation(plan.READY)
        return plan.Observation(plan.NOT_READY, problem=self._lacking())

    async def start(self, host: Host) -> None:
        """Labels and disks can come a moment after boot."""
        if not await appears(host, self.source, self._timeout):
            raise self._lacking()

    def _lacking(self) -> NotFoundError:
        return NotFoundError(
            f"cannot find {self.source}: there is no such device",
            hint="a label vanishes while its disk is in use by another name: look at geom -t and glabel status",
        )

    async def stop(self, host: Host) -> None:
        """Leave it: it was there before us."""


async def appears(host: Host, path: str, timeout: float) -> bool:
    """Wait for a device node. devfs answers at once, whatever the device does; so it can be asked directly."""
    polling = Polling(host, timeout, path)
    while not os.path.exists(path):
        if not await polling.again():
            return False
    return True


def is_node(device: str, number: str) -> bool:
    """Tell if a device node has this ``major:minor``, as the mount table of Linux names what is mounted."""
    try:
        status = os.stat(device)
    except OSError:
        return False
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" == number


def only_on_freebsd(host: Host, what: str) -> None:
    """UnavailableError elsewhere."""
    if host.platform != "freebsd":
        text = f"cannot use {what} here: envstart knows it on FreeBSD only"
        raise UnavailableError(text, hint="mount it by other means")
