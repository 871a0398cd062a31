"""getopt(3), which stops at the first operand and knows no long switches."""

from __future__ import annotations


class UsageError(Exception):
    """A switch that the command does not have, or a wrong number of operands."""

    def __init__(self, complaint: str = "") -> None:
        super().__init__(complaint)
        self.complaint = complaint


def getopt(argv: list[str], switches: str) -> tuple[list[tuple[str, str]], list[str]]:
    found: list[tuple[str, str]] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        cluster = rest.pop(0)[1:]
        if cluster == "-":
            break
        while cluster:
            letter, cluster = cluster[0], cluster[1:]
            position = switches.find(letter)
            if position < 0 or letter == ":":
                raise UsageError(f"illegal option -- {letter}")
            if switches[position + 1 : position + 2] != ":":
                found.append((letter, ""))
                continue
            if not cluster and not rest:
                raise UsageError(f"option requires an argument -- {letter}")
            found.append((letter, cluster or rest.pop(0)))
            cluster = ""
    return found, rest


def values(found: list[tuple[str, str]], letter: str) -> list[str]:
    return [value for name, value in found if name == letter]


def letters(found: list[tuple[str, str]]) -> set[str]:
    return {name for name, _ in found}


def take_libxo(argv: list[str]) -> tuple[str, list[str]]:
    """Take libxo's own switches out before the command sees the rest."""
    style, rest = "", []
    words = iter(argv)
    for word in words:
        if word == "--libxo":
            style = next(words, "")
        elif word.startswith("--libxo="):
            style = word.partition("=")[2]
        elif word.startswith("--libxo:"):
            style = {"J": "json", "JP": "json,pretty"}.get(word.partition(":")[2], "")
        else:
            rest.append(word)
    return style, rest
