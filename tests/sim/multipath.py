"""gmultipath(8): several ways to one disk, known by what is written in its last sector."""

from __future__ import annotations

from . import geom, geomlist, mesh, metadata
from .machine import Machine, fail, say, warn, words_of
from .options import getopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

USAGE = """\
usage: gmultipath create [-vAR] name prov ...
       gmultipath label [-vAR] name prov ...
       gmultipath configure [-vAPR] name
       gmultipath add [-v] name prov
       gmultipath remove [-v] name prov
       gmultipath prefer [-v] prov ...
       gmultipath fail [-v] name prov
       gmultipath restore [-v] name prov
       gmultipath rotate [-v] name
       gmultipath getactive [-v] name
       gmultipath destroy [-v] name
       gmultipath stop [-v] name
       gmultipath clear [-v] prov ...
       gmultipath help
       gmultipath list [-a] [name ...]
       gmultipath status [-ags] [name ...]
       gmultipath load [-v]
       gmultipath unload [-v]"""


def main(machine: Machine, argv: list[str]) -> int:
    verbs: dict[str, geomlist.Verb] = {
        "label": label, "getactive": getactive, "clear": clear,
        "stop": lambda m, words: stop(m, words, erase=False),
        "destroy": lambda m, words: stop(m, words, erase=True),
    }  # fmt: skip
    return geomlist.class_command(machine, argv, "gmultipath", "MULTIPATH", verbs, USAGE)


def write_label(state: State, name: str, image: str) -> None:
    """Label an image: its disk becomes a path of the multipath NAME by itself, on every host that sees it."""
    state["serial"] += 1
    uuid = f"5d1f7b3a-0000-11ee-9f0a-{state['serial']:012x}"
    metadata.write_tail(image, metadata.MULTIPATH, {"name": name, "uuid": uuid})


def label(machine: Machine, argv: list[str]) -> int:
    _, operands = getopt(argv, "vAR")
    if len(operands) < 2:
        return fail("gmultipath: wrong number of arguments.")
    name, providers = operands[0], operands[1:]
    if machine.uid(machine.state()) != 0:
        return fail("gmultipath: cannot load geom_multipath: Operation not permitted")
    return told(machine.call(lambda state: label_paths(state, machine, name, providers)))


def label_paths(state: State, machine: Machine, name: str, providers: list[str]) -> str:
    """Make the providers paths of a multipath, and return "" or why not."""
    if "geom_multipath" not in state["modules"]:
        state["modules"].append("geom_multipath")
    found = []
    for given in providers:
        try:
            found.append(geom.find(state, f"/dev/{geom.name_of(given)}"))
        except OSError as problem:
            return f"cannot get information about {given}: {words_of(problem)}."
        if geom.mediasize(state, found[-1].name) != geom.mediasize(state, found[0].name):
            return f"{given} media size {geom.mediasize(state, found[-1].name)} different."
    try:
        geom.check_access(state, found[0].name, (1, 1, 0))
    except OSError as problem:
        return f"cannot store metadata on {providers[0]}: {words_of(problem)}."
    write_label(state, name, found[0].image)
    for given, other in zip(providers[1:], found[1:]):
        if other.image != found[0].image:
            warn(f"No metadata found on {given}. It is not a path of {providers[0]}.")
    for provider in found:
        geom.closed(state, machine, provider.name)
    return ""


def told(refusal: str) -> int:
    return fail(f"gmultipath: {refusal}") if refusal else 0


def stop(machine: Machine, argv: list[str], *, erase: bool) -> int:
    """`stop` leaves the metadata, so that the next taste of a path brings it back; `destroy` does not."""
    _, operands = getopt(argv, "v")
    if len(operands) != 1:
        return fail("gmultipath: No 'arg0' argument")
    if not mesh.has_class(machine.state(), "MULTIPATH"):
        return fail('gmultipath: Class not found: "MULTIPATH"')
    if machine.uid(machine.state()) != 0:
        return fail("gmultipath: Cannot open /dev/geom.ctl: Permission denied.")
    name = operands[0]

    def act(state: State) -> str:
        multipath = state["multipaths"].get(name)
        if multipath is None:
            return f"Device {name} is invalid"
        busy = geom.mode(state, f"multipath/{name}") != geom.CLOSED
        if erase and not busy:
            metadata.clear_tail(geom.providers(state)[multipath["paths"][0]].image)
        if busy:
            return f"failed to {'destroy' if erase else 'stop'} {name} (err=16)"
        state["untasted"] += multipath["paths"]
        geom.remove(state, machine, f"multipath/{name}")
        return ""

    return told(machine.call(act))


def getactive(machine: Machine, argv: list[str]) -> int:
    _, operands = getopt(argv, "v")
    multipath = machine.state()["multipaths"].get(operands[0]) if operands else None
    if multipath is None:
        return fail(f"gmultipath: Device {operands[0]} is invalid" if operands else "gmultipath: No 'arg0' argument")
    say(multipath["paths"][0])
    return 0


def clear(machine: Machine, argv: list[str]) -> int:
    _, operands = getopt(argv, "v")
    if not operands:
        return fail("gmultipath: Too few arguments.")

    def erase(state: State, given: str) -> None:
        provider = geom.find(state, f"/dev/{geom.name_of(given)}")
        geom.check_access(state, provider.name, (1, 1, 0))
        metadata.clear_tail(provider.image)
        geom.closed(state, machine, provider.name)

    status = 0
    for given in operands:
        try:
            machine.call(lambda state: erase(state, given))  # noqa: B023
        except OSError as problem:
            status = fail(f"Can't clear metadata on {given}: {words_of(problem)}.")
    return fail("gmultipath: Not fully done.") if status else 0
