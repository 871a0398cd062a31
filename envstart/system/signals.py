"""Signals as something to wait for: they never break into the code, they end what waits (loop.py)."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType

    from envstart.errors import SignalError
else:
    # The C half of the module. The other half wraps its numbers in enums, which takes 8 ms to import: as much as the
    # interpreter's own start.
    import _signal as signal

# What ^T sends on FreeBSD; elsewhere what dd(1) takes in its place.
_INFO = getattr(signal, "SIGINFO", signal.SIGUSR1)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# What has its default action in a child.
_DEFAULT_IN_CHILD = (*_ENDING, _INFO, signal.SIGCHLD, signal.SIGPIPE)
# What halts another process, and lets it go on.
HALT, CONTINUE = int(signal.SIGSTOP), int(signal.SIGCONT)


class Signals:
    """Armed with the first side effect: before it the default action of a signal is right.

    A process has one wakeup descriptor and one handler for each signal; of two hosts they belong to the one that was
    armed last, so that each arms before it waits.
    """

    _armed: Signals | None = None

    def __init__(self) -> None:
        """Take no signal before arm()."""
        self.deaf = False
        # Somebody wants to know how far we are.
        self.asked = False
        self._pipe: tuple[int, int] | None = None
        self._received: int | None = None

    def arm(self) -> None:
        """From here on a signal is noted, and wakes whoever polls ``wake()``."""
        if Signals._armed is self:
            return
        Signals._armed = self
        if self._pipe is None:
            self._pipe = posix.pipe()
            for descriptor in self._pipe:
                posix.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in _ENDING:
            # What nohup(1) or a shell's & has made ignored stays so; in a command a handler becomes the default action.
            is_ignored = signal.getsignal(number) in (signal.SIG_IGN, _pass_over)
            signal.signal(number, _pass_over if is_ignored else self._note)
        signal.signal(_INFO, self._ask)
        # An ignored SIGCHLD, which a caller can leave us, would take the children's exit statuses away.
        signal.signal(signal.SIGCHLD, _pass_over)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def wake(self) -> int | None:
        """Return a descriptor that is readable when a signal came in, a child's end among them."""
        return self._pipe[0] if self._pipe else None

    def interruption(self) -> SignalError | None:
        """Return what to raise because of a signal; None also while ``deaf``: a roll back is not interrupted."""
        if not self._received or self.deaf:
            return None
        from envstart.errors import SignalError

        return SignalError(self._received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing but wake whoever polls."""


def disarm() -> None:
    """All work is done: there is nothing to clean up, and a signal may end what follows."""
    for number in _ENDING:
        if getattr(signal.getsignal(number), "__func__", None) is Signals._note:
            signal.signal(number, signal.SIG_DFL)


def forget_in_child() -> None:
    """In a forked child: default actions, and no word into the parent's pipe."""
    signal.set_wakeup_fd(-1)
    for number in _DEFAULT_IN_CHILD:
        signal.signal(number, signal.SIG_DFL)
