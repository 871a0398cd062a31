"""Every configuration that the pages print can be planned, and the tool takes every line of theirs that calls it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from envstart import lifecycle
from envstart.cli import main
from envstart.config.schema import NAME
from envstart.engine import registry
from envstart.environment import in_workdir

ROOT = Path(__file__).resolve().parents[2]
# The lists of docs/quickstart-linux.md name what it makes directories for: tests/docs/test_quickstart_linux.py.
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs" / "quickstart-linux.md"})]
JAIL = in_workdir("jail1", "/usr/jails")
# What stands in a file that a recipe adds lines to.
BEFORE = {"nfs": 'NFS_SERVER="172.16.0.1"\n'}
# What a shell fills in on the pages.
SHELL = {
    "$new": "-j jail1 -d /mnt/new/data -s /mnt/new/system",
    '"$@"': "dev --address 192.168.7.253/24 --bridge bridge0 --base /thin/base --dir /thin",
}


def recipes(page: Path) -> list[tuple[str, str]]:
    """Backend and text of each: what a shell is told to write, and blocks of nothing but assignments and sections."""
    text = page.read_text(encoding="utf-8")
    found = [
        (backend, (BEFORE[backend] if sign == ">>" else "") + lines)
        for sign, backend, lines in re.findall(r"cat (>>?) \S*/env_start_(\w+)\.conf <<'EOF'\n(.*?)\n +EOF", text, re.S)
    ]
    found += [(backend, line) for line, backend in re.findall(r"echo '(.*)' > \S*/env_start_(\w+)\.conf", text)]
    blocks = re.findall(r"^\n((?: {4}(?:[A-Z_]+=.*|\[.*\])\n)+)^\n", text, re.M)
    return [*found, *(("nfs", block) for block in blocks)]


RECIPES = [
    pytest.param(*recipe, id=f"{page.relative_to(ROOT)}-{recipe[0]}") for page in PAGES for recipe in recipes(page)
]


def commands(page: Path) -> list[str]:
    """Return the command lines of the tool in the code of a page."""
    code = "\n".join(re.findall(r"^ {4}(?:# )?(.*)", page.read_text(encoding="utf-8"), re.M))
    code = re.sub(r"<<'EOF'\n.*?\nEOF", "", code, flags=re.S)
    for word, text in SHELL.items():
        code = code.replace(word, text)
    return [
        line.strip() for line in re.findall(r"(?:^|; |&& |sudo )((?:[\w/]*/)?envstart [a-z][^;&|>\n]*)", code, re.M)
    ]


COMMANDS = sorted({(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page)})


def test_they_are_found() -> None:
    found = [backend for page in PAGES for backend, _ in recipes(page)]
    assert set(found) == set(registry.NAMES)
    assert found.count("nfs") == 4
    assert found.count("nullfs") == 3
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("backend", "text"), RECIPES)
def test_it_can_be_planned(tmp_path: Path, backend: str, text: str) -> None:
    # The file of a thin jail must be there.
    text = text.replace('THIN_FSTAB="/thin/', f'THIN_FSTAB="{tmp_path}/')
    (tmp_path / "jail1-nullfs-base.fstab").write_text(f"/thin/base {JAIL.data} nullfs ro 0 0\n")
    path = tmp_path / f"env_start_{backend}.conf"
    path.write_text(text)
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    plan = lifecycle.load(backend, JAIL, str(path))
    assert plan.config.notes == ()
    assert not [step.source for step in plan.steps if "{" in step.source]
    assert not [key for key in plan.config if NAME in str(plan.config.value(key))]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_the_tool_takes_a_line(page: str, line: str) -> None:
    main.parser().parse_args(shlex.split(line, comments=True)[1:])


def test_values_in_the_prose_can_be_read() -> None:
    rows = {row.name: row for backend in registry.NAMES for row in registry.backend(backend).OPTIONS}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name not in ("faults.md", "cases.md"))
    found = re.findall(r"`([A-Z_0-9]+)=\"?([^`\"]+)\"?`", text)
    values = [(rows[key], value) for key, value in found if key in rows]
    assert len(values) > 25
    for row, value in values:
        assert row.read(value, "jail1") is not None, row.name
