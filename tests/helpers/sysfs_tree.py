"""A sysfs as a Linux 6.1 shows it, for those that read one."""

from __future__ import annotations

from pathlib import Path

TARGET = "iqn.2026-11.lab:disk0"


class Sysfs:
    """The tree below ``top``."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.add("block/vda/dev", "254:0")
        self.add("block/vda/device/uevent", "")
        self.add("class/block/vda/dev", "254:0")

    def __str__(self) -> str:
        return str(self.top)

    def add(self, path: str, content: str | bytes) -> None:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def session(
        self, number: int, target: str = TARGET, address: str = "10.0.0.1", port: str = "3260", state: str = "LOGGED_IN"
    ) -> None:
        session = f"class/iscsi_session/session{number}"
        self.add(f"{session}/targetname", target)
        self.add(f"{session}/state", state)
        (self.top / session / "device" / f"connection{number}:0").mkdir(parents=True)
        connection = f"class/iscsi_connection/connection{number}:0"
        self.add(f"{connection}/persistent_address", address)
        self.add(f"{connection}/persistent_port", port)

    def lun(self, session: int, host: int, lun: int, disk: str = "") -> None:
        device = f"class/iscsi_session/session{session}/device/target{host}:0:0/{host}:0:0:{lun}"
        (self.top / device).mkdir(parents=True)
        if disk:
            (self.top / device / "block" / disk).mkdir(parents=True)

    def disk(self, name: str, number: str, serial: bytes = b"", parts: int = 0) -> None:
        self.add(f"block/{name}/dev", number)
        self.add(f"class/block/{name}/dev", number)
        self.add(f"block/{name}/device/state", "running")
        if serial:
            self.add(f"block/{name}/device/vpd_pg80", b"\0\x80\0" + bytes([len(serial)]) + serial)
        for part in range(1, parts + 1):
            major, _, minor = number.partition(":")
            self.add(f"block/{name}/{name}{part}/partition", str(part))
            self.add(f"class/block/{name}{part}/dev", f"{major}:{int(minor) + part}")

    def mapping(self, name: str, number: str, *below: str) -> None:
        self.add(f"block/{name}/dev", number)
        self.add(f"class/block/{name}/dev", number)
        for lower in below:
            (self.top / "class" / "block" / lower / "holders" / name).mkdir(parents=True)
