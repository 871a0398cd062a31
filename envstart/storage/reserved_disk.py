"""A SCSI disk that can be reserved: what it says of its keys and their holder, and the commands that change that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from envstart.errors import ConfigError, NoResponseError, TemporaryError
from envstart.storage import devices
from envstart.system.command import Result
from envstart.system.host import Host

# A command that meets a unit attention (somebody cleared, or took, a reservation) fails once without a word.
TRIES = 3
# Seconds the disk may take to answer a command, which is a matter of milliseconds.
_TIMEOUT = 15.0


class _Commands(Protocol):
    """The functions that reservation_freebsd and reservation_linux have in common."""

    def argv(self, act: str, disk: str, key: int = 0, other: int = 0) -> tuple[str, ...]: ...
    def keys(self, text: str) -> list[int]: ...
    def holder(self, text: str) -> int | None: ...
    def holding_initiator(self, text: str) -> str: ...


def _commands_of(host: Host) -> _Commands:
    if host.platform == "freebsd":
        from envstart.storage import reservation_freebsd

        return reservation_freebsd
    from envstart.storage import reservation_linux

    return reservation_linux


class ReservedDisk:
    """The whole disk ``name``, whoever has reserved it."""

    def __init__(self, host: Host, name: str, source: str) -> None:
        """Ask nothing yet; ``source``: what is to be reserved, for messages."""
        self.name = name
        self._host = host
        self._source = source
        self._commands = _commands_of(host)

    async def keys(self) -> list[int]:
        """Return the keys that are registered, of all hosts."""
        keys: list[int] = await self._read("read keys", self._commands.keys)
        return keys

    async def holder(self) -> int | None:
        """Return the key of the host that holds the reservation; None if none does."""
        key: int | None = await self._read("read holder", self._commands.holder)
        return key

    async def holding_initiator(self) -> str:
        """Return the name of the initiator that holds the reservation; "" if it is not told."""
        return str(await self._read("read all", self._commands.holding_initiator))

    def argv(self, act: str, key: int = 0, other: int = 0) -> tuple[str, ...]:
        """Return the command of an act."""
        return self._commands.argv(act, self.name, key, other)

    async def run(self, act: str, key: int, other: int = 0) -> bool:
        """Tell whether the disk has taken a command; NoResponseError if it gives no answer."""
        timeout = max(5.0, min(_TIMEOUT, self._host.deadline.left() / 2))
        result = await self._host.run(self.argv(act, key, other), timeout=timeout, use_rollback_reserve=True)
        if result.status is None:
            raise NoResponseError(
                f"cannot reserve {self._source}: {self.name} gives {result.words}", hint="is the target up?"
            )
        return result.status == 0

    async def insist(self, act: str, key: int, other: int = 0) -> bool:
        """Tell whether the disk has taken a command, be it at the second or third try."""
        for _ in range(TRIES):
            if await self.run(act, key, other):
                return True
        return False

    async def _read(self, act: str, parse: Callable[[str], Any]) -> Any:
        argv = self.argv(act)
        for left in reversed(range(TRIES)):
            try:
                return await self._host.ask(argv, lambda result: parse(_output(result)), timeout=_TIMEOUT)
            except NoResponseError as error:
                hint = f"is the target up? ({error})"
                raise NoResponseError(f"{self.name} gives {argv[0]}(8) no answer", hint=hint) from None
            except TemporaryError as error:
                if not left:
                    error.hint = "does the disk support persistent reservations?"
                    raise
        raise AssertionError


async def disk_of(host: Host, device: str, source: str) -> ReservedDisk:
    """Return the whole disk that a device is, or is a partition of: it is what is reserved."""
    provider = (await devices.read(host)).provider(device)
    while provider is not None and provider.geom.kind in ("PART", "LABEL") and provider.geom.consumers:
        provider = provider.geom.consumers[0].provider
    if provider is None or provider.geom.kind != "DISK":
        raise ConfigError(f"cannot reserve {device}: it is no SCSI disk")
    return ReservedDisk(host, provider.name, source)


def _output(result: Result) -> str:
    if result.status != 0:
        raise ValueError(result.words)
    return result.out
