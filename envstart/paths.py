"""Arithmetic on absolute paths; nothing here looks at the file system. On the short way: no `os`."""

from __future__ import annotations


def ancestors(path: str) -> list[str]:
    """Return the directories that an absolute path lies in, the nearest first, without the root."""
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(len(parts) - 1, 1, -1)]


def is_below(path: str, directory: str) -> bool:
    """Tell whether ``path`` is ``directory`` or lies below it; both absolute and normalized."""
    return path == directory or directory == "/" or path.startswith(directory + "/")


def path_digest(path: str) -> str:
    """Return a file name for a path, of 8 hexadecimal digits. Two paths that share one only wait for each other."""
    # The largest prime below 2**32. Mount points of volumes, records and notes have it in their names: by another sum
    # (zlib.crc32) nobody would find what an earlier version has mounted.
    return f"{int.from_bytes(path.encode(errors='surrogateescape'), 'big') % 4294967291:08x}"
