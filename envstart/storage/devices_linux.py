"""What Linux knows of block devices, as a graph of the shape that GEOM's has (geom.py): partitions, what lies on what,
and who uses it.

sysfs and the mount table are read, which opens no device and never blocks. What they do not tell, others() does.
"""

from __future__ import annotations

import os
import string

from envstart.errors import NoResponseError
from envstart.storage.devices import Consumer, Geom, Graph, Provider
from envstart.system import filesystem, process_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envstart.mounts.table import Table
    from envstart.system.host import Host

_USED = "r1w1e1"
# Offset of the serial number in the page "unit serial number" of a disk (SPC-4, 7.8.15).
_SERIAL = 4
# Seconds for a look at the open files of all processes.
_SEARCH = 5.0
# Of open(2): how a descriptor may be used.
_ACCESS, _READS = 3, 0
# They look at a disk whenever somebody who could write to it has closed it, and lose nothing with it.
_LOOKERS = ("(udev-worker)", "systemd-udevd", "udevd")


class _Devices(Graph):
    def provider(self, device: str) -> Provider | None:
        """As in Graph, also by a link to the device, as those in /dev/disk."""
        return super().provider(os.path.realpath(device) if device.startswith("/") else device)


def read(table: Table, sysfs: str = "/sys", proc: str = "/proc") -> Graph:
    """The devices below ``sysfs`` and who uses them; one that comes or goes at this moment may be left out."""
    providers: dict[str, Provider] = {}
    for name in _entries(f"{sysfs}/block"):
        _disk(f"{sysfs}/block/{name}", name, providers)
    numbers = {_line(f"{sysfs}/class/block/{name}/dev"): name for name in providers}
    for name, provider in providers.items():
        for upper in _entries(f"{sysfs}/class/block/{name}/holders"):
            if upper in providers:
                _use(provider, providers[upper].geom)
    points: dict[str, list[str]] = {}
    kinds = {}
    for entry in table:
        if entry.device in numbers:
            name = numbers[entry.device]
            points.setdefault(name, []).append(entry.point)
            kinds[name] = entry.kind
    for kind in _entries(f"{sysfs}/fs"):
        # Also those that are mounted for other processes alone, or that were unmounted while they were in use.
        for name in _entries(f"{sysfs}/fs/{kind}"):
            if name in providers and name not in points:
                points[name], kinds[name] = ["a file system that is mounted nowhere here"], kind
    for name, where in points.items():
        _use(providers[name], Geom(kinds[name], ", ".join(where), {}))
    for name in _swaps(proc):
        if name in providers:
            _use(providers[name], Geom("swap", name, {}))
    return _Devices(providers)


def _disk(path: str, name: str, providers: dict[str, Provider]) -> None:
    """A disk, or what the kernel makes of others, and its partitions."""
    made = name.rstrip(string.digits).rstrip("-")
    geom = Geom("DISK" if os.path.exists(f"{path}/device") else made, name, {})
    whole = providers[name] = Provider(geom, name, {"ident": _serial(path)})
    geom.providers.append(whole)
    parts = [part for part in _entries(path) if os.path.exists(f"{path}/{part}/partition")]
    if parts:
        table = Geom("PART", name, {})
        _use(whole, table)
        for part in parts:
            providers[part] = Provider(table, part, {})
            table.providers.append(providers[part])


def _use(provider: Provider, geom: Geom) -> None:
    consumer = Consumer(geom, _USED, {})
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
            return [os.path.basename(line.split()[0]) for line in file if line.startswith("/dev/")]
    except OSError:
        return []


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


# Who is not in the graph.


async def others(host: Host, provider: Provider, blocking: bool) -> list[str]:
    """Processes that have it, or a partition of it, open, or only those that are ``blocking`` others: that may write;
    else that something of the kernel has claimed it."""
    parts = [part.name for user in provider.consumers if user.geom.kind == "PART" for part in user.geom.providers]
    devices = [f"/dev/{name}" for name in (provider.name, *parts)]
    try:
        pids = await host.bounded(openers, devices, blocking, timeout=_SEARCH)
        if pids:
            return [f"{process_table.describe(pids)} (a process that has /dev/{provider.name} open)"]
        if not blocking and await host.bounded(claimed, devices, timeout=_SEARCH):
            return [f"something in the kernel that has claimed /dev/{provider.name}"]
    except NoResponseError:
        # Nobody can open it now.
        pass
    return []


def openers(devices: list[str], writing: bool) -> list[int]:
    """Processes that have one of these open, or only those that may write. For a child."""
    found = {pid for device in devices for pid in filesystem.holders(device) if _has(pid, device, writing)}
    return sorted(pid for pid in found - {os.getpid()} if _line(f"/proc/{pid}/comm") not in _LOOKERS)


def _has(pid: int, device: str, writing: bool) -> bool:
    for descriptor in _entries(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") != device:
                continue
            with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
                flags = [line.split()[1] for line in file if line.startswith("flags:")]
        except OSError:
            continue
        if not writing or (flags and int(flags[0], 8) & _ACCESS != _READS):
            return True
    return False


def claimed(devices: list[str]) -> bool:
    """Whether somebody has one of these for itself, be it the kernel. For a child."""
    import errno

    for device in devices:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
    return False
