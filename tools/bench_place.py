"""CBSD workdirs for ``make bench`` and ``make bench-check``'s real side: real bind mounts in a namespace of our own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import Command

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path(__file__).resolve().parent / "bench_sample.sh"
PLACES = {
    "data": "jails-data/{}-data",
    "system": "jails-system/{}",
    "fstab": "jails-fstab/{}",
    "rcconf": "jails-rcconf/{}",
}
TIMEOUT = 3
_MS_BIND, _MNT_DETACH = 4096, 2
_PATH = {"PATH": "/sbin:/usr/sbin:/bin:/usr/bin"}


class Place:
    """A CBSD workdir with the jail j1, and four directories for it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.workdir = top / "jails"
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._make("j1")
        (self.workdir / "etc").mkdir()
        write(
            self.workdir / "etc" / "env_start_nullfs.conf",
            f'NULLFS_ROOT_DIR="{top}/store"\nMOUNT_RCCONF="1"\nTIMEOUT="{TIMEOUT}"\nLOG_FACILITY="none"\n',
        )
        write(top / "sample.conf", f'ROOT_DIR="{top}/store"\nMOUNT_TIMEOUT="{TIMEOUT}"\n')

    def _make(self, name: str) -> None:
        for kind, place in PLACES.items():
            (self.workdir / place.format(name)).mkdir(parents=True)
            (self.top / "store" / kind / name).mkdir(parents=True)
            (self.top / "store" / kind / name / "file").touch()

    def _points(self, name: str = "j1") -> list[Path]:
        return [self.workdir / place.format(name) for place in PLACES.values()]

    def hook(self, *statuses: int) -> Command:
        """envstart, as CBSD calls it."""
        return Command([str(ROOT / "hooks/env_start_nullfs"), *self._words()], _PATH, statuses or (0,))

    def sample(self, *statuses: int) -> Command:
        """Return the command line of the hook in sh(1), with the same words."""
        known = {**_PATH, "SAMPLE_CONF": f"{self.top}/sample.conf"}
        return Command(["/bin/sh", str(SAMPLE), *self._words()], known, statuses or (0,))

    def stop(self) -> Command:
        """envstart, taking all away."""
        return Command([str(ROOT / "hooks/env_stop_nullfs"), *self._words()], _PATH)

    def hand(self, verb: str) -> Command:
        """Return the tool's command line for all environments of the workdir."""
        return Command([str(ROOT / "hooks/envstart"), verb, "-w", str(self.workdir)], _PATH)

    def _words(self) -> list[str]:
        data, system, fstab, rcconf = map(str, self._points())
        return ["-d", data, "-f", fstab, "-j", "j1", "-r", os.path.dirname(rcconf), "-s", system]

    def clear(self) -> None:
        """Take all four away, whatever is there."""
        for point in self._points():
            while not self._libc.umount2(os.fsencode(point), _MNT_DETACH):
                pass

    def fill(self, entries: int) -> None:
        """Bring the mount table to so many entries."""
        directory = self.top / "fillers"
        directory.mkdir(exist_ok=True)
        for number in range(self.entries(), entries):
            point = directory / str(number)
            point.mkdir()
            self._bind(self.top / "store", point)

    @staticmethod
    def entries() -> int:
        """How many entries the mount table has."""
        return Path("/proc/self/mountinfo").read_bytes().count(b"\n")

    def run(self, count: int) -> None:
        """Have so many environments, and let CBSD take all of them for running: their directories are mounted."""
        names = [f"e{number}" for number in range(count)]
        for name in names:
            if not self._points(name)[0].exists():
                self._make(name)
                for kind, point in zip(PLACES, self._points(name)):
                    self._bind(self.top / "store" / kind / name, point)
        database = self.workdir / "var" / "db" / "local.sqlite"
        database.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DROP TABLE IF EXISTS jails")
            connection.execute("CREATE TABLE jails (jname TEXT, jid INTEGER, status INTEGER, mnt_start TEXT)")
            rows = [(name, number, 1, "env_start_nullfs") for number, name in enumerate(names, 1)]
            connection.executemany("INSERT INTO jails VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def delay(self, seconds: float) -> Iterator[None]:
        """Every mount command takes so long before it does its work."""
        place, real, front = os.path.realpath(shutil.which("mount") or ""), self.top / "real", self.top / "front"
        shutil.copy(place, real)
        write(front, f'#!/bin/sh\n/bin/sleep {seconds}\nexec "{real}" "$@"\n')
        front.chmod(0o755)
        self._bind(front, Path(place))
        try:
            yield
        finally:
            self._libc.umount2(os.fsencode(place), _MNT_DETACH)

    def _bind(self, source: Path, point: Path) -> None:
        if self._libc.mount(os.fsencode(source), os.fsencode(point), None, _MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"cannot bind {source} on {point}")

    def remove(self) -> None:
        """Delete it; first the mounts, the newest first, so that nothing is deleted through one."""
        lines = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(lines):
            if point.startswith(f"{self.top}/"):
                self._libc.umount2(os.fsencode(point), _MNT_DETACH)
        for record in Path("/var/db/envstart").glob("j1.*.record"):
            if f"'{self.workdir}/" in record.read_text():
                record.unlink()
        shutil.rmtree(self.top)


def write(path: Path, text: str) -> None:
    """As root leaves a file that a hook is to trust."""
    path.write_text(text)
    path.chmod(0o644)


def floor() -> Command:
    """Return the interpreter of the hooks, which does nothing: no hook can be faster."""
    return Command([str(ROOT / ".venv" / "bin" / "python"), "-c", "pass"], _PATH)


def reading() -> Command:
    """Return the same interpreter, which reads the mount table and does nothing with it."""
    return Command([str(ROOT / ".venv" / "bin" / "python"), "-c", "open('/proc/self/mountinfo', 'rb').read()"], _PATH)


def interpreter() -> str:
    """Its version, in its own words."""
    return sys.version.replace("\n", " ")
