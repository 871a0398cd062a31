"""A prepared interpreter from which processes of simulated machines are forked.

`python -I zygote.py DESCRIPTOR TRACE ROOM`: TRACE is of tracing.py, and ROOM a word as long as titles can be.

To start an interpreter and to import all takes most of the time of a hook, and of a simulated command. A process of
the zygote differs from one of process.py in that alone. It is one of its own: with its pid, its session, its
descriptors, its environment, its title, and an end by SIGKILL that is one. When it executes a simulated command, its
memory is put back to what it was before the hook, and the rest is as execve(2) leaves it.

A request comes over a socket, with the descriptors of the three standard streams and of a pipe; the pipe gets the pid,
and the status in the form of wait(2) when the process has ended. What else /proc tells of it is the zygote's own.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import marshal
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(os.path.dirname(HERE)), os.path.dirname(HERE)]

# What hooks import when they need it, and what simulated commands do.
import asyncio  # noqa: E402, F401
import fcntl  # noqa: E402, F401
import json  # noqa: E402, F401
import shlex  # noqa: E402, F401
import sqlite3  # noqa: E402, F401
import struct  # noqa: E402, F401
import syslog  # noqa: E402, F401
import traceback  # noqa: E402

import configobj  # noqa: E402, F401
import psutil  # noqa: E402, F401
import tenacity.asyncio  # noqa: E402, F401

# In process.py these come when it runs.
from sim import clock, commands, fakes, network, process, shim, tracing, vfs  # noqa: E402, F401
from sim.names import process_name  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

REQUEST_MAX = 100_000
KEPT: list[Any] = []
READLINK = os.readlink
PID, STATUS = b"p", b"s"
# Before the package is imported.
TRACING = tracing.begun(sys.argv[2])


def prepare() -> None:
    """Import everything, the package as on FreeBSD."""
    for module, _ in commands.COMMANDS.values():
        importlib.import_module(f"sim.{module}")
    platform, sys.platform = sys.platform, "freebsd14"
    import envstart

    for found in pkgutil.walk_packages(envstart.__path__, "envstart."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    sys.platform = platform


class Memory:
    """What a process of a simulated machine has replaced of Python's own, to be put back before a command runs."""

    names = (*shim.FUNCTIONS, *shim.PAIRS, "symlink", "open", "access", "fstat", "chdir", "getcwd", "kill", "killpg",
             "uname", "getuid", "geteuid")  # fmt: skip

    def __init__(self) -> None:
        self.functions = {name: vars(os)[name] for name in self.names}
        self.open = builtins.open
        self.platform = sys.platform
        self.finders = list(sys.meta_path)

    def restore(self) -> None:
        for module in (os, shim.POSIX):
            vars(module).update(self.functions)
        builtins.open = io.open = self.open
        sys.platform = self.platform
        sys.meta_path[:] = self.finders
        del vfs.WORKING_DIRECTORY[:]
        clock.restore()


def be_called(name: str, words: Sequence[str]) -> None:
    """So that all processes of a machine can be found, whatever they do: what /proc and ps(1) call this one."""
    with open("/proc/self/comm", "w", encoding="ascii") as stream:
        stream.write(name)
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as stream:
        start, end = (int(number) for number in stream.read().rpartition(") ")[2].split()[45:47])
    # As setproctitle(3) does it: what does not end with a zero byte is one text, up to the first (Linux).
    room = end - start
    ctypes.memset(start, ord(" "), room)
    title = os.fsencode(" ".join(words))[: room - 2]
    ctypes.memmove(start, title + b"\0", len(title) + 1)


def is_simulated(path: str) -> bool:
    """Whether it is one of World's links, and not what a test has put in the place of one."""
    try:
        return os.path.basename(READLINK(path)) == commands.PROGRAM
    except OSError:
        return False


class Execution:
    """execve(2) for this process: a simulated command is played by the interpreter that is there."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.execve = os.execve
        self.fork_exec: Callable[..., int] = vars(subprocess)["_fork_exec"]

    def install(self) -> None:
        os.execve = shim.POSIX.execve = self.run  # type: ignore[assignment]
        os.execv = self.run_here  # type: ignore[assignment]
        vars(subprocess)["_fork_exec"] = self.spawn

    def spawn(self, argv: Sequence[str], paths: Sequence[bytes], *given: Any) -> int:
        """Do what subprocess.Popen has done in C: the order of what it gives is that of its own call."""
        path = os.fsdecode(paths[0])
        if not is_simulated(path):
            return self.fork_exec(argv, paths, *given)
        pid = os.fork()
        if pid == 0:
            _, kept, cwd, environment, stdin, _, _, stdout, _, stderr, _, pipe, _, session, *_ = given
            for number, descriptor in enumerate((stdin, stdout, stderr)):
                if descriptor >= 0:
                    os.dup2(descriptor, number)
            for descriptor in kept:
                os.set_inheritable(descriptor, descriptor != pipe)
            os.chdir(cwd or ".")
            if session:
                os.setsid()
            pairs = (os.fsdecode(pair).partition("=") for pair in environment or ())
            self.run(path, argv, {name: value for name, _, value in pairs} or dict(os.environ))
        return pid

    def run_here(self, path: str, argv: Sequence[str]) -> None:
        self.run(path, argv, dict(os.environ))

    def run(self, path: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        if not is_simulated(path):
            self.execve(path, list(argv), environment)
        if TRACING:
            TRACING.stop()
        self.memory.restore()
        for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
            try:
                if not os.get_inheritable(descriptor):
                    os.close(descriptor)
            except OSError:
                # The one that the list was read by.
                continue
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.environ.clear()
        os.environ.update(environment)
        be_called(process_name(path), [path, *argv[1:]])
        sys.argv = [path, *argv[1:]]
        end_with(commands.main)


def end_with(body: Callable[[], int]) -> None:
    """End this process with the status that the interpreter would give it."""
    # The old one may hold what is not written yet, and is another process's.
    KEPT.append(sys.stdout)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    status = 1
    try:
        status = body()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def become(request: dict[str, Any], streams: Sequence[int], execution: Execution) -> None:
    """In a forked child: the process that was asked for."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 4096)
    gc.disable()
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    be_called(request["name"], request["argv"])
    os.environ.clear()
    os.environ.update(request["environment"])
    path, program, *args = request["argv"]
    execution.install()
    if not path:
        execution.run(program, [program, *args], request["environment"])
    clock.install(request["speed"], request["step"])
    sys.argv = [program, *args]
    end_with(lambda: process.main(path, program, args))


def serve(connection: socket.socket) -> None:
    """Answer requests until nobody is left who could send one."""
    memory = Memory()
    execution = Execution(memory)
    wake, woken = os.pipe()
    for descriptor in (wake, woken):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # These are for the tests, and for what they started; it ends with them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([connection.fileno(), wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            reap(told)
        if connection.fileno() in readable:
            data, descriptors, _, _ = socket.recv_fds(connection, REQUEST_MAX, 4)
            if not data:
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                become(marshal.loads(data), descriptors[:3], execution)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            told[pid] = descriptors[3]
            tell(descriptors[3], PID, pid)


def reap(told: dict[int, int]) -> None:
    while told:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        descriptor = told.pop(pid)
        tell(descriptor, STATUS, status)
        os.close(descriptor)
        if TRACING:
            TRACING.learn()


def tell(descriptor: int, kind: bytes, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        # Who wanted to know may be gone.
        os.write(descriptor, kind + number.to_bytes(8, "big"))


if __name__ == "__main__":
    prepare()
    if TRACING:
        TRACING.tell()
        TRACING.learn()
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
