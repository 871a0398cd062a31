"""What a configuration key is: a row with its name, how its text is read, its default and its help.

A backend's ``OPTIONS`` are such rows; the sample file, ``envstart config``, the README table and the validation are
made from them, so that they cannot disagree. Parsers take the text and raise ValueError with what is wrong with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What a value can have in place of the environment's name.
NAME = "{name}"
_WRITE_OUT = "nothing is filled in here; write it out, in a section [NAME] if need be"
ALNUM = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


class Option:
    """One key. ``default`` is text, read by ``parse`` like the file's; None: the key is required.

    An empty value means the default, as in CBSD's own sample, and an empty default is the value None, which
    ``default_help`` explains. ``fills``: the words in braces that something is put in place of.
    """

    __slots__ = ("name", "parse", "default", "help", "default_help", "fills")

    def __init__(
        self,
        name: str,
        parse: Callable[[str], Any],
        default: str | None,
        help: str,
        default_help: str = "",
        fills: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.parse = parse
        self.default = default
        self.help = f"{help}; {NAME} in the value is the environment's name" if NAME in fills else help
        self.default_help = default_help
        self.fills = fills

    def read(self, value: str, name: str) -> Any:
        """What a value means for the environment ``name``: None if it is empty. ValueError."""
        if not value:
            return None
        for part in value.split("{")[1:]:
            word, closed, _ = part.partition("}")
            # Any other text between braces can be part of a name.
            if closed and word.isidentifier() and f"{{{word}}}" not in self.fills:
                known = f"of words with braces there is {' and '.join(self.fills)}" if self.fills else _WRITE_OUT
                raise ValueError(f"has '{{{word}}}'; {known}")
        return self.parse(fill(value, name))


def fill(value: str, name: str) -> str:
    """A value as the environment ``name`` has it."""
    return value.replace(NAME, name)


def text(value: str) -> str:
    """Any one line of text without control characters, those of ISO 8859 and Unicode's line ends among them."""
    if any(character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029" for character in value):
        raise ValueError("has a control character")
    return value


def words(value: str) -> tuple[str, ...]:
    """Words between blanks, tabs or newlines, which is where sh(1) splits; no other space does."""
    return tuple(filter(None, text(value.replace("\t", " ").replace("\n", " ")).split(" ")))


def flag(value: str) -> bool:
    """``1`` or ``0``, or what rc.conf(5) knows instead."""
    known = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}
    if value.lower() not in known:
        raise ValueError("is neither 1 nor 0")
    return known[value.lower()]


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return value

    return parse


def whole(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """A whole number from ``least`` to ``most``."""

    def parse(value: str) -> int:
        of = f" of {unit}" if unit else ""
        if not (value.isascii() and value.isdigit()) or len(value) > 10 or not least <= int(value) <= most:
            raise ValueError(f"is no whole number{of} from {least} to {most}")
        return int(value)

    return parse


def plain(value: str) -> str:
    """A word of letters, digits and . _ -"""
    if not (ALNUM | set("._-")).issuperset(value) or value.startswith(("-", ".")):
        raise ValueError("has something else than letters, digits and . _ -")
    return value


def mount_words(value: str) -> tuple[str, ...]:
    """Options of mount(8), between blanks or commas, with or without ``-o`` before them."""
    return tuple(option for word in words(value) for option in word.removeprefix("-o").split(",") if option)


def directory(value: str) -> str:
    """An absolute path without ``..``; double and trailing slashes are taken out."""
    if not text(value).startswith("/"):
        raise ValueError("is not an absolute path")
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("has a .. in it")
    return "/" + "/".join(parts)


# What self_or_directory() gives for 1.
SELF = "1"


def self_or_directory(value: str) -> str:
    """``1``, a directory, or ``0``, which gives ""."""
    if value.startswith("/"):
        return directory(value)
    try:
        return SELF if flag(value) else ""
    except ValueError:
        raise ValueError("is neither 1 nor 0, nor an absolute path") from None


def names(value: str) -> tuple[str, ...]:
    """Names of entries of a directory, relative to it."""
    found = words(value)
    for name in found:
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"has {name!r}, which is no name below the directory")
    return found


REQUIRE_MOUNTED = "{}_REQUIRE_MOUNTED"


def require_mounted(prefix: str, what: str, itself: str) -> Option:
    """Return the row of a key (see required.py): ``what`` must lie in a directory, which ``itself`` is if it is 1."""
    return Option(
        REQUIRE_MOUNTED.format(prefix),
        self_or_directory,
        "0",
        f"directory that must be a mount point, and that {what} lies in; 1: {itself}; else a start ends (75), so that "
        "a disk which is not mounted is not taken for an empty one",
    )


# What every backend has. Times are seconds.
COMMON = (
    Option("TIMEOUT", whole(2, 86400, "seconds"), "120", "seconds the whole hook may take, roll back included"),
    Option("ATTEMPTS", whole(0, 1000), "0", "attempts for one step; 0: as many as TIMEOUT leaves room for"),
    Option("PROBE_TIMEOUT", whole(1, 3600, "seconds"), "10", "seconds a mounted directory may take to answer"),
    Option(
        "CREATE_MOUNT_POINTS",
        flag,
        "1",
        "make a missing mount point (0755), and missing directories between the CBSD workdir and it",
    ),
    Option(
        "EMPTY_DIR",
        choice("refuse", "warn", "ignore"),
        "refuse",
        "what to do when a directory that is mounted to be written to is empty and takes no file, or cannot be listed: "
        "an NFSv4 server shows a path that it does not export like that",
    ),
    Option(
        "HIDDEN_FILES",
        choice("warn", "refuse", "ignore"),
        "warn",
        "what to do when a mount point has files in it, which the mount will hide",
    ),
    Option(
        "REQUIRE_DATA",
        names,
        "",
        'names that must be in the data directory once it is mounted, as in "etc bin"; '
        "not for an environment that CBSD has yet to create, whose directories are empty",
    ),
    Option("REQUIRE_SYSTEM", names, "", "the same for the system directory"),
    Option("REQUIRE_FSTAB", names, "", "the same for the fstab directory"),
    Option("REQUIRE_RCCONF", names, "", "the same for the rcconf directory"),
    Option(
        "LEASE",
        choice("refuse", "warn", "ignore"),
        "refuse",
        "what to do when the file `locked` in the system directory says that another node ran "
        "the environment less than 30 minutes ago",
    ),
    Option(
        "BREAKER",
        whole(0, 86400, "seconds"),
        "60",
        "seconds for which hooks end at once when a server is down that an earlier one has waited for; 0: each waits",
    ),
    Option("STOP_FORCE", flag, "0", "unmount by force when a server does not answer or a directory stays busy"),
    Option("STOP_KILL", flag, "0", "end the processes that keep a directory busy: TERM, then KILL"),
    Option(
        "LOG_FACILITY",
        choice("none", "daemon", "user", *(f"local{number}" for number in range(8))),
        "local0",
        "syslog facility; none: no syslog",
    ),
)
