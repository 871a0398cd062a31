"""A storage box that several simulated machines share, as tests see it: iSCSI targets, and HAST resources.

storage = Storage(path)
world = World.create(other_path, storage=storage, hostname="node1")
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import box, mounted, reservations, resources, sessions
from .camcontrol import TYPES
from .disks import new_image
from .shapes import Box, Lun, Node, RbdImage, Resource
from .store import STATE, Store
from .world import World

T = TypeVar("T")

PORTAL = "172.16.0.1"
LUN_SIZE = 64 << 20
HAST_SIZE = 33549824
FIRST_HAST_ADDRESS = 100


class Storage:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / STATE).exists():
            empty: Any = box.NOTHING
            Store(str(self.path)).write(empty)

    @property
    def box(self) -> Box:
        return box.read(str(self.path))

    def change(self, act: Callable[[Box], T]) -> T:
        """Change the box, and let all machines notice."""
        result = box.change(str(self.path), act)
        box.publish(str(self.path))
        return result

    def join_world(self, world: World) -> None:
        hostname = world.state["settings"]["hostname"]
        self.change(lambda known: known["worlds"].update({hostname: str(world.path)}))

    # iSCSI targets

    def target(self, iqn: str, portals: Sequence[str] = (PORTAL,), initiators: Sequence[str] | None = None) -> None:
        """Make a target that all INITIATORS may log in to, through any of PORTALS."""
        names = [sessions.normal(portal) for portal in portals]

        def act(known: Box) -> None:
            for name in names:
                known["portals"].setdefault(name, {"state": "up", "since": time.time()})
            known["targets"][iqn] = {
                "portals": names, "initiators": None if initiators is None else list(initiators), "chap": {},
                "luns": {}, "redirects": {},
            }  # fmt: skip

        self.change(act)

    def lun(
        self,
        iqn: str,
        lun: int = 0,
        serial: str = "disk0",
        size: int = LUN_SIZE,
        partitions: Mapping[str, str] | None = None,
    ) -> Path:
        """Make a LUN of a target, and return the file behind it, on which World.newfs() and its like work as well."""
        image = new_image(self.path / "images" / f"{serial}-{lun}", size, partitions)
        known: Lun = {
            "image": str(image), "serial": serial, "generation": 0, "keys": {}, "holder": "", "kind": 0,
            "attention": {},
        }  # fmt: skip
        self.change(lambda changed: changed["targets"][iqn]["luns"].update({str(lun): known}))
        return image

    def chap(self, iqn: str, user: str, secret: str, mutual_user: str = "", mutual_secret: str = "") -> None:
        """From now on nobody logs in to the target without one of its users."""
        self.change(
            lambda known: known["targets"][iqn]["chap"].update(
                {user: {"secret": secret, "mutual_user": mutual_user, "mutual_secret": mutual_secret}}
            )
        )

    def redirect(self, iqn: str, portal: str, address: str) -> None:
        """Answer a login to the target by way of PORTAL with TargetAddress=ADDRESS; "": no more."""
        name = sessions.normal(portal)

        def act(known: Box) -> None:
            known["targets"][iqn]["redirects"].pop(name, None)
            if address:
                known["targets"][iqn]["redirects"][name] = address

        self.change(act)

    def no_chap(self, iqn: str) -> None:
        self.change(lambda known: known["targets"][iqn]["chap"].clear())

    def remove_target(self, iqn: str) -> None:
        self.change(lambda known: known["targets"].pop(iqn))

    def freeze(self, portal: str = PORTAL) -> None:
        """No answer of any kind any more."""
        self._portal_state(portal, "frozen")

    def refuse(self, portal: str = PORTAL) -> None:
        """Refuse connections: the host is up, and nothing listens."""
        self._portal_state(portal, "refused")

    def down(self, portal: str = PORTAL) -> None:
        """Not even the address is answered for: connecting fails at once with `Host is down`."""
        self._portal_state(portal, "down")

    def up(self, portal: str = PORTAL) -> None:
        self._portal_state(portal, "up")

    def _portal_state(self, portal: str, name: str) -> None:
        name_of_portal = sessions.normal(portal)
        self.change(lambda known: known["portals"].update({name_of_portal: {"state": name, "since": time.time()}}))

    def _lun(self, iqn: str, lun: int) -> Lun:
        return self.box["targets"][iqn]["luns"][str(lun)]

    def reservation(self, iqn: str, lun: int = 0) -> dict[str, Any]:
        """Return the holder's key, the type of the reservation ("" for none), and all registered keys."""
        found = self._lun(iqn, lun)
        return {
            "holder": reservations.holder_key(found),
            "type": TYPES[found["kind"]][0] if found["kind"] else "",
            "keys": list(found["keys"].values()),
        }

    def forget_reservations(self, iqn: str, lun: int = 0) -> None:
        """Start the target anew, without the reservations that were not to outlive that (no APTPL)."""

        def act(known: Box) -> None:
            known["targets"][iqn]["luns"][str(lun)].update({"keys": {}, "holder": "", "kind": 0})

        self.change(act)

    def writers(self, iqn: str, lun: int = 0) -> list[str]:
        """Return the hosts that have the LUN mounted for writing now, and whose writes it takes."""
        return [host for host, path in self.box["worlds"].items() if self._writes(World(path), iqn, str(lun))]

    def _writes(self, world: World, iqn: str, lun: str) -> bool:
        try:
            state = world.state
        except FileNotFoundError:
            return False
        disks = {
            session["luns"][lun]: session
            for session in state["sessions"]
            if session["target"] == iqn and lun in session["luns"]
        }
        for mount in state["mounts"]:
            provider = mount["options"].get("provider")
            if provider and "ro" not in mount["flags"]:
                below = [disks[name] for name in mounted.disks_below(state, provider) if name in disks]
                if any(not session["barred"].get(lun) for session in below):
                    return True
        return False

    # Ceph

    def rbd(self, spec: str, features: Sequence[str] = ("layering", "exclusive-lock"), size: int = LUN_SIZE) -> Path:
        """Make an image in the cluster, and return the file behind it."""
        image = new_image(self.path / "images" / f"rbd-{spec.replace('/', '-')}", size)
        known: RbdImage = {"image": str(image), "features": list(features), "owner": "", "watchers": []}
        self.change(lambda changed: changed["images"].update({spec: known}))
        return image

    def watch(self, spec: str, *hosts: str) -> None:
        """Who has the image open."""
        self.change(lambda known: known["images"][spec].update({"watchers": list(hosts)}))

    def cluster(self, state: str) -> None:
        """Set the state of the cluster: "up", or "frozen", in which its monitors are silent."""
        self.change(lambda known: known.update({"cluster": state}))

    # HAST

    def hast(
        self,
        name: str,
        worlds: Sequence[World],
        *,
        local: str = "/dev/md20",
        created: bool = True,
        size: int = HAST_SIZE,
    ) -> Path:
        """Make a resource of one node, whose peer is then absent, or of two, and return the file behind it."""
        image = new_image(self.path / "images" / f"hast-{name}", size)
        nodes: dict[str, Node] = {}
        for number, world in enumerate(worlds):
            settings = world.state["settings"]
            nodes[settings["hostname"]] = {
                "local": local, "address": f"172.16.0.{FIRST_HAST_ADDRESS + number}", "role": resources.INIT,
                "since": 0.0, "previous": resources.INIT, "alive": settings["hastd"], "created": created, "pid": 40,
            }  # fmt: skip
        resource: Resource = {
            "image": str(image), "nodes": nodes, "linked": True, "linked_since": 0.0, "split": "", "torn": False,
        }  # fmt: skip
        self.change(lambda known: known["resources"].update({name: resource}))
        return image

    def role(self, name: str, world: World) -> str:
        """Return the role that hastd of that machine has now."""
        return self._node(name, world)["role"]

    def _node(self, name: str, world: World) -> Node:
        return self.box["resources"][name]["nodes"][world.state["settings"]["hostname"]]

    def cut(self, name: str) -> None:
        """Keep the nodes from reaching each other."""
        self._link(name, linked=False)

    def join(self, name: str) -> None:
        self._link(name, linked=True)

    def _link(self, name: str, *, linked: bool) -> None:
        self.change(lambda known: known["resources"][name].update({"linked": linked, "linked_since": time.time()}))

    def tear(self, name: str) -> None:
        """Each node has been written to while the other was away: they do not connect any more."""
        self.change(lambda known: known["resources"][name].update({"torn": True}))

    def hast_down(self, world: World) -> None:
        """Switch the node off; when it is back it has no role."""
        self._alive(world, alive=False)

    def hast_up(self, world: World) -> None:
        self._alive(world, alive=True)

    def _alive(self, world: World, *, alive: bool) -> None:
        hostname = world.state["settings"]["hostname"]

        def act(known: Box) -> None:
            for resource in known["resources"].values():
                if hostname in resource["nodes"]:
                    changes = {"alive": alive, "role": resources.INIT, "since": time.time()}
                    resource["nodes"][hostname].update(changes)  # type: ignore[typeddict-item]

        self.change(act)

    def split_brain(self, name: str) -> str:
        """Return "" for never, "both primary", or "both writing" if both had it mounted for writing meanwhile."""

        def act(known: Box) -> str:
            resources.note_writers(known, name)
            return known["resources"][name]["split"]

        return self.change(act)
