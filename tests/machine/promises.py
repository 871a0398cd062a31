"""What must hold after each act of a history (docs/promises.md), each asked for by what the world shows."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence

from blocks import BlockSite
from cbsd import Ended, Row, Site
from clients import ClientSite
from harmless import harm
from sim import box, forked
from sim.names import machine_name

from .scene import NAMES, TIMEOUT, Scene

_ASKED = [0]
# What a hook says when it could not keep a promise that depends on others.
EXCUSES = ("could not all be taken back", "left behind", "cannot take", "still")
# All that sysexits(3) and the README name; 70 is a bug.
STATUSES = {0, 1, 64, 66, 69, 74, 75, 77, 78, *(128 + number for number in (1, 2, 3, 15))}
SIGNALS_OF_OURS = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGQUIT, -signal.SIGKILL}
# Seconds of ours beyond TIMEOUT: the machine of the tests is shared.
SLACK = 10.0
# Seconds that a client may take to end after the stop.
_ENDING = 5.0


def asked() -> int:
    """How many were asked for since the last time."""
    found, _ASKED[0] = _ASKED[0], 0
    return found


class Wrong(list[str]):
    """What does not hold."""

    def unless(self, holds: object, text: str) -> None:
        _ASKED[0] += 1
        if not holds:
            self.append(text)


class Before:
    """The host as it is before an act on an environment."""

    def __init__(self, scene: Scene, site: Site, name: str) -> None:
        self.scene, self.site, self.name = scene, site, name
        self.own = scene.rows(site, name)
        self.broken = scene.broken(site, name)
        self.foreign = others(scene, site, {name})
        self.began = time.monotonic()


def others(scene: Scene, site: Site, names: set[str]) -> Counter[Row]:
    """Return the mounts that are none of these environments'."""
    points = set().union(*(scene.points(site, name) for name in names))
    own = [row for name in names for row in scene.rows(site, name)]
    return Counter(row for row in site.world.table() if row not in own and row[1] not in points)


def after(before: Before, verb: str, ended: Ended) -> list[str]:
    """After a hook has run alone."""
    wrong = told(before, verb, ended)
    scene, site, name = before.scene, before.site, before.name
    wrong.unless(others(scene, site, {name}) == before.foreign, f"{verb} {name} changed mounts of others")
    own = scene.rows(site, name)
    status = ended.returncode
    wrong += by_status(before, verb, ended, own)
    if status not in (0, -signal.SIGKILL) and not any(excuse in ended.stderr for excuse in EXCUSES):
        kept = [row for row in before.own if row not in before.broken]
        wrong.unless(not Counter(own) - Counter(before.own), f"{verb} {name}: status {status} and there is more: {own}")
        wrong.unless(not Counter(kept) - Counter(own), f"{verb} {name}: status {status} and there is less: {own}")
    if not relevant(scene, site, name) and status != -signal.SIGKILL:
        wrong.unless(status == 0, f"{verb} {name}: nothing is wrong, and it says {status}: {ended.stderr}")
    return wrong


def after_both(befores: Sequence[Before], verbs: Sequence[str], ended: Sequence[Ended]) -> list[str]:
    """After two hooks have run at once."""
    scene, site = befores[0].scene, befores[0].site
    wrong = Wrong()
    names = {before.name for before in befores}
    for before, verb, one in zip(befores, verbs, ended):
        wrong += told(before, verb, one)
        if len(names) == 2:
            wrong += by_status(before, verb, one, scene.rows(site, before.name))
        if not relevant(scene, site, before.name):
            wrong.unless(
                one.returncode == 0, f"{verb} {before.name}, of two at once, says {one.returncode}: {one.stderr}"
            )
    if len(names) == 1 and all(one.returncode == 0 for one in ended):
        name = befores[0].name
        whole = scene.is_all_there(site, name) if "start" in verbs else False
        nothing = not scene.rows(site, name) if "stop" in verbs else False
        wrong.unless(whole or nothing, f"{verbs} of {name} at once: {scene.rows(site, name)}")
    wrong.unless(others(scene, site, names) == sum_others(befores, names), f"{verbs} changed mounts of others")
    return wrong


