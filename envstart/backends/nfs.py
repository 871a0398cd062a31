"""NFS: each directory of the environment is a directory of its own on the server.

The keys are those of CBSD's sample (contract §4.1), so that its file works unchanged; facts about mount_nfs(8) are in
commands.md §5.
"""

from __future__ import annotations

import os

from .. import layout
from ..errors import Misconfigured
from ..mount import Mount
from ..options import COMMON, Option, choice, text, whole, words
from ..plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Config
    from ..environment import Environment

# The kernel copies the path into a buffer of 100 bytes and cuts what is longer (commands.md §5.8).
_V4_PATH_MAX = 99
# MNAMELEN with its NUL (statfs(2)).
_SOURCE_MAX = 1023


def host_name(value: str) -> str:
    """A name or an address; an IPv6 address gets the brackets that a source needs."""
    if any(character in text(value) for character in " \t/@,[]") and not (value[0] == "[" and value[-1] == "]"):
        raise ValueError("is no host name or address")
    return f"[{value}]" if value.count(":") > 1 and value[0] != "[" else value


def mount_options(value: str) -> tuple[str, ...]:
    """The ``-o`` options of a mount_nfs(8) command line, one by one: ``-orw -o vers=4,hard``."""
    found: list[str] = []
    rest = list(words(value))
    while rest:
        word = rest.pop(0)
        if not word.startswith("-o") or (word == "-o" and not rest):
            raise ValueError(f"has {word!r}; write each option as -oOPTION")
        found += (word[2:] or rest.pop(0)).split(",")
    for option in found:
        name, _, argument = option.partition("=")
        if name in ("bg", "bgnow"):
            raise ValueError(f"has {name}, which reports success before anything is mounted")
        if name == "vers" and argument not in ("2", "3", "4"):
            raise ValueError(f"has vers={argument}, which mount_nfs(8) refuses; write vers=4,minorversion=N")
        if not name:
            raise ValueError("has an empty option")
    # Always given by envstart itself, with the only value that does not wait for ever.
    return tuple(option for option in found if option.partition("=")[0] not in ("retrycnt", "fg", "nocover", "cover"))


OPTIONS = (
    Option("NFS_SERVER", host_name, None, "name or address of the server"),
    *layout.options("NFS_SERVER", "/nfs", "on the server"),
    Option(
        "MOUNT_NFS_OPT",
        mount_options,
        "-orw -overs=4 -orsize=32768 -owsize=32768 -oacregmax=3 -oacdirmin=3 -oacdirmax=3 -ohard -oproto=tcp "
        "-otimeout=300",
        "options of mount_nfs(8); retrycnt=1 and nocover are always added",
    ),
    Option("NFS_VERSION", choice("3", "4"), "", "NFS version", "what MOUNT_NFS_OPT says"),
    Option("NFS_MOUNT_TIMEOUT", whole(1, 3600, "seconds"), "10", "seconds one attempt to mount may take"),
    *COMMON,
)


def plan(environment: Environment, config: Config) -> Plan:
    """The mounts of one environment."""
    options = _options(config)
    server = config["NFS_SERVER"]
    steps = []
    for item in layout.wanted(environment, config, "NFS_SERVER"):
        _check_length(options, server, item.path)
        steps.append(
            Mount(
                item.name,
                "nfs",
                options,
                f"{server}:{item.path}",
                item.point,
                environment,
                config,
                config["NFS_MOUNT_TIMEOUT"],
                shared=f"{server}:{config['NFS_SERVER_ROOT_DIR']}" if item.shared else "",
            )
        )
    return Plan("nfs", environment, config, steps, _warnings(options))


def version(options: tuple[str, ...]) -> str:
    """The NFS version that mount_nfs(8) takes from its options; without any of these it tries 3 and then 2."""
    found = "3"
    for option in options:
        if option.startswith("vers="):
            found = option[5:]
        elif option in ("nfsv2", "nfsv3", "nfsv4"):
            found = option[4:]
    return found


def _options(config: Config) -> tuple[str, ...]:
    options: tuple[str, ...] = config["MOUNT_NFS_OPT"]
    wanted = config["NFS_VERSION"]
    says = any(option.startswith("vers=") or option in ("nfsv2", "nfsv3", "nfsv4") for option in options)
    if wanted and says and version(options) != wanted:
        if config.origin("MOUNT_NFS_OPT") != "default":
            raise Misconfigured(
                f"cannot use NFS_VERSION={wanted} ({config.origin('NFS_VERSION')}): MOUNT_NFS_OPT "
                f"({config.origin('MOUNT_NFS_OPT')}) says {version(options)}; correct one of them"
            )
        options = tuple(option for option in options if not option.startswith("vers="))
        says = False
    if wanted and not says:
        options += (f"nfsv{wanted}",)
    if config["NFS_SERVER"].startswith("["):
        # proto=tcp means IPv4 only, and fails without a word on an IPv6 address (commands.md §5.2).
        options = tuple("proto=tcp6" if option == "proto=tcp" else option for option in options)
    return options


def _check_length(options: tuple[str, ...], server: str, path: str) -> None:
    if version(options) == "4" and len(os.fsencode(path)) > _V4_PATH_MAX:
        raise Misconfigured(
            f"cannot mount {server}:{path}: FreeBSD cuts an NFSv4 path after {_V4_PATH_MAX} bytes; make it shorter"
        )
    if len(os.fsencode(f"{server}:{path}")) > _SOURCE_MAX:
        raise Misconfigured(f"cannot mount {server}:{path[:40]}...: a source has at most {_SOURCE_MAX} bytes")


def _warnings(options: tuple[str, ...]) -> list[str]:
    """What mount_nfs(8) takes, and an administrator will regret."""
    found = []
    names = {option.partition("=")[0] for option in options}
    if version(options) == "4":
        for name in sorted(names & {"intr", "soft"}):
            found.append(f"MOUNT_NFS_OPT has {name}, which is not safe with NFSv4 (mount_nfs(8), BUGS)")
    elif "soft" in names:
        found.append("MOUNT_NFS_OPT has soft: a slow server becomes an input/output error in the environment")
    if "ro" in names:
        found.append("MOUNT_NFS_OPT has ro: CBSD writes into the system directory of an environment that it starts")
    return found
