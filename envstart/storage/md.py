"""An image file of this host as a disk (mdconfig(8)).

mdconfig makes a second disk of the same file without a word, which destroys what is on it; so GEOM is asked first,
under a lock that all share (docs/freebsd.md#mdconfig).
"""

import os

from envstart import errors
from envstart.config import common
from envstart.config.load import Config
from envstart.steps.block import only_on_freebsd
from envstart.storage import devices
from envstart.storage.attached import Attached
from envstart.storage.graph import Provider
from envstart.system.command import Result
from envstart.system.host import Host


class Image(Attached):
    """The disk of the file ``path``."""

    fstype = "md"
    absent = "no disk"

    def __init__(self, config: Config, path: str) -> None:
        """Take the file as it is called, without looking at it."""
        super().__init__(config, "image", path)

    async def attached(self, host: Host) -> str | None:
        """Return the disk that the file is; ConfigError if it is several."""
        only_on_freebsd(host, "an image file")
        try:
            path = await host.real(self.source)
        except (errors.NoResponseError, errors.DeadlineExceededError) as error:
            raise errors.NoResponseError(
                f"cannot use {self.source}: it gives {error}", hint="is it on a dead server?"
            ) from None
        disks = [provider.name for provider in await devices.read(host) if _file(provider) == path]
        if len(disks) > 1:
            raise errors.ConfigError(
                f"cannot use {self.source}: it is several disks at once, {', '.join(disks)}",
                hint="mdconfig -d -u all but one",
            )
        return f"/dev/{disks[0]}" if disks else None

    def detach_argv(self, host: Host, device: str) -> tuple[str, ...]:
        """Return the command that detaches it."""
        return ("mdconfig", "-d", "-u", device.removeprefix("/dev/"))

    def expected(self, host: Host) -> str:
        """Return the device that it will be: its number is not known before."""
        return "/dev/mdN"

    async def attach_argv(self, host: Host) -> tuple[str, ...]:
        """Return the command of mdconfig(8)."""
        options = ("-o", "readonly") if self._read_only else ()
        return ("mdconfig", "-a", "-t", "vnode", "-f", self.source, *options)

    async def start(self, host: Host) -> None:
        """Make it a disk, unless it is one by another name."""
        await self.attach(host)

    async def attach_error(self, host: Host, result: Result) -> errors.EnvstartError:
        """Tell whether the file is missing."""
        missing = "could not open" in result.words or "not a regular file" in result.words
        kind = errors.NotFoundError if missing else errors.TemporaryError
        return kind(f"cannot make {self.source} a disk: {result.words}")

    async def check_free(self, host: Host) -> None:
        """Raise ConfigError if it is a disk by another name, that of a hard link or of a nullfs mount."""
        files = {_file(provider): provider.name for provider in await devices.read(host) if _file(provider)}
        try:
            same = await host.call_with_timeout(
                twins, self.source, list(files), timeout=self.config[common.PROBE_TIMEOUT]
            )
        except (errors.NoResponseError, OSError) as error:
            # Some other image is on a dead server.
            host.report.trace(f"cannot tell whether {self.source} is a disk by another name: {error}")
            return
        if same:
            raise errors.ConfigError(
                f"cannot make {self.source} a disk: as {same[0]} it is {files[same[0]]} already",
                hint="mdconfig -d -u that, or use one name everywhere",
            )


def _file(provider: Provider) -> str:
    """Return the file of a memory disk; "" for what is none."""
    return {**provider.geom.config, **provider.config}.get("file", "") if provider.geom.kind == "MD" else ""


def twins(path: str, others: list[str]) -> list[str]:
    """Return the other names of the same file. For a child."""

    def identity(name: str) -> tuple[object, ...]:
        status = os.stat(name)
        # nullfs shows it with a device of its own: so the time of its making counts, where there is one.
        return status.st_ino, status.st_size, getattr(status, "st_birthtime", status.st_dev)

    own = identity(path)
    return [other for other in others if os.path.exists(other) and identity(other) == own]
