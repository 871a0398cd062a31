"""kldload(8), kldstat(8), service(8) and sysctl(8), as far as a hook asks them."""

from __future__ import annotations

from .machine import Machine, fail, say, warn
from .options import UsageError, getopt, letters, values

KNOWN_MODULES = ("nfscl", "nullfs", "fusefs", "iscsi", "geom_eli", "geom_gate", "tmpfs", "zfs", "unionfs", "geom_md")
SYSCTLS = {
    "kern.ostype": "FreeBSD",
    "kern.osrelease": "14.0-STABLE",
    "kern.osreldate": "1400507",
    "security.jail.jailed": "0",
    "vfs.recursive_forced_unmount": "0",
}


def kldload(machine: Machine, argv: list[str]) -> int:
    try:
        found, names = getopt(argv, "nqv")
        if not names:
            raise UsageError
    except UsageError:
        return fail("usage: kldload [-nqv] file ...")
    loaded = machine.state()["modules"]
    status = 0
    for name in names:
        if name not in KNOWN_MODULES:
            status = fail(f"kldload: can't load {name}: No such file or directory")
        elif name in loaded and "n" not in letters(found):
            status = fail(f"kldload: can't load {name}: module already loaded or in kernel")
        elif name not in loaded:
            machine.call(lambda state: state["modules"].append(name))  # noqa: B023
    return status


def kldstat(machine: Machine, argv: list[str]) -> int:
    try:
        found, _ = getopt(argv, "hi:m:n:qv")
    except UsageError:
        return fail("usage: kldstat [-h] [-q] [-v] [-d] [-i id] [-n filename]\n       kldstat [-q] [-d] [-m modname]")
    loaded = machine.state()["modules"]
    quiet = "q" in letters(found)
    for name in [*values(found, "m"), *values(found, "n")]:
        wanted = name.replace("g_", "geom_", 1) if name.startswith("g_") else name
        if wanted not in [known.partition(".")[0] for known in loaded]:
            return 1 if quiet else fail(f"kldstat: can't find module {name}: No such file or directory")
    if not quiet:
        say("Id Refs Address                Size Name")
        for number, name in enumerate(["kernel", *loaded], start=1):
            say(f"{number:>2}    1 0xffffffff80200000     1000 {name}{'' if name == 'kernel' else '.ko'}")
    return 0


def service(machine: Machine, argv: list[str]) -> int:
    if len(argv) < 2:
        return fail("usage: service [-j <jail name or id>] [-E var=value] <rc.d script> <start|stop|etc.>")
    places = "/etc/rc.d or the local startup directories (/usr/local/etc/rc.d)"
    return fail(f"{argv[0]} does not exist in {places}, or is not executable")


def sysctl(machine: Machine, argv: list[str]) -> int:
    try:
        found, names = getopt(argv, "aAbdeFhiNnoqTtWx")
    except UsageError as problem:
        return fail(f"sysctl: {problem.complaint}")
    status = 0
    for name in names:
        if name not in SYSCTLS:
            warn(f"sysctl: unknown oid '{name}'")
            status = 1
        else:
            say(SYSCTLS[name] if "n" in letters(found) else f"{name}: {SYSCTLS[name]}")
    return status
