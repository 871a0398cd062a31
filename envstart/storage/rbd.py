"""An image of a Ceph cluster as a disk of this host: rbd-ggate(8) on FreeBSD, the kernel's rbd on Linux.

rbd-ggate makes a second disk of an image that is one already without a word, which destroys what is on it, and unmaps
a disk from under a file system (docs/freebsd.md#rbd-ggate). So the host's list and the cluster are asked first.
"""

import os
from typing import Any

from envstart import errors
from envstart.config import common
from envstart.config.load import Config
from envstart.config.schema import Option, integer
from envstart.engine.retry import until_it_heals
from envstart.errors import EnvstartError, NotFoundError, TemporaryError
from envstart.steps import ceph, diagnosis
from envstart.storage.attached import Attached
from envstart.system import process_table
from envstart.system.command import Result
from envstart.system.host import Host

_PROGRAMS = ("rbd-ggate", "rbd")
# Seconds the search for processes may take.
_SEARCH = 5.0
# Messages of rbd-ggate(8) and rbd(8). Numbers of errors are those of the cluster's system: the words count.
_FINAL: diagnosis.Rows = (
    ("failed to acquire exclusive lock", TemporaryError, "another host has it mapped; stop the jail or VM there"),
    *ceph.REFUSED,
    ("Permission denied", errors.PermissionDeniedError, "give CEPH_USER the capability profile rbd"),
    ("Operation not permitted", errors.PermissionDeniedError, "correct CEPH_USER and CEPH_KEYRING"),
    ("error opening pool", NotFoundError, "there is no such pool: ceph osd pool ls"),
    # So it is spelt.
    ("failed to acces", NotFoundError, "there is no such pool: ceph osd pool ls"),
    ("failed to open image", NotFoundError, "there is no such image: rbd ls"),
    ("error opening image", NotFoundError, "there is no such image: rbd ls"),
)
RBD_MAP_TIMEOUT = Option("RBD_MAP_TIMEOUT", integer(1, 3600, "seconds"), "30", "seconds one attempt to map it may take")


