"""Thin jails in the simulated FreeBSD: what a start mounts and links, in which order, and what it refuses."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import last_line
from thin_site import LINKS, THIN, THIN_FSTAB, ThinSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ThinSite]:
    """Yield a host with the thin jail jail1; nothing is mounted yet."""
    with ThinSite(tmp_path, THIN) as site:
        yield site


def layers(site: ThinSite) -> list[list[str]]:
    """Return the two commands that make a thin jail."""
    data = site.point("data")
    base = f"mount_nullfs -o ro -o nocover {site.files}/base {data}"
    skeleton = f"mount_nullfs -o rw -o nocover {site.files}/skeleton/jail1 {data}/skeleton"
    return [base.split(), skeleton.split()]


def test_the_commands_of_a_life(site: ThinSite) -> None:
    data = str(site.point("data"))
    assert site.start().returncode == 0
    assert [argv for argv in site.mounting if argv[-1].startswith(data)] == layers(site)
    site.world.forget_calls()
    assert site.stop().returncode == 0
    # Side by side with these: the others.
    points = [call["argv"][-1] for call in site.world.calls("umount")]
    assert [point for point in points if point.startswith(data)] == [f"{data}/skeleton", data]


def test_two_jails_share_a_base(site: ThinSite) -> None:
    site.add("jail2")
    assert [site.start(name=name).returncode for name in ("jail1", "jail2")] == [0, 0]
    assert site.table == sorted(site.wanted("jail1") + site.wanted("jail2"))
    assert site.stop().returncode == 0
    assert site.table == site.wanted("jail2")


@pytest.mark.parametrize("link", LINKS)
def test_a_base_without_a_link_is_refused_before_anything_is_mounted(site: ThinSite, link: str) -> None:
    (site.files / "base" / link).unlink()
    ended = site.start()
    up = "../" if "/" in link else ""
    assert ended.returncode == os.EX_NOINPUT
    assert f"{link} must be links into skeleton" in last_line(ended)
    assert last_line(ended).endswith(f"as in: ln -s {up}skeleton/{link} {site.files}/base/{link}")
    assert (site.table, site.mounting) == ([], [])


@pytest.mark.parametrize("target", ["skeleton/usr/local", "/skeleton/usr/local", "../skeleton/local"])
def test_a_link_that_leads_elsewhere_is_refused(site: ThinSite, target: str) -> None:
    link = site.files / "base" / "usr" / "local"
    link.unlink()
    link.symlink_to(target)
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "usr/local must be links into skeleton" in last_line(ended)
    assert site.mounting == []


def test_a_base_without_skeleton_or_no_base_at_all_is_refused(site: ThinSite) -> None:
    (site.files / "base" / "skeleton").rmdir()
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "it has no directory skeleton; mkdir " in last_line(ended)
    site.configure(BASE_DIR="/nosuch/base")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "cannot use /nosuch/base as a base: No such file or directory; correct BASE_DIR" in last_line(ended)
    assert site.mounting == []


def test_a_skeleton_that_lacks_what_a_link_leads_to_is_taken_back(site: ThinSite) -> None:
    (site.held("skeleton") / "var").rmdir()
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "has no var, which the links of the base lead to" in last_line(ended)
    assert site.table == []


def test_a_writable_base_is_refused_and_left_alone(site: ThinSite) -> None:
    """docs/freebsd.md#nullfs: with a comma between its options mount_nullfs makes a writable mount."""
    data = site.point("data")
    site.world.command("mount_nullfs", "-o", "ro,nosuid", str(site.files / "base"), str(data))
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert f"is mounted there read-write, so that a jail could change the base of all; umount {data}" in last_line(
        ended
    )
    assert site.table == [site.row("data")]


def test_a_second_base_on_the_first_is_refused(site: ThinSite) -> None:
    site.preset("data", "data")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "2 mounts are stacked on it" in last_line(ended)
    assert site.mounting == []


def test_a_link_that_the_jail_has_made_leads_no_mount_out_of_it(tmp_path: Path) -> None:
    """docs/faults.md, 31, by somebody who means it."""
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        data, outside = site.point("data"), site.files / "outside"
        (outside / "media").mkdir(parents=True)
        (site.held("skeleton") / "home" / "trap").symlink_to(outside)
        site.write_fstab(
            f"{site.files}/base {data} nullfs ro",
            f"{site.held('skeleton')} {data}/skeleton nullfs rw",
            f"{site.files}/media {data}/skeleton/home/trap/media nullfs ro",
        )
        for already in ((), ("system", "data"), ("system", "data", "skeleton")):
            if already:
                site.preset(*already)
            ended = site.start()
            assert ended.returncode == os.EX_NOPERM
            assert f"{outside}/media" in last_line(ended)
            assert [row[1] for row in site.table] == sorted(str(site.point(which)) for which in already)
            for which in reversed(already):
                assert site.world.command("umount", str(site.point(which))).returncode == 0


def test_a_link_that_a_jail_has_made_shows_it_nothing_of_the_host(tmp_path: Path) -> None:
    """A line can show a directory of one jail to another."""
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        site.add("jail2")
        data, secret = site.point("data"), site.files / "secret"
        secret.mkdir()
        shared = site.held("skeleton", "jail2") / "home" / "shared"
        shared.symlink_to(secret)
        site.write_fstab(
            f"{site.files}/base {data} nullfs ro",
            f"{site.held('skeleton')} {data}/skeleton nullfs rw",
            f"{shared} {data}/media nullfs ro",
        )
        ended = site.start()
        assert ended.returncode == os.EX_NOPERM
        assert f"a link leads to {secret}; name a directory without links" in last_line(ended)
        assert site.table == []


