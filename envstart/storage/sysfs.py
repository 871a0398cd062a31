"""Directories and files of sysfs(5) and proc(5), any of which can vanish at any moment."""

from __future__ import annotations

import os


def entries(directory: str) -> list[str]:
    """Return the names in a directory in order; none if it is not there."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def line(path: str) -> str:
    """Return the first line of a file; "" if it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
