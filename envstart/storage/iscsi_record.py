"""The records of open-iscsi (iscsiadm(8)): what a login needs is in a file, the secret too.

Each target's records have an interface of their own, so that they never are those that an administrator has made of
the same target.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from envstart.config.load import Config
from envstart.errors import ConfigError, EnvstartError, reason
from envstart.paths import path_digest
from envstart.storage import iscsi_keys
from envstart.storage.iscsi_session import split_portal
from envstart.system.host import Host

ETC = "/etc/iscsi"
# A record has its place below a portal group, which is not known before the login, and is not looked at by it.
_GROUP = 1
_SECRET_MAX = 255
# Seconds that iscsid needs to give up a login whose time is over.
_GIVING_UP = 4


async def settings(host: Host, config: Config, target: str, portal: str) -> str:
    """Return the record of a login, for login(). It holds the secrets, which are read here."""
    if config[iscsi_keys.ISCSI_PROTOCOL] != "iSCSI":
        raise ConfigError("cannot use ISCSI_PROTOCOL=iSER here: envstart knows it on FreeBSD only", hint="unset it")
    address, port = split_portal(portal)
    chap_secret, mutual_secret = await iscsi_keys.read_secrets(host, config, _why_unfit)
    rows = {
        "node.name": target,
        "node.startup": "manual",
        "iface.iscsi_ifacename": interface(target),
        "iface.transport_name": "tcp",
        "iface.initiatorname": config[iscsi_keys.ISCSI_INITIATOR],
        # I/O waits for a target that is gone until it is back or the session is ended, as on FreeBSD: else a file
        # system sees errors after two minutes, and stays broken.
        "node.session.timeo.replacement_timeout": "-1",
        "node.session.initial_login_retry_max": "1",
        "node.session.auth.authmethod": "CHAP" if config[iscsi_keys.ISCSI_CHAP_USER] else "None",
        "node.session.auth.username": config[iscsi_keys.ISCSI_CHAP_USER],
        "node.session.auth.password": chap_secret,
        "node.session.auth.username_in": config[iscsi_keys.ISCSI_MUTUAL_USER],
        "node.session.auth.password_in": mutual_secret,
        "node.conn[0].address": address,
        "node.conn[0].port": str(port),
        "node.conn[0].timeo.login_timeout": str(max(1, config[iscsi_keys.ISCSI_LOGIN_TIMEOUT] - _GIVING_UP)),
        "node.conn[0].iscsi.HeaderDigest": config[iscsi_keys.ISCSI_HEADER_DIGEST],
        "node.conn[0].iscsi.DataDigest": config[iscsi_keys.ISCSI_DATA_DIGEST],
    }
    return "".join(f"{key} = {value}\n" for key, value in rows.items() if value)


def _why_unfit(secret: str) -> str:
    if secret and secret == secret.strip() and secret.isprintable() and len(secret) <= _SECRET_MAX:
        return ""
    return f"open-iscsi cannot hold an empty one, blanks at its ends, or more than {_SECRET_MAX} characters"


def interface(target: str) -> str:
    """Return the name of the interface that our records of a target have; who uses it holds the target's lock."""
    return f"envstart.{path_digest(target)}"


def path(target: str, portal: str, etc: str = ETC) -> str:
    """Return the file of the record for one portal of a target."""
    address, port = split_portal(portal)
    return f"{etc}/nodes/{target}/{address},{port},{_GROUP}/{interface(target)}"


def write(file: str, content: str) -> None:
    """Make a file that only root can read, and directories for it; what a killed run has left there goes."""
    _remove(file)
    try:
        os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:
            stream.write(content)
    except OSError as error:
        raise EnvstartError(f"cannot write {file}: {reason(error)}; iscsiadm(8) needs it for a login") from None


def tidy(target: str, portals: Sequence[str], etc: str = ETC) -> None:
    """Take our records away, and directories that are empty then."""
    _remove(f"{etc}/ifaces/{interface(target)}")
    for portal in portals:
        file = path(target, portal, etc)
        _remove(file)
        with suppress(OSError):
            os.rmdir(os.path.dirname(file))
            os.rmdir(os.path.dirname(os.path.dirname(file)))


def _remove(file: str) -> None:
    # Where nothing can be written, unlink(2) would say that, and not that there is no such file.
    if os.path.lexists(file):
        try:
            os.unlink(file)
        except OSError as error:
            raise EnvstartError(f"cannot remove {file}: {reason(error)}; it can hold a secret") from None


@contextmanager
def interface_file(target: str, initiator: str | None = None) -> Iterator[None]:
    """Have the interface of our records there while iscsiadm(8) runs: a discovery makes records for each that is there.

    ``initiator``: the name to log in with, if it is not the host's own.
    """
    file = f"{ETC}/ifaces/{interface(target)}"
    text = f"iface.iscsi_ifacename = {interface(target)}\niface.transport_name = tcp\n"
    write(file, text + (f"iface.initiatorname = {initiator}\n" if initiator else ""))
    try:
        yield
    finally:
        _remove(file)
