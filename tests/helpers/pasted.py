"""What programs print for somebody to paste: command lines of the tool, held against its parser (docs/cases.md, C8)."""

from __future__ import annotations

import re
import shlex
import subprocess

from verbs import verbs

from envstart.cli import main
from envstart.errors import UsageError

_VERBS = "|".join(re.escape(verb.name) for verb in verbs())
# To its end, or to where the sentence goes on.
_LINE = re.compile(rf"(?<![\w-])(?:/[^\s:;,]*/)?envstart (?:{_VERBS})\b[^;,|\"\n]*")


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of the tool in each command line of it in a program's output; not those of its help."""
    if text.startswith("usage: "):
        return []
    return [shlex.split(line)[1:] for line in _LINE.findall(text)]


def check(ended: subprocess.CompletedProcess[str], workdir: str) -> subprocess.CompletedProcess[str]:
    """Give back what has ENDED; each command line that it has printed can be run, and names the workdir."""
    for words in command_lines(ended.stdout) + command_lines(ended.stderr):
        if words[-1] == "-h":
            continue
        plain = words[: words.index(">")] if ">" in words else words
        try:
            main.parser().parse_args(plain)
        except UsageError as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from None
        # Where a file is named it need not be in the workdir; and a thin jail's fstab is no configuration.
        named = "-c" in words or any(word.startswith(workdir) for word in words)
        named = named or words == ["config", "check", "nullfs"]
        assert not workdir or named, shlex.join(words)
    return ended
