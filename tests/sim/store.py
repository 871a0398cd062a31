"""The state of the simulated machine: one file, changed under a lock, replaced as a whole.

Readers need no lock, because the file is only ever renamed into place. It is in marshal's format, because to import
json takes a command as long as all else that it does; to read one: `marshal.load(open(PATH, "rb"))`.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .shapes import State

    T = TypeVar("T")

STATE, CALLS = "world.state", "calls"
POLL = 0.02
LONGEST_BLOCK = 900.0


class BlockedError(Exception):
    """A system call that does not return before the world changes. OPENING: the provider it is to open."""

    def __init__(self, host: str, opening: str = "") -> None:
        super().__init__(host)
        self.host = host
        self.opening = opening


def pack(value: Any) -> bytes:
    """Return the same bytes for the same value, which is made of dict, list, str, int, float, bool and None."""
    # Version 2 is the last that tells neither how often nor as what kind of string a value is referred to.
    return marshal.dumps(value, 2)


def unpack(data: bytes) -> Any:
    return marshal.loads(data)


class Store:
    def __init__(self, path: str) -> None:
        self.path = path
        self.file = f"{path}/{STATE}"
        self._signature = (0, 0, 0)
        self._cached: State | None = None

    def signature(self) -> tuple[int, int, int]:
        status = os.stat(self.file)
        return status.st_ino, status.st_mtime_ns, status.st_size

    def read(self) -> State:
        """Return the present state; the caller must not change it."""
        signature = self.signature()
        if self._cached is None or signature != self._signature:
            with open(self.file, "rb") as stream:
                self._cached = unpack(stream.read())
            self._signature = signature
        assert self._cached is not None
        return self._cached

    def write(self, state: State) -> None:
        self._replace(pack(state))

    def change(self, act: Callable[[State], T]) -> T:
        """Run ACT on the state, alone. What it did is kept unless it raises an error; blocking is no error."""
        with open(self.path + "/world.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with open(self.file, "rb") as stream:
                before = stream.read()
            state: State = unpack(before)
            try:
                result = act(state)
            except BlockedError:
                self._replace_changed(before, state)
                raise
            self._replace_changed(before, state)
            return result

    def _replace_changed(self, before: bytes, state: State) -> None:
        after = pack(state)
        if after != before:
            self._replace(after)

    def _replace(self, data: bytes) -> None:
        temporary = f"{self.file}.{os.getpid()}"
        with open(temporary, "wb") as stream:
            stream.write(data)
        os.replace(temporary, self.file)

    def wait_for_change(self, due: float = float("inf")) -> None:
        """Sleep until the world is another one than this process has read last, or until DUE.

        The world's end ends the waiting process too.
        """
        try:
            before = self._signature if self._cached is not None else self.signature()
            until = time.monotonic() + LONGEST_BLOCK
            while self.signature() == before and time.time() < due:
                if time.monotonic() > until:
                    os._exit(99)
                time.sleep(POLL)
            self.read()
        except FileNotFoundError:
            os._exit(99)

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than the world is there."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not os.path.exists(self.file):
                os._exit(99)
            time.sleep(max(0.0, min(0.2, until - time.monotonic())))

    def log_call(self, record: dict[str, object]) -> None:
        descriptor = os.open(f"{self.path}/{CALLS}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, pack(record))
        finally:
            os.close(descriptor)

    def logged_calls(self) -> list[dict[str, Any]]:
        """Return the calls logged so far, in the order in which they began."""
        calls = []
        with open(f"{self.path}/{CALLS}", "rb") as stream:
            while True:
                try:
                    calls.append(marshal.load(stream))
                except EOFError:
                    return calls
