"""Access to a Ceph cluster: the keys that rbd and ceph share, and the options that Ceph's programs take for them.

A key is never among them: only the name of the file that holds it.
"""

from __future__ import annotations

from envstart.config import common
from envstart.config.load import Config
from envstart.config.schema import ALNUM, NAME, Option, directory, host_port, identifier, words
from envstart.errors import PermissionDeniedError
from envstart.steps import keyfile
from envstart.steps.diagnosis import Rows
from envstart.system.command import Result
from envstart.system.host import Host


def monitors(value: str) -> tuple[str, ...]:
    """Return addresses or names, each with a port or without; ValueError."""
    addresses = words(value)
    for address in addresses:
        if not (ALNUM | set(".:-_[]")).issuperset(address) or address.startswith("-"):
            raise ValueError(f"has {address!r}, which is no monitor: write HOST or HOST:PORT")
        # Which version of the protocol is spoken there can stand before it.
        host_port(address.removeprefix("v1:").removeprefix("v2:"))
    return addresses


def user(value: str) -> str:
    """Return a client's name without its kind, which every command of Ceph puts before it; ValueError."""
    kind, dot, name = value.partition(".")
    if kind in ("client", "mon", "osd", "mds", "mgr") and dot:
        remedy = f"write {name} alone" if kind == "client" else "it is no client's"
        raise ValueError(f"has {kind}. before it: {remedy}")
    return identifier(value)


OPTIONS = (
    CEPH_MONITORS := Option(
        "CEPH_MONITORS", monitors, "", "monitors of the cluster, HOST or HOST:PORT", "those in CEPH_CONF"
    ),
    CEPH_CONF := Option(
        "CEPH_CONF", directory, "", "configuration file of the cluster", "ceph.conf where Ceph looks for it"
    ),
    CEPH_USER := Option(
        "CEPH_USER",
        user,
        None,
        "name of this host's client in the cluster (without the word client. before it)",
        placeholders=(NAME,),
    ),
    CEPH_KEYRING := Option(
        "CEPH_KEYRING",
        directory,
        "",
        "file with the client's key (root's, mode 600)",
        "the one that Ceph finds by itself",
        placeholders=(NAME,),
    ),
)


# What all of its programs say of a client that the cluster does not let in.
REFUSED: Rows = (
    ("unable to find a keyring", PermissionDeniedError, "set CEPH_KEYRING, and CEPH_USER"),
    # Said again and again, and never the last word.
    ("handle_auth_bad_method", PermissionDeniedError, "correct CEPH_USER and CEPH_KEYRING"),
)


def access(config: Config) -> tuple[str, ...]:
    """Return the words of a command line (ceph(8))."""
    return (*identity(config), *reach(config))


def identity(config: Config) -> tuple[str, ...]:
    """Return those that rbd-ggate(8) takes from CEPH_ARGS alone (main() in Ceph's src/tools/rbd_ggate/main.cc)."""
    return (f"--id={config[CEPH_USER]}", *(("-c", config[CEPH_CONF]) if config[CEPH_CONF] else ()))


def reach(config: Config) -> tuple[str, ...]:
    """Return the others of them: where the cluster is, and the key."""
    monitors, keyring = monitors_of(config), config[CEPH_KEYRING]
    return (*(("-m", monitors) if monitors else ()), *(("--keyring", keyring) if keyring else ()))


def monitors_of(config: Config) -> str:
    """Return the monitors with commas between them; "" if ceph.conf(5) has them."""
    addresses = config[CEPH_MONITORS]
    return ",".join(addresses or ())


async def check_key(host: Host, config: Config) -> None:
    """Raise unless only root can read the key."""
    if keyring := config[CEPH_KEYRING]:
        await keyfile.check(host, [keyring], config[common.PROBE_TIMEOUT], "correct CEPH_KEYRING")


async def key(host: Host, config: Config) -> str | None:
    """Return the key, for the standard input of a program; None without CEPH_KEYRING. PermissionDeniedError."""
    path, name = config[CEPH_KEYRING], f"client.{config[CEPH_USER]}"
    if not path:
        return None
    await check_key(host, config)
    argv = ("ceph-authtool", "--print-key", "--name", name, path)
    secret: str = await host.ask(argv, _printed, lasting=True, secret=True)
    if not secret:
        hint = "correct CEPH_KEYRING, or CEPH_USER"
        raise PermissionDeniedError(f"cannot read a key: {path} has none of {name}", hint=hint)
    return secret


def _printed(result: Result) -> str:
    if result.status == 0:
        return result.out.strip()
    if "not found" in result.words or "error reading file" in result.words:
        return ""
    raise ValueError(result.words)
