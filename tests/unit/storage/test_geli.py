"""GELI without a machine: keys, the plan, command lines, what geli says, which disk an image file is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from mesh_text import Geom, Makes, Uses, text
from stubs import Stub, answer, done, outputs, planned

from envstart.engine import plan as plans
from envstart.engine.plan import Plan, stages
from envstart.errors import (
    ConfigError,
    EnvstartError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
    UnavailableError,
)
from envstart.steps.block import Node
from envstart.storage import volume_keys
from envstart.storage.geli import EliProvider, attach_error
from envstart.storage.md import Image

MESH = "sysctl -n kern.geom.confxml"
DISK = Geom("DISK", "ada0", (Makes("ada0"),))
PART = Geom("PART", "ada0", (Uses("ada0", "r1w1e2"), Makes("ada0p1")))
LABEL = Geom("LABEL", "ada0p1", (Uses("ada0p1"), Makes("gpt/env1")))


def eli(below: str, **config: str) -> Geom:
    return Geom("ELI", f"{below}.eli", (Uses(below, "r1w1e1"), Makes(f"{below}.eli")), {"State": "ACTIVE", **config})


def md(unit: int, file: str) -> Geom:
    """As the kernel tells it: where the file is told is in the provider (sys/dev/md/md.c, g_md_dumpconf)."""
    return Geom("MD", f"md{unit}", (Makes(f"md{unit}", {"type": "vnode", "unit": str(unit), "file": file}),))


def plan(tmp_path: Path, name: str = "env1", **keys: str) -> Plan:
    keys = {"GELI_PROVIDER": "/dev/gpt/{name}", "GELI_KEYFILE": "/root/env1.key", **keys}
    return planned(tmp_path, "geli", name, **keys)


def step(tmp_path: Path, kind: type[Any], **keys: str) -> Any:
    return next(found for found in plan(tmp_path, **keys).steps if isinstance(found, kind))


# Keys and the plan.


@pytest.mark.parametrize(
    ("value", "read"),
    [("/a", ("/a",)), (" /a  /b/ ", ("/a", "/b")), ("/b\t/a", ("/b", "/a"))],
)
def test_files(value: str, read: tuple[str, ...]) -> None:
    assert volume_keys.files(value) == read


@pytest.mark.parametrize("value", ["key", "/a key", "/a/../b", "~/key", "/a\x1b"])
def test_what_are_no_files(value: str) -> None:
    with pytest.raises(ValueError):
        volume_keys.files(value)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("rw", ("rw",)),
        ("ro noatime", ("ro", "noatime")),
        ("-o ro,noatime -onosuid", ("ro", "noatime", "nosuid")),
        ("rw,,noexec", ("rw", "noexec")),
    ],
)
def test_mount_options(value: str, read: tuple[str, ...]) -> None:
    assert volume_keys.mount_options(value) == read


@pytest.mark.parametrize("option", ["force", "update", "union", "snapshot", "cover"])
@pytest.mark.parametrize("form", ["{}", "rw,{}", "-o{}", "rw {}"])
def test_mount_options_that_must_not_be(option: str, form: str) -> None:
    with pytest.raises(ValueError, match=option):
        volume_keys.mount_options(form.format(option))


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ({}, [["provider"], ["geli"], ["fsck"], ["data"]]),
        ({"GELI_PROVIDER": "/vol/{name}.img"}, [["image"], ["geli"], ["fsck"], ["data"]]),
        (
            {"VOLUME_LAYOUT": "tree"},
            [["provider"], ["geli"], ["fsck"], ["volume"], ["system", "fstab", "data"]],
        ),
    ],
)
def test_the_order_of_the_steps(tmp_path: Path, keys: dict[str, str], order: list[list[str]]) -> None:
    found = plan(tmp_path, **keys)
    assert [[step.name for step in group] for group in stages(found.steps)] == order
    assert len(found.locks) == 1


@pytest.mark.parametrize(
    ("value", "kind", "source"),
    [
        ("/dev/gpt/{name}", Node, "/dev/gpt/env1"),
        ("/dev/diskid/DISK-x", Node, "/dev/diskid/DISK-x"),
        ("/vol/{name}/{name}.img", Image, "/vol/env1/env1.img"),
        ("/devices/x.img", Image, "/devices/x.img"),
    ],
)
def test_a_device_or_an_image(tmp_path: Path, value: str, kind: type[object], source: str) -> None:
    found = plan(tmp_path, GELI_PROVIDER=value).steps[0]
    assert type(found) is kind
    assert found.source == source


def test_a_plan_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without a key"):
        plan(tmp_path, GELI_KEYFILE="")
    assert plan(tmp_path, GELI_KEYFILE="", GELI_PASSFILE="/p").steps


@pytest.mark.parametrize("path", ["/dev/da0", "/dev/ada1p2", "/dev/nda0", "/dev/nvd0", "/dev/vtbd0", "/dev/md7"])
def test_fault_78_a_number_that_can_change_is_warned_of(tmp_path: Path, path: str) -> None:
    (warning,) = plan(tmp_path, GELI_PROVIDER=path).warnings
    assert path in warning


@pytest.mark.parametrize(
    "path", ["/dev/gpt/da0", "/dev/diskid/DISK-1", "/dev/data", "/dev/ufs/x", "/vol/da0", "/dev/mdx"]
)
def test_a_name_that_stays_is_not(tmp_path: Path, path: str) -> None:
    assert plan(tmp_path, GELI_PROVIDER=path).warnings == ()


# Command lines.


@pytest.mark.parametrize(
    ("keys", "flags", "line"),
    [
        ({}, (), "geli attach -p -k /root/env1.key /dev/gpt/env1"),
        ({}, ("-C",), "geli attach -C -p -k /root/env1.key /dev/gpt/env1"),
        ({"VOLUME_OPTIONS": "ro"}, (), "geli attach -p -r -k /root/env1.key /dev/gpt/env1"),
        ({"GELI_KEYFILE": "/root/{name}.key"}, (), "geli attach -p -k /root/env1.key /dev/gpt/env1"),
        ({"GELI_KEYFILE": "/b /a"}, (), "geli attach -p -k /b -k /a /dev/gpt/env1"),
        ({"GELI_KEYFILE": "", "GELI_PASSFILE": "/p /q"}, (), "geli attach -j /p -j /q /dev/gpt/env1"),
        ({"GELI_KEYFILE": "/k", "GELI_PASSFILE": "/p"}, ("-C",), "geli attach -C -k /k -j /p /dev/gpt/env1"),
    ],
)
def test_attach(tmp_path: Path, keys: dict[str, str], flags: tuple[str, ...], line: str) -> None:
    found = step(tmp_path, EliProvider, **keys)
    assert " ".join(found._attach_argv("/dev/gpt/env1", *flags)) == line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("rw", "mdconfig -a -t vnode -f /vol/x.img"),
        ("ro,noatime", "mdconfig -a -t vnode -f /vol/x.img -o readonly"),
    ],
)
def test_an_image_becomes_a_disk(tmp_path: Path, options: str, line: str) -> None:
    found = step(tmp_path, Image, GELI_PROVIDER="/vol/x.img", VOLUME_OPTIONS=options)
    assert [" ".join(argv) for argv in done(found.commands(Stub().host, "start"))] == [line]


# What geli says.


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("geli: Wrong key for md10.\ngeli: There was an error with at least one provider.", PermissionDeniedError),
        ("geli: Missing -p flag.", ConfigError),
        ("geli: No key components given.", ConfigError),
        ("geli: Cannot open keyfile /nosuch: No such file or directory.", NotFoundError),
        ("geli: Cannot open passfile /nosuch: No such file or directory.", NotFoundError),
        ("geli: Cannot read metadata from md12: Invalid argument.", ConfigError),
        ("geli: Provider size mismatch.", ConfigError),
        ("geli: No valid keys on md10.", PermissionDeniedError),
        ("geli: Cannot access md10 (error=1).\ngeli: There was an error with at least one provider.", TemporaryError),
        ("geli: Cannot open md99: No such file or directory.", TemporaryError),
        ("geli: cannot load geom_eli.ko", UnavailableError),
        ("something that nobody has seen", TemporaryError),
    ],
)
def test_fault_88_what_the_words_of_attach_mean(words: str, kind: type[EnvstartError]) -> None:
    error = attach_error(answer(err=f"{words}\n", status=1), "/dev/md10")
    assert type(error) is kind
    assert words.splitlines()[0] in str(error)
    assert str(error).startswith("cannot attach /dev/md10: ")


@pytest.mark.parametrize(
    ("command", "line", "kind"),
    [
        ("echo wrong key", "geli: Wrong key for md10.", PermissionDeniedError),
        ("echo wrong key", "geli: No key components given.", ConfigError),
        ("echo wrong key", "geli: Cannot open keyfile /nosuch: No such file or directory.", NotFoundError),
        ("echo no metadata", "geli: Cannot read metadata from md12: Invalid argument.", ConfigError),
        ("echo wrong passphrase", "geli: Wrong key for md11.", PermissionDeniedError),
        ("echo no tty", "geli: Cannot read passphrase: Inappropriate ioctl for device.", ConfigError),
    ],
)
def test_a_live_geli_says_just_that(command: str, line: str, kind: type[EnvstartError]) -> None:
    assert any(line in output.splitlines() for output in outputs("geli", command))
    assert type(attach_error(answer(err=f"{line}\n", status=1), "/dev/md10")) is kind


def test_fault_92_a_passphrase_that_nobody_can_type() -> None:
    words = "geli: Cannot read passphrase: Inappropriate ioctl for device.\n"
    error = attach_error(answer(err=words, status=1), "/dev/md10")
    assert str(error).endswith("set GELI_PASSFILE")


# What is there.


@pytest.mark.parametrize(
    ("geoms", "device"),
    [
        ((DISK, PART, LABEL), None),
        ((DISK, PART, LABEL, eli("gpt/env1")), "/dev/gpt/env1.eli"),
        # Attached by hand, under the partition's own name.
        ((DISK, PART, LABEL, eli("ada0p1")), "/dev/ada0p1.eli"),
        # That of the whole disk is not that of the partition.
        ((DISK, PART, LABEL, eli("ada0")), None),
    ],
)
def test_fault_89_what_is_attached_is_found_under_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, geoms: tuple[Geom, ...], device: str | None
) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path.startswith("/dev/") or exists(path))
    stub = Stub({MESH: text(*geoms)})
    assert done(step(tmp_path, EliProvider).device(stub.host)) == device


@pytest.mark.parametrize(("config", "word"), [({}, plans.READY), ({"State": "SUSPENDED"}, plans.LOST)])
def test_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, str], word: str) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path.startswith("/dev/") or exists(path))
    attached = Stub({MESH: text(DISK, PART, LABEL, eli("gpt/env1", **config))})
    provider = step(tmp_path, EliProvider)
    assert done(provider.observe(attached.host)).status == word
    assert done(provider.commands(attached.host, "stop")) == [("geli", "detach", "gpt/env1.eli")]
    detached = Stub({MESH: text(DISK, PART, LABEL)})
    assert done(provider.observe(detached.host)).status == plans.NOT_READY
    argv = ("geli", "attach", "-p", "-k", "/root/env1.key", "/dev/gpt/env1")
    assert done(provider.commands(detached.host, "start")) == [argv]


class Files(Stub):
    """One whose files have these real names."""

    def __init__(self, mesh: str, names: dict[str, str] | None = None) -> None:
        super().__init__({MESH: mesh})
        self.names = names or {}

    async def real(self, path: str) -> str:
        return self.names.get(path, path)


@pytest.mark.parametrize(
    ("geoms", "device"),
    [
        ((DISK,), None),
        ((md(0, "/vol/env1.img"),), "/dev/md0"),
        ((md(0, "/vol/env2.img"), md(12, "/vol/env1.img")), "/dev/md12"),
        ((md(0, "/vol/env1.img.old"), Geom("MD", "md1", (Makes("md1", {"type": "swap"}),))), None),
    ],
)
def test_the_disk_that_an_image_is(tmp_path: Path, geoms: tuple[Geom, ...], device: str | None) -> None:
    found = step(tmp_path, Image, GELI_PROVIDER="/vol/{name}.img")
    assert done(found.device(Files(text(*geoms)).host)) == device


def test_an_image_behind_a_link(tmp_path: Path) -> None:
    found = step(tmp_path, Image, GELI_PROVIDER="/vol/env1.img")
    stub = Files(text(md(3, "/tank/env1.img")), {"/vol/env1.img": "/tank/env1.img"})
    assert done(found.device(stub.host)) == "/dev/md3"


def test_an_image_that_is_two_disks_is_left_alone(tmp_path: Path) -> None:
    found = step(tmp_path, Image, GELI_PROVIDER="/vol/env1.img")
    stub = Files(text(md(0, "/vol/env1.img"), md(1, "/vol/env1.img")))
    with pytest.raises(ConfigError, match="md0, md1"):
        done(found.device(stub.host))
    assert stub.called == [MESH]


def test_elsewhere_than_on_freebsd(tmp_path: Path) -> None:
    stub = Files(text())
    stub.platform = "linux"
    for found in (step(tmp_path, EliProvider), step(tmp_path, Image, GELI_PROVIDER="/vol/x.img")):
        with pytest.raises(UnavailableError, match="on FreeBSD only"):
            done(found.check(stub.host))
