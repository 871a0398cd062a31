"""iSCSI: a LUN of a target is the environment's volume, over TCP or, with iSER, over InfiniBand and RoCE.

On FreeBSD by iscsictl(8), on Linux by open-iscsi. Facts about iscsictl(8) are in docs/freebsd.md#iscsi, about
reservations in docs/freebsd.md#reservations.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from envstart.config import common
from envstart.config.schema import (
    ALNUM,
    NAME,
    Option,
    boolean,
    choice,
    directory,
    host_port,
    identifier,
    integer,
    words,
)
from envstart.engine.plan import Plan
from envstart.errors import ConfigError
from envstart.storage import volume
from envstart.storage.fsck import Fsck
from envstart.storage.iscsi import Session
from envstart.storage.iscsi_initiator import initiator_of
from envstart.storage.iscsi_session import normal_portal
from envstart.storage.reservation import Reservation

if TYPE_CHECKING:
    from envstart.config.load import Config
    from envstart.config.schema import Options
    from envstart.engine.plan import Step
    from envstart.environment import Environment
    from envstart.steps.block import Block
    from envstart.system.host import Host

TITLE = "a volume on a LUN of an iSCSI target, over TCP or iSER"

# iscsictl(8) cuts what is longer, without a word (docs/freebsd.md#iscsictl).
_NAME_MAX, _PORTAL_MAX = 223, 46


def iscsi_name(value: str) -> str:
    """An iSCSI name (RFC 3720, 3.2.6.3): ``iqn.``, ``eui.`` or ``naa.``"""
    if not value.startswith(("iqn.", "eui.", "naa.")) or not (ALNUM | set(".:-_")).issuperset(value):
        raise ValueError("is no iSCSI name: iqn.YYYY-MM.DOMAIN:NAME, of letters, digits and . : -")
    kind, _, rest = value.partition(".")
    digits = len(rest) if set(string.hexdigits).issuperset(rest) else 0
    if not rest or (kind == "eui" and digits != 16) or (kind == "naa" and digits not in (16, 32)):
        raise ValueError(
            "is no iSCSI name: after eui. 16 hexadecimal digits follow, after naa. 16 or 32, after iqn. a name"
        )
    if len(value) > _NAME_MAX:
        raise ValueError(f"has more than {_NAME_MAX} characters")
    return value


def portals(value: str) -> tuple[str, ...]:
    """Addresses or names, each with a port or without; an IPv6 address in brackets if it has one."""
    portals: dict[str, str] = {}
    if "\n" in value:
        raise ValueError("has more than one line")
    for word in words(value):
        if not (ALNUM | set(".:-_[]%")).issuperset(word) or word.startswith("-"):
            raise ValueError(f"has {word!r}, which is no portal: write HOST or HOST:PORT")
        host_port(word)
        if len(word) > _PORTAL_MAX:
            raise ValueError(f"has {word!r}, which is longer than {_PORTAL_MAX} characters")
        portals.setdefault(normal_portal(word), word)
    return tuple(portals.values())


def user(value: str) -> str:
    """A CHAP name: it stands between quotes in iscsi.conf(5), which knows no escape."""
    if '"' in value or not value.isascii() or not value.isprintable() or len(value) > _NAME_MAX:
        raise ValueError("is no CHAP name: it has a quote or a character that is not plain text")
    return value


OPTIONS: Options = (
    Option("ISCSI_PORTAL", portals, None, "portal of the target, HOST or HOST:PORT; of several the next one is tried"),
    Option("ISCSI_TARGET", iscsi_name, None, "name of the target", placeholders=(NAME,)),
    Option("ISCSI_LUN", integer(0, 16383), "0", "number of the LUN"),
    Option(
        "ISCSI_SERIAL",
        identifier,
        "",
        "serial number that the LUN must have (diskinfo -s; Linux: sg_vpd -p sn)",
        "any",
        placeholders=(NAME,),
    ),
    Option("ISCSI_PARTITION", identifier, "", "partition of the LUN, as in p1 (Linux: 1)", "the whole LUN"),
    Option("ISCSI_INITIATOR", iscsi_name, "", "name of this host's initiator", "the system's own"),
    Option("ISCSI_PROTOCOL", choice("iSCSI", "iSER"), "iSCSI", "iSER: over InfiniBand or RoCE (FreeBSD: kldload iser)"),
    Option("ISCSI_CHAP_USER", user, "", "CHAP: name this host logs in with", placeholders=(NAME,)),
    Option(
        "ISCSI_CHAP_SECRET_FILE", directory, "", "CHAP: file with the secret (root's, mode 600)", placeholders=(NAME,)
    ),
    Option("ISCSI_MUTUAL_USER", user, "", "mutual CHAP: name the target answers with", placeholders=(NAME,)),
    Option(
        "ISCSI_MUTUAL_SECRET_FILE",
        directory,
        "",
        "mutual CHAP: file with the target's secret (root's, mode 600)",
        placeholders=(NAME,),
    ),
    Option("ISCSI_HEADER_DIGEST", choice("None", "CRC32C"), "None", "checksums of headers"),
    Option("ISCSI_DATA_DIGEST", choice("None", "CRC32C"), "None", "checksums of data"),
    Option(
        "ISCSI_MULTIPATH",
        identifier,
        "",
        "FreeBSD: name of the gmultipath(8) device that the LUN is, over all portals at once; label it once, by hand",
        "one portal at a time",
        placeholders=(NAME,),
    ),
    Option("ISCSI_LOGIN_TIMEOUT", integer(1, 3600, "seconds"), "15", "seconds a login may take, disk included"),
    Option("ISCSI_START_DAEMON", boolean, "0", "start iscsid(8) when it does not run"),
    Option(
        "FENCE",
        choice("none", "scsi3"),
        "none",
        "scsi3: reserve the LUN, so that no other host can write to it; none: only a mark in the volume warns others",
    ),
    *volume.GELI,
    *volume.VOLUME,
    *common.OPTIONS,
)


def plan(environment: Environment, config: Config) -> Plan:
    """Session, reservation, GELI, a look, the mount."""
    for name in ("CHAP", "MUTUAL"):
        if (config[f"ISCSI_{name}_USER"] is None) != (config[f"ISCSI_{name}_SECRET_FILE"] is None):
            raise ConfigError(f"cannot use half of it: ISCSI_{name}_USER and ISCSI_{name}_SECRET_FILE belong together")
    if config["ISCSI_MUTUAL_USER"] and not config["ISCSI_CHAP_USER"]:
        raise ConfigError("cannot use mutual CHAP alone: set ISCSI_CHAP_USER and ISCSI_CHAP_SECRET_FILE too")
    device: Block = Session(config, config["ISCSI_TARGET"], config["ISCSI_PORTAL"])
    steps: list[Step] = [device]
    read_only = "ro" in config["VOLUME_OPTIONS"]
    fenced = config["FENCE"] == "scsi3"
    if fenced and config["ISCSI_MULTIPATH"]:
        raise ConfigError(
            "cannot use FENCE=scsi3 with ISCSI_MULTIPATH: only one session can hold the reservation",
            hint="unset one of them",
        )
    if fenced and not read_only:
        device = Reservation(config, device)
        steps.append(device)
    steps += volume.steps(environment, config, device, guarded=True)
    if isinstance(device, Reservation):
        device.guard = next((step for step in steps if isinstance(step, Fsck) and step.lower is device), None)
    return Plan("iscsi", environment, config, steps, _warnings(config, read_only))


def _warnings(config: Config, read_only: bool) -> list[str]:
    warnings = []
    if config["FENCE"] == "none" and not read_only and not config["ISCSI_MULTIPATH"]:
        warnings.append("FENCE is none: two hosts that start it at one moment both mount it; FENCE=scsi3 prevents that")
    if config["FENCE"] == "scsi3" and read_only:
        warnings.append("FENCE is not used: VOLUME_OPTIONS has ro")
    if config["ISCSI_MULTIPATH"]:
        if len(config["ISCSI_PORTAL"]) < 2:
            warnings.append("ISCSI_MULTIPATH with one portal is never more than degraded")
        warnings.append(
            "gmultipath(8) changes paths only if kern.iscsi.fail_on_disconnection=1 (else I/O waits for the lost path)"
        )
    if not config["ISCSI_CHAP_USER"]:
        warnings.append("ISCSI_CHAP_USER is not set: whoever reaches the portal can log in")
    return warnings


def derived(plan: Plan, host: Host) -> dict[str, str]:
    """Return the values of keys whose defaults the system has."""
    return {"ISCSI_INITIATOR": initiator_of(host).own_name(plan.config)}
