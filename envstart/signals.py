"""Signals as something to wait for: they never break into the code, they end what waits (tasks.py)."""

from __future__ import annotations

import os
import sys

from .errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_ENDING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")


class Signals:
    """Armed with the first side effect: before it the default action of a signal is right, and costs no import."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.deaf = False
        self._received: int | None = None

    def arm(self) -> None:
        """From here on a signal is noted, and wakes whoever polls ``wake()``."""
        if self.descriptors:
            return
        import signal

        self.descriptors = list(os.pipe())
        for descriptor in self.descriptors:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.descriptors[1], warn_on_full_buffer=False)
        for name in _ENDING:
            number = getattr(signal, name)
            # What nohup(1) or a shell's & has made ignored stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
        # An ignored SIGCHLD, which a caller can leave us, would take the children's exit statuses away.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def wake(self) -> int | None:
        """A descriptor that is readable when a signal came in, a child's end among them."""
        return self.descriptors[0] if self.descriptors else None

    def interruption(self) -> Interrupted | None:
        """What to raise because of a signal; None also while ``deaf``: a roll back is not interrupted."""
        return Interrupted(self._received) if self._received and not self.deaf else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number


def forget_in_child() -> None:
    """In a forked child: default actions, and no word into the parent's pipe."""
    signal = sys.modules.get("signal")
    if signal is not None:
        signal.set_wakeup_fd(-1)
        for name in (*_ENDING, "SIGCHLD"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
