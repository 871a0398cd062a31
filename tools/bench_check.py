"""Measure `envstart check` on a toy CBSD host of 1,000 environments: `make bench-check`.

Of their 4,000 mounts 40 hang behind 2 servers. 50 starts against a dead server are measured too.

All of it runs in the simulated FreeBSD, in which what hangs cannot be killed, as on a real one. The simulation has its
own cost; what an envstart that does nothing takes there is printed, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("", "tests", "tests/helpers"))

from cbsd import NFS4, SERVER, Ended, Site
from sim import kernel
from toy import Toy

PROBE_TIMEOUT = 5
START_TIMEOUT = 10
STARTS = 50
SERVERS = 10
# Of each of the last two: four mounts of each of these are the 40 that hang.
DEAD, ON_EACH_DEAD = 2, 5
DIRECTORIES = ("data", "system", "fstab", "rcconf")


# What was done, seconds, seconds allowed, what came of it, whether that is as it must be.
Row = tuple[str, float, float | None, str, bool]


class Scene:
    """Environments called sN-eM, all of them running, whose directories server N has."""

    def __init__(self, top: Path, environments: int) -> None:
        self.site = Site(top, NFS4, getfsstat=True)
        self.toy = Toy(self.site)
        self.world = self.site.world
        dead = [(server, number) for server in range(SERVERS - DEAD, SERVERS) for number in range(ON_EACH_DEAD)]
        alive = [(number % (SERVERS - DEAD), number) for number in range(environments - len(dead) - 1)]
        self.names = [f"s{server}-e{number}" for server, number in alive + dead]
        self.servers = [self.server(name) for name in self.names]
        sections = "".join(f'[s{server}-*]\nNFS_SERVER="172.16.0.{server + 1}"\n' for server in range(SERVERS))
        self.site.configure(
            PROBE_TIMEOUT=str(PROBE_TIMEOUT), TIMEOUT=str(START_TIMEOUT), MOUNT_RCCONF="1", NFS_MOUNT_TIMEOUT="5"
        )
        with self.site.conf.open("a") as stream:
            stream.write(sections)
        self._make()

    def server(self, name: str) -> str:
        return f"172.16.0.{int(name[1 : name.index('-')]) + 1}"

    def _make(self) -> None:
        """All at once: one by one, each would be a change of a world that grows."""
        own = self.world.path / "servers"
        for name, server in zip(self.names, self.servers):
            for which in DIRECTORIES:
                self.site.point(which, name).mkdir()
                (own / server / "nfs" / which / name / "etc").mkdir(parents=True)
        trees = {server: self.world.export(server, "/nfs") for server in dict.fromkeys(self.servers)}

        def act(state: Any) -> None:
            for jid, (name, server) in enumerate(zip(self.names, self.servers), 2):
                state["jails"][name] = jid
                for which in DIRECTORIES:
                    place = self.world.machine.place(state, str(self.site.point(which, name)))
                    source, backing = f"{server}:/nfs/{which}/{name}", str(trees[server] / which / name)
                    options = {"nfsv": "4"}
                    kernel.add_mount(state, place, source, "nfs", [], backing=backing, host=server, options=options)

        self.world.machine.store.change(act)
        columns = self.toy.row()
        with self.toy.connection() as connection:
            rows = [
                {**columns, "jname": name, "data": str(self.site.point("data", name)), "jid": jid, "status": 1}
                for jid, name in enumerate(self.names, 2)
            ]
            marks = ", ".join(f":{column}" for column in columns)
            connection.executemany(f"INSERT INTO jails ({', '.join(columns)}) VALUES ({marks})", rows)

    def check(self) -> Ended:
        return self.site.hand("check", "-w", str(self.site.workdir))

    def hung(self) -> set[str]:
        """Return the pids of the processes that nothing can end."""
        return {pid for pid in self.world.state["stuck"] if Path(f"/proc/{pid}").exists()}


def timed(act: Callable[[], Ended]) -> tuple[float, Ended]:
    began = time.monotonic()
    ended = act()
    return time.monotonic() - began, ended


def lines_of(ended: Ended) -> int:
    return len(ended.stdout.splitlines())


def checks(scene: Scene) -> list[Row]:
    nothing, _ = timed(lambda: scene.site.hand("--version"))
    healthy, ended = timed(scene.check)
    count = len(scene.names)
    rows: list[Row] = [
        ("envstart --version", nothing, None, "", True),
        (f"check, all well: {count} environments", healthy, None, f"{lines_of(ended)} lines", ended.returncode == 0),
    ]
    for server in dict.fromkeys(scene.servers[-DEAD * ON_EACH_DEAD :]):
        scene.world.freeze(server)
    before: set[str] = set()
    for title in ("check, 40 mounts hang", "the same again"):
        seconds, ended = timed(scene.check)
        hung = scene.hung()
        told = f"{lines_of(ended)} lines, {len(hung)} hung children"
        right = ended.returncode == 2 and lines_of(ended) == 40 and len(hung) <= DEAD and (not before or hung == before)
        rows.append((title, seconds, PROBE_TIMEOUT + 2, told, right))
        before = hung
    return rows


def starts(top: Path) -> list[Row]:
    with Site(top, NFS4, getfsstat=True) as site:
        names = [f"e{number}" for number in range(STARTS)]
        for name in names:
            site.add(name)
        site.configure(TIMEOUT=str(START_TIMEOUT), NFS_MOUNT_TIMEOUT="5")
        site.world.freeze(SERVER)
        nothing, _ = timed(lambda: site.world.run("env_start_nfs", "-h"))
        spent = [timed(lambda: site.start(name=name)) for name in names]  # noqa: B023
    right = {ended.returncode for _, ended in spent} == {os.EX_TEMPFAIL}
    return [
        ("env_start_nfs -h", nothing, None, "", True),
        ("the first start with a dead server", spent[0][0], START_TIMEOUT, "", right),
        (f"{STARTS} of them", sum(seconds for seconds, _ in spent), START_TIMEOUT + STARTS * 0.2, "", right),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="what a check of a large host costs, also when servers are dead")
    parser.add_argument("--environments", type=int, default=1000, metavar="N", help="environments in all (1000)")
    arguments = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="envstart-bench-"))
    try:
        scene = Scene(top / "checks", arguments.environments)
        with scene.site:
            machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
            print(f"{arguments.environments} environments, {len(scene.world.mounts())} mounts; {machine}")
            rows = checks(scene)
        rows += starts(top / "starts")
    finally:
        shutil.rmtree(top, ignore_errors=True)
    failed = False
    for title, seconds, allowed, told, right in rows:
        late = allowed is not None and seconds > allowed
        limit = f"<= {allowed:.0f} s" if allowed is not None else ""
        verdict = "TOO SLOW" if late else "" if right else "WRONG"
        print(f"{title:<40} {seconds:7.2f} s {limit:<8} {told} {verdict}".rstrip())
        failed |= late or not right
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
