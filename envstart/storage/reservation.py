"""A SCSI-3 persistent reservation: of all hosts that reach the disk, only this one writes.

The type is write_exclusive. With the "registrants only" types every host that registers may write, and registering is
open to all (tests/transcripts/iscsi-reservations.txt: the second node's write succeeds); with this one only the holder
does. It belongs to one session: hence not with multipath, and hence it is taken anew by each start.
"""

from __future__ import annotations

from envstart.engine import plan
from envstart.errors import BlockedError, ConfigError, EnvstartError, NoResponseError, TemporaryError
from envstart.steps.block import Block
from envstart.storage import devices, reservation_argv
from envstart.storage.host_mark import host_id, host_id_hint
from envstart.storage.iscsi_initiator import initiator_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from envstart.config.load import Config
    from envstart.storage.fsck import Fsck
    from envstart.system.command import Result
    from envstart.system.host import Host

# A command that meets a unit attention (somebody cleared, or took, a reservation) fails once without a word.
_TRIES = 3
# Seconds the disk may take to answer a command, which is a matter of milliseconds.
_PATIENCE = 15.0
_KEY_BITS = 64


class Reservation(Block):
    """The reservation of the disk that ``lower`` is."""

    fstype = "scsi3"

    def __init__(self, config: Config, lower: Block) -> None:
        super().__init__("reservation", lower.source, lower)
        self.config = config
        # The look at the file system that is on it, if it can be had without the steps in between.
        self.guard: Fsck | None = None
        # The device on which this run has seen to it.
        self._seen_to = ""

    async def check(self, host: Host) -> EnvstartError | None:
        device = await self.underneath(host)
        lacking = TemporaryError(f"cannot use {self.source}: it is not reserved for this host")
        if device is None:
            return lacking
        own, holder = await own_key(host), await self._holder(host, device)
        used = await self._used(host, device)
        if used and holder not in (None, own):
            raise BlockedError(
                f"cannot use {self.source}: it is in use here, but the host with key {holder:#x} has taken the "
                "reservation over",
                hint="stop the jail or VM here at once (STOP_FORCE=1)",
            )
        # That the key is ours does not tell whether this session holds it, or one from before a restart.
        return None if holder == own and (used or self._seen_to == device) else lacking

    async def _used(self, host: Host, device: str) -> bool:
        graph = await devices.read(host)
        provider = graph.provider(device)
        return provider is not None and bool(graph.users(provider))

    async def why_down(self, host: Host) -> str:
        """Also when another host has taken it over: what this one would still write is refused."""
        down = await super().why_down(host)
        device = None if down else await self.underneath(host)
        if device is None or not await self._used(host, device):
            return down
        try:
            holder = await self._holder(host, device)
        except NoResponseError as error:
            # The session is not yet known to be down.
            return str(error)
        other = holder is not None and holder != await own_key(host)
        return f"the host with key {holder:#x} has taken the reservation over, so that it cannot write" if other else ""

    async def start(self, host: Host) -> None:
        device = await self.below(host)
        disk = await self._disk(host, device)
        own, holder = await own_key(host), await self._holder(host, device)
        if holder is not None and holder != own and not host.takeover:
            from envstart.config import remedies

            raise BlockedError(
                f"cannot reserve {self.source}: the host with key {holder:#x} holds it",
                hint="stop the jail or VM there, "
                f"or, if that host is known to be down: {remedies.of_plan(host.report.plan, 'recover', '--preempt')}",
            )
        if holder == own:
            await self._check_whose(host, disk, own)
        if holder is None and self.guard is not None and not host.takeover and not await self._used(host, device):
            # A target that was started anew has forgotten its reservations, and the host that had one writes on: what
            # it writes while this one holds it, if only for a moment, would fail.
            await self.guard.refuse_foreign(host, device)
        host.on_failure(lambda: self._undo_start(host, disk))
        await self._register(host, disk, own)
        if holder is not None and holder != own:
            host.report.warn(f"{self.source}: taking it over from the host with key {holder:#x}")
        taken = await self._take(host, disk, own, holder)
        holder = await self._holder(host, device)
        if holder != own or not taken:
            whose = "nobody holds it" if holder is None else f"the host with key {holder:#x} holds it"
            raise BlockedError(
                f"cannot reserve {self.source}: {whose}", hint="does the target support persistent reservations?"
            )
        self._seen_to = device

    async def _take(self, host: Host, disk: str, own: int, holder: int | None) -> bool:
        # Of a session that was cut off; nobody can give that one back, and the next stop would leave it to the target.
        left = (await self._keys(host, disk)).count(own) > 1
        if holder in (None, own):
            if await self._done(host, disk, reservation_argv.RESERVE, own):
                if left:
                    await self._done(host, disk, reservation_argv.PREEMPT, own, own)
                return True
            if await self._holder(host, f"/dev/{disk}") != own:
                return False
            # An earlier session of this host's holds it; it becomes this one's, and the old registration goes.
            await self._check_whose(host, disk, own)
            holder = own
        return await self._done(host, disk, reservation_argv.PREEMPT, own, holder)

    async def _done(self, host: Host, disk: str, act: str, own: int, other: int = 0) -> bool:
        """Whether the disk has taken it, be it at the second or third try."""
        for _ in range(_TRIES):
            if (await self._persist(host, disk, act, own, other)).status == 0:
                return True
        return False

    async def _register(self, host: Host, disk: str, own: int) -> None:
        for _ in range(_TRIES):
            await self._persist(host, disk, reservation_argv.REGISTER, own)
            if own in await self._keys(host, disk):
                return
        raise TemporaryError(
            f"cannot register with {self.source}: {disk} takes no key", hint="does it support reservations?"
        )

    async def _check_whose(self, host: Host, disk: str, own: int) -> None:
        """Two hosts with one host id would take each other's reservation for their own."""
        name: str = await self._read(host, disk, reservation_argv.READ_ALL, reservation_argv.holding_initiator)
        own_name = initiator_of(host).own_name(self.config)
        if name and own_name and name.lower() != own_name.lower():
            raise ConfigError(
                f"cannot reserve {self.source}: {name} holds it with this host's key {own:#x}; "
                f"two hosts have the same {host_id_hint(host)} on one"
            )

    async def stop(self, host: Host) -> None:
        device = await self.underneath(host)
        if device is None:
            return
        disk = await self._disk(host, device)
        own = await own_key(host)
        held = await self._holder(host, device) == own
        if held:
            self.journal_stop(host)
        if held or own in await self._keys(host, disk):
            await self._release(host, disk)

    async def _undo_start(self, host: Host, disk: str) -> None:
        host.invalidate()
        down = await super().why_down(host)
        if not down and await self.underneath(host) is None:
            down = "there is no session any more"
        if down:
            raise TemporaryError(
                f"cannot release {self.source}: {down}; the next start here takes the reservation over"
            )
        await self._release(host, disk)

    async def _release(self, host: Host, disk: str) -> None:
        """Give back what is ours, and only that."""
        own = await own_key(host)
        for _ in range(_TRIES):
            if await self._holder(host, f"/dev/{disk}") == own:
                await self._persist(host, disk, reservation_argv.RELEASE, own)
            if own not in await self._keys(host, disk):
                return
            await self._persist(host, disk, reservation_argv.UNREGISTER, own)
        if await self._holder(host, f"/dev/{disk}") == own:
            raise TemporaryError(f"cannot release {self.source}: {disk} is still reserved with key {own:#x}")

    async def state(self, host: Host) -> plan.State:
        try:
            device = await self.underneath(host)
            own = await own_key(host)
            holder = await self._holder(host, device) if device else None
            disk = await self._disk(host, device) if device else self.expected(host).removeprefix("/dev/")
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if holder == own:
            stop = [
                reservation_argv.argv(host.platform, act, disk, own)
                for act in (reservation_argv.RELEASE, reservation_argv.UNREGISTER)
            ]
            return plan.State(plan.READY, f"key {own:#x}", stop=stop)
        if holder is not None:
            return plan.State(plan.LOST, f"the host with key {holder:#x} holds it")
        start = [
            reservation_argv.argv(host.platform, act, disk, own)
            for act in (reservation_argv.REGISTER, reservation_argv.RESERVE)
        ]
        return plan.State(plan.NOT_READY, "not reserved", start=start)

    # What the disk says.

    async def _disk(self, host: Host, device: str) -> str:
        """The whole disk that the device is, or is a partition of: it is what is reserved."""
        graph = await devices.read(host)
        provider = graph.provider(device)
        while provider is not None and provider.geom.kind in ("PART", "LABEL") and provider.geom.consumers:
            provider = provider.geom.consumers[0].provider
        if provider is None or provider.geom.kind != "DISK":
            raise ConfigError(f"cannot reserve {device}: it is no SCSI disk")
        return provider.name

    async def _holder(self, host: Host, device: str) -> int | None:
        """The key of whoever holds it; None if nobody does."""
        disk = await self._disk(host, device)
        key: int | None = await self._read(host, disk, reservation_argv.READ_HOLDER, reservation_argv.holder)
        return key

    async def _keys(self, host: Host, disk: str) -> list[int]:
        """The keys that are registered, of all hosts."""
        keys: list[int] = await self._read(host, disk, reservation_argv.READ_KEYS, reservation_argv.keys)
        return keys

    async def _read(self, host: Host, disk: str, what: str, parse: Callable[[str, str], Any]) -> Any:
        argv = reservation_argv.argv(host.platform, what, disk)
        for left in reversed(range(_TRIES)):
            try:
                return await host.ask(argv, lambda result: parse(host.platform, _output(result)), timeout=_PATIENCE)
            except NoResponseError as error:
                raise NoResponseError(
                    f"{disk} gives {argv[0]}(8) no answer", hint=f"is the target up? ({error})"
                ) from None
            except TemporaryError as error:
                if not left:
                    error.hint = "does the disk support persistent reservations?"
                    raise
        raise AssertionError

    async def _persist(self, host: Host, disk: str, act: str, own: int, other: int = 0) -> Result:
        timeout = max(5.0, min(_PATIENCE, host.deadline.left() / 2))
        argv = reservation_argv.argv(host.platform, act, disk, own, other)
        result = await host.run(argv, timeout=timeout, use_rollback_reserve=True)
        if result.status is None:
            raise NoResponseError(
                f"cannot reserve {self.source}: {disk} gives {result.words}", hint="is the target up?"
            )
        return result


def _output(result: Result) -> str:
    if result.status != 0:
        raise ValueError(result.words)
    return result.out


async def own_key(host: Host) -> int:
    """This host's key: its id folded to the 64 bits of a key, never 0."""
    number = int((await host_id(host)).replace("-", ""), 16)
    return ((number >> _KEY_BITS) ^ number) & ((1 << _KEY_BITS) - 1) or 1
