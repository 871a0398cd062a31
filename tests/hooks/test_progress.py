"""Long work can be followed: on a terminal, by ^T, and by -v."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Site, wears
from terminal import Terminal
from toy import Toy

CLOCK = re.compile(r", (\d+) of (\d+) s( \(and \d+ more\))?$")


def on_terminal(site: Site, program: str, *args: str, columns: int = 200, **streams: object) -> Terminal:
    return Terminal(site.world.argv(program, *args), wears(), columns, **streams)


def renewed(terminal: Terminal) -> list[str]:
    return [text for text in terminal.shown if CLOCK.search(text)]


def where(site: Site) -> list[str]:
    return ["nfs", "-w", str(site.workdir), "-j", "jail1"]


# On a terminal


@pytest.mark.parametrize("program", ["hook", "tool"])
def test_case_c5_a_stop_of_a_busy_directory(site: Site, program: str) -> None:
    site.configure(TIMEOUT="120")
    site.preset()
    point = site.point("data")
    words = ["env_stop_nfs", *site.args()] if program == "hook" else ["envstart", "stop", *where(site)]
    with site.world.holder(point) as holder, on_terminal(site, *words) as terminal:
        terminal.until(lambda it: len(renewed(it)) >= 3)
        line = renewed(terminal)[-1]
        assert line.startswith(f"{words[0]}: jail1: waiting for {point}: busy (pid {holder.pid}, "), line
        seconds, limit = map(int, CLOCK.search(line).groups()[:2])  # type: ignore[union-attr]
        assert 2 <= seconds < 60
        assert 90 < limit <= 120
        holder.kill()
        holder.wait()
        assert terminal.end() == 0
    assert "".join(terminal.lines).strip() == "", "the line stays although all is done"
    assert not [line for line in site.world.syslog() if "waiting for" in line]


def test_case_c5_the_line_goes_before_other_output(site: Site) -> None:
    site.configure(TIMEOUT="12")
    site.preset()
    with site.world.holder(site.point("data")), on_terminal(site, "env_stop_nfs", *site.args(), columns=60) as terminal:
        assert terminal.end() == 75
    assert renewed(terminal)
    assert terminal.widest < 60 or terminal.widest == max(len(line) for line in terminal.lines)
    assert all(len(line) < 60 for line in renewed(terminal))
    told = [line.rstrip() for line in terminal.lines if line.strip()]
    assert told[-1].startswith("env_stop_nfs: jail1: cannot unmount")
    assert not [line for line in told if "waiting for" in line]


def test_case_c5_a_start_against_a_dead_server(site: Site) -> None:
    site.world.freeze(SERVER)
    with on_terminal(site, "envstart", "start", *where(site)) as terminal:
        terminal.until(lambda it: len(renewed(it)) >= 2)
        assert "waiting for mount_nfs -o" in renewed(terminal)[0]
        site.world.up(SERVER)
        assert terminal.end() == 0


@pytest.mark.parametrize(
    "words", [["check"], ["recover", "--dry-run"], ["doctor"], ["status"]], ids=lambda words: str(words[0])
)
def test_case_c5_none_where_stderr_is_no_terminal(site: Site, words: list[str]) -> None:
    site.configure(PROBE_TIMEOUT="3")
    site.preset()
    site.world.freeze(SERVER)
    with on_terminal(site, "envstart", *words, *where(site), stderr=subprocess.PIPE) as terminal:
        terminal.end()
        assert terminal.process.stderr is not None
        with terminal.process.stderr as stderr:
            assert b"waiting for" not in stderr.read()
    assert renewed(terminal) == []


def test_case_c5_a_check_of_a_dead_server(site: Site) -> None:
    site.configure(PROBE_TIMEOUT="4")
    site.preset()
    site.world.freeze(SERVER)
    with on_terminal(site, "envstart", "check", *where(site)) as terminal:
        assert terminal.end() == 2
    assert f"waiting for an answer of {site.workdir}/" in renewed(terminal)[0]


def test_case_c5_a_short_start_shows_nothing(site: Site) -> None:
    with on_terminal(site, "env_start_nfs", *site.args()) as terminal:
        assert terminal.end() == 0
    assert len(renewed(terminal)) <= 1
    assert "".join(terminal.lines).strip() == ""


def test_case_c5_none_in_the_background_of_a_shell(site: Site) -> None:
    site.configure(TIMEOUT="6")
    site.preset()
    argv = ["sh", "-c", 'set -m; "$@" & wait $!', "sh", *site.world.argv("env_stop_nfs", *site.args())]
    with site.world.holder(site.point("data")), Terminal(argv, wears(), 200) as terminal:
        assert terminal.end() == 75
    assert renewed(terminal) == []


def test_case_c5_a_recovery_and_what_is_left_of_a_dead_server(site: Site) -> None:
    site.configure(PROBE_TIMEOUT="1")
    site.preset()
    site.world.set(force_seconds=3.0)
    site.world.freeze(SERVER)
    with on_terminal(site, "envstart", "recover", *where(site)) as terminal:
        assert terminal.end() == 0
    assert "waiting for umount -N " in " ".join(renewed(terminal))
    assert site.table == []


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, getfsstat=True) as site:
        cbsd = Toy(site)
        cbsd.add("jail2")
        yield cbsd


def test_case_c5_what_orphans_and_the_doctor_wait_for(cbsd: Toy) -> None:
    site = cbsd.site
    site.configure(TIMEOUT="60")
    site.preset(name="jail2")
    point = site.point("data", "jail2")
    argv = ["-w", str(cbsd.workdir)]
    with site.world.holder(point) as holder, on_terminal(site, "envstart", "orphans", "--stop", *argv) as terminal:
        terminal.until(lambda it: len(renewed(it)) >= 2)
        holder.kill()
        holder.wait()
        assert terminal.end() == 0
    assert f"envstart: jail2: waiting for {point}: busy (pid {holder.pid}, " in " ".join(renewed(terminal))
    site.world.freeze(SERVER)
    with on_terminal(site, "envstart", "doctor", *argv) as terminal:
        terminal.end()
    assert "envstart: waiting for an answer of " in " ".join(renewed(terminal))


# ^T


def test_case_c5_who_asks_is_told_in_a_pause(site: Site) -> None:
    site.preset()
    point = site.point("data")
    with site.world.holder(point) as holder, site.begin("stop") as hook:
        while site.count("umount") < 4:
            time.sleep(0.02)
        os.kill(hook.pid, signal.SIGUSR1)
        assert hook.stderr is not None
        line = hook.stderr.readline()
        assert re.search(rf"s so far; waiting for {point}: busy \(pid {holder.pid}, .*\), \d+ of \d+ s", line), line
        holder.kill()
        holder.wait()
        assert hook.wait() == 0


def test_case_c5_who_asks_while_a_lock_is_waited_for(site: Site) -> None:
    site.preset()
    with site.world.holder(site.point("data")) as holder, site.begin("stop") as first:
        while not site.count("umount"):
            time.sleep(0.02)
        with site.begin("start") as second:
            time.sleep(1)
            os.kill(second.pid, signal.SIGUSR1)
            assert second.stderr is not None
            line = second.stderr.readline()
            assert "waiting for the lock jail1." in line
            assert f"pid {first.pid}, env_stop_nfs works on it" in line
            holder.kill()
            holder.wait()
            assert (first.wait(), second.wait()) == (0, 0)
    assert site.is_all_there()


# -v


def test_case_c5_v_shows_a_command_when_it_begins_and_when_it_ends(site: Site) -> None:
    site.configure(MOUNT_SYSTEM="0", MOUNT_FSTAB="0", ATTEMPTS="1")
    site.world.freeze(SERVER)
    with site.world.popen("env_start_nfs", *site.args(), "-v") as hook:
        assert hook.stderr is not None
        begins = hook.stderr.readline()
        while not begins.startswith("env_start_nfs: jail1: mount_nfs "):
            begins = hook.stderr.readline()
        assert hook.poll() is None, "it is told only when it has ended"
        site.world.up(SERVER)
        assert hook.wait() == 0
        ends = hook.stderr.read()
    command = begins.removeprefix("env_start_nfs: jail1: ").strip()
    assert re.search(rf"^env_start_nfs: jail1: # 0, \d+\.\d\d s: {re.escape(command)}$", ends, re.MULTILINE)
