"""A small grammar of jail.conf(5), for tests that read what `envstart jailconf` writes."""

from __future__ import annotations

import re

Statement = tuple[str, str, str]
_TOKEN = re.compile(r'\s+|#[^\n]*|"(?P<quoted>[^"\\]*)"|(?P<sign>\+=|[={};])|(?P<word>[^\s"#={};+]+)')
_PARAMETER = re.compile(r"\$?[a-z][a-z0-9_.]*")


def tokens(text: str) -> list[tuple[str, str]]:
    """Kind and text of each token; whatever is none fails the test."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, f"no token: {text[at : at + 20]!r}"
        at = match.end()
        if match.lastgroup:
            found.append((match.lastgroup, match[match.lastgroup]))
    return found


def statements(found: list[tuple[str, str]]) -> list[Statement]:
    """``name;``, ``name = value;`` and ``name += value;``: each has its name, its sign and its value."""
    read: list[Statement] = []
    rest = list(found)
    while rest:
        kind, name = rest.pop(0)
        assert kind == "word", name
        assert _PARAMETER.fullmatch(name), name
        sign = value = ""
        if rest[0] != ("sign", ";"):
            kind, sign = rest.pop(0)
            assert sign in ("=", "+="), sign
            kind, value = rest.pop(0)
            assert kind in ("quoted", "word"), value
        assert rest.pop(0) == ("sign", ";"), name
        # What is added to must have been set, or a jail.conf that includes this file adds to it as well.
        assert sign != "+=" or (name, "=") in [one[:2] for one in read], name
        read.append((name, sign, value))
    return read


def jail(text: str) -> tuple[str, list[Statement]]:
    """Return the one jail of a file."""
    found = tokens(text)
    assert found[0][0] == "word"
    assert (found[1], found[-1]) == (("sign", "{"), ("sign", "}"))
    return found[0][1], statements(found[2:-1])


def filled(value: str, read: list[Statement]) -> str:
    """Return a value with its variables in, as jail(8) puts them in when all is read."""
    known = {name.lstrip("$"): value for name, sign, value in read if sign == "="}
    while "${" in value:
        before, _, rest = value.partition("${")
        name, _, after = rest.partition("}")
        value = before + known[name] + after
    return value
