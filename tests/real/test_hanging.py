"""A file system that really stops answering: who waits is in the kernel, and no signal ends it (docs/faults.md, 3)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pace import in_time
from real import ROOT, Ended, HangingFuse, Namespace, Workdir, ended, until, why_no_fuse, why_not

_WHY_NOT = why_not() or why_no_fuse()
pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)

_TIMEOUT = 4


@pytest.fixture
def server(namespace: Namespace) -> Path:
    """Where the file system that can hang is mounted; every directory is in it."""
    directory = namespace.top / "server"
    directory.mkdir()
    return directory


@pytest.fixture
def fuse(namespace: Namespace, server: Path) -> Iterator[HangingFuse]:
    fuse = HangingFuse(namespace, server)
    try:
        yield fuse
    finally:
        # Before the namespace is closed, which waits for the processes that hang.
        fuse.abort()


@pytest.fixture
def cbsd(namespace: Namespace, server: Path) -> Workdir:
    """j1 has its data on the server, j2 has nothing there."""
    cbsd = Workdir(namespace)
    cbsd.add("j2")
    configure(cbsd, server)
    return cbsd


def configure(cbsd: Workdir, server: Path, **keys: object) -> None:
    cbsd.configure(f'[j1]\nNULLFS_DATA_DIR="{server}/data"\n', TIMEOUT=_TIMEOUT, PROBE_TIMEOUT=1, **keys)


def is_in_time(ended: Ended, waiting: float = 0.0) -> bool:
    """Tell whether it took no longer than it had to wait, and a second, or what that is on a busy machine."""
    return in_time(time.monotonic() - ended.seconds, 1 if waiting else 2, waiting=waiting)


def state(pid: int) -> str:
    """Its state letter, as in ps(1)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def left_behind(result: Ended) -> list[int]:
    """Return the processes that the last line names."""
    return [int(pid) for pid in re.findall(r"pid (\d+)", result.last)]


def check_in_time(result: Ended) -> None:
    assert result.status not in (0, os.EX_SOFTWARE), result
    assert is_in_time(result, _TIMEOUT), result


def test_what_waits_for_it_survives_kill(namespace: Namespace, server: Path, fuse: HangingFuse) -> None:
    """The other tests would prove nothing without this."""
    assert namespace.run("ls", str(server / "any/thing")) == "file\n"
    fuse.tell("hang")
    process = namespace.popen(["ls", str(server)])
    until(lambda: any(word in Path(f"/proc/{process.pid}/wchan").read_text() for word in ("fuse", "wait_answer")))
    # Not before the daemon has taken the request: until then a signal can still call it back.
    time.sleep(0.3)
    process.kill()
    until(lambda: state(process.pid) == "D")
    time.sleep(0.3)
    assert process.poll() is None
    fuse.abort()
    assert process.wait(5) == -signal.SIGKILL


def test_a_mount_command_that_nothing_ends(cbsd: Workdir, fuse: HangingFuse) -> None:
    fuse.tell("hang")
    # To its end and to the end of its output: the command that is left behind keeps no descriptor of it.
    result = cbsd.run("start")
    check_in_time(result)
    assert str(cbsd.point("data")) in result.last
    (pid,) = left_behind(result)
    assert state(pid) == "D"
    assert b"mount\0--bind" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert cbsd.namespace.points() == ["server"]
    assert not [name for name in descriptors(pid) if "pipe" in name]


def test_the_file_of_a_thin_jail_lies_on_it(cbsd: Workdir, server: Path, fuse: HangingFuse) -> None:
    """It is opened before there is anything else to do."""
    configure(cbsd, server, THIN_FSTAB=server / "thin" / "{name}.fstab")
    fuse.tell("hang")
    for verb in ("start", "stop"):
        result = cbsd.run(verb)
        assert result.status == os.EX_TEMPFAIL
        check_in_time(result)
        assert f"cannot read {server}/thin/j1.fstab: no answer in 1 s" in result.last
        (pid,) = left_behind(result)
        assert state(pid) == "D"


def descriptors(pid: int) -> list[str]:
    directory = Path(f"/proc/{pid}/fd")
    return [os.readlink(directory / name) for name in os.listdir(directory)]


