"""A mount as the configuration says it: a value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from envstart.engine.plan import Server

if TYPE_CHECKING:
    from envstart.steps.block import Block


class MountSpec(NamedTuple):
    """A mount of ``source`` on ``point``."""

    # The directory's name to the jail or VM, unique in its plan.
    name: str
    fstype: str
    options: tuple[str, ...]
    source: str
    point: str
    # Seconds for one attempt to mount it.
    timeout: float
    # Any of them must be up.
    servers: tuple[Server, ...] = ()
    # The block device that the files are on.
    lower: Block | None = None
    # A directory that the source lies in, and below which no link may lead it elsewhere; "": links are fine.
    resolve_within: str = ""
    # What must be in it, in place of what REQUIRE_NAME says.
    required: Sequence[str] | None = None
    # It serves all jails and VMs, and stays while a mount from below ``shared`` is there that is not from one of
    # ``own``, the sources of this one.
    shared: str = ""
    own: Sequence[str] = ()
    # Where else something of the jail or VM is mounted.
    beside: Collection[str] = ()
    # Locks of files go through rpc.lockd(8), so that a forced unmount can crash the host (umount(8)).
    lockd: bool = False
    # The directory in which the mount point is made, for root alone; "": the workdir, for all.
    private: str = ""
