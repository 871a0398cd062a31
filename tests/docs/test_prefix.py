"""What `make install` brings below a PREFIX: it names that PREFIX, is renewed whole, and is removed whole."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import uninstall

from envstart.cli import main

ROOT = Path(__file__).resolve().parents[2]
# What is in /usr/local wherever envstart is, by the files that name it: FreeBSD's packages, CBSD, defaults of others.
OF_OTHERS = {
    "envstart/hooks/run-hook": "/usr/local/bin/python",
    "cli/doctor/hooks.py": "/usr/local/bin/python3",
    "cli/doctor/machine.py": "/usr/local/cbsd",
    "cli/jailconf.py": "/usr/local/jails",
    "system/runner.py": "/usr/local/sbin|/usr/local/bin",
    # A checkout, and what pip installs, look there.
    "config/places.py": "/usr/local",
    "examples/envstart/syslog.conf": "/usr/local/etc/syslog.d/",
    "examples/envstart/newsyslog.conf": "/usr/local/etc/newsyslog.conf.d/",
}


UPGRADE = (ROOT / "docs" / "upgrade.md").read_text()


def makes() -> list[str]:
    """Return the makes of this host, each once: of GNU and of BSD, where both are there."""
    found = {os.path.realpath(path): make for make in ("bmake", "gmake", "make") if (path := shutil.which(make))}
    return list(found.values())


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    argv = [str(word) for word in words]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)


def install(make: str, top: Path, *words: str) -> None:
    ended = run(make, "install", f"PREFIX={top}", *words)
    assert (ended.returncode, ended.stderr) == (0, "")


def files(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "prefix"


@pytest.mark.parametrize("system", ["FreeBSD", "Linux"])
def test_nothing_of_ours_is_in_usr_local(prefix: Path, system: str) -> None:
    install("make", prefix, f"SYSTEM={system}")
    named = set()
    for path in filter(Path.is_file, prefix.rglob("*")):
        text = path.read_bytes().decode(errors="replace")
        allowed = next((words for name, words in OF_OTHERS.items() if str(path).endswith(name)), None)
        if allowed:
            named.add(allowed)
            text = re.sub(allowed, "", text)
        assert "/usr/local" not in text, path
    assert len(named) > 5


def test_the_tool_offers_paths_below_its_prefix(prefix: Path) -> None:
    install("make", prefix, f"PYTHON={sys.executable}")
    ended = run(prefix / "sbin" / "envstart", "config", "check", "nfs")
    assert ended.returncode == os.EX_CONFIG
    assert f"{prefix}/etc/envstart" in ended.stderr
    assert "/usr/local" not in ended.stderr


def test_a_newer_version_leaves_nothing_of_an_older_one(prefix: Path) -> None:
    install("make", prefix)
    fresh = files(prefix)
    old = prefix / "libexec/envstart/envstart/backends/smb.py"
    old.write_text("an older version had it")
    mine = prefix / "etc/envstart/env_start_nfs.conf"
    mine.write_text('NFS_SERVER="192.0.2.1"\n')
    install("make", prefix)
    assert files(prefix) == fresh | {"etc/envstart/env_start_nfs.conf"}
    assert mine.read_text() == 'NFS_SERVER="192.0.2.1"\n'


@pytest.mark.parametrize("line", re.findall(r"^ {4}(?:\S*/sbin/)?(envstart .*)", UPGRADE, re.M))
def test_the_tool_takes_a_line_of_the_page(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words != ["--version"]:
        main.parser().parse_args(words)


def test_make_takes_the_variables_of_the_page() -> None:
    recipes = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\b([A-Z]+)=\S", "\n".join(re.findall("make (?:un)?install .*|`[A-Z]+=.*`", UPGRADE))))
    assert named >= {"PREFIX", "PYTHON", "WORKDIR", "FORCE"}
    assert all(f"$({name}" in recipes for name in named)


# Uninstallation.


@pytest.mark.parametrize("make", makes())
@pytest.mark.parametrize("system", ["FreeBSD", "Linux"])
def test_what_was_installed_is_removed_and_nothing_else(tmp_path: Path, make: str, system: str) -> None:
    stage = tmp_path / "stage"
    words = (f"DESTDIR={stage}", "PREFIX=/opt/storage", f"SYSTEM={system}")
    assert run(make, "install", f"PYTHON={sys.executable}", *words).returncode == 0
    top = stage / "opt/storage"
    services = {"FreeBSD": "etc/rc.d/envstart", "Linux": "lib/systemd/system/envstart.service"}
    assert [name for name, path in services.items() if (top / path).exists()] == [system]
    others = {"sbin/mount_other", "share/man/man8/other.8", "etc/other/envstart.conf"}
    for name in others:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    ended = run(make, "uninstall", *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert files(top) == others
    assert "left:" not in ended.stdout
    assert not [path for path in top.rglob("envstart") if path.is_dir()]


def test_configuration_stays_and_is_named(prefix: Path) -> None:
    install("make", prefix, "SYSTEM=FreeBSD")
    own = prefix / "etc/envstart"
    (own / "env_start_nfs.conf").write_text('NFS_SERVER="192.0.2.1"\n')
    with (own / "env_start_ceph.conf.sample").open("a") as sample:
        sample.write("# a line of the administrator's\n")
    with (prefix / "etc/rc.d/envstart").open("a") as script:
        script.write("# another one\n")
    ended = run("make", "uninstall", f"PREFIX={prefix}", "SYSTEM=FreeBSD")
    assert ended.returncode == 0, ended.stderr
    kept = {"etc/envstart/env_start_nfs.conf", "etc/envstart/env_start_ceph.conf.sample", "etc/rc.d/envstart"}
    assert files(prefix) == kept
    assert {f"{prefix}/{name}" for name in kept} <= set(re.findall(r"left: (.*)", ended.stdout))


def workdir(top: Path, hook: str | Path) -> Path:
    """Return a workdir of CBSD with one jail that has this mnt_start."""
    database = top / "jails" / "var" / "db" / "local.sqlite"
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE jails (jname TEXT, mnt_start TEXT)")
        connection.execute("INSERT INTO jails VALUES ('jail1', ?)", (str(hook),))
    connection.close()
    return top / "jails"


def test_hooks_in_use_are_not_removed_unasked(prefix: Path) -> None:
    install("make", prefix)
    before = files(prefix)
    words = (f"PREFIX={prefix}", f"WORKDIR={workdir(prefix.parent, prefix / 'libexec/envstart/hooks/env_start_nfs')}")
    ended = run("make", "uninstall", *words)
    assert ended.returncode != 0
    assert f"jail1: mnt_start is {prefix}/libexec/envstart/hooks/env_start_nfs" in ended.stderr
    assert "it is in use" in ended.stderr
    assert files(prefix) == before
    ended = run("make", "uninstall", "FORCE=1", *words)
    assert ended.returncode == 0
    # Told all the same.
    assert "jail1: mnt_start is" in ended.stderr
    assert files(prefix) == set()


def uses(prefix: Path, *workdirs: Path) -> Sequence[str]:
    return list(uninstall.uses(str(prefix), [str(path) for path in workdirs]))


@pytest.fixture
def alone(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a PREFIX on a host where nothing of ours is mounted or enabled."""
    monkeypatch.setattr(uninstall, "RECORDS", str(prefix.parent / "records"))
    monkeypatch.setattr(uninstall, "ENABLED_UNITS", f"{prefix.parent}/*.wants/envstart*")
    return prefix


