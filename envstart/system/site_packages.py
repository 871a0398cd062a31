"""The hooks run Python without site-packages (hooks/run-hook); whoever imports a library from there asks first."""

from __future__ import annotations

import os
import shlex
import sys

# What the package lies in: a checkout, the directory of ``make install``, or site-packages.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def reach() -> None:
    """Let the directories of installed packages be on sys.path, once."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def how_to_install(name: str) -> str:
    """Return the command that installs the library ``name`` for the Python that runs this."""
    if sys.platform.startswith("freebsd"):
        return "pkg install py{}{}-{}".format(*sys.version_info[:2], name)
    if os.path.exists(f"{ROOT}/Makefile"):
        return shlex.join(("make", "-C", ROOT, "env"))
    return shlex.join((sys.executable, "-m", "pip", "install", name))
