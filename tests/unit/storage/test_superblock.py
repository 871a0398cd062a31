"""What is read from a superblock, on file systems that makefs(8) and mkfs.ext4(8) have made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from envstart.storage import superblock
from envstart.storage.superblock import CLEAN, DIRTY, DUE, UNKNOWN

NEEDS_MAKEFS = pytest.mark.skipif(shutil.which("makefs") is None, reason="makefs(8) is not installed")
NEEDS_EXT4 = pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4(8) is not installed")

# Where makefs puts the superblock of either version; newfs(8) puts that of UFS2 at the second place.
UFS1, UFS2, UFS2_PIGGY = 8192, 65536, 262144
# In struct fs (sys/ufs/ffs/fs.h): fs_clean, fs_sblockloc, fs_magic.
CLEAN_AT, PLACE_AT, MAGIC_AT = 209, 1000, 1372
MAGIC = {1: 0x011954, 2: 0x19540119}
SIZE = 8192


def ufs(tmp_path: Path, version: int, options: str = "") -> Path:
    """Return a file system with a file in it, by NetBSD's makefs."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    image = tmp_path / "image"
    argv = ["makefs", "-t", "ffs", "-s", "16m", "-o", f"version={version}{options}", str(image), str(tree)]
    subprocess.run(argv, check=True, capture_output=True)
    return image


def ext4(tmp_path: Path, *options: str) -> Path:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True, capture_output=True)
    return image


