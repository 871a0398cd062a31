"""Backends: a module each, with the rows ``OPTIONS`` and the pure function ``plan(environment, config)``.

One whose plan depends on more than its keys also has ``inputs(environment, config)``, which reads that beforehand.

Only the one that is asked for is imported.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from envstart.config.load import Config
    from envstart.engine.plan import Plan
    from envstart.environment import Environment

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
    return importlib.import_module(f"{__name__}.{name}")


def read_inputs(module: ModuleType, environment: Environment, config: Config) -> Config:
    """Read what the plan of this backend takes from elsewhere on the host; ConfigError, PermissionDeniedError,
    TemporaryError."""
    if any(key.endswith(("VOLUME_DIR", "_MOUNT_DIR")) for key in config):
        from envstart.config import staging

        config = staging.keep_old(config, environment)
    read = getattr(module, "inputs", None)
    return config if read is None else config.with_inputs(read(environment, config))


def make_plan(module: ModuleType, environment: Environment, config: Config) -> Plan:
    """Make the plan of an environment after reading what it takes from elsewhere."""
    plan: Plan = module.plan(environment, read_inputs(module, environment, config))
    return plan
