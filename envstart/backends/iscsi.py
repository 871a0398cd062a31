"""iSCSI: a LUN of a target is the environment's volume, over TCP or, with iSER, over InfiniBand and RoCE.

On FreeBSD by iscsictl(8), on Linux by open-iscsi. Facts about iscsictl(8) are in docs/freebsd.md#iscsi, about
reservations in docs/freebsd.md#reservations.
"""

from envstart.config.load import Config
from envstart.config.schema import Options
from envstart.engine.plan import Plan, Step
from envstart.environment import Environment
from envstart.errors import ConfigError
from envstart.steps.block import Block
from envstart.storage import iscsi_keys, volume, volume_keys
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.reservation import Reservation
from envstart.system.host import Host

TITLE = "a volume on a LUN of an iSCSI target, over TCP or iSER"

OPTIONS: Options = (*iscsi_keys.OPTIONS, *volume_keys.OPTIONS)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan session, reservation, GELI, the check of the file system, the mount."""
    for user, secret in (
        (iscsi_keys.ISCSI_CHAP_USER, iscsi_keys.ISCSI_CHAP_SECRET_FILE),
        (iscsi_keys.ISCSI_MUTUAL_USER, iscsi_keys.ISCSI_MUTUAL_SECRET_FILE),
    ):
        if (config[user] is None) != (config[secret] is None):
            raise ConfigError(f"cannot use half of it: {user.name} and {secret.name} belong together")
    if config[iscsi_keys.ISCSI_MUTUAL_USER] and not config[iscsi_keys.ISCSI_CHAP_USER]:
        raise ConfigError("cannot use mutual CHAP alone: set ISCSI_CHAP_USER and ISCSI_CHAP_SECRET_FILE too")
    device: Block = Session(config, config[iscsi_keys.ISCSI_TARGET], config[iscsi_keys.ISCSI_PORTAL])
    steps: list[Step] = [device]
    read_only = volume_keys.is_read_only(config)
    fenced = config[iscsi_keys.FENCE] == "scsi3"
    if fenced and config[iscsi_keys.ISCSI_MULTIPATH]:
        raise ConfigError(
            "cannot use FENCE=scsi3 with ISCSI_MULTIPATH: only one session can hold the reservation",
            hint="unset one of them",
        )
    if fenced and not read_only:
        glance = None if volume_keys.is_encrypted(config) else volume.glance(environment, config)
        device = Reservation(config, device, glance)
        steps.append(device)
    steps += volume.steps(environment, config, device, guarded=True)
    return Plan("iscsi", environment, config, steps, _warnings(config, read_only=read_only))


def _warnings(config: Config, *, read_only: bool) -> list[str]:
    warnings = []
    if config[iscsi_keys.FENCE] == "none" and not read_only and not config[iscsi_keys.ISCSI_MULTIPATH]:
        warnings.append("FENCE is none: two hosts that start it at one moment both mount it; FENCE=scsi3 prevents that")
    if config[iscsi_keys.FENCE] == "scsi3" and read_only:
        warnings.append("FENCE is not used: VOLUME_OPTIONS has ro")
    if config[iscsi_keys.ISCSI_MULTIPATH]:
        if len(config[iscsi_keys.ISCSI_PORTAL]) < 2:
            warnings.append("ISCSI_MULTIPATH with one portal is never more than degraded")
        warnings.append(
            "gmultipath(8) changes paths only if kern.iscsi.fail_on_disconnection=1 (else I/O waits for the lost path)"
        )
    if not config[iscsi_keys.ISCSI_CHAP_USER]:
        warnings.append("ISCSI_CHAP_USER is not set: whoever reaches the portal can log in")
    return warnings


def derived(plan: Plan, host: Host) -> dict[str, str]:
    """Return the values of keys whose defaults the system has."""
    return {"ISCSI_INITIATOR": initiator_of(host).own_name(plan.config)}
