"""`make docs`: what is made from the backends' rows, the files in conf/ and the tables of README.md."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from envstart import backends, sample  # noqa: E402


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
    return made


def _between(text: str, mark: str, new: str) -> str:
    before, begin, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->\n")
    return before + begin + new + end + after


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
