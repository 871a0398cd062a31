"""What the manual pages say that the code already knows, in mdoc(7)."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verbs import Verb, said, takes

from envstart.config.schema import Option, Options


def synopsis(verbs: Sequence[Verb]) -> str:
    """Return a line for each verb."""
    lines: list[str] = []
    for verb in verbs:
        lines += [".Nm", f".Cm {verb.name}"]
        options = sorted((action for action in verb.options if action.dest != "help"), key=_first)
        flags = [action for action in options if not takes(action)]
        letters = "".join(action.option_strings[0][1] for action in flags if len(action.option_strings[0]) == 2)
        lines += [f".Op Fl {letters}"] if letters else []
        for action in options:
            if takes(action) or len(action.option_strings[0]) > 2:
                more = " ..." if isinstance(action, argparse._AppendAction) else ""
                term = _term(action, action.option_strings[:1])
                lines.append(f".{term}{more}" if action.required else f".Op {term}{more}")
        for action in verb.operands:
            more = " ..." if action.nargs in ("*", "+") else ""
            optional = "Op " if action.nargs in ("*", "?") else ""
            lines.append(f".{optional}{_term(action)}{more}")
    return _lines([*lines, ".Nm", ".Fl -version"])


def sections(verbs: Sequence[Verb]) -> tuple[str, str]:
    """Return the list of verbs with what only one of them takes, and the list of what several take."""
    users: dict[tuple[str, str], list[str]] = {}
    terms: dict[str, set[str]] = {}
    for verb in verbs:
        for action in filter(said, (*verb.options, *verb.operands)):
            users.setdefault((_term(action), said(action)), []).append(verb.name)
            terms.setdefault(_term(action), set()).add(said(action))
    lines = [".Bl -tag -width Ds"]
    for verb in verbs:
        lines += [f".It Cm {verb.name}", *_text(verb.help)]
        own = [key for key, names in users.items() if names == [verb.name]]
        if own:
            lines += [".Bl -tag -width Ds", *_items(own), ".El"]
    shared = {key: names for key, names in sorted(users.items(), key=_alphabet) if len(names) > 1}
    # The same words can mean one thing here and another there.
    notes = {key: f" ({', '.join(names)})" for key, names in shared.items() if len(terms[key[0]]) > 1}
    listed = [".Bl -tag -width Ds", *_items(shared, notes), ".It Fl -version", "the version", ".El"]
    return _lines([*lines, ".El"]), _lines(listed)


def _first(action: argparse.Action) -> tuple[bool, str]:
    """Options of one letter, then those with words, each in the order of the alphabet."""
    spelling = action.option_strings[0]
    return spelling.startswith("--"), spelling.lower()


def _alphabet(user: tuple[tuple[str, str], list[str]]) -> tuple[bool, str]:
    """Options in the order of the alphabet, then operands."""
    term = user[0][0]
    return not term.startswith("Fl"), term.replace("Fl -", "Fl ").lower()


def keys(options: Mapping[str, Options]) -> str:
    """Return the keys of all backends, in groups that the same backends have."""
    holders: dict[tuple[str, str, str], list[str]] = {}
    rows: dict[tuple[str, str, str], Option[Any]] = {}
    for backend, its in options.items():
        for option in its:
            row = (option.name, option.help, option.default_help or str(option.default))
            holders.setdefault(row, []).append(backend)
            rows[row] = option
    lines: list[str] = []
    for group in sorted(
        set(map(tuple, holders.values())), key=lambda group: (len(group), list(options).index(group[0]))
    ):
        whose = "all backends" if len(group) == len(options) else _enumeration(group)
        lines += [f".Ss Keys of {whose}", ".Bl -tag -width Ds"]
        for row, backends in holders.items():
            if tuple(backends) == group:
                lines += [f".It Va {rows[row].name}", *_row(rows[row])]
        lines.append(".El")
    return _lines(lines)


def _row(option: Option[Any]) -> list[str]:
    if option.default is None:
        return _text(f"{option.help}; required")
    if option.default_help:
        return _text(f"{option.help}; default: {option.default_help}")
    return (
        [*_text(f"{option.help}; default:"), f".Ql {_quoted(option.default)}"] if option.default else _text(option.help)
    )


def _enumeration(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _items(keys: Iterable[tuple[str, str]], notes: Mapping[tuple[str, str], str] | None = None) -> list[str]:
    return [line for key in keys for line in (f".It {key[0]}", *_text(key[1] + (notes or {}).get(key, "")))]


def _term(action: argparse.Action, spellings: Sequence[str] = ()) -> str:
    """``Fl n , Fl -dry-run``, ``Fl c Ar file`` or ``Ar backend``."""
    given = f"Ar {takes(action).lower()}" if takes(action) else ""
    flags = " , ".join(f"Fl {spelling[1:]}" for spelling in spellings or action.option_strings)
    return " ".join(filter(None, (flags, given)))


def _text(text: str) -> list[str]:
    escaped = text.replace("\\", "\\e")
    lines = textwrap.wrap(escaped, 78, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{line}" if line.startswith((".", "'")) else line for line in lines]


def _quoted(text: str) -> str:
    """One argument of a macro, whose hyphens can be copied."""
    return '"' + text.replace("\\", "\\e").replace('"', '""').replace("-", "\\-") + '"'


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
