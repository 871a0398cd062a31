"""Configuration keys: each a row with its name, how its text is read, its default and its help.

A backend's ``OPTIONS`` are such rows; the sample file, ``envstart config``, the tables in docs/ and the validation are
made from them, so that they cannot disagree. Parsers take the text and raise ValueError with what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

from envstart.environment import DIGITS, LETTERS

_T_co = TypeVar("_T_co", covariant=True)

# What a value can have in place of the environment's name.
NAME = "{name}"
_WRITE_OUT = "nothing is filled in here; write it out, in a section [NAME] if need be"
ALNUM = frozenset(LETTERS + DIGITS)


class Option(Generic[_T_co]):
    """One key. ``default`` is text, read by ``parse`` like the file's; None: the key is required.

    An empty value means the default, as in CBSD's own sample, and an empty default is the value None, which
    ``default_help`` explains. The class's parameter is the type of the value, so that ``config[OPTION]`` has it.
    ``placeholders``: the words in braces that something is put in place of.
    """

    __slots__ = ("name", "parse", "default", "help", "default_help", "placeholders")

    @overload
    def __init__(
        self: Option[_T_co | None],
        name: str,
        parse: Callable[[str], _T_co],
        default: Literal[""],
        help: str,
        default_help: str = "",
        placeholders: tuple[str, ...] = (),
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        parse: Callable[[str], _T_co],
        default: str | None,
        help: str,
        default_help: str = "",
        placeholders: tuple[str, ...] = (),
    ) -> None: ...

    def __init__(
        self,
        name: str,
        parse: Callable[[str], Any],
        default: str | None,
        help: str,
        default_help: str = "",
        placeholders: tuple[str, ...] = (),
    ) -> None:
        """Tell in the help what {name} stands for, where it can be in the value."""
        self.name, self.parse, self.default = name, parse, default
        self.help = f"{help}; {NAME} in the value is the name of the jail or VM" if NAME in placeholders else help
        self.default_help, self.placeholders = default_help, placeholders

    def read(self, value: str, name: str) -> Any:
        """Return what a value means for the jail or VM ``name``: None if it is empty. ValueError."""
        if not value:
            return None
        for part in value.split("{")[1:]:
            word, closed, _ = part.partition("}")
            # Any other text between braces can be part of a name.
            if closed and word.isidentifier() and f"{{{word}}}" not in self.placeholders:
                allowed = f"of words with braces there is {' and '.join(self.placeholders)}"
                raise ValueError(f"has '{{{word}}}'; {allowed if self.placeholders else _WRITE_OUT}")
        return self.parse(fill(value, name))


Options = Sequence[Option[Any]]


def fill(value: str, name: str) -> str:
    """Return a value as the jail or VM ``name`` has it."""
    return value.replace(NAME, name)


def text(value: str) -> str:
    """Read one line without control characters, those of ISO 8859 and Unicode's line ends among them."""
    if any(character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029" for character in value):
        raise ValueError("has a control character")
    return value


def words(value: str) -> tuple[str, ...]:
    """Split at blanks, tabs or newlines, as sh(1) does, and at no other space."""
    return tuple(filter(None, text(value.replace("\t", " ").replace("\n", " ")).split(" ")))


def boolean(value: str) -> bool:
    """Read ``1`` or ``0``, or what rc.conf(5) knows instead."""
    if value.lower() in ("0", "no", "false", "off"):
        return False
    if value.lower() in ("1", "yes", "true", "on"):
        return True
    raise ValueError("is neither 1 nor 0")


def choice(*allowed: str) -> Callable[[str], str]:
    """Return the reader of one of a few words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return value

    return parse


def integer(least: int, most: int, unit: str = "") -> Callable[[str], int]:
    """Return the reader of whole numbers from ``least`` to ``most``."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit()) or len(value) > 10 or not least <= int(value) <= most:
            raise ValueError(f"is invalid: expected {least}..{most} {unit}".rstrip())
        return int(value)

    return parse


def identifier(value: str) -> str:
    """Read a word of letters, digits, ``.``, ``_`` and ``-``."""
    if not (ALNUM | set("._-")).issuperset(value) or value.startswith(("-", ".")):
        raise ValueError("has something else than letters, digits and . _ -")
    return value


def mount_words(value: str) -> tuple[str, ...]:
    """Read options of mount(8), between blanks or commas, with or without ``-o`` before them."""
    options = tuple(option for word in words(value) for option in word.removeprefix("-o").split(",") if option)
    return one_mode(options)


def client_options(value: str, punctuation: str, why: str, given: Collection[str]) -> tuple[str, ...]:
    """Read options as mount_words() does, of letters, digits and ``punctuation``; ValueError says ``why``.

    ``given`` are those that envstart gives itself.
    """
    options = mount_words(value)
    for option in options:
        if not (ALNUM | set(punctuation)).issuperset(option):
            raise ValueError(f"has {option!r}, with a character that {why}")
        if option.partition("=")[0] in given:
            raise ValueError(f"has {option.partition('=')[0]}, which has a key of its own")
    return options


def one_mode(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options themselves; ValueError if they say both ro and rw."""
    if {"ro", "rw"} <= set(options):
        raise ValueError("has both ro and rw")
    return options


def host_name(value: str) -> str:
    """Read a name or an IPv4 address, as a resolver can be asked for; ValueError."""
    # A dot at the end is the root of the DNS.
    parts = value.removesuffix(".").split(".")
    characters = (ALNUM | set("-_.")).issuperset(value) and not value.startswith("-")
    if not characters or not all(0 < len(part) < 64 for part in parts):
        raise ValueError("is no host name or address")
    if parts[-1].isdigit() and not _is_inet(parts):
        raise ValueError("is no IPv4 address, and no host name ends in a number")
    return value


def _is_inet(parts: list[str]) -> bool:
    """Tell if inet_aton(3) takes it: the last of fewer than four numbers fills the bytes that are left."""
    if len(parts) > 4 or not all(part.isdigit() for part in parts):
        return False
    *front, last = map(int, parts)
    return all(number < 256 for number in front) and last < 256 ** (4 - len(front))


def inet6(value: str) -> str:
    """Read an IPv6 address without brackets, with a zone or without; ValueError."""
    import socket

    address, percent, zone = value.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        raise ValueError("is no IPv6 address") from None
    if percent and not (zone and (ALNUM | set("-_.")).issuperset(zone)):
        raise ValueError("is no address: its zone is wrong")
    return value


def host_port(value: str) -> str:
    """Read HOST, HOST:PORT, an IPv6 address, or [ADDRESS]:PORT; ValueError."""
    form = f"{value!r}, which is not HOST or HOST:PORT"
    host, colon, port = value.rpartition(":")
    if value.endswith("]") or (value.count(":") != 1 and not host.endswith("]")):
        host, colon, port = value, "", ""
    if colon and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError(f"has {form}: a port is a number from 1 to 65535")
    try:
        if host.startswith("[") and host.endswith("]"):
            inet6(host[1:-1])
        elif ":" in host:
            inet6(host)
        else:
            host_name(host)
    except ValueError as error:
        raise ValueError(f"has {form}: {host or 'nothing'} {error}") from None
    return value


def split_host_port(value: str, default: int) -> tuple[str, int]:
    """Return the name or address, without brackets, and the port of what host_port() takes."""
    host, _, port = value.rpartition(":")
    if port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return value.strip("[]"), default


def directory(value: str) -> str:
    """Read an absolute path without ``..``; double and trailing slashes are taken out."""
    if not text(value).startswith("/"):
        raise ValueError("is not an absolute path")
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("has a .. in it")
    return "/" + "/".join(parts)


# What self_or_directory() gives for 1.
SELF = "1"


def self_or_directory(value: str) -> str:
    """Read ``1``, a directory, or ``0``, which gives ""."""
    if value.startswith("/"):
        return directory(value)
    try:
        return SELF if boolean(value) else ""
    except ValueError:
        raise ValueError("is neither 1 nor 0, nor an absolute path") from None


def names(value: str) -> tuple[str, ...]:
    """Read names of entries of a directory, relative to it."""
    entries = words(value)
    for name in entries:
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"has {name!r}, which is no name below the directory")
    return entries


def require_mounted(name: str, what: str, itself: str) -> Option[str]:
    """Return the row of a key (see required.py): ``what`` must lie in a directory, which ``itself`` is if it is 1."""
    return Option(
        name,
        self_or_directory,
        "0",
        f"directory that must be a mount point, and that {what} lies in; 1: {itself}; else a start ends (75), so that "
        "a disk which is not mounted is not taken for an empty one",
    )
