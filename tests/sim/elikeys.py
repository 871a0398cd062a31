"""The keys of geli(8): what they are made of, and what of them is written on a device."""

from __future__ import annotations

import errno
import hashlib
import os
import sys

from . import metadata
from .errors import error
from .machine import Machine, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json

NO_PASSPHRASE = -1
ITERATIONS = 1474562
MAX_PASSPHRASE = 1024


class RefusedError(Exception):
    """What geli prints; EARLY before it looked at any provider."""

    def __init__(self, text: str, *, early: bool = False) -> None:
        super().__init__(text)
        self.early = early


def key_hash(keys: list[bytes], passphrase: str | None) -> str:
    """Several key files are hashed one after the other; so are those that tests prepare without any file."""
    digest = hashlib.sha256(b"".join(keys))
    if passphrase is not None:
        digest.update(b"\0" + passphrase.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def contents(machine: Machine, name: str, what: str, *, early: bool) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        place = machine.real_place(name)
        if machine.uid(machine.state()) != 0 and not os.stat(place.real).st_mode & 0o004:
            raise error(errno.EACCES)
        with open(place.real, "rb") as stream:
            return stream.read()
    except OSError as problem:
        raise RefusedError(f"Cannot open {what} {name}: {words_of(problem)}.", early=early) from None


def read_keys(machine: Machine, names: list[str]) -> list[bytes]:
    return [contents(machine, name, "keyfile", early=True) for name in names]


def read_passphrase(machine: Machine, names: list[str]) -> str:
    """First lines, one after the other. Without a file there would have to be a terminal to ask at."""
    if not names:
        raise RefusedError("Cannot read passphrase: Inappropriate ioctl for device.")
    found = ""
    for name in names:
        line = contents(machine, name, "passfile", early=False).split(b"\n", 1)[0]
        if len(line) >= MAX_PASSPHRASE:
            raise RefusedError(f"Passphrase in {name} too long.")
        found += os.fsdecode(line)
    return found


def new_metadata(size: int, keys: list[bytes], passphrase: str | None, sectorsize: int) -> Json:
    return {
        "keys": {"0": key_hash(keys, passphrase)},
        "iterations": NO_PASSPHRASE if passphrase is None else ITERATIONS,
        "provsize": size,
        "sectorsize": sectorsize,
    }


def write_metadata(image: str, content: Json, depth: int = 0) -> None:
    """Make IMAGE that of an encrypted provider, with nothing in it yet."""
    metadata.write_tail(image, metadata.ELI, content, depth)
    with open(f"{image}.eli", "wb") as stream:
        stream.truncate(os.path.getsize(image))
