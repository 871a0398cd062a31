"""HAST: a resource replicated between two nodes is the environment's volume on the primary (hastctl(8))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envstart.config import common
from envstart.config.schema import NAME, Option, boolean, choice, identifier, integer
from envstart.engine.plan import Plan
from envstart.storage import volume
from envstart.storage.hast import Role

if TYPE_CHECKING:
    from envstart.config.load import Config
    from envstart.config.schema import Options
    from envstart.environment import Environment

TITLE = "a volume on a HAST resource, on the node that is primary"


def resource(value: str) -> str:
    """A resource's name as hast.conf(5) has it."""
    if "/" in value:
        raise ValueError("has a slash: write the resource's name, not its device")
    if value == "all":
        raise ValueError("is what hastctl(8) calls every resource")
    return identifier(value)


OPTIONS: Options = (
    Option("HAST_RESOURCE", resource, None, "resource in hast.conf(5)", placeholders=(NAME,)),
    Option(
        "HAST_TAKEOVER",
        boolean,
        "0",
        "become primary although the other node is primary too; both then have data that the other lacks",
    ),
    Option(
        "HAST_WAIT",
        integer(1, 3600, "seconds"),
        "25",
        "seconds that a primary on the other node gets to go away, and the device to appear; half of it is how long a "
        "start listens for such a primary, if that node does not say what it is",
    ),
    Option("HAST_STOP_ROLE", choice("secondary", "init"), "secondary", "role of this node after a stop"),
    *volume.GELI,
    *volume.VOLUME,
    *common.OPTIONS,
)


def plan(environment: Environment, config: Config) -> Plan:
    """The role, GELI, a look, the mount."""
    device = Role(config, config["HAST_RESOURCE"])
    steps = [device, *volume.steps(environment, config, device, guarded=False)]
    warnings = ["HAST_TAKEOVER is set: a start does not mind another primary"] if config["HAST_TAKEOVER"] else []
    return Plan("hast", environment, config, steps, warnings)
