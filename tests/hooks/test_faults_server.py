"""What a file server and the network can do to a start (failure catalogue B.1)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cbsd import NULLFS, SERVER, Site, last_line
from pace import in_time
from stubs import Stub, done, planned
from toy import until

from envstart.errors import EnvstartError, NotFoundError, PermissionDeniedError
from envstart.steps import health
from envstart.steps.mount import Mount
from envstart.system import probe as verdict


def mount_calls(site: Site) -> int:
    return site.count("mount_nfs")


# It must be tried often enough within so short a TIMEOUT.
@pytest.mark.alone
def test_fault_1_server_down_before_the_mount(site: Site) -> None:
    site.configure(TIMEOUT="4")
    site.world.freeze(SERVER)
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 75
    assert in_time(began, 1, waiting=4)
    assert SERVER in last_line(ended)
    assert "is the server up" in last_line(ended)
    assert site.table == []
    assert mount_calls(site) > 3, "it was tried once only"


def test_fault_1_server_comes_back_while_it_is_tried(site: Site) -> None:
    site.world.refuse(SERVER)
    with site.begin() as hook:
        while mount_calls(site) < 4:
            time.sleep(0.02)
        site.world.up(SERVER)
        assert hook.wait() == 0
    assert site.table == site.wanted()


# A look must be answered within so short a PROBE_TIMEOUT.
@pytest.mark.alone
def test_a_server_in_its_grace_period_is_waited_for(site: Site) -> None:
    """After a power cut all are started at once: the server mounts, and for a minute or two it opens no file."""
    site.configure(TIMEOUT="30", PROBE_TIMEOUT="1")
    site.world.restarted(SERVER)
    with site.begin() as hook:
        while len(site.table) < 3:
            time.sleep(0.02)
        time.sleep(3)
        site.world.up(SERVER)
        assert hook.wait() == 0
    assert site.table == site.wanted()
    assert site.count("umount") == 0


# All must be mounted within so short a TIMEOUT.
@pytest.mark.alone
def test_a_grace_period_longer_than_the_time(site: Site) -> None:
    site.configure(TIMEOUT="6", PROBE_TIMEOUT="1")
    site.world.restarted(SERVER)
    began = time.monotonic()
    ended = site.start()
    assert ended.returncode == 75
    assert in_time(began, 1, waiting=6)
    assert "no answer" in last_line(ended)


def test_fault_2_port_closed(site: Site) -> None:
    site.configure(ATTEMPTS="2")
    site.world.refuse(SERVER)
    ended = site.start()
    assert ended.returncode == 75
    assert "Connection refused" in last_line(ended)
    assert mount_calls(site) <= 2 * 3
    assert site.table == []


def test_fault_3_server_died_after_the_mount_and_stays_dead(site: Site) -> None:
    site.configure(TIMEOUT="8")
    site.preset()
    site.world.freeze(SERVER)
    ended = site.start()
    assert ended.returncode == 75
    assert SERVER in last_line(ended)


def test_fault_3_dead_mounts_of_a_stopped_environment_are_mounted_anew(site: Site) -> None:
    site.preset()
    site.world.freeze(SERVER)
    with site.begin() as hook:
        while not site.count("umount"):
            time.sleep(0.02)
        site.world.thaw(SERVER)
        assert hook.wait() == 0
    assert site.table == site.wanted()
    assert {tuple(call["argv"][:2]) for call in site.world.calls("umount")} == {("umount", "-N")}


@pytest.mark.parametrize("linked", ["workdir", "data"])
def test_fault_3_dead_mounts_behind_links_are_known_by_the_table(site: Site, linked: str) -> None:
    """A mount point that the table knows is not touched, whatever links the path to it has."""
    args = site.args()
    if linked == "workdir":
        link = site.workdir.with_name("link")
        link.symlink_to(site.workdir)
        args = [word.replace(str(site.workdir), str(link)) for word in args]
        site.preset()
    else:
        real = site.workdir / "vm" / "jail1"
        real.mkdir(parents=True)
        site.point("data").rmdir()
        site.point("data").symlink_to(real)
        site.preset("system", "fstab")
        site.world.mount(site.source("data"), real)
    before = site.table
    site.world.freeze(SERVER)
    with site.world.popen("env_start_nfs", *args) as hook:
        while not site.count("umount"):
            time.sleep(0.02)
            assert hook.poll() is None, "it did not find them"
        site.world.thaw(SERVER)
        assert hook.wait() == 0
    assert {tuple(call["argv"][:2]) for call in site.world.calls("umount")} == {("umount", "-N")}
    assert site.table == before


def test_missing_mount_points_are_made_in_a_workdir_behind_a_link(site: Site) -> None:
    """So is a client's own directory in /var/run, which is a link on Linux."""
    link = site.workdir.with_name("link")
    link.symlink_to(site.workdir)
    site.point("data").rmdir()
    site.point("data").parent.rmdir()
    ended = site.world.run("env_start_nfs", *[word.replace(str(site.workdir), str(link)) for word in site.args()])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert site.table == site.wanted()


