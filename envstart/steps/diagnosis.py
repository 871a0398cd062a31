"""Meaning of a mount command's words: can it heal, and whose fault is it (docs/freebsd.md#nfs-messages, #heal).

Matched is text, as printed with LC_ALL=C; errno numbers differ between systems, and the exit status is always 1.
"""

from __future__ import annotations

import time

from envstart.errors import (
    ConfigError,
    EnvstartError,
    NotFoundError,
    NotOnServerError,
    PermissionDeniedError,
    TemporaryError,
    UnavailableError,
)
from envstart.paths import is_below
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system.command import Result

# (words, kind of error, what to do); the first row that fits counts.
Rows = tuple[tuple[str, type[EnvstartError], str], ...]
# What FreeBSD says of a name that there is not, and also when no resolver can be asked (_dns_getaddrinfo() in
# lib/libc/net/getaddrinfo.c); so it is not final for so many seconds after boot (CLOCK_MONOTONIC begins there).
UNRESOLVED = "Name does not resolve"
BOOTING = 300.0
# What resolvers' libraries say of a name, FreeBSD's and Linux's.
NO_ADDRESS = (
    UNRESOLVED,
    "Name or service not known",
    "Address family for hostname not supported",
    "No address associated with hostname",
)
_FINAL: Rows = (
    ("Permission denied", PermissionDeniedError, "may root use it? look at what it lies on"),
    ("Operation not permitted", PermissionDeniedError, "is this a jail, or a container that may not mount?"),
    ("No such file or directory", NotFoundError, "make the directory, or correct the path"),
    ("Not a directory", NotFoundError, "make it a directory, or correct the path"),
    ("must be same type", NotFoundError, "make both a directory, or both a file"),
    ("does not exist", NotFoundError, "make the directory, or correct the path"),
    ("is unknown: Invalid argument", ConfigError, "take the option out of the configuration"),
    ("incorrect mount option", ConfigError, "take the option out of the configuration"),
    ("illegal ", ConfigError, "correct the option in the configuration"),
    ("should only be used for", ConfigError, "take the option out of the configuration"),
    ("Invalid fstype", UnavailableError, "load the kernel module of the file system"),
    ("unknown filesystem type", UnavailableError, "load the kernel module of the file system"),
    ("is not available", UnavailableError, "load the kernel module of the file system"),
    ("Program/version mismatch", ConfigError, "the server does not speak this NFS version; look at NFS_VERSION"),
    ("minor version not supported", ConfigError, "the server does not speak this minorversion"),
    ("wrong security flavor", PermissionDeniedError, "the server wants another sec= option"),
    ("Authentication error", PermissionDeniedError, "does the server want another sec= option?"),
    ("access denied by server", PermissionDeniedError, "let the server export it to this host"),
    *((words, EnvstartError, "correct the server's name, or the resolver") for words in NO_ADDRESS),
    ("File name too long", ConfigError, "a source has at most 1023 bytes"),
    ("Directory not empty", ConfigError, "empty the mount point, or set HIDDEN_FILES"),
)
# Of a directory of an NFS server the same words mean something else.
_OF_SERVER: Rows = (
    ("Permission denied", PermissionDeniedError, "let the server export it to this host"),
    ("No such file or directory", NotOnServerError, "make the directory on the server, or correct the path"),
)
_HEALS = (
    "Connection refused",
    "Operation timed out",
    "Connection timed out",
    "No route to host",
    "Host is down",
    "Network is unreachable",
    "Network is down",
    "Connection reset by peer",
    "RPC: ",
    "Name could not be resolved at this time",
    "Temporary failure in name resolution",
    "Resource temporarily unavailable",
    "in grace period",
    "server has rebooted",
    "clientid in use",
    "resource exhaustion",
    "Device busy",
    "Device or resource busy",
    "Input/output error",
    "Device not configured",
    "Can't assign requested address",
)
# Somebody else was faster: the kernel refused to stack, or knows this nullfs mount already (docs/freebsd.md#stacked).
ALREADY = ("Device busy", "Resource deadlock avoided")


