"""The main job on real directories and real mounts, step by step, and each step checked: ``make demo``.

On Linux in a mount namespace of its own, as root or as root of a user namespace; on FreeBSD as root with nullfs(4).
Everything is below one fresh directory, and nothing of it is left.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINUX = sys.platform.startswith("linux")
KINDS = {"data": "jails-data/j1-data", "system": "jails-system/j1", "fstab": "jails-fstab/j1"}
# Set in the process that already is in the namespace.
_INSIDE = "ENVSTART_DEMO_INSIDE"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BrokenPromiseError(Exception):
    """A step was not as promised."""


class Ending(BaseException):
    """A signal asked us to end; BaseException, so that nothing takes it for a failure of a step."""


class Demo:
    """A CBSD workdir with the jail j1, and a ``store`` with the directories it is to get."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.workdir = top / "jails"
        self.step = 0

    def prepare(self) -> None:
        """Make the directories that CBSD makes, those that they are to get, and the configuration."""
        for kind, place in KINDS.items():
            (self.workdir / place).mkdir(parents=True)
            for store in ("store", "elsewhere"):
                (self.top / store / kind / "j1").mkdir(parents=True)
                (self.top / store / kind / "j1" / kind).touch()
        (self.workdir / "jails-rcconf").mkdir()
        self.configure(store="store")

    def configure(self, store: str) -> None:
        """Where the directories are; LOG_FACILITY keeps a demonstration out of the host's log."""
        path = self.workdir / "etc" / "env_start_nullfs.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'NULLFS_ROOT_DIR="{self.top / store}"\nLOG_FACILITY="none"\nTIMEOUT="30"\n')
        path.chmod(0o644)

    def words(self) -> list[str]:
        """Return the arguments that CBSD hands over to the hook of a jail."""
        data, system, fstab = (str(self.workdir / KINDS[kind]) for kind in ("data", "system", "fstab"))
        return ["-d", data, "-f", fstab, "-j", "j1", "-r", str(self.workdir / "jails-rcconf"), "-s", system]

    def mounts(self) -> list[tuple[str, str]]:
        """Return the mounts below our directory, by the mount table: (source, mount point), short."""
        if LINUX:
            lines = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            found = [(fields[3], fields[4]) for fields in lines]
        else:
            table = subprocess.run(["/sbin/mount", "-p"], capture_output=True, text=True, check=True).stdout
            found = [(line.split()[0], line.split()[1]) for line in table.splitlines()]
        ours = [(self.short(source), self.short(point)) for source, point in found if f"{self.top}/" in point]
        return sorted(ours, key=lambda mount: mount[1])

    def short(self, text: str) -> str:
        """Without the temporary directory, also where a path begins at the root of its file system."""
        return text.rpartition(f"{self.top.name}/")[2]

    def show(self, title: str, argv: Sequence[str], promised: int, mounted: Sequence[str], says: str = "") -> None:
        """Run a command, show what it did, and check that this is what was promised."""
        self.step += 1
        print(f"\n{self.step}. {title}", flush=True)
        print(f"   $ {shlex.join(argv)}".replace(f"{self.top}/", "").replace(f"{ROOT}/", ""))
        status, output = run(argv)
        for line in output.splitlines():
            print(f"   {line}".replace(f"{self.top}/", ""))
        print(f"   exit status {status}")
        table = self.mounts()
        width = max((len(source) for source, _ in table), default=0)
        for source, point in table:
            print(f"   | {source.ljust(width)} on {point}")
        if not table:
            print("   | nothing is mounted")
        self.check("exit status", good=status == promised, promised=str(promised))
        points = sorted(point for _, point in table)
        self.check("mount points", good=points == sorted(mounted), promised=str(sorted(mounted)))
        self.check("words", good=says in output, promised=repr(says))

    def check(self, what: str, *, good: bool, promised: str) -> None:
        """Stop at what is not as promised."""
        if not good:
            raise BrokenPromiseError(f"step {self.step}: {what}: promised was {promised}")

    def hook(self, verb: str) -> list[str]:
        """Return the command line as CBSD has it."""
        return [str(ROOT / "hooks" / f"env_{verb}_nullfs"), *self.words()]

    def tool(self, verb: str) -> list[str]:
        """Return the command line of the tool."""
        return [sys.executable, "-m", "envstart", verb, "nullfs", *self.words()]

    def run(self) -> None:
        """All steps."""
        all_three = [f"jails/{place}" for place in KINDS.values()]
        self.show("Nothing is there yet: what would be done?", self.tool("plan"), 0, [], "not mounted")
        self.show("CBSD starts the jail: its directories are brought", self.hook("start"), 0, all_three)
        self.show("Once more: all is there, so nothing is done", self.hook("start"), 0, all_three)
        self.show("The same, seen by hand", self.tool("status"), 0, all_three, "mounted")

        before = self.mounts()
        self.configure(store="elsewhere")
        self.show(
            "The configuration now names another source: refused, both are named, nothing is touched",
            self.hook("start"),
            os.EX_CONFIG,
            all_three,
            str(self.top / "elsewhere"),
        )
        self.check("mount table", good=self.mounts() == before, promised="as it was")
        self.configure(store="store")

        self.show("Stop", self.hook("stop"), 0, [])
        self.show("Once more: nothing is there, so nothing is done", self.hook("stop"), 0, [])

        (self.top / "store" / "data" / "j1").rename(self.top / "store" / "data" / "lost")
        self.show(
            "The data is missing on the server: what was mounted beside it is taken back, all or nothing",
            self.hook("start"),
            os.EX_NOINPUT,
            [],
            str(self.top / "store" / "data" / "j1"),
        )
        (self.top / "store" / "data" / "lost").rename(self.top / "store" / "data" / "j1")
        self.show("The data is back", self.hook("start"), 0, all_three)
        self.show("Stop by hand", self.tool("stop"), 0, [])

    def clean(self) -> None:
        """Leave nothing, wherever it stopped. Nothing is deleted through a mount that does not go away."""
        for _, point in reversed(self.mounts()):
            command = ["/sbin/umount", "-f"] if not LINUX else [shutil.which("umount") or "/bin/umount", "-l"]
            subprocess.run([*command, str(self.top / point)], check=True)
        if not self.mounts():
            shutil.rmtree(self.top)


