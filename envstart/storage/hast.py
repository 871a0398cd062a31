"""The role of this node for a HAST resource (hastctl(8)): primary, so that ``/dev/hast/NAME`` is there.

hastctl knows this node only. What it tells of the other: a secondary has a worker, and with it a status, exactly while
the other node is primary and connected (docs/freebsd.md#hast). After a split brain that is never: its worker ends as
soon as it has begun. So the other node is asked itself (hast_protocol.py).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from envstart.engine import plan
from envstart.errors import (
    BlockedError,
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    TemporaryError,
    UnavailableError,
)
from envstart.steps.block import Block, only_on_freebsd
from envstart.storage import devices, hast_protocol
from envstart.system.polling import Polling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.load import Config
    from envstart.system.command import Result
    from envstart.system.host import Host

# Seconds that a secondary may take to join a new primary before that counts as degraded, and to say what it is.
_JOIN = 2.0
_ASKED = 2.0
# Seconds that a new primary may take to connect, or to give that up (HAST_TIMEOUT of sbin/hastd/hast.h), and some more.
_CONNECTING = 25.0
_COMPLETE = "complete"
# Where the devices are, as long as there is one.
_NODES = "/dev/hast"
_PRIMARY, _SECONDARY, _INIT = "primary", "secondary", "init"


class AwayError(UnavailableError):
    """hastd(8) does not run."""


class Resource(NamedTuple):
    """What hastd says of it. ``status``: complete, degraded, "" without a worker; ``dirty``: bytes not replicated."""

    device: str
    role: str
    status: str
    dirty: str
    remote: str
    source: str

    def __str__(self) -> str:
        words = [self.role, *([self.status] if self.status else [])]
        if self.role == _PRIMARY:
            words.append(f"{self.dirty} dirty")
        return ", ".join(words)


class Role(Block):
    """This node as primary of ``resource``."""

    fstype = "hast"

    def __init__(self, config: Config, resource: str) -> None:
        super().__init__("role", f"hast resource {resource}")
        self.config = config
        self._name = resource
        self.resource = f"hast {resource}"
        # Whether this run has become primary.
        self._made = False

    async def _resource(self, host: Host) -> Resource:
        only_on_freebsd(host, "HAST")
        resource: Resource = await host.ask(("hastctl", "list", self._name), self._parse)
        return resource

    def _parse(self, result: Result) -> Resource:
        doing = f"cannot use HAST resource {self._name}"
        words = result.words
        if "Unable to connect to hastd" in words or result.status == 71:
            raise AwayError(f"{doing}: hastd(8) is not running", hint="service hastd enable && service hastd start")
        if "Unable to open configuration file" in words:
            raise ConfigError(f"{doing}: {words}", hint="write hast.conf(5)")
        parts = [line.strip().partition(": ") for line in result.out.splitlines()]
        rows = {key: value.strip() for key, _, value in parts}
        if "role" not in rows:
            if result.status == 0 or rows.get("error") == "1" or "error 1 " in words.lower():
                raise ConfigError(f"{doing}: hast.conf(5) has no such resource ({words})", hint="correct HAST_RESOURCE")
            raise ValueError(words)
        # "name" in hast.conf(5) can give it another one.
        device = f"/dev/hast/{rows.get('provname') or self._name}"
        status, dirty, remote = rows.get("status", ""), rows.get("dirty", "?"), rows.get("remoteaddr", "?")
        return Resource(device, rows["role"], status, dirty, remote, rows.get("sourceaddr", ""))

    async def _known(self, host: Host) -> Resource | None:
        """None without hastd(8), if that has left no device: this node is primary of nothing then."""
        try:
            return await self._resource(host)
        except AwayError:
            if os.path.exists(_NODES):
                raise
            return None

    async def device(self, host: Host) -> str | None:
        resource = await self._known(host)
        if resource is None or resource.role != _PRIMARY:
            return None
        return resource.device if os.path.exists(resource.device) else None

    def expected(self, host: Host) -> str:
        return f"/dev/hast/{self._name}"

    async def why_down(self, host: Host) -> str:
        """A hastd(8) that was killed leaves the device, which waits until the next one takes the role again."""
        try:
            resource = await self._known(host)
        except AwayError:
            return "hastd(8) is not running"
        left = resource is not None and resource.role != _PRIMARY and os.path.exists(resource.device)
        return "hastd(8) was started anew, and does not serve the device" if left else ""

    async def inspect(self, host: Host) -> plan.Observation:
        resource = await self._resource(host)
        if await self.device(host) is None:
            problem = NotFoundError(f"cannot use {self.source}: this node is {resource.role}")
            return plan.Observation(plan.NOT_READY, str(resource), problem)
        if resource.status == _COMPLETE:
            return plan.Observation(plan.READY, str(resource))
        alone = await self._alone(host, resource)
        warning = f"{self.source} is {resource.status or 'alone'}: {alone}"
        return plan.Observation(plan.DEGRADED, f"{resource}: {alone}", warning=warning)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        if verb == "start":
            return [("hastctl", "role", _PRIMARY, self._name)]
        return [("hastctl", "role", self.config["HAST_STOP_ROLE"], self._name)] if await self.device(host) else []

    async def _alone(self, host: Host, resource: Resource) -> str:
        """That nothing is replicated, and why."""
        why = "it is away, or has data that this node lacks: syslog there says split brain"
        if await self._peer(host) == _INIT:
            # hastd(8) takes no role by itself, after a boot of its host either.
            why = f"its hastd was started, and has no role yet; there: hastctl role secondary {self._name}"
        return f"nothing is replicated to {resource.remote} ({why})"

    async def start(self, host: Host) -> None:
        before = (await self._resource(host)).role
        host.on_failure(lambda: self._undo_start(host, before))
        careful = before != _PRIMARY and not (self.config["HAST_TAKEOVER"] or host.takeover)
        reached = await self._wait_for_peer(host) if careful else True
        await self._become_primary(host)
        if reached and not await self._peer_joined(host) and careful and not await self._wins_tie_break(host):
            # The other node is away, or has become primary at the same moment; of two, one must step back and look.
            await self._become(host, _SECONDARY)
            await self._wait_for_peer(host)
            await self._become_primary(host)
        await self._wait_until_served(host)

    async def _wait_for_peer(self, host: Host) -> bool:
        """Refuse while the other node acts as primary. If it does not say what it is, that shows only to a secondary,
        within hastd's 10 seconds; and since when this node is one, nobody knows. Whether its host could be reached."""
        if (await self._resource(host)).role != _SECONDARY:
            await self._become(host, _SECONDARY)
        timeout = self.config["HAST_WAIT"]
        polling = Polling(host, timeout, f"the other node of {self._name}: it is primary")
        while (told := await self._peer(host)) == _PRIMARY:
            if not await polling.again():
                raise self._occupied(await self._resource(host))
        if told:
            return True
        polling = Polling(host, timeout / 2, f"the other node of {self._name}")
        while not (await self._resource(host)).status:
            if not await polling.again():
                return told is not None
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

    async def _peer(self, host: Host) -> str | None:
        """What the other node says it is; "" if it says nothing, None if there is no connection to it."""
        resource = await self._resource(host)
        if resource.remote in ("?", "none"):
            return None
        try:
            told: str = await host.call_with_timeout(
                hast_protocol.role, resource.remote, resource.source, self._name, _ASKED, timeout=_ASKED + _JOIN
            )
        except DeadlineExceededError:
            raise
        except (TemporaryError, OSError):
            return None
        return told

    async def _become_primary(self, host: Host) -> None:
        result = await self._become(host, _PRIMARY)
        polling = Polling(host, self.config["HAST_WAIT"], f"the device of {self._name}")
        while await self.device(host) is None:
            resource = await self._resource(host)
            if resource.role == _INIT:
                # hastd has tried, and fallen back without a word (docs/freebsd.md#hast).
                raise EnvstartError(
                    f"cannot become primary of {self._name}: hastd fell back to {resource.role}",
                    hint="syslog says why (no metadata: hastctl create)",
                )
            if not await polling.again():
                raise TemporaryError(
                    f"cannot become primary of {self._name}: {resource.device} does not appear ({result.words})"
                )
        self._made = True

    async def _wait_until_served(self, host: Host) -> None:
        """hastd serves the device only when it has connected to the other node, or has given that up after 20 seconds
        (hastd_primary() of sbin/hastd/primary.c); for so long all of GEOM waits that has a look at the new device."""
        polling = Polling(host, _CONNECTING, f"hastd(8) to serve {self._name}")
        while True:
            try:
                await devices.read(host)
                return
            except NoResponseError:
                if not await polling.again():
                    raise

    async def _peer_joined(self, host: Host) -> bool:
        """Whether the other node has joined as a secondary: then it is none, and stays none, that is primary."""
        polling = Polling(host, _JOIN, f"the other node of {self._name} to join")
        while (await self._resource(host)).status != _COMPLETE:
            if not await polling.again():
                return False
        return True

    async def _wins_tie_break(self, host: Host) -> bool:
        """Both nodes have the same two addresses; the one with the lower keeps what both took at the same moment."""
        remote = (await self._resource(host)).remote
        try:
            own, other = await host.call_with_timeout(hast_protocol.addresses, remote, timeout=_JOIN)
        except (TemporaryError, OSError):
            return False
        return bool(own < other)

    async def _become(self, host: Host, role: str) -> Result:
        if role != _PRIMARY and (await self._resource(host)).role == _PRIMARY:
            await self._check_unused(host, role)
        result = await host.run(
            ("hastctl", "role", role, self._name), timeout=30, use_rollback_reserve=True, keep_locks=True
        )
        # The status is 0 also for what then fails; so the role is looked at.
        role_now = (await self._resource(host)).role
        if result.status != 0 or (role_now != role and role != _PRIMARY):
            raise TemporaryError(f"cannot become {role} of {self._name}: {result.words}")
        return result

    async def _check_unused(self, host: Host, role: str) -> None:
        """Leaving primary takes the device away by force, also from under a file system (docs/freebsd.md#hast)."""
        host.invalidate()
        device = (await self._resource(host)).device
        if not os.path.exists(device):
            return
        try:
            users = await devices.users(host, device)
        except NoResponseError:
            if not self._made:
                raise
            # It may be this very device that GEOM waits for, see _wait_until_served(); nobody but this run has used it
            # yet.
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
        resource = await self._known(host)
        if resource is not None and resource.role == _PRIMARY:
            self.journal_stop(host)
            await self._become(host, self.config["HAST_STOP_ROLE"])
