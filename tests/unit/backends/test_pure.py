"""A plan is made of the configuration and of what was read before it: making it asks nothing of the host."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import NoReturn

import pytest
from stubs import NEEDED, configured, jail

from envstart.engine import registry

# os.path takes these from os.
ASKING = "access fork getxattr listdir lstat open posix_spawn readlink scandir stat statvfs system".split()
# Keys with which a plan has more to do.
MORE = {
    "nullfs": {"THIN_FSTAB": "{path}/thin.fstab", "ZFS_CLONE": "tank/{name}", "NULLFS_REQUIRE_MOUNTED": "1"},
    "geli": {"GELI_PROVIDER": "/images/x.img", "GELI_REQUIRE_MOUNTED": "/images", "VOLUME_LAYOUT": "tree"},
    "iscsi": {"FENCE": "scsi3", "VOLUME_LAYOUT": "tree"},
}
CASES = [*NEEDED.items(), *((backend, {**NEEDED[backend], **keys}) for backend, keys in MORE.items())]


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a plan asks the host")


@pytest.mark.parametrize(("backend", "keys"), CASES)
def test_making_a_plan_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, keys: dict[str, str]
) -> None:
    environment = jail()
    thin = tmp_path / "thin.fstab"
    thin.write_text(f"/base {environment.data} nullfs ro 0 0\n")
    thin.chmod(0o644)
    given = {key: value.replace("{path}", str(tmp_path)) for key, value in keys.items()}
    module, config = registry.backend(backend), configured(tmp_path, backend, **given)
    # All that a host is asked for beforehand; it imports what plan() does, too.
    config = registry.make_plan(backend, environment, config).config
    with monkeypatch.context() as patched:
        for name in ASKING:
            patched.setattr(os, name, refuse)
        patched.setattr(builtins, "open", refuse)
        plan = module.plan(environment, config)
        assert plan.locks
        assert plan.warnings is not None
    assert plan.steps
