"""Files that hold a secret: who can read them, and who could have put another one in their place.

refuse_untrusted() and first_line() run only in a child: the file may lie on a dead server. The parent calls the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator

from envstart import errors
from envstart.system.host import Host
from envstart.system.probe import open_regular

# More than any key file has; a device or a log given by mistake is not read to its end.
_SIZE_MAX = 1 << 20


async def check(host: Host, paths: list[str], timeout: float, remedy: str) -> None:
    """Raise unless only root can read these key files: NotFoundError, PermissionDeniedError, TemporaryError."""
    with _told(paths[0], "a key", remedy):
        await host.call_with_timeout(refuse_untrusted, paths, timeout=timeout)


async def read(host: Host, path: str, timeout: float) -> str:
    """Return the first line of a file that only root can read; else as check()."""
    with _told(path, "a secret", "correct the path"):
        return str(await host.call_with_timeout(first_line, path, timeout=timeout))


@contextlib.contextmanager
def _told(path: str, what: str, remedy: str) -> Iterator[None]:
    """Tell what an error about the file means; ``what`` it holds."""
    try:
        yield
    except errors.PermissionDeniedError as error:
        raise errors.PermissionDeniedError(f"cannot trust {what}: {error.message}", hint=error.hint) from None
    except (errors.NoResponseError, errors.DeadlineExceededError) as error:
        raise errors.TemporaryError(f"cannot read {path}: {error}", hint="is it on a dead server?") from None
    except FileNotFoundError as error:
        raise errors.NotFoundError(f"cannot read {what}: {errors.reason(error)}", hint=remedy) from None
    except OSError as error:
        raise errors.TemporaryError(f"cannot read {path}: {errors.reason(error)}") from None


def refuse_untrusted(paths: list[str]) -> None:
    """Raise PermissionDeniedError for a file that others can read or change (docs/faults.md, 91); FileNotFoundError."""
    for path in paths:
        os.close(_open(path))


def first_line(path: str) -> str:
    """Return the first line without its end, read from the descriptor that was checked; else as refuse_untrusted()."""
    descriptor = _open(path)
    try:
        line = os.read(descriptor, _SIZE_MAX).split(b"\n", 1)[0].rstrip(b"\r")
    finally:
        os.close(descriptor)
    try:
        return line.decode("ascii")
    except UnicodeDecodeError:
        raise errors.PermissionDeniedError(f"{path} has characters that iscsi.conf(5) cannot hold") from None


def _wrong(path: str, error: OSError) -> Exception:
    if error.errno == errno.ENOENT:
        return FileNotFoundError(errno.ENOENT, f"{path}: {error.strerror}")
    return errors.PermissionDeniedError(f"{path}: {error.strerror}")


def _open(path: str) -> int:
    """Open a regular file of root's that nobody else can use or put there; return the descriptor."""
    _check_way(path)
    try:
        descriptor = open_regular(path, follow=True)
    except OSError as error:
        raise _wrong(path, error) from None
    status = os.fstat(descriptor)
    wrong = hint = ""
    if status.st_uid != 0:
        wrong, hint = f"{path} belongs to user {status.st_uid}", shlex.join(("chown", "root", path))
    elif status.st_mode & 0o077:
        wrong, hint = f"{path} can be used by others than root", shlex.join(("chmod", "600", path))
    elif status.st_size > _SIZE_MAX:
        wrong = f"{path} has more than {_SIZE_MAX} bytes"
    if wrong:
        os.close(descriptor)
        raise errors.PermissionDeniedError(wrong, hint=hint)
    return descriptor


def _check_way(path: str) -> None:
    """Check each part of the path: it must be root's, and lie where nobody else can put another one in its place."""
    rest = [part for part in path.split("/") if part]
    at, links = "/", 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            at = os.path.dirname(at)
            continue
        try:
            holder = os.stat(at)
            at = f"{at.rstrip('/')}/{part}"
            status = os.lstat(at)
        except OSError as error:
            raise _wrong(path, error) from None
        # In a directory with the sticky bit only the owner of an entry can take it away.
        if holder.st_uid != 0 or (holder.st_mode & 0o022 and not holder.st_mode & stat.S_ISVTX):
            text = f"{path}: others than root can write {os.path.dirname(at)}"
            raise errors.PermissionDeniedError(text, hint="chmod go-w it")
        if status.st_uid != 0:
            text = f"{at} belongs to user {status.st_uid}, who could put another file in its place"
            raise errors.PermissionDeniedError(text)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            target = os.readlink(at)
            if links > 32:
                raise errors.PermissionDeniedError(f"{path}: too many symbolic links")
            rest = [word for word in target.split("/") if word] + rest
            at = "/" if target.startswith("/") else os.path.dirname(at)
