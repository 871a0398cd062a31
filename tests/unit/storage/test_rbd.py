"""RBD without a machine: keys, the list of disks, and which processes map an image."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from stubs import Stub, answer, done, planned

from envstart.backends import rbd
from envstart.errors import NoResponseError, TemporaryError
from envstart.steps import ceph
from envstart.storage.rbd import Mapped, parse_list

SPEC = "jails/jail1"


@pytest.mark.parametrize("value", ["rbd/img", "rbd/ns/img", "a.b/c-d_e"])
def test_images(value: str) -> None:
    assert rbd.image(value) == value


@pytest.mark.parametrize("value", ["img", "a/b/c/d", "rbd/", "/img", "rbd/-x", "rbd/a b", "rbd/img@snap", "rbd/ü"])
def test_what_is_no_image(value: str) -> None:
    with pytest.raises(ValueError):
        rbd.image(value)


@pytest.mark.parametrize("value", ["-m", "a,b", "a b;c"])
def test_what_is_no_monitor(value: str) -> None:
    with pytest.raises(ValueError):
        ceph.monitors(value)


def test_only_what_maps_the_image_is_ended(tmp_path: Path) -> None:
    """Not who takes another host's disk away, looks at the image, or edits a file of that name."""
    plan = planned(tmp_path, "rbd", RBD_IMAGE=SPEC, CEPH_USER="host1")
    (image,) = [step for step in plan.steps if isinstance(step, Mapped)]
    idle = ("-c", "import time; time.sleep(60)")
    lines = [
        ("rbd-ggate", *idle, "map", SPEC),
        ("rbd-ggate", *idle, "map", "jails/jail10"),
        ("rbd-ggate", *idle, "unmap", SPEC),
        ("rbd", *idle, "info", SPEC),
        ("vi", *idle, "map", SPEC),
    ]
    # With a name that ps shows, which need not be that of the file.
    others = [subprocess.Popen(line, executable=sys.executable) for line in lines]
    try:
        done(image._end(Stub().host))
        assert others[0].wait(10) == -signal.SIGKILL
        assert [other.poll() for other in others[1:]] == [None] * 4
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_search_for_processes_that_gives_no_answer_is_told(tmp_path: Path) -> None:
    class Slow(Stub):
        async def call_with_timeout(self, *_: object, **__: object) -> NoReturn:
            raise NoResponseError("no answer in 5.0 s")

    plan = planned(tmp_path, "rbd", RBD_IMAGE=SPEC, CEPH_USER="host1")
    (image,) = [step for step in plan.steps if isinstance(step, Mapped)]
    with pytest.raises(
        TemporaryError, match=r"cannot use rbd image jails/jail1: the search .* gives no answer in 5\.0 s"
    ):
        done(image._end(Slow().host))


def test_linux_asks_for_its_disks_not_for_images(tmp_path: Path) -> None:
    """`rbd list` is about a pool; mapped for real: tests/real/test_rbd.py."""
    plan = planned(tmp_path, "rbd", RBD_IMAGE=SPEC, CEPH_USER="host1", VOLUME_FSTYPE="ext4")
    (image,) = [step for step in plan.steps if isinstance(step, Mapped)]
    row = {"id": "0", "pool": "jails", "namespace": "", "name": "jail1", "snap": "-", "device": "/dev/null"}
    stub = Stub({"rbd device list --format json": json.dumps([row])})
    stub.platform = "linux"
    assert done(image.commands(stub.host, "stop")) == [("rbd", "device", "unmap", "/dev/null")]
    stub = Stub({"rbd device list --format json": "[]"})
    stub.platform = "linux"
    (mapping,) = done(image.commands(stub.host, "start"))
    assert mapping == ("rbd", "device", "map", "--id=host1", "-o", "exclusive", SPEC)


def test_the_list_of_both_systems() -> None:
    from envstart.system.command import Result

    rows = [
        {"id": "0", "pool": "jails", "namespace": "ns", "image": "jail1", "snap": "-", "device": "/dev/ggate0"},
        {"id": "1", "pool": "jails", "namespace": "", "image": "jail1", "snap": "", "device": "/dev/ggate1"},
        {"id": "2", "pool": "jails", "namespace": "ns", "name": "jail1", "snap": "", "device": "/dev/rbd2"},
        {"id": "3", "pool": "jails", "namespace": "ns", "image": "jail1", "snap": "s", "device": "/dev/ggate3"},
    ]
    assert parse_list(Result(0, json.dumps(rows), "", 0.1, alive=False), "jails/ns/jail1") == [
        "/dev/ggate0",
        "/dev/rbd2",
    ]
    assert parse_list(Result(0, "", "", 0.1, alive=False), "jails/ns/jail1") == []


def test_an_image_that_is_listed_without_a_disk_is_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, "rbd", RBD_IMAGE=SPEC, CEPH_USER="host1", VOLUME_OPTIONS="ro")
    (image,) = [step for step in plan.steps if isinstance(step, Mapped)]
    monkeypatch.setattr("envstart.storage.attached.Locks", lambda *_: contextlib.nullcontext())
    stub = Stub(
        {
            "rbd-ggate list --format json": json.dumps([{"pool": "jails", "image": "jail1", "device": ""}]),
            f"env CEPH_ARGS=--id=host1 rbd-ggate map --read-only {SPEC}": answer(err="connect failed", status=1),
        }
    )
    with pytest.raises(TemporaryError, match="cannot map rbd image jails/jail1: connect failed"):
        done(image.attach(stub.host))
