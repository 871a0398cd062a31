"""Look at directories of this host that are mounted for jails and VMs: what of them is missing, or not shown."""

from __future__ import annotations

from collections.abc import Iterator

from envstart.backends import geli
from envstart.cli.doctor.finding import CRITICAL, WARNING, Check, Checks, Context, Finding, Subject, of_several
from envstart.engine.plan import NOT_READY
from envstart.mounts.table import unvis
from envstart.paths import is_below
from envstart.steps import sources
from envstart.steps.mount import Mount
from envstart.steps.required import MountedDirectory
from envstart.system import probe
from envstart.system.host import Host

_TIMEOUT = 3.0


def checks(host: Host, context: Context) -> Checks:
    """Return the checks of sources."""
    users: dict[str, list[str]] = {}
    for subject in context.subjects:
        for path in _used(subject):
            users.setdefault(path, []).append(subject.name)
        yield "what must be mounted", _required(host, subject)
        yield "what is mounted in sources", _unshown(host, subject)
    if users:
        yield sources.FSTAB, _unmounted(host, users)


def _used(subject: Subject) -> Iterator[str]:
    """Return the directories and files of this host that the files of a jail or VM come from."""
    if subject.plan.backend == "nullfs":
        yield from (step.source for step in subject.plan.steps if step.fstype == "nullfs")
    elif subject.plan.backend == "geli" and not subject.plan.config[geli.GELI_PROVIDER].startswith("/dev/"):
        yield subject.plan.config[geli.GELI_PROVIDER]


async def _required(host: Host, subject: Subject) -> Check:
    for step in subject.plan.steps:
        if isinstance(step, MountedDirectory) and (state := await step.observe(host)).status == NOT_READY:
            yield Finding(CRITICAL, subject.name, f"{step.source}: {state.detail}", f"mount {step.source}")


async def _unshown(host: Host, subject: Subject) -> Check:
    for step in subject.plan.steps:
        if isinstance(step, Mount) and step.fstype == "nullfs":
            stack = await host.stack(step.point)
            point = stack[-1].point if stack else step.point
            text = await sources.unshown(step, host, await host.mounts(), point, stack[-1] if stack else None)
            if text:
                remedy = "its directory is empty in there; mount it on its own, as by a line of THIN_FSTAB"
                yield Finding(WARNING, subject.name, f"{step.point}: {text}", remedy)


async def _unmounted(host: Host, users: dict[str, list[str]]) -> Check:
    """Find what fstab(5) lists and is not mounted, although files of jails and VMs lie in it."""
    points: list[str] = await host.call_with_timeout(fstab_points, sources.FSTAB, timeout=_TIMEOUT)
    for point in points:
        names = sorted({name for path, names in users.items() if is_below(path, point) for name in names})
        if names and not await host.stack(point):
            text = f"{point} is in {sources.FSTAB}, and is not mounted; directories of jails or VMs lie in it"
            remedy = f"mount {point}; NULLFS_REQUIRE_MOUNTED (images: GELI_REQUIRE_MOUNTED) lets a start refuse that"
            yield of_several(WARNING, names, text, remedy)


def fstab_points(path: str) -> list[str]:
    """Return, in a child, the directories that fstab(5) lists, but for the root; none without the file. OSError."""
    try:
        with open(probe.open_regular(path, follow=True), encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file if not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return []
    points = []
    for row in rows:
        try:
            points += [unvis(row[1]).rstrip("/")] if len(row) > 3 and row[1].startswith("/") else []
        except ValueError:
            # A mistake in a line that is nobody's here.
            continue
    return [point for point in points if point]
