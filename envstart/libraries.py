"""The hooks run Python without site-packages (hooks/run-hook); whoever imports a library from there asks first."""

from __future__ import annotations

import sys


def reach() -> None:
    """Let the directories of installed packages be on sys.path, once."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def how_to_install(name: str) -> str:
    """Return the command that installs the library ``name`` for the Python that runs this."""
    if sys.platform.startswith("freebsd"):
        return "pkg install py{}{}-{}".format(*sys.version_info[:2], name)
    return "make env"
