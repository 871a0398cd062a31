"""kldload(8), kldstat(8) and sysctl(8), as far as a hook asks them."""

from __future__ import annotations

from . import geom, mesh, mounted, services
from .machine import Machine, fail, say, warn
from .options import UsageError, getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

KNOWN_MODULES = (
    "nfscl", "nullfs", "fusefs", "iscsi", "geom_eli", "geom_gate", "tmpfs", "zfs", "unionfs", "geom_md",
    "geom_multipath",
)  # fmt: skip
SYSCTLS = {
    "kern.ostype": "FreeBSD",
    "kern.osrelease": "14.0-STABLE",
    "kern.osreldate": "1400507",
    "kern.hostid": "2850162913",
    "kern.module_path": "/boot/kernel;/boot/modules;/boot/dtb;/boot/dtb/overlays",
    "kern.securelevel": "-1",
    "security.jail.jailed": "0",
    "vfs.recursive_forced_unmount": "0",
}
SETTABLE = ("kern.securelevel", "vfs.recursive_forced_unmount")


def kldload(machine: Machine, argv: list[str]) -> int:
    try:
        found, names = getopt(argv, "nqv")
        if not names:
            raise UsageError
    except UsageError:
        return fail("usage: kldload [-nqv] file ...")
    loaded = machine.state()["modules"]
    status = 0
    # What kern_kldload() asks before all else, be the module there or not.
    denied = int(sysctl_value(machine.state(), "kern.securelevel") or "0") > 0
    for name in names:
        if denied:
            status = fail(f"kldload: can't load {name}: Operation not permitted")
        elif name not in KNOWN_MODULES:
            status = fail(f"kldload: can't load {name}: No such file or directory")
        elif name in loaded and "n" not in letters(found):
            status = fail(f"kldload: can't load {name}: module already loaded or in kernel")
        elif name not in loaded:
            machine.call(lambda state: load(state, machine, name))  # noqa: B023
    return status


def load(state: State, machine: Machine, name: str) -> None:
    """Load a module: a new class of GEOM tastes what is there."""
    state["modules"].append(name)
    if name.startswith("geom_"):
        geom.taste(state, machine)


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


def sysctl(machine: Machine, argv: list[str]) -> int:
    try:
        found, names = getopt(argv, "aAbdeFhiNnoqTtWx")
    except UsageError as problem:
        return fail(f"sysctl: {problem.complaint}")
    status = 0
    for word in names:
        name, _, wanted = word.partition("=")
        known = services.sysctls(machine.state())
        if name in known or any(each.startswith(f"{name}.") for each in known):
            status |= kernel_iscsi(machine, name, wanted, known, bare="n" in letters(found))
            continue
        if name == "kern.geom.confxml":
            machine.look(mounted.check_topology)
        value = sysctl_value(machine.state(), name)
        if value is None:
            warn(f"sysctl: unknown oid '{name}'")
            status = 1
        elif wanted and name not in SETTABLE:
            status = fail(f"sysctl: oid '{name}' is read only")
        else:
            if wanted:
                machine.call(lambda state: state["settings"]["sysctls"].update({name: wanted}))  # noqa: B023
            shown = f"{value} -> {wanted}" if wanted else value
            say(shown if "n" in letters(found) else f"{name}: {shown}")
    return status


def kernel_iscsi(machine: Machine, name: str, wanted: str, known: dict[str, str], *, bare: bool) -> int:
    """Return the one branch whose values can be set and shown as a whole."""
    if wanted and machine.uid(machine.state()) != 0:
        return fail(f"sysctl: {name}={wanted}: Operation not permitted")
    if wanted:
        machine.call(lambda state: services.set_sysctl(state, name, wanted))
    for each, value in known.items():
        if each == name or each.startswith(f"{name}."):
            shown = f"{value} -> {wanted}" if wanted else value
            say(shown if bare else f"{each}: {shown}")
    return 0


def sysctl_value(state: State, name: str) -> str | None:
    if name in state["settings"]["sysctls"]:
        return state["settings"]["sysctls"][name]
    if name == "kern.geom.confxml":
        return mesh.confxml(state)
    if name == "kern.hostname":
        return state["settings"]["hostname"]
    if name == "kern.hostuuid":
        return state["settings"]["hostuuid"] or made_uuid(state["settings"]["hostname"])
    return SYSCTLS.get(name)


def made_uuid(hostname: str) -> str:
    """Return the UUID of a machine, which it keeps for life."""
    from hashlib import md5

    digits = md5(hostname.encode()).hexdigest()
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
