"""Tell whether a mounted directory is usable, alike for a start, `envstart check`, `status`, `plan` and `recover`.

An NFSv4 server, for one, shows as mounted what it does not export (tests/transcripts/nfs.txt), and CBSD's own look at
the lease comes before the hook has mounted it (docs/cbsd.md#lease).
"""

from __future__ import annotations

import errno
import os

from envstart.config import common
from envstart.engine import plan
from envstart.engine.plan import Observation
from envstart.errors import (
    DeadlineExceededError,
    EnvstartError,
    NoResponseError,
    NotFoundError,
    PermissionDeniedError,
    TemporaryError,
    reason,
)
from envstart.steps.mount_spec import ConfiguredMount
from envstart.system import probe
from envstart.system.host import Host
from envstart.system.probe import ProbeResult

# CBSD's own rule for a lease (docs/cbsd.md#lease): cbsdd touches it every 5 minutes.
LEASE_SECONDS = 30 * 60
# What a server says that does not take root for root.
NOT_ROOT = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_READ_ONLY = os.strerror(errno.EROFS)
_LOCAL_ROOT = "may root use it? look at what it lies on"
_AS_ROOT = "let the server map root to root for this host (maproot, no_root_squash)"


async def check_health(
    mount: ConfiguredMount, host: Host, point: str, timeout: float | None = None
) -> EnvstartError | None:
    """Return None if it is usable (in ``timeout`` s), else the problem that a new mount can mend; raise any other."""
    seen = await inspect(mount, host, point, timeout)
    if seen.warning:
        host.report.warn(seen.warning)
    return seen.settle()


async def inspect(mount: ConfiguredMount, host: Host, point: str, timeout: float | None = None) -> Observation:
    """Ask the directory itself, unless this run has done that, or it cannot answer."""
    using = f"cannot use {point}: {mount.source}"
    if down := await mount.why_down(host):
        return Observation(plan.NO_ANSWER, down, NoResponseError(f"{using} is mounted there, but {down}"))
    if gone := await mount.why_lost(host):
        # It would answer all the same, out of memory.
        return Observation(plan.BROKEN, gone, TemporaryError(f"{using} is mounted there, but {gone}"))
    answer = host.looked.get(point)
    if answer is None:
        answer = await _ask(mount, host, point, timeout or mount.probe_timeout)
    return interpret(mount, host.platform, point, answer)


async def _ask(mount: ConfiguredMount, host: Host, point: str, timeout: float) -> ProbeResult:
    try:
        question = (point, tuple(mount.required), mount.lease(point))
        return ProbeResult(*await host.probe(probe.probe, *question, timeout=timeout))
    except NoResponseError as error:
        return ProbeResult(ProbeResult.HUNG, str(error))
    except DeadlineExceededError as error:
        raise DeadlineExceededError(
            f"cannot use {point}: {mount.source} is mounted there but gives {error}", hint="is the server up?"
        ) from None
    except OSError as error:
        return ProbeResult(ProbeResult.FAILED, reason(error))


def interpret(mount: ConfiguredMount, platform: str, point: str, answer: ProbeResult) -> Observation:
    """Tell what an answer means. Pure."""
    using, detail = f"cannot use {point}: {mount.source}", answer.detail
    word = answer.verdict
    if word == probe.UNREADABLE and not (mount.fstype == "nfs" and platform == "freebsd"):
        # FreeBSD's NFSv4 server lists nothing in what it does not export, and answers all the same; of all else that
        # cannot be listed something is broken.
        word = probe.BROKEN
    if word in (ProbeResult.HUNG, ProbeResult.FAILED, probe.BROKEN, probe.DENIED, probe.LACKING):
        return _failed(mount, using, word, detail)
    if word == probe.EMPTY and probe.may_be_empty(mount.fstype, detail, read_only="ro" in mount.options):
        if mount.required:
            return _failed(mount, using, probe.LACKING, mount.required[0])
        return Observation(plan.MOUNTED)
    if word in (probe.EMPTY, probe.UNREADABLE) and mount.config[common.EMPTY_DIR] != "ignore":
        return _bare(mount, using, word, detail)
    if answer.other is not None and answer.other[1] < LEASE_SECONDS and mount.config[common.LEASE] != "ignore":
        return _leased(mount, using, point, *answer.other)
    if answer.refusal:
        # A server that does not let root write is how it may be meant; a full disk never is (docs/faults.md, 117).
        word = plan.NOT_WRITABLE if answer.refusal in NOT_ROOT else plan.NOT_USABLE
        return Observation(word, f"it takes no file: {answer.refusal}")
    return Observation(plan.MOUNTED)


