"""iscsi.conf(5) as iscsictl reads it."""

from __future__ import annotations

import os
import stat

from .machine import Machine, warn, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Token = tuple[str, str, int]
    Entry = dict[str, str]

PATH = "/etc/iscsi.conf"
TOKEN = r'(?P<blank>[ \t\r]+|#[^\n]*)|(?P<line>\n)|(?P<mark>[{}=;])|"(?P<quoted>[^"\n]+)"|(?P<word>[\w.\-/:\[\]]+)|.'
KEYS = {
    name.lower(): name
    for name in (
        "TargetName TargetAddress InitiatorName InitiatorAddress InitiatorAlias chapIName chapSecret tgtChapName"
        " tgtChapSecret AuthMethod HeaderDigest DataDigest SessionType enable protocol offload dscp pcp PingTimeout"
        " LoginTimeout"
    ).split()
}
OBSOLETE = {
    "port", "maxconnections", "initialr2t", "immediatedata", "maxrecvdatasegmentlength", "maxburstlength",
    "firstburstlength", "defaulttime2wait", "defaulttime2retain", "maxoutstandingr2t", "errorrecoverylevel", "tags",
    "maxluns", "sockbufsize",
}  # fmt: skip
CODES = {"ef", "be", *(f"cs{n}" for n in range(8)), *(f"af{n}{m}" for n in range(1, 5) for m in range(1, 4))}
VALUES = {
    "AuthMethod": ("None", "CHAP"),
    "HeaderDigest": ("None", "CRC32C"),
    "DataDigest": ("None", "CRC32C"),
    "SessionType": ("Normal", "Discovery"),
    "enable": ("on", "off", "yes", "no", "1", "0", "true", "false"),
    "protocol": ("iSCSI", "iSER"),
}


class InvalidConfigError(Exception):
    """`iscsictl: TEXT`, exit 1."""


def load(machine: Machine, path: str) -> dict[str, Entry]:
    """Return the targets by nickname. Standard input is read as a file of that name."""
    try:
        text = read(machine, path)
    except OSError as problem:
        raise InvalidConfigError(f"unable to open configuration file {path}: {words_of(problem)}") from None
    entries = parse(text)
    for nick, entry in entries.items():
        verify(nick, entry)
    return entries


def read(machine: Machine, path: str) -> str:
    if path == "/dev/stdin":
        # The node is open to everybody, whatever is connected to it.
        warn(f"iscsictl: {path} is world-writable")
        with os.fdopen(os.dup(0), encoding="utf-8") as stream:
            return stream.read()
    # The machine's own, as far as there is one: that of the system below must not be seen.
    real = f"{machine.path}/root{path}" if path == PATH else machine.real_place(path).real
    with open(real, encoding="utf-8") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        for bit, word in ((stat.S_IWOTH, "writable"), (stat.S_IROTH, "readable"), (stat.S_IXOTH, "executable")):
            if mode & bit:
                warn(f"iscsictl: {path} is world-{word}")
                break
        return stream.read()


def tokens(text: str) -> Iterator[Token]:
    import re

    line = 1
    for found in re.finditer(TOKEN, text):
        if found["line"]:
            line += 1
        elif found["quoted"]:
            yield "string", found["quoted"], line
        elif found["word"]:
            known = found["word"].lower()
            keyword = known in KEYS or known in OBSOLETE or known in CODES
            yield "keyword" if keyword else "string", found["word"], line
        elif not found["blank"]:
            yield found["mark"] or "error", found[0], line
    yield "end", "", line


def syntax_error(token: Token) -> InvalidConfigError:
    return InvalidConfigError(f"error in configuration file at line {token[2]} near '{token[1]}': syntax error")


def parse(text: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    stream = tokens(text)
    token = next(stream)
    while token[0] != "end":
        nick = expect(token, "string")
        expect(next(stream), "{")
        if nick in entries:
            raise InvalidConfigError(f'duplicated target "{nick}"')
        entries[nick] = parse_entry(stream)
        token = next(stream)
    return entries


def expect(token: Token, *kinds: str) -> str:
    if token[0] not in kinds:
        raise syntax_error(token)
    return token[1]


def parse_entry(stream: Iterator[Token]) -> Entry:
    entry: Entry = {}
    while True:
        token = next(stream)
        if token[0] == ";":
            continue
        if token[0] == "}":
            return entry
        word = expect(token, "keyword").lower()
        expect(next(stream), "=")
        value = next(stream)
        expect(value, "string", "keyword")
        if word in OBSOLETE:
            warn(f"iscsictl: obsolete statement ignored at line {token[2]}")
            continue
        if word not in KEYS:
            raise syntax_error(token)
        name = KEYS[word]
        if name in entry:
            raise InvalidConfigError(f"duplicated {name} at line {token[2]}")
        entry[name] = checked(name, value)


def checked(name: str, token: Token) -> str:
    value = token[1]
    choices = VALUES.get(name)
    if choices is not None:
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise InvalidConfigError(f"invalid {name} at line {token[2]}; must be either {' or '.join(choices[:2])}")
    if name in ("pcp", "PingTimeout", "LoginTimeout") and not value.isdigit():
        raise InvalidConfigError(f"invalid numeric value at line {token[2]}")
    return value


def verify(nick: str, entry: Entry) -> None:
    discovery = entry.get("SessionType") == "Discovery"
    if not discovery and "TargetName" not in entry:
        raise InvalidConfigError(f'missing TargetName for target "{nick}"')
    if discovery and "TargetName" in entry:
        raise InvalidConfigError(f'cannot specify TargetName for discovery sessions for target "{nick}"')
    if "TargetAddress" not in entry:
        raise InvalidConfigError(f'missing TargetAddress for target "{nick}"')
    for name in ("TargetName", "InitiatorName"):
        if name in entry:
            check_name(entry[name])
    chap = {"chapIName", "chapSecret", "tgtChapName", "tgtChapSecret"} & set(entry)
    if entry.get("AuthMethod", "CHAP" if chap else "None") == "CHAP":
        for one, needed in (
            ("", "chapIName"), ("", "chapSecret"), ("tgtChapName", "tgtChapSecret"), ("tgtChapSecret", "tgtChapName"),
        ):  # fmt: skip
            if (not one or one in entry) and needed not in entry:
                raise InvalidConfigError(f'missing {needed} for target "{nick}"')


def check_name(name: str) -> None:
    """Complaints only; the kernel takes every name."""
    if not name.startswith(("iqn.", "eui.", "naa.")):
        warn(f'iscsictl: invalid iSCSI name "{name}"; should start with either "iqn.", "eui.", or "naa."')
        return
    for letter in name:
        if not (letter.isalnum() or letter in "-.:"):
            warn(f'iscsictl: invalid character "{letter}" in iSCSI name "{name}"')
            return
