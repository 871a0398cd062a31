"""NFS: each directory of the environment is a directory of its own on the server.

The keys are those of CBSD's sample (docs/cbsd.md#sample), so that its file works unchanged; facts about mount_nfs(8)
are in docs/freebsd.md#mount_nfs.
"""

import os
from collections.abc import Callable

from envstart.config import common, directories
from envstart.config.load import Config
from envstart.config.schema import Option, Options, choice, inet6, integer, one_mode, words
from envstart.config.schema import host_name as host_or_inet
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.errors import ConfigError
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host

TITLE = "directories of an NFSv4 or NFSv3 server"

# The kernel copies the path into a buffer of 100 bytes and cuts what is longer (docs/freebsd.md#nfs-limits).
_V4_PATH_MAX = 99
# MNAMELEN with its NUL (statfs(2)).
_SOURCE_MAX = 1023
# RFC 7530; with NFSv3 rpcbind(8) could tell another one, which hardly anybody uses.
_PORT = 2049


_REFUSED = {
    "bg": "reports success before anything is mounted",
    "bgnow": "reports success before anything is mounted",
    "update": "changes a mount instead of making one",
    "union": "shows what the mount must hide",
    "snapshot": "is not for NFS",
    "noauto": "is for fstab(5)",
    "nfsvers": "mount_nfs(8) does not know; write vers=",
}
# Options that are followed by a number, on both systems; and what proto can be (rdma: Linux).
_NUMBERS = frozenset(
    "port rsize wsize readahead readdirsize retrans timeout timeo acregmin acregmax acdirmin acdirmax actimeo "
    "nametimeo negnametimeo minorversion nconnect wcommitsize".split()
)
_PROTOCOLS = ("tcp", "udp", "tcp6", "udp6", "rdma", "rdma6")
# Given by envstart itself where they help; retrycnt with the only value that does not wait for ever.
_OWN = ("retrycnt", "fg", "nocover", "cover", "emptydir", "noemptydir")


