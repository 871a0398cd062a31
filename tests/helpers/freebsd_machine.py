"""A FreeBSD that the tests of tests/real/test_freebsd.py run on: this host, or, elsewhere, the simulated one.

Whatever such a test makes carries NAME, or lies in the machine's ``top``: by that sweep() finds it again, also after a
run that was killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

ROOT = Path(__file__).resolve().parents[2]
# The jail, the pool, the HAST resource, the part of the target's name, the bridge.
NAME = "envstarttest"
TOP = Path(os.path.realpath("/var/tmp")) / NAME
# Longer than anything takes on a slow guest: what runs into it hangs.
PATIENCE = 300.0
RUNDIR, RECORDS = "/var/run/envstart", "/var/db/envstart"
VARIABLES = {"PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin", "LC_ALL": "C", "HOME": "/root"}

Row = tuple[str, str, str]


class Ended(NamedTuple):
    """How a command ended. ``out``: what it wrote, to either stream."""

    status: int
    out: str


class Machine(Protocol):
    """What a test asks of either FreeBSD."""

    top: Path

    def run(self, *argv: str | Path) -> Ended:
        """Run a system command, or a hook or the tool by its path in hooks/, to its end."""
        ...

    def begin(self, *argv: str | Path) -> subprocess.Popen[str]:
        """Begin the same beside the test."""
        ...

    def real(self, path: str | Path) -> Path:
        """Return where the test finds the file that a process of the machine sees at this path."""
        ...

    def exists(self, path: str | Path) -> bool:
        """Tell whether a process of the machine sees anything at this path."""
        ...

    def lacks(self, *needs: str) -> str:
        """Tell which of these kernel modules and programs the machine has not; "" if it has all."""
        ...


class Host:
    """This host, a FreeBSD, as root."""

    def __init__(self) -> None:
        self.top = TOP
        self.top.mkdir(mode=0o755, parents=True, exist_ok=True)

    def begin(self, *argv: str | Path) -> subprocess.Popen[str]:
        words = [os.fspath(word) for word in argv]
        # A file: what a daemon that is left behind holds open would keep a pipe from ending.
        out = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, env=VARIABLES, cwd="/"
        )
        process.stdout = out
        return process

    def run(self, *argv: str | Path) -> Ended:
        process = self.begin(*argv)
        assert process.stdout is not None
        with process.stdout as out:
            try:
                status = process.wait(PATIENCE)
            except BaseException:
                # It must not go on while what it has done is taken back.
                process.kill()
                raise
            out.seek(0)
            return Ended(status, out.read())

    def real(self, path: str | Path) -> Path:
        return Path(path)

    def exists(self, path: str | Path) -> bool:
        return os.path.exists(path)

    def lacks(self, *needs: str) -> str:
        for need in needs:
            kind, _, name = need.rpartition(":")
            lacking = {"kernel": self._module, "feature": self._feature, "idle": self._idle, "no": self._file}
            if why := lacking.get(kind, self._program)(name):
                return why
        return ""

    def _module(self, name: str) -> str:
        """Load a module, given as NAME or NAME=FILE. It stays: others could use it by the time a test is over."""
        module, _, file = name.partition("=")
        failed = self.run("kldstat", "-q", "-m", module).status and self.run("kldload", "-n", file or module).status
        return f"no kernel module {module}" if failed else ""

    def _feature(self, name: str) -> str:
        return "" if self.run("sysctl", "-n", f"kern.features.{name}").out.strip() == "1" else f"no kernel with {name}"

    def _idle(self, daemon: str) -> str:
        serves = self.run("pgrep", "-x", daemon).status == 0
        return f"{daemon}(8) runs already, and serves somebody" if serves else ""

    def _file(self, path: str) -> str:
        return f"there is a {path}, which is somebody's" if os.path.exists(path) else ""

    def _program(self, name: str) -> str:
        return "" if shutil.which(name, path=VARIABLES["PATH"]) else f"no {name}"


def why_not() -> str:
    """Tell why this host is no FreeBSD to test on; "" if it is one."""
    if not sys.platform.startswith("freebsd"):
        return "not FreeBSD"
    if os.geteuid() != 0:
        return "not root"
    jailed = subprocess.run(["/sbin/sysctl", "-n", "security.jail.jailed"], capture_output=True, text=True)
    return "this is a jail" if jailed.stdout.strip() == "1" else ""


# What there is.


def told(machine: Machine, *argv: str | Path) -> str:
    """Run a command that must succeed, and return what it says."""
    ended = machine.run(*argv)
    assert ended.status == 0, (argv, ended)
    return ended.out


def table(machine: Machine) -> list[Row]:
    """Return the mounts on or below ``top``, oldest first: source, mount point, type."""
    rows = json.loads(told(machine, "mount", "--libxo", "json"))["mount"]["mounted"]
    found = [(row["special"], row["node"], row["fstype"]) for row in rows]
    return [row for row in found if row[1].startswith(f"{machine.top}/")]


def disks_of(machine: Machine) -> list[str]:
    """Return the disks whose image lies in ``top``: md0 ..."""
    # Where there is no disk at all, it says nothing, and may call that a failure.
    rows = [line.split("\t") for line in machine.run("mdconfig", "-l", "-v").out.splitlines()]
    return [row[0].strip() for row in rows if len(row) > 3 and row[3].startswith(f"{machine.top}/")]


def sessions(machine: Machine) -> dict[str, str]:
    """Return the state of each iSCSI session to a target of ours, by the target: "Connected: da0"."""
    found: dict[str, str] = {}
    if machine.run("kldstat", "-q", "-m", "iscsi").status:
        # iscsictl(8) would load it.
        return found
    for line in machine.run("iscsictl", "-L").out.splitlines():
        words = line.split(None, 2)
        if words and words[0].startswith("iqn.") and NAME in words[0]:
            found[words[0]] = words[2] if len(words) > 2 else ""
    return found


def jails(machine: Machine) -> list[str]:
    return [name for name in told(machine, "jls", "-h", "name").split()[1:] if name == NAME]


def leftovers(machine: Machine) -> list[str]:
    """Return what is left of the tests: mounts, disks, sessions, jails, roles."""
    roles = [f"hast {NAME}"] if machine.exists(f"/dev/hast/{NAME}") else []
    mounts = [point for _, point, _ in table(machine)]
    return [*mounts, *disks_of(machine), *sessions(machine), *jails(machine), *roles]


def until(done: Callable[[], object], what: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.1)


# Images.


def image(machine: Machine, name: str, megabytes: int) -> Path:
    path = machine.top / name
    told(machine, "truncate", "-s", f"{megabytes}m", path)
    return path


def disk(machine: Machine, path: Path) -> str:
    """Attach an image, and return its name: md0 ..."""
    return told(machine, "mdconfig", "-a", "-t", "vnode", "-f", path).strip()


def new_ufs(machine: Machine, device: str, files: Sequence[str]) -> None:
    """Make a file system with these directories in it."""
    told(machine, "newfs", "-U", device)
    point = machine.top / "making"
    point.mkdir(exist_ok=True)
    told(machine, "mount", device, point)
    for name in files:
        (machine.real(point) / name).mkdir(parents=True)
    told(machine, "umount", point)
    point.rmdir()


# The end.


def sweep(machine: Machine, end_services: Callable[[Machine], None]) -> list[str]:
    """End all that tests have begun, and return what withstood.

    Users come before what they use: jails, mounts, encrypted devices, sessions and roles, servers, disks, files. Each
    command may fail: what is left in the end tells.
    """
    run = machine.run
    # Hooks of a run that was killed.
    run("pkill", "-KILL", "-f", f"env_st(art|op)_[a-z]+ .* -j {NAME} ")
    for name in jails(machine):
        run("jail", "-r", name)
    _end_interfaces(machine)
    _unmount(machine, lambda row: row[1] != str(machine.top / "srv"))
    for unit in disks_of(machine):
        run("geli", "detach", f"{unit}.eli")
    for target in sessions(machine):
        run("iscsictl", "-R", "-t", target)
    if machine.exists(f"/dev/hast/{NAME}"):
        run("hastctl", "role", "init", NAME)
    if not run("kldstat", "-q", "-m", "zfs").status and not run("zpool", "list", "-H", "-o", "name", NAME).status:
        run("zpool", "destroy", "-f", NAME)
    end_services(machine)
    _unmount(machine, lambda row: True)
    for unit in disks_of(machine):
        run("mdconfig", "-d", "-u", unit)
    left = leftovers(machine)
    if not left:
        shutil.rmtree(machine.top, ignore_errors=True)
        machine.top.mkdir(parents=True, exist_ok=True)
    for directory, names in ((RUNDIR, f"{NAME}.*"), (RECORDS, f"{NAME}.*"), ("/var/log", f"jail_console_{NAME}.log")):
        for path in machine.real(directory).glob(names):
            path.unlink()
    return left


def _unmount(machine: Machine, chosen: Callable[[Row], bool]) -> None:
    for row in reversed([row for row in table(machine) if chosen(row)]):
        machine.run("umount", "-f", row[1])


def _end_interfaces(machine: Machine) -> None:
    """Destroy the bridge, and the epair(4) that the jail's file names."""
    text = machine.top / f"{NAME}.conf"
    numbers = re.findall(r'\$id = "(\d+)"', text.read_text()) if text.exists() else []
    there = machine.run("ifconfig", "-l").out.split()
    for name in (NAME, *(f"epair{number}a" for number in numbers)):
        if name in there:
            machine.run("ifconfig", name, "destroy")
