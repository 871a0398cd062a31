"""An image of a Ceph cluster as a disk of this host: rbd-ggate(8) on FreeBSD, the kernel's rbd on Linux.

rbd-ggate makes a second disk of an image that is one already without a word, which destroys what is on it, and unmaps
a disk from under a file system (docs/freebsd.md#rbd-ggate). So the host's list and the cluster are asked first.
"""

from __future__ import annotations

import os

from envstart.engine import plan
from envstart.engine.retry import until_it_heals
from envstart.errors import (
    UNREADABLE,
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
)
from envstart.steps import ceph, diagnosis
from envstart.steps.block import Block, appears
from envstart.storage import devices
from envstart.system import process_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from envstart.config.load import Config
    from envstart.system.command import Result
    from envstart.system.host import Host

_PROGRAMS = ("rbd-ggate", "rbd")
# Seconds the search for processes may take.
_SEARCH = 5.0
# Of rbd-ggate(8) and rbd(8). Numbers of errors are those of the cluster's system: the words count.
_FINAL: diagnosis.Rows = (
    ("failed to acquire exclusive lock", TemporaryError, "another host has it mapped; stop the jail or VM there"),
    *ceph.REFUSED,
    ("Permission denied", PermissionDeniedError, "give CEPH_USER the capability profile rbd"),
    ("Operation not permitted", PermissionDeniedError, "correct CEPH_USER and CEPH_KEYRING"),
    ("error opening pool", NotFoundError, "there is no such pool: ceph osd pool ls"),
    # So it is spelt.
    ("failed to acces", NotFoundError, "there is no such pool: ceph osd pool ls"),
    ("failed to open image", NotFoundError, "there is no such image: rbd ls"),
    ("error opening image", NotFoundError, "there is no such image: rbd ls"),
)


