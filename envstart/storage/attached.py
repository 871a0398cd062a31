"""A device that a command attaches to this host, and another one detaches."""

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.engine.locking import Locks
from envstart.engine.retry import until_it_heals
from envstart.errors import EnvstartError, NotFoundError, TemporaryError
from envstart.steps.block import Block, appears
from envstart.storage import devices, volume_keys
from envstart.system.command import Result
from envstart.system.host import Host


class Attached(Block):
    """The device that the host makes of ``source``; read-only as the mount above it."""

    # The act that takes it away, and what it is before and after it is attached, for messages.
    detaches = "detach"
    absent = "not attached"
    present = "it is attached"

    def __init__(self, config: Config, name: str, source: str, lower: Block | None = None) -> None:
        """Attach nothing yet."""
        super().__init__(name, source, lower)
        self.config = config
        self._read_only = volume_keys.is_read_only(config)

    async def attached(self, host: Host) -> str | None:
        """Return the path of the device as far as it is attached, be its node there yet or not."""
        raise NotImplementedError

    async def attach_argv(self, host: Host) -> tuple[str, ...]:
        """Return the command that attaches it, as far as that can be told before."""
        raise NotImplementedError

    def detach_argv(self, host: Host, device: str) -> tuple[str, ...]:
        """Return the command that detaches a device; its last word is what it calls the device."""
        raise NotImplementedError

    async def commands(self, host: Host, verb: str) -> list[tuple[str, ...]]:
        """Return the command that attaches or detaches it."""
        if verb == "start":
            return [await self.attach_argv(host)]
        device = await self.attached(host)
        return [self.detach_argv(host, device)] if device else []

    async def device(self, host: Host) -> str | None:
        """Return the device, if it is attached."""
        return await self.attached(host)

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whether it is attached."""
        if device := await self.device(host):
            return plan.Observation(plan.READY, device)
        problem = NotFoundError(f"cannot use {self.source}: it is {self.absent}")
        return plan.Observation(plan.NOT_READY, self.absent, problem)

    async def attach(self, host: Host) -> None:
        """Attach it, unless it is attached, under a lock that all jails and VMs share."""
        async with Locks(host, [self.fstype]):
            host.invalidate()
            if await self.device(host):
                return
            await self.check_free(host)
            host.on_failure(lambda: self.undo_start(host))
            result = await self.run_attach(host)
            device = await self.attached(host)
            if not device:
                raise await self.attach_error(host, result)
        if not await appears(host, device, self.config[common.PROBE_TIMEOUT]):
            raise TemporaryError(f"cannot use {device}: {self.present}, but the device does not appear")

    async def check_free(self, host: Host) -> None:
        """Raise if it must not be attached now, since somebody else has it."""
        raise NotImplementedError

    async def run_attach(self, host: Host) -> Result:
        """Run the command that attaches it."""
        return await host.run(await self.attach_argv(host), keep_locks=True)

    async def attach_error(self, host: Host, result: Result) -> EnvstartError:
        """Return the error that a failed command of attach_argv() is."""
        raise NotImplementedError

    async def undo_start(self, host: Host) -> None:
        """Take back what attach() has done."""
        await self.detach(host)

    async def stop(self, host: Host) -> None:
        """Detach it."""
        if await self.attached(host) is not None:
            self.journal_stop(host)
            await until_it_heals(lambda: self.detach(host), host, self.source, self.config[common.ATTEMPTS])

    async def users(self, host: Host, device: str) -> list[str]:
        """Return the users that keep it from being detached."""
        return await devices.users(host, device)

    async def detach(self, host: Host) -> None:
        """Detach it, never by force, which takes it from under a file system (docs/freebsd.md#geli-detach)."""
        host.invalidate()
        device = await self.attached(host)
        if device is None:
            return
        argv = self.detach_argv(host, device)
        failure = f"cannot {self.detaches} {argv[-1]}"
        users = await self.users(host, device)
        if users:
            raise TemporaryError(f"{failure}: {', '.join(users)} uses it", hint="end that, and stop again")
        result = await host.run(argv, timeout=max(5.0, host.deadline.left()), use_rollback_reserve=True)
        if await self.attached(host):
            raise TemporaryError(f"{failure}: {result.words}")
