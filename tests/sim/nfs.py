"""mount_nfs(8): the switches, the talk with the server, and what the kernel makes of the options."""

from __future__ import annotations

import errno
import os
import sys
import time

from . import kernel, vfs
from .errors import error
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt
from .resolver import MOUNT_SHARE, resolved
from .store import POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Server, State

USAGE = """\
usage: mount_nfs [-23bcdiLlNPsTU] [-a maxreadahead] [-D deadthresh]
                 [-g maxgroups] [-I readdirsize] [-o options] [-R retrycnt]
                 [-r readsize] [-t timeout] [-w writesize] [-x retrans]
                 rhost:path node"""

KERNEL_OPTIONS = set(
    "from nfs_args noac noatime noexec suiddir nosuid nosymfollow union noclusterr noclusterw multilabel acls force"
    " update async noconn nolockd conn lockd intr rdirplus readdirsize soft hard mntudp tcp udp wsize rsize retrans"
    " actimeo acregmin acregmax acdirmin acdirmax resvport readahead hostname timeo timeout addr fh nfsv3 sec"
    " principal nfsv4 gssname allgssname dirpath minorversion nametimeo negnametimeo nocto noncontigwr pnfs"
    " wcommitsize oneopenown tls tlscertname nconnect syskrb5".split()
)
EVERYWHERE = {*kernel.FLAG_WORDS, *kernel.CLEARING_WORDS, *kernel.VFS_WORDS}
NUMERIC = (
    "readdirsize wsize rsize retrans actimeo acregmin acregmax acdirmin acdirmax readahead timeo timeout"
    " minorversion nametimeo negnametimeo wcommitsize nconnect".split()
)
PROTOCOLS = ("tcp", "udp", "tcp6", "udp6")
FLAVORS = ("sys", "krb5", "krb5i", "krb5p")
SWITCH_OPTIONS = {
    "a": "readahead", "c": "noconn", "D": "deadthresh", "d": "dumbtimer", "g": "maxgroups", "I": "readdirsize",
    "i": "intr", "L": "nolockd", "l": "rdirplus", "N": "", "P": "noresvport", "R": "retrycnt", "r": "rsize",
    "s": "soft", "T": "tcp", "t": "timeout", "w": "wsize", "x": "retrans", "U": "mntudp",
}  # fmt: skip
LONGEST_V4_PATH = 99
WARNING = (
    "mount_nfs: Warning, options soft and/or intr cannot be safely used for NFSv4. See the BUGS section of mount_nfs(8)"
)


class RefusedError(Exception):
    """The text and the end: `mount_nfs: TEXT`, exit 1."""


class Request:
    def __init__(self) -> None:
        self.version = 3
        self.retries = 0
        self.background = False
        self.resolve_with_port = False
        self.udp = False
        self.soft_or_intr = False
        # What getaddrinfo(3) gives and is tried: proto=tcp leaves out IPv6, tcp does not.
        self.families = {"inet", "inet6"}
        self.kernel: dict[str, str] = {}

    @property
    def network(self) -> str:
        return "udp" if self.udp else "tcp"


def parse(argv: list[str]) -> tuple[Request, list[str]]:
    found, operands = getopt(argv, "23a:bcdD:g:I:iLlNo:PR:r:sTt:w:x:U")
    request = Request()
    for letter, value in found:
        if letter in "23":
            request.version = int(letter)
        elif letter == "b":
            request.background = True
        elif letter == "o":
            for item in value.split(","):
                name, _, content = item.partition("=")
                take_option(request, name, content)
        else:
            say(f"-{letter} deprecated, use -o {SWITCH_OPTIONS[letter]}{'=<value>' if value else ''}")
            if SWITCH_OPTIONS[letter]:
                take_option(request, SWITCH_OPTIONS[letter], value)
    if len(operands) != 2:
        raise UsageError
    return request, operands


def take_option(request: Request, name: str, value: str) -> None:
    """Take an option that mount_nfs handles itself; all others go to the kernel unseen."""
    if name in ("bg", "bgnow"):
        request.background = True
    elif name in ("nfsv2", "nfsv3", "nfsv4"):
        set_version(request, int(name[-1]))
    elif name == "vers":
        set_version(request, version_number(value))
    elif name == "retrycnt":
        request.retries = retry_count(value)
    elif name == "proto":
        set_protocol(request, value)
    elif name == "sec":
        request.kernel["sec"] = flavor(value)
    elif name == "port":
        request.resolve_with_port = True
    elif name in ("noinet4", "noinet6"):
        request.families.discard({"4": "inet", "6": "inet6"}[name[-1]])
    elif name != "fg":
        hand_over(request, name, value)


