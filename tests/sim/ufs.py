"""UFS on an image: the superblock is a line at the head of the image file, so that copies of an image carry it."""

from __future__ import annotations

import errno
import json
import os

from .errors import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json

MAGIC = b"simulated UFS "
SIZE = 4096


def superblock(image: str) -> Json | None:
    """What newfs wrote, or None for an image without a file system."""
    with open(image, "rb") as stream:
        head = stream.read(SIZE)
    if not head.startswith(MAGIC):
        return None
    found: Json = json.loads(head[len(MAGIC) :].rstrip(b"\0"))
    return found


def write_superblock(image: str, content: Json) -> None:
    with open(image, "r+b") as stream:
        stream.write((MAGIC + json.dumps(content).encode()).ljust(SIZE, b"\0"))


def mark(image: str, **changes: object) -> None:
    content = superblock(image)
    if content is not None:
        write_superblock(image, {**content, **changes})


def opened(image: str, place: str, readonly: bool) -> None:
    """Mounted. What was dirty when it was mounted for writing stays so until fsck, as FS_UNCLEAN tells."""
    content = superblock(image)
    if content is not None:
        changes: dict[str, object] = {"last_mounted": place}
        if not readonly:
            changes.update(clean=False, unclean=content.get("unclean") or not content["clean"])
        mark(image, **changes)


def closed(image: str) -> None:
    content = superblock(image)
    if content is not None:
        mark(image, clean=not content.get("unclean"))


def device_image(machine_path: str, device: str) -> str:
    """The file behind a device node; a missing node is ENOENT as on the real system."""
    if not device.startswith("/dev/"):
        raise error(errno.ENOENT, device)
    node = machine_path + device
    if not os.path.exists(node):
        raise error(errno.ENOENT, device)
    return os.path.realpath(node)


def taste(machine_path: str) -> None:
    """GEOM looks at all providers again: /dev/ufs shows the labels of the file systems that are there."""
    labels = machine_path + "/dev/ufs"
    os.makedirs(labels, exist_ok=True)
    for name in os.listdir(labels):
        os.unlink(f"{labels}/{name}")
    for name in sorted(os.listdir(machine_path + "/dev")):
        node = f"{machine_path}/dev/{name}"
        if not os.path.isfile(node):
            continue
        content = superblock(node)
        label = content["label"] if content else ""
        if label and not os.path.lexists(f"{labels}/{label}"):
            os.symlink(os.path.realpath(node), f"{labels}/{label}")
