"""Descriptors, limits, directory and variables that a caller can hand down to a hook that runs as root.

More of it is in test_faults_process.py.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import real
from cbsd import Site, wears
from real import HOOKS, HangingFuse, Namespace, Workdir, program

HERE = Path(__file__).resolve().parents[1]
real_mounts = pytest.mark.skipif(bool(real.why_not()), reason=real.why_not())
needs_fuse = pytest.mark.skipif(bool(real.why_not() or real.why_no_fuse()), reason=real.why_not() or real.why_no_fuse())


@pytest.fixture
def cbsd(namespace: Namespace) -> Workdir:
    return Workdir(namespace)


def in_shell(cbsd: Workdir, text: str, *variables: str, verb: str = "start") -> subprocess.CompletedProcess[str]:
    """Run ``text`` in the namespace, with ``$hook`` as the hook and its arguments."""
    command = shlex.join([str(HOOKS / f"env_{verb}_nullfs"), *cbsd.argv()])
    argv = ["env", "-i", *variables, "/bin/sh", "-c", text.replace("$hook", command)]
    process = cbsd.namespace.popen(argv)
    out, err = process.communicate(timeout=real.PATIENCE)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


@real_mounts
@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "02", "12", "012"])
def test_standard_descriptors_are_closed(cbsd: Workdir, closed: str) -> None:
    """A file that is opened later must not become one of them, and take what is meant for the terminal."""
    redirections = " ".join(f"{number}>&-" for number in closed)
    for verb in ("start", "start", "stop"):
        ended = in_shell(cbsd, f"exec $hook {redirections}", verb=verb)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert cbsd.namespace.points() == ([] if verb == "stop" else cbsd.expected())
    for path in (cbsd.path / "etc").iterdir():
        assert "env_start" not in path.read_text()


@real_mounts
def test_descriptors_that_are_open(cbsd: Workdir) -> None:
    """The mount helper of a FUSE file system lives on, and would keep a lock, or a pipe, of the caller's."""
    seen = cbsd.namespace.top / "seen"
    cbsd.namespace.in_front("mount", f'ls -l /proc/$$/fd >> "{seen}"')
    ended = in_shell(cbsd, "exec 7</etc/passwd 9>&2; exec $hook")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert cbsd.namespace.points() == cbsd.expected()
    lines = seen.read_text().splitlines()
    assert any(line.endswith(" 0 -> /dev/null") for line in lines)
    assert not [line for line in lines if "passwd" in line or "pipe:" in line]


@pytest.mark.first(6)
@real_mounts
@pytest.mark.parametrize("limit", range(3, 20))
def test_few_descriptors(cbsd: Workdir, limit: int) -> None:
    """Below six or so Python itself does not start; with a few more there may be none left to take something back."""
    ended = in_shell(cbsd, f"ulimit -n {limit}; exec $hook")
    assert "Traceback" not in ended.stderr or "envstart" not in ended.stderr
    assert "a bug in envstart" not in ended.stderr
    left = [] if ended.returncode else cbsd.expected()
    assert cbsd.namespace.points() == left or "could not all be taken back" in ended.stderr.splitlines()[-1], ended
    cbsd.start()
    assert cbsd.namespace.points() == cbsd.expected()


@real_mounts
def test_enough_descriptors(cbsd: Workdir) -> None:
    """The test above is about a limit that matters."""
    assert in_shell(cbsd, "ulimit -n 40; exec $hook").returncode == 0
    assert cbsd.namespace.points() == cbsd.expected()


