"""What `pip install .` brings: the hooks as they are in hooks/, and as lean."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTHING = {"PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package from its sources, without an index."""
    top = tmp_path_factory.mktemp("installed")
    source = top / "source"
    source.mkdir()
    for name in ("envstart", "hooks", "man"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    words = ["--quiet", "--no-index", "--no-build-isolation", "--no-deps", f"--prefix={top / 'prefix'}"]
    pip = [sys.executable, "-m", "pip", "install", "--root-user-action=ignore", *words, str(source)]
    ended = subprocess.run(pip, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return top / "prefix"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], env=NOTHING, capture_output=True, text=True, timeout=60)


def test_all_of_them_are_there(prefix: Path) -> None:
    assert {path.name for path in (prefix / "bin").iterdir()} == {path.name for path in (ROOT / "hooks").iterdir()} - {
        "run-hook"
    }


def test_a_hook_knows_its_name_and_its_python(prefix: Path) -> None:
    for name in ("env_start_nfs", "env_stop_nullfs"):
        ended = run(prefix / "bin" / name, "-h")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"usage: {name} -d data")


def test_also_by_a_link(prefix: Path, tmp_path: Path) -> None:
    link = tmp_path / "anything"
    link.symlink_to(prefix / "bin" / "env_start_geli")
    assert run(link, "-h").stdout.startswith("usage: env_start_geli")


def test_nothing_of_site_packages_is_imported(prefix: Path, tmp_path: Path) -> None:
    """Its own Python, with a word more, says what it imports."""
    words = tmp_path / "imported"
    spy = tmp_path / "bin" / "python3"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@" 2> {words}\n')
    spy.chmod(0o755)
    copy = spy.parent / "env_start_nfs"
    shutil.copy(prefix / "bin" / "env_start_nfs", copy)
    (spy.parent / "envstart").write_text(f"#!{spy}\n")
    (tmp_path / "lib").symlink_to(prefix / "lib")
    assert run(copy, "-h").returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in words.read_text().splitlines()}
    assert {"envstart.hooks.unchanged", "envstart.hooks.dispatch"} <= imported
    assert not {"site", "sysconfig", "configobj", "psutil", "tenacity", "envstart.cli.main"} & imported


def test_a_package_that_only_site_knows_is_found(prefix: Path, tmp_path: Path) -> None:
    """As `pip install -e .` leaves it: a path file in site-packages."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = (venv / "lib").glob("python*/site-packages")
    (packages / "here.pth").write_text(f"{ROOT}\n")
    shutil.copy(prefix / "bin" / "env_start_nfs", venv / "bin")
    (venv / "bin" / "envstart").write_text(f"#!{venv}/bin/python\n")
    assert run(venv / "bin" / "env_start_nfs", "-h").stdout.startswith("usage: env_start_nfs")


def test_without_its_python(prefix: Path, tmp_path: Path) -> None:
    shutil.copy(prefix / "bin" / "env_start_nfs", tmp_path)
    (tmp_path / "envstart").write_text("#!/nowhere/bin/python3\n")
    ended = run(tmp_path / "env_start_nfs")
    assert ended.returncode == 69
    assert ended.stderr.endswith("neither /nowhere/bin/python3 nor the system has it; install it anew with pip\n")


def test_it_is_interrupted_before_it_has_done_anything(tmp_path: Path) -> None:
    """What Python makes of ^C is a traceback. nohup(1) stays in force."""
    (tmp_path / "hooks").mkdir()
    for name in ("env_start_nfs", "run-hook"):
        shutil.copy(ROOT / "hooks" / name, tmp_path / "hooks")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    package = tmp_path / "envstart"
    for directory in (package, package / "hooks", package / "cli"):
        directory.mkdir()
        (directory / "__init__.py").touch()
    (package / "hooks" / "__init__.py").write_text(
        "import posix\ndef main(*words): posix.kill(posix.getpid(), 2); return 7\n"
    )
    hook = tmp_path / "hooks" / "env_start_nfs"
    ended = run(hook)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
    ended = run("/bin/sh", "-c", f"trap '' INT; exec {hook}")
    assert (ended.returncode, ended.stderr) == (7, "")
    # So does the tool.
    (package / "cli" / "main.py").write_text("import posix\nposix.kill(posix.getpid(), 2)\ndef main(argv): return 7\n")
    shutil.copy(ROOT / "hooks" / "envstart", tmp_path / "hooks")
    tool = tmp_path / "hooks" / "envstart"
    ended = run(tool, "check")
    assert (ended.returncode, ended.stderr) == (130, "")
    ended = run("/bin/sh", "-c", f"trap '' INT; exec {tool}")
    assert (ended.returncode, ended.stderr) == (7, "")
