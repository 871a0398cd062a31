"""What lies in directories: the workdir, hooks, secrets, and the system directories of environments that are mounted.

All of it is looked at in children: each of these directories can be on a dead server.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from envstart.cbsd import links
from envstart.cli.doctor.finding import CRITICAL, HOST, WARNING, Finding, guarded, of_several, see_check, several
from envstart.config import remedies, shell
from envstart.errors import EnvstartError, TemporaryError
from envstart.lifecycle import pkg_locking
from envstart.steps import keyfile
from envstart.system import probe, process

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from typing import Any

    from envstart.cbsd.inventory import EnvironmentRecord
    from envstart.cli.doctor.finding import Context, Subject
    from envstart.system.host import Host

# Switches of CBSD that must be off where the data come from elsewhere (docs/cbsd.md#switches).
_FEATURES = ("zfsfeat", "hammerfeat")
_LIBRARIES = ("configobj", "psutil", "sqlite3", "tenacity")
_IMPORT = f"""
for name in {_LIBRARIES!r}:
    try:
        __import__(name)
    except ImportError:
        print(name)
"""
# Seconds for one look, and for a Python to import them.
_PATIENCE = 3.0
_IMPORTING = 8.0
# A clock may be that far behind another one's, in seconds.
_SKEW = 60
_SIZE_MAX = 1 << 20


def checks(host: Host, scene: Context) -> Iterator[Coroutine[Any, Any, list[Finding]]]:
    """All of them, not yet begun."""
    hooks: dict[str, list[EnvironmentRecord]] = {}
    complete = {inventory.workdir: inventory.complete for inventory in scene.inventories}
    for case in scene.cases:
        # Without CBSD's database it was guessed, and has no path.
        if complete[case.record.workdir]:
            hooks.setdefault(case.record.hook, []).append(case.record)
    for path, users in hooks.items():
        yield guarded(scene, _hook(host, path, users), path)
    secrets = {path: case.name for case in scene.cases for path in _secrets(case)}
    if secrets:
        yield guarded(scene, _check_secrets(host, scene, secrets), "key files")
    if any(pkg_locking.needs_locking(case.plan) for case in scene.cases):
        yield guarded(scene, _pkg(host), pkg_locking.HOST_CONF)
    for group in _groups(host, scene).values():
        yield guarded(scene, _look_at(host, group), "system directories")


# The workdir.


async def workdir(host: Host, path: str) -> dict[str, str] | None:
    """What CBSD's files at the top of a workdir say; None if it does not answer."""
    try:
        look: dict[str, str] = await host.call_with_timeout(look_at_workdir, path, timeout=_PATIENCE)
    except (EnvstartError, OSError):
        return None
    return look


def look_at_workdir(path: str) -> dict[str, str]:
    """In a child: the node's name, the name of CBSD's database, and the inventory; "" for what is not there."""
    try:
        database = os.path.basename(os.readlink(f"{path}/var/db/local.sqlite"))
    except OSError:
        database = ""
    return {
        "nodename": _text(f"{path}/nodename").strip(),
        "database": database,
        "inventory": _text(f"{path}/nc.inventory"),
    }


def of_workdir(top: str, look: dict[str, str], scene: Context) -> list[Finding]:
    """What is wrong with that, if one of our backends is in use there."""
    backends = {case.plan.backend for case in scene.cases if case.record.workdir == top}
    if not backends:
        return []
    findings = []
    name, database = look["nodename"], look["database"]
    if not name:
        text = f"{top}/nodename is missing or empty: a lease cannot be told from another node's"
        expected = database.removeprefix("inv.").removesuffix(".sqlite")
        findings.append(Finding(CRITICAL, HOST, text, f"echo {expected or 'NAME'} > {shlex.quote(top + '/nodename')}"))
    elif database and database != f"inv.{name}.sqlite":
        text = f"{top}/nodename says {name}, but CBSD's database is {database}"
        findings.append(
            Finding(WARNING, HOST, text, f"correct {top}/nodename, or where {top}/var/db/local.sqlite leads")
        )
    values = {one.key: one.value for one in shell.read(look["inventory"]).assignments}
    for feature in _FEATURES:
        if backends != {"nullfs"} and values.get(feature, "0") not in ("", "0"):
            text = f"{feature} is on in {top}/nc.inventory: CBSD takes the data directories for file systems of its own"
            findings.append(Finding(WARNING, HOST, text, f"cbsd initenv-tui: switch {feature} off"))
    return findings


# Hooks.