def enter_namespace(program: str) -> None:
    """Go on in a mount namespace of our own, which ends with us; comes back only if we are in it."""
    if os.environ.pop(_INSIDE, None):
        return
    user = [] if os.geteuid() == 0 else ["-U", "-r"]
    # The locks of the hooks are in /run: with one of our own, the host's are left alone, and anybody can have one.
    inside = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", *user, "-m", "--propagation", "private", "--", "sh", "-c", inside, "sh"]
    os.environ[_INSIDE] = "1"
    try:
        os.execvp("unshare", [*command, sys.executable, *sys.argv])
    except OSError as error:
        sys.exit(f"{program}: cannot run unshare: {error.strerror}; it comes with util-linux")


def run(argv: Sequence[str]) -> tuple[int, str]:
    """Run a command in CBSD's way, without our environment; its status and all that it says."""
    # A signal between the start of a command and our knowing of it would leave it running, beside the cleaning up.
    _Signals.held = True
    # In a session of its own: ^C is for us, and we hand it on.
    process = subprocess.Popen(
        argv,
        cwd="/",
        env={"PATH": "/nonexistent", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _Signals.release()
        output, _ = process.communicate(timeout=60)
    except BaseException:
        # It takes back what it did; we wait for that.
        process.terminate()
        process.communicate(timeout=60)
        raise
    return process.returncode, output


class _Signals:
    """The first signal ends the demonstration; what follows is ignored, so that the cleaning up is whole."""

    held = False
    received: int | None = None

    @classmethod
    def note(cls, number: int, frame: object) -> None:
        for other in _ENDING:
            signal.signal(other, signal.SIG_IGN)
        cls.received = number
        if not cls.held:
            raise Ending(number)

    @classmethod
    def release(cls) -> None:
        """Raise what came in while it was held."""
        cls.held = False
        if cls.received is not None:
            raise Ending(cls.received)


def main() -> int:
    """Run it and tell how it went."""
    if LINUX:
        enter_namespace("demo")
    elif os.geteuid() != 0:
        sys.exit("demo: only root can mount; try: sudo make demo")
    # Its name must be known before a signal can end us.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    demo = Demo(Path(tempfile.mkdtemp(prefix="envstart-demo-")).resolve())
    for number in _ENDING:
        signal.signal(number, _Signals.note)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        print(f"Everything happens below {demo.top}, which is left out of what follows.", flush=True)
        demo.prepare()
        demo.run()
        print("\nAll steps were as promised.")
    except BrokenPromiseError as error:
        print(f"\nNot as promised: {error}", file=sys.stderr)
        return 1
    except Ending as error:
        print(f"\ndemo: ended by signal {error}; everything is taken back", file=sys.stderr)
        return 128 + int(str(error))
    finally:
        demo.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
