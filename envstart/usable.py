"""Is a directory that is mounted of use? An NFSv4 server, for one, shows as mounted what it does not export (transcript
nfs.txt), and CBSD's own look at the lease comes before the hook has mounted it (contract §2.3)."""

from __future__ import annotations

import errno
import os

from . import verdict
from .errors import Denied, Error, Missing, NoAnswer, NoTime, Temporary, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host
    from .mount import Mount

# CBSD's own rule for a lease (contract §2.3): cbsdd touches it every 5 minutes.
LEASE_SECONDS = 30 * 60
# What a server says that does not take root for root.
NOT_ROOT = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
_AS_ROOT = "let the server map root to root for this host (maproot, no_root_squash)"


def meant(mount: Mount, host: Host, word: str) -> str:
    """FreeBSD's NFSv4 server lists nothing in what it does not export, and answers all the same; of all else that
    cannot be listed something is broken."""
    export = mount.fstype == "nfs" and host.platform == "freebsd"
    return verdict.BROKEN if word == verdict.UNREADABLE and not export else word


async def judge(mount: Mount, host: Host, point: str, patience: float | None = None) -> Error | None:
    """Mounted is not yet usable (transcript nfs.txt): None, or why not; raises what a new mount cannot mend.

    ``patience``: seconds in which it must answer, in place of the mount's own.
    """
    config, lease = mount.config, mount.lease(point)
    doing = f"cannot use {point}: {mount.source}"
    down = await mount.down(host)
    if down:
        return NoAnswer(f"{doing} is mounted there, but {down}")
    gone = await mount.gone(host)
    if gone:
        # It would answer all the same, out of memory.
        return Temporary(f"{doing} is mounted there, but {gone}")
    try:
        word, detail, other = await host.probe(
            verdict.look, point, tuple(mount.required), lease, timeout=patience or mount.patience
        )
    except NoAnswer as error:
        return NoAnswer(f"{doing} is mounted there but gives {error}; is the server up?")
    except NoTime as error:
        raise NoTime(f"{doing} is mounted there but gives {error}; is the server up?") from None
    except OSError as error:
        raise Error(f"{doing}: {reason(error)}") from None
    word = meant(mount, host, word)
    if word == verdict.BROKEN:
        return Temporary(f"{doing} is mounted there but broken: {detail}")
    if word == verdict.DENIED:
        raise Denied(f"{doing}: {detail}; {_AS_ROOT}")
    if word == verdict.LACKING:
        raise Missing(f"{doing} has no {detail}, which {mount.requires()}; is it the right directory?")
    if word in (verdict.EMPTY, verdict.UNREADABLE):
        text = f"{doing} is empty and takes no file" if word == verdict.EMPTY else f"{doing} cannot be listed"
        text += f" ({detail})"
        if config["EMPTY_DIR"] == "refuse" and detail in NOT_ROOT:
            raise Denied(f"{text}; {_AS_ROOT}, or set EMPTY_DIR=warn")
        if detail not in NOT_ROOT:
            text += ": an NFSv4 server shows what it does not export to this host like that"
        if config["EMPTY_DIR"] == "refuse":
            # Who has it mounted sees nothing of what is exported later.
            return Missing(f"{text}; export it and start again, or set EMPTY_DIR=warn")
        if config["EMPTY_DIR"] == "warn":
            host.report.warn(text)
    if other is not None and other[1] < LEASE_SECONDS:
        node, age = other
        text = (
            f"{doing}: node {node} had environment {mount.environment.name} in use {age // 60} minutes ago "
            f"({point}/locked)"
        )
        if config["LEASE"] == "refuse":
            raise Temporary(f"{text}; stop it there, or wait until that is {LEASE_SECONDS // 60} minutes old")
        host.report.warn(text)
    return None