def host_name(value: str) -> str:
    """Read a name or an address; an IPv6 address gets the brackets that a source needs."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if "/" in value:
        raise ValueError("is no host name or address: write it alone; the path goes into NFS_SERVER_ROOT_DIR")
    if bare.count(":") > 1:
        return f"[{inet6(bare)}]"
    if bare.count(":") == 1 and bare == value:
        raise ValueError("is no host name or address: a port goes into MOUNT_NFS_OPT, as -oport=2049")
    if bare != value:
        raise ValueError("is no host name or address")
    return host_or_inet(value)


def mount_options(value: str) -> tuple[str, ...]:
    """Read the ``-o`` options of a mount_nfs(8) command line, one by one: ``-orw -o vers=4,hard``."""
    options: list[str] = []
    rest = list(words(value))
    while rest:
        word = rest.pop(0)
        if not word.startswith("-o") or (word == "-o" and not rest):
            raise ValueError(f"has {word!r}; write each option as -oOPTION")
        for option in (word[2:] or rest.pop(0)).split(","):
            options += _mount_option(option)
    if len({version((option,)) for option in options if _says_version(option)}) > 1:
        raise ValueError("says two different versions of NFS")
    return one_mode(tuple(options))


def _mount_option(option: str) -> list[str]:
    """Return an option as mount_nfs(8) takes it, none if envstart gives it itself; ValueError."""
    name, _, argument = option.partition("=")
    if not name:
        raise ValueError("has an empty option")
    if name in _REFUSED:
        raise ValueError(f"has {name}, which {_REFUSED[name]}")
    if name == "vers" and argument in ("4.0", "4.1", "4.2"):
        # mount_nfs(8) refuses what Linux writes; this means the same on both.
        return ["vers=4", f"minorversion={argument[2:]}"]
    if name == "vers" and argument not in ("2", "3", "4"):
        raise ValueError(f"has vers={argument}, which is no version of NFS")
    if name in _NUMBERS and not (argument.isascii() and argument.isdigit()):
        raise ValueError(f"has {option}, which is no number")
    if name == "port" and not 0 < int(argument) < 65536:
        raise ValueError(f"has {option}, which is no port: 1 to 65535")
    if name == "proto" and argument not in _PROTOCOLS:
        raise ValueError(f"has {option}; of protocols there is {', '.join(_PROTOCOLS)}")
    return [] if name in _OWN else [option]


def clone_command(*places: str) -> Callable[[str], tuple[str, ...]]:
    """Read a command; each of ``places`` is a word of its own in it, so that no name can be more than one."""

    def parse(value: str) -> tuple[str, ...]:
        argv = words(value)
        for word in argv:
            if ("{" in word or "}" in word) and word not in places:
                raise ValueError(f"has {word!r}; of words with braces there is {' and '.join(places)}, each by itself")
        if not set(places) <= set(argv):
            raise ValueError(f"lacks {' or '.join(places)} as a word of its own")
        if argv[0] in places or ("/" in argv[0] and not argv[0].startswith("/")):
            raise ValueError(f"begins with {argv[0]!r}; begin with the name of a program, or its whole path")
        return argv

    return parse


def version(options: tuple[str, ...]) -> str:
    """Return the NFS version that mount_nfs(8) takes from its options; without any of these it tries 3 and then 2."""
    return next((option[-1] for option in reversed(options) if _says_version(option)), "3")


def _says_version(option: str) -> bool:
    return option.startswith("vers=") or option in ("nfsv2", "nfsv3", "nfsv4")


DIRECTORIES = directories.Keys("NFS_SERVER", "/nfs", "on the server")
OPTIONS: Options = (
    NFS_SERVER := Option("NFS_SERVER", host_name, None, "name or address of the server"),
    *DIRECTORIES,
    *directories.OPTIONS,
    MOUNT_NFS_OPT := Option(
        "MOUNT_NFS_OPT",
        mount_options,
        "-orw -overs=4 -orsize=32768 -owsize=32768 -oacregmax=3 -oacdirmin=3 -oacdirmax=3 -ohard -otcp -otimeout=300",
        "options of mount_nfs(8); retrycnt=1 and nocover are always added; for a server whose name has an IPv6 address "
        "that does not answer, write -oproto=tcp (IPv4 alone) in place of -otcp",
    ),
    NFS_VERSION := Option("NFS_VERSION", choice("3", "4"), "", "NFS version", "what MOUNT_NFS_OPT says"),
    NFS_MOUNT_TIMEOUT := Option(
        "NFS_MOUNT_TIMEOUT", integer(1, 3600, "seconds"), "10", "seconds one attempt to mount may take"
    ),
    CLONE_COMMAND := Option(
        "CLONE_COMMAND",
        clone_command("{old}", "{new}"),
        "",
        "for env_clone_nfs: command that makes one directory of the server a copy of another one, both by their paths "
        "there, as in: ssh root@172.16.0.1 cp -a {old} {new}",
        placeholders=("{old}", "{new}"),
    ),
    CLONE_UNDO_COMMAND := Option(
        "CLONE_UNDO_COMMAND",
        clone_command("{new}"),
        "",
        "for env_clone_nfs: command that removes a directory which this run has made, when the rest fails, as in: "
        "ssh root@172.16.0.1 rm -rf {new}",
        "it stays, and is named",
        placeholders=("{new}",),
    ),
    CLONE_TIMEOUT := Option(
        "CLONE_TIMEOUT",
        integer(1, 604800, "seconds"),
        "3600",
        "for env_clone_nfs: seconds each of these commands may take; TIMEOUT is for all the rest",
    ),
    *common.OPTIONS,
)


def plan(environment: Environment, config: Config) -> Plan:
    """Plan the mounts of one jail or VM."""
    options = _options(config)
    server = config[NFS_SERVER]
    steps = []
    items = directories.of(environment, config, DIRECTORIES)
    for item in items:
        _check_length(options, server, item.path)
        spec = MountSpec(
            item.name,
            "nfs",
            options,
            f"{server}:{item.path}",
            item.point,
            config[NFS_MOUNT_TIMEOUT],
            servers=((server, _port(options)),),
            shared=f"{server}:{config[DIRECTORIES.root]}" if item.shared else "",
            own=[f"{server}:{other.path}" for other in items],
            lockd=version(options) != "4" and "nolockd" not in options,
        )
        steps.append(Mount(spec, environment, config))
    warnings = _warnings(options, chosen=config.origin("MOUNT_NFS_OPT") != "default")
    return Plan("nfs", environment, config, steps, warnings)


def derived(plan: Plan, _: Host) -> dict[str, str]:
    """Return the values of keys whose defaults depend on others."""
    config, options = plan.config, _options(plan.config)
    values = {"NFS_VERSION": version(options)}
    if options != config[MOUNT_NFS_OPT]:
        values["MOUNT_NFS_OPT"] = " ".join(f"-o{option}" for option in options)
    return values


def _options(config: Config) -> tuple[str, ...]:
    options: tuple[str, ...] = config[MOUNT_NFS_OPT]
    given = config[NFS_VERSION]
    says = any(map(_says_version, options))
    if given and says and version(options) != given:
        if config.origin("MOUNT_NFS_OPT") != "default":
            raise ConfigError(
                f"cannot use NFS_VERSION={given} ({config.origin('NFS_VERSION')}): MOUNT_NFS_OPT "
                f"({config.origin('MOUNT_NFS_OPT')}) says {version(options)}",
                hint="correct one of them",
            )
        options = tuple(option for option in options if not _says_version(option))
        says = False
    if given and not says:
        options += (f"nfsv{given}",)
    if config[NFS_SERVER].startswith("["):
        # proto=tcp means IPv4 only, and fails without a word on an IPv6 address (docs/freebsd.md#nfs-options).
        options = tuple("proto=tcp6" if option == "proto=tcp" else option for option in options)
    return options


def _port(options: tuple[str, ...]) -> int:
    given = [option[len("port=") :] for option in options if option.startswith("port=")]
    return int(given[-1]) if given and given[-1].isdigit() else _PORT


def _check_length(options: tuple[str, ...], server: str, path: str) -> None:
    if version(options) == "4" and len(os.fsencode(path)) > _V4_PATH_MAX:
        raise ConfigError(
            f"cannot mount {server}:{path}: FreeBSD cuts an NFSv4 path after {_V4_PATH_MAX} bytes",
            hint="make it shorter",
        )
    if len(os.fsencode(f"{server}:{path}")) > _SOURCE_MAX:
        raise ConfigError(f"cannot mount {server}:{path[:40]}...: a source has at most {_SOURCE_MAX} bytes")


def _warnings(options: tuple[str, ...], *, chosen: bool) -> list[str]:
    """Return what mount_nfs(8) takes, and an administrator will regret. ``chosen``: they are not the default."""
    warnings = []
    names = {option.partition("=")[0] for option in options}
    if version(options) == "4":
        for name in sorted(names & {"intr", "soft"}):
            warnings.append(f"MOUNT_NFS_OPT has {name}, which is not safe with NFSv4 (mount_nfs(8), BUGS)")
        if chosen and "minorversion" not in names:
            warnings.append(
                "MOUNT_NFS_OPT has no minorversion: it is the highest that both know, and another one after an upgrade"
            )
    else:
        if "soft" in names:
            warnings.append("MOUNT_NFS_OPT has soft: a slow server becomes an input/output error in the jail or VM")
        if "minorversion" in names:
            warnings.append("MOUNT_NFS_OPT has minorversion, which only NFSv4 has; add vers=4")
    for name in sorted(names & {"nconnect", "oneopenown"}):
        if version(options) != "4" or "minorversion=0" in options:
            warnings.append(f"MOUNT_NFS_OPT has {name}, which needs minorversion 1 or 2 of NFSv4")
    if "noresvport" in names:
        warnings.append("MOUNT_NFS_OPT has noresvport: many servers refuse a client whose port is not a reserved one")
    if "ro" in names:
        warnings.append("MOUNT_NFS_OPT has ro: CBSD writes into the system directory of a jail or VM that it starts")
    return warnings
