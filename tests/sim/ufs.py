"""UFS on an image: a line at its head, and the bytes of the superblock that other programs look at.

Everything lies in the image or beside it, so that copies of an image, and other hosts that see it, have it too.
"""

from __future__ import annotations

import os

from . import metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json

# struct fs of FreeBSD (sys/ufs/ffs/fs.h): where it begins, and what is where in it.
SUPERBLOCK, FS_SIZE = 65536, 1376
FS_CLEAN, FS_FSMNT, FS_VOLNAME, FS_SBLOCKLOC, FS_MAGIC = 209, 212, 680, 1000, 1372
MAXMNTLEN, MAXVOLLEN = 468, 32
UFS2_MAGIC = 0x19540119


def superblock(image: str) -> Json | None:
    """Return what newfs wrote, or None for an image without a file system."""
    return metadata.head(image, metadata.UFS)


def write_superblock(image: str, content: Json) -> None:
    metadata.write_head(image, metadata.UFS, content)
    block = bytearray(FS_SIZE)
    mounted_on = os.fsencode(content.get("last_mounted", ""))[: MAXMNTLEN - 1]
    label = content["label"].encode()[:MAXVOLLEN]
    block[FS_CLEAN] = int(bool(content["clean"]))
    block[FS_FSMNT : FS_FSMNT + len(mounted_on)] = mounted_on
    block[FS_VOLNAME : FS_VOLNAME + len(label)] = label
    block[FS_SBLOCKLOC : FS_SBLOCKLOC + 8] = SUPERBLOCK.to_bytes(8, "little")
    block[FS_MAGIC:] = UFS2_MAGIC.to_bytes(4, "little")
    write_block(image, bytes(block))


def write_block(image: str, block: bytes) -> None:
    with open(image, "r+b") as stream:
        if os.path.getsize(image) >= SUPERBLOCK + FS_SIZE:
            stream.seek(SUPERBLOCK)
            stream.write(block)


def make(image: str, content: Json) -> None:
    """newfs: whatever was there is gone."""
    import shutil

    shutil.rmtree(files(image), ignore_errors=True)
    os.makedirs(files(image) + "/.snap")
    write_superblock(image, content)


def files(image: str) -> str:
    """Return the directory with the files of the file system."""
    return image + ".files"


def mark(image: str, **changes: object) -> None:
    content = superblock(image)
    if content is not None:
        write_superblock(image, {**content, **changes})


def opened(image: str, place: str, *, readonly: bool) -> None:
    """Mounted. What was dirty when it was mounted for writing stays so until fsck, as FS_UNCLEAN tells."""
    content = superblock(image)
    if content is not None and not readonly:
        unclean = content.get("unclean") or not content["clean"]
        mark(image, last_mounted=place, clean=False, unclean=unclean)


def closed(image: str) -> None:
    content = superblock(image)
    if content is not None:
        mark(image, clean=not content.get("unclean"))
