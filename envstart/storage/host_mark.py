"""The mark of the host that has a volume mounted, kept in the volume itself.

What is left of it after a crash tells another host that it is not the one to repair and mount it. Files of the volume
are touched only in a child (Host.call_with_timeout): arguments and results are plain values.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.errors import DeadlineExceededError, NotFoundError, TemporaryError, reason
from envstart.steps.mount import Mount
from envstart.storage.host_id import own_mark
from envstart.system import probe
from envstart.system.files import atomic_write
from envstart.system.host import Host

NAME = ".envstart.owner"
_SIZE_MAX = 1024
# EXT4_IOC_CHECKPOINT, since Linux 5.14 (include/uapi/linux/ext4.h).
_CHECKPOINT = 0x4004662B


class Mark(plan.Step):
    """This host's mark in the volume that ``mount`` brings."""

    fstype = "mark"
    point = ""

    def __init__(self, config: Config, mount: Mount) -> None:
        """Name it after the mount point."""
        self.name = "owner"
        self.source = f"{mount.point}/{NAME}"
        self._mount = mount
        self.config = config

    def needs(self, other: plan.Step) -> bool:
        """Tell that the mount comes first."""
        return other is self._mount

    async def inspect(self, host: Host) -> plan.Observation:
        """Tell whose mark it is; no problem is one that this run could not write."""
        if (self, "tried") in host.learnt:
            return plan.Observation(plan.READY)
        mark = await self._read(host)
        if mark == await own_mark(host):
            return plan.Observation(plan.READY, mark)
        problem = NotFoundError(f"cannot find {self.source}")
        return plan.Observation(plan.LOST if mark else plan.NOT_READY, mark, problem)

    async def _read(self, host: Host) -> str:
        mount = self._mount
        if not await host.stack(mount.point) or await mount.why_down(host) or await mount.why_lost(host):
            return ""
        try:
            return await host.probe(read_mark, mount.point, timeout=self.config[common.PROBE_TIMEOUT])
        except (TemporaryError, OSError):
            return ""

    async def start(self, host: Host) -> None:
        """Write it; a full volume has no room for it, and is started nonetheless."""
        host.learnt[self, "tried"] = True
        host.on_failure(lambda: self._remove(host))
        try:
            mark, timeout = await own_mark(host), self.config[common.PROBE_TIMEOUT]
            await host.call_with_timeout(write, self._mount.point, mark, self._mount.fstype, timeout=timeout)
        except DeadlineExceededError:
            raise
        except (TemporaryError, OSError) as error:
            text = reason(error) if isinstance(error, OSError) else str(error)
            host.report.warn(f"cannot write {self.source}: {text}; another host will not know that it is in use here")

    async def stop(self, host: Host) -> None:
        """Remove it, if it is this host's."""
        host.learnt.pop((self, "tried"), None)
        if await self._read(host) == await own_mark(host):
            self.journal_stop(host)
            await self._remove(host)

    async def _remove(self, host: Host) -> None:
        if not await host.stack(self._mount.point):
            return
        try:
            await host.call_with_timeout(remove, self._mount.point, timeout=self.config[common.PROBE_TIMEOUT])
        except OSError as error:
            # Root of a jail can do that to it, and must not keep this host from unmounting.
            host.report.warn(
                f"cannot remove {self.source}: {reason(error)}; it counts when this host fails before it is"
            )


def read_mark(top: str) -> str:
    """Return the mark in the volume mounted on ``top``; "" if there is none. OSError is passed on."""
    try:
        descriptor = os.open(f"{top}/{NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _SIZE_MAX).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)


def read_mark_and_lease(top: str, lease: tuple[str, str] | None) -> tuple[str, tuple[str, int] | None]:
    """Return read_mark(), and the holder of the lease: see probe.other_node()."""
    return read_mark(top), probe.other_node(*lease) if lease else None


def make_private(directories: list[str]) -> None:
    """Make these for root alone, and what is missing above them."""
    # os.makedirs() gives its mode to the last one only.
    before = os.umask(0o077)
    try:
        for directory in directories:
            os.makedirs(directory, exist_ok=True)
    finally:
        os.umask(before)


def write(top: str, text: str, fstype: str) -> None:
    """Put the mark there, whole or not at all: a crash leaves the old one or the new one."""
    atomic_write(f"{top}/{NAME}", f"{text}\n".encode(), sync=True)
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Its name, too: UFS with soft updates keeps that back for half a minute (kern.dirdelay).
        os.fsync(descriptor)
        if fstype == "ext4":
            _checkpoint(descriptor)
    finally:
        os.close(descriptor)


def _checkpoint(descriptor: int) -> None:
    """Put the journal's content where it belongs, if the kernel can: another host looks without playing it back."""
    import fcntl

    try:
        fcntl.ioctl(descriptor, _CHECKPOINT, bytes(4))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
            raise


def remove(top: str) -> None:
    """Take the mark away, as far as it is there."""
    for name in (NAME, f"{NAME}.new"):
        with suppress(FileNotFoundError):
            os.unlink(f"{top}/{name}")