def test_fault_3_dead_mounts_of_a_running_environment_are_left_alone(site: Site) -> None:
    site.preset()
    site.world.freeze(SERVER)
    site.world.jail("jail1", 7)
    ended = site.start()
    assert ended.returncode == 75
    assert "jail1 runs" in last_line(ended)
    assert site.count("umount") == 0
    assert site.table == site.wanted()


@pytest.mark.parametrize("way", ["fail", "unkillable"])
def test_fault_3_dead_mounts_are_left_alone_while_nobody_can_tell_whether_it_runs(site: Site, way: str) -> None:
    site.configure(TIMEOUT="8")
    site.preset()
    site.world.freeze(SERVER)
    site.world.jail("jail1", 7)
    site.world.fault("jls", way, times=None)
    ended = site.start()
    assert (ended.returncode, "what jls knows" in last_line(ended)) == (75, True), ended
    assert (site.count("umount"), site.table) == (0, site.wanted())


def test_fault_3_a_name_that_is_another_jails_number(site: Site) -> None:
    """``jls -j 7`` is about the jail with the jid 7."""
    site.configure(TIMEOUT="8")
    site.add("7")
    site.preset(name="7")
    site.world.freeze(SERVER)
    site.world.jail("jail1", 7)
    with site.begin(name="7") as hook:
        while not site.count("umount"):
            assert hook.poll() is None
            time.sleep(0.02)
        site.world.thaw(SERVER)
        assert hook.wait() == 0


def test_fault_3_nullfs_of_a_directory_on_a_dead_server(tmp_path: Path) -> None:
    """What hangs there is in the kernel, and nothing ends it."""
    with Site(tmp_path, NULLFS) as site:
        site.configure(TIMEOUT="4")
        site.world.export(SERVER, "/files")
        site.world.mount(f"{SERVER}:/files", site.files)
        site.world.freeze(SERVER)
        before = site.table
        began = time.monotonic()
        ended = site.start()
        assert ended.returncode == 75
        assert in_time(began, 1, waiting=4)
        assert "pid " in last_line(ended)
        assert site.table == before


def test_fault_4_a_look_at_dead_mounts_ends(site: Site) -> None:
    site.preset()
    site.world.freeze(SERVER)
    began = time.monotonic()
    ended = site.hand("status", "nfs", "-w", str(site.workdir), "-j", "jail1")
    assert (ended.returncode, ended.stdout.count("no answer")) == (1, 3)
    assert in_time(began, 2, waiting=1)


def test_fault_5_server_died_before_the_stop(site: Site) -> None:
    site.configure(TIMEOUT="4")
    site.preset()
    site.world.freeze(SERVER)
    ended = site.stop()
    assert ended.returncode == 75
    assert "STOP_FORCE=1" in last_line(ended)
    assert site.table == site.wanted()
    assert site.count("umount") == 0, "a plain umount of a dead mount hangs, and spoils umount -N"


def test_fault_5_server_died_before_a_stop_that_may_use_force(site: Site) -> None:
    site.configure(STOP_FORCE="1")
    site.preset()
    site.world.freeze(SERVER)
    ended = site.stop()
    assert ended.returncode == 0, ended.stderr
    assert site.table == []
    assert {tuple(call["argv"]) for call in site.world.calls("umount")} == {
        ("umount", "-N", str(site.point(which))) for which in site.variant.directories
    }


def test_fault_5_forced_unmounts_side_by_side(site: Site) -> None:
    """Each took a minute (tests/transcripts/nfs-dead-server.txt), and TIMEOUT is two."""
    site.world.set(force_seconds=4)
    site.configure(STOP_FORCE="1", TIMEOUT="60")
    site.preset()
    site.world.freeze(SERVER)
    with site.begin("stop") as hook:
        until(lambda: sum("-N" in call["argv"] for call in site.world.calls("umount")) == 3, "one waits for the other")
        assert len(site.table) == 3
        assert hook.wait() == 0
    assert site.table == []


def test_fault_5_a_forced_unmount_that_takes_minutes_goes_on_alone(site: Site) -> None:
    site.world.set(force_seconds=60)
    site.configure(STOP_FORCE="1", TIMEOUT="4")
    site.preset()
    site.world.freeze(SERVER)
    began = time.monotonic()
    ended = site.stop()
    assert ended.returncode == 75
    assert in_time(began, 1, waiting=4)
    assert "pid " in last_line(ended)


