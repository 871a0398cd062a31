"""mdconfig(8)."""

from __future__ import annotations

import errno
import os
import sys

from . import geom
from .errors import error
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

MDCONFIG_USAGE = """\
usage: mdconfig -a -t type [-n] [-o [no]option] ... [-f file]
                [-s size] [-S sectorsize] [-u unit] [-L label]
                [-x sectors/track] [-y heads/cylinder]
       mdconfig -d -u unit [-o [no]force]
       mdconfig -r -u unit -s size [-o [no]force]
       mdconfig -l [-v] [-n] [-f file] [-u unit]
       mdconfig file"""
EX_NOT_LISTED = 255


def mdconfig(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "adf:lno:rs:S:t:u:vx:y:L:")
        switches = letters(found)
        if operands or len(switches & {"a", "d", "l"}) != 1:
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"mdconfig: {problem.complaint}")
        return fail(MDCONFIG_USAGE)
    given = dict(found)
    if "l" in switches:
        return list_units(machine, given)
    if machine.uid(machine.state()) != 0:
        return fail("mdconfig: open(/dev/mdctl): Permission denied")
    options = values(found, "o")
    if "a" in switches:
        return attach_unit(machine, given, options)
    return detach_unit(machine, given, force="force" in options)


def unit_number(name: str) -> str:
    return name.replace("/dev/", "").replace("md", "")


def attach_unit(machine: Machine, given: dict[str, str], options: list[str]) -> int:
    if given.get("t") == "malloc" and given.get("s", "")[-1:] == "m":
        # Memory, where no file system is below it.
        given["f"] = f"{machine.path}/fs/malloc-{len(machine.state()['units'])}"
        with open(given["f"], "wb") as image:
            image.truncate(int(given["s"][:-1]) << 20)
    elif given.get("t", "vnode") != "vnode" or "f" not in given:
        return fail(MDCONFIG_USAGE)
    try:
        place = machine.real_place(given["f"])
    except OSError as problem:
        return fail(f"mdconfig: could not open {given['f']}: {words_of(problem)}")
    if not os.path.isfile(place.real):
        return fail(f"mdconfig: {place.path} is not a regular file")

    def attach(state: State) -> str:
        numbers = (str(number) for number in range(len(state["units"]) + 1))
        unit = unit_number(given["u"]) if "u" in given else next(n for n in numbers if n not in state["units"])
        if unit in state["units"]:
            raise error(errno.EBUSY)
        lower = machine.place(state, place.path).mount["fsid"]
        readonly = "readonly" in options
        state["units"][unit] = {"file": place.path, "image": place.real, "readonly": readonly, "lower": lower}
        geom.taste(state, machine)
        return unit

    try:
        unit = machine.call(attach)
    except OSError as problem:
        return fail(f"mdconfig: ioctl(/dev/mdctl): {words_of(problem)}")
    if "u" not in given:
        say(unit if "n" in given else f"md{unit}")
    return 0


def detach_unit(machine: Machine, given: dict[str, str], *, force: bool) -> int:
    if "u" not in given:
        return fail(MDCONFIG_USAGE)
    unit = unit_number(given["u"])

    def detach(state: State) -> None:
        found = state["units"].get(unit)
        if found is None:
            raise error(errno.ENOENT)
        if geom.mode(state, f"md{unit}") != geom.CLOSED and not force:
            raise error(errno.EBUSY)
        geom.remove(state, machine, f"md{unit}")

    try:
        machine.call(detach)
    except OSError as problem:
        return fail(f"mdconfig: ioctl(/dev/mdctl): {words_of(problem)}")
    return 0


def list_units(machine: Machine, given: dict[str, str]) -> int:
    units = machine.state()["units"]
    if "f" in given:
        try:
            path = machine.real_place(given["f"]).path
        except OSError as problem:
            return fail(f"mdconfig: realpath: {words_of(problem)}")
        units = {unit: found for unit, found in units.items() if found["file"] == path}
    if "u" in given:
        units = {unit: found for unit, found in units.items() if unit == unit_number(given["u"])}
    if not units and {"f", "u"} & set(given):
        return EX_NOT_LISTED
    for unit in sorted(units, key=int):
        name = unit if "n" in given else f"md{unit}"
        if "v" in given:
            say(f"{name}\tvnode\t{human_size(units[unit]['image']):>6}\t{units[unit]['file']}\t")
        else:
            sys.stdout.write(f"{name} ")
    if units and "v" not in given:
        say("")
    return 0


def human_size(path: str) -> str:
    size = os.path.getsize(path)
    for letter in ("B", "K", "M", "G"):
        if size < 1024 or letter == "G":
            return f"{size}{letter}"
        size //= 1024
    raise AssertionError
