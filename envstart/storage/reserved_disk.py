"""A SCSI disk that can be reserved: what it says of its keys and their holder, and the commands that change that.

They are those of camcontrol(8) persist on FreeBSD, and of sg_persist(8) of sg3-utils on Linux.
"""

from collections.abc import Callable
from typing import TypeVar

from envstart.errors import ConfigError, NoResponseError, TemporaryError
from envstart.storage import devices
from envstart.system.command import Result
from envstart.system.host import Host

# A command that meets a unit attention (somebody cleared, or took, a reservation) fails once without a word.
TRIES = 3
# Seconds the disk may take to answer a command, which is a matter of milliseconds.
_TIMEOUT = 15.0
# In each row FreeBSD's, then Linux's.
_PLATFORMS = ("freebsd", "linux")
# Without the inquiry whose answer sg_persist would print first.
_COMMAND = ("camcontrol persist {disk} {act}", "sg_persist --no-inquiry {act} /dev/{disk}")
# The type is write exclusive; ``key`` is this host's, ``other`` the one that it takes the reservation from.
_ACTS = {
    "read keys": ("-i read_keys", "--in --read-keys"),
    "read holder": ("-i read_reservation", "--in --read-reservation"),
    "read all": ("-i read_full_status", "--in --read-full-status"),
    "register": ("-o register_ignore -K {key}", "--out --register-ignore --param-sark={key}"),
    "unregister": ("-o register -k {key} -K 0", "--out --register --param-rk={key} --param-sark=0"),
    "preempt": (
        "-o preempt -k {key} -K {other} -T wr_ex",
        "--out --preempt --param-rk={key} --param-sark={other} --prout-type=1",
    ),
    "reserve": ("-o reserve -k {key} -T wr_ex", "--out --reserve --param-rk={key} --prout-type=1"),
    "release": ("-o release -k {key} -T wr_ex", "--out --release --param-rk={key} --prout-type=1"),
}
# Patterns of what they print: the keys, the holder's key, the name of the holder's initiator. That stands behind "iSCSI
# world wide unique port id: " or, in other versions of sg_persist, "iSCSI name and session id: ".
_PRINTED = {
    "read keys": (r"(?m)^\s*\d+: (0x.*)", r"(?m)^\s*(0x.*)"),
    "read holder": (r"Reservation Key:\s*(\S+)", r"Key=\s*(\S+)"),
    "read all": (
        r"(?s)Reservation Holder \(R_HOLDER\): 1.*?iSCSI address: ([^,\n]*)",
        r"(?s)<< Reservation holder >>.*?\n\s*iSCSI [^\n]*?: ([^,\n]*)",
    ),
}
_T = TypeVar("_T")


class ReservedDisk:
    """The whole disk ``name``, whoever has reserved it."""

    def __init__(self, host: Host, name: str, source: str) -> None:
        """Ask nothing yet; ``source``: what is to be reserved, for messages."""
        self.name = name
        self._host = host
        self._source = source
        self._column = _PLATFORMS.index(host.platform)

    async def keys(self) -> list[int]:
        """Return the keys that are registered, of all hosts."""
        return await self._read("read keys", _key)

    async def holder(self) -> int | None:
        """Return the key of the host that holds the reservation; None if none does."""
        keys = await self._read("read holder", _key)
        return keys[0] if keys else None

    async def holding_initiator(self) -> str:
        """Return the name of the initiator that holds the reservation; "" if it is not told."""
        return next(iter(await self._read("read all", str.strip)), "")

    def argv(self, act: str, key: int = 0, other: int = 0) -> tuple[str, ...]:
        """Return the command of an act."""
        words = _ACTS[act][self._column].format(key=f"{key:#x}", other=f"{other:#x}")
        return tuple(_COMMAND[self._column].format(disk=self.name, act=words).split())

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

    async def _read(self, act: str, convert: Callable[[str], _T]) -> list[_T]:
        import re

        def parse(result: Result) -> list[_T]:
            if result.status != 0:
                raise ValueError(result.words)
            return [convert(text) for text in re.findall(_PRINTED[act][self._column], result.out)]

        argv = self.argv(act)
        for left in reversed(range(TRIES)):
            try:
                return await self._host.ask(argv, parse, timeout=_TIMEOUT)
            except NoResponseError as error:
                hint = f"is the target up? ({error})"
                raise NoResponseError(f"{self.name} gives {argv[0]}(8) no answer", hint=hint) from None
            except TemporaryError as error:
                if not left:
                    error.hint = "does the disk support persistent reservations?"
                    raise
        raise AssertionError


def _key(text: str) -> int:
    return int(text, 16)


async def disk_of(host: Host, device: str, source: str) -> ReservedDisk:
    """Return the whole disk that a device is, or is a partition of: it is what is reserved."""
    provider = (await devices.read(host)).provider(device)
    while provider is not None and provider.geom.kind in ("PART", "LABEL") and provider.geom.consumers:
        provider = provider.geom.consumers[0].provider
    if provider is None or provider.geom.kind != "DISK":
        raise ConfigError(f"cannot reserve {device}: it is no SCSI disk")
    return ReservedDisk(host, provider.name, source)
