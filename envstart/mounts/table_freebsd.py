"""The mount table of FreeBSD by getfsstat(2), which with MNT_NOWAIT cannot hang (docs/freebsd.md#mount-table).

The layout of struct statfs is checked by its own version number; what is not as expected is a ValueError, and the
caller asks mount(8) instead.
"""

from __future__ import annotations

import os
import sys

from envstart.mounts.table import Entry, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_NOWAIT = 2
# Flags of unmount(2): by "FSID:%d:%d" (kern_unmount() of sys/kern/vfs_mount.c), by force, not if it is in use.
_BYFSID, FORCE, NONBUSY = 0x08000000, 0x00080000, 0x04000000
_RDONLY = 0x1
# struct statfs of FreeBSD 12 and newer, the same on all machines: offsets of f_version, f_flags, f_fsid, f_fstypename,
# f_mntfromname, f_mntonname, and its size (sys/sys/mount.h; docs/freebsd.md#statfs).
_VERSION = 0x20140518
_FLAGS, _FSID, _TYPE, _FROM, _ON, _SIZE = 8, 192, 280, 296, 1320, 2344
_FSID_LENGTH, _TYPE_LENGTH, _NAME_LENGTH = 8, 16, 1024


def mount_table(points: Container[str] | None = None) -> list[Entry]:
    """Return all mounts, or those on these mount points, oldest first. AttributeError without getfsstat(2)."""
    import ctypes

    getfsstat = ctypes.CDLL(None, use_errno=True).getfsstat
    getfsstat.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_int)
    count = getfsstat(None, 0, _NOWAIT)
    for _ in range(10):
        room = max(count, 0) + 16
        data = bytearray(room * _SIZE)
        count = getfsstat((ctypes.c_char * len(data)).from_buffer(data), len(data), _NOWAIT)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        # A full buffer may have left some out: mounts came between the two calls.
        if count < room:
            return parse_statfs(memoryview(data)[: count * _SIZE], points)
    raise ValueError("the mount table does not keep still")


def parse_statfs(data: bytes | memoryview, points: Container[str] | None = None) -> list[Entry]:
    """Read an array of struct statfs, or what it says of these mount points. ValueError if its layout is another."""
    entries = []
    for at in range(0, len(data), _SIZE):
        if int.from_bytes(data[at : at + 4], sys.byteorder) != _VERSION:
            raise ValueError("struct statfs has another version")
        point = _string(data, at + _ON, _NAME_LENGTH)
        if points is not None and point != "/" and point not in points:
            continue
        flags = int.from_bytes(data[at + _FLAGS : at + _FLAGS + 8], sys.byteorder)
        kind = _string(data, at + _TYPE, _TYPE_LENGTH)
        source = _string(data, at + _FROM, _NAME_LENGTH)
        fsid = data[at + _FSID : at + _FSID + _FSID_LENGTH]
        # Only root is told it.
        number = fsid.hex() if any(fsid) else ""
        entries.append(Entry(source, point, kind, ("read-only",) if flags & _RDONLY else (), fsid=number))
    return whole(entries)


def unmount(number: str, flags: int) -> None:
    """Unmount the file system with this Entry.fsid, without the resolver that umount(8) asks for the server of NFS.

    OSError; AttributeError where the C library has no unmount. Run only in a child: it can hang in the kernel.
    """
    import ctypes

    data = bytes.fromhex(number)
    first, second = (int.from_bytes(data[at : at + 4], sys.byteorder, signed=True) for at in (0, 4))
    call = ctypes.CDLL(None, use_errno=True).unmount
    call.argtypes = (ctypes.c_char_p, ctypes.c_int)
    if call(f"FSID:{first}:{second}".encode(), flags | _BYFSID) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _string(data: bytes | memoryview, at: int, length: int) -> str:
    return os.fsdecode(bytes(data[at : at + length]).split(b"\0", 1)[0])
