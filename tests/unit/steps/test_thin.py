"""Thin jails: what is refused before anything is mounted, the file with further lines, and the order of things."""

from __future__ import annotations

from pathlib import Path

import pytest
from stubs import WORKDIR, configured, jail, planned

from envstart.backends import nullfs
from envstart.engine.plan import stages
from envstart.errors import ConfigError
from envstart.hooks import poststop
from envstart.mounts.table import Entry, Table
from envstart.steps import thin

ROOT = "/j/web-root"


DATA = f"{WORKDIR}/jails-data/env1-data"


def test_lines_of_fstab() -> None:
    text = (
        "# Device\tMountpoint FStype Options Dump Pass\n"
        f"/base {ROOT}/ nullfs ro 0 0\n\n"
        f"  /c/web\t{ROOT}/skeleton nullfs rw,late\n"
        f"/media/my\\040films {ROOT}/skeleton/home/a\\134b nullfs ro,nosuid,noexec 0 0\n"
    )
    assert [(line.name, line.path, line.point, line.options) for line in thin.read(text, "/x", ROOT)] == [
        ("data", "/base", ROOT, ("ro",)),
        ("skeleton", "/c/web", f"{ROOT}/skeleton", ("rw",)),
        ("data/skeleton/home/a\\b", "/media/my films", f"{ROOT}/skeleton/home/a\\b", ("ro", "nosuid", "noexec")),
    ]


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        (f"/m {ROOT}/m nullfs", "is not SOURCE DIRECTORY nullfs OPTIONS"),
        (f"/m {ROOT}/m nullfs ro 0 0 0", "is not SOURCE DIRECTORY nullfs OPTIONS"),
        (f"/m {ROOT}/m nullfs ro 0 x", "is not SOURCE DIRECTORY nullfs OPTIONS"),
        (f"relative {ROOT}/tmp nullfs rw 0 0", "has relative, which is not an absolute path"),
        (f"/dev/da0 {ROOT}/m ufs rw 0 0", "is of type ufs: only nullfs"),
        (f"/m {ROOT}/m nullfs ro,nosiud 0 0", "has the option 'nosiud', which mount_nullfs(8) would ignore"),
        (f"/m {ROOT}/m nullfs ro, 0 0", "has the option ''"),
        (f"/m {ROOT}/m nullfs nosuid 0 0", "says neither ro nor rw, or both"),
        (f"/m {ROOT}/m nullfs ro,rw 0 0", "says neither ro nor rw, or both"),
        ("/m /media nullfs ro 0 0", f"mounts on /media, which is not in the data directory {ROOT}"),
        (f"/m {ROOT}-other/m nullfs ro 0 0", f"mounts on {ROOT}-other/m, which is not in the data directory"),
        (f"/m {ROOT}/../m nullfs ro 0 0", f"has {ROOT}/../m, which has a .. in it"),
        (f"/m {ROOT}/m\\x nullfs ro 0 0", "has a backslash"),
        (f"/m {ROOT}/m\\M nullfs ro 0 0", "has a backslash"),
        (f"/m {ROOT}/m\\ nullfs ro 0 0", "has a backslash"),
        (f"/m {ROOT}/m\\011x nullfs ro 0 0", f"has {ROOT}/m\tx, which has a control character"),
        (f"/base {ROOT} nullfs rw 0 0", "mounts the base read-write"),
        (f"/one {ROOT}/skeleton nullfs rw 0 0", f"mounts on {ROOT}/skeleton, as line 1 does"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(line: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        thin.read(f"/c/web {ROOT}/skeleton nullfs rw 0 0\n\n{line}\n", "/etc/web.fstab", ROOT)
    assert f"one mistake: /etc/web.fstab:3: {mistake}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("/m\\0401", "/m 1"),
        ("/m\\40z\\s\\x20z", "/m z  z"),
        ("/\\103\\154\\303\\251s\\134\\\\", "/Cl\u00e9s\\\\"),
        ("/\\M-C\\M-)", "/\u00e9"),
        ("/\\M^@", "/\udc80"),
        ("/\\#a\\$b", "/#ab"),
        ("/a\u00a0b", "/a\u00a0b"),
    ],
)
def test_case_c13_a_path_is_decoded_as_getfsent_does(field: str, path: str) -> None:
    """strunvis(3); AppJail writes what is no letter in octal."""
    assert [line.path for line in thin.read(f"{field} {ROOT}/m nullfs ro\n", "/x", ROOT)] == [path]


