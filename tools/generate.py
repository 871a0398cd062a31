"""`make docs`: what is made from the backends' rows and the tool's parser.

The hooks, the files in conf/ and completions/, the tables of README.md, docs/ and the manual pages, the list of modules
in CONTRIBUTING.md, the port's list of files.
"""

from __future__ import annotations

import ast
import configparser
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import completion
import mdoc
import packing
from verbs import verbs

from envstart.config import common, sample
from envstart.engine import registry

ROOT = Path(__file__).resolve().parents[1]
_NEW_PAGE = """# {name}: {title}

## Keys

`env_start_{name}.conf` also has the keys of [configuration.md](../configuration.md#keys-of-all-backends).

<!-- keys {name} -->
<!-- /keys {name} -->
"""


def files() -> dict[Path, str]:
    """Every generated file with the text it must have."""
    contributing = {ROOT / "CONTRIBUTING.md": _contributing()}
    return {**_backends(), **_documents(), **contributing, **_manual(), **_completions(), **_plist()}


def _backends() -> dict[Path, str]:
    """Return the hooks of each backend, which find out by their name whose they are, and its sample configuration."""
    hook = (ROOT / "hooks" / "env_poststop").read_text(encoding="utf-8")
    return {
        **{ROOT / "hooks" / f"env_{verb}_{name}": hook for name in registry.NAMES for verb in ("start", "stop")},
        **{
            ROOT / "conf" / f"env_start_{name}.conf": sample.conf(name, registry.backend(name).OPTIONS)
            for name in registry.NAMES
        },
    }


def _documents() -> dict[Path, str]:
    """Return the pages with tables of backends and of their keys; a backend that has no page yet gets one."""
    docs = ROOT / "docs"
    all_backends = docs / "configuration.md"
    keys = sample.table(common.OPTIONS)
    pages = {all_backends: _between(all_backends.read_text(encoding="utf-8"), "keys of all backends", keys)}
    for path, top in ((ROOT / "README.md", "docs/"), (docs / "README.md", "")):
        rows = ["| backend | hooks | mounts |", "|---|---|---|"]
        for name in registry.NAMES:
            hooks = f"`env_start_{name}`, `env_stop_{name}`"
            rows.append(f"| [{name}]({top}backends/{name}.md) | {hooks} | {registry.backend(name).TITLE} |")
        pages[path] = _between(path.read_text(encoding="utf-8"), "backends", "\n".join(rows) + "\n")
    for name in registry.NAMES:
        path = docs / "backends" / f"{name}.md"
        if path.exists():
            text = path.read_text(encoding="utf-8")
        else:
            text = _NEW_PAGE.format(name=name, title=registry.backend(name).TITLE)
        own = [option for option in registry.backend(name).OPTIONS if option not in common.OPTIONS]
        pages[path] = _between(text, f"keys {name}", sample.table(own))
    return pages


def _contributing() -> str:
    """Return CONTRIBUTING.md with the first line of each module's docstring, packages in the order of their layers."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = setup["importlinter:contract:house"]["layers"].replace("|", " ").split()
    lines = []
    for path in (ROOT / layer.replace(".", "/") for layer in layers):
        if path.is_dir():
            name = path.relative_to(ROOT / "envstart")
            lines += ["", f"**`{name}/`** {_summary(path / '__init__.py')}", ""]
            modules = sorted(module for module in path.rglob("*.py") if module != path / "__init__.py")
            lines += [f"- `{module.relative_to(path)}`: {_summary(module)}" for module in modules]
        else:
            lines += ["", f"**`{path.name}.py`** {_summary(path.with_suffix('.py'))}"]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return _between(text, "modules", "\n".join(lines) + "\n\n")


def _summary(path: Path) -> str:
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("``", "`")


def _plist() -> dict[Path, str]:
    return {ROOT / "port" / "pkg-plist": packing.plist(ROOT)}


def _manual() -> dict[Path, str]:
    tool, conf = ROOT / "man" / "envstart.8", ROOT / "man" / "envstart.conf.5"
    page, (its_verbs, its_options) = tool.read_text(encoding="utf-8"), mdoc.sections(verbs())
    for mark, new in (("synopsis", mdoc.synopsis(verbs())), ("verbs", its_verbs), ("options", its_options)):
        page = _between(page, mark, new, comment='.\\" ')
    keys = mdoc.keys({name: registry.backend(name).OPTIONS for name in registry.NAMES})
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
    # The hooks and samples first: the port's list names what is there.
    for make in (_backends, files):
        for path, content in make().items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
            if path.parent.name == "hooks":
                path.chmod(0o755)
