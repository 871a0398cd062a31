"""The toy CBSD does to mounts what the real one does (docs/cbsd.md)."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy
from cbsd import NFS4, NULLFS, SERVER, Site
from toy import Toy

from envstart.config import shell


@pytest.fixture
def cbsd(tmp_path: Path) -> Iterator[Toy]:
    with Site(tmp_path, NFS4) as site:
        yield Toy(site)


def remote(cbsd: Toy, name: str) -> dict[str, bool]:
    """Of each of an environment's directories on the server, whether anything is left in it.

    A stop has work in the background, which may write its file once more.
    """
    files = {which: os.listdir(cbsd.held(which, name)) for which in ("data", "system", "fstab")}
    return {which: bool(set(names) - {"stats.json"}) for which, names in files.items()}


def spy(cbsd: Toy, directory: str, name: str = "jail1", more: str = "") -> Path:
    """Put a hook there that notes its variables, arguments, parent and the mount table, and then runs MORE."""
    path = cbsd.site.world.path / "seen"
    told = f"env -0 | tr '\\0' '\\n'; echo ==; echo $#; ps -o args= -p $PPID; {cbsd.site.world.path}/bin/mount"
    cbsd.probe(directory, f"{{ {told}; }} >{path} 2>&1\n{more}", name)
    return path


# What a live CBSD shows.


def test_a_start_calls_the_hook_as_cbsd_does(cbsd: Toy, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{seen}\nenv >{seen}.env\nexit 1\n')
    hook.chmod(0o755)
    cbsd.set("jail1", mnt_start=str(hook))
    ended = cbsd.run("jstart")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (1, f"error: mnt_start script failed: {hook} jail1")
    assert seen.read_text().split() == cbsd.site.args()
    variables = dict(line.split("=", 1) for line in Path(f"{seen}.env").read_text().splitlines() if "=" in line)
    row = cbsd.row()
    assert {name: variables.get(name) for name in row if name != "jname"} == {
        name: str(value) for name, value in row.items() if name != "jname"
    }
    assert "jname" not in variables
    assert (variables["CBSD_APP"], variables["NOINTER"], variables["workdir"]) == ("jstart", "1", str(cbsd.workdir))
    assert variables["PATH"].startswith(f"{cbsd.workdir}/modules:")
    assert (row["jid"], row["status"], cbsd.mounted()) == (0, 0, [])


def test_a_life_with_baserw_1(cbsd: Toy) -> None:
    seen = spy(cbsd, "master_poststop.d", more="exit 3")
    assert cbsd.run("jstart").returncode == 0
    data = str(cbsd.site.point("data"))
    assert sorted(cbsd.mounted()) == [
        "jails-data/jail1-data", "jails-data/jail1-data/dev", "jails-fstab/jail1", "jails-system/jail1",
    ]  # fmt: skip
    assert cbsd.runs()
    assert (cbsd.row()["jid"], cbsd.row()["status"]) == (1, 1)
    assert cbsd.run("jstop").returncode == 0
    environment, _, rest = seen.read_text().partition("==\n")
    variables = dict(line.split("=", 1) for line in environment.splitlines())
    variables.pop("PWD", None)
    assert variables == {
        "HOME": "/root",
        "PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin",
        "baserw": "1",
        "data": data,
        "emulator": "jail",
        "jid": "1",
        "jname": "jail1",
        "mount_fstab": f"{cbsd.workdir}/jails-fstab/jail1/fstab",
        "path": data,
        "rcconf": f"{cbsd.workdir}/jails-rcconf/rc.conf_jail1",
        "status": "1",
        "workdir": str(cbsd.workdir),
    }
    count, parent, *mounts = rest.splitlines()
    assert count == "0"
    assert parent.endswith("/usr/local/cbsd/sudoexec/jstop inter=0 jname=jail1")
    assert f"{cbsd.site.source('data')} on {data} (nfs)" in mounts
    assert not any(f"{data}/dev" in line for line in mounts)
    assert sorted(cbsd.mounted()) == ["jails-fstab/jail1", "jails-system/jail1"]
    assert (cbsd.row()["jid"], cbsd.row()["status"], cbsd.runs()) == (0, 0, False)


# docs/cbsd.md#directory-hooks, #jcleanup.


def test_a_life_with_baserw_0(cbsd: Toy) -> None:
    cbsd.add("thin", baserw=0)
    data = cbsd.site.point("data", "thin")
    cbsd.probe("master_poststop.d", f"{cbsd.site.world.path}/bin/umount {data} 2>&1", "thin")
    assert cbsd.run("jstart", "thin").returncode == 0
    own = ["jails-data/thin-data", "jails-fstab/thin", "jails-system/thin"]
    on_top = ["jails/thin", "jails/thin/dev", "jails/thin/etc", "jails/thin/usr/local", "jails/thin/var"]
    assert sorted(cbsd.mounted()) == own + on_top
    ended = cbsd.run("jstop", "thin")
    # What lies on top of it is still there when the hook runs, and gone when the command ends.
    assert f"umount: unmount of {data} failed: Device busy" in ended.stdout
    assert sorted(cbsd.mounted()) == own


def test_a_life_of_a_vm(cbsd: Toy) -> None:
    cbsd.add("vm1", "bhyve")
    state = "SELECT jid, status FROM jails WHERE jname='vm1'"
    tool = cbsd.site.world.path / "userland" / "sqlro"
    seen = spy(cbsd, "master_poststop.d", "vm1", more=f'{tool} {cbsd.workdir}/var/db/local.sqlite "{state}"')
    assert cbsd.run("bstart", "vm1").returncode == 0
    own = ["jails-data/vm1-data", "jails-system/vm1"]
    assert (sorted(cbsd.mounted()), cbsd.runs("vm1")) == (own, True)
    # Its disk is open.
    assert "Device busy" in cbsd.site.world.command("umount", str(cbsd.site.point("data", "vm1"))).stderr
    ended = cbsd.run("bstop", "vm1")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "0|0")
    variables = dict(line.split("=", 1) for line in seen.read_text().partition("==\n")[0].splitlines())
    assert (variables["emulator"], variables["jname"], variables["mnt_start"]) == ("bhyve", "vm1", cbsd.hook)
    assert (sorted(cbsd.mounted()), cbsd.runs("vm1")) == (own, False)


def test_a_hook_that_reads_its_stdin_swallows_those_after_it(cbsd: Toy) -> None:
    for name in ("one", "two"):
        cbsd.probe("master_poststop.d", "cat").rename(cbsd.sysdata() / "master_poststop.d" / name)
    cbsd.run("jstart")
    lines = cbsd.run("jstop").stdout.splitlines()
    assert sum(line.startswith("Execute master script") for line in lines) == 1
    assert lines[-1] in ("one", "two")


def test_a_start_drops_what_is_mounted_on_the_data_of_baserw_1(cbsd: Toy) -> None:
    cbsd.site.preset()
    assert cbsd.run("jstart").returncode == 0
    assert [call["argv"] for call in cbsd.site.world.calls("umount")] == [
        ["umount", "-f", str(cbsd.site.point("data"))]
    ]
    assert "jails-data/jail1-data" in cbsd.mounted()


def test_a_stop_hangs_with_a_dead_server(cbsd: Toy) -> None:
    cbsd.run("jstart")
    cbsd.site.world.freeze(SERVER)
    with cbsd.begin("jstop") as stop:
        until = time.monotonic() + 30
        while not cbsd.site.world.state["stuck"]:
            assert time.monotonic() < until, "it does not hang"
            time.sleep(0.02)
        assert stop.poll() is None
        cbsd.site.world.thaw(SERVER)
        stop.communicate()
    assert sorted(cbsd.mounted()) == ["jails-fstab/jail1", "jails-system/jail1"]


def test_what_a_stop_leaves_behind_writes_into_the_system_directory(cbsd: Toy) -> None:
    cbsd.run("jstart")
    cbsd.run("jstop")
    until = time.monotonic() + 30
    while toy.processes(cbsd.site):
        assert time.monotonic() < until, toy.processes(cbsd.site)
        time.sleep(0.02)
    assert "jail1" in (cbsd.sysdata() / "stats.json").read_text()


# docs/cbsd.md#wipes.


@pytest.mark.first(2)
@pytest.mark.parametrize(
    ("emulator", "baserw", "left"),
    [
        ("jail", 1, {"data": True, "system": False, "fstab": False}),
        ("jail", 0, {"data": False, "system": False, "fstab": False}),
        ("bhyve", 0, {"data": False, "system": False, "fstab": False}),
    ],
)
@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_a_removal_wipes_what_is_mounted(
    cbsd: Toy, emulator: str, baserw: int, left: dict[str, bool], *, running: bool
) -> None:
    cbsd.add("env1", emulator, baserw=baserw)
    letter = "b" if emulator == "bhyve" else "j"
    cbsd.run(f"{letter}start", "env1")
    if not running:
        cbsd.run(f"{letter}stop", "env1")
    assert cbsd.run(f"{letter}remove", "env1").returncode == 0
    assert remote(cbsd, "env1") == left
    assert (cbsd.mounted(), cbsd.row("env1"), cbsd.runs("env1")) == ([], {}, False)


@pytest.mark.parametrize("letter", ["j", "b"])
def test_a_removal_spares_what_is_not_mounted(cbsd: Toy, letter: str) -> None:
    cbsd.add("env1", "bhyve" if letter == "b" else "jail")
    before = remote(cbsd, "env1")
    assert cbsd.run(f"{letter}remove", "env1").returncode == 0
    assert remote(cbsd, "env1") == before
    assert not cbsd.site.point("data", "env1").exists()


def test_a_hook_in_remove_d_comes_before_it_all(cbsd: Toy) -> None:
    cbsd.add("vm1", "bhyve")
    points = " ".join(str(cbsd.site.point(which, "vm1")) for which in ("data", "system"))
    seen = spy(cbsd, "remove.d", "vm1", more=f"{cbsd.site.world.path}/bin/umount {points}")
    cbsd.run("bstart", "vm1")
    cbsd.run("bstop", "vm1")
    assert cbsd.run("bremove", "vm1").returncode == 0
    assert remote(cbsd, "vm1")["data"]
    assert remote(cbsd, "vm1")["system"]
    assert f"data={cbsd.site.point('data', 'vm1')}\n" in seen.read_text()


def test_what_is_protected_is_not_removed(cbsd: Toy) -> None:
    cbsd.set("jail1", protected=1)
    cbsd.run("jremove")
    assert cbsd.row()


# docs/cbsd.md#needed, #stubs.


def test_a_hook_that_mounts_nothing_is_not_believed(cbsd: Toy) -> None:
    cbsd.set("jail1", mnt_start="/bin/true")
    ended = cbsd.run("jstart")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (
        1, f"No such data structure: {cbsd.site.point('data')}",
    )  # fmt: skip


def test_a_second_stop_of_a_vm_makes_a_stub_that_stops_its_start(cbsd: Toy) -> None:
    cbsd.add("vm1", "bhyve")
    assert cbsd.run("bstop", "vm1").returncode == 0
    stub = cbsd.site.point("system", "vm1") / "local.sqlite"
    assert stub.stat().st_size == 4096
    ended = cbsd.run("bstart", "vm1")
    assert (ended.returncode, ended.stdout) == (1, f"Unable to fetch vm data from: {stub}\n")
    assert not cbsd.site.mounting


# docs/cbsd.md#databases.


def count(path: Path, mode: str = "ro", patience: float = 0.1) -> int:
    """Environments in the database, as a reader sees it that follows the link; sqlite3.Error if it cannot."""
    connection = sqlite3.connect(f"file:{os.path.realpath(path)}?mode={mode}", uri=True, timeout=patience)
    try:
        found: int = connection.execute("SELECT count(*) FROM jails").fetchone()[0]
        return found
    finally:
        connection.close()


def test_the_database_is_found_through_its_link(cbsd: Toy) -> None:
    cbsd.add("vm1", "bhyve", hook="")
    assert count(cbsd.link) == 2
    assert (cbsd.row("vm1", "bhyve")["mnt_start"], cbsd.row("vm1")["emulator"]) == ("0", "bhyve")


def test_a_writer_shuts_readers_out_only_without_a_log(cbsd: Toy) -> None:
    with cbsd.writing():
        assert count(cbsd.link) == 1
    cbsd.settle("DELETE")
    with cbsd.writing(), pytest.raises(sqlite3.OperationalError, match="database is locked"):
        count(cbsd.link)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets root give up its powers")
def test_what_cannot_be_written_beside_cannot_be_read_but_as_it_lies_there(cbsd: Toy) -> None:
    with cbsd.read_only():
        with pytest.raises(sqlite3.OperationalError):
            toy.powerless(count, cbsd.link)
        assert toy.powerless(count, cbsd.link, "ro&immutable=1") == 1


def test_an_older_database_lacks_columns(cbsd: Toy) -> None:
    cbsd.older("jails", "mnt_start", "mnt_stop")
    assert not {"mnt_start", "mnt_stop"} & set(cbsd.row())
    assert cbsd.row()["jname"] == "jail1"


def test_a_cut_database_cannot_be_read(cbsd: Toy) -> None:
    cbsd.cut(3000)
    with pytest.raises(sqlite3.DatabaseError):
        count(cbsd.link)


def test_what_is_not_registered_has_left_its_columns_in_a_file(cbsd: Toy) -> None:
    values = {one.key: one.value for one in shell.read(cbsd.unregister("jail1").read_text()).assignments}
    assert (cbsd.row(), values["jname"], values["mnt_start"]) == ({}, "jail1", cbsd.hook)
    assert values["data"] == "CBSDROOT/jails-data/jail1-data"


def test_directories_of_this_host_do_as_well(tmp_path: Path) -> None:
    with Site(tmp_path, NULLFS) as site:
        cbsd = Toy(site)
        assert cbsd.run("jstart").returncode == 0
        assert cbsd.run("jstop").returncode == 0
        assert site.table == sorted(site.row(which) for which in ("system", "fstab"))
