"""What the tests with real mounts share: a mount namespace, a CBSD workdir in it, and hooks run as CBSD runs them.

A namespace belongs to one test and ends with it, so that nothing of it can stay on the host. As root it is a mount
namespace; as anybody else a user namespace in which we are root comes with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "hooks"
FUSE = Path(__file__).resolve().parent / "hanging_fuse.py"
# Longer than anything takes here: what runs into it hangs.
PATIENCE = 60.0

# The six commands that run mnt_start (docs/cbsd.md#arguments); only jails have -f.
SHAPES = ("jstart", "jcreate", "bstart", "bcreate", "qcreate", "xcreate")
DIRECTORIES = {"data": "jails-data/{}-data", "system": "jails-system/{}", "fstab": "jails-fstab/{}"}
# Before a mount command does its work: note it, and wait if a file says so for one of its words.
_GATE = """
echo "{command} $*" >> "{top}/called"
for word; do last=$word; done
if [ -e "{top}/gate" ] && [ "$last" = "$(cat "{top}/gate")" ]; then
	: > "{top}/waiting"
	while [ -e "{top}/gate" ]; do sleep 0.02; done
fi
"""
# Where a system command can lie; links among them are followed.
_SYSTEM_PATH = ("/sbin", "/usr/sbin", "/bin", "/usr/bin")


class Ended(NamedTuple):
    """How a hook ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def last(self) -> str:
        """The line that tells why."""
        return self.err.splitlines()[-1] if self.err else ""


class Mounted(NamedTuple):
    """A line of mountinfo; ``number`` is new for each mount, so that one that was made anew shows."""

    number: int
    root: str
    point: str
    options: str
    fstype: str


