"""One life-cycle suite for all backends: start, start, stop, stop, and every command of it going wrong in turn.

A new backend is a row in VARIANTS, and one in FRAGILE.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from blocks import GELI, GELI_IMAGE, HAST, HAST_GELI, ISCSI, ISCSI_GELI, RBD
from cbsd import NFS4, NULLFS, Ended, Site, Variant
from clients import CEPH_DATA, GLUSTER_DATA
from pace import in_time
from thin_site import THIN, THIN_FSTAB, THIN_ZFS
from variants import FRAGILE_THIN, STACKS, site_of

FOUR = ("rcconf", "system", "fstab", "data")
VARIANTS = (
    NFS4,
    NULLFS,
    Variant("nfs, version 3", "nfs", {"MOUNT_NFS_OPT": "-orw -overs=3 -ohard"}, ("system", "fstab", "data")),
    Variant("nfs, four directories", "nfs", {"MOUNT_RCCONF": "1"}, FOUR),
    Variant("nfs, shared rcconf", "nfs", {"MOUNT_RCCONF": "1", "RCCONF_SHARED": "1"}, FOUR),
    Variant("nfs, data alone", "nfs", {"MOUNT_SYSTEM": "0", "MOUNT_FSTAB": "0"}, ("data",)),
    THIN,
    THIN_FSTAB,
)
# Every command of these goes wrong in turn, in every way. Two directories are the fewest that can be half there.
FRAGILE = (
    Variant("nullfs", "nullfs", {"MOUNT_FSTAB": "0", "MOUNT_SYSTEM": "0"}, ("data",)),
    Variant("nfs", "nfs", {"MOUNT_FSTAB": "0"}, ("system", "data")),
)
FRAGILE_STACKS = (ISCSI, ISCSI_GELI, GELI, GELI_IMAGE, HAST, HAST_GELI, RBD, GLUSTER_DATA, CEPH_DATA)
ALL_WAYS = bool(os.environ.get("ENVSTART_ALL_WAYS"))
FAULTS = ("hang", "fail", "ignore-term", "say-ok-do-nothing", "unkillable", "do-it-say-fail", "late")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
VERBS = ("start", "stop")
Record = Callable[[str, object], None]
# Seconds; its last quarter is for the roll back, which must not be short of it on a busy machine. A stack of
# devices or mounts has more to take back.
TIMEOUT, STACK_TIMEOUT = 8, 16
# Each case has a machine of its own, and most of its time nothing runs.
AT_ONCE = 4

KILLS = ("during", "before", "after")
# Commands that only look, by their first words.
LOOKS = (
    "mount --libxo", "sysctl -n", "iscsictl -L", "hastctl list", "rbd-ggate list", "zfs get", "fuser", "jls",
)  # fmt: skip

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.title.replace(",", ""))
every_stack = pytest.mark.parametrize("variant", STACKS, ids=lambda variant: variant.title.replace(",", ""))
every_backend = pytest.mark.parametrize(
    "variant", [*FRAGILE, *FRAGILE_STACKS, *FRAGILE_THIN], ids=lambda variant: variant.title.replace(",", "")
)


class Case(NamedTuple):
    """The Nth command of ``verb``, and what happens there."""

    verb: str
    nth: int
    what: str = ""


def prepared(top: Path, variant: Variant, verb: str) -> Site:
    """Return a site before ``verb``: nothing is mounted, or all is."""
    site = site_of(top, variant)
    site.configure(TIMEOUT=str(timeout_of(variant)))
    if verb == "stop":
        site.preset()
    site.world.forget_calls()
    return site


def timeout_of(variant: Variant) -> int:
    return STACK_TIMEOUT if variant in STACKS else TIMEOUT


def act(site: Site, verb: str) -> Ended:
    return site.start() if verb == "start" else site.stop()


def every_command(top: Path, variant: Variant, whats: Iterable[str]) -> list[Case]:
    """Return a case for each command that an undisturbed run runs, and each thing that can happen there."""
    places = []
    for verb in VERBS:
        with prepared(top / f"undisturbed-{verb}", variant, verb) as site:
            assert act(site, verb).returncode == 0
            calls = [" ".join(call["argv"]) for call in site.world.calls()]
            # A command that looks a second time sees what it saw at first, or what the command before it did.
            distinct = [nth for nth, call in enumerate(calls) if not call.startswith(LOOKS) or calls.index(call) == nth]
            thin = variant in STACKS and not ALL_WAYS
            places += [(verb, nth + 1) for nth in (distinct if thin else range(len(calls)))]
    ways = list(whats)
    if thin:
        return [Case(verb, nth, ways[turn % len(ways)]) for turn, (verb, nth) in enumerate(places)]
    return [Case(verb, nth, what) for verb, nth in places for what in ways]


def play(top: Path, variant: Variant, cases: Iterable[Case], check: Callable[[Site, Case], str]) -> None:
    """Play each case on a machine of its own; ``check`` returns what is wrong, or nothing."""

    def play_one(case: Case) -> str:
        title = f"{case.verb}-{case.nth}-{case.what}"
        with prepared(top / title, variant, case.verb) as site:
            wrong = check(site, case)
        return f"{title}: {wrong}" if wrong else ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = [found for found in pool.map(play_one, cases) if found]
    assert not wrong, "\n".join(wrong)


def verdict(site: Site, verb: str, status: int, words: str) -> str:
    """All or nothing after a start; after a stop, nothing or a status that says otherwise; "" if that is so."""
    if site.world.panic:
        return f"the host is dead: {site.world.panic}"
    now = site.footprint()
    if verb == "start":
        fine = site.is_all_there() if status == 0 else now == site.rest
    else:
        fine = now == site.rest if status == 0 else not site.foreign()
    return "" if fine else f"status {status}, and there is {now}\n{words}"


def converges(site: Site) -> str:
    """One clean start brings all, one clean stop takes all away; "" if that is so."""
    for verb in VERBS:
        ended = act(site, verb)
        wrong = verdict(site, verb, ended.returncode, ended.stderr)
        if ended.returncode or wrong:
            return f"a clean {verb}: {wrong or ended.stderr}"
    return ""


@pytest.mark.parametrize("variant", [*VARIANTS, THIN_ZFS], ids=lambda variant: variant.title.replace(",", ""))
def test_start_start_stop_stop(tmp_path: Path, variant: Variant) -> None:
    with site_of(tmp_path, variant) as site:
        for verb, expected in (("start", site.wanted()), ("start", site.wanted()), ("stop", []), ("stop", [])):
            ended = act(site, verb)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
            assert site.table == expected


@every_stack
def test_a_stack_starts_and_stops_twice(tmp_path: Path, variant: Variant) -> None:
    with site_of(tmp_path, variant) as site:
        for verb in ("start", "start", "stop", "stop"):
            ended = act(site, verb)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
            assert verdict(site, verb, 0, "") == ""


@pytest.mark.first(6)
@every_stack
def test_what_is_so_already_is_only_looked_at_and_once(tmp_path: Path, variant: Variant) -> None:
    with site_of(tmp_path, variant) as site:
        site.preset()
        assert site.start().returncode == 0
        calls = [" ".join(call["argv"]) for call in site.world.calls()]
        assert len(calls) == len(set(calls)) <= 4
        assert [call for call in calls if not call.startswith((*LOOKS, "camcontrol persist da0 -i"))] == []


# The file of a thin jail names directories as CBSD does.
LINKED = [variant for variant in (*VARIANTS, *STACKS) if variant is not THIN_FSTAB]


@pytest.mark.first(4)
@pytest.mark.parametrize("variant", LINKED, ids=lambda variant: variant.title.replace(",", ""))
def test_a_workdir_behind_a_link_makes_no_difference(tmp_path: Path, variant: Variant) -> None:
    """The mount table has the names without links, CBSD's argv those with them."""
    with site_of(tmp_path, variant) as site:
        link = site.workdir.with_name("link")
        link.symlink_to(site.workdir)
        args = [word.replace(str(site.workdir), str(link)) for word in site.args()]
        there = {str(site.point(which)) for which in variant.directories}
        for verb, idle in (("start", False), ("start", True), ("stop", False), ("stop", True)):
            site.world.forget_calls()
            ended = site.world.run(f"env_{verb}_{variant.backend}", *args)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
            mounted = {row[1] for row in site.table}
            assert mounted >= there if verb == "start" else not mounted
            calls = [" ".join(call["argv"]) for call in site.world.calls()]
            acts = [call for call in calls if not call.startswith((*LOOKS, "camcontrol persist da0 -i"))]
            assert acts == [] or not idle