FORK_FAILS = """
import errno, os, sys
sys.path.insert(0, {here!r})
from sim import process, shim
fork, left = os.fork, {count}
def limited():
    global left
    left -= 1
    if left < 0 and {when}:
        raise {error}
    return fork()
os.fork = shim.POSIX.fork = limited
sys.exit(process.main(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""


def with_fork_failing(site: Site, count: int, when: str, error: str) -> subprocess.CompletedProcess[str]:
    """Start, with what fork(2) raises after it has worked ``count`` times."""
    code = FORK_FAILS.format(here=str(HERE), count=count, when=when, error=error)
    argv = [sys.executable, "-I", "-c", code, *site.world.argv("env_start_nfs", *site.args())[3:]]
    return subprocess.run(argv, env=wears(), capture_output=True, text=True, timeout=60)


@pytest.mark.first(4)
@pytest.mark.parametrize("count", range(0, 16, 2))
def test_no_more_processes(tmp_path: Path, count: int) -> None:
    """fork(2) fails when a limit of the jail, or the table of processes, is full.

    RLIMIT_NPROC is not held against root.
    """
    with Site(tmp_path) as site:
        ended = with_fork_failing(site, count, "True", "BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))")
        assert ended.returncode in (0, 75), ended.stderr
        assert "Traceback" not in ended.stderr
        if ended.returncode:
            assert "Resource temporarily unavailable" in ended.stderr.splitlines()[-1]
        # What a hook has mounted it cannot take away without a process; it says so then.
        kept = "could not all be taken back" in ended.stderr
        assert site.table == site.wanted() if not ended.returncode else (kept or site.table == [])
        assert site.start().returncode == 0
        assert site.table == site.wanted()


@pytest.mark.first(5)
@pytest.mark.parametrize("count", range(14))
def test_no_memory_for_a_moment(tmp_path: Path, count: int) -> None:
    """Whatever goes wrong, and however little it was expected: what was done is taken back."""
    with Site(tmp_path) as site:
        site.preset("fstab")
        ended = with_fork_failing(site, count, "left == -1", "MemoryError")
        if ended.returncode:
            assert ended.returncode == 75, ended.stderr
            assert "there is no memory left" in ended.stderr.splitlines()[-1]
            assert site.table == [site.row("fstab")] or "could not all be taken back" in ended.stderr
        assert site.start().returncode == 0
        assert site.table == site.wanted()


@real_mounts
def test_little_memory(cbsd: Workdir) -> None:
    """Of each limit from none that Python itself can begin with, to one that is enough."""
    told = set()
    for kilobytes in range(12000, 64000, 1500):
        ended = in_shell(cbsd, f"ulimit -v {kilobytes}; exec $hook")
        if "Traceback" in ended.stderr or ended.returncode not in (0, 75):
            # It did not come to ours.
            assert "importlib" in ended.stderr or ended.returncode in (127, 126, 139, 1), ended
            assert cbsd.namespace.points() == []
            continue
        told.add(ended.returncode)
        kept = "could not all be taken back" in ended.stderr
        assert kept or cbsd.namespace.points() == ([] if ended.returncode else cbsd.expected()), ended
        if ended.returncode == 0:
            break
        cbsd.stop()
    assert 0 in told


@real_mounts
@pytest.mark.parametrize("limit", ["-f 0", "-c 0", "-s 256", "-l 0", "-t 5"])
def test_other_limits(cbsd: Workdir, limit: str) -> None:
    for verb in ("start", "start", "stop"):
        assert in_shell(cbsd, f"ulimit {limit}; exec $hook", verb=verb).returncode == 0
        assert cbsd.namespace.points() == ([] if verb == "stop" else cbsd.expected())


@needs_fuse
def test_the_working_directory_is_on_a_dead_mount(cbsd: Workdir) -> None:
    """sh(1) itself looks at it before it reads a line, to hold it against PWD; so PWD is not set.

    CBSD's own directory is /var/empty, and a hook that pip has installed begins with Python.
    """
    point = cbsd.namespace.top / "dead"
    point.mkdir()
    fuse = HangingFuse(cbsd.namespace, point)
    command = shlex.join(["env", "-u", "PWD", str(HOOKS / "env_start_nullfs"), *cbsd.argv()])
    argv = ["sh", "-c", f"cd {point} && echo there && read -r go && exec {command}"]
    process = cbsd.namespace.popen(argv, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    fuse.tell("hang")
    try:
        _, err = process.communicate("go\n", timeout=30)
    finally:
        fuse.abort()
    assert (process.returncode, err) == (0, "")
    assert [each for each in cbsd.namespace.points() if each != "dead"] == cbsd.expected()


@real_mounts
def test_variables_that_make_an_interpreter_run_something(cbsd: Workdir) -> None:
    """Those of sh(1), of the dynamic linker and of Python. sudo(8) takes most of them away, but not with every rule."""
    top = cbsd.namespace.top
    program(top / "evil", f': > "{top}/taken"\n')
    for name in ("sitecustomize.py", "usercustomize.py", "os.py", "envstart.py"):
        (top / name).write_text(f"open({str(top / 'taken')!r}, 'w')\n")
    variables = [
        f"ENV={top}/evil",
        f"BASH_ENV={top}/evil",
        f"PS4=$({top}/evil)",
        "SHELLOPTS=xtrace",
        f"BASH_FUNC_realpath%%=() {{ {top}/evil; }}",
        f"BASH_FUNC_exec%%=() {{ {top}/evil; }}",
        "IFS=/",
        f"CDPATH={top}",
        f"PATH={top}",
        f"PYTHONPATH={top}",
        f"PYTHONSTARTUP={top}/sitecustomize.py",
        f"PYTHONHOME={top}",
        f"PYTHONUSERBASE={top}",
        "PYTHONINSPECT=1",
        f"PYTHONBREAKPOINT={top}/evil",
        f"PYTHONPYCACHEPREFIX={top}/pycache",
        f"PYTHONWARNINGS=error::{'x' * 10}",
        f"LD_LIBRARY_PATH={top}",
        f"TMPDIR={top}/no",
        f"LIBMOUNT_FSTAB={top}/evil",
        f"HOME={top}",
    ]
    for verb in ("start", "stop"):
        ended = in_shell(cbsd, "exec $hook", *variables, verb=verb)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert cbsd.namespace.points() == ([] if verb == "stop" else cbsd.expected())
    assert not (top / "taken").exists()
    assert not (top / "pycache").exists()


def test_a_hundred_megabytes_of_output(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.world.fault("mount_nfs", "flood", megabytes=100)
        command = shlex.join(site.world.argv("env_start_nfs", *site.args()))
        limited = ["/bin/sh", "-c", f"ulimit -v 600000; exec {command}"]
        ended = subprocess.run(limited, capture_output=True, text=True, timeout=60, env=wears())
        assert ended.returncode == 0, ended.stderr
        assert len(ended.stderr) < 2000
        assert site.table == site.wanted()
