"""mount_glusterfs of the port net/glusterfs: a script, and the client, which makes itself a daemon.

See docs/freebsd.md#glusterfs.

A volume VOL of a server is what world.export(SERVER, "/VOL") exports. The client mounts before it asks any server, so
that the mount is in the table while nothing answers there; it ends when it is unmounted.
"""

from __future__ import annotations

import contextlib
import os
import time

from . import kernel, vfs
from .machine import Machine, daemon, fail, tell, warn
from .options import UsageError, getopt
from .store import POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

WITH_VALUE = set(
    "log-level log-file transport direct-io-mode mac-compat volume-name volume-id volfile-check server-port"
    " attribute-timeout entry-timeout negative-timeout gid-timeout background-qlen backup-volfile-servers"
    " backupvolfile-server fetch-attempts congestion-threshold xlator-option fuse-mountopts use-readdirp"
    " no-root-squash root-squash".split()
)
FLAGS = set(
    "ro acl selinux worm fopen-keep-cache enable-ino32 mem-accounting aux-gfid-mount rw noauto _netdev"
    " capability".split()
)
USAGE = "Usage: mount_glusterfs <volumeserver>:<volumeid/volumeport> -o<options> <mountpoint>"


def main(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "Vo:h")
    except UsageError:
        # As in the script: what it does not know is no failure.
        warn(USAGE)
        return 0
    options: dict[str, str] = {}
    for _, text in found:
        for pair in text.split(","):
            name, sign, value = pair.partition("=")
            if sign and name not in WITH_VALUE:
                return fail(f"Invalid option: {name}")
            if not sign and name not in FLAGS:
                return fail(f"Invalid option {name}")
            options[name] = value
    source, node = (*operands, "", "")[:2]
    server, _, volume = source.rpartition(":")
    if not server or not volume:
        return fail("ERROR: Server name/volume name unspecified cannot proceed further..")
    try:
        place = machine.real_place(node)
        if not vfs.is_directory(place):
            raise NotADirectoryError
    except OSError:
        return fail("ERROR: Mount point does not exist\nPlease specify a mount point")
    servers = [server, *filter(None, options.get("backup-volfile-servers", "").split(":"))]
    return start(
        machine, Client(servers, volume, place.path, read_only="ro" in options, log=options.get("log-file", os.devnull))
    )


class Client:
    special = "/dev/fuse"

    def __init__(self, servers: list[str], volume: str, node: str, *, read_only: bool, log: str) -> None:
        self.servers = servers
        self.volume = volume
        self.node = node
        self.read_only = read_only
        self.log = log
        self.fsid = ""
        # What its start command prints when it fails.
        self.words = ""

    def note(self, text: str) -> None:
        with open(self.log, "a", encoding="utf-8") as stream:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
            stream.write(f"[{moment}.000000 +0000] E [glusterfsd.c:1:somewhere] 0-glusterfs: {text}\n")

    def mount(self, state: State, machine: Machine) -> None:
        place = machine.place(state, self.node)
        kernel.check_mount_point(state, machine, place, [])
        # What there is to see is known when a server has told it.
        mount = kernel.add_mount(
            state, place, self.special, "fusefs", ["ro"] if self.read_only else [],
            backing=machine.empty, host=self.servers[0], options={"client": str(os.getpid())},
        )  # fmt: skip
        self.fsid = mount["fsid"]

    def ask(self, machine: Machine) -> bool:
        """Ask the servers in turn for the volume; one that is silent is waited for."""
        for server in self.servers:
            while (known := machine.state()["servers"].get(server)) and known["state"] == "frozen":
                machine.store.sleep(POLL)
            if known is None:
                self.note(f"DNS resolution failed on host {server}")
            elif known["state"] != "up":
                self.note(f"connection to {server}:24007 failed (Connection refused); disconnecting socket")
            elif f"/{self.volume}" not in known["exports"]:
                self.note(f"failed to fetch volume file (key:{self.volume})")
                return False
            else:
                backing = known["exports"][f"/{self.volume}"]
                machine.store.change(lambda state: self.show(state, server, backing))  # noqa: B023
                return True
        return False

    def show(self, state: State, server: str, backing: str) -> None:
        mount = vfs.by_fsid(state, self.fsid)
        if mount is not None:
            mount.update({"host": server, "backing": backing})

    def leave(self, state: State, machine: Machine) -> None:
        """Unmount by the directory's name, as libfuse does last (fuse_kern_unmount() in the port's lib/mount_bsd.c)."""
        there = [mount for mount in state["mounts"] if mount["node"] == self.node]
        with contextlib.suppress(OSError):
            for mount in there[-1:]:
                kernel.unmount(state, machine, mount["fsid"], force=True)

    def unmount(self, state: State) -> None:
        mount = vfs.by_fsid(state, self.fsid)
        if mount is not None:
            kernel.remove(state, mount)


def start(machine: Machine, client: Client) -> int:
    """Tell the process that has started the daemon whether it is of use, and stay."""
    if "fusefs" not in machine.state()["modules"]:
        client.note("cannot open /dev/fuse (No such file or directory)")
        return 1
    words = daemon(lambda word: serve(machine, client, word))
    return 0 if words == "1" else fail(words) if words else 1


def serve(machine: Machine, client: Client, word: int) -> None:
    machine.call(lambda state: client.mount(state, machine))
    if not client.ask(machine):
        machine.store.change(client.unmount)
        os.write(word, client.words.encode())
        return
    tell(word, "1")
    while vfs.by_fsid(machine.state(), client.fsid) is not None:
        machine.store.wait_for_change()
    farewell = machine.state()["settings"]["client_farewell"]
    if farewell:
        machine.store.sleep(farewell)
        machine.store.change(lambda state: client.leave(state, machine))
