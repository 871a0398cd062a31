"""RBD: an image in a Ceph cluster is the environment's volume (rbd-ggate(8); on Linux the kernel's rbd)."""

from envstart.config.load import Config
from envstart.config.schema import ALNUM, NAME, Option, Options
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.steps import ceph
from envstart.storage import volume, volume_keys
from envstart.storage.rbd import RBD_MAP_TIMEOUT, Mapped

TITLE = "a volume on an image in a Ceph cluster"


def image(value: str) -> str:
    """``POOL/IMAGE`` or ``POOL/NAMESPACE/IMAGE``."""
    if "@" in value:
        raise ValueError("names a snapshot, which nothing can be written to: write POOL/IMAGE, or POOL/NAMESPACE/IMAGE")
    parts = value.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError("is no image: write POOL/IMAGE, or POOL/NAMESPACE/IMAGE")
    for part in parts:
        if not (ALNUM | set("._-")).issuperset(part) or part.startswith("-"):
            raise ValueError("has something else than letters, digits and . _ - in a name")
    return value


OPTIONS: Options = (
    RBD_IMAGE := Option(
        "RBD_IMAGE",
        image,
        None,
        "image, POOL/IMAGE or POOL/NAMESPACE/IMAGE; it must have the feature exclusive-lock",
        placeholders=(NAME,),
    ),
    *ceph.OPTIONS,
    RBD_MAP_TIMEOUT,
    *volume_keys.OPTIONS,
)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the image, GELI, the check of the file system, the mount."""
    device = Mapped(config, config[RBD_IMAGE])
    return Plan("rbd", environment, config, [device, *volume.steps(environment, config, device, guarded=True)])
