"""The keys of thin jails, and of ZFS below nullfs: what they are used for is in thin.py and zfs.py."""

from __future__ import annotations

from envstart.config.load import Config
from envstart.config.schema import ALNUM, NAME, Option, directory

# Where a thin jail has its own files, below the data directory.
SKELETON = "skeleton"
_LETTERS = ALNUM | set("_-.:")


def dataset(value: str) -> str:
    """Return the name of a file system, POOL/NAME; ValueError."""
    parts = value.split("/")
    if not all(part and _LETTERS.issuperset(part) for part in parts) or not parts[0][0].isalpha():
        raise ValueError("is no dataset: POOL/NAME, of letters, digits and _ - . :")
    return value


def snapshot(value: str) -> str:
    """Return the name of a snapshot, DATASET@NAME; ValueError."""
    name, sign, label = value.partition("@")
    if not sign or not label or not _LETTERS.issuperset(label):
        raise ValueError("is no snapshot: DATASET@NAME")
    dataset(name)
    return value


OPTIONS = (
    BASE_DIR := Option(
        "BASE_DIR",
        directory,
        "",
        "thin jail: directory of this host with the base, which all jails share; it is mounted read-only on the data "
        "directory, in place of NULLFS_DATA_DIR",
        "no thin jail",
        placeholders=(NAME,),
    ),
    SKELETON_DIR := Option(
        "SKELETON_DIR",
        directory,
        "",
        "thin jail: directory of this host with what is the jail's own, mounted read-write on skeleton in the data "
        "directory",
        "NULLFS_ROOT_DIR/skeleton/NAME",
        placeholders=(NAME,),
    ),
    THIN_FSTAB := Option(
        "THIN_FSTAB",
        directory,
        "",
        "thin jail: file with further nullfs mounts, of directories and files, as fstab(5) has them, below the data "
        "directory; a line for that directory itself stands for BASE_DIR, one for skeleton in it for SKELETON_DIR",
        placeholders=(NAME,),
    ),
    ZFS_CLONE := Option(
        "ZFS_CLONE",
        dataset,
        "",
        "ZFS: dataset that is mounted on SKELETON_DIR (without a thin jail: NULLFS_DATA_DIR/NAME) unless it is there "
        "already",
        "no ZFS",
        placeholders=(NAME,),
    ),
    ZFS_SKELETON_SNAPSHOT := Option(
        "ZFS_SKELETON_SNAPSHOT",
        snapshot,
        "",
        "ZFS: snapshot that ZFS_CLONE is cloned from when it is missing; a clone is never destroyed",
        "ZFS_CLONE must be there",
    ),
)


def is_thin(config: Config) -> bool:
    """Tell if a jail is to be a thin one."""
    return any(config[key] for key in (BASE_DIR, SKELETON_DIR, THIN_FSTAB))


def warnings(config: Config) -> list[str]:
    """Return doubts about these keys."""
    return [
        f"{key.name} is {config[key]} for every jail: two jails would write to the same files"
        for key in (SKELETON_DIR, ZFS_CLONE)
        if config[key] and NAME not in config.text(key.name) and not config.origin(key.name).endswith("]")
    ]
