"""A GELI provider: ``/dev/X`` attached as ``/dev/X.eli`` (geli(8)), and an image file as a disk (mdconfig(8)).

A second attach of what is attached, or in use, fails, and on some kernels the next access then panics the host
(tests/transcripts/geli.txt, last block). So GEOM is asked first, under a lock that all environments share.
"""

from __future__ import annotations

import os

from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.errors import (
    BlockedError,
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
    UnavailableError,
)
from envstart.steps import diagnosis, keyfile
from envstart.steps.block import Block, appears, only_on_freebsd
from envstart.storage import devices, graph

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.load import Config
    from envstart.system.command import Result
    from envstart.system.host import Host

# Of geli attach (docs/freebsd.md#geli-errors), any line; what is not here may heal.
_FINAL: diagnosis.Rows = (
    ("Wrong key for", PermissionDeniedError, "correct GELI_KEYFILE and GELI_PASSFILE"),
    ("Missing -p flag", ConfigError, "it was made without a passphrase: unset GELI_PASSFILE"),
    ("Cannot read passphrase", ConfigError, "it wants a passphrase: set GELI_PASSFILE"),
    ("No key components given", ConfigError, "set GELI_KEYFILE or GELI_PASSFILE"),
    ("Cannot read metadata", ConfigError, "it is no GELI provider; geli init is for you to run"),
    ("Provider size mismatch", ConfigError, "its size has changed: geli resize"),
    ("No valid keys", PermissionDeniedError, "its keys were destroyed; geli restore"),
    ("unsupported algorithms", ConfigError, "this kernel cannot read it"),
    ("Inconsistent provider", ConfigError, "its metadata are damaged; geli restore"),
    ("too long", ConfigError, "shorten the passphrase"),
    ("Cannot open keyfile", NotFoundError, "correct GELI_KEYFILE"),
    ("Cannot open passfile", NotFoundError, "correct GELI_PASSFILE"),
    ("Cannot lock memory", PermissionDeniedError, "raise the limit of locked memory"),
    ("cannot load geom_eli", UnavailableError, "kldload geom_eli"),
    ("not available", UnavailableError, "kldload geom_eli"),
)


class _Attached(Block):
    """What is attached and detached: a provider that GEOM makes of what is below."""

    config: Config

    async def _attached(self, host: Host) -> graph.Provider | None:
        raise NotImplementedError

    def _detaching(self, provider: graph.Provider) -> tuple[str, ...]:
        raise NotImplementedError

    async def device(self, host: Host) -> str | None:
        provider = await self._attached(host)
        return f"/dev/{provider.name}" if provider else None

    async def _appears(self, host: Host, provider: graph.Provider) -> None:
        if not await appears(host, f"/dev/{provider.name}", self.config["PROBE_TIMEOUT"]):
            raise TemporaryError(f"cannot use /dev/{provider.name}: it is attached, but the device does not appear")

    async def stop(self, host: Host) -> None:
        if await self._attached(host) is not None:
            self.journal_stop(host)
            await until_it_heals(lambda: self._detach(host), host, self.source, self.config["ATTEMPTS"])

    async def _detach(self, host: Host) -> None:
        """Never by force, which takes it from under a file system (docs/freebsd.md#geli-detach, #mdconfig)."""
        host.invalidate()
        provider = await self._attached(host)
        if provider is None:
            return
        users = await devices.users(host, provider.name)
        if users:
            raise TemporaryError(
                f"cannot detach {provider.name}: {', '.join(users)} uses it", hint="end that, and stop again"
            )
        result = await host.run(
            self._detaching(provider), timeout=max(5.0, host.deadline.left()), use_rollback_reserve=True
        )
        if await self._attached(host):
            raise TemporaryError(f"cannot detach {provider.name}: {result.words}")


