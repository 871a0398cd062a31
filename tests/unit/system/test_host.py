"""The door to the machine: what it knows is never older than the last command, and what it ends is ended."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import stubs

from envstart.engine import executor, plan
from envstart.engine.locking import Locks
from envstart.errors import NoSpaceError, TemporaryError
from envstart.mounts.table import Entry, Table
from envstart.steps import forced
from envstart.system import guests, os_linux, process_table, rundir
from envstart.system import process as children
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.log import Report
from envstart.system.loop import WaitUntil


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path))
    return Host(Report("test"))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A host takes this process's signals for itself: they are given back, so that ^C still ends the tests."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@contextlib.contextmanager
def waiting(seconds: int) -> Iterator[None]:
    """What spins instead of waiting does not spin for ever."""

    def too_long(*_: object) -> NoReturn:
        raise AssertionError("it waits for ever")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _entry(point: str) -> Entry:
    return Entry("a", point, "nfs")


def test_a_table_that_was_asked_for_before_a_command_ended_is_not_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ["/before", "/after"]

    async def read() -> list[Entry]:
        point = points.pop(0)
        await WaitUntil(time.monotonic() + 0.1)
        return [_entry(point)]

    async def command() -> None:
        await WaitUntil(time.monotonic() + 0.05)
        host.invalidate()

    monkeypatch.setattr(host, "_read_table", read)
    host.gather([host.mounts(), command()])
    assert host.complete(host.mounts()).at("/after")
    assert points == []


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


def test_a_child_that_has_no_group_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envstart.system.process.posix.setsid", lambda: time.sleep(60))
    child, descriptor = children.call(abs, (-1,))
    os.close(descriptor)
    child.kill(9)
    assert os.waitpid(child.pid, 0)[1] == 9


def test_what_a_command_started_in_its_group_ends_with_it(host: Host, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    helper = f"trap '' TERM; sleep 2; echo late >{mark}"
    result = host.complete(host.run(("sh", "-c", f'sh -c "{helper}" & sleep 60'), timeout=0.1))
    assert result.status is None
    assert not result.alive
    time.sleep(2.5)
    assert not mark.exists()


def test_a_process_is_still_itself_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """ntpd(8) at boot: the kernel adds to the time of the boot, which is another one then (sys/kern/kern_proc.c)."""
    import psutil

    pid, step, boot = os.getpid(), 0.0, psutil.boot_time
    began = process_table.start_time(pid)
    create = psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() + step)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create(process) + step)
    for step in (0.0, 3600.5, -1e6):  # noqa: B007 (the two above read it)
        assert process_table.same_process(pid, began)
        assert not process_table.same_process(pid, began + 3)
    assert not process_table.same_process(pid, 0.0)


def test_no_room_for_the_directory_of_locks(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first start of a host whose /var/run is full. Devices are not touched without a lock."""

    def full() -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def devices() -> None:
        async with Locks(host, ["iscsi"]):
            raise AssertionError("two could be at it")

    told: list[str] = []
    vars(host.report)["warn"] = told.append
    monkeypatch.setattr(rundir, "_directory", full)
    with Locks(host, ["jail1"]):
        (line,) = told
        assert line == f"cannot make {rundir.DIR}: No space left on device; going on without a lock"
    with pytest.raises(NoSpaceError):
        host.complete(devices())
    assert NoSpaceError.status == 75


def test_names_of_jails_that_are_lost_on_a_full_disk() -> None:
    """jls(8) does not look whether what it prints arrives (usr.sbin/jls/jls.c)."""
    for out, names in (("name\n", set()), ("name\njail1\nname\n", {"jail1", "name"})):
        assert guests._names(Result(0, out, "", 0.0, False)) == names
    for status, out in ((0, ""), (0, "jail1\n"), (1, "name\njail1\n")):
        with pytest.raises(ValueError, match=r"disk full|jail1"):
            guests._names(Result(status, out, "", 0.0, False))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere syslog(3) does not wait")
