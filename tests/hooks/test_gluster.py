"""GlusterFS in the simulated FreeBSD, whose mount table tells nothing but /dev/fuse. A real one: tests/real."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cbsd import SERVER, Variant, last_line
from clients import CEPH, GLUSTER, MOUNTS, VOLUME, ClientSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ClientSite]:
    with ClientSite(tmp_path, GLUSTER) as site:
        yield site


def states(site: ClientSite) -> dict[str, str]:
    """Return the state of each directory, as `envstart status` has it."""
    ended = site.hand("status", "gluster", "-w", str(site.workdir), "-j", "jail1", "--json")
    return {row["directory"]: row["state"] for row in json.loads(ended.stdout)["directories"]}


# Keys and command lines.


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("GLUSTER_SERVER", "nas1:nas2", "no host name or IPv4 address"),
        ("GLUSTER_SERVER", "fe80::1", "for IPv6 write a name"),
        ("GLUSTER_SERVER", "-x", "no host name"),
        ("GLUSTER_SERVER", "n" * 64, "longer than 63"),
        ("GLUSTER_VOLUME", "gv0/data", "GLUSTER_VOLUME"),
        ("MOUNT_GLUSTERFS_OPT", "rw;id", "cannot take"),
        ("MOUNT_GLUSTERFS_OPT", "log-file=/x", "a key of its own"),
        ("GLUSTER_MOUNT_DIR", "/var/run/my volumes", "a blank"),
        ("GLUSTER_LOG_FILE", "log", "not an absolute path"),
        ("RCCONF_SHARED", "1", "RCCONF_SHARED=0"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_done(
    site: ClientSite, key: str, value: str, complaint: str
) -> None:
    site.configure(**{key: value, "MOUNT_RCCONF": "1"})
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert complaint in ended.stderr
    assert site.world.calls() == []


def test_several_servers_and_the_log_are_options(site: ClientSite) -> None:
    site.configure(GLUSTER_SERVER=f"{SERVER} nas2 nas3", GLUSTER_LOG_FILE=f"{site.world.path}/{{name}}.log")
    assert site.start().returncode == 0
    (argv,) = [call["argv"] for call in site.world.calls("mount_glusterfs")]
    options = f"rw,log-file={site.world.path}/jail1.log,backup-volfile-servers=nas2:nas3"
    assert argv == ["mount_glusterfs", "-o", options, f"{SERVER}:{VOLUME}", str(site.volume())]


def test_plan_shows_what_would_be_run(site: ClientSite) -> None:
    ended = site.hand("plan", "gluster", "-w", str(site.workdir), "-j", "jail1")
    assert f"mount_glusterfs -o rw,log-file={site.log} {SERVER}:{VOLUME} {site.volume()}\n" in ended.stdout
    assert f"mount_nullfs -o rw -o nocover {site.source('data')} {site.point('data')}\n" in ended.stdout
    assert "GLUSTER_SERVER has one server" in ended.stdout


def test_read_only_all_the_way(site: ClientSite) -> None:
    site.configure(MOUNT_GLUSTERFS_OPT="ro", EMPTY_DIR="ignore")
    assert site.start().returncode == 0
    assert [mount["flags"] for mount in site.world.mounts()] == [["ro"]] * 4


# What can go wrong.


def test_no_such_volume(site: ClientSite) -> None:
    site.configure(GLUSTER_VOLUME="nosuch")
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert "failed to fetch volume file (key:nosuch)" in last_line(ended)
    assert "gluster volume list" in last_line(ended)
    assert site.footprint() == site.rest
    assert site.count("mount_glusterfs") == 1


def test_no_directory_for_the_environment_in_the_volume(site: ClientSite) -> None:
    (site.held("fstab")).rmdir()
    ended = site.start()
    assert ended.returncode == os.EX_NOINPUT
    assert f"{SERVER}:{VOLUME} has no fstab/jail1" in last_line(ended)
    assert site.footprint() == site.rest


def test_an_option_that_the_script_does_not_know(site: ClientSite) -> None:
    site.configure(MOUNT_GLUSTERFS_OPT="rw noexec")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "Invalid option noexec" in last_line(ended)


def test_a_server_that_comes_up_is_tried_again(site: ClientSite) -> None:
    site.world.refuse(SERVER)
    with site.begin() as hook:
        while site.count("mount_glusterfs") < 2:
            time.sleep(0.01)
        site.world.up(SERVER)
        assert hook.communicate()[1] == ""
        assert hook.returncode == 0
    assert site.is_all_there()


def test_the_module_is_loaded_before_the_client_opens_its_device(site: ClientSite) -> None:
    assert site.start().returncode == 0
    names = [call["name"] for call in site.world.calls()]
    assert names.index("kldload") < names.index("mount_glusterfs")


def test_case_b5_a_module_that_is_there_is_not_loaded_again(site: ClientSite) -> None:
    """With kern.securelevel=1 kldload(8) fails for it too (tests/transcripts/jail.txt)."""
    assert site.world.command("kldload", "-n", "fusefs").returncode == 0
    site.world.set(sysctls={"kern.securelevel": "1"})
    assert "Operation not permitted" in site.world.command("kldload", "-n", "fusefs").stderr
    before = len(site.world.calls("kldload"))
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert len(site.world.calls("kldload")) == before
    assert site.is_all_there()
    assert site.stop().returncode == 0


def test_case_b5_a_module_that_must_not_be_loaded(site: ClientSite) -> None:
    site.world.set(sysctls={"kern.securelevel": "1"})
    ended = site.start()
    assert ended.returncode == os.EX_UNAVAILABLE
    assert "kldload: can't load fusefs: Operation not permitted" in last_line(ended)
    assert "sysrc kld_list+=fusefs" in last_line(ended)
    assert site.footprint() == site.rest


def test_a_client_that_is_given_up_is_ended(site: ClientSite) -> None:
    site.configure(TIMEOUT="12")
    site.world.freeze(SERVER)
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert site.footprint() == site.rest
    assert site.clients() == []


def test_the_note_of_a_killed_start_without_a_mount(site: ClientSite) -> None:
    """The next start ends what is on its way, and mounts once."""
    site.world.fault("mount_glusterfs", "kill-parent", when="during")
    site.world.freeze(SERVER)
    assert site.start().returncode < 0
    site.world.up(SERVER)
    assert site.start().returncode == 0
    assert site.is_all_there()
    assert len(site.clients()) == 1


# Dead and silent.


def test_a_dead_client_is_told_and_mounted_anew(site: ClientSite) -> None:
    site.preset()
    before = site.client()
    site.kill_client()
    assert states(site) == {"volume": "broken", "system": "broken", "fstab": "broken", "data": "broken"}
    ended = site.hand("status", "gluster", "-w", str(site.workdir), "-j", "jail1")
    assert "Socket is not connected" in ended.stdout
    assert site.start().returncode == 0
    assert site.is_all_there()
    assert site.client() != before


def test_a_dead_client_of_a_running_jail_is_left_alone(site: ClientSite) -> None:
    site.preset()
    site.kill_client()
    site.world.jail("jail1", 7)
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert "jail1 runs; stop it first" in last_line(ended)
    assert site.is_all_there()


def test_a_dead_client_can_be_stopped(site: ClientSite) -> None:
    site.preset()
    site.kill_client()
    assert site.stop().returncode == 0
    assert site.footprint() == site.rest


@pytest.mark.parametrize("variant", [GLUSTER, CEPH], ids=lambda variant: variant.title)
def test_the_old_client_does_not_take_the_next_mount_away(tmp_path: Path, variant: Variant) -> None:
    """The last act of FreeBSD's libfuse is to unmount what is on its directory, by name."""
    with ClientSite(tmp_path, variant, client_farewell=1.0) as site:
        site.configure(PROBE_TIMEOUT="10")
        assert site.start().returncode == 0
        assert site.stop().returncode == 0
        # Once something lies on it, the kernel refuses.
        site.world.fault("mount_nullfs", "slow", seconds=3, times=None)
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()
        assert site.count(MOUNTS[variant.backend][0]) == 2


