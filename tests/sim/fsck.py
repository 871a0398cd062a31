"""newfs(8), fsck_ffs(8), fsck(8) and fstyp(8)."""

from __future__ import annotations

import contextlib
import os

from . import geom, metadata, ufs
from .guests import visible_mounts
from .machine import Machine, fail, say, words_of
from .mounted import check_provider
from .options import UsageError, getopt, letters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, State

MAX_LABEL = 31
BLOCK = 32768


def newfs(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "EJL:NO:Ub:e:f:i:jlm:no:p:r:s:t")
        if len(operands) != 1:
            raise UsageError
    except UsageError:
        return fail("usage: newfs [ -fsoptions ] special-device [device-type]")
    device = operands[0] if operands[0].startswith("/dev/") else f"/dev/{operands[0]}"
    label = dict(found).get("L", "")
    if len(label) > MAX_LABEL or not all(letter.isalnum() or letter in "-_" for letter in label):
        return fail("newfs: bad volume label. Valid characters are alphanumerics, dashes, and underscores.")

    def make(state: State) -> tuple[int, int]:
        provider = geom.find(state, device)
        geom.check_access(state, provider.name, (1, 1, 0))
        check_provider(state, provider.name, writing=True)
        soft_updates = bool({"U", "j"} & letters(found))
        content = {"label": label, "soft_updates": soft_updates, "journal": "j" in letters(found), "clean": True}
        ufs.make(provider.image, content)
        sizes = geom.mediasize(state, provider.name), geom.sectorsize(state, provider.name)
        geom.wrote(state, provider.name)
        geom.closed(state, machine, provider.name)
        return sizes

    try:
        size, sector = machine.call(make)
    except OSError:
        return fail(f"newfs: {device}: failed to open disk for writing")
    blocks = size // BLOCK // 4 + 1
    backups = ", ".join(str(192 + group * blocks * (BLOCK // 512)) for group in range(4))
    megabytes = size / (1 << 20)
    say(f"{device}: {megabytes:.1f}MB ({size // sector} sectors) block size 32768, fragment size 4096")
    say(f"\tusing 4 cylinder groups of {blocks * BLOCK / (1 << 20):.2f}MB, {blocks} blks, 1280 inodes.")
    say(f"super-block backups (for fsck_ffs -b #) at:\n {backups}")
    return 0


def fsck(machine: Machine, argv: list[str]) -> int:
    """Run fsck_TYPE and hand its status on."""
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
    state = machine.state()
    try:
        provider = geom.find(state, device)
    except OSError:
        say(f"Can't stat {device}: No such file or directory")
        return 3 if "p" in switches else 8
    machine.look(lambda state: find_mount(state, machine, provider.name))
    content = ufs.superblock(provider.image)
    if content is None:
        return no_superblock(device, switches)
    if "F" in switches:
        return 7 if content["clean"] else 4
    if "n" in switches:
        return look_only(device, content)
    try:
        machine.call(lambda state: begin_writing(state, machine, provider.name))
    except OSError:
        say(f"{device}: NO WRITE ACCESS\n{device}: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
        return 8
    try:
        machine.store.sleep(state["settings"]["fsck_seconds"])
        if not (content["clean"] and switches & {"p", "C"}):
            machine.look(lambda state: check_provider(state, provider.name, writing=True))
        status = repair(device, provider.image, content, switches)
    except OSError:
        prefix = f"{device}: " if switches & {"p", "C"} else ""
        say(f"{prefix}CANNOT WRITE BLK: 160\n{prefix}UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.")
        return 8
    finally:
        machine.call(lambda state: end_writing(state, machine, provider.name))
    mounted = any(mount["options"].get("provider") == provider.name for mount in state["mounts"])
    return 4 if mounted and status == 0 and not content["clean"] else status


def find_mount(state: State, machine: Machine, name: str) -> None:
    """getmntpoint() of sbin/mount/getmntopts.c: the source of each mount is asked for, until one is the device."""
    for mount in visible_mounts(state):
        if mount["options"].get("provider") == name:
            return
        if mount["special"].startswith("/") and not mount["special"].startswith("/dev/"):
            with contextlib.suppress(OSError):
                machine.place(state, mount["special"])


def begin_writing(state: State, machine: Machine, name: str) -> None:
    geom.check_access(state, name, (1, 1, 0))
    state["opens"].append({"name": name, "pid": os.getpid(), "writes": True})
    geom.wrote(state, name)
    geom.taste(state, machine)


def end_writing(state: State, machine: Machine, name: str) -> None:
    state["opens"] = [holder for holder in state["opens"] if holder["pid"] != os.getpid()]
    geom.closed(state, machine, name)


UNMOUNTABLE = ("apfs", "geli", "hammer", "hammer2", "hfs+", "zfs")
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
    if preen and not content["clean"] and content.get("journal"):
        say(f"{device}: Journal timestamp and fs timestamp agree\n{device}: **** FILE SYSTEM MARKED CLEAN ****")
        ufs.mark(image, clean=True, unclean=False, bad_hash=False)
        return 0
    if not content["clean"] and has_files(image):
        for finding in ("FREE BLK COUNT(S) WRONG IN SUPERBLK", "SUMMARY INFORMATION BAD", "BLK(S) MISSING IN BIT MAPS"):
            say(f"{prefix}{finding} (SALVAGED)" if preen else f"{finding}\nSALVAGE? yes\n")
    ufs.mark(image, clean=True, unclean=False, broken=False, bad_hash=False)
    say(f"{prefix}2 files, 2 used, {SUMMARY}")
    if not preen:
        say("\n***** FILE SYSTEM IS CLEAN *****" if content["clean"] else "\n***** FILE SYSTEM MARKED CLEAN *****")
    return 0


def has_files(image: str) -> bool:
    """One that nobody wrote to is unclean while it is mounted, but nothing is wrong with it; of a copy nobody knows."""
    try:
        return os.listdir(ufs.files(image)) != [".snap"]
    except FileNotFoundError:
        return True


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
        provider = geom.find(machine.state(), operands[0])
    except OSError as problem:
        return fail(f"fstyp: {operands[0]}: {words_of(problem)}")
    kind, label = kind_of(machine.state(), provider, unmountable="u" in letters(found))
    if not kind:
        return fail(f"fstyp: {operands[0]}: filesystem not recognized")
    say(f"{kind} {label}" if "l" in letters(found) and label else kind)
    return 0


def kind_of(state: State, provider: geom.Provider, *, unmountable: bool) -> tuple[str, str]:
    """Return the file system on the device, in the alphabetical order in which fstyp looks, and its label."""
    if unmountable and metadata.tail(provider.image, metadata.ELI, geom.depth(state, provider.name)):
        return "geli", ""
    foreign = metadata.head(provider.image, metadata.FOREIGN)
    if foreign and (unmountable or foreign["type"] not in UNMOUNTABLE):
        return foreign["type"], ""
    content = ufs.superblock(provider.image)
    return ("ufs", content["label"]) if content else ("", "")
