"""HAST: a resource replicated between two nodes is the environment's volume on the primary (hastctl(8))."""

from envstart.config.load import Config
from envstart.config.schema import NAME, Option, Options, identifier
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.storage import hast, volume, volume_keys
from envstart.storage.hast import Role

TITLE = "a volume on a HAST resource, on the node that is primary"


def resource(value: str) -> str:
    """Read a resource's name as hast.conf(5) has it."""
    if "/" in value:
        raise ValueError("has a slash: write the resource's name, not its device")
    if value == "all":
        raise ValueError("is what hastctl(8) calls every resource")
    return identifier(value)


OPTIONS: Options = (
    HAST_RESOURCE := Option("HAST_RESOURCE", resource, None, "resource in hast.conf(5)", placeholders=(NAME,)),
    *hast.OPTIONS,
    *volume_keys.OPTIONS,
)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the role, GELI, the check of the file system, the mount."""
    device = Role(config, config[HAST_RESOURCE])
    steps = [device, *volume.steps(environment, config, device, guarded=False)]
    warnings = ["HAST_TAKEOVER is set: a start does not mind another primary"] if config[hast.HAST_TAKEOVER] else []
    return Plan("hast", environment, config, steps, warnings)
