"""The simulated FreeBSD in the place of a real one, so that what only runs there is executed here too.

What the simulation has no command for, the servers above all, has a stand-in here, which reads the files that the tests
have written as the real one does.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import jail_conf
from freebsd_machine import NAME, RECORDS, ROOT, RUNDIR, Ended
from freebsd_services import ADDRESS
from sim.storage import Storage
from sim.world import World

HOOKS = f"{ROOT}/hooks/"


class Rehearsal:
    """A simulated FreeBSD that has nothing yet but itself."""

    def __init__(self, top: Path) -> None:
        self.top = top / NAME
        self.top.mkdir()
        self.storage = Storage(top / "storage")
        quick = {"iscsid": False, "hastd": False, "daemons": [], "getfsstat": True}
        self.world = World.create(top / "machine", storage=self.storage, **quick)
        self.world.machine.store.change(lambda state: state["modules"].extend(["iscsi", "zfs"]))
        self._sysctls = {"vfs.nfsd.server_max_nfsvers": "3"}
        self.interfaces = ["lo0"]
        self._pids: dict[str, str] = {}
        self._stand_ins: dict[str, Callable[[list[str]], Ended]] = {
            "cp": self._cp,
            "ctladm": lambda words: Ended(0, NAME),
            "ctld": self._ctld,
            "hastctl": self._hastctl,
            "hastd": self._hastd,
            "hostname": lambda words: Ended(0, self.world.state["settings"]["hostname"] + "\n"),
            "ifconfig": self._ifconfig,
            "iscsid": self._iscsid,
            "jail": self._jail,
            "kill": self._kill,
            "mountd": self._mountd,
            "nfsd": self._nfsd,
            "nfsuserd": lambda words: self._began("nfsuserd"),
            "pgrep": lambda words: Ended(0 if words[-1] in self._pids.values() else 1, ""),
            "pkill": self._pkill,
            "pwd_mkdb": lambda words: Ended(0, ""),
            "rpcbind": lambda words: self._began("rpcbind"),
            "sysctl": self._sysctl,
            "truncate": self._truncate,
            "zpool": self._zpool,
        }

    def argv(self, words: list[str]) -> list[str]:
        if words[0].startswith(HOOKS):
            return self.world.argv(words[0].removeprefix(HOOKS), *words[1:])
        return [f"{self.world.path}/bin/{words[0]}", *words[1:]]

    def begin(self, *argv: str | Path) -> subprocess.Popen[str]:
        words = self.argv([os.fspath(word) for word in argv])
        silent = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "stdout": subprocess.PIPE}
        return subprocess.Popen(words, text=True, env={"LC_ALL": "C"}, cwd="/", **silent)  # type: ignore[call-overload, no-any-return]

    def run(self, *argv: str | Path) -> Ended:
        name, *words = (os.fspath(word) for word in argv)
        if name in self._stand_ins:
            return self._stand_ins[name](words)
        with self.begin(*argv) as process:
            try:
                out, _ = process.communicate(timeout=120)
            except BaseException:
                process.kill()
                raise
        return Ended(process.returncode, out)

    def real(self, path: str | Path) -> Path:
        text = os.fspath(path)
        for simulated, place in ((RUNDIR, "run"), (RECORDS, "var/db/envstart"), ("/etc", "etc"), ("/var/log", "log")):
            if text == simulated or text.startswith(f"{simulated}/"):
                return self.world.path / f"{place}{text.removeprefix(simulated)}"
        return self.world.real(text)

    def exists(self, path: str | Path) -> bool:
        try:
            return self.real(path).exists()
        except OSError:
            return False

    def lacks(self, *needs: str) -> str:
        return ""

    def close(self) -> None:
        self.world.close()

    # Stand-ins.

    def _simulated(self, *words: str) -> Ended:
        ended = self.world.command(*words)
        return Ended(ended.returncode, ended.stdout + ended.stderr)

    def _began(self, daemon: str, pidfile: str = "") -> Ended:
        pid = str(900_000_000 + len(self._pids))
        self._pids[pid] = daemon
        if pidfile:
            Path(pidfile).write_text(pid)
        return Ended(0, "")

    def _ended(self, pids: list[str]) -> Ended:
        for pid in pids:
            daemon = self._pids.pop(pid)
            if daemon in ("iscsid", "hastd") and daemon not in self._pids.values():
                self.world.command("service", daemon, "onestop")
            if daemon == "nfsd":
                self.world.refuse(ADDRESS)
        return Ended(0 if pids else 1, "")

    def _pkill(self, words: list[str]) -> Ended:
        number, switch, daemon = words
        if switch == "-f":
            # Its processes end with the machine.
            return Ended(1, "")
        assert switch == "-x"
        deaf = daemon in ("nfsd", "nfsuserd") and number != "-USR1"
        return self._ended([] if deaf else [pid for pid, known in self._pids.items() if known == daemon])

    def _kill(self, words: list[str]) -> Ended:
        if words[0] == "-0":
            return Ended(0 if words[1] in self._pids else 1, "")
        return self._ended([pid for pid in words if pid in self._pids])

    def _sysctl(self, words: list[str]) -> Ended:
        name, _, value = words[-1].partition("=")
        if name not in self._sysctls:
            return self._simulated("sysctl", *words)
        self._sysctls[name] = value or self._sysctls[name]
        return Ended(0, self._sysctls[name] + "\n")

    def _truncate(self, words: list[str]) -> Ended:
        switch, size, path = words
        assert (switch, size[-1]) == ("-s", "m")
        with open(path, "wb") as stream:
            stream.truncate(int(size[:-1]) << 20)
        return Ended(0, "")

    def _cp(self, words: list[str]) -> Ended:
        self.world.real(words[1]).write_text(words[0])
        return Ended(0, "")

    def _mountd(self, words: list[str]) -> Ended:
        switch, path = words
        assert switch == "-r"
        (directory, *_), (word, root, client) = (line.split() for line in Path(path).read_text().splitlines())
        assert (word, root, client) == ("V4:", directory, ADDRESS)
        self.world.server(ADDRESS)
        self.world.refuse(ADDRESS)
        files = str(self.world.real(directory))
        exports = {directory: files, **{f"/{name}": f"{files}/{name}" for name in os.listdir(files)}}
        self.world.machine.store.change(lambda state: state["servers"][ADDRESS]["exports"].update(exports))
        return self._began("mountd")

    def _nfsd(self, words: list[str]) -> Ended:
        assert words == ["-u", "-t", "-n", "4", "-h", ADDRESS]
        self.world.up(ADDRESS)
        return self._began("nfsd")

    def _ctld(self, words: list[str]) -> Ended:
        switch, path = words
        assert switch == "-f"
        text = Path(path).read_text()
        (target,) = re.findall(r"^target (\S+) \{$", text, re.M)
        (portal,) = re.findall(r"^\tlisten (\S+)$", text, re.M)
        (file,) = re.findall(r"^\t\tpath (\S+)$", text, re.M)
        assert os.path.getsize(file)
        self.storage.target(target, [portal])
        self.storage.lun(target, 0, serial=re.findall(r"^\t\tserial (\S+)$", text, re.M)[0])
        return self._began("ctld", re.findall(r"^pidfile (\S+)$", text, re.M)[0])

    def _iscsid(self, words: list[str]) -> Ended:
        switch, pidfile = words
        assert switch == "-P"
        self._simulated("iscsid")
        return self._began("iscsid", pidfile)

    def _hastctl(self, words: list[str]) -> Ended:
        if words[0] == "create":
            conf = Path(words[words.index("-c") + 1]).read_text()
            (name,) = re.findall(r"^resource (\S+) \{$", conf, re.M)
            assert name == words[-1]
            (node,) = re.findall(r"^\ton (?!other)(\S+) \{$", conf, re.M)
            assert node == self.world.state["settings"]["hostname"]
            self.storage.hast(name, [self.world])
        return self._simulated("hastctl", *words)

    def _hastd(self, words: list[str]) -> Ended:
        assert (words[0], words[2]) == ("-c", "-P")
        if "hastd" not in self._pids.values():
            self._simulated("hastd")
        return self._began("hastd", words[3])

    def _zpool(self, words: list[str]) -> Ended:
        verb, *rest = words
        pools = [name for name in self.world.state["datasets"] if "/" not in name]
        if verb == "create":
            assert rest[:3] == ["-f", "-m", "none"]
            assert os.path.getsize(rest[4])
            self.world.dataset(rest[3])
        elif verb == "list":
            return Ended(0 if rest[-1] in pools else 1, "")
        else:
            assert words == ["destroy", "-f", NAME]
            datasets = self.world.state["datasets"]
            kept = {name: known for name, known in datasets.items() if not re.match(rf"{NAME}(/|$)", name)}
            self.world.machine.store.change(lambda state: state.update({"datasets": kept}))
        return Ended(0, "")

    def _ifconfig(self, words: list[str]) -> Ended:
        match words:
            case ["-l"]:
                return Ended(0, " ".join(self.interfaces) + "\n")
            case ["bridge", "create"]:
                self.interfaces.append("bridge0")
                return Ended(0, "bridge0\n")
            case [interface, "name", name]:
                self.interfaces[self.interfaces.index(interface)] = name
            case [interface, "destroy"]:
                self.interfaces.remove(interface)
            case _:
                raise AssertionError(words)
        return Ended(0, "")

    def _jail(self, words: list[str]) -> Ended:
        """Run exec.prepare and exec.release of the file, as jail(8) does around the jail itself."""
        if "-f" not in words:
            return self._simulated("jail", *words)
        path = words[words.index("-f") + 1]
        name, read = jail_conf.jail(Path(path).read_text())
        known = [("name", "=", name), *read]
        values = {key: jail_conf.filled(value, known) for key, sign, value in known if sign == "="}
        if "-c" in words:
            prepared = self.run(*values["exec.prepare"].split())
            if prepared.status:
                return Ended(1, f"{prepared.out}jail: {name}: exec.prepare failed")
        flat = self.top / "flat.conf"
        flat.write_text(f'{name} {{\npath = "{values["path"]}";\nmount.devfs;\n}}\n')
        ended = self._simulated("jail", *[str(flat) if word == path else word for word in words])
        if "-r" in words:
            self.run(*values["exec.release"].split())
        return ended
