"""What a look at a mounted directory means, for a start and for a check."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from cbsd import SERVER
from stubs import Stub, done, planned

from envstart.engine import plan as plans
from envstart.engine.plan import BROKEN, NOT_USABLE
from envstart.errors import EnvstartError
from envstart.steps import health as usable
from envstart.steps.health import interpret
from envstart.steps.mount import Mount
from envstart.system import probe as verdict
from envstart.system.probe import ProbeResult


def data_of(tmp_path: Path, **keys: str) -> Mount:
    """Return the mount of a data directory."""
    plan = planned(tmp_path, "nfs", NFS_SERVER=SERVER, **keys)
    (data,) = [step for step in plan.steps if isinstance(step, Mount) and step.name == "data"]
    return data


@pytest.mark.parametrize(
    ("refusal", "level"),
    [("Permission denied", "warning"), ("Operation not permitted", "warning"), ("No space left on device", "critical")],
)
def test_fault_48_117_a_directory_that_takes_no_file(tmp_path: Path, refusal: str, level: str) -> None:
    """A server that does not let root write may be meant so; a full disk never is."""
    data = data_of(tmp_path)
    health = interpret(data, "freebsd", data.point, ProbeResult(verdict.USABLE, refusal=refusal))
    assert (plans.LEVELS.get(health.status, "critical"), refusal in health.detail) == (level, True)


@pytest.mark.parametrize(("fstype", "word"), [("nfs", NOT_USABLE), ("ufs", BROKEN)])
def test_what_cannot_be_listed(tmp_path: Path, fstype: str, word: str) -> None:
    """FreeBSD's NFSv4 server lists nothing in what it does not export; of a disk something is broken."""
    data = data_of(tmp_path)
    data.fstype = fstype
    assert interpret(data, "freebsd", data.point, ProbeResult(verdict.UNREADABLE, "Input/output error")).status == word


@pytest.mark.parametrize("setting", ["refuse", "warn", "ignore"])
@pytest.mark.parametrize("key", ["EMPTY_DIR", "LEASE"])
def test_what_a_start_accepts_is_no_critical_state(tmp_path: Path, key: str, setting: str) -> None:
    """What EMPTY_DIR and LEASE make of a start, they make of a check: refused, told, or nothing."""
    data = data_of(tmp_path, **{key: setting})
    leased = ProbeResult(verdict.USABLE, other=("node2", 60))
    health = interpret(
        data, "freebsd", data.point, leased if key == "LEASE" else ProbeResult(verdict.EMPTY, "Read-only")
    )
    told = {"refuse": (True, ""), "warn": (False, health.warning or "nothing"), "ignore": (False, "")}
    assert (bool(health.problem or health.refusal), health.warning) == told[setting]
    level = {"refuse": "critical", "warn": "warning", "ignore": "ok"}[setting]
    assert plans.LEVELS.get(health.status, "critical") == level


@pytest.mark.parametrize(
    "answer",
    [
        ProbeResult(word, "words of the system")
        for word in (
            ProbeResult.HUNG,
            ProbeResult.FAILED,
            verdict.BROKEN,
            verdict.DENIED,
            verdict.LACKING,
            verdict.EMPTY,
        )
    ],
    ids=lambda answer: answer.verdict,
)
def test_a_start_and_a_check_see_the_same(tmp_path: Path, answer: ProbeResult) -> None:
    """One look, by whichever of the two: what is critical for a check stops a start, with the same words."""
    stub = Stub()
    data = data_of(tmp_path)
    stub.looked[data.point] = answer
    try:
        problem = done(usable.check_health(data, stub.host, data.point))
    except EnvstartError as error:
        problem = error
    health = interpret(data, stub.platform, data.point, answer)
    assert plans.LEVELS.get(health.status, "critical") == "critical"
    assert str(problem) == str(health.problem or health.refusal)
    assert answer.detail in health.detail
    assert answer.detail in str(problem)


def test_fault_4_a_look_is_not_answered_by_the_kernels_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look asks for something that the client has to look up.

    For as long as acdirmin says the client of FreeBSD opens and lists the root of a mount without a word to the server,
    be that dead by now.
    """
    (tmp_path / "etc").mkdir()
    asked: list[str] = []
    lstat = os.lstat

    def noting(path: str) -> os.stat_result:
        asked.append(path)
        return lstat(path)

    monkeypatch.setattr("envstart.system.probe.posix.lstat", noting)
    for _ in range(2):
        assert verdict.probe(str(tmp_path), (), None) == (verdict.USABLE, "", None)
    assert len(set(asked)) == 2
    assert {os.path.dirname(path) for path in asked} == {str(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


def test_fault_6_a_stale_directory_that_the_kernel_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: str) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale NFS file handle")

    (tmp_path / "etc").mkdir()
    monkeypatch.setattr("envstart.system.probe.posix.lstat", stale)
    assert verdict.probe(str(tmp_path), (), None)[0] == verdict.BROKEN


def test_fault_10_a_directory_that_is_not_exported_has_no_answer_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/transcripts/nfs.txt: `touch` of a new file there, which looks first, says Input/output error."""

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("envstart.system.probe.posix.lstat", refused)
    monkeypatch.setattr("envstart.system.probe.posix.open", refused)
    assert verdict.probe(str(tmp_path), (), None)[0] == verdict.EMPTY


def test_a_directory_in_the_way_of_the_probe_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FreeBSD's unlink(2) of a directory says what a server says that maps root, and Linux's EISDIR."""

    def refused(path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    (tmp_path / ".envstart.probe").mkdir()
    monkeypatch.setattr("envstart.system.probe.posix.unlink", refused)
    assert verdict.probe(str(tmp_path), (), None) == (verdict.EMPTY, verdict.IN_THE_WAY, None)
    assert not verdict.may_be_empty("nullfs", verdict.IN_THE_WAY, read_only=False)
