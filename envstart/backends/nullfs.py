"""nullfs: directories of this host, shown at another place, and thin jails made of them (thin.py).

The smallest backend: begin here to write one.
"""

from envstart.config import common, directories
from envstart.config.load import Config
from envstart.config.schema import Option, Options, mount_words, require_mounted
from envstart.engine.plan import Plan, Step
from envstart.environment import Environment
from envstart.errors import ConfigError
from envstart.paths import is_below
from envstart.steps import thin_keys
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import NULLFS_TIMEOUT, MountSpec

TITLE = "directories of this host, and thin jails (nullfs on FreeBSD, bind mounts on Linux)"


DIRECTORIES = directories.Keys("NULLFS", None, "of this host")
OPTIONS: Options = (
    *DIRECTORIES,
    *directories.OPTIONS,
    NULLFS_REQUIRE_MOUNTED := require_mounted("NULLFS_REQUIRE_MOUNTED", "NULLFS_ROOT_DIR", "NULLFS_ROOT_DIR itself"),
    MOUNT_NULLFS_OPT := Option(
        "MOUNT_NULLFS_OPT", mount_words, "rw", 'options of mount_nullfs(8), as in "ro nosuid"; nocover is always added'
    ),
    *thin_keys.OPTIONS,
    *common.OPTIONS,
)


def inputs(environment: Environment, config: Config) -> dict[str, str]:
    """Read the lines of THIN_FSTAB."""
    path = config[thin_keys.THIN_FSTAB]
    if not path:
        return {}
    from envstart.steps import thin

    return thin.inputs(path, config[common.PROBE_TIMEOUT])


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the mounts of one jail or VM."""
    items = directories.of(environment, config, DIRECTORIES)
    layers = []
    if thin_keys.is_thin(config):
        from envstart.steps import thin

        layers.extend(thin.lines(environment, config, config[DIRECTORIES.root]))
        items = [item for item in items if item.name != "data"]
    for item in (*items, *layers):
        if is_below(item.path, item.point) or is_below(item.point, item.path):
            raise ConfigError(f"cannot mount {item.path} on {item.point}: one lies inside the other")
    points = {item.point for item in (*items, *layers)}
    steps: list[Step] = []
    for item in items:
        spec = MountSpec(
            item.name,
            "nullfs",
            config[MOUNT_NULLFS_OPT],
            item.path,
            item.point,
            NULLFS_TIMEOUT,
            shared=config[DIRECTORIES.root] if item.shared else "",
            own=[other.path for other in items],
            beside=points,
        )
        steps.append(Mount(spec, environment, config))
    if clone := config[thin_keys.ZFS_CLONE]:
        from envstart.steps import zfs

        own = next(item for item in (*layers, *items) if item.name == ("skeleton" if layers else "data"))
        steps += zfs.steps(environment, config, clone, own.path)
    elif config[thin_keys.ZFS_SKELETON_SNAPSHOT]:
        raise ConfigError("cannot clone ZFS_SKELETON_SNAPSHOT: set ZFS_CLONE to the name that the clone shall have")
    if layers:
        steps += thin.steps(layers, points, environment, config)
    if config[NULLFS_REQUIRE_MOUNTED]:
        from envstart.steps import required

        root = config[DIRECTORIES.root]
        steps = [*required.steps(config, NULLFS_REQUIRE_MOUNTED, root, root), *steps]
    return Plan("nullfs", environment, config, steps, thin_keys.warnings(config))