class Mapped(Attached):
    """The image ``spec`` (POOL/IMAGE or POOL/NAMESPACE/IMAGE), mapped."""

    fstype = "rbd"
    detaches = "unmap"
    absent = "not mapped"
    present = "the image is mapped"

    def __init__(self, config: Config, spec: str) -> None:
        """Name it after the image."""
        super().__init__(config, "map", f"rbd image {spec}")
        self._spec = spec

    async def attached(self, host: Host) -> str | None:
        """Return the disk that the image is; ConfigError if it is several."""
        list_argv = (*_program(host), "list", "--format", "json")
        disks = await host.ask(list_argv, lambda result: parse_list(result, self._spec))
        if len(disks) > 1:
            raise errors.ConfigError(
                f"cannot use {self.source}: it is several disks at once, {', '.join(disks)}, which destroys what is on "
                "it",
                hint=f"{' '.join(_program(host))} unmap all but one, and fsck it",
            )
        return disks[0] if disks else None

    def detach_argv(self, host: Host, device: str) -> tuple[str, ...]:
        """Return the command that unmaps it."""
        return (*_program(host), "unmap", device)

    async def device(self, host: Host) -> str | None:
        """Return the disk, if it is mapped and its node is there."""
        device = await self.attached(host)
        return device if device and os.path.exists(device) else None

    def expected(self, host: Host) -> str:
        """Return the device that it will be: its number is not known before."""
        return "/dev/ggateN" if host.platform == "freebsd" else "/dev/rbdN"

    async def attach_argv(self, host: Host) -> tuple[str, ...]:
        """Return the command that maps it."""
        # Exclusive: from then on no other client of the cluster gets the lock that a writer needs.
        exclusive = ["--exclusive"] if host.platform == "freebsd" else ["-o", "exclusive"]
        how = (*(["--read-only"] if self._read_only else exclusive), self._spec)
        if host.platform != "freebsd":
            return (*_program(host), "map", *ceph.access(self.config), *how)
        name = f"CEPH_ARGS={' '.join(ceph.identity(self.config))}"
        return ("env", name, *_program(host), "map", *ceph.reach(self.config), *how)

    async def preflight_start(self, host: Host) -> None:
        """Check that root, and nobody else, can read the key."""
        await ceph.check_key(host, self.config)

    async def start(self, host: Host) -> None:
        """Map it, as often as it takes."""
        await self.preflight_start(host)
        await until_it_heals(lambda: self.attach(host), host, self.source, self.config[common.ATTEMPTS])

    async def run_attach(self, host: Host) -> Result:
        """Map it. Its daemon would keep our locks as long as it lives."""
        return await host.run(await self.attach_argv(host), timeout=self.config[RBD_MAP_TIMEOUT])

    async def attach_error(self, host: Host, result: Result) -> EnvstartError:
        """End what is still on its way, and tell what is wrong."""
        await self._end(host)
        return self._map_error(result)

    async def check_free(self, host: Host) -> None:
        """Refuse an image that lacks the lock of a writer, or that somebody has open."""
        # What a run that was killed has left on its way; it would make a second disk.
        await self._end(host)
        if self._read_only:
            return
        features = await self._ask(host, "info", "features")
        if "exclusive-lock" not in features:
            raise errors.ConfigError(
                f"cannot map {self.source}: it lacks the feature exclusive-lock, so that two hosts could write to it",
                hint=f"rbd feature enable {self._spec} exclusive-lock",
            )
        watchers = await self._ask(host, "status", "watchers")
        if watchers:
            # Whoever has died is one for half a minute more.
            names = ", ".join(str(each.get("address", "?") if isinstance(each, dict) else each) for each in watchers)
            raise TemporaryError(f"cannot map {self.source}: {names} has it open", hint="stop the jail or VM there")

    async def _ask(self, host: Host, verb: str, key: str) -> list[Any]:
        argv = ("rbd", verb, *ceph.access(self.config), "--format", "json", self._spec)
        result = await host.run(argv, timeout=self.config[RBD_MAP_TIMEOUT], read_only=True)
        if result.status != 0:
            raise self._map_error(result)
        try:
            return list(_json(result)[key])
        except errors.UNREADABLE:
            raise TemporaryError(f"cannot map {self.source}: rbd {verb} says {result.words}") from None

    async def _end(self, host: Host) -> None:
        """End what is on its way to map the image: it is a daemon by then, and maps when the cluster answers."""
        try:
            pids = await host.call_with_timeout(
                process_table.find_by_argv, _PROGRAMS, "map", self._spec, timeout=_SEARCH
            )
        except (errors.NoResponseError, errors.DeadlineExceededError) as error:
            raise TemporaryError(
                f"cannot use {self.source}: the search for what maps it already gives {error}"
            ) from None
        if pids:
            await process_table.end(pids, gently=False)
            host.invalidate()

    def _map_error(self, result: Result) -> EnvstartError:
        final = diagnosis.first(_FINAL, result.words, f"map {self.source}")
        hint = "are the cluster's monitors up?"
        return final or TemporaryError(f"cannot map {self.source}: {result.words}", hint=hint)

    async def stop(self, host: Host) -> None:
        """Unmap it; what a start has left that was killed would map it later, when nobody looks."""
        if not await self.attached(host):
            await self._end(host)
        await super().stop(host)

    async def undo_start(self, host: Host) -> None:
        """Unmap it, or end what maps it."""
        host.invalidate()
        if not await self.attached(host):
            await self._end(host)
        await self.detach(host)

    async def users(self, host: Host, device: str) -> list[str]:
        """Return the users that keep it from being unmapped; the kernel of Linux looks for them by itself."""
        return await super().users(host, device) if host.platform == "freebsd" else []


def _program(host: Host) -> tuple[str, ...]:
    # Without the word in between, `rbd list` tells of the images in a pool.
    return ("rbd-ggate",) if host.platform == "freebsd" else ("rbd", "device")


def parse_list(result: Result, spec: str) -> list[str]:
    """Read the disks that an image is on this host from the list of all. ValueError when it is not whole."""
    if result.status != 0:
        raise ValueError(result.words)
    disks = []
    for row in _json(result) if result.out.strip() else []:
        # Linux calls it name.
        image = row.get("image", row.get("name", ""))
        words = [row.get("pool", ""), *([row["namespace"]] if row.get("namespace") else []), image]
        if "/".join(words) == spec and row.get("snap", "") in ("", "-"):
            disks.append(str(row.get("device", "")))
    return disks


def _json(result: Result) -> Any:
    import json

    return json.loads(result.out)
