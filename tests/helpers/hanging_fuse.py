"""A FUSE file system that stops answering: what waits for it cannot be ended by any signal. Pure Python, Linux.

    python hanging_fuse.py DIRECTORY

mounts itself and writes ``mounted N`` (N is its number below /sys/fs/fuse/connections). Every name in it is a directory
with one entry. The line ``hang`` on stdin makes it take every request without an answer, ``answer`` makes it answer
these and the next ones; the end of stdin, and the end of this process in any way, ends all that waits with an error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import sys

# <linux/fuse.h>: len, opcode, unique, nodeid, uid, gid, pid, padding.
_REQUEST = struct.Struct("=IIQQIIII")
_ANSWER = struct.Struct("=IiQ")
_INIT = struct.Struct("=IIIIHHIIHHI28x")
_ATTRIBUTES = struct.Struct("=6Q3I7I")
_ENTRY = struct.Struct("=QQQQII")
_VALID = struct.Struct("=QII")
_OPENED = struct.Struct("=QII")
_DIRENT = struct.Struct("=QQII")
_STATFS = struct.Struct("=5Q4I24x")

_LOOKUP, _FORGET, _GETATTR, _STATFS_OP, _INIT_OP, _OPENDIR, _READDIR = 1, 2, 3, 17, 26, 27, 28
_RELEASEDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = 29, 36, 38, 42
# These get no answer at any time.
_ONE_WAY = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_MNT_DETACH = 2
# The kernel refuses a buffer that is smaller than its largest request.
_BUFFER = 1 << 20


class FileSystem:
    """The protocol: bytes of a request in, bytes of the answer out."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, bytes], int] = {}

    def answer(self, data: bytes) -> bytes | None:
        """Return the answer, None if the request wants none."""
        _, opcode, unique, node, *_ = _REQUEST.unpack_from(data)
        if opcode in _ONE_WAY:
            return None
        body = self._body(opcode, node, data[_REQUEST.size :])
        number = -errno.ENOSYS if body is None else 0
        body = body or b""
        return _ANSWER.pack(_ANSWER.size + len(body), number, unique) + body

    def _body(self, opcode: int, node: int, rest: bytes) -> bytes | None:
        if opcode == _INIT_OP:
            return _INIT.pack(7, 31, 0, 0, 16, 12, 4096, 1, 0, 0, 0)
        if opcode == _LOOKUP:
            found = self._nodes.setdefault((node, rest.rstrip(b"\0")), len(self._nodes) + 2)
            # Valid for no time: each use is asked for again, so that it can hang.
            return _ENTRY.pack(found, 0, 0, 0, 0, 0) + _attributes(found)
        if opcode == _GETATTR:
            return _VALID.pack(0, 0, 0) + _attributes(node)
        if opcode == _OPENDIR:
            return _OPENED.pack(0, 0, 0)
        if opcode == _READDIR:
            offset = int(struct.unpack_from("=Q", rest, 8)[0])
            return b"" if offset else _DIRENT.pack(2, 1, 4, stat.S_IFDIR >> 12) + b"file" + bytes(4)
        if opcode == _STATFS_OP:
            return _STATFS.pack(1, 1, 1, 1, 1, 512, 255, 512, 0)
        return b"" if opcode in (_RELEASEDIR, _DESTROY) else None


def _attributes(node: int) -> bytes:
    times = (0, 0, 0)
    return _ATTRIBUTES.pack(node, 4096, 8, *times, *times, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 512, 0)


def mount(directory: str) -> int:
    """Mount on ``directory`` and return the descriptor that the requests come from."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"hanging", os.fsencode(directory), b"fuse.hanging", 0, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), directory)
    return device


def unmount(directory: str) -> None:
    """Take the mount away, if it is still there, without a look at it."""
    ctypes.CDLL(None).umount2(os.fsencode(directory), _MNT_DETACH)


def connection(directory: str) -> int:
    """Its number below /sys/fs/fuse/connections, which is the minor number of its device."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(" ") for line in file]
    return [int(fields[2].partition(":")[2]) for fields in lines if fields[4] == directory][-1]


def serve(device: int, number: int) -> None:
    """Answer until stdin ends."""
    system, hanging = FileSystem(), False
    waiting: list[bytes] = []
    # The kernel's greeting, which is the first request: whoever waits for its end can still be ended by a signal.
    os.write(device, system.answer(os.read(device, _BUFFER)) or b"")
    os.write(1, f"mounted {number}\n".encode())
    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if 0 in ready:
            words = os.read(0, 4096).split()
            if not words:
                return
            hanging = words[-1] == b"hang"
            while waiting and not hanging:
                tell(device, system.answer(waiting.pop(0)))
            os.write(1, b"done\n")
            continue
        try:
            data = os.read(device, _BUFFER)
        except OSError as error:
            if error.errno == errno.ENODEV:
                # Aborted from outside: the mount stays, and answers with errors, as that of a dead client does.
                os.read(0, 4096)
                return
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue
            raise
        # Read, and so in our hands: from here on the kernel lets no signal end the one who waits.
        if hanging:
            waiting.append(data)
        else:
            tell(device, system.answer(data))


def tell(device: int, answer: bytes | None) -> None:
    """Hand the answer to the kernel, if there is one and somebody still waits for it."""
    if answer is not None:
        try:
            os.write(device, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # interrupted in between
                raise


def main(directory: str) -> None:
    """Mount, serve, and leave nothing."""
    device = mount(directory)
    try:
        serve(device, connection(directory))
    finally:
        # In this order: closing the device ends what hangs.
        os.close(device)
        unmount(directory)


if __name__ == "__main__":
    main(sys.argv[1])
