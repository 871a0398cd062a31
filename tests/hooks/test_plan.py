"""What `plan` and `-n` say beforehand is what a start or a stop does: its commands, its exit status, its reason."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from cbsd import SERVER, Ended, Site, Variant, last_line
from clients import GLUSTER, ClientSite
from stubs import Stub, done, planned
from variants import STACKS, site_of

from envstart.engine import plan as plans
from envstart.errors import ConfigError
from envstart.mounts.commands import fsck
from envstart.steps.block import Node
from envstart.storage.fsck import Fsck

# What a run asks, and what a plan makes that a run does by itself.
_READS = (["mount", "--libxo"], ["jls"], ["fuser"], ["sysctl"], ["df"])
_BY_ITSELF = ("mkdir", "touch")


def mounted(site: Site) -> None:
    site.preset()


def stale(site: Site) -> None:
    site.preset()
    site.world.stale(site.point("data"))


def stale_and_running(site: Site) -> None:
    stale(site)
    site.world.jail("jail1", 3)


def frozen(site: Site) -> None:
    site.preset()
    site.world.freeze(SERVER)


def frozen_below_devfs(site: Site) -> None:
    site.preset()
    (site.held("data") / "dev").mkdir()
    site.world.mount("devfs", site.point("data") / "dev", "devfs")
    site.world.freeze(SERVER)


def stop_force(site: Site) -> None:
    site.configure(STOP_FORCE="1")
    frozen(site)


def wrong_source(site: Site) -> None:
    site.preset("system", "fstab")
    site.world.mount("tmpfs", site.point("data"), "tmpfs")


def stacked(site: Site) -> None:
    site.preset()
    site.preset("data")


def covered(site: Site) -> None:
    """Somebody has mounted something above our directory later."""
    site.preset()
    site.world.mount("tmpfs", site.workdir / "jails-data", "tmpfs")


def read_only(site: Site) -> None:
    site.preset("system", "fstab")
    site.world.mount(site.source("data"), site.point("data"), opts=["ro"])


def not_exported(site: Site) -> None:
    site.preset()
    site.world.unexport(SERVER, "/nfs/data/jail1")


def lacking_what_is_required(site: Site) -> None:
    site.configure(REQUIRE_DATA="bin")
    site.preset()


def leased(site: Site) -> None:
    (site.held("system") / "locked").write_text("node2.example.com\n")
    site.preset()


def no_mount_point(site: Site) -> None:
    site.point("data").rmdir()


def no_mount_point_to_be_made(site: Site) -> None:
    site.configure(CREATE_MOUNT_POINTS="0")
    site.point("data").rmdir()


def hidden_files(site: Site) -> None:
    site.configure(HIDDEN_FILES="refuse")
    (site.point("data") / "file").write_text("")


def it_would_hide_a_mount(site: Site) -> None:
    (site.point("data") / "dev").mkdir()
    site.world.mount("devfs", site.point("data") / "dev", "devfs")


def no_program(site: Site) -> None:
    (site.world.path / "bin" / f"mount_{site.variant.backend}").unlink()


def no_place_for_locks(site: Site) -> None:
    (site.world.path / "run").chmod(0o777)


def no_table(site: Site) -> None:
    site.world.fault("mount", times=None)


def one_is_missing(site: Site) -> None:
    site.preset("system", "data")


def nothing(_: Site) -> None:
    pass


SCENES: tuple[Callable[[Site], None], ...] = (
    nothing, mounted, one_is_missing, stale, stale_and_running, frozen, frozen_below_devfs, stop_force, wrong_source,
    stacked, covered, read_only, not_exported, lacking_what_is_required, leased, no_mount_point,
    no_mount_point_to_be_made, hidden_files, it_would_hide_a_mount, no_program, no_place_for_locks,
    no_table,
)  # fmt: skip


def told(ended: Ended) -> list[list[str]]:
    """Return the lines of a plan that can be pasted, each once, as far as they are commands of a run's own."""
    lines = {tuple(shlex.split(line)) for line in ended.stdout.splitlines() if line and not line.startswith("#")}
    return sorted(list(argv) for argv in lines if argv[0] not in _BY_ITSELF)


def changing(site: Site) -> list[list[str]]:
    """Return the commands that were run, each once, without those that only ask."""
    argvs = [list(call["argv"]) for call in site.world.calls()]
    kept = [argv for argv in argvs if not any(argv[: len(asked)] == asked for asked in _READS)]
    return sorted({tuple(argv): argv for argv in kept}.values())


def where(site: Site) -> list[str]:
    return [site.variant.backend, "-w", str(site.workdir), "-j", "jail1"]