def test_case_c13_a_line_that_fstab_passes_over_is_passed_over() -> None:
    assert thin.read(f"/m {ROOT}/m nullfs xx 0 0\ntmpfs {ROOT}/tmp tmpfs rw,xx\n", "/x", ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        f"tmpfs {ROOT}/tmp tmpfs rw 0 0",
        "proc /proc procfs rw 0 0",
        f"devfs {ROOT}/a\\x/dev devfs rw,ruleset=4 0 0",
        f"<above>:/x {ROOT}/x unionfs rw 0 0",
    ],
)
def test_case_c14_another_type_is_told_before_its_paths(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        thin.read(line, "/f", ROOT)
    assert f"/f:1: is of type {line.split()[2]}: only nullfs is mounted here; leave other types to" in str(caught.value)


def test_all_mistakes_of_a_file_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        thin.read(f"a\nb\n/c/web {ROOT}/skeleton nullfs rw\nc\n", "/f", ROOT)
    assert [line.partition(" ")[0] for line in caught.value.details] == ["/f:1:", "/f:2:", "/f:4:"]


def test_the_base_comes_first_and_the_skeleton_in_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", BASE_DIR="/z/base-{name}", MOUNT_FSTAB="0")
    assert [[(step.name, step.source, step.point) for step in group] for group in stages(plan.steps)] == [
        [("system", "/z/system/env1", f"{WORKDIR}/jails-system/env1"), ("data", "/z/base-env1", DATA)],
        [("skeleton", "/z/skeleton/env1", f"{DATA}/skeleton")],
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"SKELETON_DIR": "/s/{name}"}, "without a base: set BASE_DIR"),
        ({"BASE_DIR": DATA}, "one lies inside the other"),
        ({"BASE_DIR": f"{DATA}/base"}, "one lies inside the other"),
        ({"BASE_DIR": "/b", "SKELETON_DIR": f"{DATA}/skeleton/mine"}, "one lies inside the other"),
        ({"BASE_DIR": "/b", "THIN_FSTAB": "/nosuch/{name}.fstab"}, "cannot read /nosuch/env1.fstab"),
    ],
)
def test_what_cannot_be_a_thin_jail(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", **keys)


@pytest.mark.parametrize(
    ("keys", "line", "words"),
    [
        ({"BASE_DIR": "/b"}, f"/b {DATA} nullfs ro", f"cannot mount two directories on {DATA}: BASE_DIR is set, and"),
        (
            {"BASE_DIR": "/b", "SKELETON_DIR": "/s"},
            f"/s {DATA}/skeleton nullfs rw",
            f"cannot mount two directories on {DATA}/skeleton: SKELETON_DIR is set, and",
        ),
        ({}, f"/s {DATA}/skeleton nullfs rw", "without a base: set BASE_DIR"),
        ({"BASE_DIR": "/b"}, f"{DATA}/x/y {DATA}/x nullfs ro", "one lies inside the other"),
    ],
)
def test_what_a_line_may_not_do(tmp_path: Path, keys: dict[str, str], line: str, words: str) -> None:
    """A second read-only base would lie on the first, and hide the skeleton (docs/cbsd.md#thin-jails)."""
    fstab = tmp_path / "fstab"
    fstab.write_text(line + "\n")
    fstab.chmod(0o644)
    with pytest.raises(ConfigError, match=words.replace("(", "\\(")):
        planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/z", THIN_FSTAB=str(fstab), **keys)


def test_one_skeleton_for_all_is_warned_of(tmp_path: Path) -> None:
    keys = {"NULLFS_ROOT_DIR": "/z", "BASE_DIR": "/b"}
    assert planned(tmp_path, "nullfs", SKELETON_DIR="/s/{name}", **keys).warnings == ()
    assert "two jails would write" in planned(tmp_path, "nullfs", SKELETON_DIR="/s", **keys).warnings[0]


@pytest.mark.parametrize(
    ("points", "left"),
    [
        (["jails-data/env1-data", "jails-data/env1-data/skeleton"], []),
        (["jails-data/env1-data/skeleton", "jails-data/env1-data/dev"], ["jails-data/env1-data/dev"]),
        (["jails-data/env1-data/skeleton/tmp"], ["jails-data/env1-data/skeleton/tmp"]),
        (["jails/env1", "jails/env1/etc", "jails-data/env1-data/skeleton"], ["jails/env1/etc", "jails/env1"]),
    ],
)
def test_a_stop_after_cbsd_waits_for_no_mount_of_its_own(points: list[str], left: list[str], tmp_path: Path) -> None:
    """It would wait for a quarter of an hour, and then leave all."""
    plan = planned(tmp_path, "nullfs", NULLFS_ROOT_DIR="/thin", BASE_DIR="/base")
    table = Table([Entry("x", f"{WORKDIR}/{point}", "nullfs") for point in points])
    own = [step.point for step in plan.steps]
    assert poststop.left_by_cbsd(table, f"{WORKDIR}/jails/env1", plan.environment.data, own) == [
        f"{WORKDIR}/{point}" for point in left
    ]


def test_a_plan_reads_nothing_itself(tmp_path: Path) -> None:
    """What THIN_FSTAB said when it was read is all that a plan needs: the file can be on a dead server by then."""
    settings = configured(tmp_path, "nullfs", NULLFS_ROOT_DIR="/thin", BASE_DIR="/base", THIN_FSTAB="/nosuch/fstab")
    line = f"/films {DATA}/films nullfs ro"
    plan = nullfs.plan(jail(), settings.with_inputs({"THIN_FSTAB": f"\n\n{line}"}))
    assert plan.steps[-1].source == "/films"


def test_the_lines_of_a_file_keep_their_numbers(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("# what is shared\n\n/a  /b\tnullfs   ro 0 0\n")
    settings = configured(tmp_path, "nullfs", NULLFS_ROOT_DIR="/thin", THIN_FSTAB=str(fstab))
    assert nullfs.inputs(jail(), settings) == {"THIN_FSTAB": "\n\n/a /b nullfs ro 0 0"}
