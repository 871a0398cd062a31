"""What directories of this host must be before they are mounted for a jail, and what of them is not shown in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import NULLFS, Site, last_line
from doctor_site import examine, well
from thin_site import THIN_FSTAB, ThinSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a host whose jails come from its own directories."""
    with Site(tmp_path, NULLFS, getfsstat=True) as site:
        well(site)
        yield site


def given(site: Site) -> list[str]:
    return ["nullfs", "-w", str(site.workdir), "-j", "jail1"]


# What is mounted in a source.


def child_of(site: Site, which: str = "data", name: str = "var") -> Path:
    """Mount a child dataset in what the jail is shown."""
    child = site.held(which) / name
    child.mkdir(parents=True, exist_ok=True)
    site.world.dataset("tank/child")
    site.world.mount("tank/child", child, "zfs")
    return child


def test_case_c19_a_child_dataset_is_told_by_everybody(site: Site) -> None:
    child = child_of(site)
    text = f"nullfs does not show {child}, mounted in {site.held('data')}"
    plan = site.hand("plan", *given(site)).stdout
    assert f"on {site.point('data')}: not mounted; {text}" in plan
    for _ in range(2):
        ended = site.start()
        assert ended.returncode == 0
        assert f"warning: {site.point('data')}: {text}" in ended.stderr
    checked = site.hand("check", *given(site))
    assert f"WARNING: jail1: data: {site.held('data')}: degraded: {text}" in checked.stdout
    (finding,) = [one for one in examine(site) if "does not show" in one["text"]]
    assert (finding["level"], finding["about"]) == ("warning", "jail1")
    assert text in finding["text"]
    assert finding["remedy"].endswith("by a line of THIN_FSTAB")
    assert site.stop().returncode == 0


def test_case_c19_what_is_mounted_along_is_no_doubt(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        child, data = child_of(site, "data", "media"), site.point("data")
        site.write_fstab(
            f"{site.files}/base {data} nullfs ro",
            f"{site.held('skeleton')} {data}/skeleton nullfs rw",
            f"{child} {data}/media nullfs ro",
        )
        for _ in range(2):
            ended = site.start()
            assert (ended.returncode, ended.stderr) == (0, "")


def test_case_c19_devfs_of_a_jail_that_runs_in_the_source_is_no_doubt(site: Site) -> None:
    (site.held("data") / "dev").mkdir(parents=True)
    site.world.mount("devfs", site.held("data") / "dev", "devfs")
    assert (site.start().returncode, site.start().stderr) == (0, "")


def test_case_c19_a_snapshot_that_somebody_has_looked_into_is_no_doubt(site: Site) -> None:
    """The kernel mounts it on the way to it, for the host alone."""
    place = site.held("data") / ".zfs" / "snapshot" / "monday"
    place.mkdir(parents=True)
    site.world.dataset("tank/data@monday")
    site.world.mount("tank/data@monday", place, "zfs")
    for _ in range(2):
        ended = site.start()
        assert (ended.returncode, ended.stderr) == (0, "")
    assert site.hand("check", *given(site)).returncode == 0
    assert not [one for one in examine(site) if "does not show" in one["text"]]


# What must be mounted.


@pytest.mark.parametrize("value", ["1", "{files}"])
def test_case_c20_a_disk_that_is_not_mounted_is_not_taken_for_an_empty_one(site: Site, value: str) -> None:
    site.configure(NULLFS_REQUIRE_MOUNTED=value.replace("{files}", str(site.files)))
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    lack = "it is no mount point, which NULLFS_REQUIRE_MOUNTED asks for"
    assert last_line(ended).endswith(
        f"cannot use what lies in {site.files}: {lack}; mount {site.files}, and start again"
    )
    assert (site.table, site.world.calls("mount_nullfs")) == ([], [])
    assert f"# required: {site.files}: not ready ({lack})" in site.hand("plan", *given(site)).stdout
    assert any(one["level"] == "critical" and lack in one["text"] for one in examine(site))
    site.world.mount("/dev/da1p1", site.files, "ufs")
    top = site.world.real(site.files)
    for which in ("data", "system", "fstab"):
        (top / which / "jail1").mkdir(parents=True)
    for _ in range(2):
        assert site.start().returncode == 0
    assert site.hand("check", *given(site)).returncode == 0


def test_case_c20_a_check_of_what_was_started_on_empty_directories(site: Site) -> None:
    assert site.start().returncode == 0
    site.configure(NULLFS_REQUIRE_MOUNTED="1")
    checked = site.hand("check", *given(site))
    assert checked.returncode == 2
    lack = "it is no mount point, which NULLFS_REQUIRE_MOUNTED asks for"
    assert f"CRITICAL: jail1: required: {site.files}: not ready: {lack}" in checked.stdout


def test_case_c20_a_stop_asks_for_no_disk(site: Site) -> None:
    assert site.start().returncode == 0
    site.configure(NULLFS_REQUIRE_MOUNTED="1")
    assert site.stop().returncode == 0
    assert site.table == []


def test_case_c20_the_doctor_knows_what_fstab_lists(site: Site) -> None:
    assert examine(site) == []
    (site.world.path / "root/etc/fstab").write_text(
        f"# Device\n/dev/da0p2 / ufs rw 1 1\n/dev/da1p1 {site.files} ufs rw 2 2\n/dev/da2 /other ufs rw 2 2\n"
    )
    (finding,) = examine(site)
    assert (finding["level"], finding["about"]) == ("warning", "jail1")
    assert f"{site.files} is in " in finding["text"]
    assert f"mount {site.files}; NULLFS_REQUIRE_MOUNTED" in finding["remedy"]
    site.world.mount("/dev/da1p1", site.files, "ufs")
    assert [one for one in examine(site) if "fstab" in one["text"]] == []
