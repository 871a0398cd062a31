"""May the file system of a mount, or a provider, be read and written now? What is below it decides.

A disk of an iSCSI session waits as long as its target is silent, and fails where a reservation of another host bars it.
"""

from __future__ import annotations

import errno

from .errors import error
from .store import BlockedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Mount, Session, State


def check_provider(state: State, name: str, *, writing: bool, opening: bool = False) -> None:
    """Block, or raise EIO, as I/O on the provider NAME would, or OPENING it."""
    if not state["sessions"]:
        return
    if opening:
        from .geom import providers

        if name in providers(state):
            check_topology(state)
    for disk in disks_below(state, name):
        for session in state["sessions"]:
            for number, unit in session["luns"].items():
                if unit != disk:
                    continue
                check_answers(session, name if opening else "")
                barred = session["barred"].get(number, "")
                if barred == "rw" or (barred and writing):
                    raise error(errno.EIO)


def check_answers(session: Session, opening: str = "") -> None:
    if session["silent"] or not session["connected"]:
        raise BlockedError(session["portal"], opening)


def check_topology(state: State) -> None:
    """Wait while somebody waits for the capacity of a disk, with the lock of all of GEOM in hand.

    The first one to open a disk does so, and nothing more is opened then, nor told of the mesh (g_disk_access in
    sys/geom/geom_disk.c, daopen in sys/cam/scsi/scsi_da.c).
    """
    from .geom import CLOSED, mode

    for name in state["opening"].values():
        for disk in disks_below(state, name):
            silent = [one for one in state["sessions"] if disk in one["luns"].values()]
            if mode({**state, "opening": {}}, disk) == CLOSED and silent:
                check_answers(silent[0])


def check_mount(state: State, mount: Mount, *, writing: bool) -> None:
    provider = mount["options"].get("provider")
    if provider and state["sessions"]:
        check_provider(state, provider, writing=writing and "ro" not in mount["flags"])


def disks_below(state: State, name: str) -> list[str]:
    """Return the disks that I/O on NAME goes to: a multipath uses the first of its paths that has not failed."""
    from .geom import providers

    known = providers(state)
    todo, found = [name], []
    while todo:
        provider = known.get(todo.pop())
        if provider is None:
            continue
        if provider.kind == "DISK":
            found.append(provider.name)
        elif provider.kind == "MULTIPATH":
            failed = state["multipaths"][provider.name.partition("/")[2]]["failed"]
            todo += [path for path in provider.lowers if path not in failed][:1]
        else:
            todo += provider.lowers
    return found


def unmount_lost(state: State) -> None:
    """UFS unmounts itself when its provider is gone and something is written to it."""
    from . import vfs

    for mount in reversed(list(state["mounts"])):
        uppers = [other for other in state["mounts"] if mount["fsid"] in (other["parent"], other["lower"])]
        if mount["options"].get("lost") and not uppers and vfs.by_fsid(state, mount["fsid"]):
            state["mounts"].remove(mount)
