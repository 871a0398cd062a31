"""Commands: what they are given, how they end, and how long their answers are kept."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alarms import waiting

from envstart.errors import TemporaryError
from envstart.system import process
from envstart.system.host import Host
from envstart.system.log import Report
from envstart.system.loop import WaitUntil


def test_an_answer_that_was_asked_for_before_a_command_ended_is_not_kept(host: Host) -> None:
    async def command() -> None:
        await WaitUntil(time.monotonic() + 0.05)
        host.invalidate()

    def parse(result: Any) -> int:
        return len(asked)

    asked: list[str] = []

    async def ask() -> int:
        asked.append("")
        answer: int = await host.ask(("sleep", "0.1"), parse)
        return answer

    host.gather([ask(), command()])
    assert host.complete(ask()) == 2
    assert host.complete(ask()) == 2


def test_what_a_command_started_in_its_group_ends_with_it(host: Host, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    helper = f"trap '' TERM; sleep 2; echo late >{mark}"
    result = host.complete(host.run(("sh", "-c", f'sh -c "{helper}" & sleep 60'), timeout=0.1))
    assert result.status is None
    assert not result.alive
    time.sleep(2.5)
    assert not mark.exists()


def test_a_command_that_ends_between_two_looks_is_not_over_before_its_group(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mount(8) can end before its helper does, and at any moment."""
    has_ended, looks = process.Child.ended, itertools.cycle((False, True))
    monkeypatch.setattr(process.Child, "ended", lambda child: has_ended(child) and next(looks))
    monkeypatch.setattr(process.Child, "kill", lambda *_: None)
    assert host.complete(host.run(("sh", "-c", "sleep 4 & sleep 0.3"), timeout=0.1)).alive


def test_what_is_being_ended_is_ended_although_another_one_fails(host: Host, tmp_path: Path) -> None:
    """Its time is over, and it has got TERM alone, when the command beside it fails."""
    pid = tmp_path / "pid"
    text = f"trap 'echo $$ > {pid}' TERM; while :; do sleep 0.05; done"

    async def fail() -> None:
        assert await WaitUntil(time.monotonic() + 30, lambda: pid.exists() and pid.read_text() != "")
        raise TemporaryError("it fails")

    with pytest.raises(TemporaryError, match="it fails"):
        host.gather([host.run(["/bin/sh", "-c", text], timeout=0.5), fail()])
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# What a shell sees of itself. SIGXFSZ, which Python ignores, and signals of the C library's own do not count.
_ABOUT = """
read -r _ _ _ _ group session _ < /proc/$$/stat
[ "$group $session" = "$$ $$" ] && echo "leads a session"
while read -r name value; do
    case $name in SigBlk:|SigIgn:) echo "$name $((0x$value & 0x7effffff))" ;; esac
done < /proc/$$/status
readlink /proc/$$/fd/0 /proc/$$/cwd
echo "a word" >&2
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_a_command_is_given(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    result = host.complete(host.run(("sh", "-c", _ABOUT)))
    assert result.out.splitlines() == ["leads a session", "SigBlk: 0", "SigIgn: 0", os.devnull, "/"]
    assert (result.status, result.err) == (0, "a word\n")
    assert "SECRET" not in host.complete(host.run(("env",))).out
    assert host.complete(host.run(("cat",), stdin="given")).out == "given"
    with open(os.devnull) as lock:
        host.lock_fds.add(lock.fileno())
        for hold in (True, False):
            held = host.complete(host.run(("sh", "-c", f"test -e /proc/$$/fd/{lock.fileno()}"), keep_locks=hold)).status
            assert (held == 0) == hold


def test_what_cannot_be_executed(host: Host, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0neither this nor that")
    program.chmod(0o755)
    result = host.complete(host.run((str(program),)))
    assert (result.status, result.words) == (126, f"{program}: Exec format error")


def test_two_who_ask_when_the_time_is_over(host: Host) -> None:
    """The one who waits for the other must let that one come to its end."""
    host.deadline.set(0.0)

    def ask() -> Any:
        return host.ask(("sleep", "5"), lambda result: result.out)

    with waiting(10), pytest.raises(TemporaryError, match="cannot tell what sleep knows"):
        host.gather([ask(), ask()])


def test_a_child_wakes_the_host_that_waits_for_it(signals: None) -> None:
    """A stop asks CBSD by another host than it works by, and has waited for a lock by its own before."""
    first, second = (Host(Report("test"), time.monotonic() - 5) for _ in range(2))
    for one in (first, second, first):
        began = time.monotonic()
        assert one.complete(one.run(("sh", "-c", "sleep 0.3"), timeout=20)).status == 0
        assert time.monotonic() - began < 10
