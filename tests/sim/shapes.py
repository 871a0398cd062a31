"""What the state of the machine looks like in world.json.

Only type checkers import this module: `typing` would double the time that a simulated command takes to start.
"""

from __future__ import annotations

from typing import Any, TypedDict


class Mount(TypedDict):
    special: str
    node: str
    fstype: str
    flags: list[str]
    fsid: str
    options: dict[str, str]
    backing: str
    host: str
    parent: str
    lower: str
    stale: bool
    leaving: str
    base: bool


class Server(TypedDict):
    tree: str
    exports: dict[str, str]
    state: str
    versions: list[int]
    clients: str
    delay: float


class Holder(TypedDict):
    pid: int
    how: str


class Unit(TypedDict):
    file: str
    image: str
    readonly: bool
    lower: str


class Fault(TypedDict):
    command: str | None
    first: int
    last: int | None
    kind: str
    text: str
    status: int
    seconds: float
    megabytes: int
    when: str


class Settings(TypedDict):
    uid: int
    force_seconds: float
    connect_seconds: float
    retry_seconds: float
    locale_files: bool
    getfsstat: bool


class State(TypedDict):
    serial: int
    total: int
    counts: dict[str, int]
    mounts: list[Mount]
    servers: dict[str, Server]
    holders: dict[str, list[Holder]]
    jails: dict[str, int]
    units: dict[str, Unit]
    modules: list[str]
    stuck: dict[str, bool]
    faults: list[Fault]
    settings: Settings


Json = dict[str, Any]