class Provider(_Attached):
    """``lower`` attached. ``read_only`` as the mount above it."""

    fstype = "geli"

    def __init__(self, config: Config, lower: Block, read_only: bool) -> None:
        super().__init__("geli", lower.source, lower)
        self.config = config
        self._keys: tuple[str, ...] = config["GELI_KEYFILE"] or ()
        self._passes: tuple[str, ...] = config["GELI_PASSFILE"] or ()
        self._read_only = read_only

    def _attach(self, device: str, *flags: str) -> tuple[str, ...]:
        words = [*flags]
        if not self._passes:
            words.append("-p")
        if self._read_only:
            words.append("-r")
        for path in self._keys:
            words += ["-k", path]
        for path in self._passes:
            words += ["-j", path]
        # The whole path: a name without it is first looked for in the working directory (docs/freebsd.md#geli-attach).
        return ("geli", "attach", *words, device)

    async def _attached(self, host: Host) -> graph.Provider | None:
        """The .eli of what it lies on, under whatever name it was attached (docs/faults.md, 89)."""
        only_on_freebsd(host, "GELI")
        below = await self.underneath(host)
        mesh = await devices.read(host)
        provider = mesh.provider(below) if below else None
        if provider is None:
            return None
        attached = mesh.on(provider, "ELI")
        return attached[0] if attached else None

    def _detaching(self, provider: graph.Provider) -> tuple[str, ...]:
        return ("geli", "detach", provider.name)

    def expected(self, host: Host) -> str:
        return f"{super().expected(host)}.eli"

    async def check(self, host: Host) -> EnvstartError | None:
        device = await self.device(host)
        return None if device else NotFoundError(f"cannot use {self.source}: it is not attached")

    async def preflight_start(self, host: Host) -> None:
        remedy = "correct GELI_KEYFILE and GELI_PASSFILE"
        await keyfile.check(host, [*self._keys, *self._passes], self.config["PROBE_TIMEOUT"], remedy)

    async def start(self, host: Host) -> None:
        device = await self.below(host)
        await self.preflight_start(host)
        # A wrong key is told without an effect, and before anybody waits for the lock: a passphrase takes seconds.
        dry = await host.run(self._attach(device, "-C"), timeout=host.deadline.left() / 2, read_only=True)
        if dry.status != 0:
            raise _of_attach(dry, device)
        await until_it_heals(lambda: self._attempt(host), host, self.source, self.config["ATTEMPTS"])

    async def _attempt(self, host: Host) -> None:
        device = await self.below(host)
        async with host.locks(["geli"]):
            host.invalidate()
            if await self._attached(host):
                return
            if (await devices.read(host)).provider(device) is None:
                raise TemporaryError(f"cannot attach {device}: it is not there any more", hint="try again")
            users = ", ".join(await devices.users(host, device, blocking=True))
            if users:
                raise TemporaryError(f"cannot attach {device}: it is in use ({users})", hint="end that first")
            host.on_failure(lambda: self._undo_start(host))
            result = await host.run(self._attach(device), timeout=host.deadline.left() / 2, keep_locks=True)
            if result.alive:
                # Another attempt would hang at the same place, and GEOM with it.
                raise BlockedError(f"cannot attach {device}: {result.words}", hint="is what it lies on up?")
            attached = await self._attached(host)
        if attached is None:
            raise _of_attach(result, device)
        await self._appears(host, attached)

    async def _undo_start(self, host: Host) -> None:
        host.invalidate()
        down = await self.why_down(host)
        if down:
            # Closing such a disk can hang like opening it, with all of GEOM; and what is attached goes with the disk.
            host.report.trace(f"{self.source} is not detached: {down}")
            return
        await self._detach(host)

    async def state(self, host: Host) -> plan.State:
        try:
            below = await self.underneath(host)
            provider = await self._attached(host)
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if provider is None:
            return plan.State(plan.NOT_READY, "not attached", start=[self._attach(below or super().expected(host))])
        word = plan.READY if provider.geom.config.get("State", "ACTIVE") == "ACTIVE" else plan.LOST
        return plan.State(word, f"/dev/{provider.name}", stop=[self._detaching(provider)])