def test_a_log_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_linux, "_LOG", str(tmp_path / "log"))
    report = Report("env_start_nfs", "local0")
    # Nobody is there.
    report.warn("lost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, waiting(10):
        log.bind(str(tmp_path / "log"))
        report.about("jail1", "local3")
        report.warn("a\nb \udcff")
        words = rf"<156>\w{{3}} [ \d]\d \d\d:\d\d:\d\d envstart\[{os.getpid()}\]: env_start_nfs: jail1: a\\nb \\udcff"
        assert re.fullmatch(words, log.recv(1000).decode())
        for _ in range(2000):
            report.done("more than there is room for")


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


@pytest.mark.parametrize("size", [0, 1, 4, 5, 8])
def test_a_child_that_is_killed_while_it_answers(host: Host, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    framed = children.framed
    monkeypatch.setattr(children, "framed", lambda answer: framed(answer)[:size])
    with pytest.raises(TemporaryError, match="a child ended without an answer: abs -1"):
        host.complete(host.call_with_timeout(abs, -1, timeout=5))


def test_a_child_needs_no_more_descriptors_than_its_pipe(host: Host) -> None:
    """What is short of them can still look at what it has mounted, and take it back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The wake-up descriptors of signals.py come first.
    host.signals.arm()
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0], 64) + 8, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for descriptor in (taken.pop(), taken.pop()):
            os.close(descriptor)
        assert host.complete(host.call_with_timeout(os.path.isdir, "/", timeout=5)) is True
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_one_reading_for_all_whose_commands_have_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table of 10,000 mounts each takes as long as a mount."""
    readings = []

    async def read() -> list[Entry]:
        readings.append(1)
        return [_entry("/mnt")]

    async def command() -> None:
        host.invalidate()
        await host.stack("/mnt")

    monkeypatch.setattr(host, "_read_table", read)
    host.gather([command() for _ in range(4)])
    assert len(readings) == 1


def test_two_who_ask_when_the_time_is_over(host: Host) -> None:
    """The one who waits for the other must let that one come to its end."""
    host.deadline.set(0.0)

    def ask() -> Any:
        return host.ask(("sleep", "5"), lambda result: result.out)

    with waiting(10), pytest.raises(TemporaryError, match="cannot tell what sleep knows"):
        host.gather([ask(), ask()])


def test_a_stop_looks_again_after_it_has_touched_a_directory(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody's unmount is under way, which then fails, the table leaves the mount out."""
    point = str(tmp_path)
    tables = [[], [_entry(point)]]
    seen = []

    async def read() -> list[Entry]:
        return tables.pop(0) if len(tables) > 1 else tables[0]

    class Look(plan.Step):
        name, source, fstype = "data", "a", "nfs"

        def needs(self, other: plan.Step) -> bool:
            return False

        async def stop(self, host: Host) -> None:
            seen.append([str(entry) for entry in await host.stack(point)])

    step = Look()
    step.point = point
    host.platform = "freebsd"
    monkeypatch.setattr(host, "_read_table", read)
    executor.stop(plan.Plan("nfs", stubs.jail(), stubs.configured(tmp_path, "nfs", NFS_SERVER="a"), [step]), host)
    assert seen == [["a (nfs)"]]


@pytest.mark.parametrize(("platform", "done"), [("linux", True), ("freebsd", False)])
def test_a_forced_unmount_that_waits_for_the_server(platform: str, done: bool) -> None:
    """Linux has taken it out of the table by then, and says good-bye to the server; FreeBSD leaves out of the table
    what it still works on (docs/freebsd.md#mount-table)."""
    entry = Entry("nas:/a", "/mnt/a", "nfs")

    class Waiting(stubs.Stub):
        async def run(self, argv: Sequence[str], **_: object) -> Result:
            self._table = Table([Entry("/dev/ada0p2", "/", "ufs")])
            return Result(None, "", "", 5.0, alive=True)

    host = Waiting(mounts=[entry])
    host.platform = platform
    host.unresponsive = {"/mnt/a"}
    with contextlib.nullcontext() if done else pytest.raises(TemporaryError, match="still works on it"):
        stubs.done(forced.unmount(host.host, entry, unresponsive=True, alone=True))
    assert host.unresponsive == (set() if done else {"/mnt/a"})


def test_a_child_wakes_the_host_that_waits_for_it() -> None:
    """A stop asks CBSD by another host than it works by, and has waited for a lock by its own before."""
    first, second = (Host(Report("test"), time.monotonic() - 5) for _ in range(2))
    for one in (first, second, first):
        began = time.monotonic()
        assert one.complete(one.run(("sh", "-c", "sleep 0.3"), timeout=20)).status == 0
        assert time.monotonic() - began < 10
