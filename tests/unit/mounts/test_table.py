"""The mount table: what is read from each system, and when it is better to know nothing than the wrong thing."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import pytest
from cbsd import NFS4, NULLFS, Site
from hypothesis import assume, given
from hypothesis import strategies as st
from sim.fakes import statfs

from envstart.mounts import table_freebsd
from envstart.mounts.table import Entry, Table, normal_source, parse_libxo
from envstart.mounts.table_linux import parse_mountinfo

ROOT = {"special": "/dev/da0", "node": "/", "fstype": "ufs", "opts": ["local"]}


OTHERS = ("/w", "/w/data", "/srv")


def _after(point: str, order: tuple[str, ...], *places: str) -> str | None:
    """Return the last one of these places that comes after ``point``."""
    found = [place for place in order[order.index(point) + 1 :] if place in places]
    return found[-1] if found else None


@pytest.mark.parametrize("order", list(itertools.permutations(("/w/data/j", *OTHERS))), ids=" ".join)
def test_what_is_hidden_and_what_was_replaced(order: tuple[str, ...]) -> None:
    """Each is told by what was mounted later on something above."""
    for device in ("", "8:1"):
        table = Table([Entry("/srv/store/j", point, "nullfs", device=device) for point in ("/", *order)])
        cover, replaced = table.hidden_by("/w/data/j"), table.shadowed_by(table.at("/w/data/j")[0])
        assert (cover and cover.point) == _after("/w/data/j", order, "/w", "/w/data")
        # Linux tells what a bind mount shows by its device.
        assert (replaced and replaced.point) == (None if device else _after("/w/data/j", order, "/srv"))


@pytest.mark.parametrize("variant", [NFS4, NULLFS], ids=["nfs", "nullfs"])
def test_a_life_without_a_process_for_the_table(tmp_path: Path, variant: object) -> None:
    with Site(tmp_path, variant, getfsstat=True) as site:  # type: ignore[arg-type]
        for _ in range(2):
            assert site.start().returncode == 0
            assert site.table == site.wanted()
        for _ in range(2):
            assert site.stop().returncode == 0
            assert site.table == []
        assert site.world.calls("mount") == []


def test_what_is_mounted_already_starts_no_process_at_all(tmp_path: Path) -> None:
    with Site(tmp_path, getfsstat=True) as site:
        site.preset()
        assert site.start().returncode == 0
        assert site.world.calls() == []


def test_struct_statfs() -> None:
    data = statfs(b"/dev/da0", b"/", b"ufs") + statfs(b"nas:/x\xff y", b"/mnt/a b", flags=1)
    root, mount = table_freebsd.parse_statfs(data)
    assert (root.source, root.point, root.fstype, root.read_only) == ("/dev/da0", "/", "ufs", False)
    assert (mount.source, mount.point, mount.fstype, mount.read_only) == ("nas:/x\udcff y", "/mnt/a b", "nfs", True)


def test_the_number_of_a_mount_is_its_fsid_as_far_as_it_is_told() -> None:
    root = statfs(b"/dev/da0", b"/", b"ufs", fsid=bytes(8))
    fuse = statfs(b"/dev/fuse", b"/x", b"fusefs", fsid=bytes.fromhex("0a1b2c3d4e5f6071"))
    assert [entry.fsid for entry in table_freebsd.parse_statfs(root + fuse)] == ["", "0a1b2c3d4e5f6071"]


@pytest.mark.parametrize("data", [b"", statfs(b"nas:/x", b"/x"), statfs(b"/dev/da0", b"/", version=0x20030518)])
def test_struct_statfs_that_is_not_the_one_known_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        table_freebsd.parse_statfs(data)


def test_libxo() -> None:
    rows = [ROOT, {"special": "nas:/x", "node": "/a b", "fstype": "nfs"}]
    text = json.dumps({"mount": {"mounted": rows}})
    assert [(entry.source, entry.point, entry.fstype) for entry in parse_libxo(text)] == [
        ("/dev/da0", "/", "ufs"),
        ("nas:/x", "/a b", "nfs"),
    ]


@given(st.data())
def test_libxo_that_was_cut_is_refused(data: st.DataObject) -> None:
    text = json.dumps({"mount": {"mounted": [ROOT, ROOT]}})
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError):
        parse_libxo(text[:cut])


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"mount": {"mounted": []}}', '{"mount": {"mounted": [{"node": "/"}]}}', "1"]
)
def test_libxo_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_libxo(text)


def test_mountinfo() -> None:
    text = (
        b"25 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw\n"
        b"42 25 254:0 /data/j\\0401 /mnt/a\\040b ro - ext4 /dev/vda rw\n"
        b"43 25 0:50 / /mnt/n rw master:1 - nfs4 nas:/nfs rw,vers=4.2\n"
        # The kernel escapes no other characters, and what ends a line of Python's text does not end one of its.
        b"44 25 0:50 / /mnt/\x0c\r\xc2\x85\xff rw - nfs4 nas:/nfs rw\n"
    )
    root, bind, nfs, odd = parse_mountinfo(text)
    assert (root.origin, bind.origin, nfs.origin) == ("254:0:/", "254:0:/data/j 1", "nas:/nfs")
    assert (bind.point, bind.read_only, nfs.kind) == ("/mnt/a b", True, "nfs")
    assert odd.point == "/mnt/\x0c\r\x85\udcff"


@pytest.mark.parametrize("text", [b"", b"25 1 254:0 / / rw\n", b"25 1 254:0 / - ext4 /dev/vda rw\n", b"x\n", b"\n"])
def test_mountinfo_that_is_torn_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_mountinfo(text)


@pytest.mark.parametrize("wanted", [None, {"/mnt"}])
def test_mountinfo_that_was_cut_in_its_last_line_is_refused(wanted: set[str] | None) -> None:
    whole = b"25 1 254:0 / / rw - ext4 /dev/vda rw\n43 25 0:50 / /mnt rw - nfs4 nas:/nfs rw,vers=4.2\n"
    assert parse_mountinfo(whole, wanted)[-1].source == "nas:/nfs"
    for cut in range(38, len(whole)):
        with pytest.raises(ValueError):
            parse_mountinfo(whole[:cut], wanted)


@given(st.text())
def test_no_text_breaks_a_reader_in_another_way(text: str) -> None:
    for read in (parse_libxo, lambda text: parse_mountinfo(text.encode())):
        with contextlib.suppress(ValueError):
            read(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nas:/nfs/j1/", "nas:/nfs/j1"),
        ("NAS.example.org.:/nfs//j1", "nas.example.org:/nfs/j1"),
        ("[FD00::1]:/nfs/j1/", "[fd00::1]:/nfs/j1"),
        ("nas:/", "nas://"),
        ("[nas]:/nfs/a:b", "nas:/nfs/a:b"),
    ],
)
def test_one_source_in_two_spellings(one: str, other: str) -> None:
    assert normal_source(one) == normal_source(other)


@pytest.mark.parametrize("other", ["nas:/nfs/J1", "nas2:/nfs/j1", "nas:/nfs/j10", "nas:nfs/j1", "/nfs/j1"])
def test_two_sources(other: str) -> None:
    assert normal_source("nas:/nfs/j1") != normal_source(other)


def test_what_holds_a_path() -> None:
    table = Table(
        [Entry("a", "/", "ufs"), Entry("b", "/x", "ufs"), Entry("c", "/x", "ufs"), Entry("d", "/x/y/z", "ufs")]
    )
    assert [getattr(table.mount_of(path), "source", None) for path in ("/x/y", "/xy", "/x/y/z/1", "/")] == [
        "c",
        "a",
        "d",
        "a",
    ]
    assert table.below("/x") == ["/x/y/z"]
    assert [entry.source for entry in table.at("/x")] == ["b", "c"]


_points = st.sampled_from(["/", "/a", "/a/b", "/a b", "/a\\b", "/a#b", "/w/jails-data/j-data", "/a/b/", "/é"])


@given(st.lists(st.tuples(_points, _points), max_size=12), st.frozensets(_points, max_size=4))
def test_a_part_of_mountinfo_is_what_the_whole_says_of_it(rows: list[tuple[str, str]], wanted: frozenset[str]) -> None:
    def escaped(path: str) -> str:
        return path.replace("\\", "\\134").replace(" ", "\\040").replace("#", "\\043")

    text = "".join(
        f"{number} 1 0:{number} {escaped(root)} {escaped(point)} rw shared:1 - ext4 /dev/x rw\n"
        for number, (root, point) in enumerate(rows)
    ).encode()
    assume(rows)
    every = parse_mountinfo(text)
    assert [str(one) + one.point for one in parse_mountinfo(text, wanted)] == [
        str(one) + one.point for one in every if one.point in wanted
    ]
