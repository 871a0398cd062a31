"""mount(2), unmount(2) and what keeps a file system busy, as rules on the state.

Every function here runs inside one `Store.change`; none of them sleeps. A call that would block raises `Blocked`
and is made again when the world has changed.
"""

from __future__ import annotations

import errno
import os

from . import geom, ufs, vfs
from .errors import error
from .mounted import check_mount
from .store import BlockedError
from .users import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .machine import Machine
    from .shapes import Mount, State

# Words that nmount(2) itself knows for every file system, and what they do to the flags of the mount.
FLAG_WORDS = {"ro": "ro", "rdonly": "ro", "noexec": "noexec", "nosuid": "nosuid", "nosymfollow": "nosymfollow"}
CLEARING_WORDS = {"rw": "ro", "noro": "ro", "exec": "noexec", "suid": "nosuid", "symfollow": "nosymfollow"}
FLAGS_OF_SOME = {"noatime": "noatime", "async": "async", "sync": "sync", "union": "union", "suiddir": "suiddir"}
VFS_WORDS = {"update", "force", "reload", "autoro", "automounted", "nocover", "cover", "emptydir", "noemptydir"}


def flags_of(words: list[str], more: dict[str, str] | None = None) -> list[str]:
    flags: list[str] = []
    setting = {**FLAG_WORDS, **(more or {})}
    for word in words:
        if word in setting and setting[word] not in flags:
            flags.append(setting[word])
        elif word in CLEARING_WORDS and CLEARING_WORDS[word] in flags:
            flags.remove(CLEARING_WORDS[word])
    return flags


def check_mount_point(state: State, machine: Machine, place: vfs.Place, words: list[str]) -> None:
    """Refuse what every file system is refused: no privilege, a covered mount point, a directory that is not empty."""
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    if place.is_root and place.mount["leaving"]:
        raise error(errno.EBUSY)
    if "nocover" in words and place.is_root:
        raise error(errno.EBUSY)
    if "emptydir" in words and vfs.entries(place):
        raise error(errno.ENOTEMPTY)


def add_mount(  # noqa: PLR0913 - a keyword for each property of a mount
    state: State,
    place: vfs.Place,
    special: str,
    fstype: str,
    flags: list[str],
    *,
    backing: str = "",
    host: str = "",
    lower: str = "",
    options: dict[str, str] | None = None,
) -> Mount:
    mount: Mount = {
        "special": special,
        "node": place.path,
        "fstype": fstype,
        "flags": flags,
        "fsid": next_fsid(state),
        "options": options or {},
        "backing": backing,
        "host": host,
        "parent": place.mount["fsid"],
        "lower": lower,
        "stale": False,
        "leaving": "",
        "queued": "",
        "cancelled": False,
        "base": False,
    }
    state["mounts"].append(mount)
    return mount


def next_fsid(state: State) -> str:
    state["serial"] += 1
    return f"{state['serial']:08x}02000000"


def uppers(state: State, mount: Mount) -> list[Mount]:
    """Return the nullfs mounts of the directory that MOUNT shows."""
    return [other for other in state["mounts"] if other["lower"] == mount["fsid"]]


def busy(state: State, mount: Mount, *, force: bool) -> bool:
    """Uppers keep a file system even from a forced unmount; its users, and mounts on it, only from a plain one."""
    fsid = mount["fsid"]
    if uppers(state, mount) or any(unit["lower"] == fsid for unit in state["units"].values()):
        return True
    return not force and (any(other["parent"] == fsid for other in state["mounts"]) or bool(users(state, mount)))


def silent(state: State, mount: Mount) -> str:
    """Return the host that an unmount of MOUNT waits for, if any.

    That is its own, or one whose locks somebody may hold, since MOUNT shows what lies there, or lies there itself.
    """
    places = [mount, *(vfs.by_fsid(state, mount[name]) for name in ("lower", "parent"))]
    for place in places:
        for layer in vfs.layers(state, place) if place is not None else ():
            gone = layer["cancelled"] or vfs.client_is_dead(layer)
            if not gone and not vfs.answers(state, layer["host"]):
                return layer["host"]
    return ""


def sync(state: State) -> None:
    """Wait for the silent servers to which anything is to be written."""
    for mount in state["mounts"]:
        if mount["options"].get("dirty") and not vfs.answers(state, mount["host"]):
            raise BlockedError(mount["host"])


def unmount(state: State, machine: Machine, fsid: str, *, force: bool) -> None:
    mount = vfs.by_fsid(state, fsid)
    if mount is None:
        raise error(errno.ENOENT)
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    if mount["node"] == "/":
        raise error(errno.EINVAL)
    host = silent(state, mount)
    if host:
        held_up = any(pid != str(os.getpid()) and other == host for pid, other in state["waits"].items())
        how = "force" if force else "plain"
        if held_up and not mount["leaving"]:
            mount["queued"] = "force" if mount["queued"] == "force" else how
        elif mount["leaving"] in ("", "plain"):
            mount["leaving"] = how
        raise BlockedError(host)
    if mount["leaving"] == "dismount":
        raise BlockedError(mount["host"])
    # The superblock is written last of all, be it forced or not.
    check_mount(state, mount, writing=True)
    if busy(state, mount, force=force):
        mount["leaving"] = ""
        raise error(errno.EBUSY)
    remove(state, mount)
    if mount["options"].get("provider"):
        geom.closed(state, machine, mount["options"]["provider"])


def remove(state: State, mount: Mount) -> None:
    state["mounts"].remove(mount)
    if not any(other["node"] == mount["node"] for other in state["mounts"]):
        state["holders"].pop(mount["node"], None)
    if mount["fstype"] == "ufs" and "ro" not in mount["flags"] and mount["options"].get("image"):
        ufs.closed(mount["options"]["image"])


def begin_dismount(state: State, machine: Machine, node: str) -> str:
    """Begin nfssvc(NFSSVC_FORCEDISM) for the oldest NFS mount at exactly NODE, be it listed or not.

    Not if that was done to it before, or a forced unmount is under way. What waits for its server gets an error from
    here on.
    """
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    for mount in state["mounts"]:
        if mount["node"] == node and mount["fstype"] == "nfs":
            if mount["leaving"] in ("force", "dismount") or mount["queued"] == "force" or mount["cancelled"]:
                break
            mount["cancelled"] = True
            if recursive(state):
                remove_uppers(state, mount)
            if not uppers(state, mount):
                mount["leaving"] = "dismount"
            return mount["fsid"]
    raise error(errno.EINVAL)


def recursive(state: State) -> bool:
    return state["settings"]["sysctls"].get("vfs.recursive_forced_unmount") == "1"


def remove_uppers(state: State, mount: Mount) -> None:
    for upper in reversed(uppers(state, mount)):
        remove_uppers(state, upper)
        remove(state, upper)


def end_dismount(state: State, fsid: str) -> None:
    mount = vfs.by_fsid(state, fsid)
    if mount is None:
        return
    mount["leaving"] = ""
    if busy(state, mount, force=True):
        raise error(errno.EBUSY)
    remove(state, mount)
    finish_unmounts(state, mount["host"])


def finish_unmounts(state: State, host: str) -> None:
    """Let go the unmounts that hang for HOST; their processes cannot be killed, so they all come to an end."""
    for mount in reversed(list(state["mounts"])):
        if mount["host"] != host or not (mount["leaving"] or mount["queued"]):
            continue
        forced = (mount["leaving"] or mount["queued"]) != "plain"
        mount["leaving"] = mount["queued"] = ""
        if not busy(state, mount, force=forced):
            remove(state, mount)


def same_directory(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