@every_variant
def test_what_is_so_already_costs_one_reading_of_the_table(tmp_path: Path, variant: Variant) -> None:
    """A stop reads it again after it has touched directories of which the table shows no mount.

    The table leaves out one that somebody is about to unmount.
    """
    with site_of(tmp_path, variant) as site:
        site.stop()
        assert [call["argv"] for call in site.world.calls()] == [["mount", "--libxo", "json"]] * 2
        site.preset()
        site.start()
        assert [call["argv"] for call in site.world.calls()] == [["mount", "--libxo", "json"]] * 3


@every_variant
def test_a_start_completes_what_is_half_there(tmp_path: Path, variant: Variant) -> None:
    with site_of(tmp_path, variant) as site:
        site.preset(variant.directories[0])
        assert site.start().returncode == 0
        assert site.table == site.wanted()
        assert len(site.mounting) == len(variant.directories) - 1


@pytest.mark.first(2)
@every_variant
def test_a_mount_or_unmount_that_fails_leaves_all_or_nothing(tmp_path: Path, variant: Variant) -> None:
    def check(site: Site, case: Case) -> str:
        command = "umount" if case.verb == "stop" else f"mount_{variant.backend}"
        site.world.fault(command, nth=case.nth, times=None, text=f"{command}: x: Operation not permitted")
        ended = act(site, case.verb)
        return verdict(site, case.verb, ended.returncode, ended.stderr) if ended.returncode else "it says 0"

    play(tmp_path, variant, [Case(verb, nth + 1) for verb in VERBS for nth in range(len(variant.directories))], check)


