"""CephFS: a file system of a Ceph cluster holds the directories, by ceph-fuse(8) or Linux's kernel (cephfs_kernel.py).

Facts are in docs/freebsd.md#ceph-fuse; what is said of Linux was seen of Ceph 16.2.
"""

from envstart import errors
from envstart.config import common, directories, staging
from envstart.config.load import Config
from envstart.config.schema import Option, Options, choice
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.errors import ConfigError, EnvstartError, TemporaryError
from envstart.paths import is_below
from envstart.steps import ceph, cephfs_kernel, diagnosis, fuse, fuse_tree
from envstart.steps.mount_spec import MountSpec
from envstart.steps.mountpoint import Undo
from envstart.system.host import Host

TITLE = "directories in a CephFS file system"

_SAID: diagnosis.Rows = (
    *ceph.REFUSED,
    ("Operation not permitted", errors.PermissionDeniedError, "give CEPH_USER this path: ceph fs authorize"),
    ("Permission denied", errors.PermissionDeniedError, "give CEPH_USER this path: ceph fs authorize"),
    (
        "No such file or directory",
        errors.NotFoundError,
        "make CEPH_ROOT_DIR in the file system; is CEPH_FS_NAME right?",
    ),
    ("fuse: device not found", errors.UnavailableError, "is the kernel module of FUSE loaded, and /dev/fuse there?"),
    ("unrecognized option", ConfigError, "correct the configuration"),
)

DIRECTORIES = directories.Keys("CEPH", "/", "in the file system")
OPTIONS: Options = (
    *ceph.OPTIONS,
    cephfs_kernel.CEPH_FS_NAME,
    *DIRECTORIES,
    *directories.OPTIONS,
    CEPH_CLIENT := Option(
        "CEPH_CLIENT",
        choice("auto", "kernel", "fuse"),
        "auto",
        "fuse: ceph-fuse(8); kernel: that of Linux, by mount.ceph(8); auto: kernel where that and mount.ceph are there",
    ),
    cephfs_kernel.CEPH_MODE,
    cephfs_kernel.CEPH_MOUNT_TIMEOUT,
    CEPH_MOUNT_DIR := Option(
        "CEPH_MOUNT_DIR",
        fuse.one_word,
        staging.CEPH,
        "ceph-fuse: directory for root alone, below which CEPH_ROOT_DIR itself is mounted, once for each jail or VM",
    ),
    cephfs_kernel.MOUNT_CEPH_OPT,
    *common.OPTIONS,
)


class CephFS(fuse.Client):
    """CEPH_ROOT_DIR of the file system; the table tells neither it nor the cluster."""

    fstype = "ceph-fuse"
    programs = ("ceph-fuse",)
    # On FreeBSD by libfuse 3 or by libfuse 2, whose subtype the kernel cuts.
    fstypes = ("fuse.ceph-fuse", "fusefs", "fusefs.ceph-fus", "fusefs.ceph-fuse")
    anonymous_sources = ("ceph-fuse", "/dev/fuse")

    def __init__(self, environment: Environment, config: Config, root: str, required: list[str]) -> None:
        """Make the words of ceph-fuse(8) from the configuration."""
        options = [*ceph.access(config)]
        if config[cephfs_kernel.CEPH_FS_NAME]:
            # Its name before Ceph 16, which is FreeBSD's, and later ones still know it.
            options.append(f"--client_mds_namespace={config[cephfs_kernel.CEPH_FS_NAME]}")
        mode = config[cephfs_kernel.CEPH_MODE]
        cluster = ceph.monitors_of(config) or config[ceph.CEPH_CONF] or "ceph.conf"
        # Not how the cluster is reached, but what is mounted; with the monitors, since there is nothing else to tell.
        source = f"{config[ceph.CEPH_USER]}@{cluster}:{config[cephfs_kernel.CEPH_FS_NAME] or ''}{root}"
        timeout = config[cephfs_kernel.CEPH_MOUNT_TIMEOUT]
        words = (*options, "-r", root, "-o", mode)
        point = fuse.private_point(config[CEPH_MOUNT_DIR], environment)
        spec = MountSpec("volume", self.fstype, words, source, point, timeout, required=required)
        super().__init__(spec, environment, config)

    def same(self, source: str) -> bool:
        """No table tells it."""
        return source == self.source

    async def _attempt(self, host: Host, point: str, undo: Undo) -> None:
        await ceph.check_key(host, self.config)
        await super()._attempt(host, point, undo)

    async def _why(self, host: Host, words: str, since: float, doing: str) -> EnvstartError:
        return diagnosis.first(_SAID, words, doing) or TemporaryError(
            f"cannot {doing}: {words}", hint="are the cluster's monitors and its MDS up, and can they be reached?"
        )


def inputs(environment: Environment, config: Config) -> dict[str, str]:
    """Decide which client CEPH_CLIENT=auto means: what ceph-fuse has mounted, it unmounts."""
    if config[CEPH_CLIENT] != "auto":
        return {}
    kernel = cephfs_kernel.is_there() and not fuse.is_noted(environment)
    return {"CEPH_CLIENT": "kernel" if kernel else "fuse"}


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the directories; by ceph-fuse its mount comes first, from which they are shown."""
    root = config[DIRECTORIES.root]
    items = directories.of(environment, config, DIRECTORIES)
    for item in items:
        # The client may have rights to that part of the file system alone, and so mounts nothing else.
        if not is_below(item.path, root):
            raise ConfigError(f"cannot use {item.path} for {item.name}: it does not lie in CEPH_ROOT_DIR, {root}")
    if config.inputs.get("CEPH_CLIENT", config[CEPH_CLIENT]) == "kernel":
        fuse_tree.refuse_shared(items)
        return Plan(
            "ceph", environment, config, [cephfs_kernel.KernelMount(item, environment, config) for item in items]
        )
    for item in items:
        item.path = item.path[len(root.rstrip("/")) :]
    volume = CephFS(environment, config, root, [item.path.lstrip("/") for item in items])
    return Plan("ceph", environment, config, fuse_tree.steps(volume, items))
