"""Python modules that would show a process the machine below: syslog, and psutil's mount table."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import time

from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any


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
    sys.meta_path.insert(0, PsutilFinder(Store(state), sys.platform))


class PsutilFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """psutil chooses its code by sys.platform when it is imported, so it must see the real one then."""

    def __init__(self, store: Store, platform: str) -> None:
        self.store = store
        self.platform = platform

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "psutil" or self not in sys.meta_path:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        simulated, sys.platform = sys.platform, self.platform
        sys.meta_path.remove(self)
        sys.modules.pop("psutil", None)
        try:
            module = importlib.import_module("psutil")
        finally:
            sys.platform = simulated
        module.disk_partitions = self.disk_partitions  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been run already."""

    def disk_partitions(self, all: bool = False) -> list[Any]:
        from typing import NamedTuple

        class sdiskpart(NamedTuple):
            device: str
            mountpoint: str
            fstype: str
            opts: str

        rows = []
        for mount in self.store.read()["mounts"]:
            words = ["ro" if "ro" in mount["flags"] else "rw"]
            words += [flag for flag in mount["flags"] if flag in ("sync", "noexec", "nosuid", "async", "noatime")]
            rows.append(sdiskpart(mount["special"], mount["node"], mount["fstype"], ",".join(words)))
        return rows
