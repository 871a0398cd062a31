"""Look at directories and files: the workdir, keys, system directories, and what of this host is mounted for others.

In children, because each of these can be on a dead server.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator

from envstart.backends import geli
from envstart.cbsd import links
from envstart.cli.doctor import finding
from envstart.cli.doctor.finding import CRITICAL, HOST, WARNING, Check, Checks, Context, Finding, Subject, of_several
from envstart.config import remedies, shell
from envstart.engine.plan import NOT_READY
from envstart.errors import EnvstartError, TemporaryError
from envstart.lifecycle import pkg_locking
from envstart.mounts.table import unvis
from envstart.paths import is_below
from envstart.steps import keyfile, sources
from envstart.steps.mount import Mount
from envstart.steps.required import MountedDirectory
from envstart.system import probe, process
from envstart.system.files import read_text
from envstart.system.host import Host

# Switches of CBSD that must be off where the data come from elsewhere (docs/cbsd.md#switches).
_FEATURES = ("zfsfeat", "hammerfeat")
# Seconds for one look.
_TIMEOUT = 3.0
# A clock may be that far behind another one's, in seconds.
_SKEW = 60


def checks(host: Host, context: Context) -> Checks:
    """Return the checks of files and directories."""
    secrets = {path: subject.name for subject in context.subjects for path in _secrets(subject)}
    if secrets:
        yield "key files", _check_secrets(host, context, secrets)
    if any(pkg_locking.needs_locking(subject.plan) for subject in context.subjects):
        yield pkg_locking.HOST_CONF, _pkg(host)
    for group in _groups(host, context).values():
        yield "system directories", _look_at(host, group)
    for subject in context.subjects:
        yield "what must be mounted", _required(host, subject)
        yield "what is mounted in sources", _unshown(host, subject)
    if users := finding.users(context, _used):
        yield sources.FSTAB, _unmounted(host, users)


# The workdir.


async def workdir(host: Host, path: str) -> dict[str, str] | None:
    """Return what CBSD's files at the top of a workdir say; None if it does not answer."""
    with contextlib.suppress(EnvstartError, OSError):
        look: dict[str, str] = await host.call_with_timeout(look_at_workdir, path, timeout=_TIMEOUT)
        return look
    return None


def look_at_workdir(path: str) -> dict[str, str]:
    """Return, in a child, the node's name, the name of CBSD's database, and the inventory; "" for what is missing."""
    try:
        database = os.path.basename(os.readlink(f"{path}/var/db/local.sqlite"))
    except OSError:
        database = ""
    return {
        "nodename": read_text(f"{path}/nodename").strip(),
        "database": database,
        "inventory": read_text(f"{path}/nc.inventory"),
    }


def of_workdir(top: str, look: dict[str, str], context: Context) -> Iterator[Finding]:
    """Yield what is wrong with that, if one of our backends is in use there."""
    backends = {subject.plan.backend for subject in context.subjects if subject.record.workdir == top}
    if not backends:
        return
    name, database = look["nodename"], look["database"]
    if not name:
        text = f"{top}/nodename is missing or empty: a lease cannot be told from another node's"
        expected = database.removeprefix("inv.").removesuffix(".sqlite")
        yield Finding(CRITICAL, HOST, text, f"echo {expected or 'NAME'} > {shlex.quote(top + '/nodename')}")
    elif database and database != f"inv.{name}.sqlite":
        text = f"{top}/nodename says {name}, but CBSD's database is {database}"
        yield Finding(WARNING, HOST, text, f"correct {top}/nodename, or where {top}/var/db/local.sqlite leads")
    values = {each.key: each.value for each in shell.read(look["inventory"]).assignments}
    for feature in _FEATURES:
        if backends != {"nullfs"} and values.get(feature, "0") not in ("", "0"):
            text = f"{feature} is on in {top}/nc.inventory: CBSD takes the data directories for file systems of its own"
            yield Finding(WARNING, HOST, text, f"cbsd initenv-tui: switch {feature} off")


# Secrets.


def _secrets(subject: Subject) -> Iterator[str]:
    """Return the files that only root may read."""
    config = subject.plan.config
    for key in config:
        if key.endswith(("_KEYFILE", "_PASSFILE", "_SECRET_FILE")) and config.value(key):
            value = config.value(key)
            yield from (value,) if isinstance(value, str) else value


