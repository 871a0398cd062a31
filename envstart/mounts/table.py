"""The mount table: what is mounted where, and from which source. Pure; system/host.py reads it."""

from __future__ import annotations

from envstart.paths import ancestors, is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


# What Linux's mountinfo adds to the path of a directory that is no more (seq_dentry() of fs/seq_file.c).
_DELETED = "//deleted"
# What vis(3) writes after a backslash: octal, hexadecimal, control and meta characters, a letter, or the character.
_ESCAPE = rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(M?)\^(.)|M-(.)|([^xM^])?)"
_CODES = dict(zip(b"nrbavtfsE", b"\n\r\b\a\v\t\f \x1b"))


class Entry:
    """One mount. On Linux ``device`` (``major:minor``) and ``root`` (path inside it) tell what a bind mount shows.

    ``fsid`` is given to each mount anew: the fsid of FreeBSD, Linux's ``major:minor``; "" where it is not told.
    """

    __slots__ = ("source", "point", "fstype", "options", "device", "root", "fsid")

    def __init__(  # noqa: PLR0913 (the columns of the table)
        self,
        source: str,
        point: str,
        fstype: str,
        options: Iterable[str] = (),
        device: str = "",
        root: str = "/",
        fsid: str = "",
    ) -> None:
        """Keep what the table says of a mount."""
        self.source, self.point, self.fstype, self.options = source, point, fstype, frozenset(options)
        self.device, self.root, self.fsid = device, root, fsid or device

    def __eq__(self, other: object) -> bool:
        """Compare source and mount point."""
        return isinstance(other, Entry) and (self.source, self.point) == (other.source, other.point)

    __hash__ = None  # type: ignore[assignment]

    @property
    def kind(self) -> str:
        """Return the fstype without its version: Linux calls NFSv4 nfs4."""
        return "nfs" if self.fstype == "nfs4" else self.fstype

    @property
    def origin(self) -> str:
        """Return what it shows, to be compared with Table.origin() or normal_source()."""
        if self.kind == "nfs":
            return normal_source(self.source)
        return f"{self.device}:{self.root}" if self.device else self.source

    @property
    def given_root(self) -> str:
        """Return the path inside the device that was bound, also of a directory that is no more."""
        return self.root.removesuffix(_DELETED)

    @property
    def is_deleted(self) -> bool:
        """Tell whether the directory that a bind mount of Linux shows was removed, be there a new one of its name."""
        return self.root.endswith(_DELETED)

    @property
    def server(self) -> str:
        """Return who must answer when it is looked at."""
        if self.kind == "ceph" and "@" in self.source:
            return self.source.partition("=/")[0]
        return normal_source(self.source).partition(":/")[0] if self.kind in ("nfs", "ceph") else self.point

    @property
    def read_only(self) -> bool:
        """Tell whether the mount refuses writes."""
        return "ro" in self.options or "read-only" in self.options

    def __str__(self) -> str:
        """Return source and type for people."""
        inside = f"[{self.root}]" if self.device and self.root != "/" else ""
        return f"{self.source}{inside} ({self.fstype})"


