"""The role of this node for a HAST resource (hastctl(8)): primary, so that ``/dev/hast/NAME`` is there.

hastctl knows this node only. What it tells of the other: a secondary has a worker, and with it a status, exactly while
the other node is primary and connected (docs/freebsd.md#hast). After a split brain that is never: its worker ends as
soon as it has begun. So the other node is asked itself (hast_resource.py).
"""

import os

from envstart.config.load import Config
from envstart.config.schema import Option, boolean, choice, integer
from envstart.engine import plan
from envstart.errors import BlockedError, EnvstartError, NoResponseError, NotFoundError, TemporaryError
from envstart.steps.block import Block
from envstart.storage import devices, hast_resource
from envstart.storage.hast_resource import COMPLETE, INIT, JOIN, PRIMARY, SECONDARY, NoDaemonError, Resource
from envstart.system.command import Result
from envstart.system.host import Host, Polling

# Seconds that a new primary may take to connect, or to give that up (HAST_TIMEOUT of sbin/hastd/hast.h), and some more.
_CONNECTING = 25.0

OPTIONS = (
    HAST_TAKEOVER := Option(
        "HAST_TAKEOVER",
        boolean,
        "0",
        "become primary although the other node is primary too; both then have data that the other lacks",
    ),
    HAST_WAIT := Option(
        "HAST_WAIT",
        integer(1, 3600, "seconds"),
        "25",
        "seconds that a primary on the other node gets to go away, and the device to appear; half of it is how long a "
        "start listens for such a primary, if that node does not say what it is",
    ),
    HAST_STOP_ROLE := Option(
        "HAST_STOP_ROLE", choice("secondary", "init"), "secondary", "role of this node after a stop"
    ),
)


