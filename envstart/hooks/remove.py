"""Run ``env_remove``: unmount before CBSD deletes what is in the directories, and do not return before that is so.

CBSD runs it from remove.d, waits for it without a time limit, ignores its status, and then deletes what the directories
show (docs/cbsd.md#wipes). So it goes on trying as long as anything is mounted there, and who interrupts it ends CBSD's
own process first: its shell would go on with the deletion otherwise. Who kills it has guard.py do that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from envstart import lifecycle
from envstart.cbsd.inventory import EnvironmentRecord
from envstart.engine import record
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.errors import (
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    SignalError,
    UnavailableError,
    reason,
)
from envstart.hooks import poststop
from envstart.hooks.guard import Guard
from envstart.lifecycle import stopping
from envstart.mounts.table import Entry
from envstart.paths import is_below
from envstart.system import process, process_table
from envstart.system.host import Host
from envstart.system.log import Report
from envstart.system.loop import WaitUntil
from envstart.system.scheduler import Deadline

_TERM = 15
# CBSD's command that stops a VM; VirtualBox's is no program of sudoexec/.
_STOPS = {"bhyve": "bstop", "qemu": "qstop", "xen": "xstop", "virtualbox": "vstop"}
# Seconds between two lines that say what is waited for.
_SAYS = 10.0
# Seconds between two attempts: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# Seconds that a look at the mount table may take, and that CBSD's own stop may take.
_LOOK, _STOPPING = 60.0, 300.0
# Seconds after which a table without our mounts is believed although an attempt has failed: FreeBSD leaves out a mount
# while it is being unmounted (getfsstat(2) with MNT_NOWAIT), and lists it again if that fails.
_SETTLES = 2.0
# Seconds that an attempt gets to take back what it has done, and that a search for umount(8) may take.
_FAREWELL, _SEARCH = 30.0, 5.0


def main(report: Report) -> int:
    """Unmount, by force if need be, and return when nothing is mounted on or below the directories."""
    subject = poststop.named_by_cbsd()
    report.about(subject.name, report.facility or "none")
    host = Host(report)
    host.signals.arm()
    removal = _Removal(host, subject)
    with Guard(Host(report), removal.ancestors, removal.danger):
        return removal.run()


class _Removal:
    def __init__(self, host: Host, subject: Environment) -> None:
        self._host = host
        self._subject = subject
        self.ancestors = _callers(host)
        self._began = self._said = time.monotonic()
        self._attempt: process.Child | None = None
        # Where anything of it was seen mounted.
        self._seen: set[str] = set()

    def run(self) -> int:
        try:
            self._renew()
            try:
                if poststop.look_up(self._host, self._subject) is None:
                    return os.EX_OK
            except EnvstartError as error:
                self._host.report.warn(str(error))
            return self._until_unmounted(_directories(self._host, self._subject))
        except SignalError as error:
            self._host.signals.deaf = True
            return self._interrupted(error)

    def danger(self) -> str:
        """Return what CBSD would delete, "" for nothing: asked by the guard, when this process is gone."""
        # That of the other process waits for its signals.
        self._host = Host(self._host.report)
        self._renew()
        left = self._still(_directories(self._host, self._subject))
        return "the mount table cannot be read" if left is None else _told(left) if left else ""

    def _until_unmounted(self, places: list[str]) -> int:
        pause = _FIRST_PAUSE
        while True:
            status = self._try(places)
            left = self._still(places)
            if left is not None and not left and (status == os.EX_OK or self._stays_unmounted(places)):
                return status or os.EX_OK
            self._pause(pause, places)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _try(self, places: list[str]) -> int | None:
        """Make an attempt in a child, so that whatever becomes of it, we are still there; return its status."""
        report, subject = self._host.report, self._subject
        try:
            pid = os.fork()
        except OSError as error:
            report.warn(f"cannot try to unmount: {reason(error)}; see limits(1)")
            return None
        if pid == 0:
            process.become_child((None, 1, 2), ())
            os._exit(lifecycle.guarded(report, lambda: _attempt(report, subject)))
        self._attempt = child = process.Child(pid, "an attempt to unmount")
        while not child.ended():
            self._wait(_SAYS, child.ended)
            self._say(places)
        return child.status

    def _pause(self, seconds: float, places: list[str]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._wait(min(until - time.monotonic(), _SAYS))
            self._say(places)

    def _say(self, places: list[str]) -> None:
        now = time.monotonic()
        if now - self._said < _SAYS:
            return
        self._said = now
        left = self._still(places)
        if left == []:
            return
        what = "the mount table, which cannot be read" if left is None else _told(left)
        self._host.report.warn(
            f"waiting for {now - self._began:.0f} s before CBSD deletes {self._subject.name}: {what}; unmount it, or "
            f"give the removal up, and nothing is deleted: kill {os.getpid()}"
        )

    def _still(self, places: list[str]) -> list[Entry] | None:
        """Return what is mounted on or below the directories, the newest last; None if that cannot be told."""
        self._renew()
        try:
            table = self._host.complete(self._host.mounts())
        except SignalError:
            raise
        except EnvstartError as error:
            self._host.report.trace(str(error))
            return None
        left = [entry for entry in table if _blocks(entry, places, self._subject.name)]
        self._seen.update(entry.point for entry in left)
        return left

    def _stays_unmounted(self, places: list[str]) -> bool:
        """Tell whether nothing is mounted a moment later either, and no umount(8) is at work."""
        self._wait(_SETTLES)
        self._renew()
        try:
            for point in self._seen:
                if self._host.complete(
                    self._host.call_with_timeout(process_table.find_by_argv, ("umount",), point, timeout=_SEARCH)
                ):
                    return False
        except (NoResponseError, DeadlineExceededError):
            return False
        return self._still(places) == []

    def _renew(self) -> None:
        self._host.deadline = Deadline(timeout=_LOOK)
        self._host.invalidate()

    def _wait(self, seconds: float, ended: Callable[[], bool] | None = None) -> None:
        self._renew()
        self._host.complete(_waited(seconds, ended))

    def _interrupted(self, error: SignalError) -> int:
        """End CBSD, from its outermost process inwards, so that none of its shells goes on; then the attempt."""
        report = self._host.report
        for pid, began in reversed(self.ancestors):
            while process_table.same_process(pid, began):
                self._renew()
                self._host.complete(process_table.end([pid]))
        if self._attempt is not None and not self._attempt.ended():
            self._attempt.kill(_TERM)
            self._wait(_FAREWELL, self._attempt.ended)
        ended = ", ".join(f"pid {pid}" for pid, _ in reversed(self.ancestors))
        report.warn(
            f"interrupted: CBSD was ended first ({ended}), so that it deletes nothing of {self._subject.name}"
            if ended
            else "interrupted: no process of CBSD's has called this; make sure that none goes on to delete"
        )
        return error.status


async def _waited(seconds: float, ended: Callable[[], bool] | None) -> None:
    await WaitUntil(time.monotonic() + seconds, ended)


def _callers(host: Host) -> list[tuple[int, float]]:
    try:
        return process_table.cbsd_ancestors("/sudoexec/")
    except UnavailableError as error:
        host.report.warn(f"{error}; an interruption of this does not end CBSD")
        return []


def _directories(host: Host, subject: Environment) -> list[str]:
    """Return the directories in which CBSD deletes, as the mount table names them."""
    real = []
    for name in (*subject.directories, f"{subject.workdir}/jails-data/{subject.name}-data"):
        try:
            real.append(host.complete(host.real(name)))
        except SignalError:
            raise
        except (EnvstartError, OSError):
            real.append(name)
    return list(dict.fromkeys(real))


def _blocks(entry: Entry, places: list[str], name: str) -> bool:
    """Tell whether a mount must be unmounted before CBSD may delete.

    A dataset that CBSD has made for the jail or VM it destroys as such (remove_data_dir() of CBSD's subr/jfs.subr).
    """
    own_dataset = entry.fstype == "zfs" and entry.point in places and entry.source.rpartition("/")[2] == name
    return not own_dataset and any(is_below(entry.point, place) for place in places)


def _told(left: list[Entry]) -> str:
    newest = left[:-4:-1]
    shown = "; ".join(f"{entry} is mounted on {entry.point}" for entry in newest)
    more = f", and {len(left) - 3} more" if left[3:] else ""
    return f"{shown}{more} (umount {' '.join(entry.point for entry in newest)})"


# One attempt, in a child.


def _attempt(report: Report, subject: Environment) -> int:
    host = Host(report)
    host.deadline.set(2 * _STOPPING)
    record: EnvironmentRecord | None = None
    try:
        record = poststop.look_up(host, subject)
    except EnvstartError as error:
        report.trace(str(error))
    if record is not None and record.running:
        _stop_by_cbsd(host, record)
    if record is not None and record.environment is not None:
        subject = record.environment
    plan = _plan(host, record.backend if record is not None else "", subject)
    failure: EnvstartError | None = None
    try:
        lifecycle.act("stop", plan, Host(report))
    except SignalError:
        raise
    except EnvstartError as error:
        failure = error
    # What the configuration of today does not name can be left of an earlier one.
    host.invalidate()
    by_table = stopping.by_table(host, plan.backend, subject, force=True)
    if by_table.steps:
        if failure is not None:
            report.warn(str(failure))
        report.warn("trying by the mount table alone")
        lifecycle.act("stop", by_table, Host(report))
    elif failure is not None:
        raise failure
    return os.EX_OK


def _plan(host: Host, backend: str, subject: Environment) -> Plan:
    if not backend:
        recorded = record.load(subject, host.report)
        backend = recorded.backend if recorded is not None else ""
    if backend:
        try:
            return stopping.plan(host, backend, subject, force=True)
        except SignalError:
            raise
        except EnvstartError as error:
            host.report.trace(str(error))
    return stopping.by_table(host, backend, subject, force=True)


def _stop_by_cbsd(host: Host, record: EnvironmentRecord) -> None:
    """Let CBSD stop it, as it does next anyway: only then the directories can be unmounted."""
    verb = "jstop" if record.is_jail else _STOPS.get(record.emulator, "bstop")
    variables = (f"workdir={record.workdir}", "NOINTER=1")
    argv = ("env", *variables, "cbsd", verb, "inter=0", f"jname={record.name}")
    result = host.complete(host.run(argv, timeout=_STOPPING))
    if result.status != 0:
        host.report.warn(f"cbsd {verb} {record.name}: {result.words}")
