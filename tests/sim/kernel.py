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
from .store import Blocked
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
    """What every file system is refused: no privilege, a covered mount point, a directory that is not empty."""
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    if place.is_root and place.mount["leaving"]:
        raise error(errno.EBUSY)
    if "nocover" in words and place.is_root:
        raise error(errno.EBUSY)
    if "emptydir" in words and vfs.entries(place):
        raise error(errno.ENOTEMPTY)


def add_mount(
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
        "base": False,
    }
    state["mounts"].append(mount)
    return mount


def next_fsid(state: State) -> str:
    state["serial"] += 1
    return f"{state['serial']:08x}02000000"


def busy(state: State, mount: Mount, force: bool) -> bool:
    """Uppers and mounts below keep a file system even from a forced unmount; its users only from a plain one."""
    fsid = mount["fsid"]
    if any(other["parent"] == fsid or other["lower"] == fsid for other in state["mounts"]):
        return True
    if any(unit["lower"] == fsid for unit in state["units"].values()):
        return True
    return not force and bool(users(state, mount))


def sync(state: State) -> None:
    """sync(2): what is to be written to a server that is silent waits for it."""
    for mount in state["mounts"]:
        if mount["options"].get("dirty") and not vfs.answers(state, mount["host"]):
            raise Blocked(mount["host"])


def unmount(state: State, machine: Machine, fsid: str, force: bool) -> None:
    mount = vfs.by_fsid(state, fsid)
    if mount is None:
        raise error(errno.ENOENT)
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    if mount["node"] == "/":
        raise error(errno.EINVAL)
    if not vfs.answers(state, mount["host"]) and not vfs.client_is_dead(mount):
        if mount["leaving"] in ("", "plain"):
            mount["leaving"] = "force" if force else "plain"
        raise Blocked(mount["host"])
    # The superblock is written last of all, be it forced or not.
    check_mount(state, mount, writing=True)
    if busy(state, mount, force):
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
    """nfssvc(NFSSVC_FORCEDISM): the oldest NFS mount at exactly NODE, unless a forced unmount is under way."""
    if machine.uid(state) != 0:
        raise error(errno.EPERM)
    for mount in state["mounts"]:
        if mount["node"] == node and mount["fstype"] == "nfs":
            if mount["leaving"] in ("force", "dismount"):
                break
            mount["leaving"] = "dismount"
            return mount["fsid"]
    raise error(errno.EINVAL)


def end_dismount(state: State, fsid: str) -> None:
    mount = vfs.by_fsid(state, fsid)
    if mount is None:
        return
    if busy(state, mount, force=True):
        mount["leaving"] = ""
        raise error(errno.EBUSY)
    remove(state, mount)
    finish_unmounts(state, mount["host"])


def finish_unmounts(state: State, host: str) -> None:
    """Let go the unmounts that hang for HOST; their processes cannot be killed, so they all come to an end."""
    for mount in reversed(list(state["mounts"])):
        if mount["host"] != host or not mount["leaving"]:
            continue
        forced = mount["leaving"] != "plain"
        mount["leaving"] = ""
        if not busy(state, mount, forced):
            remove(state, mount)


def same_directory(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
