"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A CBSD host with the environment jail1, whose directories an NFS server exports; nothing is mounted yet."""
    with Site(tmp_path) as site:
        yield site
