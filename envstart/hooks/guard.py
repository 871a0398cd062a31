"""Guard ``env_remove`` by a process beside it that ends CBSD if ``env_remove`` ends too early, be it by ``kill -9``.

CBSD's shell waits for no status: it would go on, and delete what is mounted. The process is in a session of its own, so
that nothing that is sent to the whole group of CBSD's processes ends it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from envstart.system import process, process_table
from envstart.system.host import Host
from envstart.system.signals import CONTINUE, HALT


class Guard:
    """Context manager that ends ``ancestors`` (process_table.cbsd_ancestors()) if its block ends too early.

    That is by an exception, or with this process. They are halted first, and go on if ``endangered()`` returns "".
    """

    def __init__(self, host: Host, ancestors: Sequence[tuple[int, float]], endangered: Callable[[], str]) -> None:
        """Guard nothing yet."""
        self._host, self._ancestors, self._endangered = host, ancestors, endangered
        self._pid = self._pipe = -1

    def __enter__(self) -> None:
        """Start the process, if there is anything to end."""
        if not self._ancestors:
            return
        try:
            read, self._pipe = os.pipe()
            self._pid = os.fork()
        except OSError as error:
            self._host.report.warn(f"cannot guard CBSD's removal: {error}; do not kill this process")
            return
        if self._pid == 0:
            try:
                # Without the pipe's other end, so that it is closed when the process beside this one is gone.
                process.become_child((None, 1, 2), (read,))
                if not os.read(read, 1):
                    self._act()
            finally:
                os._exit(0)
        os.close(read)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Let the process go, or act; wait until it has ended."""
        if self._pid <= 0:
            return
        if error is None:
            with contextlib.suppress(OSError):
                # It may have been killed.
                os.write(self._pipe, b".")
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _act(self) -> None:
        ancestors = [pid for pid, began in reversed(self._ancestors) if process_table.same_process(pid, began)]
        self._send(ancestors, HALT)
        try:
            danger = self._endangered()
        except Exception as error:
            danger = f"it cannot be told what is mounted: {error}"
        if not danger:
            self._send(ancestors, CONTINUE)
            return
        self._host.report.warn(
            f"env_remove was ended too early, and CBSD is too now (pid {', '.join(map(str, ancestors))}), so that it "
            f"deletes nothing: {danger}"
        )
        self._host.complete(process_table.end(ancestors, gently=False))

    def _send(self, pids: Sequence[int], number: int) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:
                continue
