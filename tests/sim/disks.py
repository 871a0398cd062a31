"""The part of `World` that deals in disks: what lies on them, and what became of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from . import elikeys, geom, metadata, ufs
from .machine import Machine
from .multipath import write_label
from .shapes import Disk, State

StrPath = Union[str, "os.PathLike[str]"]

SMALLEST = 1 << 20


def new_image(image: StrPath, size: int, partitions: Mapping[str, str] | None = None) -> Path:
    """Return an empty image; PARTITIONS name its partitions, {"p1": label}, which share what is left evenly."""
    path = Path(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    _truncate(path, max(size, SMALLEST))
    if partitions:
        metadata.write_head(str(path), metadata.GPT, dict(partitions))
        each = max(SMALLEST, (size - SMALLEST) // len(partitions) // SMALLEST * SMALLEST)
        for suffix in partitions:
            _truncate(Path(f"{path}.{suffix}"), each)
    return path


def _truncate(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)


class Disks:
    path: Path
    machine: Machine

    def disk(  # noqa: PLR0913 - a keyword for each property of a disk
        self,
        name: str,
        size: int = 32 << 20,
        ident: str = "",
        lunid: str = "",
        partitions: Mapping[str, str] | None = None,
        *,
        image: StrPath | None = None,
        descr: str = "QEMU HARDDISK",
    ) -> Path:
        """Plug in a disk /dev/NAME, and return the file behind it; with IMAGE that file is there already."""
        behind = Path(image) if image else new_image(self.path / "disks" / f"{name}.img", size, partitions)
        real = os.path.realpath(behind)
        disk: Disk = {"image": real, "ident": ident, "lunid": lunid, "descr": descr, "session": ""}
        self.machine.store.change(lambda state: geom.add_disk(state, self.machine, name, disk))
        return behind

    def unplug(self, name: str) -> None:
        """Take the provider NAME away at once, whoever uses it."""
        self.machine.store.change(lambda state: geom.remove(state, self.machine, name))

    def newfs(self, name: StrPath, **superblock: Any) -> None:
        """Make a UFS on the provider NAME, which may be an ELI device that is not attached, or on an image.

        SUPERBLOCK: label, clean, soft_updates, journal, unclean, last_mounted; broken (fsck -p is not enough),
        unfinished (newfs was killed), bad_hash.
        """
        content = {"label": "", "soft_updates": True, "clean": True, **superblock}
        self._on_image(name, lambda image: ufs.make(image, content))

    def superblock(self, name: StrPath) -> dict[str, Any]:
        """Return what newfs, mount and fsck have left on NAME; empty if there is no UFS."""
        return ufs.superblock(self.image(name)) or {}

    def geli_init(
        self,
        name: StrPath,
        keys: Sequence[bytes] = (),
        passphrases: Sequence[str] = (),
        sectorsize: int = 4096,
    ) -> None:
        """Make the provider or image NAME an encrypted one; the passphrases are the first lines of as many files."""
        text = geom.name_of(os.fspath(name))
        state = self.machine.state()
        size = os.path.getsize(text) if os.path.isabs(text) else geom.mediasize(state, text)
        content = elikeys.new_metadata(size, list(keys), "".join(passphrases) if passphrases else None, sectorsize)
        self._on_image(name, lambda image: elikeys.write_metadata(image, content, geom.depth(state, text)))

    def multipath_label(self, name: StrPath, multipath: str) -> None:
        """Write what `gmultipath label` does: where geom_multipath is loaded the disk becomes a path by itself."""
        self.machine.store.change(lambda state: write_label(state, multipath, self.image(name)))

    def foreign(self, name: StrPath, what: str) -> None:
        """Something that is no UFS, by the name fstyp(8) has for it: zfs, ext2fs, msdosfs."""
        self._on_image(name, lambda image: metadata.write_head(image, metadata.FOREIGN, {"type": what}))

    def blank(self, name: StrPath) -> None:
        """Nothing but zeros."""

        def wipe(image: str) -> None:
            _truncate(Path(image), os.path.getsize(image))

        self._on_image(name, wipe)

    def image(self, name: StrPath) -> str:
        """Return the file behind a provider. That of an ELI device lies beside the image of what it encrypts."""
        text = geom.name_of(os.fspath(name))
        if os.path.isabs(text):
            return os.path.realpath(text)
        known = geom.providers(self.machine.state())
        if text not in known and text.endswith(".eli"):
            return f"{known[text[: -len('.eli')]].image}.eli"
        return known[text].image

    def files(self, name: StrPath) -> Path:
        """Return the directory with the files of the UFS on NAME, whether it is mounted or not."""
        path = Path(ufs.files(self.image(name)))
        path.mkdir(exist_ok=True)
        return path

    @property
    def panic(self) -> str:
        """What the machine died of; empty while it lives."""
        return self.machine.state()["panic"]

    def _on_image(self, name: StrPath, act: Callable[[str], None]) -> None:
        image = self.image(name)

        def change(state: State) -> None:
            act(image)
            geom.taste(state, self.machine)

        self.machine.store.change(change)
