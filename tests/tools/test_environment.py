"""What the virtual environment is made of where there is no package index, and what is said if that is not enough."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import environment
import pytest


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python be as Debian packages it, on a system with apt-get."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else find(name))
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "apt-get" else None)


@pytest.fixture
def freebsd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 11, 9))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/sbin/{name}" if name == "pkg" else None)


def test_too_old_is_as_bad_as_absent() -> None:
    assert environment.lacking(["pytest>=1", "pytest>=999.1", "pytest", "no-such>=1"]) == ["pytest", "no-such"]


@pytest.mark.usefixtures("debian")
def test_without_ensurepip_packages_of_the_system_serve(tmp_path: Path) -> None:
    """What was installed there before stays: hooks may be running by it."""
    before = tmp_path / "venv" / "lib" / "installed"
    before.parent.mkdir(parents=True)
    before.touch()
    assert environment.make_environment(tmp_path / "venv", ["pytest>=1"]) == ""
    assert "include-system-site-packages = true" in (tmp_path / "venv" / "pyvenv.cfg").read_text()
    assert subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", "import sys"]).returncode == 0
    assert before.exists()


@pytest.mark.usefixtures("debian")
def test_without_ensurepip_and_packages_one_command_mends_it(tmp_path: Path) -> None:
    assert environment.make_environment(tmp_path / "venv", ["pytest>=1", "no-such"]) == (
        "no-such is missing, and Python has no ensurepip: apt-get install python3-venv"
    )


@pytest.mark.proof  # pip of a new environment takes its time.
@pytest.mark.usefixtures("freebsd")
def test_without_an_index_the_packages_are_named(tmp_path: Path) -> None:
    why = environment.make_environment(tmp_path / "venv", ["no-such", "psutil>=999"])
    assert why.startswith("no-such, psutil are missing, and ERROR: No matching distribution found for no-such")
    assert why.endswith(": pkg install py311-no-such py311-psutil")
    assert "\n" not in why


def test_tools_that_are_there_are_enough() -> None:
    assert environment.add_tools(Path(sys.prefix), ["pytest", "hypothesis", "no-such"]) == ""