class Role(Block):
    """This node as primary of ``resource``."""

    fstype = "hast"

    def __init__(self, config: Config, resource: str) -> None:
        """Name it after the resource."""
        super().__init__("role", f"hast resource {resource}")
        self.config = config
        self._name = resource
        self.resource = f"hast {resource}"

    async def _resource(self, host: Host) -> Resource:
        return await hast_resource.read(host, self._name)

    async def device(self, host: Host) -> str | None:
        """Return the device, if this node is primary and the node of it is there."""
        resource = await hast_resource.read_if_running(host, self._name)
        is_primary = resource is not None and resource.role == PRIMARY
        return resource.device if resource and is_primary and os.path.exists(resource.device) else None

    def expected(self, host: Host) -> str:
        """Return the device that it will be."""
        return f"/dev/hast/{self._name}"

    async def why_down(self, host: Host) -> str:
        """Tell that a hastd(8) was killed: that leaves the device, which waits until the next one takes the role."""
        try:
            resource = await hast_resource.read_if_running(host, self._name)
        except NoDaemonError:
            return "hastd(8) is not running"
        left = resource is not None and resource.role != PRIMARY and os.path.exists(resource.device)
        return "hastd(8) was started anew, and does not serve the device" if left else ""

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whether this node is primary, and whether the other one has all that it has."""
        resource = await self._resource(host)
        if await self.device(host) is None:
            problem = NotFoundError(f"cannot use {self.source}: this node is {resource.role}")
            return plan.Observation(plan.NOT_READY, str(resource), problem)
        if resource.status == COMPLETE:
            return plan.Observation(plan.READY, str(resource))
        why = "it is away, or has data that this node lacks: syslog there says split brain"
        if await hast_resource.peer_role(host, self._name) == INIT:
            # hastd(8) takes no role by itself, after a boot of its host either.
            why = f"its hastd was started, and has no role yet; there: hastctl role secondary {self._name}"
        alone = f"nothing is replicated to {resource.remote} ({why})"
        warning = f"{self.source} is {resource.status or 'alone'}: {alone}"
        return plan.Observation(plan.DEGRADED, f"{resource}: {alone}", warning=warning)

    async def commands(self, host: Host, verb: str) -> list[tuple[str, ...]]:
        """Return the command that takes the role, or leaves it."""
        if verb == "start":
            return [("hastctl", "role", PRIMARY, self._name)]
        return [("hastctl", "role", self.config[HAST_STOP_ROLE], self._name)] if await self.device(host) else []

    async def start(self, host: Host) -> None:
        """Become primary, unless the other node is."""
        before = (await self._resource(host)).role
        host.on_failure(lambda: self._undo_start(host, before))
        careful = before != PRIMARY and not (self.config[HAST_TAKEOVER] or host.takeover)
        reached = await self._wait_for_peer(host) if careful else True
        await self._become_primary(host)
        alone = reached and not await self._peer_joined(host)
        if alone and careful and not await hast_resource.wins_tie_break(host, self._name):
            # The other node is away, or has become primary at the same moment; of two, one must step back and look.
            await self._become(host, SECONDARY)
            await self._wait_for_peer(host)
            await self._become_primary(host)
        await self._wait_until_served(host)

    async def _wait_for_peer(self, host: Host) -> bool:
        """Refuse while the other node acts as primary; tell whether its host could be reached."""
        # If it does not say what it is, that shows only to a secondary, within hastd's 10 seconds; and since when this
        # node is one, nobody knows.
        if (await self._resource(host)).role != SECONDARY:
            await self._become(host, SECONDARY)
        timeout = self.config[HAST_WAIT]
        polling = Polling(host, timeout, f"the other node of {self._name}: it is primary")
        while (peer := await hast_resource.peer_role(host, self._name)) == PRIMARY:
            if not await polling.again():
                raise self._occupied(await self._resource(host))
        if peer:
            return True
        polling = Polling(host, timeout / 2, f"the other node of {self._name}")
        while not (await self._resource(host)).status:
            if not await polling.again():
                return peer is not None
        # A primary that died without a word keeps its connection for twice those 10 seconds.
        polling = Polling(host, timeout, f"the other node of {self._name}: it acts as primary")
        while True:
            resource = await self._resource(host)
            if not resource.status:
                return True
            if not await polling.again():
                raise self._occupied(resource)

    def _occupied(self, resource: Resource) -> EnvstartError:
        return BlockedError(
            f"cannot become primary of {self._name}: the other node, {resource.remote}, is primary now",
            hint="stop the jail or VM there, or set HAST_TAKEOVER=1 if that node must not have it",
        )

    async def _become_primary(self, host: Host) -> None:
        result = await self._become(host, PRIMARY)
        polling = Polling(host, self.config[HAST_WAIT], f"the device of {self._name}")
        while await self.device(host) is None:
            resource = await self._resource(host)
            if resource.role == INIT:
                # hastd has tried, and fallen back without a word (docs/freebsd.md#hast).
                raise EnvstartError(
                    f"cannot become primary of {self._name}: hastd fell back to {resource.role}",
                    hint="syslog says why (no metadata: hastctl create)",
                )
            if not await polling.again():
                raise TemporaryError(
                    f"cannot become primary of {self._name}: {resource.device} does not appear ({result.words})"
                )
        host.learnt[self, "made primary"] = True

    async def _wait_until_served(self, host: Host) -> None:
        """Wait until hastd has connected to the other node, or has given that up after 20 seconds."""
        # Only then does it serve the device (hastd_primary() of sbin/hastd/primary.c); GEOM waits for so long.
        polling = Polling(host, _CONNECTING, f"hastd(8) to serve {self._name}")
        while True:
            try:
                await devices.read(host)
                return
            except NoResponseError:
                if not await polling.again():
                    raise

    async def _peer_joined(self, host: Host) -> bool:
        """Tell whether the other node has joined as a secondary: then it is none, and stays none, that is primary."""
        polling = Polling(host, JOIN, f"the other node of {self._name} to join")
        while (await self._resource(host)).status != COMPLETE:
            if not await polling.again():
                return False
        return True

    async def _become(self, host: Host, role: str) -> Result:
        if role != PRIMARY and (await self._resource(host)).role == PRIMARY:
            await self._check_unused(host, role)
        result = await host.run(
            ("hastctl", "role", role, self._name), timeout=30, use_rollback_reserve=True, keep_locks=True
        )
        # The status is 0 also for what then fails; so the role is looked at.
        role_now = (await self._resource(host)).role
        if result.status != 0 or (role_now != role and role != PRIMARY):
            raise TemporaryError(f"cannot become {role} of {self._name}: {result.words}")
        return result

    async def _check_unused(self, host: Host, role: str) -> None:
        """Refuse to take the device from its users: leaving primary does it by force (docs/freebsd.md#hast)."""
        host.invalidate()
        device = (await self._resource(host)).device
        if not os.path.exists(device):
            return
        try:
            users = await devices.users(host, device)
        except NoResponseError:
            if (self, "made primary") not in host.learnt:
                raise
            # GEOM may wait for this very device, see _wait_until_served(); nobody but this run has used it yet.
            names = (device, f"{device}.eli")
            users = [entry.point for entry in await host.mounts() if entry.source in names]
        if users:
            raise TemporaryError(
                f"cannot become {role} of {self._name}: {', '.join(users)} uses it", hint="end that first"
            )

    async def _undo_start(self, host: Host, before: str) -> None:
        host.invalidate()
        if (await self._resource(host)).role != before:
            await self._become(host, before)

    async def stop(self, host: Host) -> None:
        """Leave the role, if this node is primary."""
        resource = await hast_resource.read_if_running(host, self._name)
        if resource is not None and resource.role == PRIMARY:
            self.journal_stop(host)
            await self._become(host, self.config[HAST_STOP_ROLE])