def test_hooks_of_others_are_no_use(alone: Path) -> None:
    assert uses(alone, workdir(alone.parent, "/usr/jails/share/env_start_nfs.sh")) == []


def test_a_database_that_cannot_be_read_may_have_users(alone: Path) -> None:
    (problem,) = uses(alone, alone.parent)
    assert "cannot read" in problem


def test_links_in_a_skeleton_are_a_use(alone: Path) -> None:
    top = workdir(alone.parent, "")
    directory = top / "share" / "bhyve-system-default" / "remove.d"
    directory.mkdir(parents=True)
    (directory / "envstart").symlink_to(alone / "libexec/envstart/hooks/env_remove")
    (use,) = uses(alone, top)
    assert use.endswith(f"envstart uninstall '*' -w {top}")


def test_mounted_directories_are_a_use(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that a record does not have is not taken for the working directory."""
    monkeypatch.chdir("/")
    records = alone.parent / "records"
    records.mkdir()
    for name, data in (("jail1", "/"), ("jail2", str(alone))):
        (records / f"{name}.1.record").write_text(f'[environment]\nNAME="{name}"\nDATA="{data}"\nSYSTEM="/none"\n')
    assert uses(alone) == ["jail1: its directories are mounted; stop it"]


def test_enabled_units_are_a_use(alone: Path) -> None:
    wants = alone.parent / "multi-user.target.wants"
    wants.mkdir()
    for name, target in (("envstart@nfs.service", alone), ("envstart.service", Path("/elsewhere"))):
        (wants / name).symlink_to(target / "lib/systemd/system" / name)
    (use,) = uses(alone)
    assert use.endswith("is enabled: systemctl disable --now envstart@nfs.service")
