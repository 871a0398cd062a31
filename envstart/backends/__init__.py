"""Backends: a module each, with the rows ``OPTIONS`` and the pure function ``plan(environment, config)``.

Only the one that is asked for is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# Name and what it brings, in the order of the README's table.
NAMES = {
    "nfs": "directories of an NFSv4 or NFSv3 server",
    "gluster": "directories in a GlusterFS volume",
    "ceph": "directories in a CephFS file system",
    "iscsi": "a volume on a LUN of an iSCSI target, over TCP or iSER",
    "geli": "a volume on an encrypted provider, or in an encrypted image file",
    "hast": "a volume on a HAST resource, on the node that is primary",
    "rbd": "a volume on an image in a Ceph cluster",
    "nullfs": "directories of this host, and thin jails (nullfs on FreeBSD, bind mounts on Linux)",
}


def backend(name: str) -> ModuleType:
    """The module of a backend in NAMES."""
    # A name in fromlist makes __import__ return the module itself; importlib would cost a millisecond more.
    module: ModuleType = __import__(f"{__name__}.{name}", fromlist=["plan"])
    return module
