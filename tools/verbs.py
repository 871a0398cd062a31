"""The verbs of the tool, as its parser has them: for its manual page and its completions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from envstart.cli import main


class Verb(NamedTuple):
    """One verb. ``name`` has two words if it is below another one, as in ``config show``."""

    name: str
    help: str
    options: tuple[argparse.Action, ...]
    operands: tuple[argparse.Action, ...]


def verbs() -> list[Verb]:
    """All verbs, in the order of the help; those that only lead to others are not among them."""
    return list(_below(main.parser(), "", ""))


def _below(parser: argparse.ArgumentParser, name: str, text: str) -> Iterator[Verb]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        options = tuple(action for action in parser._actions if action.option_strings)
        yield Verb(name, text, options, tuple(action for action in parser._actions if not action.option_strings))
    for group in groups:
        helps = {action.dest: said(action) for action in group._choices_actions}
        for word, below in group.choices.items():
            yield from _below(below, f"{name} {word}".strip(), helps[word])


def said(action: argparse.Action) -> str:
    """Return the help of an option or operand."""
    return (action.help or "") % vars(action)


def takes(action: argparse.Action) -> str:
    """Return the value that an option or operand takes, as in ``FILE``; empty for a flag."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(action.choices) if action.choices else action.dest.upper()
