"""Directories for root alone, below which file systems are mounted that jails and VMs see only a part of.

Not below /var/run: rc.d/cleanvar of FreeBSD 12 and 13 deletes files there without find(1)'s -x, so also the files of
what is mounted (libexec/rc/rc.d/cleanvar). What an earlier version has mounted there stays in use until it is stopped.
"""

from __future__ import annotations

import os
import sys

from envstart.config.load import Config
from envstart.environment import Environment, file_name

DIR = "/var/db/envstart"
# Where missing directories may be made.
PARENT = os.path.dirname(DIR)
# Where earlier versions had it.
OLD_DIR = "/var/run/envstart"
VOLUMES, GLUSTER, CEPH = f"{DIR}/volumes", f"{DIR}/gluster", f"{DIR}/ceph"
_NAMES = {"VOLUME_DIR": "volumes", "GLUSTER_MOUNT_DIR": "gluster", "CEPH_MOUNT_DIR": "ceph"}


def keep_old(config: Config, environment: Environment) -> Config:
    """Return a configuration by which what is still mounted at the old place of a jail or VM is used there."""
    for key in config:
        if key in _NAMES and config.origin(key) == "default":
            old = f"{OLD_DIR}/{_NAMES[key]}"
            if _is_mounted(old, file_name(environment)):
                return config.relocated(key, old)
    return config


def _is_mounted(directory: str, name: str) -> bool:
    try:
        # Its parent is looked at: what is mounted can be dead.
        if name not in os.listdir(directory):
            return False
    except OSError:
        return False
    if sys.platform.startswith("linux"):
        from envstart.mounts.table_linux import mount_table
    else:
        from envstart.mounts.table_freebsd import mount_table
    try:
        point = f"{os.path.realpath(directory)}/{name}"
        return any(entry.point == point for entry in mount_table())
    except (ImportError, AttributeError, OSError, ValueError):
        # Whether it is cannot be told: the step that mounts it finds out.
        return True
