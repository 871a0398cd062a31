"""`geom CLASS status` and `geom CLASS list`, which are the same for every class; glabel(8), geom(8) and diskinfo(8)."""

from __future__ import annotations

from . import geom, mesh
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt, letters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .shapes import State

    Verb = Callable[[Machine, list[str]], int]

GEOM_USAGE = """\
usage: geom <class> help
       geom <class> <command> [options]"""


def class_command(
    machine: Machine, argv: list[str], program: str, kind: str, own: Mapping[str, Verb], usage: str
) -> int:
    """`PROGRAM VERB ...` for a class of geoms: the verbs of its own, and those that all classes have."""
    verbs: dict[str, Verb] = {
        **own,
        "status": lambda m, words: status(m, program, kind, words),
        "list": lambda m, words: list_(m, program, kind, words),
    }
    try:
        if not argv or argv[0] not in verbs:
            raise UsageError(f"Unknown command: {argv[0]}." if argv else "")
        return verbs[argv[0]](machine, argv[1:])
    except UsageError as problem:
        if problem.complaint:
            warn(f"{program}: {problem.complaint}")
        return fail(usage)


def human(size: int) -> str:
    """humanize_number(3) in four places, with a decimal where there is room for one."""
    number = float(size)
    for letter in ("B", "K", "M", "G", "T"):
        if number < 1000:
            return f"{number:.1f}{letter}" if number < 9.95 and letter != "B" else f"{round(number)}{letter}"
        number /= 1024
    return f"{round(number)}P"


def chosen(machine: Machine, program: str, kind: str, names: list[str]) -> list[mesh.Geom] | str:
    """Return the geoms of a class with these names, or what is wrong with a name."""
    every = [each for each in mesh.geoms(machine.state(), kind) if each.providers]
    if not names:
        return every
    found = []
    for name in names:
        match = [each for each in every if each.name == geom.name_of(name)]
        if not match:
            return name
        found += match
    return found


def status(machine: Machine, program: str, kind: str, argv: list[str]) -> int:
    found, names = getopt(argv, "ags")
    if not mesh.has_class(machine.state(), kind):
        return fail(f"{program}: Command 'status' not available; try 'load' first.")
    geoms = chosen(machine, program, kind, names)
    if isinstance(geoms, str):
        return fail(f"{program}: No such geom: {geoms}.")
    if not geoms:
        return 0
    script = "s" in letters(found)
    rows = [row for each in geoms for row in status_rows(each)]
    header = [] if script else [("Name", "Status", "Components")]
    name_width = max(len(row[0]) for row in header + rows)
    status_width = max(len(row[1]) for row in header + rows)
    last = ""
    for name, condition, component in header + rows:
        shown = ("", "") if name == last and not script else (name, condition)
        say(f"{shown[0]:>{name_width}}  {shown[1]:>{status_width}}  {component}")
        last = name
    return 0


def status_rows(each: mesh.Geom) -> list[tuple[str, str, str]]:
    condition = dict(each.config).get("State", "N/A")
    rows = []
    for name, _, config in each.consumers or [("N/A", geom.CLOSED, [])]:
        component = f"{name} ({dict(config)['State']})" if config else name
        rows.append((each.providers[0][0], condition, component))
    return rows


def list_(machine: Machine, program: str, kind: str, argv: list[str]) -> int:
    _, names = getopt(argv, "a")
    state = machine.state()
    if not mesh.has_class(state, kind):
        return fail(f"{program}: Command 'list' not available; try 'load' first.")
    geoms = chosen(machine, program, kind, names)
    if isinstance(geoms, str):
        return fail(f"{program}: Class '{kind}' does not have an instance named '{geoms}'.")
    for each in geoms:
        say(f"Geom name: {each.name}")
        for key, value in reversed(each.config):
            say(f"{key}: {value}")
        say("Providers:")
        for number, (name, config) in enumerate(each.providers, start=1):
            remote = each.kind == "DISK" and bool(state["disks"][name]["session"])
            list_one(state, number, name, geom.mode(state, name), config, striped=remote)
        if each.consumers:
            say("Consumers:")
        for number, (name, mode, config) in enumerate(each.consumers, start=1):
            list_one(state, number, name, mode, config)
        say("")
    return 0


