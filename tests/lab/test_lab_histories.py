"""Histories that nobody thought of: hooks, servers that go silent at any moment, refuse, come back; drawn by a number.

After each hook the promises are held against the mount table, and at the end all is as if nothing had been.
ENVSTART_LAB_SEEDS="17 18" plays others than the ones below.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from .conftest import Hosts
from .guest import Ended
from .hosts import EXPORTED, GRACE, TIMEOUT, WORKDIR, rows_of

SEEDS = [int(word) for word in os.environ.get("ENVSTART_LAB_SEEDS", "1 2 3").split()]
ACTS = 12
NAMES = ("jail1", "jail2")
# What a start or stop may end with when a server does not do its part: try again, or ended by a signal.
EXCUSED = (75, 143, 137)


class History:
    """One history: what was done so far, and what must be so."""

    def __init__(self, hosts: Hosts, seed: int) -> None:
        self.hosts = hosts
        self.node = hosts.node
        self.drawn = random.Random(seed)
        self.told: list[str] = []
        self.silent = False
        self.refusing = False

    def play(self) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (6, self.hook),
            (3, self.hook_with_a_change),
            (3, self.hook_with_a_signal),
            (2, self.change),
            (1, self.directory_anew),
            (1, self.check),
            (1, self.recover),
        ]
        for _ in range(ACTS):
            weights = [weight for weight, _ in acts]
            self.drawn.choices([act for _, act in acts], weights)[0]()
        self.settle()

    # Acts.

    def hook(self) -> None:
        self._hook("")

    def hook_with_a_change(self) -> None:
        """Let the server go silent, or come back, while the hook is at work."""
        timer = threading.Timer(self.drawn.uniform(0.0, 3.0), self.change)
        timer.start()
        try:
            self._hook("")
        finally:
            timer.join()

    def hook_with_a_signal(self) -> None:
        self._hook(self.drawn.choice(("TERM", "KILL")))

    def change(self) -> None:
        """Of the server: silent or not, taking connections or not."""
        if self.silent:
            self.hosts.storage.resume()
            self.silent = False
        elif self.refusing:
            self.hosts.storage.serve()
            self.refusing = False
        elif self.drawn.random() < 0.7:
            self.hosts.storage.pause()
            self.silent = True
        else:
            self.hosts.storage.refuse()
            self.refusing = True
        self.told.append("silent" if self.silent else "refusing" if self.refusing else "serving")

    def directory_anew(self) -> None:
        """Make the directory anew on the server, so that what is mounted from it is stale."""
        if not self.silent:
            name = self.drawn.choice(NAMES)
            self.hosts.storage.do(f"rm -rf {EXPORTED}/data/{name}")
            self.hosts.storage.make(name)
            self.told.append(f"{name} made anew")

    def check(self) -> None:
        """Check; it must end, and change nothing."""
        before = self.node.mounted()
        checked = self.node.hand(f"check nfs -w {WORKDIR} -j {self.drawn.choice(NAMES)}")
        self.told.append(f"check: {checked.status} in {checked.seconds:.1f} s")
        assert checked.status in (0, 1, 2, 3), self._words(checked)
        assert "Traceback" not in checked.out, self._words(checked)
        assert self.node.mounted() == before, self._words(checked)

    def recover(self) -> None:
        """Recover; what it unmounts must have been broken."""
        name = self.drawn.choice(NAMES)
        others = self._others(name)
        recovered = self.node.hand(f"recover nfs -w {WORKDIR} -j {name}", 300)
        self.told.append(f"recover {name}: {recovered.status} in {recovered.seconds:.1f} s")
        assert recovered.status in (0, *EXCUSED), self._words(recovered)
        assert "Traceback" not in recovered.out, self._words(recovered)
        assert self._others(name) == others, self._words(recovered)

    # Promises.

    def _hook(self, signal: str) -> None:
        node, drawn = self.node, self.drawn
        name, verb = drawn.choice(NAMES), drawn.choice(("start", "start", "stop"))
        before, others = self._mine(name), self._others(name)
        line = node.line(verb, name)
        if signal:
            delay = drawn.uniform(0.0, 4.0)
            line = f"({line}) & hook=$!; sleep {delay:.2f}; kill -{signal} $hook 2>/dev/null; wait $hook"
        ended = node.run(line, TIMEOUT + 20)
        self.told.append(f"{verb} {name} {signal}: {ended.status} in {ended.seconds:.1f} s")
        after = self._mine(name)
        words = f"{self._words(ended)}\nbefore: {before}\nafter: {after}"
        assert ended.status in (0, *EXCUSED), words
        assert ended.seconds < TIMEOUT + GRACE, words
        assert "Traceback" not in ended.out, words
        assert len(set(after)) == len(after), words
        assert self._others(name) == others, words
        if ended.status == 0:
            assert after == (sorted(rows_of(name)) if verb == "start" else []), words
        elif signal != "KILL":
            # Before it hears signals it has done nothing, and the shell alone tells that it was ended.
            said = ended.last.startswith(("env_start_nfs", "env_stop_nfs"))
            assert said or (signal == "TERM" and after == before), words
            if "could not all be taken back" not in ended.last:
                # A start may have taken away what was dead, but nothing has come.
                assert after == before or (verb == "start" and set(after) < set(before)), words

    def settle(self) -> None:
        """All is well again: one start brings all, one stop takes all away, and nobody is left."""
        self.hosts.storage.resume()
        self.hosts.storage.serve(*NAMES)
        time.sleep(2)
        for verb, wanted in (("start", sorted(rows_of("jail1") + rows_of("jail2"))), ("stop", [])):
            for name in NAMES:
                ended = self.node.hook(verb, name)
                self.told.append(f"{verb} {name}: {ended.status} in {ended.seconds:.1f} s")
                assert ended.status == 0, self._words(ended)
            assert self.node.mounted() == wanted, self._words(ended)
        for _ in range(20):
            if not self.node.processes():
                return
            time.sleep(1)
        raise AssertionError(f"left behind: {self.node.processes()}\n{self.told}")

    def _mine(self, name: str) -> list[tuple[str, str]]:
        points = {point for _, point in rows_of(name)}
        return [row for row in self.node.mounted() if row[1] in points]

    def _others(self, name: str) -> list[tuple[str, str]]:
        mine = self._mine(name)
        return [row for row in self.node.mounted() if row not in mine]

    def _words(self, ended: Ended) -> str:
        done = "\n".join(self.told)
        return f"{ended}\n{done}\n{self.node.run('ps -eo pid,stat,wchan:20,args').out[-3000:]}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history(hosts: Hosts, seen: Callable[[str], None], seed: int) -> None:
    history = History(hosts, seed)
    history.play()
    seen("; ".join(history.told))