@pytest.mark.parametrize("verb", ["start", "stop"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_case_c1_what_is_said_is_what_is_done(site: Site, scene: Callable[[Site], None], verb: str) -> None:
    site.configure(TIMEOUT="6")
    scene(site)
    before, table = site.world.path / "run", site.table
    said = site.hand(verb, *where(site), "-n")
    assert changing(site) == []
    assert site.table == table
    assert [path.name for path in before.iterdir() if not path.name.startswith("probe.")] == []
    site.world.forget_calls()
    run = site.hand(verb, *where(site))
    # What a start has done that fails is taken back by its end.
    assert told(said) == ([] if run.returncode and site.table == table else changing(site))
    if scene in (frozen, frozen_below_devfs, stop_force) and verb == "start":
        # Whether the server will be back in time nobody can tell.
        assert (said.returncode, run.returncode) == (0, 75)
        return
    assert said.returncode == run.returncode
    # A run adds the processes that it has left behind.
    assert last_line(run).startswith(last_line(said)) if run.returncode else said.stderr == ""
    if run.returncode:
        assert f"{verb} would end with exit status {run.returncode}: " in said.stdout
    assert site.hand("plan", *where(site), *(["--stop"] if verb == "stop" else [])).stderr.count("bug") == 0


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_promise_12_the_commands_of_a_dry_run_are_those_of_the_run(site: Site, verb: str) -> None:
    act = site.start if verb == "start" else site.stop
    if verb == "stop":
        site.preset()
    said, table = act("-n"), site.table
    assert (said.returncode, changing(site)) == (0, [])
    assert act().returncode == 0
    assert site.table != table
    assert sorted(told(said)) == sorted(changing(site)) != []


@pytest.mark.parametrize("variant", STACKS, ids=lambda variant: variant.title.replace(",", ""))
def test_case_c1_what_is_said_of_a_stack_is_done(tmp_path: Path, variant: Variant) -> None:
    """Sessions, providers, clients: nothing is changed by who only asks, and all of it is told."""
    site = site_of(tmp_path, variant)
    with site:
        for verb, again in (("start", False), ("start", True), ("stop", False), ("stop", True)):
            before = site.footprint()
            site.world.forget_calls()
            said = site.start("-n") if verb == "start" else site.stop("-n")
            assert site.footprint() == before
            assert (said.returncode, said.stderr) == (0, ""), said.stdout
            lines = [line for line in said.stdout.splitlines() if not line.startswith("# ") or _is_command(line)]
            assert (lines == []) == again, said.stdout
            assert not [
                call for call in site.world.calls() if call["name"].startswith(("mount_", "umount", "zfs clone"))
            ]
            run = site.start() if verb == "start" else site.stop()
            assert run.returncode == 0
            if again:
                assert site.footprint() == before


def _is_command(line: str) -> bool:
    """Tell whether a comment of a plan is a command that cannot be pasted."""
    return line.split()[1] in ("iscsictl", "camcontrol", "fsck_ffs", "mount", "geli", "rbd-ggate", "mount_nullfs")


# Lines that can be pasted here.


@pytest.mark.parametrize("way", ["plan", "start -n", "hook -n"])
def test_case_c2_a_missing_program_is_told_with_what_brings_it(site: Site, way: str) -> None:
    no_program(site)
    verb, *flags = way.split()
    ended = site.start(*flags) if verb == "hook" else site.hand(verb, *where(site), *flags)
    assert ended.returncode == 69
    assert "mount_nfs: it is not installed; it comes with the FreeBSD base system" in last_line(ended)
    assert told(ended) == []


def test_case_c2_a_missing_program_of_a_client_is_told(tmp_path: Path) -> None:
    with ClientSite(tmp_path, GLUSTER) as site:
        (site.world.path / "bin" / "mount_glusterfs").unlink()
        ended = site.hand("plan", *where(site))
    assert ended.returncode == 69
    assert "mount_glusterfs: it is not installed; it comes with the package glusterfs" in last_line(ended)


@pytest.mark.parametrize("platform", ["freebsd", "linux"])
def test_case_c2_no_fsck_that_the_system_lacks(tmp_path: Path, platform: str) -> None:
    stub = Stub()
    stub.platform = platform
    plan = planned(tmp_path, "iscsi", ISCSI_PORTAL="10.0.0.1", ISCSI_TARGET="iqn.2026-01.org:t")
    (step,) = [step for step in plan.steps if isinstance(step, Fsck)]
    step.lower = Node("/dev/nothing", 1)
    start = done(step.commands(stub.host, "start"))
    if platform == "freebsd":
        assert start == [("fsck_ffs", "-p", "/dev/nothing")]
    else:
        assert start == []
        with pytest.raises(ConfigError, match="set VOLUME_FSTYPE=ext4"):
            done(step.check(stub.host))


@pytest.mark.parametrize(
    "device", ["/dev/daN", "/dev/daNp1", "/dev/sdN", "/dev/mdN.eli", "daN", "/dev/ggateN", "/dev/rbdN"]
)
def test_case_c2_a_number_that_is_not_known_makes_a_comment(device: str) -> None:
    assert plans.is_guess(fsck("ufs", device))


@pytest.mark.parametrize("device", ["/dev/da0", "/dev/label/daN", "/dev/hast/N", "/dev/gpt/mdN"])
def test_a_name_that_is_known_makes_none(device: str) -> None:
    assert not plans.is_guess(fsck("ufs", device))
