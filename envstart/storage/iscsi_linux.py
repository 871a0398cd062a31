"""The iSCSI initiator of Linux, open-iscsi: its sessions as sysfs shows them, login and logout by iscsiadm(8).

The same functions as in iscsi_freebsd.py. sysfs is read because it asks neither the daemon nor a disk, so that it
answers at once whatever they do. What a login needs is a record in a file, the secret in it; each target's records have
an interface of their own, so that they never are the ones that an administrator has made of the same target.
"""

from __future__ import annotations

import os

from envstart.errors import ConfigError, EnvstartError, PermissionDeniedError, UnavailableError, reason
from envstart.paths import path_digest
from envstart.steps import diagnosis, keyfile
from envstart.storage.iscsi_freebsd import CONNECTED, SessionInfo, split_portal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from envstart.config.load import Config
    from envstart.system.command import Result
    from envstart.system.host import Host

DISK = "/dev/sdN"
# Seconds until a silent target is taken for lost: node.conn[0].timeo.noop_out_interval and noop_out_timeout, 5 each.
NOTICED = 12.0
# What is wrong with a login is told by iscsiadm(8), which waits for its end.
OF_STATE: diagnosis.Rows = ()
# Of iscsiadm(8), by the texts of its statuses; all else can heal.
OF_LOGIN: diagnosis.Rows = (
    (
        "authorization failure",
        PermissionDeniedError,
        "correct ISCSI_CHAP_USER and the secrets, and let the target accept this initiator",
    ),
    ("non-retryable iSCSI login failure", UnavailableError, "the portal has no such target; correct ISCSI_TARGET"),
    ("could not connect to iscsid", UnavailableError, "systemctl enable --now iscsid, or ISCSI_START_DAEMON=1"),
    ("iSCSI driver not found", UnavailableError, "modprobe iscsi_tcp"),
)
ALREADY: tuple[str, ...] = ("already present", "session exists")
# persistent_address is that of the record, wherever the target has sent the session.
REDIRECTS = False
_NO_DAEMON = "could not connect to iscsid"
_ETC = "/etc/iscsi"
# A record has its place below a portal group, which is not known before the login, and is not looked at by it.
_GROUP = 1
_SECRET_MAX = 255
# Seconds that iscsid needs to give up a login whose time is over, and that its answer may take.
_GIVING_UP, _ANSWERING = 4, 5
# Of a session in sysfs, in the words of iscsi_freebsd.py: a failed one is brought back by iscsid(8).
_STATES = {"LOGGED_IN": CONNECTED, "FAILED": "Disconnected"}
# A LUN above 255 has the method of its address in front (SAM-5, flat space addressing).
_FLAT, _FLAT_LUN = 0x4000, 0x3FFF


class KernelSession(SessionInfo):
    """A session of sysfs: ``number`` of its own; ``all_disks`` as disks, also while it is down."""

    __slots__ = ("number", "all_disks")

    def __init__(self, target: str, portal: str, state: str, disks: dict[int, str], bus: int, number: int) -> None:
        super().__init__(target, portal, state, disks if state == CONNECTED else {}, bus)
        self.number = number
        self.all_disks = disks


async def sessions(host: Host) -> list[SessionInfo]:
    """All sessions of the host, as they are now."""
    return read()


async def numbers(host: Host) -> dict[tuple[str, str], int]:
    """Return the numbers of all sessions, by target and portal."""
    return {(one.target, one.portal): _found(one).number for one in read()}


async def disks(host: Host, session: SessionInfo) -> dict[int, str]:
    """The disks of a session by LUN, also of one that is down: they are there, and hang, until it is ended."""
    return _found(session).all_disks


def read(sysfs: str = "/sys") -> list[SessionInfo]:
    """The sessions below ``sysfs``; one that comes or goes at this moment is left out."""
    top = f"{sysfs}/class/iscsi_session"
    sessions: list[SessionInfo] = []
    for name in _entries(top):
        number = name.removeprefix("session")
        connection = f"{sysfs}/class/iscsi_connection/connection{number}:0"
        try:
            address, port = _line(f"{connection}/persistent_address"), _line(f"{connection}/persistent_port")
            target, state = _line(f"{top}/{name}/targetname"), _line(f"{top}/{name}/state")
        except OSError:
            continue
        portal = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        luns, bus = _disks(f"{top}/{name}/device")
        sessions.append(KernelSession(target, portal, _STATES.get(state, state), luns, bus, int(number)))
    return sessions


