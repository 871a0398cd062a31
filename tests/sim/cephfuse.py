"""ceph-fuse(8), docs/freebsd.md#ceph-fuse. Its cluster is a server at its first monitor's address, with /cephfs."""

from __future__ import annotations

import os

from .gluster import Client, start
from .machine import Machine, fail
from .store import POLL

WITH_VALUE = ("--id", "-c", "-m", "--keyring", "-k", "-r", "-o", "--client_mds_namespace")


class Ceph(Client):
    special = "ceph-fuse"

    def ask(self, machine: Machine) -> bool:
        while not ((server := machine.state()["servers"].get(self.servers[0])) and server["state"] == "up"):
            machine.store.sleep(POLL)
        backing = machine.state()["servers"][self.servers[0]]["exports"]["/cephfs"] + self.volume
        if not os.path.isdir(backing):
            self.words = f"ceph-fuse[{os.getpid()}]: ceph mount failed with (2) No such file or directory"
            return False
        machine.store.change(lambda state: self.show(state, self.servers[0], backing))
        return True


def main(machine: Machine, argv: list[str]) -> int:
    words, options, operands = list(argv), {}, []
    while words:
        name, sign, value = words.pop(0).partition("=")
        if name in WITH_VALUE:
            options[name] = value if sign else words.pop(0)
        elif name.startswith("-"):
            return fail(f"fuse: unknown option `{name}'")
        else:
            operands.append(name)
    (node,) = operands
    servers = options["-m"].split(",")
    place = machine.real_place(node)
    return start(
        machine,
        Ceph(servers, options["-r"].rstrip("/"), place.path, read_only=options.get("-o") == "ro", log=os.devnull),
    )
