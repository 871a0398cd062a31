"""Who uses the directories of a jail or VM: what uses them is never unmounted by force, and what cannot be told counts.

CBSD has VMs of emulators that the kernel has no list of; its database is the toy CBSD's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import NFS4, SERVER, Ended, Site, last_line
from toy import Toy

from envstart.environment import Environment
from envstart.steps import unmount
from envstart.system import cbsd_database, guests, process_table, rundir
from envstart.system.host import Host
from envstart.system.log import Report

VM = "vm1"
HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
DOMAIN_0 = "Domain-0                                     0  1024     2     r-----    12.5\n"
# More than any pid_max.
NO_PID = 1 << 30


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, NFS4, getfsstat=True) as site:
        yield Toy(site)


def broken(
    cbsd: Toy, emulator: str, jid: int = 0, status: int = 0, *, dead: bool = False
) -> list[tuple[str, str, str]]:
    """Make a VM whose data directory is mounted and broken, and return the mount table."""
    cbsd.add(VM, emulator, jid=jid, status=status)
    cbsd.site.preset("data", "system", name=VM)
    if dead:
        cbsd.site.world.freeze(SERVER)
    else:
        cbsd.site.world.stale(cbsd.site.point("data", VM))
    return cbsd.site.table


def start(cbsd: Toy) -> Ended:
    """As CBSD calls it for a VM: without -f."""
    return cbsd.site.world.run("env_start_nfs", *cbsd.site.args(VM, fstab=False))


def xl(cbsd: Toy, text: str, status: int = 0) -> None:
    program = cbsd.site.world.path / "bin" / "xl"
    program.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}END\nexit {status}\n")
    program.chmod(0o755)


@contextlib.contextmanager
def emulator_process(*argv: str) -> Iterator[int]:
    """Yield a process with this command line, which does nothing."""
    code = "import time; time.sleep(600)"
    with subprocess.Popen([argv[0], "-c", code, *argv[1:]], executable=sys.executable) as process:
        try:
            yield process.pid
        finally:
            process.kill()


QEMU = ("qemu-system-x86_64", "-m", "1g", "-name", VM, "-pidfile", f"/usr/jails/jails-system/{VM}/qemu.pid")
VIRTUALBOX = ("/usr/local/lib/virtualbox/VBoxHeadless", "--comment", VM, "--startvm", "0")


@pytest.mark.parametrize("dead", [False, True], ids=["stale", "dead"])
@pytest.mark.parametrize(("emulator", "argv"), [("qemu", QEMU), ("virtualbox", VIRTUALBOX)])
def test_case_a6_a_process_says_that_a_vm_runs(cbsd: Toy, emulator: str, argv: tuple[str, ...], *, dead: bool) -> None:
    """Whatever the database says: of a VM that was started by other means it knows nothing."""
    before = broken(cbsd, emulator, dead=dead)
    with emulator_process(*argv):
        ended = start(cbsd)
    assert (ended.returncode, cbsd.site.table) == (75, before), ended.stderr
    remedy = "wait until it answers, or: " if dead else "stop it first"
    assert f"and {VM} runs; {remedy}" in last_line(ended)


@pytest.mark.parametrize("emulator", ["qemu", "xen", "virtualbox", "bhyve"])
def test_case_a6_what_does_not_run_is_mounted_anew(cbsd: Toy, emulator: str) -> None:
    """The number of a process that the database still has after a crash is nobody's."""
    broken(cbsd, emulator, jid=NO_PID)
    ended = start(cbsd)
    assert ended.returncode == 0, ended.stderr
    assert not [mount for mount in cbsd.site.world.mounts() if mount["stale"]]


def test_case_a6_a_process_of_another_name_whose_number_the_database_has(cbsd: Toy) -> None:
    before = broken(cbsd, "qemu", jid=os.getpid(), status=1)
    ended = start(cbsd)
    assert (ended.returncode, cbsd.site.table) == (75, before), ended.stderr


@pytest.mark.parametrize(
    ("text", "status", "database", "used"),
    [
        # The number of a domain's process is never known to CBSD: xstart writes 0.
        (f"{HEADER}{DOMAIN_0}{VM}     3   512     1     -b----     1.0\n", 0, 0, True),
        (f"{HEADER}{DOMAIN_0}another  3   512     1     -b----     1.0\n", 0, 1, False),
        ("", 1, 1, True),
        ("", 1, 0, True),
    ],
)
def test_case_a6_xen_says_which_domains_run(cbsd: Toy, text: str, status: int, database: int, *, used: bool) -> None:
    xl(cbsd, text, status)
    before = broken(cbsd, "xen", status=database)
    ended = start(cbsd)
    assert ended.returncode == (75 if used else 0), ended.stderr
    assert not used or cbsd.site.table == before


