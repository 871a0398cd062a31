"""Completions of the tool for bash(1), zsh(1) and tcsh(1), made from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from verbs import Verb, said, takes

from envstart.engine import registry

_HEADER = "# Made by: make docs\n"
# The directories of the workdir that -w names, or of CBSD's own. Only names are read: nothing in it is looked at, since
# what is mounted there may not answer.
_NAMES = r"""_envstart_names() {{
	local dir='' word last=''
	for word in "${{{words}[@]}}"; do
		case $last in -w|--workdir) dir=$word ;; esac
		last=$word
	done
	[ -n "$dir" ] || dir=$(sed -n 's/^cbsd_workdir="\{{0,1\}}\([^"]*\).*/\1/p' /etc/rc.conf 2>/dev/null)
	command ls "$dir/jails-system" 2>/dev/null
}}
"""
_BASH = """
_envstart() {{
	local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} verb='' word
	case $prev in
{values}
	esac
	for word in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
		case $verb:$word in
		*:-*) ;;
{steps}
		esac
	done
	case $verb in
{verbs}
	esac
}}
complete -F _envstart envstart
"""


def bash(verbs: Sequence[Verb]) -> str:
    """For bash-completion."""
    found = {
        "names": '$(compgen -W "$(_envstart_names)" -- "$cur")',
        "files": '$(compgen -f -- "$cur")',
        "directories": '$(compgen -d -- "$cur")',
        "": "",
    }
    values = []
    for kind, spellings in sorted(_values(verbs).items()):
        answer = found.get(kind, f'$(compgen -W "{kind}" -- "$cur")')
        values.append(f"\t{'|'.join(spellings)})\n\t\tCOMPREPLY=({answer})\n\t\treturn\n\t\t;;")
    steps = [f"\t\t{before}:{word}) verb='{f'{before} {word}'.strip()}' ;;" for before, word in _steps(verbs)]
    lines = []
    for before, words in _next_words(verbs).items():
        lines.append(f'\t\'{before}\') COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$cur")) ;;')
    for verb in verbs:
        words = [spelling for action in verb.options for spelling in action.option_strings]
        words += [word for action in verb.operands for word in _words(action)]
        names = " $(_envstart_names)" if any(_kind(action) == "names" for action in verb.operands) else ""
        lines.append(f'\t\'{verb.name}\') COMPREPLY=($(compgen -W "{" ".join(words)}{names}" -- "$cur")) ;;')
    body = _BASH.format(values="\n".join(values), steps="\n".join(steps), verbs="\n".join(lines))
    return "# shellcheck shell=bash disable=SC2207\n" + _HEADER + _NAMES.format(words="COMP_WORDS") + body


def zsh(verbs: Sequence[Verb]) -> str:
    """For compinit."""
    lines = ["#compdef envstart", _HEADER + _NAMES.format(words="words")]
    groups = _next_words(verbs)
    for before in groups:
        lines += [f"{_function(before)}() {{", "\tif (( CURRENT == 2 )); then", "\t\tlocal -a verbs=("]
        for verb in verbs:
            lead, _, word = verb.name.rpartition(" ")
            if lead == before:
                lines.append(f"\t\t\t'{_zsh_quoted(word)}:{_zsh_quoted(verb.help)}'")
        lines += [f"\t\t\t'{word}'" for word in groups[before] if f"{before} {word}".strip() in groups]
        lines += [
            "\t\t)",
            "\t\t_describe -t verbs verb verbs",
            "\t\treturn",
            "\tfi",
            "\tshift words",
            "\t(( CURRENT-- ))",
        ]
        lines.append("\tcase $words[1] in")
        for word in groups[before]:
            name = f"{before} {word}".strip()
            if name in groups:
                lines.append(f"\t{word}) {_function(name)} ;;")
        for verb in verbs:
            lead, _, word = verb.name.rpartition(" ")
            if lead == before:
                lines += [f"\t{word})", "\t\t_arguments -s \\"]
                lines += [f"\t\t\t{spec} \\" for action in verb.options for spec in _zsh_options(action)]
                lines += [f"\t\t\t{_zsh_operand(action)} \\" for action in verb.operands]
                lines += ["\t\t\t&& return", "\t\t;;"]
        lines += ["\tesac", "}", ""]
    return "\n".join([*lines, '_envstart "$@"', ""])


def tcsh(verbs: Sequence[Verb]) -> str:
    """For a .tcshrc; of the options it does not know whose they are."""
    spellings = sorted({spelling for verb in verbs for action in verb.options for spelling in action.option_strings})
    long = " ".join(spelling[2:] for spelling in spellings if spelling.startswith("--"))
    short = " ".join(spelling[1:] for spelling in spellings if not spelling.startswith("--"))
    operands = sorted({word for verb in verbs for action in verb.operands for word in _words(action)})
    found = {"files": "f", "directories": "d", "names": "x:NAME", "": "x:VALUE"}
    rules = [f"'c/--/({long})/'", f"'c/-/({short})/'"]
    for kind, its in sorted(_values(verbs).items()):
        rules += [f"'n/{spelling}/{found.get(kind, f'({kind})')}/'" for spelling in its]
    groups = _next_words(verbs)
    rules += [f"'n/{before}/({' '.join(words)})/'" for before, words in groups.items() if before]
    rules += [f"'p/1/({' '.join(groups[''])})/'", f"'p/*/({' '.join(operands)})/'"]
    return _HEADER + "complete envstart \\\n\t" + " \\\n\t".join(rules) + "\n"


def _kind(action: argparse.Action) -> str:
    """Return the kind of a value's completions: names, files, directories, the words themselves, or none."""
    if action.choices:
        return " ".join(action.choices)
    if takes(action) == "DIR" and "-w" not in action.option_strings:
        # A shell looks at every entry; those of an environment may not answer.
        return ""
    return next((kind for word, kind in _KINDS.items() if word in takes(action)), "")


