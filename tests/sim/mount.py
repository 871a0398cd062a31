"""mount(8): the list in all its forms, the helpers it runs, and the file systems it mounts without one."""

from __future__ import annotations

import errno
import os
import sys

from . import geom, kernel, ufs, vfs, zfs
from .errors import error
from .listing import as_fstab, as_json, as_text, wait_for_all
from .machine import Machine, fail, warn, words_of
from .mounted import check_provider
from .options import UsageError, getopt, letters, take_libxo, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Json, State

USAGE = """\
usage: mount [-adflpruvw] [-F fstab] [-o options] [-t ufs | external_type]
       mount [-dfpruvw] special | node
       mount [-dfpruvw] [-o options] [-t ufs | external_type] special node"""

WITH_HELPER = ("cd9660", "mfs", "msdosfs", "nfs", "nullfs", "smbfs", "udf", "unionfs")
SWALLOWED = ("noauto", "late", "failok", "userquota", "groupquota", "mountprog")
UFS_OPTIONS = set(
    "acls async noatime noclusterr noclusterw noexec export force from groupquota multilabel nfsv4acls snapshot"
    " nosuid suiddir nosymfollow sync union userquota untrusted".split()
)
TMPFS_OPTIONS = set(
    "easize size maxfilesize inodes uid gid mode export union nonc nomtime nosymfollow pgread noatime sync".split()
)
LOADABLE = ("fusefs", "ext2fs", "procfs", "fdescfs")


def main(machine: Machine, argv: list[str]) -> int:
    style, argv = take_libxo(argv)
    try:
        found, operands = getopt(argv, "adF:fLlno:prt:uvw")
        if len(operands) > 2:
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"mount: {problem.complaint}")
        return fail(USAGE)
    types = values(found, "t")
    if len(types) > 1:
        return fail("mount: only one -t option may be specified")
    switches = letters(found)
    if not operands:
        return 0 if "a" in switches else show(machine, switches, types[0] if types else "", style)
    options = options_of(values(found, "o"), switches)
    if len(operands) == 1:
        return mount_by_name(machine, operands[0], options, switches)
    special, node = operands
    return mount_file_system(machine, types[0] if types else guess_type(special), special, node, options)


def options_of(words: list[str], switches: set[str]) -> list[str]:
    """Return the options of a mount, those that are switches among them."""
    options = [item for value in words for item in value.split(",") if item]
    if "r" in switches:
        options.append("ro")
    if "u" in switches and "ro" not in options:
        options.append("noro")
    if "u" in switches:
        options.append("update")
    if "f" in switches:
        options.append("force")
    return options


def show(machine: Machine, switches: set[str], types: str, style: str) -> int:
    verbose = bool(switches & {"p", "v"})
    mounts = machine.look(wait_for_all) if verbose else vfs.listed(machine.state())
    chosen = [mount for mount in mounts if of_type(mount["fstype"], types)]
    if style.startswith("json"):
        text = as_json(chosen, switches, pretty="pretty" in style)
    elif "p" in switches:
        text = "".join(as_fstab(mount) for mount in chosen)
    else:
        text = "".join(as_text(mount, verbose="v" in switches) for mount in chosen)
    sys.stdout.write(text)
    return 0


def of_type(fstype: str, types: str) -> bool:
    if not types:
        return True
    if types.startswith("no"):
        return fstype not in types[2:].split(",")
    return fstype in types.split(",")


def guess_type(special: str) -> str:
    host = special.rpartition("@")[2] if "@" in special else special.partition(":")[0]
    looks_remote = "@" in special or ":" in special
    return "nfs" if looks_remote and all(letter.isalnum() or letter in ".:-" for letter in host) else "ufs"


def mount_by_name(machine: Machine, name: str, options: list[str], switches: set[str]) -> int:
    if "u" not in switches:
        return fail(f"mount: {name}: unknown special file or file system")
    trimmed = name.rstrip("/") or "/"
    for mount in reversed(machine.state()["mounts"]):
        if trimmed in (mount["node"], mount["special"]):
            return mount_file_system(machine, mount["fstype"], mount["special"], mount["node"], options)
    return fail(f"mount: not currently mounted {name}")


def mount_file_system(machine: Machine, fstype: str, special: str, node: str, options: list[str]) -> int:
    try:
        place = machine.real_place(node)
        if fstype != "nullfs" and not vfs.is_directory(place):
            raise error(errno.ENOTDIR, place.path)
    except OSError as problem:
        return fail(f"mount: {problem.filename}: {words_of(problem)}")
    wanted = [item for item in options if item.partition("=")[0] not in SWALLOWED]
    if fstype in WITH_HELPER:
        return run_helper(machine, fstype, special, place.path, wanted)
    try:
        machine.call(lambda state: nmount(state, machine, fstype, special, place.path, wanted))
    except OSError as problem:
        detail = f"{problem.filename}: " if problem.filename and problem.filename != special else ""
        return fail(f"mount: {special}: {detail}{words_of(problem)}")
    return 0


def run_helper(machine: Machine, fstype: str, special: str, node: str, options: list[str]) -> int:
    """Run a child that lives on when mount(8) alone is killed."""
    program = f"{machine.path}/bin/mount_{fstype}"
    arguments = [program]
    for item in options:
        switch, _, value = item.partition("=")
        arguments += [switch, *([value] if value else [])] if item.startswith("-") else ["-o", item]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(program, [*arguments, special, node])
        except OSError:
            warn(f"mount: exec mount_{fstype} not found: No such file or directory")
            warn("mount: in path: /sbin:/usr/sbin")
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        import signal

        return fail(f"mount: {node}: {signal.strsignal(os.WTERMSIG(status))}")
    return os.WEXITSTATUS(status)


