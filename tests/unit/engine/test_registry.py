"""Every backend has what a backend must have, as mypy reads it, and is found by its file's name."""

from __future__ import annotations

from envstart.backends import ceph, geli, gluster, hast, iscsi, nfs, nullfs, rbd
from envstart.engine import registry

BACKENDS: tuple[registry.Backend, ...] = (ceph, geli, gluster, hast, iscsi, nfs, nullfs, rbd)


def test_backends_are_found_by_the_names_of_their_files() -> None:
    assert {registry.backend(name) for name in registry.NAMES} >= set(BACKENDS)
    assert all(registry.backend(name).TITLE for name in registry.NAMES)
