"""Python modules that would show a process the machine below: syslog, and psutil's mount table and processes."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import time

from . import vfs
from .machine import Machine
from .names import is_of_a_machine, machine_name
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType
    from typing import Any

# What is on the command line of each process that runs tests: pytest's, and that of a worker of pytest-xdist (execnet).
_TESTERS = ("pytest", "import sys;exec(eval(sys.stdin.readline()))")
# Below such a directory lies what pytest has made for a test: by that is told what a test has left behind.
_TESTED = "/pytest-of-"


def install_syslog(path: str) -> None:
    import syslog

    prefix = ""

    def openlog(ident: str = "", *_: object, **__: object) -> None:
        nonlocal prefix
        prefix = f"{ident}: " if ident else ""

    def write(*args: Any) -> None:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%H:%M:%S')} {prefix}{args[-1]}\n")

    syslog.openlog = openlog
    syslog.syslog = write  # type: ignore[assignment]


def install_psutil(state: str) -> None:
    finder = PsutilFinder(Store(state), sys.platform)
    if "psutil" in sys.modules:
        finder.furnish(sys.modules["psutil"])
    else:
        sys.meta_path.insert(0, finder)


class PsutilFinder:
    """psutil chooses its code by sys.platform when it is imported, so it must see the real one then."""

    def __init__(self, store: Store, platform: str) -> None:
        self.store = store
        self.platform = platform

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "psutil" or self not in sys.meta_path:
            return None
        # Not a child of importlib.abc.Loader, which costs every hook 20 ms.
        return importlib.machinery.ModuleSpec(fullname, self)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        simulated, sys.platform = sys.platform, self.platform
        sys.meta_path.remove(self)
        sys.modules.pop("psutil", None)
        try:
            module = importlib.import_module("psutil")
        finally:
            sys.platform = simulated
        self.furnish(module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has been run already."""

    def furnish(self, module: ModuleType) -> None:
        """Replace what psutil tells of the machine that it does not know."""
        vars(module)["disk_partitions"] = self.disk_partitions
        process_iter = module.process_iter
        vars(module)["process_iter"] = lambda attrs: self.processes(process_iter, attrs)

    def processes(self, process_iter: Callable[..., Iterator[Any]], attrs: Sequence[str]) -> list[Any]:
        """Return the host's processes but for those of other machines, and of tests that run beside this one."""
        tester, place = self.store.read()["settings"]["tester"], os.path.dirname(self.store.path)
        listed = {process.pid: process for process in process_iter([*attrs, "ppid", "name", "cmdline"])}

        def is_visible(pid: int) -> bool:
            while pid in listed and pid != tester:
                info = listed[pid].info
                if is_of_a_machine(info["name"] or ""):
                    return bool(info["name"].startswith(machine_name(self.store.path)))
                words = info["cmdline"] or ()
                if any(os.path.basename(word) in _TESTERS or (_TESTED in word and place not in word) for word in words):
                    return False
                pid = info["ppid"]
            return True

        return [process for pid, process in listed.items() if is_visible(pid)]

    def disk_partitions(self, *, all: bool = False) -> list[Any]:
        from typing import NamedTuple

        class Partition(NamedTuple):
            device: str
            mountpoint: str
            fstype: str
            opts: str

        # As psutil shows it.
        Partition.__name__ = "sdiskpart"
        rows = []
        for mount in vfs.listed(self.store.read()):
            words = ["ro" if "ro" in mount["flags"] else "rw"]
            words += [flag for flag in mount["flags"] if flag in ("sync", "noexec", "nosuid", "async", "noatime")]
            rows.append(Partition(mount["special"], mount["node"], mount["fstype"], ",".join(words)))
        return rows


def install_c_library(state: str) -> None:
    """Install a C library whose getfsstat(2) and unmount(2) tell and change the simulated mount table.

    It is laid out as FreeBSD's <sys/mount.h> has it. Only in machines whose setting says so: elsewhere the hooks must
    ask mount(8), which can be made to fail, and the library has neither, as on Linux: a real FreeBSD's would tell, and
    change, what is mounted there.
    """
    store = Store(state)
    import ctypes

    class Library:
        def __init__(self, name: object, *, use_errno: bool = False) -> None:
            assert name is None
            if store.read()["settings"]["getfsstat"]:
                self.getfsstat = Getfsstat(store)
                self.unmount = Unmount(state)

    vars(ctypes)["CDLL"] = Library


class Unmount:
    """Unmount by the number of a file system (kern_unmount() of sys/kern/vfs_mount.c), logged as a command."""

    by_fsid, force = 0x08000000, 0x00080000

    def __init__(self, state: str) -> None:
        self.machine = Machine(state)

    def __call__(self, path: bytes, flags: int) -> int:
        import ctypes

        from . import kernel

        assert flags & self.by_fsid
        words = path.decode().split(":")
        assert words[0] == "FSID"
        fsid = b"".join(int(word).to_bytes(4, "little", signed=True) for word in words[1:]).hex()
        self.machine.store.log_call({"name": "unmount(2)", "argv": ["unmount", hex(flags & ~self.by_fsid), fsid]})
        try:
            self.machine.call(lambda state: kernel.unmount(state, self.machine, fsid, force=bool(flags & self.force)))
        except OSError as problem:
            ctypes.set_errno(problem.errno or 0)
            return -1
        return 0


class Getfsstat:
    """As the system call: without a buffer the number of mounts, with one no more of them than it has room for."""

    # f_version, f_flags, f_fsid, the names at the end; what lies between is numbers that nobody here asks for.
    layout = "=I4xQ176x8s80x16s1024s1024s"
    version, nowait = 0x20140518, 2

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, buffer: Any, size: int, mode: int) -> int:
        import ctypes
        import struct

        assert mode == self.nowait, "any other mode asks the servers, and hangs with them"
        mounts = vfs.listed(self.store.read())
        if buffer is None:
            return len(mounts)
        fitting = mounts[: size // struct.calcsize(self.layout)]
        data = b"".join(
            statfs(
                mount["special"].encode(),
                mount["node"].encode(),
                mount["fstype"].encode(),
                flags=int("ro" in mount["flags"]),
                fsid=bytes.fromhex(mount["fsid"]),
            )
            for mount in fitting
        )
        ctypes.memmove(buffer, data, len(data))
        return len(fitting)


def statfs(
    source: bytes,
    point: bytes,
    kind: bytes = b"nfs",
    flags: int = 0,
    version: int = Getfsstat.version,
    fsid: bytes = b"",
) -> bytes:
    """Return the struct statfs of one mount."""
    import struct

    return struct.pack(Getfsstat.layout, version, flags, fsid, kind, source, point)
