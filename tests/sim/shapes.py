"""What the state of the machine looks like.

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
    # An unmount of it is under way: plain, force, dismount (umount -N).
    leaving: str
    # A umount(8) has not come to that yet, plain or force: it waits for a lock that who waits for the server has.
    queued: str
    # umount -N has ended its requests for good, be it unmounted or not.
    cancelled: bool
    base: bool


class Server(TypedDict):
    tree: str
    exports: dict[str, str]
    state: str
    versions: list[int]
    clients: str
    delay: float
    grace: bool


class Holder(TypedDict):
    pid: int
    how: str


class Guest(TypedDict):
    pid: int
    root: str
    devfs: str
    hostname: str


class Unit(TypedDict):
    file: str
    image: str
    readonly: bool
    lower: str


class Disk(TypedDict):
    image: str
    ident: str
    lunid: str
    descr: str
    session: str


class Gate(TypedDict):
    image: str
    # Of an image in a Ceph cluster, and the process that serves it.
    spec: str
    pid: int


class Part(TypedDict):
    lower: str
    image: str
    label: str


class Eli(TypedDict):
    provider: str
    image: str
    readonly: bool
    on_last_close: bool
    written: bool
    sectorsize: int
    keyno: int


class Multipath(TypedDict):
    uuid: str
    paths: list[str]
    failed: list[str]


class Open(TypedDict):
    name: str
    pid: int
    writes: bool


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


class Session(TypedDict):
    id: int
    target: str
    portal: str
    initiator: str
    isid: str
    enabled: bool
    discovery: bool
    began: float
    failed: bool
    connected: bool
    connected_at: float
    reason: str
    silent: bool
    scanned: bool
    scbus: int
    luns: dict[str, str]
    passes: dict[str, int]
    barred: dict[str, str]
    # When it is gone, if somebody has asked for that.
    leaving: float
    known: dict[str, str]


class Portal(TypedDict):
    state: str
    since: float


class Lun(TypedDict):
    image: str
    serial: str
    generation: int
    keys: dict[str, int]
    holder: str
    kind: int
    attention: dict[str, str]


class Chap(TypedDict):
    secret: str
    mutual_user: str
    mutual_secret: str


class Target(TypedDict):
    portals: list[str]
    initiators: list[str] | None
    chap: dict[str, Chap]
    luns: dict[str, Lun]
    # Where a portal sends those who log in.
    redirects: dict[str, str]


class Node(TypedDict):
    local: str
    address: str
    role: str
    since: float
    previous: str
    alive: bool
    created: bool
    pid: int


class Resource(TypedDict):
    image: str
    nodes: dict[str, Node]
    linked: bool
    linked_since: float
    split: str
    torn: bool


class RbdImage(TypedDict):
    image: str
    features: list[str]
    # The host that holds the lock of a writer, and all that have it open.
    owner: str
    watchers: list[str]


class Box(TypedDict):
    worlds: dict[str, str]
    portals: dict[str, Portal]
    targets: dict[str, Target]
    resources: dict[str, Resource]
    images: dict[str, RbdImage]
    cluster: str


class Dataset(TypedDict):
    files: str
    mountpoint: str
    canmount: str
    origin: str
    quota: str
    readonly: str


class Settings(TypedDict):
    uid: int
    force_seconds: float
    connect_seconds: float
    retry_seconds: float
    locale_files: bool
    getfsstat: bool
    just_booted: bool
    no_modules: list[str]
    # The process that has made the machine: what others run beside it is hidden (fakes.py).
    tester: int
    client_farewell: float
    hostname: str
    hostuuid: str
    fsck_seconds: float
    iscsid: bool
    hastd: bool
    rc_conf: list[str]
    no_iscsi_module: bool
    login_seconds: float
    scan_seconds: float
    # Between iscsictl -R and the end of the session.
    removal_seconds: float
    login_timeout: float
    ping_seconds: float
    fail_on_disconnection: int
    wait_second: float
    hast_seconds: float
    hast_connect_seconds: float
    hast_falls_back: bool
    daemons: list[str]
    sysctls: dict[str, str]
    # Host: inet, inet6, both, again (the resolver does not answer), unknown.
    resolver: dict[str, str]
    # Until umount(8) gives up a resolver that does not answer.
    resolver_seconds: float
    # Nothing new can be made in the state directory of our hooks.
    full: bool


class State(TypedDict):
    serial: int
    total: int
    counts: dict[str, int]
    mounts: list[Mount]
    servers: dict[str, Server]
    holders: dict[str, list[Holder]]
    jails: dict[str, int]
    guests: dict[str, Guest]
    units: dict[str, Unit]
    disks: dict[str, Disk]
    gates: dict[str, Gate]
    parts: dict[str, Part]
    elis: dict[str, Eli]
    multipaths: dict[str, Multipath]
    datasets: dict[str, Dataset]
    # By pool: what zpool(8) has exported.
    exported: dict[str, dict[str, Dataset]]
    labels: dict[str, str]
    nodes: dict[str, str]
    opens: list[Open]
    untasted: list[str]
    panic: str
    storage: str
    sessions: list[Session]
    session_serial: int
    due: float
    modules: list[str]
    stuck: dict[str, bool]
    # Processes that are about to open a provider, and cannot.
    opening: dict[str, str]
    # The server that a process in the kernel waits for.
    waits: dict[str, str]
    faults: list[Fault]
    settings: Settings


Json = dict[str, Any]