async def _hook(host: Host, path: str, records: list[EnvironmentRecord]) -> list[Finding]:
    wrong = python = ""
    users = [record.name for record in records]
    if any(character.isspace() for character in path):
        wrong = "has a blank in its path, and CBSD runs it without quotes"
    elif not path.startswith("/"):
        wrong = "has no absolute path, and CBSD runs it in /var/empty"
    else:
        wrong, python = await host.call_with_timeout(look_at_hook, path, timeout=_PATIENCE)
    if wrong:
        remedy = "; ".join(remedies.set_hook(record.name, record.backend, is_jail=record.is_jail) for record in records)
        return [of_several(CRITICAL, users, f"the hook {path} {wrong}", remedy)]
    if not python:
        text = f"the hook {path} finds no Python"
        return [of_several(CRITICAL, users, text, _install(host, path, "", ["python3"]))]
    result = await host.run((python, "-I", "-c", _IMPORT), timeout=_IMPORTING, read_only=True)
    lacking = result.out.split() if result.status == 0 else [result.words]
    if lacking:
        text = f"the hook {path} runs with {python}, which lacks {several(lacking)}"
        return [of_several(WARNING, users, text, _install(host, path, python, lacking))]
    return []


def _install(host: Host, hook: str, python: str, names: Sequence[str]) -> str:
    """Return how to install ``python``, or libraries for it, for the hook: in a checkout by its Makefile."""
    top = os.path.dirname(os.path.dirname(os.path.realpath(hook)))
    if os.path.exists(f"{top}/Makefile"):
        return shlex.join(("make", "-C", top, "env"))
    if host.platform != "freebsd":
        return shlex.join((python, "-m", "pip", "install", *names)) if python else f"install {' '.join(names)}"
    number = os.path.basename(os.path.realpath(python)).replace("python", "").replace(".", "") if python else ""
    return shlex.join(("pkg", "install", *(f"py{number}-{name}" if number else name for name in names)))


def look_at_hook(path: str) -> tuple[str, str]:
    """In a child: (what is wrong, ""), or ("", the Python that will run it, "" if there is none)."""
    if not os.path.exists(path):
        return "is not there", ""
    if not (os.path.isfile(path) and os.access(path, os.R_OK | os.X_OK)):
        return "cannot be executed", ""
    directory = os.path.dirname(os.path.realpath(path))
    top = os.path.dirname(directory)
    candidates = pythons(top) if os.path.isdir(f"{top}/envstart") else [python_of_pip(directory)]
    return "", next((each for each in candidates if os.access(each, os.X_OK)), "")


def pythons(top: str) -> list[str]:
    """Where hooks/run-hook looks for a Python, in its order; ``top`` is the directory that ``hooks`` is in."""
    # `make install PYTHON=...` has written another one there.
    lines = _text(f"{top}/hooks/run-hook").splitlines()
    first = next((line[len("own=") :] for line in lines if line.startswith("own=")), "")
    own = [first.replace("$root", top)] if first else []
    own += ["/usr/local/bin/python3", "/usr/bin/python3"]
    return own + [f"/usr/local/bin/python3.{minor}" for minor in range(14, 10, -1)]


def python_of_pip(directory: str) -> str:
    """Where a hook that pip has put into this directory looks for its Python."""
    first = _text(f"{directory}/envstart").partition("\n")[0]
    return first[2:] if first.startswith("#!") and "python" in first else f"{directory}/python3"


# Secrets.


def _secrets(case: Subject) -> Iterator[str]:
    """Files that only root may read."""
    config = case.plan.config
    for key in config:
        if key.endswith(("_KEYFILE", "_PASSFILE", "_SECRET_FILE")) and config[key]:
            value = config[key]
            yield from (value,) if isinstance(value, str) else value


def _close(path: str) -> str:
    return f"{shlex.join(('chown', 'root', path))} && {shlex.join(('chmod', '600', path))}"


async def _check_secrets(host: Host, scene: Context, secrets: dict[str, str]) -> list[Finding]:
    findings = []
    answers, _ = await host.map_with_timeout(
        lambda path: keyfile.refuse_untrusted([path]), list(secrets), timeout=_PATIENCE
    )
    for (path, name), (number, answer) in zip(secrets.items(), answers):
        error = process.raised(number, answer)
        if isinstance(error, EnvstartError):
            findings.append(Finding(CRITICAL, name, error.message, error.hint or _close(path)))
        elif error is not None:
            remedy = "put it there, or correct the configuration"
            findings.append(Finding(CRITICAL, name, f"cannot use {answer}", remedy))
    if len(answers) < len(secrets):
        path, name = list(secrets.items())[len(answers)]
        text = f"{path} gives no answer; keys after it were not looked at"
        findings.append(Finding(CRITICAL, name, text, scene.see_check()))
    return findings