@pytest.mark.parametrize("searching", ["hangs", "missing"])
def test_case_a6_what_cannot_be_told_is_in_use(cbsd: Toy, searching: str) -> None:
    """Without the database nobody knows which emulator it is."""
    before = broken(cbsd, "qemu", dead=searching == "hangs")
    cbsd.link.unlink()
    if searching == "missing":
        (cbsd.site.world.path / "bin" / "fuser").unlink()
    ended = start(cbsd)
    assert (ended.returncode, cbsd.site.table) == (75, before), ended.stderr
    assert f"it cannot be told whether {VM} runs" in last_line(ended)
    assert not cbsd.site.world.calls("fuser")


@pytest.mark.parametrize("emulator", ["jail", "bhyve"])
def test_case_a6_a_search_that_fails_does_not_keep_what_is_stopped(cbsd: Toy, emulator: str) -> None:
    broken(cbsd, emulator)
    (cbsd.site.world.path / "bin" / "fuser").unlink()
    ended = cbsd.site.start(name=VM) if emulator == "jail" else start(cbsd)
    assert ended.returncode == 0, ended.stderr


def test_case_a6_a_jail_of_another_name_has_its_root_there(cbsd: Toy) -> None:
    before = broken(cbsd, "jail")
    cbsd.site.world.jail("other", 7)
    root = str(cbsd.site.point("data", VM))
    cbsd.site.world._change(
        lambda state: state["guests"].update({"other": {"pid": 0, "root": root, "devfs": "", "hostname": ""}})
    )
    ended = cbsd.site.start(name=VM)
    assert (ended.returncode, cbsd.site.table) == (75, before), ended.stderr
    assert "jail other runs in it" in last_line(ended)


def test_case_a6_recover_leaves_a_vm_that_runs_alone(cbsd: Toy) -> None:
    before = broken(cbsd, "qemu")
    with emulator_process(*QEMU):
        ended = cbsd.site.hand("recover", "-w", str(cbsd.workdir), VM)
    assert (ended.returncode, cbsd.site.table) == (75, before), ended.stderr
    assert "it runs" in last_line(ended)
    ended = cbsd.site.hand("recover", "-w", str(cbsd.workdir), VM)
    assert ended.returncode == 0, ended.stderr
    assert len(cbsd.site.table) == len(before) - 1


def test_case_a6_orphans_leaves_a_vm_that_runs_alone(cbsd: Toy) -> None:
    cbsd.site.configure(STOP_FORCE="1")
    cbsd.add(VM, "xen")
    cbsd.site.preset("data", "system", name=VM)
    before = cbsd.site.table
    xl(cbsd, f"{HEADER}{VM}  3   512     1     -b----     1.0\n")
    words = ("orphans", "--stop", "--grace", "0", "-w", str(cbsd.workdir))
    assert (cbsd.site.hand(*words).returncode, cbsd.site.table) == (0, before)
    xl(cbsd, HEADER + DOMAIN_0)
    assert (cbsd.site.hand(*words).returncode, cbsd.site.table) == (0, [])


# Linux.


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(rundir, "DIR", str(tmp_path))
    return Host(Report("test"))


@pytest.mark.parametrize(
    ("emulator", "named", "holders", "used"),
    [
        ("qemu", [VM], [], f"{VM} runs"),
        ("qemu", [], [], ""),
        ("qemu", [], None, ""),
        ("qemu", None, [], ""),
        ("qemu", None, None, f"it cannot be told whether {VM} runs or anybody uses it"),
        ("qemu", [], [os.getpid()], "it is used by pid"),
        ("jail", [], None, f"it cannot be told whether {VM} runs or anybody uses it"),
        ("", [], None, f"it cannot be told whether {VM} runs or anybody uses it"),
        ("", [], [], ""),
    ],
)
def test_case_a6_on_linux(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    emulator: str,
    named: list[str] | None,
    holders: list[int] | None,
    used: str,
) -> None:
    """``emulator`` "": CBSD does not know it."""

    async def find(*_: object) -> tuple[dict[str, object] | None, bool]:
        return {**cbsd_database.COLUMNS, "jname": VM, "emulator": emulator} if emulator else None, True

    async def answer(*_: object) -> list[int] | None:
        return holders

    monkeypatch.setattr(cbsd_database, "find", find)
    monkeypatch.setattr(unmount, "holders", answer)
    monkeypatch.setattr(process_table, "machines", lambda: named)
    environment = Environment(VM, f"/W/jails-data/{VM}-data", f"/W/jails-system/{VM}")
    told = host.complete(unmount.users(host, environment, environment.data))
    assert told.startswith(used)
    assert bool(told) == bool(used)


def test_the_words_of_an_emulator(host: Host) -> None:
    """This is libvirt's form of QEMU's -name; a name that is only a part of a word is another VM's."""
    # No other run of the tests on this host has one of that name.
    name = f"{VM}-{os.getpid()}"
    with emulator_process("qemu-system-x86_64", "-name", f"guest={name},debug-threads=on"):
        assert host.complete(guests.Machines(host).runs(name, "qemu", 0, 0))
        assert not host.complete(guests.Machines(host).runs(name[:-1], "qemu", 0, 0))
    assert not host.complete(guests.Machines(host).runs(name, "qemu", 0, 0))
