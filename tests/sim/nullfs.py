"""mount_nullfs(8). Its -o is one option each: a comma is part of the name, and no unknown name is refused."""

from __future__ import annotations

import errno
import os

from . import kernel, vfs
from .errors import error
from .machine import Machine, fail, warn, words_of
from .options import UsageError, getopt, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import State

USAGE = "usage: mount_nullfs [-o options] target mount-point"
EX_USAGE = 64


def main(machine: Machine, argv: list[str]) -> int:
    try:
        found, operands = getopt(argv, "o:")
        if len(operands) != 2:
            raise UsageError
    except UsageError as problem:
        if problem.complaint:
            warn(f"mount_nullfs: {problem.complaint}")
        return fail(USAGE)
    words = [word.partition("=")[0] for word in values(found, "o")]
    try:
        # The real order, mount point first, shows in which of two missing paths is named.
        node = checked_place(machine, operands[1])
        source = checked_place(machine, operands[0])
    except OSError as problem:
        return fail(f"mount_nullfs: {problem.filename}: {words_of(problem)}", EX_USAGE)
    if vfs.is_directory(node) != vfs.is_directory(source):
        complaint = "must be same type as"
        return fail(f"mount_nullfs: {node.path}: {complaint} {source.path} (file or directory)", EX_USAGE)
    try:
        machine.call(lambda state: nmount(state, machine, source.path, node.path, words))
    except OSError as problem:
        return fail(f"mount_nullfs: {node.path}: {words_of(problem)}")
    return 0


def checked_place(machine: Machine, path: str) -> vfs.Place:
    return machine.real_place(path)


def nmount(state: State, machine: Machine, source_path: str, node: str, words: list[str]) -> None:
    place = machine.place(state, node)
    source = machine.place(state, source_path)
    kernel.check_mount_point(state, machine, place, words)
    if not vfs.is_directory(place) and os.lstat(place.real).st_nlink != 1:
        # vfs_domount_first().
        raise error(errno.EINVAL)
    if "update" in words:
        raise error(errno.EOPNOTSUPP)
    if place.is_root and place.mount["fstype"] == "nullfs" and place.mount["special"] == source.path:
        raise error(errno.EDEADLK)
    backing = source.real if source.mount["backing"] else ""
    flags = [*kernel.flags_of(words, kernel.FLAGS_OF_SOME), *inherited(source)]
    kernel.add_mount(state, place, source.path, "nullfs", flags, backing=backing, lower=source.mount["fsid"])


def inherited(source: vfs.Place) -> list[str]:
    return ["local"] if "local" in source.mount["flags"] else []
