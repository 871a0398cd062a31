"""mdconfig(8), newfs(8), fsck_ffs(8), fsck(8) and fstyp(8)."""

from __future__ import annotations

import errno
import os
import sys

from . import ufs
from .errors import error
from .machine import Machine, fail, say, warn, words_of
from .options import UsageError, getopt, letters, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, State

MDCONFIG_USAGE = """\
usage: mdconfig -a -t type [-n] [-o [no]option] ... [-f file]
                [-s size] [-S sectorsize] [-u unit] [-L label]
                [-x sectors/track] [-y heads/cylinder]
       mdconfig -d -u unit [-o [no]force]
       mdconfig -r -u unit -s size [-o [no]force]
       mdconfig -l [-v] [-n] [-f file] [-u unit]
       mdconfig file"""
EX_NOT_LISTED = 255
MAX_LABEL = 31


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
    return attach_unit(machine, given, values(found, "o")) if "a" in switches else detach_unit(machine, given)


def unit_number(name: str) -> str:
    return name.replace("/dev/", "").replace("md", "")


def attach_unit(machine: Machine, given: dict[str, str], options: list[str]) -> int:
    if given.get("t", "vnode") != "vnode" or "f" not in given:
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
        os.symlink(place.real, f"{machine.path}/dev/md{unit}")
        return unit

    try:
        unit = machine.call(attach)
    except OSError as problem:
        return fail(f"mdconfig: ioctl(/dev/mdctl): {words_of(problem)}")
    ufs.taste(machine.path)
    if "u" not in given:
        say(unit if "n" in given else f"md{unit}")
    return 0


def detach_unit(machine: Machine, given: dict[str, str]) -> int:
    if "u" not in given:
        return fail(MDCONFIG_USAGE)
    unit = unit_number(given["u"])

    def detach(state: State) -> None:
        found = state["units"].get(unit)
        if found is None:
            raise error(errno.ENOENT)
        if any(mount["options"].get("image") == found["image"] for mount in state["mounts"]):
            raise error(errno.EBUSY)
        del state["units"][unit]
        os.unlink(f"{machine.path}/dev/md{unit}")

    try:
        machine.call(detach)
    except OSError as problem:
        return fail(f"mdconfig: ioctl(/dev/mdctl): {words_of(problem)}")
    ufs.taste(machine.path)
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


def newfs(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "EJL:NO:Ub:e:f:i:jlm:no:p:r:s:t")
        if len(operands) != 1:
            raise UsageError
    except UsageError:
        return fail("usage: newfs [ -fsoptions ] special-device [device-type]")
    device = operands[0] if operands[0].startswith("/dev/") else f"/dev/{operands[0]}"
    label = dict(found).get("L", "")
    if len(label) > MAX_LABEL or not label.replace("-", "").replace("_", "a").isalnum() > (not label):
        return fail("newfs: bad volume label. Valid characters are alphanumerics, dashes, and underscores.")

    def make(state: State) -> None:
        image = ufs.device_image(machine.path, device)
        if any(mount["options"].get("image") == image for mount in state["mounts"]):
            raise error(errno.EPERM)
        state["serial"] += 1
        soft_updates = bool({"U", "j"} & letters(found))
        content = {"id": f"ufs-{state['serial']}", "label": label, "soft_updates": soft_updates, "clean": True}
        ufs.write_superblock(image, content)

    try:
        machine.call(make)
    except OSError:
        return fail(f"newfs: {device}: failed to open disk for writing")
    ufs.taste(machine.path)
    say(f"{device}: 32.0MB (65536 sectors) block size 32768, fragment size 4096")
    say("\tusing 4 cylinder groups of 8.03MB, 257 blks, 1280 inodes.")
    say("super-block backups (for fsck_ffs -b #) at:\n 192, 16640, 33088, 49536")
    return 0


def fsck(machine: Machine, argv: list[str]) -> int:
    """Runs fsck_TYPE and hands its status on."""
    try:
        found, operands = getopt(argv, "BCdFfl:nopRT:t:vy")
        if not operands:
            raise UsageError
    except UsageError:
        return fail("usage: fsck [-BCdFfnpvy] [-T fstype:fsoptions] [-t fstype] [-c fstab] [special | node] ...")
    given = dict(found)
    if "t" not in given:
        for device in operands:
            if not os.path.exists(machine.path + device):
                return fail(f"fsck: cannot open `{device}': No such file or directory")
    passed_on = [f"-{letter}" for letter, _ in found if letter in "BCFfnpRy"]
    return fsck_ffs(machine, [*passed_on, *operands])


