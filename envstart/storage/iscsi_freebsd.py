"""The iSCSI initiator of FreeBSD: its sessions as iscsictl(8) lists them, their disks, its configuration file.

What ``iscsictl -L`` says decides, never a command's status: a login is asynchronous, a removal does not care whether
the disk is in use, and ``-w`` waits for the sessions of all others (docs/freebsd.md#iscsi).
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from envstart.config.load import Config
from envstart.errors import UNREADABLE, ConfigError, EnvstartError, PermissionDeniedError, UnavailableError
from envstart.steps import diagnosis
from envstart.storage import iscsi_keys
from envstart.storage.iscsi_session import CONNECTED, SessionInfo
from envstart.system.command import Result
from envstart.system.host import Host

_LIST = ("iscsictl", "-L", "--libxo", "json")
# The only listing that names the session of a bus; it has the secrets of all sessions in it as well.
_LIST_IDS = ("iscsictl", "-L", "-v", "--libxo", "json")
_LIST_BUSES = ("camcontrol", "devlist", "-v")
# Shown to people for a number that nobody knows yet.
DISK = "/dev/daN"
# Seconds until the kernel takes a silent target for lost: kern.iscsi.ping_timeout is 5, and looked at once a second.
NOTICED = 8.0
# The nickname in the configuration file that only our own command ever sees.
NICK = "envstart"
# Keywords of iscsi.conf(5) whose values are words; all others stand between quotes.
_BARE = ("HeaderDigest", "DataDigest", "Protocol")
# iscsictl(8) cuts a longer secret without a word (docs/freebsd.md#iscsictl).
_SECRET_MAX = 16
# iscsictl(8)'s own default name of the initiator.
_DEFAULT_NAME = "iqn.1994-09.org.freebsd:"
_WANTS_CHAP = "the target wants CHAP: set ISCSI_CHAP_USER and ISCSI_CHAP_SECRET_FILE"
_CORRECT = "correct ISCSI_{0}_USER and the secret in ISCSI_{0}_SECRET_FILE"
# States that iscsid(8) reports, and whose fault they are (docs/freebsd.md#iscsi-listing); all else can heal.
OF_STATE: diagnosis.Rows = (
    ("Authentication failure", PermissionDeniedError, _CORRECT.format("CHAP")),
    ("Unsupported AuthMethod", PermissionDeniedError, _WANTS_CHAP),
    ("Authentication required", PermissionDeniedError, _WANTS_CHAP),
    ("Mutual CHAP failed", PermissionDeniedError, _CORRECT.format("MUTUAL")),
    ("Authorization failure", PermissionDeniedError, "let the target accept this initiator"),
    ("Not found", UnavailableError, "the portal has no such target; correct ISCSI_TARGET, or export it"),
    ("Target removed", UnavailableError, "the portal has no such target any more"),
    ("Unsupported version", ConfigError, "the target speaks another version"),
    ("iSER not supported", ConfigError, "set ISCSI_PROTOCOL=iSCSI, or load the iser module"),
    ("Session type not supported", ConfigError, "the target offers no disks"),
    ("malformed address", ConfigError, "correct ISCSI_PORTAL"),
    ("empty address", ConfigError, "correct ISCSI_PORTAL"),
    (diagnosis.UNRESOLVED, EnvstartError, "correct the portal's name, or the resolver"),
)
# Messages of iscsictl(8) about a login that it does not hand on.
OF_LOGIN: diagnosis.Rows = (
    ("failed to open /dev/iscsi", UnavailableError, "kldload iscsi"),
    ("Invalid argument", ConfigError, "correct the configuration"),
    ("error in configuration", ConfigError, "correct the configuration"),
)
# Somebody else was faster with the same session.
ALREADY: tuple[str, ...] = ("ISCSISADD: Device busy",)
# A session that the target has redirected is listed under its new address (see iscsi_redirection.py).
REDIRECTS = True


async def sessions(host: Host) -> list[SessionInfo]:
    """Return all sessions of the host, as they are now."""
    return await host.ask(_LIST, parse)


async def disks(host: Host, session: SessionInfo) -> dict[int, str]:
    """Return the disks of a session by LUN, also of one that is down: they are there, and hang, until it is removed."""
    if session.disks or session.state == CONNECTED:
        return session.disks
    # iscsictl does not list those; the bus that carries the session's number does (docs/freebsd.md#iscsi-disks).
    number = (await numbers(host)).get((session.target, session.portal), -1)
    return (await host.ask(_LIST_BUSES, parse_buses)).get(number, {})


async def numbers(host: Host) -> dict[tuple[str, str], int]:
    """Return the kernel's numbers of all sessions, by target and portal."""
    return await host.ask(_LIST_IDS, parse_ids, secret=True)


async def check_daemon(host: Host, act: str, *, start: bool) -> None:
    """Raise UnavailableError if iscsid(8) does not run, and is not to be started."""
    if (await host.run(("service", "iscsid", "onestatus"), timeout=10, read_only=True)).status == 0:
        return
    if start:
        await host.run(("service", "iscsid", "onestart"), timeout=30)
        return
    raise UnavailableError(
        f"cannot {act}: iscsid(8) is not running",
        hint="service iscsid enable && service iscsid start, or ISCSI_START_DAEMON=1",
    )


