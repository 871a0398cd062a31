"""A SCSI-3 persistent reservation: of all hosts that reach the disk, only this one writes.

The type is write_exclusive. With the "registrants only" types every host that registers may write, and registering is
open to all (tests/transcripts/iscsi-reservations.txt: the second node's write succeeds); with this one only the holder
does. It belongs to one session: hence not with multipath, and hence it is taken anew by each start.
"""

from envstart.config.load import Config
from envstart.engine import plan
from envstart.errors import BlockedError, ConfigError, NoResponseError, TemporaryError
from envstart.steps.block import Block
from envstart.storage import devices, superblock
from envstart.storage.foreign_owner import Glance
from envstart.storage.host_mark import host_id, host_id_hint
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.reserved_disk import TRIES, ReservedDisk, disk_of
from envstart.system.host import Host

_KEY_BITS = 64


class Reservation(Block):
    """The reservation of the disk that ``lower`` is; ``glance`` into the volume, if that lies on the disk itself."""

    fstype = "scsi3"

    def __init__(self, config: Config, lower: Block, glance: Glance | None) -> None:
        """Reserve nothing yet."""
        super().__init__("reservation", lower.source, lower)
        self.config = config
        self._glance = glance

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whose key holds it; refuse what is in use here and another host has taken over."""
        device = await self.underneath(host)
        holder = await (await disk_of(host, device, self.source)).holder() if device else None
        problem = TemporaryError(f"cannot use {self.source}: it is not reserved for this host")
        if device is None or holder is None:
            return plan.Observation(plan.NOT_READY, "not reserved", problem)
        own, used = await own_key(host), await self._used(host, device)
        if holder == own:
            # That the key is ours does not tell whether this session holds it, or one from before a restart.
            seen_to = used or host.learnt.get((self, "reserved")) == device
            return plan.Observation(plan.READY, f"key {own:#x}", None if seen_to else problem)
        refusal = BlockedError(
            f"cannot use {self.source}: it is in use here, but the host with key {holder:#x} has taken the "
            "reservation over",
            hint="stop the jail or VM here at once (STOP_FORCE=1)",
        )
        detail = f"the host with key {holder:#x} holds it"
        return plan.Observation(plan.LOST, detail, problem, refusal if used else None)

    async def commands(self, host: Host, verb: str) -> list[tuple[str, ...]]:
        """Return the commands that reserve or release it."""
        device, own = await self.underneath(host), await own_key(host)
        if device is None:
            disk, holder = ReservedDisk(host, self.expected(host).removeprefix("/dev/"), self.source), None
        else:
            disk = await disk_of(host, device, self.source)
            holder = await disk.holder()
        if verb == "start":
            return [] if holder else [disk.argv("register", own), disk.argv("reserve", own)]
        return [disk.argv("release", own), disk.argv("unregister", own)] if holder == own else []

    async def _used(self, host: Host, device: str) -> bool:
        graph = await devices.read(host)
        provider = graph.provider(device)
        return provider is not None and bool(graph.users(provider))

    async def why_down(self, host: Host) -> str:
        """Tell, too, that another host has taken it over: what this one would still write is refused."""
        down = await super().why_down(host)
        device = None if down else await self.underneath(host)
        if device is None or not await self._used(host, device):
            return down
        try:
            holder = await (await disk_of(host, device, self.source)).holder()
        except NoResponseError as error:
            # The session is not yet known to be down.
            return str(error)
        other = holder is not None and holder != await own_key(host)
        return f"the host with key {holder:#x} has taken the reservation over, so that it cannot write" if other else ""

    async def start(self, host: Host) -> None:
        """Register this host's key, and reserve the disk with it; take it from another host only if that is asked."""
        device = await self.below(host)
        disk, own = await disk_of(host, device, self.source), await own_key(host)
        holder = await disk.holder()
        if holder == own:
            await self._check_whose(host, disk, own)
        elif holder is not None and not host.takeover:
            from envstart.config import remedies

            raise BlockedError(
                f"cannot reserve {self.source}: the host with key {holder:#x} holds it",
                hint="stop the jail or VM there, or, if that host is known to be down: "
                + remedies.of_subject(host.report.planned, "recover", "--preempt"),
            )
        elif holder is None and not host.takeover and not await self._used(host, device):
            await self._refuse_foreign(host, device)
        host.on_failure(lambda: self._undo_start(host, disk))
        await self._register(disk, own)
        if holder not in (None, own):
            host.report.warn(f"{self.source}: taking it over from the host with key {holder:#x}")
        taken = await self._take(host, disk, own, holder)
        holder = await disk.holder()
        if holder != own or not taken:
            whose = "nobody holds it" if holder is None else f"the host with key {holder:#x} holds it"
            raise BlockedError(
                f"cannot reserve {self.source}: {whose}", hint="does the target support persistent reservations?"
            )
        host.learnt[self, "reserved"] = device

    async def _refuse_foreign(self, host: Host, device: str) -> None:
        # A target that was started anew has forgotten its reservations, and the host that had one writes on: what it
        # writes while this one holds it, if only for a moment, would fail.
        if self._glance is not None and await self._glance.state(host, device) == superblock.DIRTY:
            await self._glance.refuse_foreign(host, device)

    async def _take(self, host: Host, disk: ReservedDisk, own: int, holder: int | None) -> bool:
        # A session that was cut off has one too; nobody can give that back, and the next stop would leave it there.
        left = (await disk.keys()).count(own) > 1
        if holder in (None, own):
            if await disk.insist("reserve", own):
                if left:
                    await disk.insist("preempt", own, own)
                return True
            if await disk.holder() != own:
                return False
            # An earlier session of this host's holds it; it becomes this one's, and the old registration goes.
            await self._check_whose(host, disk, own)
            holder = own
        return await disk.insist("preempt", own, holder)

    async def _register(self, disk: ReservedDisk, own: int) -> None:
        for _ in range(TRIES):
            await disk.run("register", own)
            if own in await disk.keys():
                return
        raise TemporaryError(
            f"cannot register with {self.source}: {disk.name} takes no key", hint="does it support reservations?"
        )

    async def _check_whose(self, host: Host, disk: ReservedDisk, own: int) -> None:
        """Refuse what another host holds with the same key, since it has the same host id."""
        name, own_name = await disk.holding_initiator(), initiator_of(host).own_name(self.config)
        if name and own_name and name.lower() != own_name.lower():
            raise ConfigError(
                f"cannot reserve {self.source}: {name} holds it with this host's key {own:#x}; "
                f"two hosts have the same {host_id_hint(host)} on one"
            )

    async def stop(self, host: Host) -> None:
        """Release it, and take this host's key back."""
        device = await self.underneath(host)
        if device is None:
            return
        disk, own = await disk_of(host, device, self.source), await own_key(host)
        held = await disk.holder() == own
        if held:
            self.journal_stop(host)
        if held or own in await disk.keys():
            await self._release(disk, own)

    async def _undo_start(self, host: Host, disk: ReservedDisk) -> None:
        host.invalidate()
        down = await super().why_down(host)
        if not down and await self.underneath(host) is None:
            down = "there is no session any more"
        if down:
            raise TemporaryError(
                f"cannot release {self.source}: {down}; the next start here takes the reservation over"
            )
        await self._release(disk, await own_key(host))

    async def _release(self, disk: ReservedDisk, own: int) -> None:
        """Give back what is ours, and only that."""
        for _ in range(TRIES):
            if await disk.holder() == own:
                await disk.run("release", own)
            if own not in await disk.keys():
                return
            await disk.run("unregister", own)
        if await disk.holder() == own:
            raise TemporaryError(f"cannot release {self.source}: {disk.name} is still reserved with key {own:#x}")


async def own_key(host: Host) -> int:
    """Return this host's key: its id folded to the 64 bits of a key, never 0."""
    number = int((await host_id(host)).replace("-", ""), 16)
    return ((number >> _KEY_BITS) ^ number) & ((1 << _KEY_BITS) - 1) or 1