def test_the_lock_is_free_afterwards(cbsd: Workdir, fuse: HangingFuse) -> None:
    fuse.tell("hang")
    first, second = cbsd.run("start"), cbsd.run("start")
    check_in_time(second)
    assert "cannot lock" not in second.err
    assert left_behind(first) != left_behind(second)
    cbsd.start(name="j2")
    assert cbsd.namespace.points() == sorted(["server", *cbsd.expected(name="j2")])


def test_all_is_well_once_the_server_is_gone_for_good(cbsd: Workdir, fuse: HangingFuse) -> None:
    fuse.tell("hang")
    (pid,) = left_behind(cbsd.run("start"))
    fuse.abort()
    until(lambda: pid not in cbsd.namespace.pids())
    cbsd.configure()
    cbsd.start()
    assert [point for point in cbsd.namespace.points() if point != "server"] == cbsd.expected()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_a_mount_command_hangs(cbsd: Workdir, fuse: HangingFuse, number: signal.Signals) -> None:
    configure(cbsd, cbsd.namespace.top / "server", NULLFS_SYSTEM_DIR=cbsd.store / "system")
    fuse.tell("hang")
    process, began = cbsd.begin("start"), time.monotonic()
    until(lambda: len(cbsd.namespace.points()) == 3 and hanging(cbsd) != [])
    process.send_signal(number)
    result = ended(process, began)
    assert result.status == 128 + number
    assert is_in_time(result, _TIMEOUT)
    assert left_behind(result) == hanging(cbsd)
    assert cbsd.namespace.points() == ["server"]


def hanging(cbsd: Workdir) -> list[int]:
    """Return the mount commands that there are."""
    found = []
    for pid in cbsd.namespace.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text() == "mount\n":
                found.append(pid)
    return found


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_the_mount_point_lies_on_it(cbsd: Workdir, server: Path, fuse: HangingFuse, verb: str) -> None:
    """It could be a link to what is mounted: what cannot be told is an error for stop too, never "not mounted"."""
    fuse.tell("hang")
    words = cbsd.argv("bstart")
    words[1] = f"{server}/j1-data"
    result = cbsd.run(verb, argv=words)
    check_in_time(result)
    assert words[1] in result.last
    assert cbsd.namespace.points() == ["server"]


@pytest.fixture(params=["below the mount", "the mount itself"])
def mounted(request: pytest.FixtureRequest, cbsd: Workdir, server: Path) -> Iterator[HangingFuse]:
    """j1 is started, and then the file system with its data stops answering."""
    itself = request.param == "the mount itself"
    if itself:
        (server / "data/j1").mkdir(parents=True)
    fuse = HangingFuse(cbsd.namespace, server / "data/j1" if itself else server)
    try:
        assert cbsd.run("start").status == 0
        fuse.tell("hang")
        yield fuse
    finally:
        fuse.abort()


@pytest.mark.usefixtures("mounted")
def test_start_names_what_is_mounted_and_gives_no_answer(cbsd: Workdir) -> None:
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    check_in_time(result)
    assert str(cbsd.point("data")) in result.last
    # An environment whose server hangs may be running: what is not dead stays as it is.
    assert [mount for mount in before if mount.fstype != "fuse.hanging"] == [
        mount for mount in cbsd.namespace.mounts() if mount.fstype != "fuse.hanging"
    ]


@pytest.mark.usefixtures("mounted")
def test_stop_without_force_changes_nothing(cbsd: Workdir) -> None:
    before = cbsd.namespace.mounts()
    result = cbsd.run("stop")
    check_in_time(result)
    assert str(cbsd.point("data")) in result.last
    assert "STOP_FORCE=1" in result.last
    assert cbsd.namespace.mounts() == before


@pytest.mark.usefixtures("mounted")
def test_stop_with_force_takes_it_away(cbsd: Workdir, server: Path) -> None:
    configure(cbsd, server, STOP_FORCE=1)
    result = cbsd.run("stop")
    assert result.status == 0, result
    assert is_in_time(result, _TIMEOUT)
    assert str(cbsd.point("data")) in result.err
    assert not set(cbsd.expected()) & set(cbsd.namespace.points())


@pytest.mark.usefixtures("mounted")
def test_another_environment_is_not_held_up(cbsd: Workdir) -> None:
    assert is_in_time(cbsd.start(name="j2"))
    assert is_in_time(cbsd.stop(name="j2"))


