"""The graph of GEOM: what the text says, who uses what, and what is only another name of the same storage."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_text import Geom, Makes, Uses, text
from stubs import Stub, answer, done

from envstart.mounts.table import Entry
from envstart.storage import devices, devices_freebsd
from envstart.storage.graph import Consumer, Graph

DISK = Geom("DISK", "da0", (Makes("da0", {"ident": "disk0", "descr": "LAB CTLDISK", "lunid": "LAB     disk0"}),))
DISKID = Geom("LABEL", "da0", (Uses("da0"), Makes("diskid/DISK-disk0")))
PARTS = (Makes("da0p1", {"label": "env1"}), Makes("da0p2"))


def parted(mode: str = "r0w0e0") -> Geom:
    return Geom("PART", "da0", (Uses("da0", mode), *PARTS), {"scheme": "GPT"})


def label(mode: str = "r0w0e0") -> Geom:
    return Geom("LABEL", "da0p1", (Uses("da0p1", mode), Makes("gpt/env1")))


def mounted(provider: str, mode: str = "r1w1e1") -> Geom:
    return Geom("VFS", f"ffs.{provider}", (Uses(provider, mode),))


def encrypted(provider: str, mode: str = "r1w1e1") -> Geom:
    return Geom("ELI", f"{provider}.eli", (Uses(provider, mode), Makes(f"{provider}.eli")), {"State": "ACTIVE"})


# A file system on GELI on the label of a partition of an iSCSI disk: opened all the way down.
STACK = (
    DISK,
    DISKID,
    parted("r1w1e2"),
    label("r1w1e1"),
    encrypted("gpt/env1"),
    mounted("gpt/env1.eli"),
)


def parse(mesh: str) -> Graph:
    return devices_freebsd.parse(answer(mesh))


def graph(*geoms: Geom) -> Graph:
    return parse(text(*geoms))


def names(consumers: list[Consumer]) -> list[str]:
    return [consumer.geom.name for consumer in consumers]


def users(found: Graph, device: str) -> list[str]:
    provider = found.provider(device)
    assert provider is not None
    return names(found.users(provider))


def blocking(found: Graph, device: str) -> list[str]:
    provider = found.provider(device)
    assert provider is not None
    return names(found.blocking(provider))


# The text.


def test_what_is_read() -> None:
    found = graph(*STACK)
    everything = {"da0", "diskid/DISK-disk0", "da0p1", "da0p2", "gpt/env1", "gpt/env1.eli"}
    assert {provider.name for provider in found} == everything
    disk, part, eli = (found.provider(f"/dev/{name}") for name in ("da0", "da0p1", "gpt/env1.eli"))
    assert disk is not None
    assert part is not None
    assert eli is not None
    assert (disk.geom.kind, disk.config["ident"], disk.config["lunid"]) == ("DISK", "disk0", "LAB     disk0")
    assert (part.geom.config, part.config) == ({"scheme": "GPT"}, {"label": "env1"})
    assert eli.geom.config == {"State": "ACTIVE"}
    below = eli.geom.consumers[0]
    assert (below.reads, below.writes, below.exclusive, below.open) == (1, 1, 1, True)
    assert below.provider is found.provider("gpt/env1")


def test_configurations_belong_to_geom_and_provider_each() -> None:
    multipath = Geom(
        "MULTIPATH",
        "env1",
        (
            Uses("da0", "r1w1e1", {"State": "ACTIVE"}),
            Uses("da1", "r1w1e1", {"State": "PASSIVE"}),
            Makes("multipath/env1"),
        ),
        {"State": "OPTIMAL", "UUID": "e1", "Type": "AUTOMATIC"},
    )
    found = graph(DISK, Geom("DISK", "da1", (Makes("da1"),)), multipath)
    whole = found.provider("/dev/multipath/env1")
    assert whole is not None
    assert whole.geom.config["State"] == "OPTIMAL"
    assert whole.config == {}


def test_names_are_unescaped_and_bytes_are_kept() -> None:
    file = "/vol/a & b <é>.img"
    found = graph(Geom("MD", "md0", (Makes("md0", {"type": "vnode", "file": file}),)))
    assert [provider.config["file"] for provider in found] == [file]


def test_another_name_that_the_kernel_gives_a_provider() -> None:
    found = graph(Geom("DISK", "nda0", (Makes("nda0", aliases=("nvd0",)),)))
    assert found.provider("/dev/nvd0") is found.provider("/dev/nda0") is not None
    assert [provider.name for provider in found] == ["nda0"]


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_on_its_way_out_is_not_there(order: int) -> None:
    """Somebody has the old one open, and the new one has its name."""
    old = Geom("MD", "md0", (Makes("md0", withers=True),))
    new = Geom("MD", "md0", (Makes("md0", {"file": "/vol/x.img"}),))
    found = graph(*(old, new)[::order])
    assert [provider.config for provider in found] == [{"file": "/vol/x.img"}]
    gone = graph(DISK, Geom("ELI", "da0.eli", (Uses("da0", "r1w1e1"), Makes("da0.eli", withers=True))))
    disk = gone.provider("da0")
    assert disk is not None
    assert (gone.provider("da0.eli"), gone.on(disk, "ELI")) == (None, [])
    assert blocking(gone, "da0") == ["da0.eli"], "it can not be attached yet"


def test_a_host_without_a_disk() -> None:
    assert list(parse("<mesh>\n</mesh>\n")) == []
    assert list(parse('<mesh>\n  <class id="0x1">\n    <name>DISK</name>\n  </class>\n</mesh>\n')) == []


def test_an_empty_drive_has_a_geom_without_a_provider() -> None:
    found = graph(Geom("DISK", "cd0"), DISK)
    assert [provider.name for provider in found] == ["da0"]


def test_a_consumer_that_is_not_attached_uses_nothing() -> None:
    reference = text(DISK, mounted("da9"))
    found = parse(reference)
    assert users(found, "da0") == []


@pytest.mark.parametrize(
    "broken", ["", " ", "<mesh>", "<mesh></mess>", "mesh", "<html></html>", "<mesh>&nbsp;</mesh>", "<mesh>\0</mesh>"]
)
def test_what_is_not_whole_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"kern\.geom\.confxml"):
        parse(broken)


@given(st.data())
def test_a_text_that_was_cut_is_refused(data: st.DataObject) -> None:
    whole = text(*STACK).rstrip()
    with pytest.raises(ValueError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.text())
def test_no_text_breaks_it_in_another_way(anything: str) -> None:
    with contextlib.suppress(ValueError):
        parse(anything)


@pytest.mark.parametrize("mode", ["", "r1w1", "1 2 3 4", "rwe"])
def test_a_mode_that_is_none_is_no_use(mode: str) -> None:
    assert users(graph(DISK, mounted("da0", mode)), "da0") == []


@pytest.mark.parametrize(("mode", "counts"), [("r12w3e10", (12, 3, 10)), ("r0w0e0", (0, 0, 0)), ("r1w0e0", (1, 0, 0))])
def test_modes(mode: str, counts: tuple[int, int, int]) -> None:
    found = graph(DISK, mounted("da0", mode)).provider("da0")
    assert found is not None
    consumer = next(one for one in found.consumers if one.geom.kind == "VFS")
    assert (consumer.reads, consumer.writes, consumer.exclusive) == counts
    assert consumer.open == any(counts)


# Names.


@pytest.mark.parametrize("device", ["/dev/da9", "da9", "/dev/da0p3", "", "/dev/", "/mnt/da0"])
def test_what_is_no_provider(device: str) -> None:
    assert graph(*STACK).provider(device) is None


@pytest.mark.parametrize("device", ["/dev/gpt/env1", "gpt/env1"])
def test_with_and_without_dev(device: str) -> None:
    found = graph(*STACK).provider(device)
    assert found is not None
    assert found.name == "gpt/env1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/dev/da0", "/dev/da0", True),
        ("/dev/da0", "/dev/diskid/DISK-disk0", True),
        ("/dev/gpt/env1", "/dev/da0p1", True),
        ("/dev/da0p1", "/dev/gpt/env1", True),
        ("/dev/da0", "/dev/da0p1", False),
        ("/dev/da0p1", "/dev/da0p2", False),
        ("/dev/gpt/env1", "/dev/gpt/env1.eli", False),
        ("/dev/da9", "/dev/da9", False),
        ("/dev/da0", "/dev/da9", False),
    ],
)
def test_two_names_of_the_same_storage(one: str, other: str, *, same: bool) -> None:
    assert graph(*STACK).same(one, other) is same


def test_all_names_of_the_same_storage() -> None:
    found = graph(*STACK)
    for device in ("da0p1", "gpt/env1"):
        provider = found.provider(device)
        assert provider is not None
        assert {name.name for name in found.names(provider)} == {"da0p1", "gpt/env1"}
        assert found.base(provider).name == "da0p1"


def test_a_label_of_a_label() -> None:
    """glabel(8) on a device that has a diskid, say."""
    found = graph(DISK, DISKID, Geom("LABEL", "x", (Uses("diskid/DISK-disk0"), Makes("label/x"))))
    assert found.same("/dev/label/x", "/dev/da0")


def test_a_label_whose_disk_is_gone_is_its_own_storage() -> None:
    found = graph(Geom("LABEL", "da0", (Uses("da0"), Makes("diskid/DISK-disk0"))))
    provider = found.provider("diskid/DISK-disk0")
    assert provider is not None
    assert found.base(provider) is provider
    assert found.names(provider) == [provider]


# Who uses it.


@pytest.mark.parametrize(
    ("device", "who"),
    [
        ("da0", ["gpt/env1.eli"]),
        ("diskid/DISK-disk0", ["gpt/env1.eli"]),
        ("da0p1", ["gpt/env1.eli"]),
        ("gpt/env1", ["gpt/env1.eli"]),
        ("gpt/env1.eli", ["ffs.gpt/env1.eli"]),
        ("da0p2", []),
    ],
)
def test_users_are_seen_under_every_name(device: str, who: list[str]) -> None:
    assert users(graph(*STACK), device) == who


def test_nobody_uses_what_is_only_tasted() -> None:
    found = graph(DISK, DISKID, parted(), label())
    assert [users(found, provider.name) for provider in found] == [[]] * 5


def test_a_partition_table_is_looked_through() -> None:
    found = graph(DISK, parted("r2w2e4"), mounted("da0p1"), mounted("da0p2"))
    assert users(found, "da0") == ["ffs.da0p1", "ffs.da0p2"]


def test_an_attached_provider_is_used_although_nobody_uses_the_eli() -> None:
    """The geom of geli(8) keeps it open for as long as it is attached (tests/transcripts/geli.txt: r1w1e1)."""
    found = graph(DISK, encrypted("da0"))
    assert users(found, "da0") == ["da0.eli"]
    assert users(found, "da0.eli") == []


def test_a_process_that_has_it_open() -> None:
    found = devices_freebsd.parse(
        answer(text(DISK).replace("r0w0e0</mode>\n      </consumer>", "r1w0e0</mode>\n      </consumer>"))
    )
    provider = found.provider("da0")
    assert provider is not None
    assert [consumer.geom.kind for consumer in found.users(provider)] == ["DEV"]
    assert found.blocking(provider) == []


@pytest.mark.parametrize(
    ("geoms", "device", "who"),
    [
        # Its own file system.
        ((DISK, mounted("da0")), "da0", ["ffs.da0"]),
        # A file system that is mounted read-only leaves room for another reader.
        ((DISK, mounted("da0", "r1w0e0")), "da0", []),
        ((DISK, mounted("da0", "r1w0e1")), "da0", ["ffs.da0"]),
        # A neighbour on the same disk does not matter: it comes by way of the same PART.
        ((DISK, parted("r1w1e2"), mounted("da0p2")), "da0p1", []),
        # But what has the whole disk open does.
        ((DISK, parted(), mounted("da0")), "da0p1", ["ffs.da0"]),
        ((DISK, parted(), mounted("da0", "r1w0e0")), "da0p1", []),
        ((DISK, parted(), encrypted("da0")), "da0p1", ["da0.eli"]),
        ((DISK, parted(), label(), encrypted("da0")), "gpt/env1", ["da0.eli"]),
    ],
)
def test_who_keeps_it_from_being_opened_exclusively(geoms: tuple[Geom, ...], device: str, who: list[str]) -> None:
    assert blocking(graph(*geoms), device) == who


def test_the_whole_disk_by_its_other_name_keeps_a_partition_from_being_opened() -> None:
    """Its diskid passes the opening on to the disk, where it counts against the partition."""
    opened = Geom("LABEL", "da0", (Uses("da0", "r1w1e1"), Makes("diskid/DISK-disk0")))
    assert blocking(graph(DISK, opened, parted(), mounted("diskid/DISK-disk0")), "da0p1") != []


def test_what_lies_on_it() -> None:
    found = graph(*STACK)
    for device in ("da0p1", "gpt/env1"):
        provider = found.provider(device)
        assert provider is not None
        assert [upper.name for upper in found.on(provider, "ELI")] == ["gpt/env1.eli"]
        assert found.on(provider, "MULTIPATH") == []
    disk = found.provider("da0")
    assert disk is not None
    assert found.on(disk, "ELI") == []


# For people.


@pytest.mark.parametrize("forgets", [False, True])
def test_who_has_it(*, forgets: bool) -> None:
    """Also when the graph is read anew in between, as it is whenever the mount table comes from mount(8)."""
    opened = text(DISK, DISKID, encrypted("da0"), mounted("da0.eli"))
    stub = Stub({"sysctl -n kern.geom.confxml": opened}, [Entry("/dev/da0.eli", "/mnt/x", "ufs")])
    stub.forgets = forgets
    assert done(devices.users(stub.host, "/dev/da0")) == ["da0.eli (ELI)"]
    assert done(devices.users(stub.host, "/dev/da0.eli")) == ["/mnt/x (mounted from /dev/da0.eli)"]


def test_who_has_it_although_the_table_does_not_tell() -> None:
    stub = Stub({"sysctl -n kern.geom.confxml": text(DISK, mounted("da0"))})
    assert done(devices.users(stub.host, "/dev/da0")) == ["a file system (mounted from /dev/da0)"]
