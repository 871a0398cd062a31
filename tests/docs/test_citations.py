"""Comments, docstrings and pages cite what a reader of the repository can open.

A citation is ``docs/PAGE.md``, ``docs/PAGE.md#anchor``, ``docs/PAGE.md, N`` (row N of a table there), a file of this
repository by its path, a manual page, or a source file of FreeBSD or CBSD by its path.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("completions", "conf", "docs", "envstart", "freebsd", "hooks", "man", "port", "tests", "tools")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.md")])
# Where rows have numbers: the word before such a number, and the page.
NUMBERED = {"fault": "faults.md", "promise": "promises.md", "case": "cases.md", "defect": "cbsd.md"}

PAGE = re.compile(
    r"docs/((?:[\w-]+/)?[\w-]+\.md)(?:((?:(?:, )?#[\w-]+)+)|, ([A-C]?\d+(?:(?:, | and | to )[A-C]?\d+)*))?"
)
OURS = re.compile(rf"(?<![\w/.-])((?:{'|'.join(TOPS)})/[\w./-]*\.\w[\w-]*)")
MODULE = re.compile(r"(?<![\w/.*-])((?:[a-z_]\w*/)*[a-z_][a-z0-9_]*\.py)\b")
SOURCE = re.compile(r"(?<![\w/.<\[-])[a-z]\w*\.(?:c|cc|h)\b(?!:\d)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
NUMBER = re.compile(rf"\b({'|'.join(NUMBERED)})s? ([A-C]?\d+)\b", re.IGNORECASE)
# Recorded, and generated.
NOT_WRITTEN = ("tests/transcripts/", "port/pkg-plist")
PYTHONS_OWN = ("sitecustomize.py", "usercustomize.py")
NOT_HERE = re.compile(r"[Cc]ontract §|§\d|\bpeers:|\b(?:answers|commands|contract|peers|words)\.md|\blive\.txt")


@cache
def modules() -> frozenset[str]:
    """Return every Python file by each of the paths that end with its name: ``backends/nfs.py`` and ``nfs.py``."""
    paths = [ROOT / "setup.py", *(path for top in TOPS for path in (ROOT / top).rglob("*.py"))]
    parts = [path.relative_to(ROOT).parts for path in paths]
    return frozenset("/".join(part[at:]) for part in parts for at in range(len(part)))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def rows(page: Path) -> frozenset[str]:
    """Return the numbers that rows of a page's tables begin with."""
    return frozenset(re.findall(r"^\| ([A-C]?\d+) \|", page.read_text(encoding="utf-8"), re.MULTILINE))


def problems(text: str) -> Iterator[str]:
    """Yield each citation in TEXT that a reader cannot follow."""
    yield from (f"not in the repository: {found[0]}" for found in NOT_HERE.finditer(text))
    yield from (f"no path: {found[0]}" for found in SOURCE.finditer(text))
    wrong = set(MODULE.findall(text)) - modules() - set(PYTHONS_OWN)
    yield from (f"no such module: {name}" for name in sorted(wrong))
    for found in OURS.finditer(text):
        # NAME stands for any name; a module can be named from the package's directory.
        if not (re.search(r"[A-Z]{3}", found[1]) or (ROOT / found[1]).exists() or found[1] in modules()):
            yield f"no such file: {found[1]}"
    for found in PAGE.finditer(text):
        page = ROOT / "docs" / found[1]
        if page.exists():
            wanted = re.findall(r"#([\w-]+)", found[2] or "")
            yield from (f"no such heading: {found[0]}" for anchor in wanted if anchor not in anchors(page))
            numbers = re.findall(r"[A-C]?\d+", found[3] or "")
            yield from (f"no such row: {found[0]}" for number in numbers if number not in rows(page))
    for word, number in NUMBER.findall(text):
        if number not in rows(ROOT / "docs" / NUMBERED[word.lower()]):
            yield f"no such row: {word} {number}"


def prose(path: Path) -> str:
    """Return the comments and docstrings of a Python file, or the whole of another one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py" and "python" not in text.partition("\n")[0]:
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    told = (tokenize.COMMENT, tokenize.STRING)
    # A comment that goes on in the next line is one text.
    lines = [token.string for token in tokens if token.type in told and token.string.startswith(("#", '"""'))]
    return re.sub(r"\s*\n[ #]*", " ", "\n".join(lines))


def files() -> Iterator[Path]:
    """Yield the files whose prose is written by hand."""
    yield ROOT / "Makefile"
    yield from PAGES
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*")):
            shown = path.relative_to(ROOT).as_posix()
            if path.is_file() and path.suffix not in (".pyc", ".md") and not shown.startswith(NOT_WRITTEN):
                yield path


def test_every_citation_can_be_opened() -> None:
    wrong = []
    for path in files():
        try:
            wrong += [f"{path.relative_to(ROOT)}: {problem}" for problem in problems(prose(path))]
        except UnicodeDecodeError:
            # A configuration in another encoding, for a test.
            continue
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(f"{target}#{anchor}")
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "Contract §1.2",
        "see commands.md §3",
        "docs/no-such-page.md",
        "docs/backends/no-such-page.md",
        "docs/cbsd.md#no-such-heading",
        "docs/cbsd.md#calls, #no-such-heading",
        "docs/promises.md, 99",
        "docs/promises.md, 1 and 99",
        "fault 999",
        "tests/transcripts/no-such.txt",
        "vfs_mount.c",
        "no_such_module.py",
    ],
)
def test_a_wrong_citation_is_reported(text: str) -> None:
    assert list(problems(text))


@pytest.mark.parametrize(
    "text",
    [
        "docs/cbsd.md#calls, #arguments",
        "docs/faults.md, 85 to 87",
        "docs/cases.md, A1 and C8",
        "mount(8)",
        "sys/kern/vfs_mount.c",
        "tests/transcripts/nfs.txt",
        "envstart/backends/NAME.py",
    ],
)
def test_a_right_citation_is_not_reported(text: str) -> None:
    assert list(problems(text)) == []
