"""The id that tells this host from all others, so that two that reach one disk know whose it is."""

from __future__ import annotations

import os
import string

from envstart.errors import TemporaryError, reason
from envstart.system.command import Result
from envstart.system.host import Host

_MACHINE = "/etc/machine-id"
# Names of a host that nobody has given one.
_NO_NAMES = ("", "localhost", "amnesiac", "freebsd")


async def own_mark(host: Host) -> str:
    """Return this host's mark: its id, and its name, since hosts that were made from one image can have one id."""
    return f"{await host_id(host)} {os.uname().nodename}"


async def host_id(host: Host) -> str:
    """Return 32 hexadecimal digits: kern.hostuuid, which rc.d/hostid keeps in /etc/hostid; on Linux of machine-id(5).

    As long as kern.hostuuid is all zero they are made of the hostname.
    """
    if host.platform != "freebsd":
        return _of_machine(_MACHINE)
    uuid = await host.ask(("sysctl", "-n", "kern.hostuuid"), _uuid, lasting=True)
    return uuid or _of_name(os.uname().nodename)


def host_id_hint(host: Host) -> str:
    """Tell, for people, the source of the id, and how two hosts get two of it."""
    if host.platform == "freebsd":
        return "kern.hostuuid: correct /etc/hostid"
    return f"id in {_MACHINE}: remove it, and systemd-machine-id-setup,"


def _uuid(result: Result) -> str:
    text = result.out.strip()
    digits = text.replace("-", "")
    if result.status != 0 or len(digits) != 32 or not set(string.hexdigits).issuperset(digits):
        raise ValueError(f"kern.hostuuid is {text!r}")
    return text if digits.strip("0") else ""


def _of_name(name: str) -> str:
    """Return an id of the hostname: rc.d/hostid has never run here, and without a name of its own it is any host."""
    import hashlib

    if name.partition(".")[0].lower() in _NO_NAMES:
        raise TemporaryError(
            f"cannot tell hosts apart: kern.hostuuid is all zero, and the hostname is {name!r}",
            hint="service hostid start",
        )
    return hashlib.sha256(f"envstart {name}".encode()).hexdigest()[:32]


def _of_machine(path: str) -> str:
    """Return an id of the machine's: that one is not to leave the machine (machine-id(5))."""
    import hmac

    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.readline().strip()
        why = f"{path} holds {text!r}"
    except OSError as error:
        text, why = "", f"{path}: {reason(error)}"
    if len(text) != 32 or not set("0123456789abcdef").issuperset(text):
        raise TemporaryError(f"cannot tell hosts apart: {why}", hint="systemd-machine-id-setup")
    return hmac.new(bytes.fromhex(text), b"envstart", "sha256").hexdigest()[:32]
