"""The place where file systems are mounted that jails and VMs see a part of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envstart import lifecycle
from envstart.cli.doctor import machine
from envstart.cli.doctor.finding import CRITICAL, Context, guarded
from envstart.config import staging
from envstart.engine.registry import NAMES, backend
from envstart.environment import Environment, file_name
from envstart.mounts import table_linux
from envstart.mounts.table import Entry, Table
from envstart.storage import host_mark
from envstart.system.host import Host
from envstart.system.log import Report

# Of FreeBSD 14 and of FreeBSD 12 (libexec/rc/rc.d/cleanvar).
WITH_X = "find -x /var/run \\( -type f -or -type s ! -name log -and ! -name logpriv \\) -delete"


WITHOUT_X = "find /var/run \\( -type f -or -type s ! -name log -and ! -name logpriv \\) -delete"


def test_case_a7_no_default_lies_where_the_system_cleans() -> None:
    for name in NAMES:
        for option in backend(name).OPTIONS:
            assert not str(option.default).startswith(("/var/run", "/run", "/tmp", "/var/tmp")), option.name


@pytest.fixture
def environment() -> Environment:
    return Environment("jail1", "/W/jails-data/jail1-data", "/W/jails-system/jail1", "/W/jails-fstab/jail1")


@pytest.mark.parametrize(
    ("settings", "there", "mounted", "kept"),
    [
        ("", True, True, True),
        # A directory that a reboot has left, or a stop.
        ("", True, False, False),
        ("", False, True, False),
        ('VOLUME_DIR="/vol"\n', True, True, False),
    ],
)
def test_case_a7_the_mount_table_says_where_it_is(  # noqa: PLR0913 - fixtures, and a row of the table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: Environment,
    settings: str,
    *,
    there: bool,
    mounted: bool,
    kept: bool,
) -> None:
    """The old place may be behind a link, as /var/run of Linux is."""
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.setattr(staging, "OLD_DIR", str(tmp_path / "link"))
    point = tmp_path / "run" / "volumes" / file_name(environment)
    if there:
        point.mkdir(parents=True)
    entries = [Entry("/dev/sda", str(point), "ext4")] if mounted else []
    monkeypatch.setattr(table_linux, "mount_table", lambda: entries)
    conf = tmp_path / "env_start_geli.conf"
    conf.write_text(f'GELI_PROVIDER="/dev/da0"\nGELI_KEYFILE="/k"\nVOLUME_LAYOUT="tree"\n{settings}')
    plan = lifecycle.load("geli", environment, str(conf))
    place = f"{tmp_path}/link/volumes" if kept else "/vol" if settings else "/var/db/envstart/volumes"
    assert [step.point for step in plan.steps if step.name == "volume"] == [f"{place}/{file_name(environment)}"]
    assert plan.config.value("VOLUME_DIR") == plan.config.text("VOLUME_DIR") == place


def test_case_a7_what_is_made_is_for_root_alone(tmp_path: Path) -> None:
    """Whatever the umask is: CBSD's is 002."""
    before = os.umask(0o002)
    try:
        host_mark.make_private([f"{tmp_path}/db/envstart/volumes", f"{tmp_path}/db/envstart/volumes/jail1.look"])
    finally:
        assert os.umask(before) == 0o002
    for path in ("db/envstart", "db/envstart/volumes", "db/envstart/volumes/jail1.look"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("line", "points", "told"),
    [
        (WITHOUT_X, ["/", "/var/run/envstart/volumes/jail1.0001"], True),
        (WITH_X, ["/", "/var/run/envstart/volumes/jail1.0001"], False),
        (WITH_X.replace("-x", "-dx"), ["/", "/var/run/x"], False),
        (WITHOUT_X, ["/", "/var/run", "/var/db/envstart/volumes/jail1.0001"], False),
        (None, ["/", "/var/run/x"], False),
    ],
)
def test_case_a7_doctor_tells_of_a_cleanvar_that_deletes_what_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str | None, points: list[str], *, told: bool
) -> None:
    script = tmp_path / "cleanvar"
    if line is not None:
        script.write_text(f"cleanvar_start()\n{{\n\t\t# Skip over logging sockets\n\t\t{line}\n}}\n")
    monkeypatch.setattr(machine, "_CLEANVAR", str(script))
    mounts = Table([Entry(f"/dev/{number}", point, "ufs") for number, point in enumerate(points)])
    context = Context([], [], mounts)
    findings = Host(Report("test")).complete(guarded(context, "cleanvar", machine._cleaned(context)))
    assert [finding.level for finding in findings] == ([CRITICAL] if told else [])
    assert not told or "/var/run/envstart/volumes/jail1.0001" in findings[0].text