async def _check_secrets(host: Host, context: Context, secrets: dict[str, str]) -> Check:
    paths = list(secrets)
    answers, _ = await host.map_with_timeout(lambda path: keyfile.refuse_untrusted([path]), paths, timeout=_TIMEOUT)
    for (path, name), (number, answer) in zip(secrets.items(), answers):
        error = process.raised(number, answer)
        if isinstance(error, EnvstartError):
            close = f"{shlex.join(('chown', 'root', path))} && {shlex.join(('chmod', '600', path))}"
            yield Finding(CRITICAL, name, error.message, error.hint or close)
        elif error is not None:
            yield Finding(CRITICAL, name, f"cannot use {answer}", "put it there, or correct the configuration")
    if len(answers) < len(paths):
        path = paths[len(answers)]
        text = f"{path} gives no answer; keys after it were not looked at"
        yield Finding(CRITICAL, secrets[path], text, context.see_check())


# pkg(8), and what is mounted.


async def _pkg(host: Host) -> Check:
    text = await host.call_with_timeout(read_text, pkg_locking.HOST_CONF, timeout=_TIMEOUT)
    if not pkg_locking.has_locking(text):
        yield _lacks_locking(HOST, pkg_locking.HOST_CONF)


def _lacks_locking(about: str, path: str) -> Finding:
    text = f"{path} does not say that locks work: pkg(8) will not trust its database on NFSv3 or GlusterFS"
    return Finding(WARNING, about, text, f"echo '{pkg_locking.LINE}' >> {shlex.quote(path)}")


def _groups(host: Host, context: Context) -> dict[str, list[tuple[Subject, tuple[str, str]]]]:
    """Return what can be looked at now, by server: one child each, so that a dead one costs no more."""
    groups: dict[str, list[tuple[Subject, tuple[str, str]]]] = {}
    for subject in context.subjects:
        item = _visible(host, subject)
        if item[0]:
            groups.setdefault(context.mounts.server(item[0]), []).append((subject, item))
    return groups


def _visible(host: Host, subject: Subject) -> tuple[str, str]:
    """Return the system directory, and the data directory if its pkg.conf matters; "" for what is not mounted."""
    environment, steps = subject.plan.environment, {step.name for step in subject.plan.steps}
    system = environment.system if "system" not in steps or _is_mounted(host, environment.system) else ""
    pkg = subject.record.is_jail and pkg_locking.needs_locking(subject.plan) and _is_mounted(host, environment.data)
    return system, environment.data if pkg else ""


def _is_mounted(host: Host, point: str) -> bool:
    try:
        return bool(host.complete(host.stack(point)))
    except TemporaryError:
        # Neither the table nor what it lies on says so, and each of them is told for itself.
        return False


async def _look_at(host: Host, group: list[tuple[Subject, tuple[str, str]]]) -> Check:
    answers, _ = await host.map_with_timeout(look_at_system, [item for _, item in group], timeout=_TIMEOUT)
    for (subject, (system, data)), (number, answer) in zip(group, answers):
        if number:
            remedy = finding.see_check([subject.record.workdir])
            yield Finding(WARNING, subject.name, f"cannot look at {system}: {answer}", remedy)
            continue
        lacking, ahead, conf = answer
        if lacking:
            text = f"{system} lacks {' and '.join(lacking)}: CBSD stops and removes it without unmounting first"
            remedy = remedies.known("install", [subject.name], [subject.record.workdir])
            yield Finding(WARNING, subject.name, text, remedy)
        if ahead > _SKEW:
            text = f"{system} was changed {ahead} s in the future: the clocks of this host and of the server differ"
            yield Finding(WARNING, subject.name, text, "let both have their time from one source; a lease needs it")
        if data and not pkg_locking.has_locking(conf):
            yield _lacks_locking(subject.name, f"{data}/{pkg_locking.CONF}")
    if len(answers) < len(group):
        rest = [subject for subject, _ in group[len(answers) :]]
        names = [subject.name for subject in rest]
        workdirs = list(dict.fromkeys(subject.record.workdir for subject in rest))
        text = f"the system directory of {names[0]} gives no answer; it and what is beside it was not looked at"
        yield of_several(CRITICAL, names, text, remedies.known("recover", names, workdirs))


def look_at_system(item: tuple[str, str]) -> tuple[list[str], int, str]:
    """Return, in a child, the links that are missing, the seconds that the last change is ahead, and the pkg.conf."""
    system, data = item
    lacking = [f"{directory}/{links.LINK}" for directory in links.missing(system)]
    times = [os.stat(system).st_mtime]
    with contextlib.suppress(FileNotFoundError):
        times.append(os.stat(f"{system}/locked").st_mtime)
    return lacking, int(max(times) - time.time()), read_text(f"{data}/{pkg_locking.CONF}", follow=False) if data else ""


# Directories and files of this host that are mounted for jails and VMs.


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