def hand_over(request: Request, name: str, value: str) -> None:
    request.soft_or_intr |= name in ("soft", "intr")
    if name in ("udp", "mntudp", "tcp"):
        request.udp = name != "tcp"
    request.kernel[name] = value


def flavor(value: str) -> str:
    if value not in FLAVORS:
        raise RefusedError(f"illegal sec value -- {value}")
    return value


def set_protocol(request: Request, value: str) -> None:
    if value not in PROTOCOLS:
        raise RefusedError(f"illegal proto value -- {value}")
    request.udp = value.startswith("udp")
    request.families.discard("inet" if value.endswith("6") else "inet6")
    request.kernel["udp" if request.udp else "tcp"] = ""


def retry_count(value: str) -> int:
    if not value.isdigit():
        raise RefusedError(f"illegal retrycnt value -- {value}")
    return int(value)


def version_number(value: str) -> int:
    if not value.isdigit() or value == "0":
        raise RefusedError(f"illegal vers value -- {value}")
    if value not in ("2", "3", "4"):
        raise RefusedError(f"illegal nfs version value -- {value}")
    return int(value)


def set_version(request: Request, version: int) -> None:
    request.version = version
    if version == 4:
        request.resolve_with_port = True
        request.udp = False


def split_source(source: str) -> tuple[str, str]:
    if source.startswith("[") and "]:" in source:
        host, _, path = source[1:].partition("]:")
    elif ":" in source:
        host, _, path = source.rpartition(":")
    elif "@" in source:
        warn("mount_nfs: path@server syntax is deprecated, use server:path")
        path, _, host = source.rpartition("@")
    else:
        raise RefusedError("no <host>:<dirpath> nfs-name")
    return host, path.rstrip("/") or "/"


def main(machine: Machine, argv: list[str]) -> int:
    try:
        request, (source, node) = parse(argv)
        if request.version == 4 and request.soft_or_intr:
            warn(WARNING)
        host, path = split_source(source)
        check_name(machine, request, host)
        place = mount_point(machine, node)
        status = talk(machine, request, host, path)
        return status if status is not None else mount(machine, request, host, path, place)
    except UsageError as problem:
        if problem.complaint:
            warn(f"mount_nfs: {problem.complaint}")
        return fail(USAGE)
    except RefusedError as problem:
        return fail(f"mount_nfs: {problem}")


def mount_point(machine: Machine, node: str) -> vfs.Place:
    """Before the talk with the server: on a dead mount the process hangs here, where no signal ends it."""
    try:
        place = machine.real_place(node)
        if not vfs.is_directory(place):
            raise error(errno.ENOTDIR, place.path)
    except OSError as problem:
        raise RefusedError(f"{problem.filename}: {words_of(problem)}") from None
    return place


def check_name(machine: Machine, request: Request, host: str) -> None:
    if resolved(machine, host, MOUNT_SHARE):
        return
    port = ":2049" if request.resolve_with_port else ""
    raise RefusedError(f"{host}{port}: Name does not resolve")


def talk(machine: Machine, request: Request, host: str, path: str) -> int | None:
    """Try until the server says yes (None) or there is a status to end with."""
    attempts = 0
    # In the order of getaddrinfo(3). Where none is left, mount_nfs ends without a word.
    families = sorted(resolved(machine, host) & request.families, reverse=True)
    if not families:
        return 1
    while True:
        for family in families:
            complaint = attempt(machine, request, host, path)
            if complaint is None:
                return None
            warn(f"[{request.network}{'6' if family == 'inet6' else ''}] {host}:{path}: {complaint}")
        attempts += 1
        if attempts == request.retries:
            return 1
        if request.background and attempts == 1:
            warn(f"mount_nfs: Cannot immediately mount {host}:{path}, backgrounding")
            sys.stdout.flush()
            if os.fork():
                return 0
            os.setsid()
        machine.store.sleep(machine.state()["settings"]["retry_seconds"])