def test_fault_6_stale_mount(site: Site) -> None:
    site.preset()
    site.world.stale(site.point("data"))
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.table == site.wanted()
    assert len(site.mounting) == 1
    assert "is broken: remounting it" in ended.stderr


def test_fault_6_stale_mount_of_a_running_environment(site: Site) -> None:
    site.preset()
    site.world.stale(site.point("data"))
    site.world.jail("jail1", 7)
    ended = site.start()
    assert ended.returncode == 75
    assert "Stale" in ended.stderr or "broken" in last_line(ended)
    assert site.count("umount") == 0


def test_fault_7_name_that_does_not_exist(site: Site) -> None:
    site.configure(NFS_SERVER="nowhere.example.com")
    ended = site.start()
    assert ended.returncode not in (0, 75)
    assert "Name does not resolve" in last_line(ended)
    assert mount_calls(site) <= 3, "a name that does not exist heals by no retry"


def test_fault_7_resolver_that_gives_no_answer(site: Site) -> None:
    site.world.fault("mount_nfs", text=f"mount_nfs: {SERVER}: Name could not be resolved at this time", times=4)
    ended = site.start()
    assert ended.returncode == 0, ended.stderr
    assert site.table == site.wanted()


def test_fault_7_resolver_that_is_not_up_yet(tmp_path: Path) -> None:
    """FreeBSD says that a name does not resolve when no server could be asked, too (_dns_getaddrinfo())."""
    with Site(tmp_path, just_booted=True) as site:
        site.world.fault("mount_nfs", text=f"mount_nfs: {SERVER}: Name does not resolve", times=4)
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.table == site.wanted()


def test_fault_9_server_with_an_ipv6_address(site: Site) -> None:
    for which in site.variant.directories:
        (site.world.export("fd00::1", f"/nfs/{which}/jail1") / "etc").mkdir()
    site.configure(NFS_SERVER="fd00::1")
    for _ in range(2):
        assert site.start().returncode == 0
    assert [source for source, _, _ in site.table] == [f"[fd00::1]:/nfs/{n}/jail1" for n in ("data", "fstab", "system")]
    assert mount_calls(site) == 3


def test_fault_10_directory_missing_on_the_server(site: Site) -> None:
    site.held("system").rmdir()
    ended = site.start()
    assert ended.returncode == 66
    assert f"{SERVER}:/nfs/system/jail1" in last_line(ended)
    assert "make the directory on the server" in last_line(ended)
    assert mount_calls(site) <= 3, "a missing directory heals by no retry"
    assert site.table == []


def test_fault_10_version_4_shows_an_empty_directory_for_what_is_not_exported(site: Site) -> None:
    """The mount succeeds then (tests/transcripts/nfs.txt); without a look inside, the jail would start on nothing."""
    site.world.unexport(SERVER, "/nfs/data/jail1")
    ended = site.start()
    assert ended.returncode == 66
    assert "cannot be listed (Input/output error)" in last_line(ended)
    assert "export it" in last_line(ended)
    assert site.table == []


@pytest.mark.parametrize(
    ("why", "kind", "words"),
    [
        (
            "Permission denied",
            PermissionDeniedError,
            "takes no file (Permission denied); let the server map root to root",
        ),
        ("Read-only file system", PermissionDeniedError, "takes no file (Read-only file system); let it be written to"),
        ("Input/output error", NotFoundError, "takes no file (Input/output error): an NFSv4 server shows"),
    ],
)
def test_fault_10_an_empty_directory_that_takes_no_file(
    tmp_path: Path, why: str, kind: type[EnvstartError], words: str
) -> None:
    """Exported without -maproot, root is nobody there; other servers than FreeBSD's show empty what is not exported."""

    class Answered(Stub):
        async def probe(self, *_: object, **__: object) -> object:
            return verdict.EMPTY, why, None

    plan = planned(tmp_path, "nfs", NFS_SERVER=SERVER)
    (data,) = [step for step in plan.steps if isinstance(step, Mount) and step.name == "data"]
    try:
        lack = done(health.check_health(data, Answered().host, data.point))
    except PermissionDeniedError as error:
        lack = error
    assert type(lack) is kind
    assert words in str(lack)


def test_fault_10_the_operator_may_accept_an_empty_directory(site: Site) -> None:
    site.world.unexport(SERVER, "/nfs/data/jail1")
    site.configure(EMPTY_DIR="warn")
    ended = site.start()
    assert ended.returncode == 0
    assert "warning" in last_line(ended)
    assert site.table == site.wanted()