def why_not() -> str:
    """Why there are no real mounts on this machine; empty if there are."""
    if not sys.platform.startswith("linux"):
        return "mount namespaces are Linux's"
    trial = subprocess.run([*_unshare(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if trial.returncode == 0:
        return ""
    if os.geteuid() == 0:
        # Root has no excuse: a skip here would hide that nothing was tested.
        raise RuntimeError(f"root cannot make a mount namespace: {trial.stderr.strip()}")
    return f"not root, and no user namespace either: {trial.stderr.strip()}"


def why_no_fuse() -> str:
    """Why there is no file system that hangs; empty if there is."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing, or not for us"
    return ""


def lacking(*programs: str) -> str:
    """Tell why a test with real servers cannot run here; empty if it can.

    ENVSTART_REAL names the suites (the first of ``programs``) for which that is a failure: there a skip would hide that
    nothing was tested.
    """
    why = why_not() or why_no_fuse()
    if not why and os.geteuid() != 0:
        why = "not root"
    absent = [name for name in programs if shutil.which(name) is None]
    if not why and absent:
        why = f"not installed: {', '.join(absent)}"
    if why and programs[0] in os.environ.get("ENVSTART_REAL", "").split():
        raise RuntimeError(f"{programs[0]} must be tested: {why}")
    return why


def _unshare(*, network: bool = False) -> list[str]:
    if os.geteuid() == 0:
        return ["unshare", *(["-n"] if network else []), "-m", "--propagation", "private", "--"]
    return ["unshare", "-U", "-r", "-m", "--propagation", "private", "--"]


class Namespace:
    """A mount namespace, kept by a process of ours.

    ``top`` is the directory whose mounts count. ``network``: it has a network of its own too (root only), with nothing
    in it but a loopback interface that is up.
    """

    def __init__(self, top: Path, *, network: bool = False) -> None:
        self.top = top
        self._network = network
        self._started: list[subprocess.Popen[str]] = []
        # Nothing of the host's state is seen or changed: locks, configuration, mount(8)'s own notes.
        private = ["/run", "/usr/local/etc"]
        if top.parts[1] != "var":
            private.append("/var")
        script = "".join(f"[ ! -d {path} ] || mount -t tmpfs tmpfs {path} || exit 1; " for path in private)
        if network:
            script += "ip link set lo up && "
        script += "mkdir -p /var/run /var/empty && echo ready && exec cat"
        self._holder = subprocess.Popen(
            [*_unshare(network=network), "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "cannot prepare the namespace"
        # Held until all is over: the number of a namespace that is gone is given to the next, which is a stranger's.
        self._held = os.open(f"/proc/{self._holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._identity = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs ``argv`` in the namespace, in the same process."""
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        network = ["-n"] if self._network else []
        return ["nsenter", "-t", str(self._holder.pid), "-m", *network, *user, "--", *argv]

    @property
    def pid(self) -> int:
        """The process that keeps it."""
        return self._holder.pid

    def popen(self, argv: Sequence[str], **streams: int) -> subprocess.Popen[str]:
        """Start a command; its output goes into pipes unless ``streams`` say otherwise."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        process: subprocess.Popen[str]
        process = subprocess.Popen(self.inside(argv), text=True, **streams)  # type: ignore[call-overload]
        self._started.append(process)
        return process

    def run(self, *argv: str) -> str:
        """Run a command that must succeed, and return its output."""
        process = self.popen(argv)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (argv, err)
        return str(out)

    def bind(self, source: Path, point: Path) -> None:
        """Mount as a stranger would."""
        self.run("mount", "--bind", str(source), str(point))

    def mounts(self) -> list[Mounted]:
        """Return the mounts below ``top``, oldest first, read from the kernel."""
        found = []
        for line in Path(f"/proc/{self._holder.pid}/mountinfo").read_text().splitlines():
            front, _, back = line.partition(" - ")
            number, _, _, root, point, options = front.split(" ")[:6]
            point = point.replace("\\040", " ")
            if point.startswith(f"{self.top}/"):
                found.append(Mounted(int(number), root.replace("\\040", " "), point, options, back.split(" ")[0]))
        return found

    def points(self) -> list[str]:
        """Return the mount points below ``top``, relative to it, sorted."""
        return sorted(mounted.point[len(str(self.top)) + 1 :] for mounted in self.mounts())

    def pids(self) -> list[int]:
        """Return the processes in the namespace."""
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/mnt") == self._identity:
                    found.append(int(entry))
        return found

    def in_front(self, command: str, script: str) -> None:
        """Lay a sh script over a system command, in this namespace alone; ``$REAL`` is the command itself."""
        real = self.top / f"real-{command}"
        places = {os.path.realpath(f"{directory}/{command}") for directory in _SYSTEM_PATH}
        for place in filter(os.path.exists, places):
            shutil.copy(place, real)
            program(self.top / f"front-{command}", f'REAL="{real}"\n{script}\nexec "$REAL" "$@"\n')
            self.run("mount", "--bind", str(self.top / f"front-{command}"), place)

    def close(self) -> None:
        """End every process in it; the mounts go with the last one."""
        until = time.monotonic() + 10
        while time.monotonic() < until and (left := self.pids()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in (*self._started, self._holder):
                process.poll()
            time.sleep(0.01)
        for process in (*self._started, self._holder):
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        left = self.pids()
        os.close(self._held)
        assert not left, "a process of the test does not end"


def program(path: Path, script: str) -> None:
    """Write a sh script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


class Workdir:
    """A CBSD workdir ``W`` with its environments, and ``store`` with the directories they are to get."""

    backend = "nullfs"

    def __init__(self, namespace: Namespace, store: str = "store", name: str = "j1") -> None:
        self.namespace = namespace
        self.name = name
        self.path = namespace.top / "jails"
        self.store = namespace.top / store
        self.decoyed = namespace.top / "decoyed"
        for shared in ("etc", "jails", "jails-data", "jails-system", "jails-fstab", "jails-rcconf", "modules"):
            (self.path / shared).mkdir(parents=True, exist_ok=True)
        for command in ("mount", "umount", "mount_nullfs", "python3", "readlink", "env", "sh"):
            program(self.path / "modules" / command, f'echo "{command} $*" >> "{self.decoyed}"\n')
        self.add(name)
        self.configure()

    def add(self, name: str) -> None:
        """Another environment: what CBSD makes before it runs the hook, and what is to be mounted there."""
        for kind in (*DIRECTORIES, "rcconf"):
            (self.store / kind / name).mkdir(parents=True)
            (self.store / kind / name / "from-store").write_text(f"{kind} of {name}\n")
        for place in DIRECTORIES.values():
            (self.path / place.format(name)).mkdir()

    def configure(self, text: str = "", **keys: object) -> None:
        """Write the configuration of the backend: the usual keys, then ``keys``, then ``text``."""
        keys = {**self.always(), "LOG_FACILITY": "none", "TIMEOUT": 30, **keys}
        lines = "".join(f'{key}="{value}"\n' for key, value in keys.items())
        path = self.path / "etc" / f"env_start_{self.backend}.conf"
        path.write_text(lines + text)
        # The caller's umask can be that of CBSD, and a file that the group can write is refused.
        path.chmod(0o644)

    def always(self) -> Mapping[str, object]:
        """Return the keys that the configuration has in every test."""
        return {"NULLFS_ROOT_DIR": self.store}

    def point(self, kind: str, name: str = "") -> Path:
        """Return the mount point of a kind of directory."""
        return self.path / DIRECTORIES[kind].format(name or self.name)

    def argv(self, shape: str = "jstart", name: str = "") -> list[str]:
        """Return the words that CBSD hands over."""
        name = name or self.name
        fstab = ["-f", f"{self.path}/jails-fstab/{name}"] if shape.startswith("j") else []
        data = ["-d", f"{self.path}/jails-data/{name}-data"]
        rest = ["-j", name, "-r", f"{self.path}/jails-rcconf", "-s", f"{self.path}/jails-system/{name}"]
        return data + fstab + rest

    def variables(self, shape: str = "jstart", name: str = "") -> dict[str, str]:
        """Return the environment of a hook (docs/cbsd.md#process): CBSD's directories come first in PATH."""
        name = name or self.name
        known = {
            "CBSD_APP": shape,
            "CBSD_PWD": "/root",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "NO_CBSD_HISTORY": "yes",
            "PS1": "cbsd@\\h> ",
            "TERM": "dumb",
            "PATH": f"{self.path}/modules:/usr/local/cbsd/bin:/bin:/sbin:/usr/bin:/usr/sbin",
            "workdir": str(self.path),
        }
        if shape in ("jstart", "bstart"):
            known.update(data=str(self.point("data", name)), jid="0", status="0", NOINTER="1")
        return known

    def begin(
        self,
        verb: str | Path,
        argv: Sequence[str] | None = None,
        shape: str = "jstart",
        name: str = "",
        cwd: str = "/var/empty",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a hook as CBSD does: bare path, its directory, its umask, its variables and no others.

        VERB can also be the path of a hook.
        """
        hook = verb if isinstance(verb, Path) else HOOKS / f"env_{verb}_{self.backend}"
        known = self.variables(shape, name) if variables is None else variables
        words = self.argv(shape, name) if argv is None else argv
        settle = 'cd "$1" && umask 002 && shift && exec "$@"'
        pairs = [f"{key}={value}" for key, value in known.items()]
        return self.namespace.popen(["sh", "-c", settle, "sh", cwd, "env", "-i", *pairs, str(hook), *words])

    def run(
        self,
        verb: str | Path,
        argv: Sequence[str] | None = None,
        shape: str = "jstart",
        name: str = "",
        cwd: str = "/var/empty",
        variables: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a hook to its end."""
        began = time.monotonic()
        process = self.begin(verb, argv, shape, name, cwd, variables)
        return ended(process, began)

    def start(self, shape: str = "jstart", name: str = "") -> Ended:
        """Start; it must succeed in silence."""
        result = self.run("start", shape=shape, name=name)
        assert (result.status, result.out, result.err) == (0, "", "")
        return result

    def stop(self, shape: str = "jstart", name: str = "") -> Ended:
        """Stop; it must succeed in silence."""
        result = self.run("stop", shape=shape, name=name)
        assert (result.status, result.out, result.err) == (0, "", "")
        return result

    def shows(self, kind: str, name: str = "") -> bool:
        """Whether the directory shows what is to be mounted there, seen from inside the namespace."""
        path = self.point(kind, name) / "from-store"
        process = self.namespace.popen(["cat", str(path)])
        return str(process.communicate(timeout=PATIENCE)[0]) == f"{kind} of {name or self.name}\n"

    def expected(self, shape: str = "jstart", name: str = "") -> list[str]:
        """Return the mount points of a started environment, as Namespace.points() has them."""
        kinds = [kind for kind in DIRECTORIES if kind != "fstab" or shape.startswith("j")]
        return sorted(str(self.point(kind, name).relative_to(self.namespace.top)) for kind in kinds)


class Elsewhere(Workdir):
    """A workdir whose environments have their directories on a server, reached by client processes."""

    # Names of a client's program: as it was started, or as the first argument of an interpreter.
    programs: tuple[bytes, ...]

    def add(self, name: str) -> None:
        """Make the mount points of another environment; what is shown there is on the server."""
        for place in DIRECTORIES.values():
            (self.path / place.format(name)).mkdir()

    def clients(self) -> list[int]:
        """Return the client processes in the namespace."""
        found = []
        for pid in self.namespace.pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(os.path.basename(word) in self.programs for word in words[:2]):
                    found.append(pid)
        return found


def ended(process: subprocess.Popen[str], began: float) -> Ended:
    """Wait for a hook: its end, and the end of all that could write to its pipes."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err, time.monotonic() - began)


class HangingFuse:
    """The file system that can stop answering, mounted on ``point`` inside a namespace."""

    def __init__(self, namespace: Namespace, point: Path) -> None:
        self._process = namespace.popen([sys.executable, "-I", str(FUSE), str(point)], stdin=subprocess.PIPE)
        self._expect("mounted ")

    def tell(self, word: str) -> None:
        """``hang`` or ``answer``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._expect("done")

    def abort(self) -> None:
        """End it, and with it all that waits for it: no descriptor of its device is left, so the kernel aborts it."""
        self._process.kill()
        self._process.communicate()

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(word):
            self._process.kill()
            raise RuntimeError(f"hanging_fuse.py said {line!r}: {self._process.communicate()[1]}")


@contextlib.contextmanager
def namespace_of(top: Path, *, network: bool = False) -> Iterator[Namespace]:
    """Yield a namespace that ends with the block."""
    namespace = Namespace(top.resolve(), network=network)
    try:
        yield namespace
    finally:
        namespace.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def gated(cbsd: Workdir) -> Path:
    """Lay the gate over mount and umount; returns the file that notes the calls."""
    top = cbsd.namespace.top
    for command in ("mount", "umount"):
        cbsd.namespace.in_front(command, _GATE.format(command=command, top=top))
    # The second one was laid over its place by the first.
    (top / "called").unlink()
    (top / "called").touch()
    return top / "called"
