"""Decode what vis(3) writes for blanks and control characters: fields of fstab(5), and of Linux's mount table."""

from __future__ import annotations

import os
import re

# Octal, hexadecimal, control and meta characters, a letter, or the character itself.
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(M?)\^(.)|M-(.)|([^xM^])?)", re.DOTALL)
_CODES = dict(zip(b"nrbavtfsE", b"\n\r\b\a\v\t\f \x1b"))


def unvis(field: str) -> str:
    """Decode a field as getfsent(3) does, which calls strunvis(3); ValueError where that reads no character."""
    if "\\" not in field:
        return field

    def decode(match: re.Match[bytes]) -> bytes:
        octal, digits, meta, control, eighth, itself = match.groups()
        if octal or digits:
            return bytes([(int(octal, 8) if octal else int(digits, 16)) & 0xFF])
        if control:
            code = 0x7F if control == b"?" else control[0] & 0x1F
            return bytes([code | (0x80 if meta else 0)])
        if eighth:
            return bytes([eighth[0] | 0x80])
        if not itself or not itself.isascii():
            raise ValueError(f"has a backslash in {field} that begins no character; write it as \\\\")
        return b"" if itself == b"$" else bytes([_CODES.get(itself[0], itself[0])])

    return os.fsdecode(_ESCAPE.sub(decode, os.fsencode(field)))