async def settings(host: Host, config: Config, target: str, portal: str) -> str:
    """Return the configuration for login(). It holds the secrets, which are read here."""
    chap_secret, mutual_secret = await iscsi_keys.read_secrets(host, config, _why_unfit)
    rows = {
        "TargetName": target,
        "TargetAddress": portal,
        "InitiatorName": config[iscsi_keys.ISCSI_INITIATOR],
        "HeaderDigest": config[iscsi_keys.ISCSI_HEADER_DIGEST],
        "DataDigest": config[iscsi_keys.ISCSI_DATA_DIGEST],
        "chapIName": config[iscsi_keys.ISCSI_CHAP_USER],
        "chapSecret": chap_secret,
        "tgtChapName": config[iscsi_keys.ISCSI_MUTUAL_USER],
        "tgtChapSecret": mutual_secret,
        "Protocol": config[iscsi_keys.ISCSI_PROTOCOL],
    }
    return configuration(rows)


async def login(host: Host, config: Config, target: str, portal: str, text: str) -> Result:
    """Add a session, which iscsid(8) then brings up by itself."""
    # Standard input is a file that nobody else can open: the secret is in no argv, and in no file with a name.
    return await host.run(("iscsictl", "-A", "-c", "/dev/stdin", "-n", NICK), stdin=text, keep_locks=True)


async def logout(host: Host, session: SessionInfo) -> Result:
    """End it, and whatever waits for its disks."""
    return await host.run(logout_argv(session), timeout=max(5.0, host.deadline.left()), use_rollback_reserve=True)


async def rescan(host: Host, session: SessionInfo, timeout: float) -> None:
    """Look for LUNs that were added to the target after the login (docs/freebsd.md#camcontrol)."""
    await host.run(("camcontrol", "rescan", str(session.bus)), timeout=timeout)


def tidy(target: str, portals: Sequence[str]) -> None:
    """Take away what a killed login has left: nothing has a name here."""


def needs(user: str | None) -> str:
    """Tell what a login by the command of login_argv() needs beside it; "" if nothing."""
    return f"CHAP as {user} needs an iscsi.conf(5) instead of -p and -t" if user else ""


def login_argv(target: str, portal: str) -> tuple[str, ...]:
    """Return the command of a login for people: it needs no file."""
    return ("iscsictl", "-A", "-p", portal, "-t", target)


def logout_argv(session: SessionInfo) -> tuple[str, ...]:
    """Return the command that ends it."""
    return ("iscsictl", "-R", "-p", session.portal, "-t", session.target)


def own_name(config: Config) -> str:
    """Return the name that this host's initiator logs in with."""
    return config[iscsi_keys.ISCSI_INITIATOR] or _DEFAULT_NAME + os.uname().nodename


def is_on(source: str, disk: str) -> bool:
    """Tell whether a mount is from a disk, or from a partition or an .eli of it, as far as its name tells."""
    name = source.removeprefix("/dev/")
    return name.startswith(disk) and not name[len(disk) :][:1].isdigit()


def configuration(rows: Mapping[str, str | None]) -> str:
    """Return an iscsi.conf(5) for one target. What cannot stand between quotes was refused before."""
    lines = [f"  {key} = {value}" if key in _BARE else f'  {key} = "{value}"' for key, value in rows.items() if value]
    return "\n".join([f"{NICK} {{", *lines, "}", ""])


def _why_unfit(secret: str) -> str:
    if not secret or '"' in secret or not secret.isprintable():
        return "iscsi.conf(5) cannot hold an empty one, nor a quote"
    return f"iscsictl(8) cuts it after {_SECRET_MAX} characters; make it shorter" if len(secret) > _SECRET_MAX else ""


def parse(result: Result) -> list[SessionInfo]:
    """Read ``iscsictl -L --libxo json`` (docs/freebsd.md#iscsi-listing). UNREADABLE when it is not whole."""
    import json

    if result.status != 0:
        if "failed to open /dev/iscsi" in result.words:
            raise UnavailableError(f"cannot use iSCSI: {result.words}", hint="kldload iscsi")
        raise ValueError(result.words)
    return [_listed(row) for row in json.loads(result.out)["iscsictl"].get("session", [])]


def _listed(row: dict[str, Any]) -> SessionInfo:
    devices = row.get("devices") or {}
    disks = {int(lun["lun"]): str(lun["device"]) for lun in devices.get("lun") or []}
    name, portal, state = (str(row[key]) for key in ("name", "portal", "state"))
    # Depending on the version the devices follow the word.
    state = CONNECTED if state.partition(":")[0] == CONNECTED else state
    return SessionInfo(name, portal, state, disks, int(devices.get("scbus", -1)))


def parse_ids(result: Result) -> dict[tuple[str, str], int]:
    """Read the numbers of sessions by target and portal from ``iscsictl -L -v --libxo json``, and nothing else."""
    import json

    try:
        rows = json.loads(result.out)["iscsictl"].get("session", [])
        return {(row["target"]["name"], row["target"]["portal"]): int(row["sessionId"]) for row in rows}
    except UNREADABLE:
        # Without the text, which holds secrets.
        raise ValueError("the numbers of the sessions cannot be read") from None


def parse_buses(result: Result) -> dict[int, dict[int, str]]:
    """Read the disks by LUN of each session number from ``camcontrol devlist -v`` (docs/freebsd.md#camcontrol)."""
    if result.status != 0:
        raise ValueError(result.words)
    buses: dict[int, dict[int, str]] = {}
    number = -1
    for line in result.out.splitlines():
        words = line.split()
        if len(words) > 2 and words[0].startswith("scbus") and words[1] == "on":
            driver = words[2].removeprefix("iscsi")
            number = int(driver) if driver != words[2] and driver.isdigit() else -1
        elif number >= 0 and "lun" in words and line.endswith(")"):
            lun = words[words.index("lun") + 1]
            for name in words[-1].strip("()").split(","):
                if name.startswith("da"):
                    buses.setdefault(number, {})[int(lun, 16)] = name
    return buses