def put(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(at)
        file.write(data)


def get(image: Path, at: int, size: int) -> int:
    return int.from_bytes(image.read_bytes()[at : at + size], "little")


def move(image: Path, place: int) -> None:
    """Put the superblock where another newfs(8) would, and say so in it."""
    block = bytearray(image.read_bytes()[UFS1 : UFS1 + SIZE])
    block[PLACE_AT : PLACE_AT + 8] = place.to_bytes(8, "little")
    put(image, UFS1, bytes(SIZE))
    put(image, place, bytes(block))


def look(image: Path, kind: str) -> str:
    """Return what it is; and looking has not changed it."""
    before = image.read_bytes()
    found = superblock.read(str(image), kind)
    assert image.read_bytes() == before
    return found


# UFS.


@NEEDS_MAKEFS
@pytest.mark.parametrize("version", [1, 2])
def test_the_offsets_are_those_of_struct_fs(tmp_path: Path, version: int) -> None:
    image = ufs(tmp_path, version)
    assert get(image, UFS1 + MAGIC_AT, 4) == MAGIC[version]
    assert get(image, UFS1 + CLEAN_AT, 1) == 1
    assert get(image, UFS1 + PLACE_AT, 8) == UFS1
    # What stands before and after fs_clean: fs_fmod and fs_ronly, 0 in a new one.
    assert get(image, UFS1 + CLEAN_AT - 1, 1) == 0
    assert get(image, UFS1 + CLEAN_AT + 1, 1) == 0


@NEEDS_MAKEFS
@pytest.mark.parametrize(("version", "place"), [(1, UFS1), (2, UFS1), (2, UFS2), (2, UFS2_PIGGY)])
def test_ufs_is_clean_until_the_clean_byte_says_otherwise(tmp_path: Path, version: int, place: int) -> None:
    image = ufs(tmp_path, version)
    if place != UFS1:
        move(image, place)
    assert look(image, "ufs") == CLEAN
    put(image, place + CLEAN_AT, b"\0")
    assert look(image, "ufs") == DIRTY
    put(image, place + CLEAN_AT, b"\1")
    assert look(image, "ufs") == CLEAN


@NEEDS_MAKEFS
def test_the_copy_of_a_superblock_of_ufs1_is_not_asked(tmp_path: Path) -> None:
    """With blocks of 64 kB the first copy lies where UFS2 has its own: clean for ever (sys/ufs/ffs/ffs_subr.c)."""
    image = ufs(tmp_path, 1, ",bsize=65536,fsize=8192")
    assert get(image, UFS2 + MAGIC_AT, 4) == MAGIC[1]
    assert get(image, UFS2 + PLACE_AT, 8) == UFS1
    assert look(image, "ufs") == CLEAN
    put(image, UFS1 + CLEAN_AT, b"\0")
    assert look(image, "ufs") == DIRTY


@NEEDS_MAKEFS
@pytest.mark.parametrize("version", [1, 2])
def test_ufs_of_the_other_byte_order_is_none_that_can_be_mounted(tmp_path: Path, version: int) -> None:
    assert look(ufs(tmp_path, version, ""), "ufs") == CLEAN
    image = tmp_path / "image"
    put(image, UFS1 + MAGIC_AT, MAGIC[version].to_bytes(4, "big"))
    assert look(image, "ufs") == UNKNOWN


@NEEDS_MAKEFS
def test_ufs_is_no_ext4(tmp_path: Path) -> None:
    assert look(ufs(tmp_path, 2), "ext4") == UNKNOWN


# ext4.


@NEEDS_EXT4
@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-b", "4096"), ("-O", "^has_journal"), ("-t", "ext2")])
def test_ext4_is_clean_until_a_mount(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = ext4(tmp_path, *options)
    assert look(image, "ext4") == CLEAN
    assert look(image, "ufs") == UNKNOWN


@NEEDS_EXT4
@pytest.mark.parametrize(
    ("command", "found"),
    [
        # As the kernel leaves it when the power fails: the journal has to be played back.
        ("feature needs_recovery", DIRTY),
        # An error was found while it was mounted.
        ("set_super_value state 3", DIRTY),
        ("set_super_value state 2", DIRTY),
        # Without a journal a mount takes the bit away.
        ("set_super_value state 0", DIRTY),
        # Orphans are being cleaned up.
        ("set_super_value state 5", CLEAN),
        # Mounts are counted; that is no damage.
        ("set_super_value mnt_count 99", CLEAN),
    ],
)
def test_ext4_that_was_not_cleanly_unmounted(tmp_path: Path, command: str, found: str) -> None:
    image = ext4(tmp_path)
    subprocess.run(["debugfs", "-w", "-R", command, str(image)], check=True, capture_output=True)
    assert look(image, "ext4") == found


@NEEDS_EXT4
def test_ext4_without_its_magic_number(tmp_path: Path) -> None:
    image = ext4(tmp_path)
    put(image, 1024 + 56, b"\0\0")
    assert look(image, "ext4") == UNKNOWN


# Clean, and a checker would check it all the same.


def crc32c(data: bytes) -> int:
    """Bit by bit, as both file systems use it: not inverted at the end."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def test_the_checksum_is_castagnoli() -> None:
    """The check value of RFC 3720, B.4, before it is inverted."""
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283 == superblock._crc32c(b"123456789") ^ 0xFFFFFFFF


@NEEDS_MAKEFS
@pytest.mark.parametrize("size", [1376, 4096, 8192])
def test_case_a5_ufs_with_a_wrong_check_hash_is_due(tmp_path: Path, size: int) -> None:
    """As newfs(8) of FreeBSD 13 and later makes it: fs_sbsize, fs_ckhash, fs_metackhash, FS_METACKHASH in fs_flags."""
    image = ufs(tmp_path, 2)
    put(image, UFS1 + 104, size.to_bytes(4, "little"))
    put(image, UFS1 + 1308, (1).to_bytes(4, "little"))
    put(image, UFS1 + 1312, (0x200 | get(image, UFS1 + 1312, 4)).to_bytes(4, "little"))
    put(image, UFS1 + 1304, bytes(4))
    hashed = image.read_bytes()[UFS1 : UFS1 + size]
    put(image, UFS1 + 1304, crc32c(hashed).to_bytes(4, "little"))
    assert look(image, "ufs") == CLEAN
    put(image, UFS1 + 212, b"/another/place")
    assert look(image, "ufs") == DUE
    # A kernel that knows no hashes takes the flag away; the old hash then means nothing.
    put(image, UFS1 + 1312, (get(image, UFS1 + 1312, 4) & ~0x200).to_bytes(4, "little"))
    assert look(image, "ufs") == CLEAN


@NEEDS_MAKEFS
@pytest.mark.parametrize(("flag", "state"), [(0x1, DUE), (0x2, CLEAN), (0x4, DUE), (0xA, CLEAN), (0xE, DUE)])
def test_case_a5_ufs_that_says_that_it_needs_fsck_is_due(tmp_path: Path, flag: int, state: str) -> None:
    """FS_UNCLEAN and FS_NEEDSFSCK; soft updates, with a journal or without, are none of these."""
    image = ufs(tmp_path, 2)
    put(image, UFS1 + 1312, flag.to_bytes(4, "little"))
    assert look(image, "ufs") == state
    put(image, UFS1 + CLEAN_AT, b"\0")
    assert look(image, "ufs") == DIRTY


@NEEDS_EXT4
@pytest.mark.parametrize(
    ("options", "command", "state"),
    [
        (("-O", "metadata_csum"), "", CLEAN),
        (("-O", "metadata_csum"), "set_super_value checksum 1", DUE),
        ((), "set_super_value last_orphan 12", DUE),
        ((), "set_super_value max_mnt_count 1;set_super_value mnt_count 1", DUE),
        ((), "set_super_value max_mnt_count 5;set_super_value mnt_count 4", CLEAN),
        ((), "set_super_value checkinterval 60;set_super_value lastcheck 20200101000000", DUE),
        ((), "set_super_value checkinterval 0;set_super_value lastcheck 20200101000000", CLEAN),
    ],
)
def test_case_a5_ext4_is_trusted_no_more_than_by_e2fsck(
    tmp_path: Path, options: tuple[str, ...], command: str, state: str
) -> None:
    image = ext4(tmp_path, *options)
    if "checksum" in command:
        # debugfs would mend it when it writes.
        put(image, 1024 + 1020, b"\1\0\0\0")
    else:
        for one in command.split(";"):
            subprocess.run(["debugfs", "-w", "-R", one, str(image)], check=True, capture_output=True)
    assert look(image, "ext4") == state
    checked = subprocess.run(["e2fsck", "-p", str(image)], capture_output=True, text=True, check=False).stdout
    assert (": clean, " in checked and len(checked.splitlines()) == 1) is (state == CLEAN)


# Nothing, or too little.


@pytest.mark.parametrize("kind", ["ufs", "ext4"])
@pytest.mark.parametrize("size", [0, 1, 511, 1024, 4095, 4096, 9000, 65536, 65536 + 1376, 1 << 20])
def test_blank_and_short_files(tmp_path: Path, kind: str, size: int) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(size))
    assert look(image, kind) == UNKNOWN
    image.write_bytes(b"\xff" * size)
    assert look(image, kind) == UNKNOWN


@NEEDS_MAKEFS
def test_ufs_that_was_cut_in_its_superblock(tmp_path: Path) -> None:
    image = ufs(tmp_path, 2)
    os.truncate(image, UFS1 + SIZE - 1)
    assert look(image, "ufs") == UNKNOWN


@NEEDS_EXT4
def test_ext4_that_was_cut_in_its_superblock(tmp_path: Path) -> None:
    image = ext4(tmp_path)
    os.truncate(image, 2000)
    assert look(image, "ext4") == UNKNOWN


@pytest.mark.parametrize("kind", ["ufs", "ext4"])
def test_a_device_that_is_gone_is_an_error_and_not_unknown(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError):
        superblock.read(str(tmp_path / "gone"), kind)
    with pytest.raises(IsADirectoryError):
        superblock.read(str(tmp_path), kind)


@pytest.mark.parametrize("kind", ["ufs", "ext4"])
def test_no_descriptor_is_left_open(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(70000))
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for _ in range(5):
        superblock.read(str(image), kind)
    after = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    assert len(after) == len(before)
