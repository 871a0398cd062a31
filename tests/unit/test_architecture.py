"""The shape of the code, asserted from the sources so that it cannot erode."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import generate
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "envstart").rglob("*.py"))
# Each has one door, and is imported when it is first needed.
DOORS = {
    "subprocess": {"command"},
    "psutil": {"process_table"},
    "tenacity": {"retry"},
    "configobj": {"list_file"},
    "fcntl": {"rundir", "locking", "host_mark"},
    "_signal": {"signals"},
    "ctypes": {"table_freebsd"},
}
# Frugal are the modules of the short way alone (tests/real/test_cost.py runs it).
FRUGAL = {"posix", "marshal", "_signal"}
SHORT_WAY = {"unchanged", "process", "table_linux", "signals", "start_marks", "rundir", "table", "probe"}
# What costs a start more than it is worth: these are for the tool, and for what is needed seldom.
HEAVY = {"argparse", "asyncio", "concurrent", "dataclasses", "json", "logging", "multiprocessing", "sqlite3", "xml"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Top-level packages imported by a module, and whether at its own import (not in a function, not for types)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, *, eager: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                walk(ast.Module(child.orelse, []), eager=eager)
                continue
            if isinstance(child, ast.Import):
                found.extend((name.name.partition(".")[0], eager) for name in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                found.append(((child.module or "").partition(".")[0], eager))
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            walk(child, eager=eager and not inside)

    walk(tree, eager=True)
    return found


@pytest.mark.parametrize("package", DOORS)
def test_each_door_to_the_machine_is_in_one_module(package: str) -> None:
    users = {path.stem for path in SOURCES if any(name == package for name, _ in imports(path))}
    assert users == DOORS[package]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_the_short_way_is_frugal(path: Path) -> None:
    assert path.stem in SHORT_WAY or not {name for name, _ in imports(path)} & FRUGAL


def test_the_short_way_is_listed() -> None:
    """CONTRIBUTING.md names the modules that may be frugal, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tier = text.partition("1. **The short way**")[2].partition("\n2. ")[0]
    assert set(re.findall(r"`\w+/(\w+)`", tier)) == SHORT_WAY | {"table_freebsd"}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if not {"cli", "cbsd"} & set(path.parts)], ids=lambda path: path.stem
)
def test_what_is_heavy_is_imported_when_it_is_needed(path: Path) -> None:
    assert not {name for name, eager in imports(path) if eager} & HEAVY


@pytest.mark.parametrize(
    "path",
    [ROOT / "envstart" / f"{name}.py" for name in ("engine/executor", "engine/plan", "system/loop", "engine/retry")],
)
def test_the_engine_knows_nothing_about_file_systems(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("nfs", "umount", "mount_"):
        assert word not in text.replace("mounted", "").lower(), word


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_modules_classes_and_functions_can_be_read_in_one_go(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            limit = 250 if isinstance(node, ast.ClassDef) else 60
            assert (node.end_lineno or 0) - node.lineno < limit, node.name


def test_no_library_code_ends_the_process() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("sys.exit(") <= (path.stem == "main"), path


def test_generated_files_are_as_made() -> None:
    for path, text in generate.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: make docs"


def test_every_backend_has_its_hooks() -> None:
    from envstart.engine import registry

    hooks = [f"env_{verb}_{name}" for name in registry.NAMES for verb in ("start", "stop")]
    for hook in (*hooks, "env_clone_nfs"):
        assert (ROOT / "hooks" / hook).read_bytes() == (ROOT / "hooks" / "env_start_nullfs").read_bytes()