def fsck_ffs(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "b:Bc:CdEFfm:npRrSyZz")
        if not operands:
            raise UsageError
    except UsageError:
        return fail("usage: fsck_ffs [-BCdEFfnpRrSyZ] [-b block] [-c level] [-m mode] filesystem ...")
    status = 0
    for device in operands:
        status |= check(machine, device, letters(found))
    return status


def check(machine: Machine, device: str, switches: set[str]) -> int:
    try:
        image = ufs.device_image(machine.path, device)
    except OSError:
        say(f"Can't stat {device}: No such file or directory")
        return 3 if "p" in switches else 8
    content = ufs.superblock(image)
    if content is None:
        return no_superblock(device, switches)
    if "F" in switches:
        return 7 if content["clean"] else 4
    if "n" in switches:
        return look_only(device, content)
    for mount in machine.state()["mounts"]:
        if mount["options"].get("image") == image and "ro" not in mount["flags"]:
            say(f"{device}: NO WRITE ACCESS\n{device}: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
            return 8
    return repair(device, image, content, switches)


PHASES = ("Blocks and Sizes", "Pathnames", "Connectivity", "Reference Counts", "Cyl groups")
SUMMARY = "7813 free (21 frags, 974 blocks, 0.3% fragmentation)"


def repair(device: str, image: str, content: Json, switches: set[str]) -> int:
    preen = bool(switches & {"p", "C"})
    if preen and content.get("broken"):
        say(f"{device}: UNEXPECTED SOFT UPDATE INCONSISTENCY; RUN fsck MANUALLY.")
        return 8
    if preen and content["clean"]:
        say(f"{device}: FILE SYSTEM CLEAN; SKIPPING CHECKS\n{device}: clean, {SUMMARY}")
        return 0
    prefix = f"{device}: " if preen else ""
    if not preen:
        phases(device, content)
    if not content["clean"]:
        for finding in ("FREE BLK COUNT(S) WRONG IN SUPERBLK", "SUMMARY INFORMATION BAD", "BLK(S) MISSING IN BIT MAPS"):
            say(f"{prefix}{finding} (SALVAGED)" if preen else f"{finding}\nSALVAGE? yes\n")
    ufs.mark(image, clean=True, unclean=False, broken=False)
    say(f"{prefix}2 files, 2 used, {SUMMARY}")
    if not preen:
        say("\n***** FILE SYSTEM IS CLEAN *****" if content["clean"] else "\n***** FILE SYSTEM MARKED CLEAN *****")
    return 0


def phases(device: str, content: Json) -> None:
    say(f"** {device}")
    say(f"** Last Mounted on {content.get('last_mounted', '')}")
    for number, title in enumerate(PHASES, start=1):
        say(f"** Phase {number} - Check {title}")


def look_only(device: str, content: Json) -> int:
    phases(f"{device} (NO WRITE)", content)
    say(f"2 files, 2 used, {SUMMARY}")
    return 0 if content["clean"] else 8


def no_superblock(device: str, switches: set[str]) -> int:
    say("Attempted recovery for standard superblock: failed")
    say("Attempted extraction of recovery data from standard superblock: failed")
    say("Attempt to find boot zone recovery data.")
    say("Finding an alternate superblock failed.")
    say("Check for only non-critical errors in standard superblock")
    say("Failed, superblock has critical errors")
    say("SEARCH FOR ALTERNATE SUPER-BLOCK FAILED. YOU MUST USE THE")
    say("-b OPTION TO FSCK TO SPECIFY THE LOCATION OF AN ALTERNATE")
    say("SUPER-BLOCK TO SUPPLY NEEDED INFORMATION; SEE fsck_ffs(8).")
    prefix = f"{device}: " if "p" in switches else ""
    say(f"{prefix}CAN'T CHECK FILE SYSTEM.")
    say(f"{prefix}UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
    return 8


def fstyp(machine: Machine, argv: list[str]) -> int:
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    if locale not in ("C", "POSIX") and not machine.state()["settings"]["locale_files"]:
        return fail("fstyp: setlocale: Invalid argument")
    try:
        found, operands = getopt(argv, "lsu")
        if len(operands) != 1:
            raise UsageError
    except UsageError:
        return fail("usage: fstyp [-l] [-s] [-u] special")
    try:
        content = ufs.superblock(ufs.device_image(machine.path, operands[0]))
    except OSError as problem:
        return fail(f"fstyp: {operands[0]}: {words_of(problem)}")
    if content is None:
        return fail(f"fstyp: {operands[0]}: filesystem not recognized")
    label = f" {content['label']}" if "l" in letters(found) and content["label"] else ""
    say(f"ufs{label}")
    return 0
