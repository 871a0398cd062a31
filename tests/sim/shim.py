"""Makes the `os` functions of this process see the simulated file systems, and kill(2) spare what hangs in them."""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
import posix
import signal
import sys
import threading
import types

from . import mounted, vfs
from .errors import error
from .machine import Machine, killed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .shapes import State

    Function = Callable[..., Any]

FOLLOW, LINK, WRITE, REMOVE = "follow", "link", "write", "remove"
# What each function does with its path: LINK does not follow a link at the end, REMOVE refuses mount points.
FUNCTIONS = {
    "stat": FOLLOW,
    "lstat": LINK,
    "scandir": FOLLOW,
    "listdir": FOLLOW,
    "readlink": LINK,
    "access": FOLLOW,
    "statvfs": FOLLOW,
    "utime": WRITE,
    "chmod": WRITE,
    "chown": WRITE,
    "mkdir": WRITE,
    "rmdir": REMOVE,
    "unlink": REMOVE,
    "remove": REMOVE,
}
PAIRS = ("rename", "replace")
# Files that a FreeBSD has and the simulated one does not: those of the host of the tests, should it be one.
HOST_ONLY: tuple[str, ...] = ("/etc/rc.conf", "/etc/rc.d/", "/etc/jail.conf")
# What the package gets for posix. The real one is importlib's, too, which reads no simulated file.
POSIX: Any = types.ModuleType("posix")
vars(POSIX).update(vars(posix))
sys.modules["posix"] = POSIX
_LSTAT = os.lstat
# The files of the package, which every hook looks at: nothing simulated is mounted there.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/envstart/"
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Shim:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # Set while the shim itself works: what it calls must reach the system below.
        self.inside = threading.local()
        self.devices: dict[tuple[int, int], int] = {}

    def install(self) -> None:
        for name, how in FUNCTIONS.items():
            _replace(name, self._wrapped(getattr(os, name), how))
        for name in PAIRS:
            _replace(name, self._wrapped_pair(getattr(os, name)))
        _replace("symlink", self._wrapped_symlink(os.symlink))
        _replace("open", self._wrapped_os_open(os.open))
        _put("access", self._wrapped_access(os.access))
        _put("fstat", self._wrapped_fstat(os.fstat))
        opener = self._wrapped_open(builtins.open)
        builtins.open = opener
        io.open = opener
        _put("chdir", self._wrapped_chdir(os.chdir))
        _put("getcwd", self._wrapped_getcwd(os.getcwd))
        _put("kill", self._wrapped_kill(os.kill))
        _put("killpg", self._wrapped_killpg(os.killpg, os.kill))

    def place(self, path: Any, how: str) -> vfs.Place | None:
        """Where PATH leads, or None if no simulated file system can be meant."""
        self.machine.settle()
        if self.machine.store.read()["mounts"][-1]["base"] and not _in_dev(path):
            return None
        return self.machine.look(lambda state: self._resolve(state, path, how))

    def _resolve(self, state: State, path: Any, how: str) -> vfs.Place:
        text = os.fsdecode(path)
        place = vfs.resolve(state, text, self.machine.empty, follow=how in (FOLLOW, WRITE))
        if how in (WRITE, REMOVE):
            if how == REMOVE and place.is_root and not place.mount["base"]:
                raise error(errno.EBUSY, text)
            vfs.check_writable(state, place)
        return place

    def _through(self, function: Function, how: str, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Call FUNCTION on the real file behind PATH; its errors name PATH."""
        if getattr(self.inside, "active", False) or _is_direct(path, kwargs):
            return function(path, *args, **kwargs)
        self.inside.active = True
        try:
            wanted = LINK if how == FOLLOW and kwargs.get("follow_symlinks") is False else how
            if isinstance(path, str) and path.startswith(HOST_ONLY):
                raise error(errno.ENOENT, path)
            place = self.place(path, wanted)
            if place is None:
                return function(path, *args, **kwargs)
            if function.__name__ == "scandir" and place.mount["options"].get("nfsv") == "4":
                vfs.check_listed(place)
            real = os.fsencode(place.real) if isinstance(path, bytes) else place.real
            try:
                return self._with_device(function(real, *args, **kwargs), place)
            except OSError as problem:
                problem.filename = path
                raise
        finally:
            self.inside.active = False

    def _with_device(self, result: Any, place: vfs.Place) -> Any:
        """Every mount has a device number of its own: this is how ismount() tells."""
        if not isinstance(result, os.stat_result) or place.mount["base"]:
            return result
        device = int(place.mount["fsid"][:8], 16) << 8
        self.devices[(result.st_dev, result.st_ino)] = device
        return _on_device(result, device)

    def _wrapped_access(self, function: Function) -> Function:
        """Call the function, unless its path does not exist: nobody can use that, which is no error."""

        def call(path: Any, *args: Any, **kwargs: Any) -> bool:
            try:
                return bool(function(path, *args, **kwargs))
            except OSError:
                return False

        return call

    def _wrapped_fstat(self, function: Function) -> Function:
        """Note the number of the file below: by that its descriptor, which knows no path, is recognized."""

        def call(descriptor: int) -> os.stat_result:
            result: os.stat_result = function(descriptor)
            device = self.devices.get((result.st_dev, result.st_ino))
            return result if device is None else _on_device(result, device)

        return call

    def _wrapped(self, function: Function, how: str) -> Function:
        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            return self._through(function, how, path, *args, **kwargs)

        return call

    def _wrapped_pair(self, function: Function) -> Function:
        def call(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self.inside, "active", False):
                # The shim's own state is being replaced.
                return function(source, target, *args, **kwargs)

            def on_target(path: Any) -> Any:
                self.inside.active = False
                return self._through(lambda real: function(real_source, real), REMOVE, path)

            real_source = None

            def on_source(real: Any) -> Any:
                nonlocal real_source
                real_source = real
                return on_target(target)

            return self._through(on_source, REMOVE, source) if not kwargs else function(source, target, **kwargs)

        return call

    def _wrapped_symlink(self, function: Function) -> Function:
        def call(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            return self._through(lambda real: function(source, real, *args, **kwargs), REMOVE, target)

        return call

    def _wrapped_os_open(self, function: Function) -> Function:
        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
            if flags & os.O_NOFOLLOW:
                how = REMOVE if flags & WRITING_FLAGS else LINK
            else:
                how = WRITE if flags & WRITING_FLAGS else FOLLOW
            self._reach_device(path)
            if flags & os.O_CREAT:
                self._need_space(path)
            if not flags & os.O_DIRECTORY:
                self._reach_file(path)
            return self._through(function, how, path, flags, *args, **kwargs)

        return call

    def _wrapped_open(self, function: Function) -> Function:
        def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            how = WRITE if set(mode) & set("wax+") else FOLLOW
            if kwargs.get("opener") or args[5:]:
                # The opener calls os.open, which finds the way; pathlib of Python 3.9 gives it the path it knows.
                return function(file, mode, *args, **kwargs)
            self._reach_device(file)
            if how == WRITE:
                self._need_space(file)
            self._reach_file(file)
            return self._through(function, how, file, mode, *args, **kwargs)

        return call

    def _reach_device(self, path: Any) -> None:
        """Wait where the device is silent: a descriptor knows no device, so that the wait is here already."""
        if isinstance(path, int) or getattr(self.inside, "active", False) or not _in_dev(path):
            return
        name = os.fsdecode(path)[len("/dev/") :]
        self._look(lambda state: mounted.check_provider(state, name, writing=False, opening=True))

    def _need_space(self, path: Any) -> None:
        """Where the state directory of our hooks is full, nothing new is made in it."""
        if isinstance(path, int) or getattr(self.inside, "active", False):
            return
        name = os.fsdecode(path)
        if self.machine.store.read()["settings"]["full"] and name.startswith(f"{self.machine.path}/run/"):
            try:
                _LSTAT(name)
            except FileNotFoundError:
                raise error(errno.ENOSPC, name) from None

    def _reach_file(self, path: Any) -> None:
        """Ask the server of a file, which can be there and open no file."""
        if isinstance(path, int) or getattr(self.inside, "active", False):
            return
        self.inside.active = True
        try:
            place = self.place(path, LINK)
        finally:
            self.inside.active = False
        if place is not None:
            self._look(lambda state: vfs.check_open(state, place.mount))

    def _look(self, act: Callable[[State], Any]) -> Any:
        """machine.look() by somebody who is not inside yet: what it opens meanwhile must not be taken for simulated."""
        before = getattr(self.inside, "active", False)
        self.inside.active = True
        try:
            return self.machine.look(act)
        finally:
            self.inside.active = before

    def _wrapped_chdir(self, function: Function) -> Function:
        def call(path: Any) -> None:
            if _is_direct(path, {}):
                function(path)
                return
            place = self._look(lambda state: self._resolve(state, path, FOLLOW))
            function(place.real)
            vfs.WORKING_DIRECTORY[:] = [place.path]

        return call

    def _wrapped_getcwd(self, function: Function) -> Function:
        return lambda: vfs.WORKING_DIRECTORY[-1] if vfs.WORKING_DIRECTORY else function()

    def _wrapped_kill(self, function: Function) -> Function:
        def call(pid: int, number: int) -> None:
            if number == signal.SIGKILL:
                killed(self.machine.store, [pid], lambda: function(pid, number))
            else:
                function(pid, number)

        return call

    def _wrapped_killpg(self, function: Function, kill: Function) -> Function:
        def call(group: int, number: int) -> None:
            if number != signal.SIGKILL:
                function(group, number)
                return
            members = _members(group)
            if not killed(self.machine.store, members, lambda: function(group, number)):
                for pid in members:
                    kill(pid, number)

        return call


def _replace(name: str, function: Function) -> None:
    """Put FUNCTION into `os`, also where the module says what it can do by the identity of its functions."""
    # pathlib of Python 3.9 keeps them in a class, where a plain function would become a method.
    function = functools.partial(function)
    original = getattr(os, name)
    for abilities in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if original in abilities:
            abilities.add(function)
    _put(name, function)


def _put(name: str, function: Function) -> None:
    """In both: the short way of a start does without the half of `os` that is written in Python."""
    setattr(os, name, function)
    setattr(POSIX, name, function)


def _is_direct(path: Any, kwargs: dict[str, Any]) -> bool:
    """Descriptors, and paths relative to one, are real already."""
    relative = any(kwargs.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd"))
    return path is None or isinstance(path, int) or relative or (isinstance(path, str) and path.startswith(_PACKAGE))


def _in_dev(path: Any) -> bool:
    return os.fsdecode(path).startswith("/dev")


def _on_device(status: os.stat_result, device: int) -> os.stat_result:
    content: Any = status.__reduce__()[1]
    values, details = content
    return os.stat_result((*values[:2], device, *values[3:]), details)


def _members(group: int) -> list[int]:
    """Return the processes of a group; where psutil is not to be had, the first one."""
    try:
        import psutil
    except ImportError:
        return [group]
    found = []
    for pid in psutil.pids():
        try:
            if os.getpgid(pid) == group:
                found.append(pid)
        except OSError:
            continue
    return found or [group]


def install(path: str) -> Machine:
    machine = Machine(path)
    Shim(machine).install()
    sys.platform = "freebsd14"
    settings = machine.state()["settings"]
    uid, names = settings["uid"], ("FreeBSD", settings["hostname"], "14.0-STABLE", "FreeBSD 14.0-STABLE", "amd64")
    _put("uname", lambda: os.uname_result(names))
    _put("getuid", lambda: uid)
    _put("geteuid", lambda: uid)
    return machine
