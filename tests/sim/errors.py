"""Error texts of FreeBSD. Numbers are those of the system below, so that `errno.ESTALE` works on both."""

from __future__ import annotations

import errno
import os

TEXTS = {
    errno.EBUSY: "Device busy",
    errno.EDEADLK: "Resource deadlock avoided",
    errno.ENODEV: "Operation not supported by device",
    errno.ENXIO: "Device not configured",
    errno.ENOTCONN: "Socket is not connected",
    errno.EOPNOTSUPP: "Operation not supported",
    errno.ESTALE: "Stale NFS file handle",
    errno.ETIMEDOUT: "Operation timed out",
}


def text(number: int) -> str:
    return TEXTS.get(number) or os.strerror(number)


def error(number: int, path: str | None = None) -> OSError:
    return OSError(number, text(number)) if path is None else OSError(number, text(number), path)
