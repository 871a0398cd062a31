"""The files of a VNET thin jail for jail(8) without CBSD: its jail.conf(5), whose exec.prepare and exec.release run the
hooks, and the fstab(5) that THIN_FSTAB names. Pure.

jail(8) runs exec.prepare before all of its own mounts, and exec.release after they are gone; a start of it that fails
runs neither exec.poststop nor exec.release (docs/freebsd.md#jail). So the hooks mount all that the fstab lists, and a
next start finds it; mount.fstab would mount it once more.
"""

from __future__ import annotations

from envstart.config.schema import ALNUM
from envstart.errors import UsageError
from envstart.steps.thin import SKELETON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What needs no quotes in jail.conf(5), and what jail(8) hands to its commands without a shell.
_PLAIN = ALNUM | set("/._-+")
_NAME = ALNUM | set("_-")
# Network interfaces have at most 15 characters, epairNb among them.
_INTERFACE_MAX, _ID_MAX = 15, 32767


class Jail:
    """What the files are made from; UsageError if it cannot be. ``address`` is IPv4, with the length of its prefix.

    ``directory`` holds ``containers/NAME``, the skeleton, and ``NAME-nullfs-base``, where the jail is put together.
    ``used``: numbers of epair(4) and the jails that have them (numbers_in).
    """

    def __init__(
        self,
        name: str,
        address: str,
        bridge: str,
        base: str,
        directory: str,
        hooks: str,
        gateway: str | None = None,
        number: str | None = None,
        config: str | None = None,
        used: Mapping[str, str] | None = None,
    ) -> None:
        if not name or not _NAME.issuperset(name) or name.startswith("-") or name.isdigit():
            raise UsageError(f"cannot name a jail {name!r}: use letters, digits, _ and -, and not digits alone")
        if not bridge or not _NAME.issuperset(bridge) or len(bridge) > _INTERFACE_MAX:
            raise UsageError(f"cannot use --bridge {bridge!r}: that is no name of a network interface")
        for option, path in (("--base", base), ("--dir", directory), ("--hooks", hooks), ("-c", config)):
            if path is not None and (not path.startswith("/") or not _PLAIN.issuperset(path)):
                raise UsageError(f"cannot use {option} {path!r}: use an absolute path of letters, digits and . _ - +")
        self.name = name
        self.bridge = bridge
        self.base = base
        self.skeleton = f"{directory}/containers/{name}"
        self.directory = directory
        self.hooks = hooks
        self.config = config
        self.address, self.gateway = _network(address, gateway)
        self.number = _unused(name, self.address, used or {}) if number is None else number
        if not (self.number.isascii() and self.number.isdigit()) or int(self.number) > _ID_MAX:
            raise UsageError(f"cannot use --id {self.number!r}: it is the number of an epair(4) that no other jail has")
        owner = (used or {}).get(str(int(self.number)), name)
        if owner != name:
            raise UsageError(
                f"cannot use --id {self.number}: jail {owner} has epair{self.number}", hint="leave --id out"
            )


def _unused(name: str, address: str, used: Mapping[str, str]) -> str:
    """Return the number that the jail has already, else one made of its name and its whole address that no other has:
    the last part of an address can be that of a jail in another network."""
    import zlib

    for number, owner in used.items():
        if owner == name:
            return number
    first = zlib.crc32(f"{name} {address}".encode()) % _ID_MAX
    return next(str(1 + (first + step) % _ID_MAX) for step in range(_ID_MAX) if _is_free(first + step, used))


def _is_free(index: int, used: Mapping[str, str]) -> bool:
    return str(1 + index % _ID_MAX) not in used


def numbers_in(texts: Iterable[str]) -> dict[str, str]:
    """Return the number of each epair(4) that these files in the form of jail.conf(5) name, and its jail."""
    import re

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
    """Address and gateway as they are written in the end."""
    import ipaddress

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
    """``/etc/jail.conf.d/NAME.conf``: the FreeBSD Handbook's layout, with the hooks in place of mount.fstab."""
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
    """The file that THIN_FSTAB names: the base, and the skeleton in it."""
    root = f"{jail.directory}/{jail.name}-nullfs-base"
    rows = ((jail.base, root, "ro"), (jail.skeleton, f"{root}/{SKELETON}", "rw"))
    return "".join(f"{source}\t{point}\tnullfs\t{mode}\t0\t0\n" for source, point, mode in rows)
