"""A backend written by the five steps of CONTRIBUTING.md works, and is found everywhere, without another edit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import toy_backend
from real import ROOT, Namespace, Workdir, why_not

from envstart.engine.registry import Backend

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

TEXT = Path(toy_backend.__file__).read_text(encoding="utf-8")
TOY: Backend = toy_backend
# What a checkout has, as far as the generator reads it and the hooks use it.
PARTS = ("envstart", "hooks", "tools", "conf", "man", "completions", "port", "freebsd", "docs")
FILES = ("README.md", "CONTRIBUTING.md", "Makefile", "setup.cfg")


class Tmpfs(Workdir):
    """A workdir whose jails have their data in memory."""

    backend = "tmpfs"

    def always(self) -> Mapping[str, object]:
        return {"TMPFS_SIZE": 8}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout in which the file of the backend was written and `make docs` was run."""
    top = tmp_path / "checkout"
    for part in PARTS:
        shutil.copytree(ROOT / part, top / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, top / file)
    (top / ".venv").symlink_to((ROOT / ".venv").resolve())
    (top / "envstart" / "backends" / "tmpfs.py").write_text(TEXT, encoding="utf-8")
    subprocess.run([sys.executable, top / "tools" / "generate.py"], check=True)
    return top


def test_five_steps_make_a_backend(checkout: Path, namespace: Namespace) -> None:
    assert len(TEXT.splitlines()) <= 80
    cbsd = Tmpfs(namespace)
    data = cbsd.point("data")
    for verb, points in (("start", [data]), ("start", [data]), ("stop", []), ("stop", []), ("start", [data])):
        result = cbsd.run(checkout / "hooks" / f"env_{verb}_tmpfs")
        assert (result.status, result.err) == (0, "")
        assert [mount.point for mount in namespace.mounts()] == list(map(str, points))
    assert namespace.mounts()[0].fstype == "tmpfs"

    def tool(*words: str) -> str:
        return namespace.run(str(checkout / "hooks" / "envstart"), *words)

    # It prints problems.
    assert tool("check", "tmpfs", "-w", str(cbsd.path), "-j", cbsd.name) == ""
    assert "mounted" in tool("status", "tmpfs", "-w", str(cbsd.path), "-j", cbsd.name)
    assert tool("config", "sample", "tmpfs") == (checkout / "conf" / "env_start_tmpfs.conf").read_text()
    tool("stop", "tmpfs", "-w", str(cbsd.path), "-j", cbsd.name)
    assert namespace.mounts() == []


def test_documents_and_completions_have_it(checkout: Path) -> None:
    row = f"backends/tmpfs.md) | `env_start_tmpfs`, `env_stop_tmpfs` | {TOY.TITLE} |"
    expected = {
        "README.md": (row,),
        "docs/README.md": (row,),
        "docs/backends/tmpfs.md": (TOY.TITLE, "| `TMPFS_SIZE` | required | megabytes that it may have |"),
        "CONTRIBUTING.md": ("- `tmpfs.py`: ",),
        "man/envstart.conf.5": (".Ss Keys of tmpfs", ".It Va TMPFS_SIZE"),
        "man/envstart.8": ("tmpfs",),
        "completions/envstart.bash": ("tmpfs",),
        "completions/_envstart": ("tmpfs",),
        "completions/envstart.tcsh": ("tmpfs",),
        "port/pkg-plist": ("hooks/env_stop_tmpfs", "backends/tmpfs.py", "env_start_tmpfs.conf.sample"),
    }
    for name, texts in expected.items():
        content = (checkout / name).read_text(encoding="utf-8")
        for text in texts:
            assert text in content, (name, text)
