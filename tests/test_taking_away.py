"""Taking away is never stricter than bringing: a stop, a removal with a configuration that cannot be read, or none."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy
from cbsd import NFS4, SERVER, Ended, Site, last_line
from toy import Toy

# What is at work on an environment is told by the command lines of the whole host: those of other tests are among them.
pytestmark = pytest.mark.alone

SPOILT: dict[str, Callable[[Path], object]] = {
    "another section": lambda conf: conf.write_text(conf.read_text() + '[other]\nTIMEOUT="ten"\nNFS_SERVR="x"\n'),
    "its own section": lambda conf: conf.write_text(conf.read_text() + '[env1]\nNFS_SERVER="not a server"\n'),
    "a general key": lambda conf: conf.write_text(conf.read_text() + 'TIMEOUT="ten"\n'),
    "a quote that is not closed": lambda conf: conf.write_text(conf.read_text() + '[other]\nNFS_SERVER="x\n[env1]\n'),
    "another server": lambda conf: conf.write_text(conf.read_text().replace(SERVER, "172.16.0.9")),
    "an empty file": lambda conf: conf.write_text(""),
    "no file": lambda conf: conf.unlink(),
    "somebody else's": lambda conf: conf.chmod(0o666),
    "no text": lambda conf: conf.write_bytes(b"\xff\x00\n" * 99),
}


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, NFS4, getfsstat=True) as site:
        yield Toy(site)


def until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def at_rest(cbsd: Toy) -> None:
    until(lambda: not toy.processes(cbsd.site), "something goes on for ever")


def hand(cbsd: Toy, *words: str) -> Ended:
    return cbsd.site.hand(*words, "-w", str(cbsd.workdir))


def held(cbsd: Toy, name: str = "env1") -> set[Path]:
    """The files on the server, without what CBSD itself writes in a stop or a removal."""
    own = [cbsd.site.held("data", name), cbsd.site.held("fstab", name), cbsd.site.held("system", name) / "remove.d"]
    return {path for top in own for path in top.rglob("*") if path.is_file() or path.is_symlink()}


def running(cbsd: Toy, emulator: str = "jail", baserw: int = 0) -> str:
    """A jail or VM that runs, with the links of ``envstart install``; the letter of its commands."""
    cbsd.add("env1", emulator, baserw=baserw)
    letter = {"jail": "j", "bhyve": "b"}[emulator]
    assert cbsd.run(f"{letter}start", "env1").returncode == 0
    assert hand(cbsd, "install", "env1").returncode == 0
    for number in range(40):
        (cbsd.held("data", "env1") / f"file{number}").write_text("kept\n")
    return letter


def record(cbsd: Toy) -> list[Path]:
    return sorted((cbsd.site.world.path / "var" / "db" / "envstart").glob("*.record"))


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize(("emulator", "baserw"), [("jail", 0), ("jail", 1), ("bhyve", 0)])
def test_case_a1_a_removal_spares_what_is_remote(cbsd: Toy, emulator: str, baserw: int, spoilt: str) -> None:
    letter = running(cbsd, emulator, baserw)
    before = held(cbsd)
    SPOILT[spoilt](cbsd.site.conf)
    ended = cbsd.run(f"{letter}remove", "env1")
    assert ended.returncode == 0, ended
    at_rest(cbsd)
    assert held(cbsd) == before
    assert (cbsd.site.table, cbsd.row("env1"), cbsd.runs("env1")) == ([], {}, False)
    assert not cbsd.site.point("data", "env1").exists()
    assert record(cbsd) == []


@pytest.mark.parametrize("spoilt", SPOILT)
def test_case_a1_a_stop_and_the_reaper(cbsd: Toy, spoilt: str) -> None:
    assert cbsd.site.start().returncode == 0
    SPOILT[spoilt](cbsd.site.conf)
    assert cbsd.site.start().returncode != 0 or spoilt == "a general key"
    ended = cbsd.site.stop()
    assert (ended.returncode, cbsd.site.table) == (0, []), ended
    cbsd.site.preset()
    ended = hand(cbsd, "orphans", "--stop", "--grace", "0")
    assert cbsd.site.table == [], ended
