"""Look at the servers that plans need: their names, whether they answer, and what they export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from envstart.backends.nfs import version
from envstart.cli.doctor.finding import CRITICAL, NOTE, WARNING, Check, Checks, Context, Finding, of_several, several
from envstart.engine.plan import Step
from envstart.errors import DeadlineExceededError, NoResponseError, UnavailableError, reason
from envstart.paths import is_below
from envstart.steps import nfs_failure
from envstart.storage.iscsi import Session
from envstart.system import network
from envstart.system.host import Host

# Seconds for a name, for a connection, and for showmount(8); together less than a doctor has.
_RESOLVING, _CONNECTING, _LISTING = 4.0, 2.0, 4.0
# What a child needs beside that.
_SPARE = 0.5


class Server(NamedTuple):
    """A port of a server. ``nfs``: the version, "" for other services.

    ``options``: those that leave out kinds of address. ``others``: a plan has another portal.
    """

    name: str
    port: int
    nfs: str
    options: tuple[str, ...]
    others: bool


def checks(host: Host, context: Context) -> Checks:
    """Return a check for each server."""
    servers: dict[Server, dict[str, list[str]]] = {}
    for subject in context.subjects:
        for step in subject.plan.steps:
            for server in _of_step(step):
                paths = servers.setdefault(server, {}).setdefault(subject.name, [])
                paths.append("/" + step.source.partition(":/")[2] if server.nfs else "")
    for server, paths_of in servers.items():
        yield server.name, _server(host, server, paths_of)


def _of_step(step: Step) -> Iterator[Server]:
    """Return the servers that a step needs."""
    options: tuple[str, ...] = getattr(step, "options", ())
    # Without multipath, one portal of several is enough.
    others = len(step.servers) > 1 and not (isinstance(step, Session) and step.lun.multipath)
    for name, port in step.servers:
        if step.fstype == "nfs":
            yield Server(name, port, version(options), nfs_failure.exclusions(options), others)
        else:
            yield Server(name, port, "", (), others)


async def _server(host: Host, server: Server, paths_of: dict[str, list[str]]) -> Check:
    """Look at name, port and exports, each only if nothing is wrong with the one before it.

    ``paths_of``: the directories that each jail or VM needs.
    """
    users = list(paths_of)
    wrong = await _name(host, server, users) or await _port(host, server, users)
    if wrong is None and server.nfs and host.find("showmount"):
        wrong = await _exports(host, server, paths_of)
    if wrong is not None:
        yield wrong


async def _name(host: Host, server: Server, users: Sequence[str]) -> Finding | None:
    try:
        problem, kinds = await host.call_with_timeout(network.resolve, server.name, timeout=_RESOLVING)
    except (NoResponseError, DeadlineExceededError):
        problem, kinds = network.UNRESOLVED, []
    if problem == network.UNKNOWN:
        text = f"the name {server.name} does not resolve"
        return of_several(CRITICAL, users, text, "correct it, or add it to /etc/hosts")
    if problem:
        text = f"the name {server.name} cannot be resolved at this time"
        remedy = "look at resolv.conf(5); in /etc/hosts it is there at boot, too"
        return of_several(WARNING, users, text, remedy)
    if not kinds:
        return of_several(CRITICAL, users, f"the name {server.name} has no address", "correct it, or the DNS")
    if option := nfs_failure.excluding(server.options, kinds):
        text = f"{server.name} has only an {kinds[0]} address, which the option {option} leaves out"
        return of_several(CRITICAL, users, text, f"{nfs_failure.remedy(option)} in MOUNT_NFS_OPT")
    return None


async def _port(host: Host, server: Server, users: Sequence[str]) -> Finding | None:
    try:
        asking = network.null_call if server.nfs else network.connect
        version_and_kinds = (int(server.nfs), list(nfs_failure.kinds(server.options))) if server.nfs else ()
        arguments = (server.name, server.port, *version_and_kinds, _CONNECTING)
        answer = await host.call_with_timeout(asking, *arguments, timeout=_CONNECTING + _SPARE)
    except (NoResponseError, DeadlineExceededError) as error:
        answer = str(error)
    except OSError as error:
        answer = reason(error)
    else:
        if answer:
            text = f"{server.name} does not speak NFSv{server.nfs}: {answer}"
            return of_several(CRITICAL, users, text, "correct NFS_VERSION, or the server")
        return None
    another = "; there is another portal" if server.others else ""
    text = f"cannot reach {server.name}, port {server.port}: {answer}{another}"
    remedy = "is the server up, and is there a way to it? look at routes and firewalls"
    return of_several(WARNING if server.others else CRITICAL, users, text, remedy)


async def _exports(host: Host, server: Server, paths_of: dict[str, list[str]]) -> Finding | None:
    """Look at what the server exports, as mountd tells it; NFSv4 needs neither mountd nor rpcbind."""
    try:
        result = await host.run(("showmount", "-E", server.name.strip("[]")), timeout=_LISTING, read_only=True)
    except UnavailableError:
        return None
    users = list(paths_of)
    if result.status != 0:
        level = NOTE if server.nfs == "4" else WARNING
        text = f"{server.name} does not tell what it exports: {result.words}"
        remedy = "NFSv4 works without that" if server.nfs == "4" else "NFSv3 needs rpcbind and mountd there"
        return of_several(level, users, text, remedy)
    exported = [line.strip() for line in result.out.splitlines() if line.startswith("/")]
    lacking = {
        name: [path for path in paths if not _covered(path, exported, server.nfs)] for name, paths in paths_of.items()
    }
    missing = [path for paths in lacking.values() for path in paths]
    if not missing:
        return None
    # If no path at all is found, an NFSv4 server may have its root somewhere else than it seems.
    unsure = server.nfs == "4" and len(missing) == sum(map(len, paths_of.values()))
    unless = ", unless its V4 root is another one" if unsure else ""
    text = f"{server.name} does not export {several(missing)}{unless}"
    remedy = "export it to this host; an NFSv4 server shows an empty directory instead"
    names = [name for name, paths in lacking.items() if paths]
    return of_several(NOTE if unsure else WARNING, names, text, remedy)


def _covered(path: str, exported: list[str], nfs: str) -> bool:
    """Tell whether a path is exported, or lies below one that is."""
    # An NFSv4 path begins at the server's own V4 root, which the list does not tell: the end of a path is enough.
    ends = [path, *map(str, PurePosixPath(path).parents)][:-1] if nfs == "4" else []
    return any(is_below(path, top) or any(top.endswith(end) for end in ends) for top in exported)
