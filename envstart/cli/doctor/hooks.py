"""Look at the hooks that CBSD runs, and at the Python that runs them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from envstart.cbsd.inventory import EnvironmentRecord
from envstart.cli.doctor.finding import CRITICAL, WARNING, Check, Checks, Context, of_several, several
from envstart.config import remedies
from envstart.system.files import read_text
from envstart.system.host import Host

_LIBRARIES = ("configobj", "psutil", "sqlite3", "tenacity")
_IMPORT = f"""
for name in {_LIBRARIES!r}:
    try:
        __import__(name)
    except ImportError:
        print(name)
"""
# Seconds for one look, and for a Python to import them.
_TIMEOUT = 3.0
_IMPORT_TIMEOUT = 8.0


def checks(host: Host, context: Context) -> Checks:
    """Return a check for each hook."""
    hooks: dict[str, list[EnvironmentRecord]] = {}
    complete = {inventory.workdir: inventory.complete for inventory in context.inventories}
    for subject in context.subjects:
        # Without CBSD's database it was guessed, and has no path.
        if complete[subject.record.workdir]:
            hooks.setdefault(subject.record.hook, []).append(subject.record)
    for path, users in hooks.items():
        yield path, _hook(host, path, users)


async def _hook(host: Host, path: str, records: list[EnvironmentRecord]) -> Check:
    wrong = python = ""
    users = [record.name for record in records]
    if any(character.isspace() for character in path):
        wrong = "has a blank in its path, and CBSD runs it without quotes"
    elif not path.startswith("/"):
        wrong = "has no absolute path, and CBSD runs it in /var/empty"
    else:
        wrong, python = await host.call_with_timeout(look_at_hook, path, timeout=_TIMEOUT)
    if wrong:
        remedy = "; ".join(remedies.set_hook(record.name, record.backend, is_jail=record.is_jail) for record in records)
        yield of_several(CRITICAL, users, f"the hook {path} {wrong}", remedy)
        return
    if not python:
        text = f"the hook {path} finds no Python"
        yield of_several(CRITICAL, users, text, _install(host, path, "", ["python3"]))
        return
    result = await host.run((python, "-I", "-c", _IMPORT), timeout=_IMPORT_TIMEOUT, read_only=True)
    lacking = result.out.split() if result.status == 0 else [result.words]
    if lacking:
        text = f"the hook {path} runs with {python}, which lacks {several(lacking)}"
        yield of_several(WARNING, users, text, _install(host, path, python, lacking))


def _install(host: Host, hook: str, python: str, names: Sequence[str]) -> str:
    """Return how to install ``python``, or libraries for it, for the hook: in a checkout by its Makefile."""
    top = os.path.dirname(os.path.dirname(os.path.realpath(hook)))
    if os.path.exists(f"{top}/Makefile"):
        return shlex.join(("make", "-C", top, "env"))
    if host.platform != "freebsd":
        return shlex.join((python, "-m", "pip", "install", *names)) if python else f"install {' '.join(names)}"
    number = os.path.basename(os.path.realpath(python)).replace("python", "").replace(".", "") if python else ""
    return shlex.join(("pkg", "install", *(f"py{number}-{name}" if number else name for name in names)))


def look_at_hook(path: str) -> tuple[str, str]:
    """Return, in a child, what is wrong and "", or "" and the Python that will run it, "" if it finds none."""
    if not os.path.exists(path):
        return "is not there", ""
    if not (os.path.isfile(path) and os.access(path, os.R_OK | os.X_OK)):
        return "cannot be executed", ""
    directory = os.path.dirname(os.path.realpath(path))
    top = os.path.dirname(directory)
    candidates = pythons(top) if os.path.isdir(f"{top}/envstart") else [python_of_pip(directory)]
    return "", next((each for each in candidates if os.access(each, os.X_OK)), "")


def pythons(top: str) -> list[str]:
    """Return where hooks/run-hook looks for a Python, in its order; ``top`` is the directory that ``hooks`` is in."""
    # `make install PYTHON=...` has written another one there.
    lines = read_text(f"{top}/hooks/run-hook").splitlines()
    first = next((line[len("own=") :] for line in lines if line.startswith("own=")), "")
    own = [first.replace("$root", top)] if first else []
    own += ["/usr/local/bin/python3", "/usr/bin/python3"]
    return own + [f"/usr/local/bin/python3.{minor}" for minor in range(14, 10, -1)]


def python_of_pip(directory: str) -> str:
    """Return where a hook that pip has put into this directory looks for its Python."""
    first = read_text(f"{directory}/envstart").partition("\n")[0]
    return first[2:] if first.startswith("#!") and "python" in first else f"{directory}/python3"
