"""A history: a scene and a list of acts, played one after the other; after each of them the promises are asked for.

An act is a tuple of words and numbers, so that a history can be printed, read and kept: see ACTS.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blocks import BlockSite
from cbsd import SERVER, Ended, Site
from clients import ClientSite
from sim import forked
from sim.names import machine_name

from . import promises
from .scene import BY_TITLE, NAMES, Scene

Act = tuple[str | int | float, ...]

COUNTS: Counter[str] = Counter()
# The one that was broken last, should it not come again.
LAST: list[str] = []
VERBS = ("start", "stop")
FAULTS = ("fail", "hang", "ignore-term", "say-ok-do-nothing", "do-it-say-fail", "late", "slow", "unkillable", "torn")
KILLS = ("before", "during", "after")
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL")
SERVER_STATES = ("frozen", "refused", "down")


class BrokenPromiseError(AssertionError):
    """A promise that does not hold, with the history up to there."""


def play(title: str, acts: Sequence[Act]) -> None:
    """Play it, and at the end one clean start and one clean stop of each environment. Broken."""
    COUNTS["histories"] += 1
    COUNTS[title] += 1
    with tempfile.TemporaryDirectory(prefix="envstart-") as top:
        scene = Scene(Path(top), BY_TITLE[title])
        done: list[str] = []
        try:
            player = Player(scene)
            for act in [*acts, ("end",)]:
                done.append(repr(act))
                COUNTS["acts"] += 1
                wrong = player.act(act)
                if wrong:
                    told = "\n".join([f"{title}:", *(f"    {one}," for one in done), *wrong])
                    if "ENVSTART_SHOW" in os.environ:
                        print(told, file=sys.stderr, flush=True)
                    LAST[:] = [told]
                    raise BrokenPromiseError(told)
        finally:
            scene.close()


class Player:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.site = scene.site
        self.world = scene.site.world

    def act(self, act: Act) -> list[str]:
        """Return the promises broken after it."""
        name, *arguments = act
        wrong: list[str] | None = getattr(self, f"do_{name}")(*arguments)
        found = [*(wrong or []), *promises.always(self.scene)]
        COUNTS["promises"] += promises.asked()
        return found

    # Hooks.

    def do_start(self, name: str) -> list[str]:
        return self.hook("start", name)

    def do_stop(self, name: str) -> list[str]:
        return self.hook("stop", name)

    def do_fault(self, verb: str, name: str, kind: str, nth: int) -> list[str]:
        """Let the NTH command of the hook go wrong."""
        self.world.fault(None, kind, nth=nth, seconds=0.3)
        with self.troubled(f"fault {kind}"):
            wrong = self.hook(verb, name)
        self.calm()
        return wrong

    def do_kill(self, verb: str, name: str, when: str, nth: int) -> list[str]:
        """Let the NTH command kill the hook: before it acts, after it, or while it does."""
        self.world.fault(None, "kill-parent", nth=nth, when=when)
        with self.troubled("killed"):
            wrong = self.hook(verb, name)
        self.calm()
        return wrong

    def do_signal(self, verb: str, name: str, which: str, nth: int) -> list[str]:
        """Send a signal while the NTH command hangs."""
        number = signal.Signals[which]
        self.world.fault(None, "hang", nth=nth)
        hanging = self.world.state["total"] + nth
        with self.troubled(f"signal {which}"):
            before = promises.Before(self.scene, self.site, name)
            with self.site.begin(verb, name) as hook:
                while hook.poll() is None and self.world.state["total"] < hanging:
                    time.sleep(0.003)
                # It is counted first, and written down then.
                while hook.poll() is None and len(self.world.calls()) < hanging:
                    time.sleep(0.003)
                hook.send_signal(number)
                out, err = hook.communicate(timeout=60)
            ended = subprocess.CompletedProcess(hook.args, hook.returncode, out, err)
            if which == "SIGKILL":
                self.end_children()
            wrong = promises.after(before, verb, ended)
            self.claim(self.site, verb, name, ended)
        self.calm()
        return wrong

    def do_both(self, verb: str, name: str, verb2: str, name2: str) -> list[str]:
        """Two hooks at once."""
        befores = [promises.Before(self.scene, self.site, one) for one in (name, name2)]
        with self.site.begin(verb, name) as one, self.site.begin(verb2, name2) as two:
            words = [hook.communicate(timeout=90) for hook in (one, two)]
        ended = [subprocess.CompletedProcess(h.args, h.returncode, *w) for h, w in zip((one, two), words)]
        wrong = promises.after_both(befores, (verb, verb2), ended)
        for one_name in (name, name2):
            self.claim(self.site, "start", one_name, ended[0])
        return wrong

    def do_other(self, verb: str, name: str) -> list[str]:
        """Let the second host act on the same storage."""
        other = self.scene.other
        if other is None:
            return []
        return self.hook(verb, name, other)

    def hook(self, verb: str, name: str, site: Site | None = None) -> list[str]:
        site = site or self.site
        before = promises.Before(self.scene, site, name)
        ended = site.start(name=name) if verb == "start" else site.stop(name=name)
        if promises.hurried(ended) and not promises.relevant(self.scene, site, name):
            ended = self.at_leisure(site, verb, name)
        if ended.returncode == -signal.SIGKILL:
            self.settle()
        wrong = promises.after(before, verb, ended)
        self.claim(site, verb, name, ended)
        return wrong

    def claim(self, site: Site, verb: str, name: str, ended: Ended) -> None:
        claims = self.scene.claims
        claims[:] = [claim for claim in claims if claim != (site, name)]
        if verb == "start" or ended.returncode:
            claims.append((site, name))

    def at_leisure(self, site: Site, verb: str, name: str) -> Ended:
        COUNTS["again"] += 1
        speed, site.world.speed = site.world.speed, 1.0
        try:
            return site.start(name=name) if verb == "start" else site.stop(name=name)
        finally:
            site.world.speed = speed

    # The tool.

    def do_check(self, name: str) -> list[str]:
        before = promises.Before(self.scene, self.site, name)
        ended = self.hand("check", name)
        return promises.after_look(before, ended)

    def do_recover(self, name: str) -> list[str]:
        before = promises.Before(self.scene, self.site, name)
        ended = self.hand("recover", name)
        return promises.after_recover(before, ended)

    def hand(self, verb: str, name: str) -> Ended:
        return self.site.hand(verb, self.site.variant.backend, *self.site.args(name))

    # What others do to the host.

    def do_jcleanup(self, name: str) -> None:
        """Clean up the data directory of a jail that has stopped, as CBSD itself does."""
        if "server" not in self.scene.troubles and name not in self.scene.users:
            data = str(self.site.point("data", name))
            # umount_cdirs() takes what lies on it first: `umount -f` leaves that behind.
            mounted = [row[1] for row in self.site.table if f"{row[1]}/".startswith(f"{data}/")]
            for point in sorted(mounted, reverse=True):
                self.world.command("umount", "-f", point)

    def do_hold(self, name: str) -> None:
        """Let a process use the data directory, if there is something mounted."""
        point = str(self.site.point("data", name))
        if name in self.scene.users or not any(row[1] == point for row in self.site.table):
            return
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.world.hold(point, process.pid)
        self.scene.users[name] = process
        self.scene.troubles.add(f"held {name}")

    def do_release(self, name: str) -> None:
        process = self.scene.users.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()
            self.world.release(self.site.point("data", name))
            self.scene.troubles.discard(f"held {name}")

    def do_run(self, name: str) -> None:
        """Let the jail run, as far as jls(8) knows."""
        self.world.jail(name, 1 + NAMES.index(name))
        self.scene.troubles.add(f"runs {name}")

    def do_halt(self, name: str) -> None:
        if f"runs {name}" in self.scene.troubles:
            self.world.stop_jail(name)
            self.scene.troubles.discard(f"runs {name}")

    def do_foreign(self, name: str) -> None:
        """Mount something else on an empty data directory, as an administrator could."""
        point = self.site.point("data", name)
        if not self.scene.rows(self.site, name):
            self.world.mount("tmpfs", point, "tmpfs")
            self.scene.troubles.add(f"foreign {name}")

    def do_cover(self, name: str) -> None:
        """Mount a second time on the data directory, which must never happen."""
        self.world.mount("tmpfs", self.site.point("data", name), "tmpfs")

    def do_native(self, name: str) -> None:
        if f"foreign {name}" in self.scene.troubles:
            point = str(self.site.point("data", name))
            self.world.command("umount", point)
            # It can be busy.
            if not any(row[:2] == ("tmpfs", point) for row in self.world.table()):
                self.scene.troubles.discard(f"foreign {name}")

    def do_full(self) -> None:
        """Nothing new can be written into the state directory."""
        self.world.set(full=True)
        self.scene.troubles.add("full")

    def do_space(self) -> None:
        self.world.set(full=False)
        self.scene.troubles.discard("full")

    def do_clock(self, seconds: float) -> None:
        self.world.clock_step += seconds

    def do_reboot(self) -> None:
        for name in NAMES:
            self.do_release(name)
            self.scene.troubles -= {f"runs {name}", f"foreign {name}"}
        self.scene.reboot(self.site)

    # What happens to servers, targets and clients.

    def do_server(self, state: str) -> None:
        """Let the file server, the portal, the cluster or the other node stop answering."""
        site = self.site
        if site.variant.backend in ("nfs", "gluster", "ceph"):
            {"frozen": self.world.freeze, "refused": self.world.refuse, "down": self.world.down}[state](SERVER)
        elif site.variant.backend == "iscsi" and isinstance(site, BlockSite):
            storage = site.storage
            {"frozen": storage.freeze, "refused": storage.refuse, "down": storage.down}[state]()
        elif site.variant.backend == "rbd" and isinstance(site, BlockSite):
            site.storage.cluster("frozen")
        else:
            return
        self.scene.troubles.add("server")

    def do_back(self) -> None:
        if "server" not in self.scene.troubles:
            return
        site = self.site
        if site.variant.backend in ("nfs", "gluster", "ceph"):
            self.world.up(SERVER)
        elif isinstance(site, BlockSite):
            site.storage.up() if site.variant.backend == "iscsi" else site.storage.cluster("up")
        self.scene.troubles.discard("server")
        until = time.monotonic() + 10
        while any(session["silent"] for session in self.world.state["sessions"]) and time.monotonic() < until:
            time.sleep(0.02)
        self.settle()

    def do_unexport(self, name: str) -> None:
        path = f"/nfs/data/{name}"
        if self.site.variant.backend == "nfs" and path in self.world.state["servers"][SERVER]["exports"]:
            self.world.unexport(SERVER, path)
            self.scene.troubles.add(f"unexported {name}")

    def do_export(self, name: str) -> None:
        if f"unexported {name}" in self.scene.troubles:
            self.world.export(SERVER, f"/nfs/data/{name}")
            self.scene.troubles.discard(f"unexported {name}")

    def do_stale(self, name: str) -> None:
        point = str(self.site.point("data", name))
        if self.site.variant.backend == "nfs" and any(row[1] == point for row in self.site.table):
            self.world.stale(point)

    def do_crash(self, name: str) -> None:
        """Let the client in user space die."""
        site = self.site
        if isinstance(site, ClientSite) and any(row[1] == str(site.volume(name)) for row in site.table):
            site.kill_client(name)

    def do_renumber(self) -> None:
        """Plug in a disk that takes the next number."""
        if isinstance(self.site, BlockSite):
            taken = self.world.state["disks"]
            self.world.disk(next(f"da{number}" for number in range(99) if f"da{number}" not in taken))

    # In between, and at the end.

    @contextlib.contextmanager
    def troubled(self, what: str) -> Any:
        self.scene.troubles.add(what)
        yield
        self.scene.troubles.discard(what)

    def calm(self) -> None:
        """No fault is left, and what one of them has left behind has ended."""
        self.world.calm()
        self.settle()

    def end_children(self) -> None:
        """End what hangs without its parent."""
        there = forked.processes(machine_name(str(self.world.path)))
        for call in self.world.calls()[-3:]:
            if call["pid"] in there:
                os.kill(call["pid"], signal.SIGKILL)

    def settle(self) -> None:
        """Wait for what does its work yet."""
        until = time.monotonic() + 10
        while promises.busy(self.scene) and time.monotonic() < until:
            time.sleep(0.01)

    def do_end(self) -> list[str]:
        """All is put right; one clean start brings everything, one clean stop takes everything away."""
        self.do_back()
        self.do_space()
        self.world.clock_step = 0.0
        for name in NAMES:
            for cure in (self.do_release, self.do_halt, self.do_native, self.do_export):
                cure(name)
        found: list[str] = []
        if self.scene.other is not None:
            for name in NAMES:
                found += self.hook("stop", name, self.scene.other)
        for verb in VERBS:
            for name in NAMES:
                found += self.hook(verb, name)
        return found + promises.at_rest(self.scene)


ACTS: dict[str, Callable[..., Any]] = {
    name[len("do_") :]: getattr(Player, name) for name in dir(Player) if name.startswith("do_")
}
