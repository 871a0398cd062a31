"""The keys of an iSCSI session: which LUN of which target, and how to log in."""

import string
from collections.abc import Callable

from envstart.config import common
from envstart.config.load import Config
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
from envstart.errors import ConfigError
from envstart.steps import keyfile
from envstart.storage.iscsi_session import normal_portal
from envstart.system.host import Host

# iscsictl(8) cuts what is longer, without a word (docs/freebsd.md#iscsictl).
_NAME_MAX, _PORTAL_MAX = 223, 46


def iscsi_name(value: str) -> str:
    """Read an iSCSI name (RFC 3720, 3.2.6.3): iqn., eui. or naa., and what belongs after it."""
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
    """Read addresses or names, each with a port or without; an IPv6 address in brackets if it has one."""
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
    """Read a CHAP name: it stands between quotes in iscsi.conf(5), which knows no escape."""
    if '"' in value or not value.isascii() or not value.isprintable() or len(value) > _NAME_MAX:
        raise ValueError("is no CHAP name: it has a quote or a character that is not plain text")
    return value


OPTIONS = (
    ISCSI_PORTAL := Option(
        "ISCSI_PORTAL", portals, None, "portal of the target, HOST or HOST:PORT; of several the next one is tried"
    ),
    ISCSI_TARGET := Option("ISCSI_TARGET", iscsi_name, None, "name of the target", placeholders=(NAME,)),
    ISCSI_LUN := Option("ISCSI_LUN", integer(0, 16383), "0", "number of the LUN"),
    ISCSI_SERIAL := Option(
        "ISCSI_SERIAL",
        identifier,
        "",
        "serial number that the LUN must have (diskinfo -s; Linux: sg_vpd -p sn)",
        "any",
        placeholders=(NAME,),
    ),
    ISCSI_PARTITION := Option(
        "ISCSI_PARTITION", identifier, "", "partition of the LUN, as in p1 (Linux: 1)", "the whole LUN"
    ),
    ISCSI_INITIATOR := Option("ISCSI_INITIATOR", iscsi_name, "", "name of this host's initiator", "the system's own"),
    ISCSI_PROTOCOL := Option(
        "ISCSI_PROTOCOL", choice("iSCSI", "iSER"), "iSCSI", "iSER: over InfiniBand or RoCE (FreeBSD: kldload iser)"
    ),
    ISCSI_CHAP_USER := Option("ISCSI_CHAP_USER", user, "", "CHAP: name this host logs in with", placeholders=(NAME,)),
    ISCSI_CHAP_SECRET_FILE := Option(
        "ISCSI_CHAP_SECRET_FILE", directory, "", "CHAP: file with the secret (root's, mode 600)", placeholders=(NAME,)
    ),
    ISCSI_MUTUAL_USER := Option(
        "ISCSI_MUTUAL_USER", user, "", "mutual CHAP: name the target answers with", placeholders=(NAME,)
    ),
    ISCSI_MUTUAL_SECRET_FILE := Option(
        "ISCSI_MUTUAL_SECRET_FILE",
        directory,
        "",
        "mutual CHAP: file with the target's secret (root's, mode 600)",
        placeholders=(NAME,),
    ),
    ISCSI_HEADER_DIGEST := Option("ISCSI_HEADER_DIGEST", choice("None", "CRC32C"), "None", "checksums of headers"),
    ISCSI_DATA_DIGEST := Option("ISCSI_DATA_DIGEST", choice("None", "CRC32C"), "None", "checksums of data"),
    ISCSI_MULTIPATH := Option(
        "ISCSI_MULTIPATH",
        identifier,
        "",
        "FreeBSD: name of the gmultipath(8) device that the LUN is, over all portals at once; label it once, by hand",
        "one portal at a time",
        placeholders=(NAME,),
    ),
    ISCSI_LOGIN_TIMEOUT := Option(
        "ISCSI_LOGIN_TIMEOUT", integer(1, 3600, "seconds"), "15", "seconds a login may take, disk included"
    ),
    ISCSI_START_DAEMON := Option("ISCSI_START_DAEMON", boolean, "0", "start iscsid(8) when it does not run"),
    FENCE := Option(
        "FENCE",
        choice("none", "scsi3"),
        "none",
        "scsi3: reserve the LUN, so that no other host can write to it; none: only a mark in the volume warns others",
    ),
)


async def read_secrets(host: Host, config: Config, why_unfit: Callable[[str], str]) -> list[str]:
    """Return the secrets of CHAP and of mutual CHAP, "" without one; ConfigError if the initiator cannot use one."""
    secrets = []
    for path in (config[ISCSI_CHAP_SECRET_FILE], config[ISCSI_MUTUAL_SECRET_FILE]):
        secrets.append(await keyfile.read(host, path, config[common.PROBE_TIMEOUT]) if path else "")
        if path and (why := why_unfit(secrets[-1])):
            raise ConfigError(f"cannot use the secret in {path}: {why}")
    return secrets
