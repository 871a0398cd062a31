"""What a file system's superblock says, read from the device itself; no command tells it without writing.

Runs only in a child (Host.bounded): a read of a disk whose session is gone never returns. Plain values come back.
Sources: UFS: sys/ufs/ffs/fs.h (SBLOCKSEARCH, struct fs); ext: the kernel's Documentation/filesystems/ext4.
"""

from __future__ import annotations

import os
import sys

# Where it can be; offsets in struct fs of fs_clean, fs_sblockloc and fs_magic.
_UFS_PLACES = (65536, 8192, 262144)
_UFS1_LAST = 8192
_UFS_SIZE = 8192
_UFS_CLEAN, _UFS_LOCATION, _UFS_MAGIC = 209, 1000, 1372
_UFS2, _UFS1 = 0x19540119, 0x011954
# The first 4 kB of ext hold it at 1024; offsets there of s_magic, s_state and s_feature_incompat.
_EXT_MAGIC, _EXT_STATE, _EXT_INCOMPAT = 1024 + 56, 1024 + 58, 1024 + 96
_EXT_IS, _EXT_VALID, _EXT_ERROR, _EXT_RECOVER = 0xEF53, 1, 2, 4

CLEAN, DIRTY, UNKNOWN = "clean", "dirty", "unknown"


def look(device: str, fstype: str) -> str:
    """Whether the file system was cleanly unmounted, or UNKNOWN: it is not of this type. OSError is passed on."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _ufs(descriptor) if fstype == "ufs" else _ext(descriptor)
    finally:
        os.close(descriptor)


def _ufs(descriptor: int) -> str:
    for place in _UFS_PLACES:
        block = os.pread(descriptor, _UFS_SIZE, place)
        if len(block) < _UFS_SIZE:
            continue
        magic = _number(block, _UFS_MAGIC, 4)
        # Else it is a copy, which nobody keeps up to date (sys/ufs/ffs/ffs_subr.c, readsuper).
        real = place <= _UFS1_LAST if magic == _UFS1 else place == _number(block, _UFS_LOCATION, 8)
        if magic in (_UFS1, _UFS2) and real:
            return CLEAN if block[_UFS_CLEAN] == 1 else DIRTY
    return UNKNOWN


def _ext(descriptor: int) -> str:
    block = os.pread(descriptor, 4096, 0)
    if len(block) < 4096 or int.from_bytes(block[_EXT_MAGIC : _EXT_MAGIC + 2], "little") != _EXT_IS:
        return UNKNOWN
    state = int.from_bytes(block[_EXT_STATE : _EXT_STATE + 2], "little")
    features = int.from_bytes(block[_EXT_INCOMPAT : _EXT_INCOMPAT + 4], "little")
    clean = state & _EXT_VALID and not state & _EXT_ERROR and not features & _EXT_RECOVER
    return CLEAN if clean else DIRTY


def _number(block: bytes, at: int, size: int) -> int:
    return int.from_bytes(block[at : at + size], sys.byteorder)
