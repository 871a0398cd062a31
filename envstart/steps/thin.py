"""Thin jails: one base for many, read-only on the data directory, and what is a jail's own read-write in it.

The layout is the FreeBSD Handbook's: ``etc``, ``var`` and the like are links in the base that lead into ``skeleton``
(docs/cbsd.md#thin-jails). Further directories come from THIN_FSTAB, a file in the form of fstab(5). How mount_nullfs(8)
behaves is in docs/freebsd.md#nullfs.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection

from envstart import errors
from envstart.config import common
from envstart.config.directories import Directory
from envstart.config.load import Config, mistakes, trusted_text
from envstart.config.schema import directory
from envstart.environment import Environment
from envstart.mounts.table import unvis
from envstart.paths import is_below
from envstart.steps import mountpoint
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import NULLFS_TIMEOUT, MountSpec
from envstart.steps.thin_keys import BASE_DIR, SKELETON, SKELETON_DIR, THIN_FSTAB
from envstart.system import filesystem, process
from envstart.system.command import Result
from envstart.system.host import Host

# Links of the base, and where they lead: what a jail writes.
LINKS = {name: f"{SKELETON}/{name}" for name in ("etc", "home", "root", "tmp", "usr/local", "var")}
# fstab(5) wants one of the first two; mount_nullfs(8) takes whatever it does not know without a word.
_MODES = ("ro", "rw")
_KNOWN = (*_MODES, "noexec", "nosuid", "nosymfollow", "noatime", "cache", "nocache")
# For mount -a, not for the file system (docs/freebsd.md#mount).
_SWALLOWED = ("late", "noauto")
# Directories of such files that have been asked in this run, a thousand environments have theirs in one: who waits for
# them still, or 0.
_WAITING: dict[str, int] = {}


class Line(Directory):
    """A directory of a thin jail, with the options of its mount one by one."""

    __slots__ = ("options",)

    def __init__(self, root: str, path: str, point: str, options: tuple[str, ...]) -> None:
        """Name it after where it lies in the data directory ``root``."""
        inside = point[len(root) :]
        super().__init__(SKELETON if inside == f"/{SKELETON}" else f"data{inside}", path, point)
        self.options = options


def inputs(path: str, timeout: float) -> dict[str, str]:
    """Read THIN_FSTAB without comments, lines where they are. ConfigError, TemporaryError, PermissionDeniedError."""
    # It can lie where the bases do, on a server that is dead.
    place = path.rpartition("/")[0]
    if place not in _WAITING:
        answers, child = process.within(timeout, filesystem.opens, [path])
        _WAITING[place] = 0 if answers is not None else child.pid
    if _WAITING[place]:
        raise errors.TemporaryError(
            f"cannot read {path}: no answer in {timeout:.0f} s (pid {_WAITING[place]} waits for it)",
            hint="is it on a dead server?",
        )
    rows = [" ".join(_fields(row)) for row in trusted_text(path).split("\n")]
    return {"THIN_FSTAB": "\n".join(rows).rstrip("\n")}


def read(text: str, path: str, root: str) -> list[Line]:
    """Return the lines with nullfs mounts on ``root`` and below it; ConfigError with every mistake and its line."""
    lines: list[Line] = []
    problems: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(text.split("\n"), 1):
        fields = _fields(row)
        try:
            if not fields or (line := _line(fields, root)) is None:
                continue
            if line.point in seen:
                raise ValueError(f"mounts on {line.point}, as line {seen[line.point]} does")
        except ValueError as error:
            problems.append((number, str(error)))
            continue
        seen[line.point] = number
        lines.append(line)
    if problems:
        raise mistakes(path, problems, ("nullfs",))
    return lines


def _fields(row: str) -> list[str]:
    """Split a line where fstab(5) ends a field, since a name can have other spaces; none for a comment."""
    fields = [field for field in row.rstrip().replace("\t", " ").split(" ") if field]
    return [] if fields and fields[0].startswith("#") else fields


def _line(fields: list[str], root: str) -> Line | None:
    """Return what a line of fstab(5) says, None if it is to be passed over; ValueError with what is wrong with it."""
    if not 4 <= len(fields) <= 6 or not all(field.isdigit() for field in fields[4:]):
        raise ValueError("is not SOURCE DIRECTORY nullfs OPTIONS, with 0 0 after it or without; a blank is \\040")
    fstype, options = fields[2], tuple(option for option in fields[3].split(",") if option not in _SWALLOWED)
    if "xx" in options:  # Passed over by fstab(5).
        return None
    # The first: what another type has for a source need not be a path.
    if fstype != "nullfs":
        raise ValueError(f"is of type {fstype}: only nullfs is mounted here; leave other types to jail(8) or CBSD")
    source, point = _path(fields[0]), _path(fields[1])
    unknown = [option for option in options if option not in _KNOWN]
    if unknown:
        raise ValueError(f"has the option {unknown[0]!r}, which mount_nullfs(8) would ignore without a word")
    if len(set(options) & set(_MODES)) != 1:
        raise ValueError("says neither ro nor rw, or both")
    if not is_below(point, root):
        raise ValueError(f"mounts on {point}, which is not in the data directory {root}; write the whole path")
    if point == root and "ro" not in options:
        raise ValueError("mounts the base read-write, so that a jail could change it for all; write ro")
    return Line(root, source, point, options)


def _path(field: str) -> str:
    """Return the path that a field of fstab(5) names; ValueError."""
    plain = unvis(field)
    try:
        return directory(plain)
    except ValueError as error:
        raise ValueError(f"has {plain}, which {error}") from None


def lines(environment: Environment, config: Config, store: str) -> list[Line]:
    """Return the mounts of a thin jail: base, skeleton, the rest of THIN_FSTAB. ConfigError."""
    root = environment.data
    base, skeleton, path = config[BASE_DIR], config[SKELETON_DIR], config[THIN_FSTAB]
    rows = read(config.inputs["THIN_FSTAB"], path, root) if path else []
    given = {row.point: row for row in rows}
    for key, value, point in (("BASE_DIR", base, root), ("SKELETON_DIR", skeleton, f"{root}/{SKELETON}")):
        if value and point in given:
            doubled = f"{key} is set, and {path} has a line for it"
            raise errors.ConfigError(f"cannot mount two directories on {point}: {doubled}")
    if base is None and root not in given:
        raise errors.ConfigError(f"cannot make a thin jail of {environment.name} without a base: set BASE_DIR")
    own = skeleton or f"{store.rstrip('/')}/{SKELETON}/{environment.name}"
    first = given.pop(root, None) or Line(root, base or "", root, ("ro",))
    second = given.pop(f"{root}/{SKELETON}", None) or Line(root, own, f"{root}/{SKELETON}", ("rw",))
    return [first, second, *given.values()]


class Base(Mount):
    """The base on the data directory; it is looked at before it is mounted, and never writable."""

    async def check(self, host: Host) -> errors.EnvstartError | None:
        """Return what a start has to mend, after a look at the base; raise if it is mounted read-write."""
        problem = await super().check(host)
        if isinstance(problem, errors.NoResponseError):
            return problem
        entries = (await host.mounts()).at(await self.real_point(host))
        if not entries:
            await self._survey(host)
        elif not entries[-1].read_only:
            doubt = f"{self.source} is mounted there read-write, so that a jail could change the base of all"
            hint = f"{shlex.join(('umount', self.point))}, and start again"
            raise errors.ConfigError(f"cannot use {self.point}: {doubt}", hint=hint)
        return problem

    async def _survey(self, host: Host) -> None:
        doing, timeout = f"cannot use {self.source} as a base", self.config[common.PROBE_TIMEOUT]
        try:
            wrong = await host.call_with_timeout(filesystem.wrong_links, self.source, LINKS, timeout=timeout)
            exists = await host.call_with_timeout(filesystem.is_directory, f"{self.source}/{SKELETON}", timeout=timeout)
        except (errors.NoResponseError, errors.DeadlineExceededError) as error:
            raise errors.TemporaryError(f"{doing}: it gives {error}") from None
        except OSError as error:
            key = "BASE_DIR" if self.config[BASE_DIR] else self.config[THIN_FSTAB]
            raise errors.NotFoundError(f"{doing}: {errors.reason(error)}", hint=f"correct {key}") from None
        if not exists:
            hint = shlex.join(("mkdir", f"{self.source}/{SKELETON}"))
            raise errors.NotFoundError(f"{doing}: it has no directory {SKELETON}", hint=hint)
        if wrong:
            link = f"ln -s {'../' * wrong[0].count('/')}{LINKS[wrong[0]]} {self.source}/{wrong[0]}"
            raise errors.NotFoundError(
                f"{doing}: {', '.join(wrong)} must be links into {SKELETON}",
                hint=f"move them to the skeleton and make links, as in: {link}",
            )


class Layer(Mount):
    """A mount inside another one of the same jail: no link at all may lead it elsewhere (docs/freebsd.md#jail)."""

    takes_files = True

    def requires(self) -> str:
        """Return who asks for what must be in it."""
        return "the links of the base lead to"

    async def _explained(self, host: Host, program: str, result: Result, doing: str) -> errors.EnvstartError:
        lacks = any(words in result.words for words in ("Not a directory", "Invalid argument"))
        if host.platform == "freebsd" and lacks and await mountpoint.is_file(host, self):
            hint = "this nullfs is for directories only, files need FreeBSD 14: name the directory"
            return errors.ConfigError(f"cannot {doing}: {result.words}", hint=hint)
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
            NULLFS_TIMEOUT,
            # No jail can write where the base, or its whole skeleton, lies.
            resolve_within="" if line.name in ("data", SKELETON) else "/",
            required=tuple(LINKS) if line.name == SKELETON else None,
            beside=beside,
        )
        mounts.append((Base if line.name == "data" else Layer)(spec, environment, config))
    return mounts