def list_one(
    state: State, number: int, name: str, mode: mesh.Mode, config: mesh.Config, *, striped: bool = False
) -> None:
    size = geom.mediasize(state, name)
    say(f"{number}. Name: {name}")
    say(f"   Mediasize: {size} ({human(size)})")
    say(f"   Sectorsize: {geom.sectorsize(state, name)}")
    if striped:
        say("   Stripesize: 8192\n   Stripeoffset: 0")
    say(f"   Mode: {mesh.show(mode)}")
    for key, value in reversed(config):
        say(f"   {key}: {value}")


def geom_command(machine: Machine, argv: list[str]) -> int:
    """geom(8): only `geom CLASS status` and `geom CLASS list`."""
    if len(argv) < 2 or argv[1] not in ("status", "list"):
        return fail(GEOM_USAGE)
    kind = argv[0].upper()
    if kind not in mesh.CLASSES:
        return fail(f"geom: Class '{argv[0]}' not found." if argv[1] == "list" else GEOM_USAGE)
    try:
        return (status if argv[1] == "status" else list_)(machine, "geom", kind, argv[2:])
    except UsageError as problem:
        warn(f"geom: {problem.complaint}")
        return fail(GEOM_USAGE)


def glabel(machine: Machine, argv: list[str]) -> int:
    usage = "usage: glabel status [-ags] [name ...]\n       glabel list [-a] [name ...]"
    if not argv or argv[0] not in ("status", "list"):
        return fail(usage)
    try:
        return (status if argv[0] == "status" else list_)(machine, "glabel", "LABEL", argv[1:])
    except UsageError as problem:
        warn(f"glabel: {problem.complaint}")
        return fail(usage)


def diskinfo(machine: Machine, argv: list[str]) -> int:
    try:
        found, names = getopt(argv, "cipSstvw")
        if not names:
            raise UsageError
    except UsageError:
        return fail("usage: diskinfo [-cipsStvw] disk ...")
    status = 0
    for name in names:
        try:
            provider = geom.find(machine.state(), f"/dev/{geom.name_of(name)}")
        except OSError as problem:
            status = fail(f"diskinfo: {name}: {words_of(problem)}")
            continue
        if "s" in letters(found):
            say(ident_of(machine.state(), provider.name))
        else:
            describe(machine.state(), name, provider.name, verbose="v" in letters(found))
    return status


def ident_of(state: State, name: str) -> str:
    """GEOM::ident goes down to the disk."""
    provider = geom.providers(state)[name]
    if provider.kind == "DISK":
        return state["disks"][name]["ident"]
    return ident_of(state, provider.lowers[0]) if provider.lowers else ""


def describe(state: State, given: str, name: str, *, verbose: bool) -> None:
    size, sector = geom.mediasize(state, name), geom.sectorsize(state, name)
    disk = state["disks"].get(name)
    stripe = 8192 if disk and disk["session"] else 0
    heads, sectors = (64, 32) if stripe else (255, 63)
    numbers = [sector, size, size // sector, stripe, 0, size // (heads * sectors * sector), heads, sectors]
    if not verbose:
        say("\t".join([given, *(str(number) for number in numbers)]))
        return
    meanings = [
        "sectorsize", f"mediasize in bytes ({human(size)})", "mediasize in sectors", "stripesize", "stripeoffset",
        "Cylinders according to firmware.", "Heads according to firmware.", "Sectors according to firmware.",
    ]  # fmt: skip
    rows = [(str(number), meaning) for number, meaning in zip(numbers, meanings)]
    if disk:
        rows += [(disk["descr"], "Disk descr.")]
    if ident_of(state, name):
        rows += [(ident_of(state, name), "Disk ident.")]
    if disk and disk["session"]:
        rows += [(f"iscsi{disk['session']}", "Attachment")]
    rows += [("No", "TRIM/UNMAP support"), ("0" if stripe else "Unknown", "Rotation rate in RPM")]
    rows += [("Not_Zoned", "Zone Mode")]
    say(given)
    for value, meaning in rows:
        say(f"\t{value:<12}\t# {meaning}")
    say("")
