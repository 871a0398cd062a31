"""The iSCSI initiator of Linux, open-iscsi: its sessions as sysfs shows them, login and logout by iscsiadm(8).

The same functions as in iscsi_freebsd.py. sysfs is read because it asks neither the daemon nor a disk, so that it
answers at once whatever they do.
"""

from envstart.config.load import Config
from envstart.errors import PermissionDeniedError, UnavailableError
from envstart.steps import diagnosis
from envstart.storage import iscsi_keys, iscsi_record
from envstart.storage.devices_linux import entries, line
from envstart.storage.iscsi_session import CONNECTED, SessionInfo, join_portal, split_portal
from envstart.system.command import Result
from envstart.system.host import Host

DISK = "/dev/sdN"
# Seconds until a silent target is taken for lost: node.conn[0].timeo.noop_out_interval and noop_out_timeout, 5 each.
NOTICED = 12.0
# iscsiadm(8) tells what is wrong with a login: it waits for its end.
OF_STATE: diagnosis.Rows = ()
# Texts of the statuses of iscsiadm(8); all else can heal.
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
# Seconds that the answer may take of a login whose time is over.
_ANSWERING = 5
# States of a session in sysfs, in the words of iscsictl(8): a failed one is brought back by iscsid(8).
_STATES = {"LOGGED_IN": CONNECTED, "FAILED": "Disconnected"}
# A LUN above 255 has the method of its address in front (SAM-5, flat space addressing).
_FLAT, _FLAT_LUN = 0x4000, 0x3FFF
settings, tidy = iscsi_record.settings, iscsi_record.tidy


async def sessions(host: Host) -> list[SessionInfo]:
    """Return all sessions of the host, as they are now."""
    return read()


async def disks(host: Host, session: SessionInfo) -> dict[int, str]:
    """Return the disks of a session by LUN, also of one that is down: they are there, and hang, until it is ended."""
    return session.all_disks or {}


def read(sysfs: str = "/sys") -> list[SessionInfo]:
    """Return the sessions below ``sysfs``; one that comes or goes at this moment is left out."""
    top = f"{sysfs}/class/iscsi_session"
    sessions = []
    for name in entries(top):
        number = name.removeprefix("session")
        connection = f"{sysfs}/class/iscsi_connection/connection{number}:0"
        # The state first: one that has gone by then lacks the rest, too.
        state, target = line(f"{top}/{name}/state"), line(f"{top}/{name}/targetname")
        address, port = line(f"{connection}/persistent_address"), line(f"{connection}/persistent_port")
        if target and address and port:
            disks, bus = _disks(f"{top}/{name}/device")
            state, portal = _STATES.get(state, state), join_portal(address, port)
            up = disks if state == CONNECTED else {}
            sessions.append(SessionInfo(target, portal, state, up, bus, int(number), disks))
    return sessions


def _disks(session: str) -> tuple[dict[int, str], int]:
    """Return the disks of a session by LUN, and the number of its SCSI bus: -1 while it is not known."""
    disks, bus = {}, -1
    for target in (name for name in entries(session) if name.startswith("target")):
        bus = int(target.removeprefix("target").partition(":")[0])
        for address in entries(f"{session}/{target}"):
            lun = address.rpartition(":")[2]
            if address.count(":") == 3 and lun.isdigit():
                number = int(lun)
                for disk in entries(f"{session}/{target}/{address}/block"):
                    disks[number & _FLAT_LUN if number >= _FLAT else number] = disk
    return disks, bus


async def login(host: Host, config: Config, target: str, portal: str, text: str) -> Result:
    """Log in and wait for the end of it."""
    # The record stays with the session: iscsid(8) needs it, when it was started anew, to bring the session back.
    done = False
    try:
        iscsi_record.write(iscsi_record.path(target, portal), text)
        result = await _login(host, config, target, portal)
        if _NO_DAEMON in result.words and config[iscsi_keys.ISCSI_START_DAEMON]:
            await host.run(("service", "iscsid", "start"), timeout=30)
            result = await _login(host, config, target, portal)
        done = result.status == 0
    finally:
        if not done:
            tidy(target, [portal])
    return result


async def _login(host: Host, config: Config, target: str, portal: str) -> Result:
    timeout = config[iscsi_keys.ISCSI_LOGIN_TIMEOUT] + _ANSWERING
    with iscsi_record.interface_file(target, config[iscsi_keys.ISCSI_INITIATOR]):
        return shortened(await host.run(login_argv(target, portal), timeout=timeout, keep_locks=True))


def shortened(result: Result) -> Result:
    """Return the result of a failed login with what iscsiadm(8) says of the reason, and nothing else."""
    error = result.err.partition("initiator reported error (")[2].partition(")")[0]
    return result._replace(out="", err=error) if error else result


async def logout(host: Host, session: SessionInfo) -> Result:
    """End it, and whatever waits for its disks."""
    with iscsi_record.interface_file(session.target):
        result = await host.run(logout_argv(session), timeout=max(5.0, host.deadline.left()), use_rollback_reserve=True)
    if all(other.number != session.number for other in read()):
        tidy(session.target, [session.portal])
    return result


async def rescan(host: Host, session: SessionInfo, timeout: float) -> None:
    """Look for LUNs that were added to the target after the login."""
    argv = ("iscsiadm", "-m", "session", "-r", str(session.number), "--rescan")
    with iscsi_record.interface_file(session.target):
        await host.run(argv, timeout=timeout)


async def check_daemon(host: Host, act: str, *, start: bool) -> None:
    """Look for nothing: it is login() that tells that iscsid(8) does not run."""


def is_on(source: str, disk: str) -> bool:
    """Tell whether a mount is from a disk, or from a partition of it, as far as its name tells."""
    name = source.removeprefix("/dev/")
    return name == disk or (name.startswith(disk) and name[len(disk) :].isdigit())


def needs(user: str | None) -> str:
    """Tell what a login by the command of login_argv() needs beside it."""
    if user:
        return f"CHAP as {user} needs a record with node.session.auth.username and the like"
    return "iscsiadm(8) needs a record, which a start makes"


def login_argv(target: str, portal: str) -> tuple[str, ...]:
    """Return the command of a login: what else it needs is in our record."""
    address = join_portal(*split_portal(portal))
    return ("iscsiadm", "-m", "node", "-T", target, "-p", address, "-I", iscsi_record.interface(target), "--login")


def logout_argv(session: SessionInfo) -> tuple[str, ...]:
    """Return the command that ends this very session, whoever has begun it."""
    return ("iscsiadm", "-m", "session", "-r", str(session.number), "--logout")


def own_name(config: Config) -> str:
    """Return the name that this host's initiator logs in with; "" if that cannot be told."""
    if name := config[iscsi_keys.ISCSI_INITIATOR]:
        return name
    try:
        with open(f"{iscsi_record.ETC}/initiatorname.iscsi", encoding="ascii", errors="replace") as file:
            names = [text.partition("=")[2].strip() for text in file if text.startswith("InitiatorName=")]
    except OSError:
        names = []
    return next(iter(names), "")