def hurried(ended: Ended) -> bool:
    """Whether it was short of time, as on a busy machine a hook with a fast clock can be."""
    return ended.returncode == os.EX_TEMPFAIL and ("no answer" in ended.stderr or "time that was left" in ended.stderr)


def sum_others(befores: Sequence[Before], names: set[str]) -> Counter[Row]:
    found = befores[0].foreign
    for before in befores[1:]:
        found = found & before.foreign
    return found


def by_status(before: Before, verb: str, ended: Ended, own: list[Row]) -> list[str]:
    """0 means that the mount table says so."""
    wrong = Wrong()
    scene, site, name = before.scene, before.site, before.name
    if ended.returncode == 0 and verb == "start":
        wrong.unless(scene.is_all_there(site, name), f"start {name} says 0, and there is {own}")
        wrong.unless(
            not scene.broken(site, name), f"start {name} says 0, and these do not answer: {scene.broken(site, name)}"
        )
    if ended.returncode == 0 and verb == "stop":
        wrong.unless(not own, f"stop {name} says 0, and there is {own}")
    return wrong


def told(before: Before, verb: str, ended: Ended) -> Wrong:
    """Status, words and time of any hook."""
    wrong = Wrong()
    status, words = ended.returncode, ended.stderr
    what = f"{verb} {before.name}: status {status}"
    wrong.unless(status in STATUSES or status in SIGNALS_OF_OURS, f"{what} is none of ours\n{words}")
    wrong.unless("Traceback" not in words + ended.stdout and "a bug in envstart" not in words, f"{what}\n{words}")
    if status > 0:
        last = (words.splitlines() or [""])[-1]
        wrong.unless(
            last.startswith("env_") and len(last) > 20, f"{what}, and the last line does not say why: {words!r}"
        )
    seconds = time.monotonic() - before.began
    limit = TIMEOUT / before.site.world.speed + SLACK
    wrong.unless(seconds < limit, f"{what} after {seconds:.1f} s, which may be {limit:.1f}\n{words}")
    for secret in before.scene.secrets:
        wrong.unless(secret not in words + ended.stdout, f"{what}: a secret is told")
    return wrong


def after_look(before: Before, ended: Ended) -> list[str]:
    """Judge that `envstart check` changes nothing, and says what there is."""
    wrong = Wrong()
    scene, site, name = before.scene, before.site, before.name
    wrong.unless("Traceback" not in ended.stderr and ended.returncode in range(4), f"check {name}: {ended.stderr}")
    wrong.unless(scene.rows(site, name) == before.own, f"check {name} changed mounts")
    wrong.unless(others(scene, site, {name}) == before.foreign, f"check {name} changed mounts of others")
    if not relevant(scene, site, name) and before.own:
        whole = scene.is_all_there(site, name) and not before.broken
        wrong.unless(
            whole == (ended.returncode == 0), f"check {name} says {ended.returncode}: {ended.stdout}{ended.stderr}"
        )
    return wrong


def after_recover(before: Before, ended: Ended) -> list[str]:
    """Judge that `envstart recover` unmounts what does not answer, and nothing else."""
    wrong = Wrong()
    scene, site, name = before.scene, before.site, before.name
    wrong.unless("Traceback" not in ended.stderr and ended.returncode in STATUSES, f"recover {name}: {ended.stderr}")
    now = scene.rows(site, name)
    wrong.unless(not Counter(now) - Counter(before.own), f"recover {name} has mounted: {now}")
    wrong.unless(others(scene, site, {name}) == before.foreign, f"recover {name} changed mounts of others")
    if not before.broken and not relevant(scene, site, name):
        wrong.unless(now == before.own, f"recover {name} has taken away what is well: {before.own}, now {now}")
    return wrong


