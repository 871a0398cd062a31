"""The state of a file system as its superblock has it, read from the device: no command tells it without writing.

Runs only in a child (Host.call_with_timeout): a read of a disk whose session is gone never returns. Plain values come
back. Sources: UFS: sys/ufs/ffs/fs.h (SBLOCKSEARCH, struct fs); ext: the kernel's Documentation/filesystems/ext4. What
is clean enough to be mounted without a check is what the checkers themselves skip: setup() and readsb() of
sbin/fsck_ffs/setup.c, check_super_block() and check_if_skip() of e2fsprogs' e2fsck.
"""

import os
import sys
import time

# Where it can be; offsets in struct fs of fs_clean, fs_sblockloc and fs_magic.
_UFS_PLACES = (65536, 8192, 262144)
_UFS1_LAST = 8192
_UFS_SIZE = 8192
_UFS_SBSIZE, _UFS_CLEAN, _UFS_LOCATION, _UFS_MAGIC = 104, 209, 1000, 1372
_UFS_CKHASH, _UFS_METACKHASH, _UFS_FLAGS = 1304, 1308, 1312
_UFS2, _UFS1 = 0x19540119, 0x011954
# fs_flags, and of fs_metackhash that the superblock itself has a check hash.
_FS_UNCLEAN, _FS_NEEDSFSCK, _FS_METACKHASH, _CK_SUPERBLOCK = 0x1, 0x4, 0x200, 0x1
# The first 4 kB of ext hold it at 1024; offsets there of s_magic, s_state and s_feature_incompat.
_EXT_MAGIC, _EXT_STATE, _EXT_INCOMPAT = 1024 + 56, 1024 + 58, 1024 + 96
_EXT_IS, _EXT_VALID, _EXT_ERROR, _EXT_RECOVER = 0xEF53, 1, 2, 4
# s_mnt_count, s_max_mnt_count, s_lastcheck, s_checkinterval, s_feature_ro_compat, s_last_orphan, s_checksum.
_EXT_COUNT, _EXT_MAX_COUNT, _EXT_CHECKED, _EXT_INTERVAL = 1024 + 52, 1024 + 54, 1024 + 64, 1024 + 68
_EXT_RO_COMPAT, _EXT_ORPHAN, _EXT_CHECKSUM = 1024 + 100, 1024 + 232, 1024 + 1020
_EXT_METADATA_CSUM, _EXT_ORPHAN_PRESENT = 0x400, 0x10000
# CRC-32C as both file systems use it: reflected, begun with all bits set, and not inverted at the end.
_CASTAGNOLI = 0x82F63B78

# DUE: it was cleanly unmounted, and its checker would check it all the same.
CLEAN, DUE, DIRTY, UNKNOWN = "clean", "due", "dirty", "unknown"


def read(device: str, fstype: str) -> str:
    """Return CLEAN, DUE or DIRTY, or UNKNOWN for what is not of this type. OSError is passed on."""
    with open(device, "rb", buffering=0) as file:
        return _ufs(file.fileno()) if fstype == "ufs" else _ext(file.fileno())


def _ufs(descriptor: int) -> str:
    for place in _UFS_PLACES:
        block = os.pread(descriptor, _UFS_SIZE, place)
        if len(block) < _UFS_SIZE:
            continue
        magic = _number(block, _UFS_MAGIC, 4)
        # Else it is a copy, which nobody keeps up to date (sys/ufs/ffs/ffs_subr.c, readsuper).
        real = place <= _UFS1_LAST if magic == _UFS1 else place == _number(block, _UFS_LOCATION, 8)
        if magic in (_UFS1, _UFS2) and real:
            if block[_UFS_CLEAN] != 1:
                return DIRTY
            return DUE if _ufs_is_due(block) else CLEAN
    return UNKNOWN


def _ufs_is_due(block: bytes) -> bool:
    """Tell whether fsck_ffs -p would check a UFS whose clean flag is set; be no more trusting than it is."""
    flags, size = _number(block, _UFS_FLAGS, 4), _number(block, _UFS_SBSIZE, 4)
    if flags & (_FS_UNCLEAN | _FS_NEEDSFSCK):
        return True
    if not (flags & _FS_METACKHASH and _number(block, _UFS_METACKHASH, 4) & _CK_SUPERBLOCK):
        return False
    if not _UFS_MAGIC + 4 <= size <= _UFS_SIZE:
        return True
    hashed = block[:_UFS_CKHASH] + bytes(4) + block[_UFS_CKHASH + 4 : size]
    return _crc32c(hashed) != _number(block, _UFS_CKHASH, 4)


def _ext(descriptor: int) -> str:
    block = os.pread(descriptor, 4096, 0)
    if len(block) < 4096 or _little(block, _EXT_MAGIC, 2) != _EXT_IS:
        return UNKNOWN
    state, features = _little(block, _EXT_STATE, 2), _little(block, _EXT_INCOMPAT, 4)
    if not state & _EXT_VALID or state & _EXT_ERROR or features & _EXT_RECOVER:
        return DIRTY
    return DUE if _ext_is_due(block) else CLEAN


def _ext_is_due(block: bytes) -> bool:
    """Tell whether e2fsck -p would check, or mend, an ext4 that was cleanly unmounted."""
    features = _little(block, _EXT_RO_COMPAT, 4)
    if _little(block, _EXT_ORPHAN, 4) or features & _EXT_ORPHAN_PRESENT:
        return True
    # Signed; 0 and -1: never.
    most = _little(block, _EXT_MAX_COUNT, 2)
    if 0 < most < 0x8000 and _little(block, _EXT_COUNT, 2) >= most:
        return True
    interval, age = _little(block, _EXT_INTERVAL, 4), time.time() - _little(block, _EXT_CHECKED, 4)
    if interval and not 0 <= age < interval:
        return True
    hashed = block[1024:_EXT_CHECKSUM]
    return bool(features & _EXT_METADATA_CSUM) and _crc32c(hashed) != _little(block, _EXT_CHECKSUM, 4)


def _crc32c(data: bytes) -> int:
    """Return the CRC-32C of some kilobytes; zlib has another polynomial."""
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ _CASTAGNOLI * (number & 1)
        table.append(number)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def _little(block: bytes, at: int, size: int) -> int:
    return int.from_bytes(block[at : at + size], "little")


def _number(block: bytes, at: int, size: int) -> int:
    return int.from_bytes(block[at : at + size], sys.byteorder)