_KINDS = {"NAME": "names", "FILE": "files", "DIR": "directories"}


def _words(action: argparse.Action) -> list[str]:
    """Return the words that an operand can be, beside names."""
    return [*(action.choices or (registry.NAMES if "BACKEND" in takes(action) else ()))]


def _values(verbs: Sequence[Verb]) -> dict[str, list[str]]:
    """Return the options that take a value, by what completes it; the same option takes the same everywhere."""
    kinds: dict[str, str | None] = {}
    for verb in verbs:
        for action in verb.options:
            kind = _kind(action) if takes(action) else None
            for spelling in action.option_strings:
                if kinds.setdefault(spelling, kind) != kind:
                    raise ValueError(f"{spelling} of {verb.name} takes something else than elsewhere")
    found: dict[str, list[str]] = {}
    for spelling, kind in kinds.items():
        if kind is not None:
            found.setdefault(kind, []).append(spelling)
    return found


def _steps(verbs: Sequence[Verb]) -> list[tuple[str, str]]:
    """Each word of a verb's name with those before it."""
    steps: dict[tuple[str, str], None] = {}
    for verb in verbs:
        words = verb.name.split()
        for number, word in enumerate(words):
            steps[(" ".join(words[:number]), word)] = None
    return list(steps)


def _next_words(verbs: Sequence[Verb]) -> dict[str, list[str]]:
    """Return the words that can follow those that lead to verbs."""
    found: dict[str, list[str]] = {}
    for before, word in _steps(verbs):
        found.setdefault(before, []).append(word)
    found[""] += ["-h", "--help", "--version"]
    return found


def _function(before: str) -> str:
    return "_envstart" + "".join(f"_{word}" for word in before.split())


def _zsh_quoted(text: str) -> str:
    for special, instead in (("\\", "\\\\"), (":", "\\:"), ("[", "\\["), ("]", "\\]"), ("'", "'\\''")):
        text = text.replace(special, instead)
    return text


def _zsh_value(action: argparse.Action) -> str:
    kind = _kind(action)
    found = {"names": "{compadd -- $(_envstart_names)}", "files": "_files", "directories": "_directories", "": " "}
    return f":{action.dest}:{found.get(kind, f'({kind})')}"


def _zsh_options(action: argparse.Action) -> Iterable[str]:
    often = "*" if isinstance(action, (argparse._AppendAction, argparse._CountAction)) else ""
    value = _zsh_value(action) if takes(action) else ""
    for spelling in action.option_strings:
        yield f"'{often}{spelling}[{_zsh_quoted(said(action))}]{value}'"


def _zsh_operand(action: argparse.Action) -> str:
    names = " $(_envstart_names)" if _kind(action) == "names" else ""
    return (
        f"'{'*' if action.nargs in ('*', '+') else ''}:{action.dest}:{{compadd -- {' '.join(_words(action))}{names}}}'"
    )
