"""The simulated machine as tests see it: they set the scene, run hooks in it and look at what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Union

from . import kernel, vfs
from .commands import COMMANDS, PROGRAM
from .disks import Disks
from .forked import Forked, completed
from .machine import Machine
from .names import machine_name
from .nfs import export_of
from .sessions import status
from .shapes import Dataset, Fault, Mount, Server, State
from .store import CALLS, STATE
from .users import PROC

if TYPE_CHECKING:
    from .storage import Storage

T = TypeVar("T")
StrPath = Union[str, "os.PathLike[str]"]

TESTS = Path(__file__).resolve().parent.parent
# Without the interpreter's own farewell, which is a sixth of what a command costs.
LAUNCHER = """#!{python} -IS
import os, sys
sys.path.insert(0, {tests!r})
from sim.commands import main
os._exit(main())
"""
FAULT_KINDS = (
    "fail", "hang", "ignore-term", "unkillable", "thaws", "late", "say-ok-do-nothing", "do-it-say-fail", "slow",
    "flood", "kill-parent", "freeze", "torn",
)  # fmt: skip
PIPES: dict[str, Any] = {
    "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
}  # fmt: skip
LOOKS_LIKE_CBSD = {
    "PATH": "/usr/local/cbsd/misc:/usr/local/cbsd/bin:/usr/bin:/bin",
    "LC_ALL": "C",
    "HOME": "/root",
}


class World(Disks):
    """One machine. `with World.create(path) as world:` ends everything that still hangs in it."""

    # Whether its processes are forked from a prepared interpreter (forked.py), where that is the same to them.
    forking = sys.platform == "linux"
    # Seconds of a hook in one of ours, and those that its time of day is ahead; for forked ones.
    speed = 1.0
    clock_step = 0.0

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.machine = Machine(str(self.path))

    @classmethod
    def create(cls, path: StrPath, storage: Storage | None = None, **settings: Any) -> World:
        """Make a machine with nothing but its own file systems mounted. SETTINGS: see shapes.Settings.

        STORAGE is the box with its iSCSI targets and HAST resources; each of its machines needs a hostname of its own.
        """
        top = Path(os.path.realpath(path))
        for name in ("bin", "dev", "empty", "fs", "run", "root/etc", "servers", "usr/local/etc/envstart"):
            (top / name).mkdir(parents=True, exist_ok=True)
        program = top / "bin" / PROGRAM
        program.write_text(LAUNCHER.format(python=sys.executable, tests=str(TESTS)))
        program.chmod(0o755)
        for name in COMMANDS:
            (top / "bin" / name).symlink_to(PROGRAM)
        # It does nothing but to call another one.
        (top / "bin" / "env").symlink_to(shutil.which("env") or "/usr/bin/env")
        # The tool is found by its name, as a package of it is.
        (top / "bin" / "envstart").symlink_to(TESTS.parent / "hooks" / "envstart")
        world = cls(top)
        world.machine.store.write(_first_state(settings, str(storage.path) if storage else ""))
        world.base_mount("/dev/vtbd0", "/", "ufs", ["local"], "/")
        world.base_mount("devfs", "/dev", "devfs", [], str(top / "dev"))
        if storage:
            storage.join_world(world)
        return world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the state away: every process that waits for a change of it then ends."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / STATE).rename(self.path / f"{STATE}.closed")

    @property
    def state(self) -> State:
        self.machine.settle()
        return self.machine.state()

    def set(self, **settings: Any) -> None:
        self._change(lambda state: state["settings"].update(settings))  # type: ignore[typeddict-item]
        self.machine.settle(at_once=True)

    # Servers

    def server(
        self, host: str, versions: Sequence[int] = (2, 3, 4), delay: float = 0.0, clients: str = "Everyone"
    ) -> Path:
        """Start an NFS server, and return the top of its file tree, where only what is exported can be mounted."""
        tree = self.path / "servers" / host.replace(":", "_")
        (tree / "etc").mkdir(parents=True, exist_ok=True)
        server: Server = {
            "tree": str(tree), "exports": {}, "state": "up", "versions": list(versions), "clients": clients,
            "delay": delay, "grace": False,
        }  # fmt: skip

        def act(state: State) -> None:
            known = state["servers"].get(host)
            state["servers"][host] = {**server, "exports": known["exports"]} if known else server

        self._change(act)
        return tree

    def export(self, host: str, path: str) -> Path:
        """Export PATH of HOST and all below it; gives back the directory behind it."""
        if host not in self.state["servers"]:
            self.server(host)
        backing = Path(self.state["servers"][host]["tree"] + path)
        backing.mkdir(parents=True, exist_ok=True)
        self._change(lambda state: state["servers"][host]["exports"].update({path: str(backing)}))
        return backing

    def unexport(self, host: str, path: str) -> None:
        self._change(lambda state: state["servers"][host]["exports"].pop(path))

    def freeze(self, host: str) -> None:
        """No answer of any kind any more."""
        self._server_state(host, "frozen")

    def refuse(self, host: str) -> None:
        """Refuse connections: the host is up and nfsd is not running."""
        self._server_state(host, "refused")

    def down(self, host: str) -> None:
        """Not even the address is answered for: connecting fails at once with `Host is down`."""
        self._server_state(host, "down")

    def restarted(self, host: str) -> None:
        """Its nfsd has been started anew, and is in the grace period, until up()."""
        self._change(lambda state: state["servers"][host].update({"state": "up", "grace": True}))

    def thaw(self, host: str) -> None:
        self.up(host)

    def up(self, host: str) -> None:
        def act(state: State) -> None:
            state["servers"][host].update({"state": "up", "grace": False})
            kernel.finish_unmounts(state, host)

        self._change(act)

    def _server_state(self, host: str, name: str) -> None:
        self._change(lambda state: state["servers"][host].update({"state": name}))

    # Mounts

    def mount(
        self,
        special: str,
        node: StrPath,
        fstype: str = "nfs",
        opts: Sequence[str] = (),
        *,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Put a mount in the table without any command."""

        def act(state: State) -> Mount:
            place = self.machine.place(state, os.fspath(node))
            host, backing, lower = self._source(state, special, fstype)
            known = {"nfsv": "4", **(options or {})} if fstype == "nfs" else dict(options or {})
            return kernel.add_mount(
                state, place, special, fstype, list(opts), backing=backing, host=host, lower=lower, options=known
            )

        self._change(act)

    def _source(self, state: State, special: str, fstype: str) -> tuple[str, str, str]:
        if fstype == "nfs":
            host, _, path = special.rpartition(":")
            backing = export_of(state["servers"][host.strip("[]")], path)
            if backing is None:
                raise ValueError(f"{host} has no {path}: export it first")
            return host.strip("[]"), backing, ""
        if fstype == "nullfs":
            source = self.machine.place(state, special)
            return "", source.real, source.mount["fsid"]
        if fstype == "zfs":
            return "", state["datasets"][special]["files"], ""
        directory = self.path / "fs" / f"preset-{state['serial'] + 1}"
        directory.mkdir()
        return "", str(directory), ""

    def base_mount(self, special: str, node: str, fstype: str, flags: list[str], backing: str) -> None:
        def act(state: State) -> None:
            mount: Mount = {
                "special": special, "node": node, "fstype": fstype, "flags": flags,
                "fsid": kernel.next_fsid(state), "options": {}, "backing": backing, "host": "", "parent": "",
                "lower": "", "stale": False, "leaving": "", "queued": "",
                "cancelled": False, "base": True,
            }  # fmt: skip
            state["mounts"].append(mount)

        self._change(act)

    def dataset(self, name: str, mountpoint: StrPath = "none", canmount: str = "noauto", origin: str = "-") -> Path:
        """Make a ZFS dataset, not mounted, or with an ``@`` in its name a snapshot, and return its files."""
        files = self.path / "fs" / f"zfs-{name.replace('/', '-')}"
        files.mkdir()
        made: Dataset = {
            "files": str(files), "mountpoint": os.fspath(mountpoint), "canmount": canmount, "origin": origin,
            "quota": "none", "readonly": "off",
        }  # fmt: skip
        self._change(lambda state: state["datasets"].update({name: made}))
        return files

    def sessions(self) -> list[dict[str, Any]]:
        """Return the iSCSI sessions: target, portal, status as in iscsictl, LUNs; "known": what else was asked."""
        return [{**session, "status": status(session)} for session in self.state["sessions"]]

    def dirty(self, node: StrPath) -> None:
        """Something was written there, and is not on the server yet."""
        path = os.path.realpath(node)
        mounts = self.state["mounts"]
        assert any(mount["node"] == path for mount in mounts), f"nothing is mounted on {path}"

        def act(state: State) -> None:
            for mount in state["mounts"]:
                if mount["node"] == path:
                    mount["options"]["dirty"] = "yes"

        self._change(act)

    def stale(self, node: StrPath) -> None:
        """Remove the exported directory on the server, and make it anew."""
        path = os.path.realpath(node)

        def act(state: State) -> None:
            found = [mount for mount in state["mounts"] if mount["node"] == path]
            if not found:
                raise ValueError(f"nothing is mounted on {path}")
            for mount in found:
                mount["stale"] = True

        self._change(act)

    def mounts(self, *, base: bool = False) -> list[dict[str, Any]]:
        """Return the mount table, oldest first; without the machine's own file systems unless BASE."""
        return [dict(mount) for mount in self.state["mounts"] if base or not mount["base"]]

    def table(self, *, base: bool = False) -> list[tuple[str, str, str]]:
        return [(mount["special"], mount["node"], mount["fstype"]) for mount in self.mounts(base=base)]

    def real(self, path: StrPath) -> Path:
        """Return the file that a process of the machine would see at PATH."""
        return Path(vfs.resolve(self.state, os.fspath(path), self.machine.empty).real)

    # Users, jails

    def hold(self, node: StrPath, pid: int, how: str = "w") -> None:
        """Process PID uses the file system on NODE; HOW as in fuser(1). It ends with the process."""
        path = os.path.realpath(node)
        self._change(lambda state: state["holders"].setdefault(path, []).append({"pid": pid, "how": how}))

    def release(self, node: StrPath, pid: int | None = None) -> None:
        path = os.path.realpath(node)

        def act(state: State) -> None:
            kept = [holder for holder in state["holders"].pop(path, []) if pid not in (None, holder["pid"])]
            if kept:
                state["holders"][path] = kept

        self._change(act)

    def jail(self, name: str, jid: int) -> None:
        self._change(lambda state: state["jails"].update({name: jid}))

    def stop_jail(self, name: str) -> None:
        self._change(lambda state: state["jails"].pop(name))

    # Faults and calls

    def fault(  # noqa: PLR0913 - a keyword for each property of a fault
        self,
        command: str | None = None,
        kind: str = "fail",
        *,
        nth: int = 1,
        times: int | None = 1,
        text: str = "",
        status: int = 1,
        seconds: float = 0.0,
        megabytes: int = 8,
        when: str = "before",
    ) -> None:
        """Let the NTH call from now on, of COMMAND or of any, go wrong, and the TIMES - 1 after it (None: all).

        WHEN is for kill-parent: the caller dies "before" the work is done, "after" it, or "during" it, in which
        case the orphaned command does its work.
        """
        if kind not in FAULT_KINDS or (command is not None and command not in COMMANDS):
            raise ValueError(f"no fault {kind} of {command}")

        def act(state: State) -> None:
            so_far = state["total"] if command is None else state["counts"].get(command, 0)
            first = so_far + nth
            fault: Fault = {
                "command": command, "first": first, "last": None if times is None else first + times - 1,
                "kind": kind, "text": text, "status": status, "seconds": seconds, "megabytes": megabytes,
                "when": when,
            }  # fmt: skip
            state["faults"].append(fault)

        self._change(act)

    def clear_faults(self) -> None:
        self._change(lambda state: state["faults"].clear())

    def calm(self) -> None:
        """No fault is left, and what hangs in the kernel comes out of it and ends, as it had been told."""
        self.clear_faults()
        for pid in self.state["stuck"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._change(lambda state: state["stuck"].clear())

    def calls(self, name: str | None = None) -> list[dict[str, Any]]:
        """Every call of a simulated command so far, in the order in which they began."""
        try:
            calls = self.machine.store.logged_calls()
        except FileNotFoundError:
            return []
        return [call for call in calls if name in (None, call["name"])]

    def forget_calls(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / CALLS).unlink()

    def syslog(self) -> list[str]:
        try:
            return (self.path / "syslog").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    # Processes

    def argv(self, program: str, *args: StrPath) -> list[str]:
        shim = str(TESTS / "sim" / "process.py")
        return [sys.executable, "-I", shim, str(self.path), program, *(os.fspath(arg) for arg in args)]

    def can_fork(self, environment: Mapping[str, str]) -> bool:
        """Whether that makes no difference: Python looks at its locale when it starts."""
        return (
            self.forking
            and PROC
            and [name for name in environment if name.startswith(("LC_", "LANG", "PYTHON"))] == ["LC_ALL"]
        )

    def run(
        self,
        program: str,
        *args: StrPath,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        cwd: StrPath = "/",
    ) -> subprocess.CompletedProcess[str]:
        """Run a hook (env_start_nfs ...) or `envstart` as a process of this machine."""
        process = self.popen(program, *args, env=env, cwd=cwd, start_new_session=False)
        return completed(process, timeout)

    def popen(
        self,
        program: str,
        *args: StrPath,
        env: Mapping[str, str] | None = None,
        cwd: StrPath = "/",
        start_new_session: bool = True,
    ) -> subprocess.Popen[str]:
        environment = dict(LOOKS_LIKE_CBSD if env is None else env)
        kwargs = {**PIPES, "errors": "surrogateescape", "env": environment, "cwd": cwd}
        kwargs["start_new_session"] = start_new_session
        if self.can_fork(environment):
            argv = [str(self.path), program, *(os.fspath(arg) for arg in args)]
            return Forked(argv, machine_name(str(self.path)), self.speed, self.clock_step, **kwargs)
        return subprocess.Popen(self.argv(program, *args), **kwargs)

    def command(self, *argv: str, timeout: float = 30, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """Run one simulated command itself, as an administrator would."""
        words = [str(self.path / "bin" / argv[0]), *argv[1:]]
        given: dict[str, Any] = {**PIPES, "env": {"LC_ALL": "C"}, "cwd": "/", **kwargs}
        if kwargs.keys() <= {"env", "cwd"} and self.can_fork(given["env"]):
            return completed(Forked(["", *words], machine_name(str(self.path)), **given), timeout)
        return completed(subprocess.Popen(words, **given), timeout)

    @contextlib.contextmanager
    def holder(self, node: StrPath, how: str = "w") -> Iterator[subprocess.Popen[bytes]]:
        """Run a real process that uses NODE until the end of the block."""
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
            self.hold(node, process.pid, how)
            try:
                yield process
            finally:
                process.kill()

    def _change(self, act: Callable[[State], T]) -> T:
        return self.machine.store.change(act)


def _first_state(settings: Mapping[str, Any], storage: str) -> State:
    known: dict[str, Any] = {
        "uid": 0, "force_seconds": 0.2, "connect_seconds": 75.0, "retry_seconds": 60.0, "locale_files": True,
        "getfsstat": False, "hostname": "node1", "hostuuid": "", "fsck_seconds": 0.0,
        "iscsid": True, "hastd": True, "rc_conf": ["iscsid", "iscsictl", "hastd", "ntpd"], "no_iscsi_module": False,
        "login_seconds": 0.05, "scan_seconds": 0.05, "removal_seconds": 0.0, "login_timeout": 60.0, "ping_seconds": 0.0,
        "fail_on_disconnection": 0, "wait_second": 1.0, "hast_seconds": 0.05, "hast_connect_seconds": 0.2,
        "hast_falls_back": False, "daemons": ["ntpd"], "sysctls": {}, "resolver": {}, "full": False,
        "just_booted": False, "client_farewell": 0.0, "resolver_seconds": 0.0,
        "no_modules": [], "tester": os.getpid(),
    }  # fmt: skip
    unknown = set(settings) - set(known)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    return {
        "serial": 0, "total": 0, "counts": {}, "mounts": [], "servers": {}, "holders": {}, "jails": {},
        "guests": {}, "units": {}, "disks": {}, "gates": {}, "parts": {}, "elis": {}, "multipaths": {}, "labels": {},
        "nodes": {}, "opens": [], "untasted": [], "panic": "", "storage": storage, "sessions": [], "session_serial": 0,
        "datasets": {}, "exported": {}, "due": 0.0, "modules": ["nfscl"], "stuck": {}, "opening": {}, "waits": {},
        "faults": [],
        "settings": {**known, **settings},  # type: ignore[typeddict-item]
    }  # fmt: skip