def first(rows: Rows, words: str, doing: str) -> EnvstartError | None:
    """Return the error of the first row that fits; ``doing`` is "mount SOURCE on DIR"."""
    if UNRESOLVED in words and time.monotonic() < BOOTING:
        return TemporaryError(f"cannot {doing}: {words}", hint="the resolver may not be up yet")
    for text, kind, remedy in rows:
        if text in words:
            return kind(f"cannot {doing}: {words}", hint=remedy)
    return None


def no_source(mount: ConfiguredMount, result: Result, doing: str) -> EnvstartError | None:
    """Return the error for a directory of this host that is not there to be shown elsewhere; else None.

    mount_nullfs(8) names as much of its path as there is, mount(8) of Linux all of it, as a special device.
    """
    words = result.words.replace(f"{mount.point}: No such file", "")
    absent = ("No such file or directory", f"special device {mount.source} does not exist")
    if mount.fstype != "nullfs" or not any(text in words for text in absent):
        return None
    config = mount.config
    keys = [key for key in config if key.startswith(("NULLFS_", "BASE_", "SKELETON_")) and key.endswith("_DIR")]
    named = (key for key in keys if config.value(key) and is_below(mount.source, config.value(key)))
    key = max(named, key=lambda name: len(config.value(name)), default="")
    what = f"{key} ({config.origin(key)})" if key else "the path"
    text = f"cannot {doing}: source directory {mount.source} does not exist"
    return NotFoundError(text, hint=f"create it, or correct {what}")


def of_mount(result: Result, doing: str, doubt: str = "is what it lies on healthy, and is it in use?") -> EnvstartError:
    """Return the error for a mount command that did not succeed; ``doing`` is "mount SOURCE on DIR"."""
    if final := first(_FINAL, result.words, doing):
        return final
    if result.status is None or any(text in result.words for text in _HEALS):
        return TemporaryError(f"cannot {doing}: {result.words}", hint=doubt)
    return EnvstartError(f"cannot {doing}: {result.words}", hint="try the command by hand: -v shows it")


def of_server(result: Result, doing: str) -> EnvstartError:
    """Return of_mount() for a directory of an NFS server (see nfs_failure.py for what asks about it)."""
    final = first(_OF_SERVER, result.words, doing)
    return final or of_mount(result, doing, "is the server up, and can it be reached?")


# Of mount(8) for a device: the same words mean something else there (docs/freebsd.md#ufs).
_OF_DEVICE: Rows = (
    ("run fsck", ConfigError, "fsck it by hand, or set FSCK=preen"),
    ("Integrity check failed", ConfigError, "fsck it by hand"),
    ("Operation not permitted", TemporaryError, "is it in use under another name? look at mount(8) and geli status"),
    ("No such file or directory", NotFoundError, "there is no such device, or no file system on it"),
    ("Invalid argument", ConfigError, "there is no file system of this type on it"),
    ("wrong fs type", ConfigError, "there is no file system of this type on it"),
    ("Illegal byte sequence", ConfigError, "it was made on a machine of the other byte order"),
    ("Block device required", ConfigError, "it is no disk"),
    ("Read-only file system", ConfigError, "the provider is read-only: add ro to VOLUME_OPTIONS"),
    ("write-protected", ConfigError, "the provider is read-only: add ro to VOLUME_OPTIONS"),
    ("already mounted or mount point busy", TemporaryError, "it is in use by somebody else"),
    ("Input/output error", TemporaryError, "does another host hold its reservation, or is the disk gone?"),
)


def of_device(result: Result, doing: str) -> EnvstartError:
    """Return of_mount() for a file system on a device of this host."""
    return first(_OF_DEVICE, result.words, doing) or of_mount(result, doing)
