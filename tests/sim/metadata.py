"""What is written on an image so that whoever gets the image finds it there: lines at its head and at its end.

The head holds what begins a device (a file system, a partition table), the end what a GEOM class keeps in the last
sector. A class below takes the last sector for itself, so that those above it find theirs one further in: `depth`.
"""

from __future__ import annotations

import os

from .store import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json

SIZE = 4096
UFS, GPT, FOREIGN = "UFS", "GPT", "FOREIGN"
ELI, MULTIPATH = "ELI", "MULTIPATH"


def head(image: str, what: str) -> Json | None:
    with open(image, "rb") as stream:
        return _content(stream.read(SIZE), what)


def write_head(image: str, what: str, content: Json) -> None:
    _write(image, 0, _line(what, content))


def clear_head(image: str) -> None:
    _write(image, 0, b"")


def tail(image: str, what: str, depth: int = 0) -> Json | None:
    with open(image, "rb") as stream:
        stream.seek(_tail_offset(image, depth))
        return _content(stream.read(SIZE), what)


def write_tail(image: str, what: str, content: Json, depth: int = 0) -> None:
    _write(image, _tail_offset(image, depth), _line(what, content))


def clear_tail(image: str, depth: int = 0) -> None:
    _write(image, _tail_offset(image, depth), b"")


def _tail_offset(image: str, depth: int) -> int:
    return max(0, os.path.getsize(image) - SIZE * (depth + 1))


def _line(what: str, content: Json) -> bytes:
    return f"simulated {what} ".encode() + pack(content)


def _content(data: bytes, what: str) -> Json | None:
    magic = f"simulated {what} ".encode()
    if not data.startswith(magic):
        return None
    found: Json = unpack(data[len(magic) :])
    return found


def _write(image: str, offset: int, data: bytes) -> None:
    with open(image, "r+b") as stream:
        stream.seek(offset)
        stream.write(data.ljust(SIZE, b"\0"))