def attempt(machine: Machine, request: Request, host: str, path: str) -> str | None:
    """One try of all that mount_nfs asks before nmount(2); the complaint, or None."""
    if not connects(machine, host):
        return connection_text(request, "Operation timed out")
    server = machine.state()["servers"][host]
    if server["delay"]:
        machine.store.sleep(server["delay"])
    if server["state"] == "down":
        return connection_text(request, "Host is down")
    if server["state"] == "refused":
        if request.version == 4:
            return connection_text(request, "Connection refused")
        return "RPCPROG_NFS: RPC: Program not registered"
    if request.version not in server["versions"]:
        if request.version != 4:
            return "RPCPROG_NFS: RPC: Program not registered"
        return "NFSPROC_NULL: RPC: Program/version mismatch; low version = 2, high version = 3"
    return None if request.version == 4 else ask_mountd(server, path)


def connection_text(request: Request, reason: str) -> str:
    if request.version == 4:
        return f"nfsd: RPCPROG_NFS: RPC: Remote system error - {reason}"
    return f"RPCPROG_NFS: RPC: Port mapper failure - RPC: Remote system error - {reason}"


def connects(machine: Machine, host: str) -> bool:
    """TCP connect: a silent host or an address that nobody has makes it wait for the whole time-out."""
    until = time.monotonic() + machine.state()["settings"]["connect_seconds"]
    while time.monotonic() < until:
        server = machine.state()["servers"].get(host)
        if server is not None and server["state"] != "frozen":
            return True
        machine.store.sleep(POLL)
    return False


def export_of(server: Server, path: str) -> str | None:
    """Return the server's directory of an exported PATH, "" if PATH is not exported, None if it does not exist."""
    tops = [top for top in server["exports"] if vfs.is_below(path, top)]
    if not tops:
        return "" if os.path.lexists(server["tree"] + path) else None
    top = max(tops, key=len)
    backing = os.path.join(server["exports"][top], path[len(top.rstrip("/")) :].lstrip("/")).rstrip("/")
    return backing if os.path.isdir(backing) else None


def ask_mountd(server: Server, path: str) -> str | None:
    backing = export_of(server, path)
    if backing is None:
        return "No such file or directory"
    return "Permission denied" if backing == "" else None


def mount(machine: Machine, request: Request, host: str, path: str, place: vfs.Place) -> int:
    try:
        machine.call(lambda state: nmount(state, machine, request, host, path, place.path))
    except OSError as problem:
        detail = f", {problem.filename}" if problem.filename else ""
        raise RefusedError(f"nmount: {place.path}{detail}: {words_of(problem)}") from None
    return 0


def nmount(state: State, machine: Machine, request: Request, host: str, path: str, node: str) -> None:
    words = list(request.kernel)
    place = machine.place(state, node)
    kernel.check_mount_point(state, machine, place, words)
    check_options(request)
    check_daemons(state, request)
    seen = path[:LONGEST_V4_PATH] if request.version == 4 else path
    backing = export_of(state["servers"][host], seen)
    if backing is None:
        raise error(errno.ENOENT)
    options = {**request.kernel, "nfsv": str(request.version), "proto": request.network}
    flags = kernel.flags_of(words, kernel.FLAGS_OF_SOME)
    shown = f"[{host}]:{path}" if ":" in host else f"{host}:{path}"
    kernel.add_mount(
        state, place, shown, "nfs", [flag for flag in flags if flag != "sync"],
        backing=backing, host=host, options=options,
    )  # fmt: skip


def check_daemons(state: State, request: Request) -> None:
    """mountnfs() asks whether rpc.tlsclntd listens, before anything else; without gssd there is no credential."""
    if "tls" in request.kernel and "tlsclntd" not in state["settings"]["daemons"]:
        raise error(errno.EINVAL)
    if request.kernel.get("sec", "sys") != "sys" and "gssd" not in state["settings"]["daemons"]:
        raise error(errno.EACCES)


def check_options(request: Request) -> None:
    """vfs_filteropt(9); the file name of the error carries the kernel's own text."""
    for name, value in request.kernel.items():
        without_no = name[2:] if name.startswith("no") else name
        if not {name, without_no} & (KERNEL_OPTIONS | EVERYWHERE):
            raise error(errno.EINVAL, f"mount option <{name}> is unknown")
        if name in NUMERIC and not value.isdigit():
            raise error(errno.EINVAL, f"illegal {name}: {value}")
