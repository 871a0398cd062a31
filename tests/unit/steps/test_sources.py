"""Keys that say what must be mounted on this host, and mount points below a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from stubs import planned

from envstart.cli.doctor.places import fstab_points
from envstart.errors import ConfigError
from envstart.mounts.table import Entry, Table


def test_case_c19_mount_points_below_are_told_in_their_order() -> None:
    points = ["/", "/a/z", "/a/b", "/a", "/ab", "/a/b/c", "/a.b"]
    table = Table([Entry("x", point, "ufs") for point in points])
    assert table.below("/a") == ["/a/z", "/a/b", "/a/b/c"]
    assert table.below("/") == points[1:]
    assert table.below("/nosuch") == []


@pytest.mark.parametrize(("value", "steps"), [("", 0), ("0", 0), ("no", 0), ("1", 1), ("/z/", 1), ("/", 1)])
def test_case_c20_what_the_key_can_be(tmp_path: Path, value: str, steps: int) -> None:
    plan = planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", NULLFS_REQUIRE_MOUNTED=value)
    assert len([step for step in plan.steps if step.name == "required"]) == steps


@pytest.mark.parametrize(
    ("backend", "keys", "words"),
    [
        ("nullfs", {"NULLFS_ROOT_DIR": "/z", "NULLFS_REQUIRE_MOUNTED": "/y"}, "/z does not lie in it"),
        ("nullfs", {"NULLFS_ROOT_DIR": "/z", "NULLFS_REQUIRE_MOUNTED": "z"}, "is neither 1 nor 0, nor an absolute"),
        ("geli", {"GELI_PROVIDER": "/dev/gpt/x", "GELI_REQUIRE_MOUNTED": "1"}, "is for an image file"),
        ("geli", {"GELI_PROVIDER": "/i/x.img", "GELI_REQUIRE_MOUNTED": "/j"}, "/i/x.img does not lie in it"),
    ],
)
def test_case_c20_what_the_key_cannot_be(tmp_path: Path, backend: str, keys: dict[str, str], words: str) -> None:
    more = {"GELI_KEYFILE": "/k"} if backend == "geli" else {}
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, backend, **keys, **more)
    assert words in str(caught.value)


def test_case_c20_an_image_is_looked_for_on_its_disk(tmp_path: Path) -> None:
    plan = planned(tmp_path, "geli", GELI_PROVIDER="/i/x.img", GELI_KEYFILE="/k", GELI_REQUIRE_MOUNTED="1")
    assert [step.source for step in plan.steps if step.name == "required"] == ["/i"]


def test_the_directories_of_fstab(tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    assert fstab_points(str(path)) == []
    path.write_text("# x\n/dev/a none swap sw 0 0\n/dev/b /\\040x/ ufs rw\n/dev/c /bad\\x ufs rw\n/dev/d / ufs rw\nx\n")
    assert fstab_points(str(path)) == ["/ x"]
