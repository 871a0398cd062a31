"""``envstart jailconf``: files of a VNET thin jail for jail(8) without CBSD.

Its jail.conf(5), whose exec.prepare and exec.release run the hooks, and the fstab(5) that THIN_FSTAB names. jail(8)
runs exec.prepare before all of its own mounts, and exec.release after they are gone; a start of it that fails runs
neither exec.poststop nor exec.release (docs/freebsd.md#jail). So the hooks mount all that the fstab lists, and a next
start finds it; mount.fstab would mount it once more.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import ipaddress
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envstart.cbsd import links
from envstart.cli.arguments import CONFIG, Verbs, add_verb
from envstart.config.schema import ALNUM
from envstart.errors import UsageError
from envstart.steps.thin_keys import SKELETON
from envstart.system.files import read_text
from envstart.system.log import Report, tell

# What needs no quotes in jail.conf(5), and what jail(8) hands to its commands without a shell.
_PLAIN = ALNUM | set("/._-+")
_NAME = ALNUM | set("_-")
# Network interfaces have at most 15 characters, epairNb among them.
_INTERFACE_MAX, _ID_MAX = 15, 32767


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    parser = add_verb(verbs, "jailconf", "print the jail.conf(5) of a VNET thin jail", run, [CONFIG])
    parser.add_argument("name", metavar="NAME", help="name of the jail")
    parser.add_argument("--address", required=True, metavar="ADDRESS/LENGTH", help="its IPv4 address")
    parser.add_argument("--bridge", required=True, metavar="INTERFACE", help="bridge(4) of this host that it is put on")
    parser.add_argument("--base", required=True, metavar="DIR", help="the base that it shares")
    parser.add_argument("--gateway", metavar="ADDRESS", help="its default route")
    parser.add_argument("--id", metavar="NUMBER", help="number of its epair(4), instead of one that no other jail has")
    parser.add_argument("--dir", default="/usr/local/jails", metavar="DIR", help="with containers/NAME, its skeleton")
    parser.add_argument("--hooks", metavar="DIR", help="where env_start_nullfs is, if not beside this command")
    parser.add_argument("--print-fstab", action="store_true", help="print the fstab(5) that goes with it instead")


def run(options: argparse.Namespace, report: Report) -> int:
    """Print one of the files."""
    texts = []
    for path in ("/etc/jail.conf", *sorted(glob.glob("/etc/jail.conf.d/*.conf"))):
        with contextlib.suppress(OSError):
            texts.append(read_text(path))
    jail = Jail(
        name=options.name,
        address=options.address,
        bridge=options.bridge,
        base=options.base,
        directory=options.dir,
        hooks=options.hooks or os.path.dirname(links.programs()["remove.d"]),
        gateway=options.gateway,
        number=options.id,
        config=options.config,
        used=numbers_in(texts),
    )
    tell(fstab(jail) if options.print_fstab else conf(jail))
    return os.EX_OK


@dataclass(kw_only=True)
class Jail:
    """Values that the files are made from; UsageError if they cannot be. ``address``: IPv4/LENGTH.

    ``directory`` holds ``containers/NAME``, the skeleton, and ``NAME-nullfs-base``, where the jail is put together.
    ``used``: numbers of epair(4) and the jails that have them (numbers_in).
    """

    name: str
    address: str
    bridge: str
    base: str
    directory: str
    hooks: str
    gateway: str | None = None
    number: str | None = None
    config: str | None = None
    used: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values, and choose the number that is not given."""
        if not self.name or not _NAME.issuperset(self.name) or self.name.startswith("-") or self.name.isdigit():
            raise UsageError(f"cannot name a jail {self.name!r}: use letters, digits, _ and -, and not digits alone")
        if not self.bridge or not _NAME.issuperset(self.bridge) or len(self.bridge) > _INTERFACE_MAX:
            raise UsageError(f"cannot use --bridge {self.bridge!r}: that is no name of a network interface")
        paths = {"--base": self.base, "--dir": self.directory, "--hooks": self.hooks, "-c": self.config}
        for option, path in paths.items():
            if path is not None and (not path.startswith("/") or not _PLAIN.issuperset(path)):
                raise UsageError(f"cannot use {option} {path!r}: use an absolute path of letters, digits and . _ - +")
        self.address, self.gateway = _network(self.address, self.gateway)
        number = self.number = _unused(self.name, self.address, self.used) if self.number is None else self.number
        if not (number.isascii() and number.isdigit()) or int(number) > _ID_MAX:
            raise UsageError(f"cannot use --id {number!r}: it is the number of an epair(4) that no other jail has")
        owner = self.used.get(str(int(number)), self.name)
        if owner != self.name:
            raise UsageError(f"cannot use --id {number}: jail {owner} has epair{number}", hint="leave --id out")


