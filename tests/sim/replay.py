"""Replays what a live FreeBSD answered through the simulated one: `python -m sim.replay [FILE...]` from tests/."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import scenes, tools
from .storage import Storage
from .transcript import Block, read
from .world import LAUNCHER, TESTS, World

TRANSCRIPTS = TESTS / "transcripts"
# Seconds after which a block that FreeBSD came to an end with is taken for blocked; less where that is expected.
LONGEST = 15.0
LONGEST_EXCEPTION = 3.0
SERVER = "172.16.0.1"
CBSD_OPTIONS = {
    "nfsv": "4", "intr": "", "rsize": "32768", "wsize": "32768", "acregmax": "3", "acdirmin": "3", "acdirmax": "3",
    "timeout": "300",
}  # fmt: skip

# Blocks that cannot agree, and why. A name is the beginning of the block's command, or its comment where it has one.
# They are about something else than the commands a hook runs; test_replay.py fails if one of them agrees after all.
EXCEPTIONS = {
    "nfs-dead-server": {
        "what is left behind (1)": "which killed processes the kernel still holds, and in which of its wait channels",
    },
    "iscsi": {
        "discovery": "which of two logins that begin at the same time is the first to get its disk",
    },
    "nullfs-ufs-md": {
        "many mounts": "how long 300 mounts take, by time(1) and perl",
        "python3 -c 'import errno": "the texts of Python's own strerror()",
    },
}

Scene = Callable[["Stage"], None]


class Outcome(NamedTuple):
    name: str
    block: Block
    exception: str | None
    expected: list[str]
    got: list[str]

    @property
    def agrees(self) -> bool:
        return self.expected == self.got

    def difference(self) -> str:
        return "\n".join(difflib.unified_diff(self.expected, self.got, "FreeBSD", "simulated", lineterm="", n=9))


class Stage:
    """Worlds laid out as the machines of the transcripts, and a shell in the one where the story is."""

    def __init__(self, path: Path) -> None:
        self.directory = path
        self.storage = Storage(path / "storage")
        self.worlds: dict[str, World] = {}
        self.go_to("node1")

    def go_to(self, hostname: str) -> None:
        known = hostname in self.worlds
        self.world = self.worlds[hostname] if known else self._new_world(hostname)
        self.root = self.world.path / "root"
        if not known:
            self._lay_out()

    def _new_world(self, hostname: str) -> World:
        self.worlds[hostname] = World.create(
            self.directory / hostname,
            storage=self.storage,
            hostname=hostname,
            force_seconds=tools.shorter(20),
            connect_seconds=tools.shorter(75),
            retry_seconds=tools.shorter(60),
            locale_files=False,
        )
        return self.worlds[hostname]

    def _lay_out(self) -> None:
        for name in ("usr/jails/jails-data/jail1-data", "usr/jails/jails-data/jail2-data", "mnt/with space", "root"):
            (self.root / name).mkdir(parents=True)
        for name in ("tmp", "thin/base", "thin/jail1", "thin/jail2", "thin/skel"):
            (self.root / name).mkdir(parents=True)
        with (self.root / "thin/img").open("wb") as image:
            image.truncate(32 << 20)
        self.world.base_mount("tmpfs", self.path("/tmp"), "tmpfs", ["local"], self.path("/tmp"))
        self.world.server(SERVER, clients="172.16.0.0")
        for name in ("jail1", "jail2"):
            (self.world.export(SERVER, "/nfs") / "data" / name).mkdir(parents=True)
        self._link_tools()

    def _link_tools(self) -> None:
        directory = self.world.path / "tools"
        directory.mkdir()
        program = directory / ".tool"
        launcher = LAUNCHER.format(python=sys.executable, tests=str(TESTS))
        # Unlike the commands, a python3 among the tools may import what is installed.
        program.write_text(launcher.replace("-IS", "-I").replace("sim.commands", "sim.tools"))
        program.chmod(0o755)
        for name in tools.TOOLS:
            (directory / name).symlink_to(".tool")

    def close(self) -> None:
        for world in self.worlds.values():
            world.close()

    def path(self, path: str) -> str:
        return f"{self.root}{path}"

    def data(self, name: str) -> str:
        return self.path(f"/usr/jails/jails-data/{name}-data")

    def mount(self, name: str, options: dict[str, str] | None = None) -> None:
        self.world.mount(f"{SERVER}:/nfs/data/{name}", self.data(name), options=options)

    def run(self, block: Block, longest: float) -> list[str]:
        """Return what the shell and its commands print, and how the shell ends."""
        environment = {
            "PATH": f"{self.world.path}/bin:{self.world.path}/tools:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        with tempfile.TemporaryFile() as output:
            # The name in argv[0] is what the shell puts before its own messages.
            shell = subprocess.Popen(
                [tools.SHELL, "-c", self.inside(block.command)],
                cwd=self.path("/root"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            limit = tools.shorter(block.blocked_for) if block.blocked_for else longest
            try:
                ending = f"[exit {shell.wait(limit)}]"
            except subprocess.TimeoutExpired:
                ending = "[still blocked]"
                shell.kill()
                shell.wait()
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        return [*self.outside(text).rstrip().splitlines(), ending]

    def inside(self, command: str) -> str:
        """Absolute paths of the transcript, but for devices and those of the server, lie below the state.

        Not every sh(1) can kill a job by its number in a script; the transcripts never have more than one.
        """
        command = command.replace("kill %1", "kill $!")
        return re.sub(r"(?<![\w.:/*-])/(?=\w)(?!dev/|bin/sh)", f"{self.root}/", command)

    def outside(self, text: str) -> str:
        return text.replace(f"{self.root}/", "/")


def server_is_frozen(stage: Stage) -> None:
    stage.world.freeze(SERVER)


def two_mounts_then_silence(stage: Stage) -> None:
    stage.world.up(SERVER)
    stage.mount("jail1", CBSD_OPTIONS)
    stage.mount("jail2")
    stage.world.freeze(SERVER)


def two_encrypted_disks_and_keys(stage: Stage) -> None:
    (stage.root / "mnt/g").mkdir()
    for name, content in (("g.key", "right"), ("bad.key", "wrong"), ("g.pass", "pass")):
        (stage.root / name).write_text(content)
        (stage.root / name).chmod(0o600)
    for unit in ("10", "11"):
        with (stage.root / f"g{unit}.img").open("wb") as image:
            image.truncate(32 << 20)
        stage.world.command("mdconfig", "-a", "-t", "vnode", "-f", stage.path(f"/g{unit}.img"), "-u", unit)


# What somebody did to the world before the block of that name; the transcripts tell it in their comments.
STORY: dict[str, dict[str, Scene]] = {
    "nfs": {
        "busy: a working directory inside": lambda stage: stage.mount("jail1"),
        "server up, nfsd not running, NFSv4": lambda stage: stage.world.refuse(SERVER),
        "back again": lambda stage: stage.world.up(SERVER),
        "the exported directory was removed and made anew on the server: stale handle": lambda stage: stage.world.stale(
            stage.data("jail1")
        ),
    },
    "nfs-dead-server": {
        "not mounted yet, retrycnt=1, under timeout(1)": server_is_frozen,
        # The host's address was no longer answered for by then, as the message tells.
        "the same with the default retrycnt": lambda stage: stage.world.down(SERVER),
        "two mounts, jail1 hard,intr and jail2 hard; then the server went silent": two_mounts_then_silence,
        "the server is back": lambda stage: stage.world.up(SERVER),
    },
    "nullfs-ufs-md": {},
    "geli": {"geli init -s 4096 -P -K /g.key md10; echo $?": two_encrypted_disks_and_keys},
    **scenes.STORY,
}


def normalized(lines: list[str]) -> list[str]:
    """Replace what differs from run to run.

    Sizes, hashes, process and inode numbers, where in the kernel a process waits, and the padding that goes with them
    and with the length of paths.
    """
    found = []
    for line in lines:
        line = re.sub(r"\b\d+ +\d+ +\d+ +\d+% ", "N N N N% ", line)
        line = re.sub(r"\d+ free \(\d+ frags, \d+ blocks, [\d.]+% ", "N free (N frags, N blocks, N% ", line)
        line = re.sub(r"\d+ bytes transferred in [\d.]+ secs \(\d+ bytes/sec\)", "N bytes transferred", line)
        line = re.sub(r"^ *[\d.]+ real +[\d.]+ user +[\d.]+ sys$", "N real N user N sys", line)
        line = re.sub(r"(?<=,i,0x)[0-9a-f]{12}", "ISID", line)
        line = re.sub(r"^total \d+$|(?<=^drwxr-xr-x ) .* (?=\.\.?$)", "N ", line)
        line = re.sub(r"^crw-r-----.* (?=\w+$)", "crw-r----- ", line)
        line = re.sub(r"(?<=^ {4}reads: )\d+|(?<=^ {2}workerpid: )\d+", "N", line)
        line = re.sub(r"(?<=MD5 hash: )[0-9a-f]{32}", "HASH", line)
        line = re.sub(r"(?<=: ) *\d+(?=[a-z]+(\(root\))?$)", "PID", line)
        if re.fullmatch(r"/\S+:( +\d+[a-z]+(\(root\))?){2,}", line):
            line = re.sub(r" +\d+", " PID", line)
        line = re.sub(r"^(root +\w+ +)\d+( +\d+ - +)\d+", r"\1PID\2INODE", line)
        line = re.sub(r"^ *\d+ (?=[A-Z][A-Za-z]* +\w+ +/bin/sh)", "PID ", line)
        line = re.sub(r"^ *\d+ [A-Z][A-Za-z]* +\w+ +(?=(?:cat|timeout|umount) )", "PID STATE WCHAN ", line)
        found.append(re.sub(r"[ \t]+", " ", line).rstrip())
    return found


def names_of(blocks: list[Block]) -> list[str]:
    """Return the comment before a block, or its command; a number tells those apart that share one."""
    plain = [block.comment or block.command for block in blocks]
    return [
        f"{name} ({plain[: number + 1].count(name)})" if plain.count(name) > 1 else name
        for number, name in enumerate(plain)
    ]


def exception_for(transcript: str, name: str) -> str | None:
    table = EXCEPTIONS.get(transcript, {})
    return next((reason for start, reason in table.items() if name.startswith(start)), None)


def tells(title: str, name: str) -> bool:
    """Is it the block of that name that TITLE means? It can be a beginning, with three dots after it."""
    return name.startswith(title[:-3]) if title.endswith("...") else name == title


def replay(transcript: str, directory: Path) -> Iterator[Outcome]:
    blocks = read(TRANSCRIPTS / f"{transcript}.txt")
    # A name that no block looks for in the paths of what it lists.
    stage = Stage(directory / f"stage{list(STORY).index(transcript)}")
    story = STORY[transcript]
    names = names_of(blocks)
    untold = [title for title in story if not any(tells(title, name) for name in names)]
    if untold:
        raise ValueError(f"{transcript}: no block is called {untold}")
    try:
        for name, block in zip(names, blocks):
            for title, scene in story.items():
                if tells(title, name):
                    scene(stage)
            exception = exception_for(transcript, name)
            got = normalized(stage.run(block, LONGEST_EXCEPTION if exception else LONGEST))
            yield Outcome(name, block, exception, normalized([*block.output, block.ending]), got)
    finally:
        stage.close()


def report(transcript: str, directory: Path) -> list[Outcome]:
    began = time.monotonic()
    outcomes = list(replay(transcript, directory))
    for outcome in outcomes:
        if not outcome.agrees and outcome.exception is None:
            print(f"--- {transcript}: {outcome.name}\n{outcome.difference()}\n")
    agreeing = sum(outcome.agrees for outcome in outcomes)
    print(f"{transcript}: agree {agreeing} of {len(outcomes)} ({time.monotonic() - began:.0f} s)")
    for outcome in outcomes:
        if outcome.exception is not None:
            verdict = "agrees after all" if outcome.agrees else outcome.exception
            print(f"  cannot agree: {outcome.name[:60]}: {verdict}")
    return outcomes


def main(wanted: list[str]) -> int:
    directory = Path(tempfile.gettempdir()) / f"replay{os.getpid()}"
    directory.mkdir()
    try:
        outcomes = [outcome for name in wanted or STORY for outcome in report(name, directory)]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if all(outcome.agrees == (outcome.exception is None) for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
