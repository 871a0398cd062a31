"""The documents can be found and used: a short README, one list of all pages, messages as the code has them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from envstart.engine import registry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(set(DOCS.rglob("*.md")) - {DOCS / "README.md"})
LINK = re.compile(r"\]\(([^)#:]+\.md)")


def links(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_is_in_the_list(page: Path) -> None:
    assert page in links(DOCS / "README.md")


def test_the_readme_leads_to_the_list_and_to_each_backend() -> None:
    pages = {DOCS / "README.md", *(DOCS / "backends" / f"{name}.md" for name in registry.NAMES)}
    assert pages <= links(ROOT / "README.md")


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_backend_has_a_page_of_the_same_parts(name: str) -> None:
    headings = re.findall(r"^## (.*)", (DOCS / "backends" / f"{name}.md").read_text(encoding="utf-8"), re.M)
    assert {"From nothing", "Keys", "What goes wrong"} <= set(headings)


def spoken() -> str:
    """Return every text in the package's code, and the words of the shell that finds a Python for the hooks."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "envstart").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join([*texts, (ROOT / "hooks" / "run-hook").read_text(encoding="utf-8")])


def test_messages_of_the_troubleshooting_are_those_of_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    assert len(messages) >= 20
    said = spoken()
    parts = [part.strip() for message in messages for part in message.split("…")]
    assert [part for part in parts if part not in said] == []