def relevant(scene: Scene, site: Site, name: str) -> set[str]:
    """Return the troubles that can be a reason for this environment not to start, or not to stop."""
    apart = {
        f"{what} {other}" for what in ("held", "runs", "foreign", "unexported") for other in NAMES if other != name
    }
    there = scene.troubles - apart
    there |= {"other host" for claim in scene.claims if claim[1] == name and claim[0] is not site}
    return there


def always(scene: Scene) -> list[str]:
    """Return what must hold between any two acts."""
    wrong = Wrong()
    for site in scene.sites:
        nodes = Counter(row[1] for row in site.world.table())
        double = [node for node, count in nodes.items() if count > 1]
        wrong.unless(not double, f"mounted twice: {double}")
        wrong.unless(not site.world.panic, f"the host is dead: {site.world.panic}")
        if isinstance(site, BlockSite):
            found = "; ".join(line for line in harm(site).split("; ") if "is lost" not in line)
            wrong.unless(not found, f"never to be done: {found}")
        wrong.unless(not (held := locked(site)), f"a lock is left: {held}")
        wrong.unless(not (left := lingering(site)), f"processes are left: {left}")
        wrong += hidden(scene, site)
    if scene.other is not None and isinstance(scene.site, BlockSite):
        wrong.unless(not split(scene), f"two hosts write: {split(scene)}")
    return wrong


def split(scene: Scene) -> list[str]:
    """Volumes that both hosts have mounted for writing."""
    # What an administrator has laid there is no volume.
    volumes = {
        name: [[row for row in scene.rows(site, name) if row[2] != "tmpfs"] for site in scene.sites] for name in NAMES
    }
    return [name for name, found in volumes.items() if all(found)]


def locked(site: Site) -> list[str]:
    """Return the locks that somebody holds."""
    found = []
    run = site.world.path / "run"
    for path in sorted(run.glob("*.lock")):
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(f"{path.name} ({path.read_text()})")
    return found


def busy(scene: Scene) -> bool:
    return any(busy_at(site) for site in scene.sites)


def lingering(site: Site) -> list[int]:
    """Those that do not end within a while."""
    until = time.monotonic() + 3.0
    while (found := busy_at(site)) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def busy_at(site: Site) -> list[int]:
    """Return the processes of a host that are no clients at work, and do not hang in the kernel."""
    state = site.world.state
    clients = {int(mount["options"].get("client", 0)) for mount in state["mounts"]}
    stuck = {int(pid) for pid in state["stuck"]}
    found = [pid for pid in forked.processes(machine_name(str(site.world.path))) if pid not in clients | stuck]
    # Each image in a cluster has a process; while that is silent, so has each that a killed start was about to map.
    mapped = sum(bool(gate["spec"]) for gate in state["gates"].values())
    if isinstance(site, BlockSite) and box.read(state["storage"])["cluster"] != "up":
        mapped = max(mapped, len(NAMES))
    return found if len(found) > mapped else []


def hidden(scene: Scene, site: Site) -> Wrong:
    """No secret in an argument, an environment, a log or a file of ours."""
    wrong = Wrong()
    for secret in scene.secrets:
        data = secret.encode()
        for path in (site.world.path / "calls", site.world.path / "syslog"):
            wrong.unless(not path.exists() or data not in path.read_bytes(), f"a secret is in {path.name}")
        for entry in os.scandir(site.world.path / "run"):
            if entry.is_file():
                with open(entry.path, "rb") as stream:
                    wrong.unless(data not in stream.read(), f"a secret is in {entry.name}")
    return wrong


def at_rest(scene: Scene) -> list[str]:
    """After the last clean stop nothing is left, on any host."""
    wrong = Wrong()
    for site in scene.sites:
        now = site.footprint()
        wrong.unless(now == site.rest, f"not as it was: {now} instead of {site.rest}")
        if isinstance(site, ClientSite):
            # One that was asked to end is a moment about it.
            until = time.monotonic() + _ENDING
            while (left := site.clients()) and time.monotonic() < until:
                time.sleep(0.02)
            wrong.unless(not left, f"clients are left: {left}")
    return wrong
