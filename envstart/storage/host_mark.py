"""The mark of the host that has a volume mounted, kept in the volume itself: what is left of it after a crash tells
another host that it is not the one to repair and mount it.

``read_mark`` and ``write`` run only in a child (Host.call_with_timeout). Arguments and results are plain values.
"""

from __future__ import annotations

import errno
import os
import stat
import string
from contextlib import suppress

from envstart.engine import plan
from envstart.errors import DeadlineExceededError, EnvstartError, NotFoundError, TemporaryError, reason
from envstart.system import probe
from envstart.system.files import atomic_write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envstart.config.load import Config
    from envstart.steps.mount import Mount
    from envstart.system.command import Result
    from envstart.system.host import Host

NAME = ".envstart.owner"
_SIZE_MAX = 1024
_MACHINE = "/etc/machine-id"
# What a host is called that nobody has given a name.
_NO_NAMES = ("", "localhost", "amnesiac", "freebsd")
# EXT4_IOC_CHECKPOINT, since Linux 5.14 (include/uapi/linux/ext4.h).
_CHECKPOINT = 0x4004662B


class Mark(plan.Step):
    """This host's mark in the volume that ``mount`` brings."""

    fstype = "mark"
    point = ""

    def __init__(self, config: Config, mount: Mount) -> None:
        self.name = "owner"
        self.source = f"{mount.point}/{NAME}"
        self._mount = mount
        self.config = config
        self._tried = False

    def needs(self, other: plan.Step) -> bool:
        return other is self._mount

    async def check(self, host: Host) -> EnvstartError | None:
        if self._tried:
            return None
        return NotFoundError(f"cannot find {self.source}") if await self._found(host) != await own_mark(host) else None

    async def _found(self, host: Host) -> str:
        mount = self._mount
        if not await host.stack(mount.point) or await mount.why_down(host) or await mount.why_lost(host):
            return ""
        try:
            return str(await host.probe(read_mark, mount.point, timeout=self.config["PROBE_TIMEOUT"]))
        except (TemporaryError, OSError):
            return ""

    async def start(self, host: Host) -> None:
        """A full volume has no room for it, and is started nonetheless."""
        self._tried = True
        host.on_failure(lambda: self._remove(host))
        try:
            what = (self._mount.point, await own_mark(host), self._mount.fstype == "ext4")
            await host.call_with_timeout(write, *what, timeout=self.config["PROBE_TIMEOUT"])
        except DeadlineExceededError:
            raise
        except (TemporaryError, OSError) as error:
            text = reason(error) if isinstance(error, OSError) else str(error)
            host.report.warn(f"cannot write {self.source}: {text}; another host will not know that it is in use here")

    async def stop(self, host: Host) -> None:
        self._tried = False
        if await self._found(host) == await own_mark(host):
            self.journal_stop(host)
            await self._remove(host)

    async def _remove(self, host: Host) -> None:
        if not await host.stack(self._mount.point):
            return
        try:
            await host.call_with_timeout(remove, self._mount.point, timeout=self.config["PROBE_TIMEOUT"])
        except OSError as error:
            # Root of a jail can do that to it, and must not keep this host from unmounting.
            host.report.warn(
                f"cannot remove {self.source}: {reason(error)}; it counts when this host fails before it is"
            )

    async def state(self, host: Host) -> plan.State:
        try:
            mark = await self._found(host)
        except EnvstartError as error:
            return plan.State(plan.UNKNOWN, str(error))
        if not mark:
            return plan.State(plan.NOT_READY)
        return plan.State(plan.READY if mark == await own_mark(host) else plan.LOST, mark)


async def own_mark(host: Host) -> str:
    """This host's mark: its id, and its name, since hosts that were made from one image can have one id."""
    return f"{await host_id(host)} {os.uname().nodename}"


async def host_id(host: Host) -> str:
    """What tells hosts apart, 32 hexadecimal digits: kern.hostuuid, which rc.d/hostid keeps in /etc/hostid, or made of
    the hostname as long as that is all zero; on Linux made of machine-id(5)."""
    if host.platform != "freebsd":
        return _of_machine(_MACHINE)
    uuid: str = await host.ask(("sysctl", "-n", "kern.hostuuid"), _uuid, lasting=True)
    return uuid or _of_name(os.uname().nodename)


def _uuid(result: Result) -> str:
    text = result.out.strip()
    digits = text.replace("-", "")
    if result.status != 0 or len(digits) != 32 or not set(string.hexdigits).issuperset(digits):
        raise ValueError(f"kern.hostuuid is {text!r}")
    return text if digits.strip("0") else ""


def _of_name(name: str) -> str:
    """rc.d/hostid has never run here, and without a name of its own it is any host."""
    import hashlib

    if name.partition(".")[0].lower() in _NO_NAMES:
        raise TemporaryError(
            f"cannot tell hosts apart: kern.hostuuid is all zero, and the hostname is {name!r}",
            hint="service hostid start",
        )
    return hashlib.sha256(f"envstart {name}".encode()).hexdigest()[:32]


def _of_machine(path: str) -> str:
    """The machine's id is not to leave it, so others are shown one that is made of it, as machine-id(5) wants it."""
    import hmac

    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.readline().strip()
    except OSError as error:
        raise TemporaryError(
            f"cannot tell hosts apart: {path}: {reason(error)}", hint="systemd-machine-id-setup"
        ) from None
    if len(text) != 32 or not set("0123456789abcdef").issuperset(text):
        raise TemporaryError(f"cannot tell hosts apart: {path} holds {text!r}", hint="systemd-machine-id-setup")
    return hmac.new(bytes.fromhex(text), b"envstart", "sha256").hexdigest()[:32]


def host_id_hint(host: Host) -> str:
    """What host_id() is made of, and how two hosts get two of it, for people."""
    if host.platform == "freebsd":
        return "kern.hostuuid: correct /etc/hostid"
    return f"id in {_MACHINE}: remove it, and systemd-machine-id-setup,"


def read_mark(top: str) -> str:
    """The mark in the volume mounted on ``top``; "" if there is none. OSError is passed on."""
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
    """look(), and whose lease there is: see verdict.other_node()."""
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


def write(top: str, text: str, checkpoint: bool) -> None:
    """Put the mark there, whole or not at all: a crash leaves the old one or the new one. ``checkpoint``: and not into
    the journal alone."""
    atomic_write(f"{top}/{NAME}", f"{text}\n".encode(), sync=True)
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Its name, too: UFS with soft updates keeps that back for half a minute (kern.dirdelay).
        os.fsync(descriptor)
        if checkpoint:
            _checkpoint(descriptor)
    finally:
        os.close(descriptor)


def _checkpoint(descriptor: int) -> None:
    """Put what is in the journal of an ext4 where it belongs: another host looks at the volume without playing the
    journal back, which would change it. Kernels that cannot are left alone."""
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