class Image(_Attached):
    """A file of this host as a disk. mdconfig(8) makes a second disk of the same file without a word, which destroys
    what is on it; so GEOM is asked first, under a lock (docs/freebsd.md#mdconfig)."""

    fstype = "md"

    def __init__(self, config: Config, path: str, read_only: bool) -> None:
        super().__init__("image", path)
        self.config = config
        self._read_only = read_only

    async def _attached(self, host: Host) -> graph.Provider | None:
        only_on_freebsd(host, "an image file")
        try:
            path = await host.real(self.source)
        except (NoResponseError, DeadlineExceededError) as error:
            raise NoResponseError(
                f"cannot use {self.source}: it gives {error}", hint="is it on a dead server?"
            ) from None
        disks = [provider for provider in await devices.read(host) if _file(provider) == path]
        if len(disks) > 1:
            names = ", ".join(provider.name for provider in disks)
            raise ConfigError(
                f"cannot use {self.source}: it is several disks at once, {names}", hint="mdconfig -d -u all but one"
            )
        return disks[0] if disks else None

    def _detaching(self, provider: graph.Provider) -> tuple[str, ...]:
        return ("mdconfig", "-d", "-u", provider.name)

    def expected(self, host: Host) -> str:
        return "/dev/mdN"

    async def check(self, host: Host) -> EnvstartError | None:
        return None if await self._attached(host) else NotFoundError(f"cannot use {self.source}: it is no disk yet")

    async def start(self, host: Host) -> None:
        async with host.locks(["md"]):
            host.invalidate()
            if await self._attached(host):
                return
            await self._check_other_names(host)
            host.on_failure(lambda: self._detach(host))
            result = await host.run(self._attach(), keep_locks=True)
            disk = await self._attached(host)
        if disk is None:
            kind = (
                NotFoundError
                if "could not open" in result.words or "not a regular file" in result.words
                else TemporaryError
            )
            raise kind(f"cannot make {self.source} a disk: {result.words}")
        await self._appears(host, disk)

    async def _check_other_names(self, host: Host) -> None:
        """ConfigError if it is a disk by another name, that of a hard link or of a nullfs mount."""
        files = {_file(provider): provider.name for provider in await devices.read(host) if _file(provider)}
        try:
            same = await host.call_with_timeout(twins, self.source, list(files), timeout=self.config["PROBE_TIMEOUT"])
        except (NoResponseError, OSError) as error:
            # Some other image is on a dead server.
            host.report.trace(f"cannot tell whether {self.source} is a disk by another name: {error}")
            return
        if same:
            raise ConfigError(
                f"cannot make {self.source} a disk: as {same[0]} it is {files[same[0]]} already",
                hint="mdconfig -d -u that, or use one name everywhere",
            )

    def _attach(self) -> tuple[str, ...]:
        read_only: Sequence[str] = ("-o", "readonly") if self._read_only else ()
        return ("mdconfig", "-a", "-t", "vnode", "-f", self.source, *read_only)

    async def state(self, host: Host) -> plan.State:
        try:
            disk = await self._attached(host)
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if disk is None:
            return plan.State(plan.NOT_READY, "no disk", start=[self._attach()])
        return plan.State(plan.READY, f"/dev/{disk.name}", stop=[self._detaching(disk)])


def _file(provider: graph.Provider) -> str:
    """The file that a memory disk is of; "" for what is none."""
    return {**provider.geom.config, **provider.config}.get("file", "") if provider.geom.kind == "MD" else ""


def twins(path: str, others: list[str]) -> list[str]:
    """Which of these are the same file. Runs in a child. nullfs shows it with a device of its own, so that it is the
    time of its making that counts, where there is one."""

    def identity(name: str) -> tuple[object, ...]:
        status = os.stat(name)
        return status.st_ino, status.st_size, getattr(status, "st_birthtime", status.st_dev)

    own = identity(path)
    return [other for other in others if os.path.exists(other) and identity(other) == own]


def _of_attach(result: Result, device: str) -> EnvstartError:
    final = diagnosis.first(_FINAL, result.words, f"attach {device}")
    return final or TemporaryError(f"cannot attach {device}: {result.words}")
