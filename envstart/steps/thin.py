"""Thin jails: one base for many, read-only on the data directory, and what is a jail's own read-write in it.

The layout is the FreeBSD Handbook's: ``etc``, ``var`` and the like are links in the base that lead into ``skeleton``
(docs/cbsd.md#thin-jails). Further directories come from a file (thin_fstab.py). How mount_nullfs(8) behaves is in
docs/freebsd.md#nullfs.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection

from envstart.config import common
from envstart.config.load import Config
from envstart.config.schema import ALNUM, NAME, Option, directory
from envstart.environment import Environment
from envstart.errors import (
    ConfigError,
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    TemporaryError,
    reason,
)
from envstart.steps import mountpoint
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.steps.thin_fstab import SKELETON, THIN_FSTAB, Line, read
from envstart.system import filesystem
from envstart.system.command import Result
from envstart.system.host import Host

# Seconds for a nullfs mount, which asks nobody: if it takes longer, what it lies on is dead.
ATTEMPT_TIMEOUT = 10
# Links of the base, and where they lead: what a jail writes.
LINKS = {name: f"{SKELETON}/{name}" for name in ("etc", "home", "root", "tmp", "usr/local", "var")}
_LETTERS = ALNUM | set("_-.:")


def dataset(value: str) -> str:
    """Return the name of a file system, POOL/NAME; ValueError."""
    parts = value.split("/")
    if not all(part and _LETTERS.issuperset(part) for part in parts) or not parts[0][0].isalpha():
        raise ValueError("is no dataset: POOL/NAME, of letters, digits and _ - . :")
    return value


def snapshot(value: str) -> str:
    """Return the name of a snapshot, DATASET@NAME; ValueError."""
    name, sign, label = value.partition("@")
    if not sign or not label or not _LETTERS.issuperset(label):
        raise ValueError("is no snapshot: DATASET@NAME")
    dataset(name)
    return value


OPTIONS = (
    BASE_DIR := Option(
        "BASE_DIR",
        directory,
        "",
        "thin jail: directory of this host with the base, which all jails share; it is mounted read-only on the data "
        "directory, in place of NULLFS_DATA_DIR",
        "no thin jail",
        placeholders=(NAME,),
    ),
    SKELETON_DIR := Option(
        "SKELETON_DIR",
        directory,
        "",
        "thin jail: directory of this host with what is the jail's own, mounted read-write on skeleton in the data "
        "directory",
        "NULLFS_ROOT_DIR/skeleton/NAME",
        placeholders=(NAME,),
    ),
    THIN_FSTAB,
    ZFS_CLONE := Option(
        "ZFS_CLONE",
        dataset,
        "",
        "ZFS: dataset that is mounted on SKELETON_DIR (without a thin jail: NULLFS_DATA_DIR/NAME) unless it is there "
        "already",
        "no ZFS",
        placeholders=(NAME,),
    ),
    ZFS_SKELETON_SNAPSHOT := Option(
        "ZFS_SKELETON_SNAPSHOT",
        snapshot,
        "",
        "ZFS: snapshot that ZFS_CLONE is cloned from when it is missing; a clone is never destroyed",
        "ZFS_CLONE must be there",
    ),
)


def lines(environment: Environment, config: Config, store: str) -> list[Line]:
    """Return the mounts of a thin jail: base, skeleton, the rest of THIN_FSTAB; none if it is none. ConfigError."""
    root = environment.data
    base, skeleton, path = config[BASE_DIR], config[SKELETON_DIR], config[THIN_FSTAB]
    rows = read(config.inputs["THIN_FSTAB"], path, root) if path else []
    given = {row.point: row for row in rows}
    for key, value, point in (("BASE_DIR", base, root), ("SKELETON_DIR", skeleton, f"{root}/{SKELETON}")):
        if value and point in given:
            raise ConfigError(f"cannot mount two directories on {point}: {key} is set, and {path} has a line for it")
    if base is None and root not in given:
        if skeleton or path:
            raise ConfigError(f"cannot make a thin jail of {environment.name} without a base: set BASE_DIR")
        return []
    own = skeleton or f"{store.rstrip('/')}/{SKELETON}/{environment.name}"
    first = given.pop(root, None) or Line(root, base or "", root, ("ro",))
    second = given.pop(f"{root}/{SKELETON}", None) or Line(root, own, f"{root}/{SKELETON}", ("rw",))
    return [first, second, *given.values()]


def warnings(config: Config) -> list[str]:
    """Return doubts about the configuration of a thin jail."""
    return [
        f"{key.name} is {config[key]} for every jail: two jails would write to the same files"
        for key in (SKELETON_DIR, ZFS_CLONE)
        if config[key] and NAME not in config.text(key.name) and not config.origin(key.name).endswith("]")
    ]


class Base(Mount):
    """The base on the data directory; it is looked at before it is mounted, and never writable."""

    async def check(self, host: Host) -> EnvstartError | None:
        """Return what a start has to mend, after a look at the base; raise if it is mounted read-write."""
        problem = await super().check(host)
        if isinstance(problem, NoResponseError):
            return problem
        entries = (await host.mounts()).at(await self.real_point(host))
        if not entries:
            await self._survey(host)
        elif not entries[-1].read_only:
            raise ConfigError(
                f"cannot use {self.point}: {self.source} is mounted there read-write, so that a jail could change the "
                "base of all",
                hint=f"{shlex.join(('umount', self.point))}, and start again",
            )
        return problem

    async def _survey(self, host: Host) -> None:
        doing, timeout = f"cannot use {self.source} as a base", self.config[common.PROBE_TIMEOUT]
        try:
            wrong = await host.call_with_timeout(filesystem.wrong_links, self.source, LINKS, timeout=timeout)
            exists = await host.call_with_timeout(filesystem.is_directory, f"{self.source}/{SKELETON}", timeout=timeout)
        except (NoResponseError, DeadlineExceededError) as error:
            raise TemporaryError(f"{doing}: it gives {error}") from None
        except OSError as error:
            key = "BASE_DIR" if self.config[BASE_DIR] else self.config[THIN_FSTAB]
            raise NotFoundError(f"{doing}: {reason(error)}", hint=f"correct {key}") from None
        if not exists:
            raise NotFoundError(
                f"{doing}: it has no directory {SKELETON}", hint=shlex.join(("mkdir", self.source + "/" + SKELETON))
            )
        if wrong:
            up = "../" * wrong[0].count("/")
            raise NotFoundError(
                f"{doing}: {', '.join(wrong)} must be links into {SKELETON}",
                hint="move them to the skeleton and make links, "
                f"as in: ln -s {up}{LINKS[wrong[0]]} {self.source}/{wrong[0]}",
            )


class Layer(Mount):
    """A mount inside another mount of the same jail.

    Its source can lie in what is another jail's own, so that no link at all may lead it elsewhere (jail(8) refuses them
    too, docs/freebsd.md#jail).
    """

    takes_files = True

    def requires(self) -> str:
        """Return who asks for what must be in it."""
        return "the links of the base lead to"

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> EnvstartError:
        lacks = any(words in result.words for words in ("Not a directory", "Invalid argument"))
        if host.platform == "freebsd" and lacks and await mountpoint.is_file(host, self):
            return ConfigError(
                f"cannot {doing}: {result.words}",
                hint="this nullfs is for directories only, files need FreeBSD 14: name the directory",
            )
        return await super()._explained(host, program, result, doing)


def steps(layers: list[Line], beside: Collection[str], environment: Environment, config: Config) -> list[Mount]:
    """Return the mounts of a thin jail, the base first; ``beside``: where something of the jail is mounted."""
    mounts: list[Mount] = []
    for line in layers:
        spec = MountSpec(
            line.name,
            "nullfs",
            line.options,
            line.path,
            line.point,
            ATTEMPT_TIMEOUT,
            # No jail can write where the base, or its whole skeleton, lies.
            resolve_within="" if line.name in ("data", SKELETON) else "/",
            required=tuple(LINKS) if line.name == SKELETON else None,
            beside=beside,
        )
        mounts.append((Base if line.name == "data" else Layer)(spec, environment, config))
    return mounts
