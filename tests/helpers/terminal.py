"""A terminal that a program of the simulated machine writes to, and what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any, Self

# Seconds that a busy machine may need for what is waited for.
PATIENCE = 30.0


class Terminal:
    """``argv`` with a terminal of its own, in the foreground there, as its standard streams.

    ``lines`` is what can be read on the screen now, the last one with the cursor in it; ``shown`` are all texts that
    this one has had.
    """

    def __init__(self, argv: list[str], environment: dict[str, str], columns: int = 80, **streams: Any) -> None:
        self.columns = columns
        self.lines = [""]
        self.shown: list[str] = []
        self.widest = 0
        self._column = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        given: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, **streams}
        self.process = subprocess.Popen(
            argv,
            env=environment,
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (there are no threads)
            **given,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def until(self, seen: Callable[[Terminal], bool]) -> None:
        """Read until ``seen``, or until the program's end."""
        end = time.monotonic() + PATIENCE
        while not seen(self):
            assert time.monotonic() < end, (self.lines, self.shown[-3:])
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    data = os.read(self._master, 4096)
                except OSError:
                    # All that had it open have ended.
                    return
                self._show(data.decode())

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def end(self) -> int:
        """Read to the end, and return the exit status."""
        self.until(lambda _: False)
        return self.process.wait()

    def _show(self, text: str) -> None:
        for character in text:
            if character == "\r":
                self._note()
                self._column = 0
            elif character == "\n":
                self._note()
                self.lines.append("")
            else:
                row = self.lines[-1].ljust(self._column)
                self.lines[-1] = row[: self._column] + character + row[self._column + 1 :]
                self._column += 1
                self.widest = max(self.widest, self._column)
        self._note()

    def _note(self) -> None:
        text = self.lines[-1].rstrip()
        if text and (not self.shown or self.shown[-1] != text):
            self.shown.append(text)
