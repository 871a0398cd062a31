"""Which processes use a file system: those that a test declared, and real ones with a file in the covered directory."""

from __future__ import annotations

import os

from . import vfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Holder, Mount, State


# FreeBSD has the directory, and mostly nothing in it.
PROC = os.path.isdir("/proc/self/fd")


def users(state: State, mount: Mount) -> list[Holder]:
    on_top = vfs.visible(state, mount["node"])
    if on_top["fsid"] != mount["fsid"]:
        return []
    declared = [holder for holder in state["holders"].get(mount["node"], []) if alive(holder["pid"])]
    known = {holder["pid"] for holder in declared}
    return declared + [holder for holder in _real_users(mount) if holder["pid"] not in known]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return status_letter(pid) != "Z"


def status_letter(pid: int) -> str:
    """Return the state of a process; empty if there is none."""
    if not PROC:
        return _told_by_ps("state", pid)[:1]
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def command_name(pid: int) -> str:
    if not PROC:
        return _told_by_ps("comm", pid) or "sleep"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return "sleep"


def _told_by_ps(keyword: str, pid: int) -> str:
    import subprocess

    told = subprocess.run(["/bin/ps", "-o", f"{keyword}=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip()


def _real_users(mount: Mount) -> list[Holder]:
    if mount["backing"] == mount["node"]:
        return []
    return _by_proc(mount["node"]) if PROC else _by_psutil(mount["node"])


def _by_psutil(node: str) -> list[Holder]:
    """Return the same as _by_proc(), but take each regular file for one that is written: FreeBSD does not tell."""
    import psutil

    found: list[Holder] = []
    for process in psutil.process_iter():
        try:
            how = "c" if vfs.is_below(process.cwd() or "", node) else ""
            how += "w" if any(vfs.is_below(file.path, node) for file in process.open_files()) else ""
            if how:
                found.append({"pid": process.pid, "how": how})
        except (psutil.Error, OSError):
            continue
    return sorted(found, key=lambda holder: holder["pid"])


def _by_proc(node: str) -> list[Holder]:
    found: list[Holder] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            how = _use(name, node)
            if how:
                found.append({"pid": int(name), "how": how})
    return sorted(found, key=lambda holder: holder["pid"])


def _use(pid: str, node: str) -> str:
    """Return the letters that fuser(1) shows for what process PID does below NODE."""
    how = "c" if vfs.is_below(_link(f"/proc/{pid}/cwd"), node) else ""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return how
    for descriptor in descriptors:
        if vfs.is_below(_link(f"/proc/{pid}/fd/{descriptor}"), node):
            return how + ("w" if _writes(pid, descriptor) else "")
    return how


def _writes(pid: str, descriptor: str) -> bool:
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="utf-8") as stream:
            flags = next(line.split()[1] for line in stream if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return bool(int(flags, 8) & os.O_ACCMODE)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
