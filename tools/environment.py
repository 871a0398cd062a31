"""Make the virtual environment: `environment.py .venv run` with the libraries of the package, `test` with the tools.

They come from a package index. Where none can be reached, or Python comes without ensurepip, the system's own packages
serve. What is missing even so is told in one line, with the command that installs it.
"""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What no test runs without; the parts of a suite that need another tool say so, and are left out.
NEEDED = ("hypothesis", "pytest")


def main() -> int:
    """Make the environment, or add to it. 69 if something is missing."""
    directory, purpose = Path(sys.argv[1]), sys.argv[2]
    lists = configparser.ConfigParser(interpolation=None)
    lists.read(ROOT / "setup.cfg", encoding="utf-8")
    why = (
        make_environment(directory, lists["options"]["install_requires"].split())
        if purpose == "run"
        else add_tools(directory, lists["options.extras_require"]["test"].split())
    )
    if why:
        print(f"make: {why}", file=sys.stderr)
    return 69 if why else 0


def make_environment(directory: Path, libraries: Sequence[str]) -> str:
    """Make the environment with these libraries, and return why that cannot be."""
    # Not --clear: hooks may run by the one that there is.
    make = ("-m", "venv", str(directory))
    if importlib.util.find_spec("ensurepip"):
        why = output(sys.executable, *make) or pip(directory, libraries)
        remedy = packages(lacking(libraries))
    else:
        why, remedy = "Python has no ensurepip", packages(["venv"])
    if why:
        if absent := lacking(libraries):
            return f"{listed(absent)} missing, and {why}: {remedy}"
        if words := output(sys.executable, *make, "--without-pip", "--system-site-packages"):
            return words
        print("make: the libraries are those of the system's packages")
    output(str(directory / "bin" / "python"), "-m", "compileall", "-q", "envstart")
    if not importlib.util.find_spec("sqlite3"):
        print(f"make: Python has no sqlite3, and cannot read CBSD's database: {packages(['sqlite3'])}", file=sys.stderr)
    return ""


def add_tools(directory: Path, tools: Sequence[str]) -> str:
    """Add these tools to the environment that runs this, and return why that cannot be."""
    why = pip(directory, tools) if importlib.util.find_spec("pip") else "there is no pip here"
    # For FreeBSD the index has some only as sources, which take a compiler of Rust, and an hour.
    for name in sorted(lacking(tools), key=lambda name: name not in NEEDED):
        if why and importlib.util.find_spec("pip") and pip(directory, ["--only-binary=:all:", name]) and name in NEEDED:
            break
    absent = [name for name in NEEDED if name in lacking(tools)]
    return f"{listed(absent)} missing, and {why}: {packages(lacking(tools))}" if absent else ""


def pip(directory: Path, requirements: Sequence[str]) -> str:
    """Install into the environment, and return the last words of a failure. It gives up soon where nothing answers."""
    options = ("-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "10")
    return output(str(directory / "bin" / "python"), "-m", "pip", "install", *options, *requirements)


def output(*argv: str) -> str:
    """Run a command, and return the last line of what it says if it fails."""
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    return (ended.stderr + ended.stdout).strip().splitlines()[-1] if ended.returncode else ""


def lacking(requirements: Sequence[str]) -> list[str]:
    """Return the names of those that this Python does not have, or has too old."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)]

    absent = []
    for name, _, least in (requirement.partition(">=") for requirement in requirements):
        try:
            present = numbers(version(name)) >= numbers(least)
        except PackageNotFoundError:
            present = False
        if not present:
            absent.append(name)
    return absent


def listed(names: Sequence[str]) -> str:
    """Return them with the verb that their number asks for."""
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def packages(names: Sequence[str]) -> str:
    """Return the command that installs the packages of these modules on this system."""
    prefix = "py{}{}-".format(*sys.version_info) if shutil.which("pkg") else "python3-"
    command = next((name for name in ("pkg", "apt-get", "dnf") if shutil.which(name)), "apt-get")
    return f"{command} install {' '.join(prefix + name for name in names)}"


if __name__ == "__main__":
    sys.exit(main())