# pkg(8), and what is mounted.


async def _pkg(host: Host) -> list[Finding]:
    text = await host.call_with_timeout(_text, pkg_locking.HOST_CONF, timeout=_PATIENCE)
    return [] if pkg_locking.has_locking(text) else [_lacks_locking(HOST, pkg_locking.HOST_CONF)]


def _lacks_locking(about: str, path: str) -> Finding:
    text = f"{path} does not say that locks work: pkg(8) will not trust its database on NFSv3 or GlusterFS"
    return Finding(WARNING, about, text, f"echo '{pkg_locking.LINE}' >> {shlex.quote(path)}")


def _groups(host: Host, scene: Context) -> dict[str, list[tuple[Subject, tuple[str, str]]]]:
    """What can be looked at now, by the server that it is on: one child each, so that a dead one costs no more."""
    groups: dict[str, list[tuple[Subject, tuple[str, str]]]] = {}
    for case in scene.cases:
        item = _visible(host, case)
        if item[0]:
            groups.setdefault(scene.mounts.server(item[0]), []).append((case, item))
    return groups


def _visible(host: Host, case: Subject) -> tuple[str, str]:
    """(system directory, data directory whose pkg.conf matters); "" for what is not mounted, and so cannot be seen."""
    environment, steps = case.plan.environment, {step.name for step in case.plan.steps}
    system = environment.system if "system" not in steps or _is_mounted(host, environment.system) else ""
    pkg = case.record.is_jail and pkg_locking.needs_locking(case.plan) and _is_mounted(host, environment.data)
    return system, environment.data if pkg else ""


def _is_mounted(host: Host, point: str) -> bool:
    try:
        return bool(host.complete(host.stack(point)))
    except TemporaryError:
        # Neither the table nor what it lies on says so, and each of them is told for itself.
        return False


async def _look_at(host: Host, group: list[tuple[Subject, tuple[str, str]]]) -> list[Finding]:
    findings = []
    answers, _ = await host.map_with_timeout(look_at_system, [item for _, item in group], timeout=_PATIENCE)
    for (case, (system, data)), (number, answer) in zip(group, answers):
        if number:
            text = f"cannot look at {system}: {answer}"
            findings.append(Finding(WARNING, case.name, text, see_check([case.record.workdir])))
            continue
        lacking, ahead, conf = answer
        if lacking:
            text = f"{system} lacks {' and '.join(lacking)}: CBSD stops and removes it without unmounting first"
            findings.append(
                Finding(WARNING, case.name, text, remedies.known("install", [case.name], [case.record.workdir]))
            )
        if ahead > _SKEW:
            text = f"{system} was changed {ahead} s in the future: the clocks of this host and of the server differ"
            findings.append(
                Finding(WARNING, case.name, text, "let both have their time from one source; a lease needs it")
            )
        if data and not pkg_locking.has_locking(conf):
            findings.append(_lacks_locking(case.name, f"{data}/{pkg_locking.CONF}"))
    if len(answers) < len(group):
        rest = [case for case, _ in group[len(answers) :]]
        names, workdirs = [case.name for case in rest], list(dict.fromkeys(case.record.workdir for case in rest))
        text = f"the system directory of {names[0]} gives no answer; it and what is beside it was not looked at"
        findings.append(of_several(CRITICAL, names, text, remedies.known("recover", names, workdirs)))
    return findings


def look_at_system(item: tuple[str, str]) -> tuple[list[str], int, str]:
    """In a child, of (system directory, data directory or ""): links of ours that are not there or lead nowhere, the
    seconds that its last change lies in the future, and the environment's pkg.conf."""
    import time

    system, data = item
    lacking = [f"{directory}/{links.LINK}" for directory in links.missing(system)]
    times = [os.stat(system).st_mtime]
    with contextlib.suppress(FileNotFoundError):
        times.append(os.stat(f"{system}/locked").st_mtime)
    return lacking, int(max(times) - time.time()), _text(f"{data}/{pkg_locking.CONF}", follow=False) if data else ""


def _text(path: str, *, follow: bool = True) -> str:
    """The text of a file, "" if it is not there; ``follow``: see verdict.open_regular(). OSError."""
    try:
        with open(probe.open_regular(path, follow=follow), encoding="utf-8", errors="replace") as file:
            return file.read(_SIZE_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return ""
