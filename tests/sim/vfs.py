"""Paths of the simulated machine: which mount shows them, and which real file is behind it.

The functions of `os` are taken here by name before a process of the simulated machine has its own replaced.
"""

from __future__ import annotations

import errno
import stat as modes
from os import getcwd, lstat, readlink, scandir
from os.path import isabs, join, normpath

from .errors import error, text
from .mounted import check_mount
from .store import BlockedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .shapes import Mount, State

MAX_LINKS = 32

# Where a process that went into a mount is: getcwd(2) of the system below would name the backing directory.
WORKING_DIRECTORY: list[str] = []


class CancelledError(OSError):
    """What umount -N does to a request, be the mount unmounted by it or not."""


class Place:
    """PATH without symbolic links, the mount that shows it, and the real file behind it."""

    def __init__(self, path: str, mount: Mount, real: str) -> None:
        self.path = path
        self.mount = mount
        self.real = real

    @property
    def is_root(self) -> bool:
        return self.path == self.mount["node"]


def is_below(path: str, top: str) -> bool:
    """Tell whether PATH is the directory TOP or something in it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def visible(state: State, path: str) -> Mount:
    """Return the newest mount on PATH or above it."""
    newest = _newest(state["mounts"])
    found = newest.get("/", -1)
    end = len(path)
    while end > 0:
        found = max(found, newest.get(path[:end], -1))
        end = path.rfind("/", 0, end)
    if found < 0:
        raise error(errno.ENOENT, path)
    return state["mounts"][found]


def _newest(mounts: list[Mount]) -> dict[str, int]:
    """By directory, the index of the last mount on it; made anew when the table is another one."""
    key = (len(mounts), mounts[-1]["fsid"])
    if _KNOWN[0] is not mounts or _KNOWN[1] != key:
        _KNOWN[:] = [mounts, key, {mounts[index]["node"]: index for index in _reachable(mounts)}]
    found: dict[str, int] = _KNOWN[2]
    return found


_KNOWN: list[Any] = [None, None, {}]


def _reachable(mounts: list[Mount]) -> list[int]:
    """Return the indices of all but those that were mounted on what a forced unmount has taken away since."""
    fsids: set[str] = set()
    found = []
    for index, mount in enumerate(mounts):
        if not mount["parent"] or mount["parent"] in fsids:
            fsids.add(mount["fsid"])
            found.append(index)
    return found


def listed(state: State) -> list[Mount]:
    """Return what getfsstat(2) tells with MNT_NOWAIT: all but what is being unmounted (sys/kern/vfs_syscalls.c)."""
    return [mount for mount in state["mounts"] if not mount["leaving"]]


def by_fsid(state: State, fsid: str) -> Mount | None:
    return next((mount for mount in state["mounts"] if mount["fsid"] == fsid), None)


def layers(state: State, mount: Mount) -> list[Mount]:
    """MOUNT and the file systems below it: a nullfs is as dead, as stale and as read-only as its lower layer."""
    found = [mount]
    while found[-1]["lower"]:
        lower = by_fsid(state, found[-1]["lower"])
        if lower is None:
            raise error(errno.ENXIO, mount["node"])
        found.append(lower)
    return found


def answers(state: State, host: str) -> bool:
    server = state["servers"].get(host)
    return not host or (server is not None and server["state"] == "up")


def check_open(state: State, mount: Mount) -> None:
    """Wait while an NFSv4 server is in its grace period, in which it opens no file (RFC 8881 8.4.2)."""
    for layer in layers(state, mount):
        server = state["servers"].get(layer["host"])
        if layer["options"].get("nfsv") == "4" and server is not None and server["grace"]:
            raise BlockedError(layer["host"])


def client_is_dead(mount: Mount) -> bool:
    """Is it a FUSE mount whose process has ended? It then answers everything with an error."""
    from .users import alive

    return "client" in mount["options"] and not alive(int(mount["options"]["client"]))


def reach(state: State, mount: Mount, path: str) -> None:
    """Refuse or block where the file system of MOUNT would."""
    for layer in layers(state, mount):
        if client_is_dead(layer):
            raise error(errno.ENOTCONN, path)
        if layer["cancelled"]:
            number = errno.EIO if layer is mount else errno.ESTALE
            raise CancelledError(number, text(number), path)
        if not answers(state, layer["host"]):
            raise BlockedError(layer["host"])
        check_mount(state, layer, writing=False)
        if layer["stale"] or (layer["host"] and layer["backing"] and not _exists(layer["backing"])):
            raise error(errno.ESTALE, path)


def real_path(state: State, mount: Mount, path: str, empty: str) -> str:
    backing = mount["backing"] or empty
    rest = path[len(mount["node"].rstrip("/")) :].lstrip("/")
    real = join(backing, rest) if rest else backing
    if mount["fstype"] == "devfs" and not _exists(real):
        return path
    return real


def _exists(path: str) -> bool:
    try:
        lstat(path)
    except OSError:
        return False
    return True


def absolute(path: str) -> str:
    return path if isabs(path) else join(logical_cwd(), path)


def logical_cwd() -> str:
    return WORKING_DIRECTORY[-1] if WORKING_DIRECTORY else getcwd()


def resolve(state: State, path: str, empty: str, *, follow: bool = True) -> Place:
    """Walk PATH component by component as the kernel does. The last one need not exist."""
    if not path:
        raise error(errno.ENOENT, path)
    todo = [part for part in reversed(absolute(path).split("/")) if part not in ("", ".")]
    must_be_directory = path.endswith(("/", "/."))
    here = _place(state, "/", empty)
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            here = _place(state, normpath(join(here.path, "..")), empty)
            continue
        here = _place(state, join(here.path, part), empty)
        mode = _mode(here, last=not todo)
        if modes.S_ISLNK(mode) and (todo or follow or must_be_directory):
            links += 1
            if links > MAX_LINKS:
                raise error(errno.ELOOP, path)
            target = readlink(here.real)
            todo.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
            here = _place(state, "/" if isabs(target) else normpath(join(here.path, "..")), empty)
        elif todo and not modes.S_ISDIR(mode):
            raise error(errno.ENOTDIR, here.path)
    return here


def _place(state: State, path: str, empty: str) -> Place:
    mount = visible(state, path)
    reach(state, mount, path)
    return Place(path, mount, real_path(state, mount, path, empty))


def _mode(place: Place, *, last: bool) -> int:
    try:
        return lstat(place.real).st_mode
    except FileNotFoundError:
        if not last:
            raise error(errno.ENOENT, place.path) from None
        return 0
    except OSError as problem:
        raise error(problem.errno or errno.EIO, place.path) from None


def realpath(state: State, path: str, empty: str) -> Place:
    """Resolve a path of which every component must exist; the error names the one that failed."""
    place = resolve(state, path, empty)
    try:
        lstat(place.real)
    except OSError as problem:
        raise error(problem.errno or errno.EIO, place.path) from None
    return place


def check_listed(place: Place) -> None:
    """Refuse to list what nfsd does not export, though it answers a lookup there (docs/freebsd.md#nfs-messages)."""
    if not place.mount["backing"]:
        raise error(errno.EIO, place.path)


def is_directory(place: Place) -> bool:
    return modes.S_ISDIR(lstat(place.real).st_mode)


def entries(place: Place) -> list[str]:
    with scandir(place.real) as found:
        return sorted(entry.name for entry in found)


def check_writable(state: State, place: Place) -> None:
    for layer in layers(state, place.mount):
        if "ro" in layer["flags"]:
            raise error(errno.EROFS, place.path)
        if not layer["backing"]:
            raise error(errno.EIO, place.path)
        if layer["options"].get("lost"):
            # What it has in memory it still shows.
            raise error(errno.ENXIO, place.path)
        check_mount(state, layer, writing=True)
