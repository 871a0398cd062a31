"""Reads a transcript: comments, `$ COMMAND`, what it printed, and how it ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ENDING = re.compile(r"\[exit (\d+), [\d.]+s\]$|\[killed after (\d+)s: it was still blocked\]$")


class Block(NamedTuple):
    comment: str
    command: str
    output: list[str]
    status: int
    blocked_for: int

    @property
    def ending(self) -> str:
        return "[still blocked]" if self.blocked_for else f"[exit {self.status}]"


def read(path: Path) -> list[Block]:
    blocks: list[Block] = []
    comment, command = "", ""
    output: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        ending = ENDING.match(line)
        if ending and command:
            status, blocked_for = (int(group or 0) for group in ending.groups())
            blocks.append(Block(comment, command, output, status, blocked_for))
            comment, command, output = "", "", []
        elif command:
            output.append(line)
        elif line.startswith("$ "):
            command = line[2:]
        elif line.startswith("# "):
            comment = line[2:]
        else:
            comment = ""
    return blocks