@pytest.mark.first(1)
@every_backend
def test_a_command_that_goes_wrong_leaves_all_or_nothing(
    tmp_path: Path, variant: Variant, record_property: Record
) -> None:
    def check(site: Site, case: Case) -> str:
        site.world.fault(None, case.what, nth=case.nth)
        began = time.monotonic()
        ended = act(site, case.verb)
        if not in_time(began, 1, waiting=timeout_of(variant)):
            return "it outlasts TIMEOUT"
        wrong = verdict(site, case.verb, ended.returncode, ended.stderr)
        site.world.calm()
        return wrong or converges(site)

    cases = every_command(tmp_path, variant, FAULTS)
    record_property("boundaries", len(cases))
    play(tmp_path, variant, cases, check)


@pytest.mark.first(1)
@every_backend
def test_after_a_kill_one_clean_start_and_stop_converge(
    tmp_path: Path, variant: Variant, record_property: Record
) -> None:
    def check(site: Site, case: Case) -> str:
        site.world.fault(None, "kill-parent", nth=case.nth, when=case.what)
        ended = act(site, case.verb)
        if ended.returncode != -signal.SIGKILL and len(site.world.calls()) >= case.nth:
            return f"it was not killed: {ended.returncode}"
        site.world.clear_faults()
        return converges(site)

    cases = every_command(tmp_path, variant, KILLS)
    record_property("boundaries", len(cases))
    play(tmp_path, variant, cases, check)


@pytest.mark.first(2)
@every_backend
def test_a_signal_ends_it_in_order(tmp_path: Path, variant: Variant, record_property: Record) -> None:
    def check(site: Site, case: Case) -> str:
        number = signal.Signals[case.what]
        site.world.fault(None, "hang", nth=case.nth)
        hanging = site.world.state["total"] + case.nth
        with site.begin(case.verb) as hook:
            while not any(call["number"] == hanging for call in site.world.calls()):
                if hook.poll() is not None:
                    # How often it looks while it waits for a device is a matter of time.
                    return "it ended before the signal" if len(site.world.calls()) >= case.nth else ""
                time.sleep(0.01)
            hook.send_signal(number)
            words = hook.communicate()[1]
        # Before the first side effect the default action is as good; sh(1) shows both alike.
        status = 128 - hook.returncode if hook.returncode < 0 else hook.returncode
        if status != 128 + number:
            return f"status {status}\n{words}"
        site.world.calm()
        return verdict(site, case.verb, status, words) or converges(site)

    cases = every_command(tmp_path, variant, [number.name for number in SIGNALS])
    record_property("boundaries", len(cases))
    play(tmp_path, variant, cases, check)