def test_a_silent_server_is_told_and_the_start_ends(site: ClientSite) -> None:
    site.preset()
    site.world.freeze(SERVER)
    assert set(states(site).values()) == {"no answer"}
    ended = site.start()
    assert ended.returncode == os.EX_TEMPFAIL
    assert site.footprint() == site.rest
    assert site.clients() == []


@pytest.mark.parametrize("how", ["silent", "dead"])
def test_recover_takes_away_what_a_client_cannot_serve(site: ClientSite, how: str) -> None:
    site.preset()
    site.world.freeze(SERVER) if how == "silent" else site.kill_client()
    ended = site.hand("recover", "gluster", "-w", str(site.workdir), "-j", "jail1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("umount") == 4, ended.stdout
    assert site.world.table() == []
    assert site.clients() == []
    site.world.up(SERVER)
    assert site.start().returncode == 0
    assert site.is_all_there()


def test_a_stop_by_force_needs_no_server(site: ClientSite) -> None:
    site.preset()
    site.world.freeze(SERVER)
    refused = site.stop()
    assert refused.returncode == os.EX_TEMPFAIL
    assert "STOP_FORCE=1" in last_line(refused)
    assert site.is_all_there()
    site.configure(STOP_FORCE="1")
    assert site.stop().returncode == 0
    assert site.footprint() == site.rest
    assert site.clients() == []


# Whose is it?


def stranger(site: ClientSite) -> None:
    site.volume().mkdir(parents=True)
    site.world.mount("/dev/fuse", site.volume(), "fusefs")


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_what_the_table_does_not_tell_and_no_note_does_is_unknown(site: ClientSite, verb: str) -> None:
    stranger(site)
    assert states(site)["volume"] == "unknown"
    ended = site.start() if verb == "start" else site.stop()
    assert ended.returncode == os.EX_CONFIG
    assert f"cannot tell what is mounted on {site.volume()}" in last_line(ended)
    assert f"umount {site.volume()}" in last_line(ended)
    assert [row[2] for row in site.table] == ["fusefs"]


def clean(site: ClientSite) -> None:
    """Somebody has cleaned /var/run."""
    for path in (site.world.path / "run").iterdir():
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("spoilt", [False, True])
def test_case_a1_the_record_tells_what_a_lost_note_has_told(site: ClientSite, *, spoilt: bool) -> None:
    site.preset()
    clean(site)
    if spoilt:
        site.conf.write_text("")
    else:
        assert states(site)["volume"] == "mounted"
    ended = site.stop()
    assert (ended.returncode, site.table) == (0, []), ended


def test_a_start_notes_again_what_the_record_confirms(site: ClientSite) -> None:
    site.preset()
    before = len(site.world.calls("mount_glusterfs"))
    clean(site)
    assert site.start().returncode == 0
    assert list((site.world.path / "run").glob("client.*.note"))
    assert len(site.world.calls("mount_glusterfs")) == before


def test_another_mount_than_the_noted_one_is_unknown(site: ClientSite) -> None:
    """As after an unmount by hand, and a mount by somebody else."""
    site.preset()
    for which in ("data", "fstab", "system"):
        assert site.world.command("umount", str(site.point(which))).returncode == 0
    assert site.world.command("umount", str(site.volume())).returncode == 0
    site.world.mount("/dev/fuse", site.volume(), "fusefs")
    assert states(site)["volume"] == "unknown"
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "not the mount that envstart has made" in last_line(ended)


def test_another_volume_in_the_note_is_a_wrong_source(site: ClientSite) -> None:
    site.preset()
    site.configure(GLUSTER_VOLUME="other")
    assert states(site)["volume"] == "wrong source"
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert f"{SERVER}:other" in last_line(ended)
    assert site.is_all_there()
    # What the start has recorded is what is mounted.
    assert site.stop().returncode == 0
    assert site.footprint() == site.rest


def test_a_stack_of_two_is_refused(site: ClientSite) -> None:
    site.preset()
    site.world.mount("/dev/fuse", site.volume(), "fusefs")
    ended = site.start()
    assert ended.returncode == os.EX_CONFIG
    assert "2 mounts are stacked" in last_line(ended)


def test_a_note_lives_as_long_as_the_mount(site: ClientSite) -> None:
    notes = site.world.path / "run"
    site.preset()
    (note,) = notes.glob("*.note")
    source, number = note.read_text().split("\n")
    assert source == f"{SERVER}:{VOLUME}"
    assert number == site.world.mounts()[0]["fsid"]
    assert site.stop().returncode == 0
    assert list(notes.glob("*.note")) == []


@pytest.mark.parametrize(
    ("source", "same"),
    [
        (f"{SERVER}:/{VOLUME}", True),
        (f"{SERVER}:{VOLUME}", True),
        (f"{SERVER}:{VOLUME}2", False),
        (f"10.0.0.9:{VOLUME}", False),
    ],
)
def test_where_the_table_tells_the_source_it_counts(site: ClientSite, source: str, *, same: bool) -> None:
    """A kernel or a client that fills in fsname (docs/freebsd.md#names)."""
    stranger(site)
    site.world._change(lambda state: state["mounts"][-1].update({"special": source}))
    for which in ("system", "fstab", "data"):
        (site.volume() / which / "jail1").mkdir(parents=True, exist_ok=True)
    # The look into it has nothing to see here.
    assert states(site)["volume"] == ("not usable" if same else "wrong source")
