"""Processes of simulated machines, forked from a prepared interpreter (zygote.py), which takes a tenth of the time."""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from . import tracing, users
from .names import machine_name, process_name

ZYGOTE = Path(__file__).with_name("zygote.py")
REQUEST_MAX = 90_000
# Bytes: a letter, and a number.
_ANSWER = 9
_TITLE = 4000


class Zygote:
    """The one of this process, started when it is first needed; it ends when we do."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-I", str(ZYGOTE), str(theirs.fileno())]
        argv += [os.environ.get(tracing.VARIABLE, ""), "-" * _TITLE]
        given: dict[str, Any] = {"env": {"LC_ALL": "C"}, "stdin": subprocess.DEVNULL}
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], **given)
        theirs.close()


_ZYGOTES: dict[int, Zygote] = {}
_LOCK = threading.Lock()


def zygote() -> Zygote:
    with _LOCK:
        if os.getpid() not in _ZYGOTES:
            _ZYGOTES[os.getpid()] = Zygote()
        return _ZYGOTES[os.getpid()]


def has_started(pid: int) -> bool:
    """Tell whether this is the parent of what this process has started."""
    known = _ZYGOTES.get(os.getpid())
    return pid == os.getpid() or (known is not None and pid == known.process.pid)


class Forked(subprocess.Popen[str]):
    """A Popen whose process is forked from the zygote.

    ``args``: the state directory, program and arguments; with an empty state directory the program is a simulated
    command. ``name``: of the machine, see processes(). ``speed`` and ``step``: see clock.py.
    """

    _status: int

    def __init__(self, args: Sequence[str], name: str, speed: float = 1.0, step: float = 0.0, **kwargs: Any) -> None:
        self._more = {"name": name, "speed": speed, "step": step}
        super().__init__(args, **kwargs)

    def _execute_child(self, args: Sequence[str], *rest: Any) -> None:
        _, _, _, _, cwd, environment, _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[:15]
        request = {
            "argv": [os.fspath(arg) for arg in args],
            "cwd": os.fspath(cwd),
            "environment": dict(environment),
            "session": bool(rest[20]),
            "umask": umask(),
            **self._more,
        }
        self._status, theirs = os.pipe()
        try:
            streams = [p2cread, c2pwrite, errwrite]
            socket.send_fds(zygote().connection, [marshal.dumps(request)], [*streams, theirs])
        finally:
            os.close(theirs)
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]
        self._child_created = True
        self.pid = int.from_bytes(os.read(self._status, _ANSWER)[1:], "big")

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """As waitpid(2), for a process that is the zygote's child."""
        os.set_blocking(self._status, not flags & os.WNOHANG)
        try:
            answer = os.read(self._status, _ANSWER)
        except BlockingIOError:
            return 0, 0
        os.close(self._status)
        return self.pid, int.from_bytes(answer[1:], "big")

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def completed(process: subprocess.Popen[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """As subprocess.run() ends."""
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def processes(name: str) -> list[int]:
    """All forked processes whose name begins like this (names.py), and those that they have forked, zombies aside.

    Where there is no /proc none is forked, and their arguments tell.
    """
    if not users.PROC:
        return [process.pid for process in psutil.process_iter(["cmdline"]) if _belongs(name, process.info["cmdline"])]
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = Path(f"/proc/{entry}/stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            comm, _, rest = status.partition("(")[2].rpartition(")")
            if comm.startswith(name) and rest.split()[0] != "Z":
                found.append(int(entry))
    return found


def _belongs(name: str, words: list[str] | None) -> bool:
    return any(machine_name(word) == name or process_name(word).startswith(name) for word in words or [])


def umask() -> int:
    """Return the umask of this process, read without changing it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
