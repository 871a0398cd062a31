"""`make docs`: what is made from the backends' rows and the hand tool's parser.

The files in conf/ and completions/, the tables of README.md and of the manual pages, the port's list of files.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import completion
import mdoc
import packing
from verbs import verbs

from envstart import backends
from envstart.config import sample

ROOT = Path(__file__).resolve().parents[1]


def files() -> dict[Path, str]:
    """Every generated file with the text it must have."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = ["| backend | hooks | brings |", "|---|---|---|"]
    made: dict[Path, str] = {}
    told: set[str] = set()
    for name, brings in backends.NAMES.items():
        options = backends.backend(name).OPTIONS
        rows.append(f"| `{name}` | `env_start_{name}`, `env_stop_{name}` | {brings} |")
        made[ROOT / "conf" / f"env_start_{name}.conf"] = sample.conf(name, options)
        shown = [option for option in options if option.name not in told]
        told.update(option.name for option in options)
        readme = _between(readme, f"keys {name}", sample.table(shown))
    made[ROOT / "README.md"] = _between(readme, "backends", "\n".join(rows) + "\n")
    return {**made, **_manual(), **_completions(), ROOT / "port" / "pkg-plist": packing.plist(ROOT)}


def _manual() -> dict[Path, str]:
    tool, conf = ROOT / "man" / "envstart.8", ROOT / "man" / "envstart.conf.5"
    page, (its_verbs, its_options) = tool.read_text(encoding="utf-8"), mdoc.sections(verbs())
    for mark, new in (("synopsis", mdoc.synopsis(verbs())), ("verbs", its_verbs), ("options", its_options)):
        page = _between(page, mark, new, comment='.\\" ')
    keys = mdoc.keys({name: backends.backend(name).OPTIONS for name in backends.NAMES})
    return {tool: page, conf: _between(conf.read_text(encoding="utf-8"), "keys", keys, comment='.\\" ')}


def _completions() -> dict[Path, str]:
    top = ROOT / "completions"
    return {
        top / "envstart.bash": completion.bash(verbs()),
        top / "_envstart": completion.zsh(verbs()),
        top / "envstart.tcsh": completion.tcsh(verbs()),
    }


def _between(text: str, mark: str, new: str, comment: str = "") -> str:
    """``comment`` is what makes a comment of a mark."""
    before, begin, rest = text.partition(f"{comment}<!-- {mark} -->\n")
    _, end, after = rest.partition(f"{comment}<!-- /{mark} -->\n")
    return before + begin + new + end + after


if __name__ == "__main__":
    for path, content in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