def _failed(mount: ConfiguredMount, using: str, word: str, detail: str) -> Observation:
    """Judge a directory that could not be looked into, or lacks what must be in it."""
    if word == ProbeResult.HUNG:
        silence = detail if detail.startswith("no answer") else f"no answer ({detail})"
        error = NoResponseError(f"{using} is mounted there but gives {silence}", hint="is the server up?")
        return Observation(plan.NO_ANSWER, detail, error)
    if word == probe.BROKEN:
        return Observation(plan.BROKEN, detail, TemporaryError(f"{using} is mounted there but broken: {detail}"))
    refusal = EnvstartError(f"{using}: {detail}")
    if word == probe.DENIED:
        refusal = PermissionDeniedError(f"{using}: {detail}", hint=_AS_ROOT if mount.fstype == "nfs" else _LOCAL_ROOT)
    elif word == probe.LACKING:
        refusal = NotFoundError(f"{using} has no {detail}, which {mount.requires()}", hint="is it the right directory?")
        detail = f"it has no {detail}"
    return Observation(plan.NOT_USABLE, detail, refusal=refusal)


def _bare(mount: ConfiguredMount, using: str, word: str, detail: str) -> Observation:
    """Judge a directory that is empty and takes no file, or that cannot be listed."""
    what = "is empty and takes no file" if word == probe.EMPTY else "cannot be listed"
    text, seen = f"{using} {what} ({detail})", f"it {what} ({detail})"
    # A server can show like that what it does not export, but tells nobody that its disk is full.
    unexported = mount.fstype == "nfs" and detail not in (*NOT_ROOT, *_FULL, _READ_ONLY, probe.IN_THE_WAY)
    if unexported:
        seen += ": is it exported?"
        text += ": an NFSv4 server shows what it does not export to this host like that"
    if mount.config[common.EMPTY_DIR] == "warn":
        return Observation(plan.DEGRADED, seen, warning=text)
    if unexported:
        # Who has it mounted sees nothing of what is exported later.
        problem = NotFoundError(text, hint="export it and start again, or set EMPTY_DIR=warn")
        return Observation(plan.NOT_USABLE, seen, problem)
    for details, kind, remedy in (
        (_FULL, TemporaryError, "make room there"),
        ((probe.IN_THE_WAY,), NotFoundError, "move that away"),
        ((_READ_ONLY,), PermissionDeniedError, "let it be written to, write ro in the mount options"),
        (NOT_ROOT, PermissionDeniedError, _AS_ROOT),
    ):
        if detail in details:
            text += ": the disk is full" if detail in _FULL else ""
            refusal = kind(text, hint=f"{remedy}, or set EMPTY_DIR=warn")
            return Observation(plan.NOT_USABLE, seen, refusal=refusal)
    return Observation(plan.BROKEN, seen, TemporaryError(text, hint="is it broken?"))


def _leased(mount: ConfiguredMount, using: str, point: str, node: str, age: int) -> Observation:
    """Judge a system directory that another node has said to use."""
    name, when = mount.environment.name, f"{age // 60} minutes ago"
    text = f"{using}: node {node} had {name} in use {when} ({point}/locked)"
    seen = f"node {node} had it in use {when}"
    if mount.config[common.LEASE] == "warn":
        return Observation(plan.DEGRADED, seen, warning=text)
    refusal = TemporaryError(text, hint=f"stop it there, or wait until that is {LEASE_SECONDS // 60} minutes old")
    return Observation(plan.LOST, seen, refusal=refusal)
