"""Children that are asked one thing after the other: they answer like one for each question, and hold nobody up."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envstart.engine.locking import Locks
from envstart.errors import NoResponseError, TemporaryError
from envstart.system import filesystem, probe, process, rundir
from envstart.system.host import Host
from envstart.system.log import Report


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path))
    for function in (pid, hang, umask):
        monkeypatch.setattr(filesystem, function.__name__, function, raising=False)
        monkeypatch.setattr(function, "__module__", filesystem.__name__)
    return Host(Report("test"))


def pid() -> int:
    return os.getpid()


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def hang(seconds: float) -> None:
    time.sleep(seconds)


def ask(host: Host, function: Any, *arguments: Any, timeout: float = 5) -> Any:
    return host.complete(host.call_with_timeout(function, *arguments, timeout=timeout))


@pytest.fixture
def first(host: Host) -> int:
    """Return the child that waits for a question now."""
    assert ask(host, filesystem.is_directory, "/") is True
    return int(ask(host, pid))


def test_one_child_answers_them_all(host: Host, first: int) -> None:
    assert ask(host, filesystem.is_directory, "/nothing") is False
    with pytest.raises(FileNotFoundError):
        ask(host, probe.probe, "/nothing", (), None)
    assert host.gather([host.call_with_timeout(pid, timeout=5) for _ in range(4)]) == [first] * 4
    assert first != os.getpid()


def test_what_is_not_known_to_leave_nothing_open_has_a_child_of_its_own(host: Host, first: int) -> None:
    assert ask(host, os.getppid) == os.getpid()
    assert ask(host, os.getpid) != first


def test_a_question_that_hangs_holds_nobody_up(host: Host, first: int) -> None:
    took: list[float] = []

    async def other() -> int:
        began = time.monotonic()
        found: int = await host.call_with_timeout(pid, timeout=30)
        took.append(time.monotonic() - began)
        return found

    async def dead() -> None:
        with pytest.raises(NoResponseError):
            await host.call_with_timeout(hang, 60, timeout=3)

    _, *others = host.gather([dead(), other(), other(), other()])
    assert max(took) < 2
    assert first not in others
    # It is ended, and never asked again.
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert ask(host, pid) in others


def test_one_that_cannot_be_ended_is_left_behind_and_told(
    host: Host, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.Child, "kill", lambda *_: None)
    with pytest.raises(NoResponseError):
        ask(host, hang, 60, timeout=0.1)
    assert host.left_behind() == [f"pid {first} (hang 60)"]
    assert ask(host, pid) != first
    os.kill(first, signal.SIGKILL)


def test_an_interrupted_question_is_not_answered_to_the_next_one(host: Host, first: int) -> None:
    async def fails() -> None:
        await host.call_with_timeout(filesystem.is_directory, "/", timeout=5)
        raise TemporaryError("elsewhere")

    with pytest.raises(TemporaryError, match="elsewhere"):
        host.gather([host.call_with_timeout(hang, 60, timeout=60), fails()])
    assert isinstance(ask(host, pid), int)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_it_holds_no_lock_no_pipe_and_no_terminal(host: Host, tmp_path: Path) -> None:
    # A child of exec(2) inherits these, unlike those of os.pipe().
    read, write = os.pipe2(0)
    with Locks(host, ["one"]):
        ask(host, filesystem.is_directory, "/")
        child = ask(host, pid)
        files = [os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")]
        assert [name for name in files if not name.startswith("pipe:")] == ["/dev/null"] * files.count("/dev/null")
        # Its questions and its answers.
        assert len(files) - files.count("/dev/null") == 2
        assert os.getsid(child) == child
        assert os.readlink(f"/proc/{child}/cwd") == "/"
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_it_ends_with_whoever_asked(host: Host) -> None:
    read, write = os.pipe()
    hook = os.fork()
    if not hook:
        ask(host, filesystem.is_directory, "/")
        os.write(write, str(ask(host, pid)).encode())
        time.sleep(60)
    child = int(os.read(read, 100))
    os.kill(hook, signal.SIGKILL)
    os.waitpid(hook, 0)
    until = time.monotonic() + 10
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _alive(child)
    os.close(read)
    os.close(write)


def _alive(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_was_killed_while_nobody_asked(host: Host, first: int) -> None:
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert ask(host, pid) != first


def test_a_question_that_has_no_room_waits_for_nobody(host: Host, first: int) -> None:
    os.kill(first, signal.SIGSTOP)
    many = frozenset(f"/directory/{number}" for number in range(100_000))
    try:
        assert ask(host, filesystem.resolve, ["/"], many) == [("/", False)]
    finally:
        os.kill(first, signal.SIGKILL)
    assert ask(host, pid) != first


def test_nothing_of_a_question_is_left_for_the_next_one(host: Host, first: int, tmp_path: Path) -> None:
    before = ask(host, umask)
    assert before
    ask(host, filesystem.make_directories, [str(tmp_path / "new")], 0o755)
    assert ask(host, umask) == before
    assert ask(host, pid) == first


def test_in_a_roll_back_each_answers_once(host: Host, first: int) -> None:
    """Those who wait for a question hold two descriptors: a host that is short of them may have no others."""
    before = len(os.listdir("/dev/fd"))

    async def undo() -> None:
        assert await host.call_with_timeout(pid, timeout=5) != first
        found.append(len(os.listdir("/dev/fd")))

    found: list[int] = []
    host.on_failure(undo)
    assert host.roll_back() == []
    assert found == [before - 2]


@pytest.mark.parametrize("free", [2, 3])
def test_without_descriptors_for_questions_it_answers_once(host: Host, free: int) -> None:
    host.signals.arm()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Other tests can have left gaps among the descriptors, and objects that close some when they are collected.
    gc.collect()
    highest = max(map(int, os.listdir("/dev/fd")))
    filled = [os.dup(0)]
    while filled[-1] < highest:
        filled.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + 1 + free, limits[1]))
    try:
        assert ask(host, filesystem.is_directory, "/") is True
        assert ask(host, pid) != ask(host, pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in filled:
            os.close(descriptor)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give this process's signals, which a host takes for itself, back, so that ^C still ends the tests."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