def _unused(name: str, address: str, used: Mapping[str, str]) -> str:
    """Return the number that the jail has already, else one of no other jail's, made of its name and whole address."""
    if name in used.values():
        return next(number for number, owner in used.items() if owner == name)
    # The last part of an address can be that of a jail in another network.
    first = zlib.crc32(f"{name} {address}".encode()) % _ID_MAX
    numbers = (str(1 + (first + step) % _ID_MAX) for step in range(_ID_MAX))
    return next(number for number in numbers if number not in used)


def numbers_in(texts: Iterable[str]) -> dict[str, str]:
    """Return the number of each epair(4) that these files in the form of jail.conf(5) name, and its jail."""
    used: dict[str, str] = {}
    for text in texts:
        name = "*"
        for line in text.splitlines():
            line = line.partition("#")[0]
            if opened := re.match(r"\s*([\w.*-]+)\s*\{", line):
                name = opened[1]
            for number in re.findall(r"\$id\s*=\s*[\"']?(\d+)|\bepair(\d+)", line):
                used.setdefault(str(int(number[0] or number[1])), name)
    return used


def _network(address: str, gateway: str | None) -> tuple[str, str | None]:
    """Return address and gateway as they are written in the end."""
    try:
        if "/" not in address:
            raise ValueError("it has no prefix length, as in 192.168.7.111/24")
        own = ipaddress.IPv4Interface(address)
        if own.network.prefixlen < 31 and own.ip in (own.network.network_address, own.network.broadcast_address):
            raise ValueError("that is the network's own, or its broadcast address")
    except ValueError as error:
        raise UsageError(f"cannot use --address {address!r}: {error}") from None
    if gateway is not None:
        try:
            through = ipaddress.IPv4Address(gateway)
        except ValueError as error:
            raise UsageError(f"cannot use --gateway {gateway!r}: {error}") from None
        if through not in own.network or through == own.ip:
            raise UsageError(f"cannot use --gateway {gateway}: it is no other address in {own.network}")
        gateway = str(through)
    return str(own), gateway


def conf(jail: Jail) -> str:
    """Return ``/etc/jail.conf.d/NAME.conf``: the FreeBSD Handbook's, with the hooks in place of mount.fstab."""
    words = "-j ${name} -d ${path} -s ${path}.system" + (f" -c {jail.config}" if jail.config else "")
    variables = {"id": jail.number, "ip": jail.address, "gateway": jail.gateway, "bridge": jail.bridge}
    lines = [
        f"# /etc/jail.conf.d/{jail.name}.conf: a VNET thin jail, put together by envstart",
        "# /etc/jail.conf must set no mount.fstab for it: what that lists would be mounted a second time.",
        "# A start that fails runs neither exec.poststop nor exec.release. The next start finds the mounts, or",
        f"# env_stop_nullfs takes them away; the interface must go by hand: ifconfig epair{jail.number}a destroy",
        f"{jail.name} {{",
        *(f'  ${key} = "{value}";' for key, value in variables.items() if value is not None),
        '  $epair = "epair${id}";',
        "",
        "  # Before jail(8) mounts anything, and when all of that is gone. If the first fails, there is no jail.",
        f'  exec.prepare = "{jail.hooks}/env_start_nullfs {words}";',
        f'  exec.release = "{jail.hooks}/env_stop_nullfs {words}";',
        "",
        '  exec.start = "/bin/sh /etc/rc";',
        '  exec.stop = "/bin/sh /etc/rc.shutdown";',
        '  exec.consolelog = "/var/log/jail_console_${name}.log";',
        "",
        "  allow.raw_sockets;",
        "  exec.clean;",
        "  mount.devfs;",
        "  devfs_ruleset = 5;",
        "  allow.mount;",
        "  allow.mount.devfs;",
        "  enforce_statfs = 1;",
        "",
        '  host.hostname = "${name}";',
        f'  path = "{jail.directory}/${{name}}-nullfs-base";',
        "",
        '  interface = "${bridge}";',
        "  vnet;",
        '  vnet.interface = "${epair}b";',
        '  exec.prestart = "ifconfig ${epair} create up";',
        '  exec.prestart += "ifconfig ${epair}a up descr jail:${name}";',
        '  exec.prestart += "ifconfig ${bridge} addm ${epair}a up";',
        '  exec.start += "ifconfig ${epair}b ${ip} up";',
        *(['  exec.start += "route add default ${gateway}";'] if jail.gateway else []),
        '  exec.poststop = "ifconfig ${bridge} deletem ${epair}a";',
        '  exec.poststop += "ifconfig ${epair}a destroy";',
        "}",
    ]
    return "\n".join(lines) + "\n"


def fstab(jail: Jail) -> str:
    """Return the file that THIN_FSTAB names: the base, and the skeleton in it."""
    root = f"{jail.directory}/{jail.name}-nullfs-base"
    skeleton = f"{jail.directory}/containers/{jail.name}"
    rows = ((jail.base, root, "ro"), (skeleton, f"{root}/{SKELETON}", "rw"))
    return "".join(f"{source}\t{point}\tnullfs\t{mode}\t0\t0\n" for source, point, mode in rows)