def test_the_skeleton_itself_may_be_reached_by_a_link(site: ThinSite) -> None:
    (site.files / "jails").symlink_to(site.files / "skeleton")
    site.configure(SKELETON_DIR="{files}/jails/{name}")
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_a_file_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        (site.files / "jail1.fstab").chmod(0o666)
        ended = site.start()
        assert ended.returncode == os.EX_NOPERM
        assert f"chmod go-w {site.files}/jail1.fstab" in last_line(ended)
        assert site.mounting == []


def test_what_lies_in_another_line_waits_for_it(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        data = site.point("data")
        (site.files / "deep" / "file").mkdir(parents=True)
        site.write_fstab(
            f"{site.files}/deep {data}/skeleton/home/deep/er nullfs rw",
            f"{site.files}/media {data}/media nullfs ro",
            f"{site.held('skeleton')} {data}/skeleton nullfs rw",
            f"{site.files}/base {data} nullfs ro",
        )
        assert site.start().returncode == 0
        points = sorted(row[1] for row in site.table if row[1].startswith(str(data)))
        assert points == [f"{data}{end}" for end in ("", "/media", "/skeleton", "/skeleton/home/deep/er")]
        assert site.stop().returncode == 0
        assert site.table == []


def test_case_c12_the_base_of_a_line_is_corrected_in_its_file(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        fstab = site.write_fstab(f"/nosuch/base {site.point('data')} nullfs ro")
        ended = site.start()
        assert ended.returncode == os.EX_NOINPUT
        assert last_line(ended).endswith(f"No such file or directory; correct {fstab}")


def test_case_c10_an_empty_directory_may_be_shown_read_only(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        (site.files / "media" / "films").rmdir()
        for _ in range(2):
            ended = site.start()
            assert (ended.returncode, ended.stderr) == (0, "")
        assert site.table == sorted(site.wanted())
        assert site.hand("check", "nullfs", "-w", str(site.workdir), "-j", "jail1").returncode == 0


def lines_with_a_file(site: ThinSite, *, mode: str = "ro") -> Path:
    """Add a line of two files to the jail's; the source."""
    data, source = site.point("data"), site.files / "resolv.conf"
    source.write_text("nameserver 172.16.0.1\n")
    site.write_fstab(
        f"{site.files}/base {data} nullfs ro",
        f"{site.held('skeleton')} {data}/skeleton nullfs rw",
        f"{source} {data}/skeleton/etc/resolv.conf nullfs {mode}",
    )
    return source


def test_case_c15_a_file_is_mounted_on_a_file(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        source, point = lines_with_a_file(site), site.point("data") / "skeleton/etc/resolv.conf"
        held = site.held("skeleton") / "etc/resolv.conf"
        for _ in range(2):
            assert site.start().returncode == 0
            assert (str(source), str(point), "nullfs") in site.table
            assert (
                site.hand("check", "--level", "write", "nullfs", "-w", str(site.workdir), "-j", "jail1").returncode == 0
            )
        assert held.read_bytes() == b""
        assert site.stop().returncode == 0
        assert site.table == []


def test_case_c15_what_the_file_would_hide_is_told(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        lines_with_a_file(site)
        held = site.held("skeleton") / "etc/resolv.conf"
        held.write_text("the jail's own\n")
        site.configure(HIDDEN_FILES="refuse")
        ended = site.start()
        assert ended.returncode == os.EX_CONFIG
        assert "resolv.conf is not empty (15 bytes): the mount hides that; move it away" in last_line(ended)
        assert site.table == []
        assert held.read_text() == "the jail's own\n"


def test_case_c15_a_file_is_not_mounted_on_a_directory(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        lines_with_a_file(site)
        (site.held("skeleton") / "etc/resolv.conf").mkdir()
        ended = site.start()
        assert ended.returncode == os.EX_NOINPUT
        assert "it is no file, and the source is one" in last_line(ended)
        assert site.table == []


def test_case_c15_a_file_with_two_names_is_not_mounted_on(tmp_path: Path) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        lines_with_a_file(site)
        held = site.held("skeleton") / "etc/resolv.conf"
        held.touch()
        held.with_name("other").hardlink_to(held)
        ended = site.start()
        assert ended.returncode == os.EX_NOINPUT
        assert "it has another hard link" in last_line(ended)


@pytest.mark.parametrize("text", ["Not a directory", "Invalid argument"])
def test_case_c15_an_older_system_is_said_to_mount_directories_only(tmp_path: Path, text: str) -> None:
    with ThinSite(tmp_path, THIN_FSTAB) as site:
        source, point = lines_with_a_file(site), site.point("data") / "skeleton/etc/resolv.conf"
        site.world.fault("mount_nullfs", nth=4, text=f"mount_nullfs: {point}: {text}")
        ended = site.start()
        assert ended.returncode == os.EX_CONFIG
        assert f"cannot mount {source} on {point}: " in last_line(ended)
        assert last_line(ended).endswith("for directories only, files need FreeBSD 14: name the directory")
        assert site.table == []
        assert not os.listdir(site.held("skeleton") / "etc")


def test_the_hand_tool_shows_the_layers(site: ThinSite) -> None:
    which = ["nullfs", "-w", str(site.workdir), "-j", "jail1"]
    plan = site.hand("plan", *which).stdout.splitlines()
    base, skeleton = (plan.index(shlex.join(argv)) for argv in layers(site))
    assert base < skeleton
    site.start()
    assert site.hand("check", *which).returncode == 0
    assert "mounted" in next(line for line in site.hand("status", *which).stdout.splitlines() if "skeleton" in line)