def _disks(session: str) -> tuple[dict[int, str], int]:
    """The disks of a session by LUN, and the number of its SCSI bus: -1 while it is not known."""
    disks, bus = {}, -1
    for target in _entries(session):
        if not target.startswith("target"):
            continue
        bus = int(target.removeprefix("target").partition(":")[0])
        for address in _entries(f"{session}/{target}"):
            lun = address.rpartition(":")[2]
            if address.count(":") == 3 and lun.isdigit():
                number = int(lun)
                for disk in _entries(f"{session}/{target}/{address}/block"):
                    disks[number & _FLAT_LUN if number >= _FLAT else number] = disk
    return disks, bus


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _line(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.readline().strip()


# Records.


async def settings(host: Host, config: Config, target: str, portal: str) -> str:
    """The record of a login. It holds the secrets, which are read here."""
    if config["ISCSI_PROTOCOL"] != "iSCSI":
        raise ConfigError("cannot use ISCSI_PROTOCOL=iSER here: envstart knows it on FreeBSD only", hint="unset it")
    address, port = split_portal(portal)
    timeout = config["PROBE_TIMEOUT"]
    rows = {
        "node.name": target,
        "node.startup": "manual",
        "iface.iscsi_ifacename": interface(target),
        "iface.transport_name": "tcp",
        "iface.initiatorname": config["ISCSI_INITIATOR"],
        # I/O waits for a target that is gone until it is back or the session is ended, as on FreeBSD: else a file
        # system sees errors after two minutes, and stays broken.
        "node.session.timeo.replacement_timeout": "-1",
        "node.session.initial_login_retry_max": "1",
        "node.session.auth.authmethod": "CHAP" if config["ISCSI_CHAP_USER"] else "None",
        "node.session.auth.username": config["ISCSI_CHAP_USER"],
        "node.session.auth.password": await _secret(host, config["ISCSI_CHAP_SECRET_FILE"], timeout),
        "node.session.auth.username_in": config["ISCSI_MUTUAL_USER"],
        "node.session.auth.password_in": await _secret(host, config["ISCSI_MUTUAL_SECRET_FILE"], timeout),
        "node.conn[0].address": address,
        "node.conn[0].port": str(port),
        "node.conn[0].timeo.login_timeout": str(max(1, config["ISCSI_LOGIN_TIMEOUT"] - _GIVING_UP)),
        "node.conn[0].iscsi.HeaderDigest": config["ISCSI_HEADER_DIGEST"],
        "node.conn[0].iscsi.DataDigest": config["ISCSI_DATA_DIGEST"],
    }
    return "".join(f"{key} = {value}\n" for key, value in rows.items() if value)


async def _secret(host: Host, path: str | None, timeout: float) -> str:
    if path is None:
        return ""
    text = await keyfile.read(host, path, timeout)
    if not text or text != text.strip() or not text.isprintable() or len(text) > _SECRET_MAX:
        raise ConfigError(
            f"cannot use the secret in {path}: open-iscsi cannot hold an empty one, blanks at its ends, or more than "
            f"{_SECRET_MAX} characters"
        )
    return text


def interface(target: str) -> str:
    """The name of the interface that our records of a target have. Whoever uses the target has its lock."""
    return f"envstart.{path_digest(target)}"


def record(target: str, portal: str, etc: str = _ETC) -> str:
    """The file of the record for one portal of a target."""
    address, port = split_portal(portal)
    return f"{etc}/nodes/{target}/{address},{port},{_GROUP}/{interface(target)}"


def write(path: str, text: str) -> None:
    """Make a file that only root can read, and directories for it; what a killed run has left there goes."""
    _remove(path)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise EnvstartError(f"cannot write {path}: {reason(error)}; iscsiadm(8) needs it for a login") from None


def tidy(target: str, portals: Sequence[str], etc: str = _ETC) -> None:
    """Take our records away, and directories that are empty then."""
    _remove(f"{etc}/ifaces/{interface(target)}")
    for portal in portals:
        path = record(target, portal, etc)
        _remove(path)
        for _ in range(2):
            path = os.path.dirname(path)
            try:
                os.rmdir(path)
            except OSError:
                break


def _remove(path: str) -> None:
    # Where nothing can be written, unlink(2) would say that, and not that there is no such file.
    if os.path.lexists(path):
        try:
            os.unlink(path)
        except OSError as error:
            raise EnvstartError(f"cannot remove {path}: {reason(error)}; it can hold a secret") from None


# Login and logout.


async def login(host: Host, config: Config, target: str, portal: str, text: str) -> Result:
    """Log in and wait for the end of it. The record stays as long as the session: iscsid(8) needs it, when it was
    started anew, to bring the session back."""
    done = False
    try:
        write(record(target, portal), text)
        result = await _login(host, config, target, portal)
        if _NO_DAEMON in result.words and config["ISCSI_START_DAEMON"]:
            await host.run(("service", "iscsid", "start"), timeout=30)
            result = await _login(host, config, target, portal)
        done = result.status == 0
    finally:
        if not done:
            tidy(target, [portal])
    return result


async def _login(host: Host, config: Config, target: str, portal: str) -> Result:
    timeout = config["ISCSI_LOGIN_TIMEOUT"] + _ANSWERING
    with _Interface(target, config["ISCSI_INITIATOR"]):
        return shortened(await host.run(logging_in(target, portal), timeout=timeout, keep_locks=True))


def shortened(result: Result) -> Result:
    """What iscsiadm(8) says why a login failed, without the rest, which says which one did."""
    told = result.err.partition("initiator reported error (")[2].partition(")")[0]
    return result._replace(out="", err=told) if told else result


async def logout(host: Host, session: SessionInfo) -> Result:
    """End it, and whatever waits for its disks."""
    with _Interface(session.target):
        result = await host.run(logging_out(session), timeout=max(5.0, host.deadline.left()), use_rollback_reserve=True)
    number = _found(session).number
    if all(_found(one).number != number for one in read()):
        tidy(session.target, [session.portal])
    return result


async def rescan(host: Host, session: SessionInfo, timeout: float) -> None:
    """Look for LUNs that were added to the target after the login."""
    argv = ("iscsiadm", "-m", "session", "-r", str(_found(session).number), "--rescan")
    with _Interface(session.target):
        await host.run(argv, timeout=timeout)


class _Interface:
    """The interface of our records, which iscsiadm(8) must find, and which is there only while it runs: a discovery
    makes records for each interface that is there."""

    def __init__(self, target: str, initiator: str | None = None) -> None:
        self._name = interface(target)
        self._path = f"{_ETC}/ifaces/{self._name}"
        self._initiator = initiator

    def __enter__(self) -> None:
        text = f"iface.iscsi_ifacename = {self._name}\niface.transport_name = tcp\n"
        if self._initiator:
            text += f"iface.initiatorname = {self._initiator}\n"
        write(self._path, text)

    def __exit__(self, *_: object) -> None:
        _remove(self._path)


async def check_daemon(host: Host, doing: str, start: bool) -> None:
    """Never asked: no state of a session tells that iscsid(8) does not run, login() does."""


def is_on(source: str, disk: str) -> bool:
    """Whether a mount is from a disk, or from a partition of it, as far as its name tells."""
    name = source.removeprefix("/dev/")
    return name == disk or (name.startswith(disk) and name[len(disk) :].isdigit())


def by_hand(user: str | None) -> str:
    """Tell what the command of logging_in() needs beside it."""
    if user:
        return f"CHAP as {user} needs a record with node.session.auth.username and the like"
    return "iscsiadm(8) needs a record, which a start makes"


def logging_in(target: str, portal: str) -> tuple[str, ...]:
    """The command of a login: what else it needs is in our record."""
    address, port = split_portal(portal)
    name = f"[{address}]" if ":" in address else address
    return ("iscsiadm", "-m", "node", "-T", target, "-p", f"{name}:{port}", "-I", interface(target), "--login")


def logging_out(session: SessionInfo) -> tuple[str, ...]:
    """The command that ends this very session, whoever has begun it."""
    return ("iscsiadm", "-m", "session", "-r", str(_found(session).number), "--logout")


def own_name(config: Config) -> str:
    """The name that this host's initiator logs in with; "" if that cannot be told."""
    name: str | None = config["ISCSI_INITIATOR"]
    if name:
        return name
    try:
        with open(f"{_ETC}/initiatorname.iscsi", encoding="ascii", errors="replace") as file:
            names = [line.partition("=")[2].strip() for line in file if line.startswith("InitiatorName=")]
    except OSError:
        return ""
    return names[0] if names else ""


def _found(session: SessionInfo) -> KernelSession:
    assert isinstance(session, KernelSession)
    return session
