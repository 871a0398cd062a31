"""The id that tells hosts apart, and the mark that is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stubs import WORKDIR, Stub, answer, done, planned

from envstart.engine import plan as plans
from envstart.errors import TemporaryError
from envstart.mounts.table import Entry
from envstart.storage import host_mark

MACHINE = "0123456789abcdef0123456789abcdef"
DISK0 = "iqn.2026-11.lab.storage:disk0"
LIST = "iscsictl -L --libxo json"
MESH = "sysctl -n kern.geom.confxml"


@pytest.mark.parametrize(
    "text",
    ["", "\n", "node1\n", "2c4b9a1e-0000-11f0-8000-52540012345g\n", "1234\n"],
)
def test_a_host_without_an_id_is_told(text: str) -> None:
    with pytest.raises(TemporaryError, match=r"kern\.hostuuid"):
        done(host_mark.host_id(Stub({"sysctl -n kern.hostuuid": text}).host))


def test_a_host_whose_id_was_never_made_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rc.d/hostid the kernel has zeros (DEFAULT_HOSTUUID in sys/kern/kern_jail.c)."""

    def named(name: str) -> str:
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("FreeBSD", name, "14.0", "", "amd64")))
        zeros = "00000000-0000-0000-0000-000000000000\n"
        return done(host_mark.host_id(Stub({"sysctl -n kern.hostuuid": zeros}).host))

    one, two = named("node1.example.com"), named("node2.example.com")
    assert one != two
    assert all(len(found) == 32 and int(found, 16) for found in (one, two))
    for nobody in ("", "localhost", "freebsd.example.com"):
        with pytest.raises(TemporaryError, match=r"kern\.hostuuid is all zero, and the hostname is"):
            named(nobody)


def test_the_id_of_a_machine_does_not_leave_it(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    found = []
    for text in (MACHINE, MACHINE[::-1]):
        file.write_text(f"{text}\n")
        found.append(host_mark._of_machine(str(file)))
    assert found[0] != found[1]
    assert MACHINE not in found
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)


@pytest.mark.parametrize("text", [None, "", "uninitialized\n", f"{MACHINE}0\n", "x" * 32])
def test_a_machine_without_an_id_is_told(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "machine-id"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TemporaryError, match="machine-id"):
        host_mark._of_machine(str(file))


def test_a_mark_that_cannot_be_looked_for_is_unknown(tmp_path: Path) -> None:
    """One disk can hold all of GEOM up; the other lines of a report must come nonetheless."""
    plan = planned(tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.5", ISCSI_TARGET=DISK0)
    (mark,) = [step for step in plan.steps if isinstance(step, host_mark.Mark)]
    there = Entry("/dev/da0", f"{WORKDIR}/jails-data/env1-data", "ufs")
    silent = {name: answer(err="it waits", status=1) for name in (MESH, LIST)}
    state = done(mark.observe(Stub(silent, [there]).host))
    assert (state.status, "it waits" in state.detail) == (plans.UNKNOWN, True)