class Mapped(Block):
    """The image ``spec`` (POOL/IMAGE or POOL/NAMESPACE/IMAGE), mapped."""

    fstype = "rbd"

    def __init__(self, config: Config, spec: str, read_only: bool) -> None:
        super().__init__("map", f"rbd image {spec}")
        self.config = config
        self._spec = spec
        self._read_only = read_only

    # Is it so?

    def _program(self, host: Host) -> tuple[str, ...]:
        # Without the word in between, `rbd list` tells of the images in a pool.
        return ("rbd-ggate",) if host.platform == "freebsd" else ("rbd", "device")

    async def _devices(self, host: Host) -> list[str]:
        """The disks that the image is on this host."""
        devices: list[str] = await host.ask((*self._program(host), "list", "--format", "json"), self._listed)
        return devices

    def _listed(self, result: Result) -> list[str]:
        if result.status != 0:
            raise ValueError(result.words)
        rows = _json(result) if result.out.strip() else []
        devices = []
        for row in rows:
            # Linux calls it name.
            image = row.get("image", row.get("name", ""))
            words = [row.get("pool", ""), *([row["namespace"]] if row.get("namespace") else []), image]
            if "/".join(words) == self._spec and row.get("snap", "") in ("", "-"):
                devices.append(str(row.get("device", "")))
        return devices

    async def device(self, host: Host) -> str | None:
        devices = await self._devices(host)
        if len(devices) > 1:
            raise ConfigError(
                f"cannot use {self.source}: it is several disks at once, {', '.join(devices)}, which destroys what is "
                "on it",
                hint=f"{' '.join(self._program(host))} unmap all but one, and fsck it",
            )
        return devices[0] if devices and os.path.exists(devices[0]) else None

    def expected(self, host: Host) -> str:
        return "/dev/ggateN" if host.platform == "freebsd" else "/dev/rbdN"

    async def check(self, host: Host) -> EnvstartError | None:
        return None if await self.device(host) else NotFoundError(f"cannot use {self.source}: it is not mapped")

    # Make it so.

    async def preflight_start(self, host: Host) -> None:
        await ceph.check_key(host, self.config)

    async def start(self, host: Host) -> None:
        await self.preflight_start(host)
        await until_it_heals(lambda: self._attempt(host), host, self.source, self.config["ATTEMPTS"])

    async def _attempt(self, host: Host) -> None:
        async with host.locks(["rbd"]):
            host.invalidate()
            if await self.device(host):
                return
            # What a run that was killed has left on its way; it would make a second disk.
            await self._end(host)
            if not self._read_only:
                await self._check_free(host)
            host.on_failure(lambda: self._undo_start(host))
            # Its daemon would keep our locks as long as it lives.
            result = await host.run(self._mapping(host), timeout=self.config["RBD_MAP_TIMEOUT"])
            devices = await self._devices(host)
            if not devices:
                await self._end(host)
                raise self._of_map(result)
        if not await appears(host, devices[0], self.config["PROBE_TIMEOUT"]):
            raise TemporaryError(f"cannot use {devices[0]}: the image is mapped, but the device does not appear")

    def _mapping(self, host: Host) -> tuple[str, ...]:
        # Exclusive: from then on no other client of the cluster gets the lock that a writer needs.
        exclusive = ["--exclusive"] if host.platform == "freebsd" else ["-o", "exclusive"]
        how = (*(["--read-only"] if self._read_only else exclusive), self._spec)
        if host.platform != "freebsd":
            return (*self._program(host), "map", *ceph.access(self.config), *how)
        name = f"CEPH_ARGS={' '.join(ceph.identity(self.config))}"
        return ("env", name, *self._program(host), "map", *ceph.reach(self.config), *how)

    async def _check_free(self, host: Host) -> None:
        """The lock of a writer must be there to be taken, and nobody else may have the image open."""
        features = await self._ask(host, "info", "features")
        if "exclusive-lock" not in features:
            raise ConfigError(
                f"cannot map {self.source}: it lacks the feature exclusive-lock, so that two hosts could write to it",
                hint=f"rbd feature enable {self._spec} exclusive-lock",
            )
        watchers = await self._ask(host, "status", "watchers")
        if watchers:
            # Whoever has died is one for half a minute more.
            names = ", ".join(str(one.get("address", "?") if isinstance(one, dict) else one) for one in watchers)
            raise TemporaryError(f"cannot map {self.source}: {names} has it open", hint="stop the jail or VM there")

    async def _ask(self, host: Host, verb: str, key: str) -> list[Any]:
        argv = ("rbd", verb, *ceph.access(self.config), "--format", "json", self._spec)
        result = await host.run(argv, timeout=self.config["RBD_MAP_TIMEOUT"], read_only=True)
        if result.status != 0:
            raise self._of_map(result)
        try:
            return list(_json(result)[key])
        except UNREADABLE:
            raise TemporaryError(f"cannot map {self.source}: rbd {verb} says {result.words}") from None

    async def _end(self, host: Host) -> None:
        """End what is on its way to map the image: it is a daemon by then, and maps when the cluster answers."""
        try:
            pids = await host.call_with_timeout(
                process_table.find_by_argv, _PROGRAMS, "map", self._spec, timeout=_SEARCH
            )
        except (NoResponseError, DeadlineExceededError) as error:
            raise TemporaryError(
                f"cannot use {self.source}: the search for what maps it already gives {error}"
            ) from None
        if pids:
            await process_table.end(pids, gently=False)
            host.invalidate()

    def _of_map(self, result: Result) -> EnvstartError:
        final = diagnosis.first(_FINAL, result.words, f"map {self.source}")
        return final or TemporaryError(
            f"cannot map {self.source}: {result.words}", hint="are the cluster's monitors up?"
        )

    # Take it away.

    async def stop(self, host: Host) -> None:
        if not await self._devices(host):
            # What a start has left that was killed would map it later, when nobody looks.
            await self._end(host)
        if await self._devices(host):
            self.journal_stop(host)
            await until_it_heals(lambda: self._unmap(host), host, self.source, self.config["ATTEMPTS"])

    async def _undo_start(self, host: Host) -> None:
        host.invalidate()
        if not await self._devices(host):
            await self._end(host)
        await self._unmap(host)

    async def _unmap(self, host: Host) -> None:
        host.invalidate()
        device = await self.device(host)
        if device is None:
            return
        users = await self._users(host, device)
        if users:
            raise TemporaryError(f"cannot unmap {device}: {', '.join(users)} uses it", hint="end that, and stop again")
        timeout = max(5.0, host.deadline.left())
        result = await host.run((*self._program(host), "unmap", device), timeout=timeout, use_rollback_reserve=True)
        if await self._devices(host):
            raise TemporaryError(f"cannot unmap {device}: {result.words}")

    async def _users(self, host: Host, device: str) -> list[str]:
        if host.platform != "freebsd":
            # The kernel refuses by itself to unmap what is in use.
            return []
        return await devices.users(host, device)

    async def state(self, host: Host) -> plan.State:
        try:
            device = await self.device(host)
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if device is None:
            return plan.State(plan.NOT_READY, "not mapped", start=[self._mapping(host)])
        return plan.State(plan.READY, device, stop=[(*self._program(host), "unmap", device)])


def _json(result: Result) -> Any:
    import json

    return json.loads(result.out)