@pytest.fixture
def unexported(site: Site) -> Site:
    """Mount the data directory before it is exported, as somebody does who asks for no more."""
    site.world.unexport(SERVER, "/nfs/data/jail1")
    site.configure(EMPTY_DIR="ignore")
    assert site.start().returncode == 0
    site.configure(EMPTY_DIR="refuse")
    site.world.forget_calls()
    return site


def test_fault_10_what_was_exported_after_it_was_mounted_is_mounted_anew(unexported: Site) -> None:
    unexported.world.export(SERVER, "/nfs/data/jail1")
    ended = unexported.start()
    assert ended.returncode == 0, ended.stderr
    assert unexported.table == unexported.wanted()
    assert mount_calls(unexported) == 1


def test_fault_10_not_exported_yet_and_mounted_all_the_same(unexported: Site) -> None:
    ended = unexported.start()
    assert ended.returncode == 66
    assert "export it and start again" in last_line(ended)


def test_fault_10_not_exported_and_the_environment_runs(unexported: Site) -> None:
    unexported.world.jail("jail1", 7)
    before = unexported.table
    ended = unexported.start()
    assert ended.returncode == 75
    assert "not exported, and jail1 runs; stop it first" in last_line(ended)
    assert unexported.table == before


def test_fault_10_names_that_must_be_there(site: Site) -> None:
    site.configure(REQUIRE_DATA="etc bin")
    ended = site.start()
    assert ended.returncode == 66
    assert "bin" in last_line(ended)
    assert "REQUIRE_DATA" in last_line(ended)
    assert site.table == []


def test_fault_11_server_denies_access(site: Site) -> None:
    site.configure(MOUNT_NFS_OPT="-orw -overs=3")
    site.world.unexport(SERVER, "/nfs/data/jail1")
    ended = site.start()
    assert ended.returncode == 77
    assert "Permission denied" in last_line(ended)
    assert "export it to this host" in last_line(ended)
    assert mount_calls(site) <= 3
    assert site.table == []


def test_fault_12_version_not_offered(site: Site) -> None:
    site.world.server(SERVER, versions=(2, 3))
    ended = site.start()
    assert ended.returncode == 78
    assert "NFS_VERSION" in last_line(ended)
    assert mount_calls(site) <= 3
    assert site.table == []


def test_fault_13_version_4_needs_no_rpcbind(site: Site) -> None:
    site.world.fault("rpcinfo", times=None)
    site.world.fault("showmount", times=None)
    assert site.start().returncode == 0
    assert site.count("rpcinfo") + site.count("showmount") == 0


def test_fault_14_something_else_answers_the_port(site: Site) -> None:
    site.configure(ATTEMPTS="2")
    site.world.fault("mount_nfs", text="mount_nfs: [tcp] NFSPROC_NULL: RPC: Timed out", times=None)
    ended = site.start()
    assert ended.returncode == 75
    assert "RPC: Timed out" in last_line(ended)
    assert site.table == []


def test_fault_15_slow_server(site: Site) -> None:
    """No directory waits for another one."""
    site.configure(NFS_MOUNT_TIMEOUT="60")
    site.world.server(SERVER, delay=0.5)
    site.world.freeze(SERVER)
    with site.begin() as hook:
        until(lambda: mount_calls(site) == 3, "one waits for the other")
        site.world.thaw(SERVER)
        assert hook.wait() == 0
    assert (site.table, mount_calls(site)) == (site.wanted(), 3)


def test_fault_16_link_that_drops_packets(site: Site) -> None:
    for nth in (1, 2, 4):
        site.world.fault("mount_nfs", text="mount_nfs: nfsd: RPC: Connection reset by peer", nth=nth)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_17_network_not_ready_yet(site: Site) -> None:
    site.world.fault("mount_nfs", text="mount_nfs: nfsd: RPCPROG_NFS: RPC: Network is unreachable", times=3)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_20_server_in_its_grace_period(site: Site) -> None:
    site.world.fault("mount_nfs", text="mount_nfs: nmount: /x: NFSv4 server is in grace period", times=3)
    assert site.start().returncode == 0
    assert site.table == site.wanted()


def test_fault_3_6_dead_mounts_inside_one_another(site: Site) -> None:
    """The inner one is taken away first, the outer one is mounted first."""
    data = site.point("data")
    (site.held("data") / "sys").mkdir()
    site.configure(MOUNT_FSTAB="0")
    args = ["-d", str(data), "-j", "jail1", "-s", str(data / "sys"), "-c", str(site.conf)]
    assert site.world.run("env_start_nfs", *args).returncode == 0
    before = site.table
    for point in (data, data / "sys"):
        site.world.stale(point)
    ended = site.world.run("env_start_nfs", *args)
    assert ended.returncode == 0, ended.stderr
    assert site.table == before
    assert [call["argv"][-1] for call in site.world.calls("umount")] == [str(data / "sys"), str(data)]