@pytest.mark.usefixtures("mounted")
@pytest.mark.parametrize("force", [0, 1], ids=["", "by force"])
@pytest.mark.parametrize("verb", ["start", "stop"])
def test_case_c1_what_is_said_of_a_mount_that_hangs(cbsd: Workdir, server: Path, verb: str, force: int) -> None:
    configure(cbsd, server, STOP_FORCE=force)
    before = cbsd.namespace.mounts()
    said = cbsd.run(verb, argv=[*cbsd.argv(), "-n"])
    assert is_in_time(said, 2)
    assert cbsd.namespace.mounts() == before
    (line,) = [line for line in said.out.splitlines() if line.startswith("# data: ") and "no answer" in line]
    assert "nothing to do" not in line
    run = cbsd.run(verb, argv=[*cbsd.argv(), "-v"])
    # Whether it answers by the time of the mount nobody can tell.
    assert said.status in ((run.status,) if verb == "stop" else (os.EX_OK, run.status))
    told = [line for line in said.out.splitlines() if not line.startswith("#")]
    assert all(line in run.err for line in told if line.startswith("umount ")), (told, run.err)
    assert bool(told) == (said.status == os.EX_OK)


# A file system that others use too is silent for a while.

_SILENCE = 5.0


def share(cbsd: Workdir, server: Path, **keys: object) -> None:
    """All directories lie on the server, where everything is a directory, the file with the lease too."""
    keys = {"TIMEOUT": 20, "PROBE_TIMEOUT": 1, "LEASE": "ignore", "NULLFS_ROOT_DIR": server, **keys}
    cbsd.configure("", **keys)


@pytest.fixture
def shared(cbsd: Workdir, server: Path, fuse: HangingFuse) -> HangingFuse:
    """Two jails have all of their directories there, and run."""
    share(cbsd, server)
    for name in ("j1", "j2"):
        assert cbsd.run("start", name=name).status == 0
    return fuse


def tool(cbsd: Workdir, *words: str) -> Ended:
    began = time.monotonic()
    argv = [sys.executable, "-m", "envstart", *words, "nullfs", "-w", str(cbsd.path), "-j", "j1"]
    return ended(cbsd.namespace.popen(["env", f"PYTHONPATH={ROOT}", *argv]), began)


def act(cbsd: Workdir, server: Path, what: str) -> Ended:
    if what == "stop by force":
        share(cbsd, server, STOP_FORCE=1)
    if what in ("check", "recover"):
        return tool(cbsd, what, *(["--running"] if what == "recover" else []))
    return cbsd.run(what.split()[0])


@pytest.mark.parametrize(
    ("what", "status"), [("start", 0), ("stop", 75), ("stop by force", 0), ("check", 2), ("recover", 75)]
)
def test_case_a3_what_others_share_is_never_forced(
    cbsd: Workdir, server: Path, shared: HangingFuse, what: str, status: int
) -> None:
    """By `umount -f` a bind mount would end the connection of the whole file system, for all and for good."""
    shared.tell("hang")
    silence = threading.Timer(_SILENCE, shared.tell, ("answer",))
    silence.start()
    result = act(cbsd, server, what)
    silence.join()
    assert result.status == status, result
    if what in ("start", "recover"):
        assert f"on {server}" in result.err, "the file system is not named"
    assert cbsd.namespace.run("ls", str(server / "any/thing")) == "file\n"
    for name in ("j1", "j2"):
        if name == "j2" or what != "stop by force":
            assert cbsd.namespace.run("ls", str(cbsd.point("data", name) / "etc")) == "file\n"
    share(cbsd, server)
    for verb in ("start", "stop"):
        for name in ("j1", "j2"):
            assert cbsd.run(verb, name=name).status == 0
    assert cbsd.namespace.points() == ["server"]


def test_case_a3_a_start_ends_at_its_time_and_names_the_file_system(
    cbsd: Workdir, server: Path, shared: HangingFuse
) -> None:
    share(cbsd, server, TIMEOUT=_TIMEOUT)
    before = cbsd.namespace.mounts()
    shared.tell("hang")
    result = cbsd.run("start")
    assert result.status == os.EX_TEMPFAIL
    check_in_time(result)
    assert f"(fuse.hanging) on {server} gives no answer" in result.last
    assert cbsd.namespace.mounts() == before
    shared.tell("answer")
    assert cbsd.run("start").status == 0
