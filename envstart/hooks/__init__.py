"""Hooks that CBSD runs: env_start_BACKEND, env_stop_BACKEND, env_poststop, env_remove, env_clone_nfs."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.system.process import Child


def main(program: str, argv: Sequence[str]) -> int:
    """Run the hook ``program`` and return its exit status."""
    from envstart.hooks import unchanged

    began = time.monotonic()
    hung: list[Child] = []
    try:
        if unchanged.is_unchanged(program, list(argv), hung):
            return 0
    except Exception:
        # Whatever it is, dispatch.py looks again, and tells it.
        pass
    from envstart.hooks import dispatch

    return dispatch.main(program, argv, began, hung)