def nmount(state: State, machine: Machine, fstype: str, special: str, node: str, options: list[str]) -> None:
    words = [item.partition("=")[0] for item in options]
    place = machine.place(state, node)
    if fstype == "ufs":
        mount_ufs(state, machine, special, place, words)
    elif fstype == "tmpfs":
        kernel.check_mount_point(state, machine, place, words)
        check_words(words, TMPFS_OPTIONS)
        mount_tmpfs(state, machine, place, words)
    elif fstype == "devfs":
        kernel.check_mount_point(state, machine, place, words)
        backing = f"{machine.path}/fs/devfs-{state['serial'] + 1}"
        os.makedirs(backing)
        kernel.add_mount(state, place, "devfs", "devfs", kernel.flags_of(words), backing=backing)
    elif fstype == "zfs":
        kernel.check_mount_point(state, machine, place, words)
        zfs.mount(state, special, place, kernel.flags_of(words, kernel.FLAGS_OF_SOME), words)
    elif fstype in LOADABLE:
        kernel.check_mount_point(state, machine, place, words)
        raise error(errno.EINVAL)
    else:
        raise error(errno.EINVAL, "Invalid fstype")


def check_words(words: list[str], known: set[str]) -> None:
    everywhere = {*kernel.FLAG_WORDS, *kernel.CLEARING_WORDS, *kernel.VFS_WORDS}
    for word in words:
        without_no = word[2:] if word.startswith("no") else word
        if not {word, without_no} & (known | everywhere):
            raise error(errno.EINVAL, f"mount option <{word}> is unknown")


def mount_tmpfs(state: State, machine: Machine, place: vfs.Place, words: list[str]) -> None:
    flags = [*kernel.flags_of(words, kernel.FLAGS_OF_SOME), "local"]
    backing = f"{machine.path}/fs/tmpfs-{state['serial'] + 1}"
    os.makedirs(backing)
    kernel.add_mount(state, place, "tmpfs", "tmpfs", flags, backing=backing)


def mount_ufs(state: State, machine: Machine, special: str, place: vfs.Place, words: list[str]) -> None:
    flags = kernel.flags_of(words, kernel.FLAGS_OF_SOME)
    if "update" in words:
        update_ufs(state, machine, place, special, flags)
        return
    kernel.check_mount_point(state, machine, place, words)
    check_words(words, UFS_OPTIONS)
    if not special.startswith("/dev/"):
        raise error(errno.ENOTBLK if special.startswith("/") and machine.place(state, special) else errno.ENOENT)
    provider = geom.find(state, special)
    if any(mount["options"].get("provider") == provider.name for mount in state["mounts"]):
        raise error(errno.EBUSY)
    geom.check_access(state, provider.name, (1, 0, 0) if "ro" in flags else (1, 1, 1))
    check_provider(state, provider.name, writing="ro" not in flags)
    content = mountable(provider.image, place.path, readonly="ro" in flags, force="force" in words)
    backing = ufs.files(provider.image)
    os.makedirs(backing, exist_ok=True)
    shown = [*flags, "local", *soft_updates(content, flags)]
    options = {"image": provider.image, "provider": provider.name}
    kernel.add_mount(state, place, special, "ufs", shown, backing=backing, options=options)
    ufs.opened(provider.image, place.path, readonly="ro" in flags)
    if "ro" not in flags:
        geom.wrote(state, provider.name)
    geom.taste(state, machine)


def soft_updates(content: Json | None, flags: list[str]) -> list[str]:
    """Who does not write has none."""
    return ["soft-updates"] if content and content["soft_updates"] and "ro" not in flags else []


def mountable(image: str, node: str, *, readonly: bool, force: bool) -> Json:
    content = ufs.superblock(image)
    if content is None:
        raise error(errno.ENOENT)
    if content.get("unfinished"):
        raise error(errno.EINVAL)
    if content.get("bad_hash"):
        raise OSError(errno.EINVAL, "Integrity check failed")
    journaled = bool(content.get("journal"))
    if not content["clean"] and (journaled or not content["soft_updates"]) and not (readonly or force):
        warning = " Forced mount will invalidate journal contents" if journaled else ""
        raise error(errno.EPERM, f"R/W mount on {node} denied. Filesystem is not clean - run fsck.{warning}")
    return content


def update_ufs(state: State, machine: Machine, place: vfs.Place, special: str, flags: list[str]) -> None:
    mount = place.mount
    if not place.is_root or mount["special"] != special:
        raise error(errno.EINVAL)
    image, name = mount["options"].get("image"), mount["options"].get("provider")
    if image and name and "ro" in mount["flags"] and "ro" not in flags:
        # It keeps the device from no one else, so what it asks for is looked at as if it came anew.
        geom.check_access(state, name, (0, 1, 1))
        check_provider(state, name, writing=True)
        mountable(image, place.path, readonly=False, force=False)
        ufs.opened(image, place.path, readonly=False)
        geom.wrote(state, name)
    elif image and "ro" in flags and "ro" not in mount["flags"]:
        ufs.closed(image)
    content = ufs.superblock(image) if image else None
    mount["flags"] = [*flags, *(flag for flag in mount["flags"] if flag == "local"), *soft_updates(content, flags)]
    geom.taste(state, machine)
