"""The twenty defects of CBSD's sample (docs/cbsd.md#defects): each has a test with its number in its name."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cbsd import NULLFS, SERVER, Site, last_line, wears
from pace import in_time

from envstart.mounts import commands

TESTS = Path(__file__).resolve().parents[1]
HOOKS = TESTS.parent / "hooks"


@pytest.mark.parametrize("option", ["-d", "-j", "-s"])
def test_defect_01_missing_option_mounts_with_holes(site: Site, option: str) -> None:
    args = site.args()
    place = args.index(option)
    ended = site.world.run("env_start_nfs", *args[:place], *args[place + 2 :])
    assert ended.returncode == 64
    assert f"cannot do without {option}" in last_line(ended)
    assert site.world.calls() == []


def test_defect_01_no_option_at_all(site: Site) -> None:
    assert site.world.run("env_start_nfs").returncode == 64
    assert site.world.calls() == []


def test_defect_02_absent_configuration_means_localhost(site: Site) -> None:
    site.conf.unlink()
    ended = site.start()
    assert ended.returncode == 78
    for place in (site.workdir / "etc", site.world.path / "usr/local/etc/envstart", site.world.path / "root/etc"):
        assert str(place) in last_line(ended)
    assert site.world.calls() == []


@pytest.mark.parametrize("place", ["usr/local/etc/envstart", "root/etc"])
def test_defect_02_configuration_has_one_place(site: Site, place: str) -> None:
    shutil.move(site.conf, site.world.path / place / site.conf.name)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_defect_03_fstab_is_not_mounted_unless_said(site: Site) -> None:
    site.conf.write_text(f"NFS_SERVER={SERVER}\n")
    assert site.start().returncode == 0
    assert site.row("fstab") in site.table


def test_defect_04_one_rcconf_directory_hides_the_others(site: Site) -> None:
    site.add("jail2")
    site.configure(MOUNT_RCCONF="1")
    for name in ("jail1", "jail2"):
        assert site.start(name=name).returncode == 0
        assert site.row("rcconf", name) in site.table


@pytest.mark.parametrize("shape", ["{}/", "{}//", "{}/.", "link"])
def test_defect_05_trailing_slash_or_link_mounts_again_on_top(site: Site, shape: str) -> None:
    (site.workdir / "link").symlink_to(site.point("data"))
    path = f"{site.workdir}/link" if shape == "link" else shape.format(site.point("data"))
    args = ["-d", path, *site.args()[2:]]
    for _ in range(2):
        assert site.world.run("env_start_nfs", *args).returncode == 0
        assert site.table == site.wanted()


def test_defect_06_blank_in_a_path(site: Site) -> None:
    point = site.workdir / "jails-data" / "my data"
    point.mkdir()
    assert site.world.run("env_start_nfs", "-d", str(point), *site.args()[2:]).returncode == 0
    assert str(point) in [node for _, node, _ in site.table]


def test_defect_06_path_that_the_caller_split(site: Site) -> None:
    ended = site.world.run("env_start_nfs", "-d", f"{site.workdir}/my", "data", *site.args()[2:])
    assert ended.returncode == 64
    assert "'data'" in last_line(ended)
    assert site.world.calls() == []


@pytest.mark.parametrize("fstype", ["tmpfs", "nullfs", "nfs"])
def test_defect_07_any_mount_counts_as_ours(site: Site, fstype: str) -> None:
    site.world.export("other", "/nfs/data/jail1")
    source = {"tmpfs": "tmpfs", "nullfs": str(site.workdir), "nfs": "other:/nfs/data/jail1"}[fstype]
    site.world.mount(source, site.point("data"), fstype)
    ended = site.start()
    assert ended.returncode == 78
    assert f"{source} ({fstype}) is mounted there" in last_line(ended)


def test_defect_08_partial_failure_leaves_mounts(site: Site) -> None:
    site.held("system").rmdir()
    assert site.start().returncode == 66
    assert site.table == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_defect_09_interrupted_is_reported_as_success(site: Site, number: signal.Signals) -> None:
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.fault("mount_nfs", "hang")
    with site.begin() as hook:
        while not site.count("mount_nfs"):
            time.sleep(0.02)
        hook.send_signal(number)
        assert hook.wait(20) == 128 + number
    assert site.table == []


def test_defect_10_dead_server_that_is_mounted_already_hangs(site: Site) -> None:
    site.configure(TIMEOUT="3")
    site.preset()
    site.world.freeze(SERVER)
    began = time.monotonic()
    assert site.start().returncode == 75
    assert in_time(began, 1, waiting=3)


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "dash", "bash", "ksh", "zsh") if shutil.which(shell)])
def test_defect_11_options_are_lost_under_some_shells(tmp_path: Path, shell: str) -> None:
    with Site(tmp_path, NULLFS) as site:
        command = [str(shutil.which(shell)), str(HOOKS / "env_start_nullfs"), *site.args(), "-n", "-c", str(site.conf)]
        ended = subprocess.run(command, env={}, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        for which in site.variant.directories:
            assert f"{site.source(which)} on {site.point(which)}" in ended.stdout


@pytest.mark.parametrize("words", [["-x"], ["junk"], ["-d"], ["--data=/x"]])
def test_defect_12_unknown_options_and_leftovers_are_dropped(site: Site, words: list[str]) -> None:
    assert site.start(*words).returncode == 64
    assert site.world.run("env_start_nfs", *words, *site.args()).returncode == 64
    assert site.world.calls() == []


def test_defect_13_flag_that_is_no_number(site: Site) -> None:
    site.configure(MOUNT_FSTAB="yes")
    assert site.start().returncode == 0
    assert site.row("fstab") in site.table
    site.configure(MOUNT_FSTAB="perhaps")
    ended = site.start()
    assert ended.returncode == 78
    assert "MOUNT_FSTAB='perhaps' is neither 1 nor 0" in last_line(ended)


def test_defect_14_two_starts_mount_twice(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert [one.returncode for one in pool.map(lambda _: site.start(), range(2))] == [0, 0]
    assert len(site.mounting) == 3
    assert site.table == site.wanted()


def test_defect_15_environment_overrides_the_server(site: Site) -> None:
    assert site.start(env=wears(NFS_SERVER="evil", NFS_SERVER_ROOT_DIR="/evil")).returncode == 0
    assert site.table == site.wanted()


def test_defect_15_configuration_is_run_as_root(site: Site, tmp_path: Path) -> None:
    with site.conf.open("a") as file:
        file.write(f"touch {tmp_path}/taken\n")
    ended = site.start()
    assert ended.returncode == 78
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("which", ["system", "fstab", "data"])
def test_defect_16_report_of_a_failure_is_missing_or_doubled(site: Site, which: str) -> None:
    site.held(which).rename(site.held(which).with_name("elsewhere"))
    ended = site.start()
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert site.source(which) in last_line(ended)


def test_defect_17_intr_and_endless_retries(site: Site) -> None:
    assert site.start().returncode == 0
    for argv in site.mounting:
        assert "intr" not in argv
        assert "retrycnt=1" in argv


def test_defect_17_intr_with_version_4_draws_a_warning_in_the_plan_alone(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=4 -ointr")
    assert "intr" in next(line for line in site.start("-n").stdout.splitlines() if line.startswith("# warning:"))
    ended = site.start()
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "a b", "-x", "", "jail1\n"])
def test_defect_18_name_is_not_checked(site: Site, name: str) -> None:
    args = site.args()
    args[args.index("-j") + 1] = name
    assert site.world.run("env_start_nfs", *args).returncode == 64
    assert site.world.calls() == []


def test_defect_18_mount_point_is_not_made_nor_looked_into(site: Site) -> None:
    site.point("data").rmdir()
    (site.point("system") / "local.sqlite").touch()
    ended = site.start()
    assert ended.returncode == 0
    assert "local.sqlite" in ended.stderr
    assert site.table == site.wanted()


def test_defect_19_only_bsd() -> None:
    assert commands.mount("linux", "nfs", ("rw", "vers=4"), "server:/x", "/y")[0] == "mount.nfs"
    assert commands.mount("freebsd", "nfs", ("rw", "vers=4"), "server:/x", "/y")[0] == "mount_nfs"


def test_defect_20_text_of_a_failure_is_hidden(site: Site) -> None:
    site.configure(ATTEMPTS="1")
    site.world.refuse(SERVER)
    ended = site.start()
    assert "Connection refused" in last_line(ended)
    assert "is the server up" in last_line(ended)
    assert "Connection refused" in site.world.syslog()[-1]


def test_every_defect_has_a_test_that_names_its_number() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py")))
    named = {
        int(number) for group in re.findall(r"def test_defect((?:_\d+)+)_", sources) for number in group[1:].split("_")
    }
    assert named == set(range(1, 21))
