"""What makes envstart a guest of systemd: units, timers, and what tmpfiles.d(5) makes at boot."""

from __future__ import annotations

import graphlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envstart.cli import main
from envstart.engine import record
from envstart.system import rundir

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "linux" / "systemd").iterdir())
TMPFILES = ROOT / "linux" / "tmpfiles.d" / "envstart.conf"
# A backend for the unit that has instances.
INSTANCE = "nfs"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=60)


def systemd(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make install` has put all that a Linux host has."""
    top = tmp_path_factory.mktemp("prefix")
    ended = run("make", "install", f"PREFIX={top}", f"PYTHON={sys.executable}", "SYSTEM=Linux")
    assert ended.returncode == 0, ended.stderr
    return top


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)", unit.read_text(), re.M)


def ordered(key: str) -> set[str]:
    """Return the units that envstart.service names in lines of After= or Before=."""
    return set(" ".join(values(ROOT / "linux" / "systemd" / "envstart.service", key)).split())


def test_systemd_has_no_complaint(prefix: Path) -> None:
    units = prefix / "lib" / "systemd" / "system"
    names = [unit.name.replace("@", f"@{INSTANCE}") for unit in UNITS]
    ended = run(
        systemd("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *(units / name for name in names)
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    broken = units / "envstart-broken.service"
    broken.write_text((units / "envstart.service").read_text().replace("After=", "Aftr="))
    assert run(systemd("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", broken).returncode != 0


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_the_tool_takes_the_command_lines_of_a_unit(unit: Path) -> None:
    lines = [*values(unit, "ExecStart"), *values(unit, "ExecStop")]
    assert lines
    for line in lines:
        tool, *words = shlex.split(line.replace("%i", INSTANCE))
        assert tool == "/usr/local/sbin/envstart"
        main.parser().parse_args([word for word in words if not word.startswith("$ENVSTART_")])


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_what_hangs_holds_up_no_unit(unit: Path) -> None:
    """What a signal cannot end would keep a unit from its end, and the clients of a mount must outlive it."""
    assert values(unit, "KillMode") == ["process"]


def test_a_timer_has_its_service_and_is_asked_for() -> None:
    timers = [unit for unit in UNITS if unit.suffix == ".timer"]
    assert len(timers) == 3
    for timer in timers:
        assert timer.with_suffix(".service") in UNITS
        assert values(timer, "WantedBy") == ["timers.target"]
        if shutil.which("systemd-analyze"):
            assert run("systemd-analyze", "calendar", *values(timer, "OnCalendar")).returncode == 0


def test_the_unit_stops_after_its_users_and_before_what_it_uses() -> None:
    # After and Before of Debian 12's and of CBSD's own units; a shutdown goes the other way round.
    after = {
        "network-online.target": {"network.target", "glusterd.service"},
        "open-iscsi.service": {"network-online.target", "iscsid.service"},
        "rbdmap.service": {"network-online.target"},
        "iscsid.service": {"network.target"},
        "remote-fs-pre.target": {"open-iscsi.service", "rbdmap.service"},
        "remote-fs.target": {"remote-fs-pre.target"},
        "systemd-user-sessions.service": {"remote-fs.target", "network.target"},
        "session-1.scope": {"systemd-user-sessions.service"},
        "cbsdd.service": {"network.target", "network-online.target", "remote-fs.target"},
        "envstart.service": ordered("After"),
    }
    for unit in ordered("Before"):
        after[unit].add("envstart.service")
    order = list(graphlib.TopologicalSorter(after).static_order())
    ours = order.index("envstart.service")
    before = ("network.target", "local-fs.target", "remote-fs.target", "open-iscsi.service", "rbdmap.service")
    assert max(order.index(name) for name in before) < ours
    assert ours < min(order.index(name) for name in ("cbsdd.service", "session-1.scope"))
    # A login must not wait for the network.
    assert "network-online.target" not in ordered("After")


def test_systemd_makes_the_directories_of_the_code(tmp_path: Path) -> None:
    made = {line.split()[1] for line in TMPFILES.read_text().splitlines() if not line.startswith("#")}
    assert {rundir.DIR.removeprefix("/var"), record.DIR} <= made
    ended = run(systemd("systemd-tmpfiles"), "--create", f"--root={tmp_path}", TMPFILES)
    assert (ended.returncode, ended.stderr) == (0, "")
    for path in ("run/envstart", "var/db/envstart"):
        assert (tmp_path / path).stat().st_mode & 0o7777 == 0o700


def test_the_units_name_the_prefix(prefix: Path) -> None:
    units = prefix / "lib" / "systemd" / "system"
    assert {unit.name for unit in units.glob("envstart*") if "broken" not in unit.name} == {unit.name for unit in UNITS}
    for unit in units.iterdir():
        assert "/usr/local" not in unit.read_text()
    assert (
        f"ExecStart={prefix}/sbin/envstart start %i -l {prefix}/etc/envstart/%i.list"
        in (units / "envstart@.service").read_text()
    )
