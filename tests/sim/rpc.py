"""nfsstat(1), showmount(8) and rpcinfo(8)."""

from __future__ import annotations

import sys

from . import vfs
from .machine import Machine, fail, say, warn
from .nfs import connects
from .options import UsageError, getopt, letters, values
from .resolver import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Mount

SHOWMOUNT_USAGE = "usage: showmount [-a | -d] [-e | -E] [-1] [-3] [host]"
RPCINFO_USAGE = """\
Usage: rpcinfo [-m | -s] [host]
       rpcinfo -p [host]
       rpcinfo -T netid host prognum [versnum]
       rpcinfo -l host prognum versnum
       rpcinfo [-n portnum] -u | -t host prognum [versnum]"""
PROGRAMS = {"nfs": 100003, "100003": 100003, "mountd": 100005, "100005": 100005}
DEFAULTS = {"rsize": 65536, "acregmin": 5, "acregmax": 60, "acdirmin": 3, "acdirmax": 60}


def nfsstat(machine: Machine, argv: list[str]) -> int:
    try:
        found, _ = getopt(argv, "cdemszw:")
    except UsageError as problem:
        return fail(f"nfsstat: {problem.complaint}")
    if "m" not in letters(found):
        return fail("nfsstat: only -m is simulated", 70)
    if machine.uid(machine.state()) != 0:
        return fail("nfsstat: Only privileged users can use the -m option")
    for mount in vfs.listed(machine.state()):
        if mount["fstype"] == "nfs":
            say(f"{mount['special']} on {mount['node']}")
            say(option_line(mount))
    return 0


def option_line(mount: Mount) -> str:
    """Return the options in force, in the order of the kernel."""
    given = mount["options"]
    version = int(given.get("nfsv", "3"))
    reads, writes = block_size(given, "rsize"), block_size(given, "wsize")
    words = [f"nfsv{version}"]
    if version == 4:
        words.append(f"minorversion={given.get('minorversion', '2')}")
    words += [given.get("proto", "tcp"), "noresvport" if "noresvport" in given else "resvport"]
    words += [f"nconnect={given.get('nconnect', '1')}", "soft" if "soft" in given else "hard"]
    words += [word for word in ("intr",) if word in given]
    words.append("nocto" if "nocto" in given else "cto")
    if version != 4:
        words.append("nolockd" if "nolockd" in given else "lockd")
    words += [word for word in ("rdirplus",) if word in given]
    words.append(f"sec={given.get('sec', 'sys')}")
    words += attribute_times(given)
    words += [f"{name}={given.get(name, '60')}" for name in ("nametimeo", "negnametimeo")]
    words += [f"rsize={reads}", f"wsize={writes}", f"readdirsize={min(65536, reads)}"]
    words += [f"readahead={given.get('readahead', '1')}", "wcommitsize=4194304"]
    words += [f"timeout={half_seconds(given)}", f"retrans={2147483647 if version == 4 else 2}"]
    return ",".join(words)


def block_size(given: dict[str, str], name: str) -> int:
    wanted = max(512, min(int(given.get(name, DEFAULTS["rsize"])), DEFAULTS["rsize"]))
    return 1 << (wanted.bit_length() - 1)


def half_seconds(given: dict[str, str]) -> int:
    tenths = int(given.get("timeout", given.get("timeo", "600")))
    return min(600, max(10, tenths)) // 5


def attribute_times(given: dict[str, str]) -> list[str]:
    words = []
    for kind in ("acdir", "acreg"):
        low, high = (int(given.get(kind + end, given.get("actimeo", DEFAULTS[kind + end]))) for end in ("min", "max"))
        words += [f"{kind}min={min(low, high)}", f"{kind}max={high}"]
    return words


def rpc_failure(machine: Machine, host: str) -> str:
    """Return the RPC text if rpcbind on HOST gives no answer; a host without nfsd still runs rpcbind."""
    if host not in machine.state()["servers"] and not is_address(host):
        return "RPC: Unknown host"
    if not connects(machine, host):
        return "RPC: Port mapper failure - RPC: Timed out"
    if machine.state()["servers"][host]["state"] == "down":
        return "RPC: Port mapper failure - RPC: Remote system error - Host is down"
    return ""


def showmount(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "adeE13")
        if len(operands) > 1:
            raise UsageError
    except UsageError:
        return fail(SHOWMOUNT_USAGE)
    host = operands[0] if operands else "localhost"
    failure = rpc_failure(machine, host)
    server = machine.state()["servers"].get(host)
    if not failure and server is not None and server["state"] == "refused":
        failure = "RPC: Program not registered"
    if failure or server is None:
        warn(f"{host}: {failure}")
        return fail("showmount: can't do exports rpc")
    plain = "E" in letters(found)
    if not plain:
        say(f"Exports list on {host}:")
    for path in server["exports"]:
        say(path if plain else f"{path:<34} {server['clients']}")
    return 0


def rpcinfo(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "a:dln:mpsT:tu")
    except UsageError:
        return fail(RPCINFO_USAGE)
    switches = letters(found)
    if "p" in switches and len(operands) == 1:
        return dump(machine, operands[0])
    if not switches & {"t", "u", "T"} or len(operands) not in (2, 3):
        return fail(RPCINFO_USAGE)
    host, program = operands[0], operands[1]
    if program not in PROGRAMS:
        return fail(f"rpcinfo: {program} is unknown service")
    failure = "" if values(found, "n") else rpc_failure(machine, host)
    version = int(operands[2]) if len(operands) == 3 else 3
    failure = failure or call_failure(machine, host, version)
    number = PROGRAMS[program]
    if failure:
        warn(f"rpcinfo: {failure}")
        say(f"program {number} version {version} is not available")
        return 1
    say(f"program {number} version {version} ready and waiting")
    return 0


def call_failure(machine: Machine, host: str, version: int) -> str:
    if not connects(machine, host):
        return "RPC: Timed out"
    server = machine.state()["servers"][host]
    if server["state"] == "down":
        return "RPC: Remote system error - Host is down"
    if server["state"] == "refused":
        return "RPC: Remote system error - Connection refused"
    if version not in server["versions"]:
        low, high = min(server["versions"]), max(server["versions"])
        return f"RPC: Program/version mismatch; low version = {low}, high version = {high}"
    return ""


def dump(machine: Machine, host: str) -> int:
    failure = rpc_failure(machine, host)
    if failure:
        return fail(f"rpcinfo: can't contact portmapper: {failure}")
    rows = [(100000, version, network, 111, "rpcbind") for version in (4, 3, 2) for network in ("tcp", "udp")]
    server = machine.state()["servers"][host]
    if server["state"] == "up" and 3 in server["versions"]:
        rows += [(100005, version, network, 704, "mountd") for network in ("udp", "tcp") for version in (1, 3)]
        # nfsd never tells rpcbind about version 4.
        rows += [(100003, version, network, 2049, "nfs") for network in ("udp", "tcp") for version in (2, 3)]
    lines = ["   program vers proto   port  service"]
    lines += ["{:>10}{:>5}   {:>3}{:>7}  {}".format(*row) for row in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
