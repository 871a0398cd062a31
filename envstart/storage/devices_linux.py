"""Block devices of Linux, as a graph of the shape that GEOM's has: partitions, what lies on what, and who uses it.

sysfs and the mount table are read, which opens no device and never blocks. What they do not tell, other_users() does.
"""

import errno
import os
import string
from collections.abc import Collection, Iterator
from contextlib import suppress

from envstart.errors import NoResponseError
from envstart.mounts.table import Table
from envstart.storage.graph import Consumer, Geom, Graph, Provider
from envstart.system import process_table
from envstart.system.host import Host

# Offset of the serial number in the page "unit serial number" of a disk (SPC-4, 7.8.15).
_SERIAL = 4
# Seconds for a look at the open files of all processes.
_SEARCH = 5.0
# They look at a disk whenever somebody who could write to it has closed it, and lose nothing with it.
_PASSING = ("(udev-worker)", "systemd-udevd", "udevd")


class _LinkedGraph(Graph):
    def provider(self, device: str) -> Provider | None:
        """Return the provider as Graph does, also by a link to the device, as those in /dev/disk."""
        return super().provider(os.path.realpath(device) if device.startswith("/") else device)


def graph_of(table: Table, sysfs: str = "/sys", proc: str = "/proc") -> Graph:
    """Return the devices below ``sysfs`` and their users; one that comes or goes at this moment may be left out."""
    providers: dict[str, Provider] = {}
    for name in entries(f"{sysfs}/block"):
        _add_disk(f"{sysfs}/block/{name}", name, providers)
    for name, provider in providers.items():
        for upper in entries(f"{sysfs}/class/block/{name}/holders"):
            if upper in providers:
                _use(provider, providers[upper].geom)
    swaps = [(name, Geom("swap", name)) for name in _swaps(proc)]
    for name, geom in [*_file_systems(table, providers, sysfs), *swaps]:
        if name in providers:
            _use(providers[name], geom)
    return _LinkedGraph(providers)


def _file_systems(table: Table, names: Collection[str], sysfs: str) -> list[tuple[str, Geom]]:
    numbers = {line(f"{sysfs}/class/block/{name}/dev"): name for name in names}
    points: dict[str, list[str]] = {}
    kinds = {}
    for entry in table:
        if entry.device in numbers:
            name = numbers[entry.device]
            points.setdefault(name, []).append(entry.point)
            kinds[name] = entry.kind
    for kind in entries(f"{sysfs}/fs"):
        # Also those that are mounted for other processes alone, or that were unmounted while they were in use.
        for name in entries(f"{sysfs}/fs/{kind}"):
            if name in names and name not in points:
                points[name], kinds[name] = ["a file system that is mounted nowhere here"], kind
    return [(name, Geom(kinds[name], ", ".join(where))) for name, where in points.items()]


def _add_disk(path: str, name: str, providers: dict[str, Provider]) -> None:
    """Add a disk, or what the kernel makes of others, and its partitions."""
    driver = name.rstrip(string.digits).rstrip("-")
    geom = Geom("DISK" if os.path.exists(f"{path}/device") else driver, name)
    disk = providers[name] = Provider(geom, name, {"ident": _serial(path)})
    geom.providers.append(disk)
    parts = [part for part in entries(path) if os.path.exists(f"{path}/{part}/partition")]
    if parts:
        table = Geom("PART", name)
        table.providers += [Provider(table, part, {}) for part in parts]
        providers.update({part.name: part for part in table.providers})
        _use(disk, table)


def _use(provider: Provider, geom: Geom) -> None:
    consumer = Consumer(geom, "r1w1e1")
    consumer.provider = provider
    geom.consumers.append(consumer)
    provider.consumers.append(consumer)


def _serial(path: str) -> str:
    try:
        with open(f"{path}/device/vpd_pg80", "rb") as file:
            page = file.read()
    except OSError:
        return ""
    return page[_SERIAL:].strip(b"\0 ").decode("ascii", "replace")


def _swaps(proc: str) -> list[str]:
    try:
        with open(f"{proc}/swaps", encoding="ascii", errors="replace") as file:
            return [os.path.basename(text.split()[0]) for text in file if text.startswith("/dev/")]
    except OSError:
        return []


async def other_users(host: Host, provider: Provider, *, blocking: bool) -> list[str]:
    """Describe the processes that have it, or a part of it, open (``blocking``: for writing), else another claim."""
    parts = [part.name for user in provider.consumers if user.geom.kind == "PART" for part in user.geom.providers]
    devices = [f"/dev/{name}" for name in (provider.name, *parts)]
    try:
        pids = [
            pid
            for pid, writes in await host.call_with_timeout(openers, devices, timeout=_SEARCH)
            if writes or not blocking
        ]
        if pids:
            return [f"{process_table.describe(pids)} (a process that has /dev/{provider.name} open)"]
        if not blocking and await host.call_with_timeout(is_claimed, devices, timeout=_SEARCH):
            return [f"something in the kernel that has claimed /dev/{provider.name}"]
    except NoResponseError:
        # Nobody can open it now.
        pass
    return []


def openers(devices: list[str]) -> list[tuple[int, bool]]:
    """Return the processes that have one of these open, and whether they may write. For a child."""
    writes: dict[int, bool] = {}
    for device in devices:
        for pid in process_table.holders(device):
            for access in _accesses(pid, device):
                writes[pid] = writes.get(pid, False) or access != os.O_RDONLY
    return sorted((pid, writes[pid]) for pid in writes if line(f"/proc/{pid}/comm") not in _PASSING)


def _accesses(pid: int, device: str) -> Iterator[int]:
    for descriptor in entries(f"/proc/{pid}/fd") if pid != os.getpid() else []:
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") == device:
                with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
                    yield from (int(text.split()[1], 8) & os.O_ACCMODE for text in file if text.startswith("flags:"))


def is_claimed(devices: list[str]) -> bool:
    """Tell whether one of these is claimed for somebody alone, be it the kernel. For a child."""
    for device in devices:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
    return False


def entries(directory: str) -> list[str]:
    """Return the names in a directory of sysfs(5) or proc(5) in order; none if it is not there."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def line(path: str) -> str:
    """Return the first line of a file there; "" if it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
