"""The file of a thin jail with further nullfs mounts, in the form of fstab(5)."""

from __future__ import annotations

from envstart.config import common
from envstart.config.directories import Directory
from envstart.config.load import Config, mistakes, trusted_text
from envstart.config.schema import NAME, Option, directory
from envstart.errors import TemporaryError
from envstart.mounts.table import unvis
from envstart.paths import is_below
from envstart.system import filesystem, process

# Where a thin jail has its own files, below the data directory.
SKELETON = "skeleton"
# fstab(5) wants one of the first two; mount_nullfs(8) takes whatever it does not know without a word.
_MODES = ("ro", "rw")
_KNOWN = (*_MODES, "noexec", "nosuid", "nosymfollow", "noatime", "cache", "nocache")
# For mount -a, not for the file system (docs/freebsd.md#mount).
_SWALLOWED = ("late", "noauto")
# Directories of such files that have been asked in this run, a thousand environments have theirs in one: who waits for
# them still, or 0.
_WAITING: dict[str, int] = {}
# fstab(5): a line with this option is passed over.
_IGNORED = "xx"
THIN_FSTAB = Option(
    "THIN_FSTAB",
    directory,
    "",
    "thin jail: file with further nullfs mounts, of directories and files, as fstab(5) has them, below the data "
    "directory; a line for that directory itself stands for BASE_DIR, one for skeleton in it for SKELETON_DIR",
    placeholders=(NAME,),
)


class Line(Directory):
    """A directory of a thin jail, with the options of its mount one by one."""

    __slots__ = ("options",)

    def __init__(self, root: str, path: str, point: str, options: tuple[str, ...]) -> None:
        """Name it after where it lies in the data directory ``root``."""
        inside = point[len(root) :]
        super().__init__(SKELETON if inside == f"/{SKELETON}" else f"data{inside}", path, point)
        self.options = options


def inputs(config: Config) -> dict[str, str]:
    """Read THIN_FSTAB, without its comments; its lines keep their numbers.

    ConfigError, TemporaryError if its server is dead, PermissionDeniedError if somebody else could have written it.
    """
    path = config[THIN_FSTAB]
    if not path:
        return {}
    rows = [" ".join(_fields(row)) for row in _text(path, config[common.PROBE_TIMEOUT]).split("\n")]
    return {"THIN_FSTAB": "\n".join(rows).rstrip("\n")}


def _text(path: str, timeout: float) -> str:
    """Read a file that can lie where the bases do, on a server, as trusted_text(); TemporaryError if that is dead."""
    place = path.rpartition("/")[0]
    if place not in _WAITING:
        answers, child = process.within(timeout, filesystem.opens, [path])
        _WAITING[place] = 0 if answers is not None else child.pid
    if _WAITING[place]:
        raise TemporaryError(
            f"cannot read {path}: no answer in {timeout:.0f} s (pid {_WAITING[place]} waits for it)",
            hint="is it on a dead server?",
        )
    return trusted_text(path)


def read(text: str, path: str, root: str) -> list[Line]:
    """Return the lines with nullfs mounts on ``root`` and below it; ConfigError with every mistake and its line."""
    lines: list[Line] = []
    problems: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(text.split("\n"), 1):
        fields = _fields(row)
        if not fields:
            continue
        try:
            line = _line(fields, root)
            if line is None:
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
    if _IGNORED in options:
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