class Table:
    """Entries in the order of mounting: of several at one directory the last one is visible."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Keep the entries, oldest first."""
        self._at: dict[str, list[Entry]] = {}
        # The number of the last one on each directory.
        self._last: dict[str, int] = {}
        self._sorted: list[str] | None = None
        self._entries = tuple(entries)
        for number, entry in enumerate(self._entries):
            self._at.setdefault(entry.point, []).append(entry)
            self._last[entry.point] = number

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries, oldest first."""
        return iter(self._entries)

    @property
    def points(self) -> Collection[str]:
        """Return all mount points."""
        return self._at.keys()

    def at(self, point: str) -> list[Entry]:
        """Return what is mounted on exactly this directory, the visible mount last."""
        return self._at.get(point, [])

    def below(self, point: str) -> list[str]:
        """Return the mount points strictly below this directory, in the order of mounting."""
        if self._sorted is None:
            self._sorted = sorted(self._at)
        prefix = point.rstrip("/") + "/"
        # The bisection of bisect_left(), whose module costs a start more than all of these.
        first, last = 0, len(self._sorted)
        while first < last:
            middle = (first + last) // 2
            first, last = (middle + 1, last) if self._sorted[middle] < prefix else (first, middle)
        points = []
        while first < len(self._sorted) and self._sorted[first].startswith(prefix):
            points.append(self._sorted[first])
            first += 1
        return sorted((other for other in points if other != point), key=self._last.__getitem__)

    def hidden_by(self, point: str) -> Entry | None:
        """Return what was mounted above ``point`` after what is mounted there, which nobody sees any more."""
        return self._later(point, ancestors(point))

    def shadowed_by(self, entry: Entry) -> Entry | None:
        """Return what was mounted on the source of a nullfs mount later: the mount shows what was there before."""
        # Of what a bind mount of Linux shows, origin() tells that.
        if entry.fstype != "nullfs" or entry.device:
            return None
        return self._later(entry.point, [entry.source, *ancestors(entry.source)])

    def why_lost(self, entry: Entry) -> str:
        """Tell why what a mount shows is not what its source is now; "" if it is."""
        if entry.is_deleted:
            return f"the directory that it shows, {entry.given_root}, was removed"
        later = self.shadowed_by(entry)
        return f"{later} was mounted on {later.point} after it, over what it shows" if later else ""

    def _later(self, point: str, paths: Iterable[str]) -> Entry | None:
        number, path = max((self._last.get(path, -1), path) for path in (point, *paths))
        return self._at[path][-1] if number > self._last[point] else None

    def nullfs_on(self, point: str) -> list[str]:
        """Return the mount points of nullfs mounts of this mount, which keep it busy (docs/freebsd.md#busy)."""
        return [entry.point for entry in self if entry.fstype == "nullfs" and is_below(entry.source, point)]

    def upon(self, entry: Entry) -> list[Entry]:
        """Return what lies on ENTRY, newest first.

        That is what was mounted below its mount point after it, the nullfs mounts of what it shows, and what lies on
        these; of an ENTRY that is not listed, all that is of this kind.
        """
        start = max((number for number, other in enumerate(self._entries, 1) if other == entry), default=0)
        upon: list[Entry] = []
        covered = [entry.point]
        for other in self._entries[start:]:
            paths = (other.point, other.source) if other.fstype == "nullfs" and not other.device else (other.point,)
            if other.point != entry.point and any(is_below(path, above) for path in paths for above in covered):
                covered.append(other.point)
                upon.append(other)
        return upon[::-1]

    def mount_of(self, path: str) -> Entry | None:
        """Return the visible mount that ``path`` lies on."""
        while True:
            stack = self._at.get(path)
            if stack:
                return stack[-1]
            if path == "/":
                return None
            path = path.rpartition("/")[0] or "/"

    def server(self, path: str) -> str:
        """Return who must answer when ``path`` is looked at: what hangs at one directory of it hangs at all."""
        entry = self.mount_of(path)
        return entry.server if entry is not None else path

    def origin(self, path: str) -> str:
        """Return what a nullfs mount of ``path`` would show: the path, on Linux the device and the path inside it."""
        entry = self.mount_of(path)
        if entry is None or not entry.device:
            return path
        inside = entry.root.rstrip("/") + path[len(entry.point.rstrip("/")) :]
        return f"{entry.device}:{inside or '/'}"

    def showed(self, entry: Entry, fstype: str, source: str) -> bool:
        """Tell whether a bind mount of Linux has shown this source, whose directory was removed since."""
        if fstype != "nullfs" or not entry.is_deleted:
            return False
        return f"{entry.device}:{entry.given_root}" == self.origin(source)

    def shows(self, entry: Entry, fstype: str, source: str, *, linux: bool) -> bool:
        """Tell whether a mount is of this type and shows this source, as it is written: no link in it is followed."""
        # A bind mount of Linux has the kind of the file system that it shows.
        if entry.kind != fstype and not (linux and fstype == "nullfs"):
            return False
        return entry.origin == (normal_source(source) if fstype == "nfs" else self.origin(source))


def parse_libxo(text: str) -> list[Entry]:
    """Read ``mount --libxo json`` of FreeBSD (mount(8), docs/freebsd.md#listing). ValueError when it is not whole."""
    import json

    try:
        rows = json.loads(text)["mount"]["mounted"]
        entries = [Entry(row["special"], row["node"], row["fstype"], row.get("opts", ())) for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its shape is unknown: {error!r}") from None
    if not all(isinstance(word, str) for entry in entries for word in (entry.source, entry.point, entry.fstype)):
        raise ValueError("its shape is unknown: not all of it is text")
    return whole(entries)


def whole(entries: list[Entry]) -> list[Entry]:
    """Return the entries; ValueError unless there is a root: a list without it was cut, or is not the host's."""
    if not any(entry.point == "/" for entry in entries):
        raise ValueError("it has no root file system")
    return entries


def normal_source(source: str) -> str:
    """Return a network source ``HOST:PATH`` in one spelling (docs/faults.md, 23).

    The host is in lower case, in brackets only if it is an IPv6 address; there is no double or trailing slash. Names
    are not looked up: a resolver can hang, and two names of one server are better spelt alike.
    """
    host, colon, path = source.partition("]:") if source.startswith("[") else source.partition(":")
    if not colon or not path.startswith("/"):
        return source
    if colon == "]:" and ":" not in host:
        host, colon = host[1:], ":"
    parts = [part for part in path.split("/") if part]
    return f"{host.lower().rstrip('.')}{colon}/{'/'.join(parts)}"


def unvis(field: str) -> str:
    """Decode a field of fstab(5), or of Linux's mount table, as strunvis(3) does; ValueError where that cannot."""
    if "\\" not in field:
        return field

    import os
    import re

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

    return os.fsdecode(re.sub(_ESCAPE, decode, os.fsencode(field), flags=re.DOTALL))
