"""The mark of the host that has a volume mounted, kept in the volume itself, and the id that tells hosts apart.

What is left of it after a crash tells another host that it is not the one to repair and mount it. Files of the volume
are touched only in a child (Host.call_with_timeout): arguments and results are plain values.
"""

import errno
import os
import stat
import string
from contextlib import suppress

from envstart.config import common
from envstart.config.load import Config
from envstart.engine import plan
from envstart.errors import DeadlineExceededError, NotFoundError, TemporaryError, reason
from envstart.steps.mount import Mount
from envstart.system import probe
from envstart.system.command import Result
from envstart.system.files import atomic_write
from envstart.system.host import Host

NAME = ".envstart.owner"
_SIZE_MAX = 1024
# EXT4_IOC_CHECKPOINT, since Linux 5.14 (include/uapi/linux/ext4.h).
_CHECKPOINT = 0x4004662B
_MACHINE = "/etc/machine-id"
# Names of a host that nobody has given one.
_NO_NAMES = ("", "localhost", "amnesiac", "freebsd")


class Mark(plan.Step):
    """This host's mark in the volume that ``mount`` brings."""

    fstype = "mark"
    point = ""

    def __init__(self, config: Config, mount: Mount) -> None:
        """Name it after the mount point."""
        self.name = "owner"
        self.source = f"{mount.point}/{NAME}"
        self._mount = mount
        self._timeout = config[common.PROBE_TIMEOUT]

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
            return await host.probe(read_mark, mount.point, timeout=self._timeout)
        except (TemporaryError, OSError):
            return ""

    async def start(self, host: Host) -> None:
        """Write it; a full volume has no room for it, and is started nonetheless."""
        host.learnt[self, "tried"] = True
        host.on_failure(lambda: self._remove(host))
        try:
            arguments = (self._mount.point, await own_mark(host), self._mount.fstype)
            await host.call_with_timeout(write, *arguments, timeout=self._timeout)
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
            await host.call_with_timeout(remove, self._mount.point, timeout=self._timeout)
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


async def own_mark(host: Host) -> str:
    """Return this host's mark: its id, and its name, since hosts that were made from one image can have one id."""
    return f"{await host_id(host)} {os.uname().nodename}"


async def host_id(host: Host) -> str:
    """Return 32 hexadecimal digits: kern.hostuuid, which rc.d/hostid keeps in /etc/hostid; on Linux of machine-id(5).

    As long as kern.hostuuid is all zero they are made of the hostname.
    """
    if host.platform != "freebsd":
        return _of_machine(_MACHINE)
    uuid = await host.ask(("sysctl", "-n", "kern.hostuuid"), _uuid, lasting=True)
    return uuid or _of_name(os.uname().nodename)


def host_id_hint(host: Host) -> str:
    """Tell, for people, the source of the id, and how two hosts get two of it."""
    if host.platform == "freebsd":
        return "kern.hostuuid: correct /etc/hostid"
    return f"id in {_MACHINE}: remove it, and systemd-machine-id-setup,"


def _uuid(result: Result) -> str:
    text = result.out.strip()
    digits = text.replace("-", "")
    if result.status != 0 or len(digits) != 32 or not set(string.hexdigits).issuperset(digits):
        raise ValueError(f"kern.hostuuid is {text!r}")
    return text if digits.strip("0") else ""


def _of_name(name: str) -> str:
    """Return an id of the hostname: rc.d/hostid has never run here, and without a name of its own it is any host."""
    import hashlib

    if name.partition(".")[0].lower() in _NO_NAMES:
        raise TemporaryError(
            f"cannot tell hosts apart: kern.hostuuid is all zero, and the hostname is {name!r}",
            hint="service hostid start",
        )
    return hashlib.sha256(f"envstart {name}".encode()).hexdigest()[:32]


def _of_machine(path: str) -> str:
    """Return an id of the machine's: that one is not to leave the machine (machine-id(5))."""
    import hmac

    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.readline().strip()
        why = f"{path} holds {text!r}"
    except OSError as error:
        text, why = "", f"{path}: {reason(error)}"
    if len(text) != 32 or not set("0123456789abcdef").issuperset(text):
        raise TemporaryError(f"cannot tell hosts apart: {why}", hint="systemd-machine-id-setup")
    return hmac.new(bytes.fromhex(text), b"envstart", "sha256").hexdigest()[:32]
