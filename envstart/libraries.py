"""The hooks run Python without site-packages (hooks/run-hook); whoever imports a library from there asks first."""

from __future__ import annotations

import sys


def reach() -> None:
    """Let the directories of installed packages be on sys.path, once."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
