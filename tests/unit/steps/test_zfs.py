"""ZFS below nullfs: names of datasets, the mount command, and the order of the steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from stubs import planned

from envstart.engine.plan import stages
from envstart.errors import ConfigError
from envstart.mounts import commands
from envstart.steps import thin_keys


@pytest.mark.parametrize("value", ["pool", "pool/a-b_c.d:e/x", "z1/x"])
def test_names_of_datasets(value: str) -> None:
    assert thin_keys.dataset(value) == value
    assert thin_keys.snapshot(f"{value}@base") == f"{value}@base"


@pytest.mark.parametrize("value", ["", "/pool", "pool/", "pool//x", "pool/x@y", "po ol", "pool/x%y", "1pool", "-x"])
def test_what_is_no_dataset(value: str) -> None:
    with pytest.raises(ValueError, match="is no dataset"):
        thin_keys.dataset(value)


@pytest.mark.parametrize("value", ["pool/x", "pool/x@", "@base", "pool/x@a@b", "pool/x@a/b"])
def test_what_is_no_snapshot(value: str) -> None:
    with pytest.raises(ValueError, match=r"is no (snapshot|dataset)"):
        thin_keys.snapshot(value)


def test_the_mount_command() -> None:
    argv = commands.mount("freebsd", "zfs", ("rw",), "pool/jail1", "/z/jail1")
    assert " ".join(argv) == "mount -t zfs -o rw -o nocover pool/jail1 /z/jail1"


def test_the_order_of_a_thin_jail_on_zfs(tmp_path: Path) -> None:
    keys = {"NULLFS_ROOT_DIR": "/z", "BASE_DIR": "/b", "ZFS_CLONE": "pool/{name}", "MOUNT_SYSTEM": "0"}
    plan = planned(tmp_path, "nullfs", MOUNT_FSTAB="0", **keys)
    assert [[step.name for step in group] for group in stages(plan.steps)] == [
        ["clone", "data"],
        ["dataset"],
        ["skeleton"],
    ]


def test_without_a_base_the_clone_is_the_data(tmp_path: Path) -> None:
    """The snapshot type of thin jail: all of it is a clone of a release."""
    keys = {"NULLFS_ROOT_DIR": "/z", "ZFS_CLONE": "pool/{name}", "ZFS_SKELETON_SNAPSHOT": "pool/14.3@base"}
    plan = planned(tmp_path, "nullfs", MOUNT_SYSTEM="0", MOUNT_FSTAB="0", **keys)
    assert [(step.name, step.source, step.point) for group in stages(plan.steps) for step in group] == [
        ("clone", "pool/env1", ""),
        ("dataset", "pool/env1", "/z/data/env1"),
        ("data", "/z/data/env1", "/usr/jails/jails-data/env1-data"),
    ]


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set ZFS_CLONE"):
        planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", ZFS_SKELETON_SNAPSHOT="pool/x@base")
    with pytest.raises(ConfigError, match=r"ZFS_CLONE='pool/a@b' is no dataset.*name it in a section"):
        planned(tmp_path, "nullfs", name="a@b", NULLFS_ROOT_DIR="/z", ZFS_CLONE="pool/{name}")
    plan = planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", ZFS_CLONE="pool/one")
    assert plan.warnings == ("ZFS_CLONE is pool/one for every jail: two jails would write to the same files",)
