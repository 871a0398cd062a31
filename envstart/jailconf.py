"""The files of a VNET thin jail for jail(8) without CBSD: its jail.conf(5), whose exec.prepare and exec.release run the
hooks, and the fstab(5) that THIN_FSTAB names. Pure.

jail(8) runs exec.prepare before all of its own mounts, and exec.release after they are gone; a start of it that fails
runs neither exec.poststop nor exec.release (commands.md §23). So the hooks mount all that the fstab lists, and a next
start finds it; mount.fstab would mount it once more.
"""

from __future__ import annotations

from .errors import Usage
from .options import ALNUM
from .thin import SKELETON

# What needs no quotes in jail.conf(5), and what jail(8) hands to its commands without a shell.
_PLAIN = ALNUM | set("/._-+")
_NAME = ALNUM | set("_-")
# Network interfaces have at most 15 characters, epairNb among them.
_INTERFACE_MAX, _ID_MAX = 15, 32767


class Jail:
    """What the files are made from; Usage if it cannot be. ``address`` is IPv4, with the length of its prefix.

    ``directory`` holds ``containers/NAME``, the skeleton, and ``NAME-nullfs-base``, where the jail is put together.
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
    ) -> None:
        if not name or not _NAME.issuperset(name) or name.startswith("-") or name.isdigit():
            raise Usage(f"cannot name a jail {name!r}: use letters, digits, _ and -, and not digits alone")
        if not bridge or not _NAME.issuperset(bridge) or len(bridge) > _INTERFACE_MAX:
            raise Usage(f"cannot use --bridge {bridge!r}: that is no name of a network interface")
        for option, path in (("--base", base), ("--dir", directory), ("--hooks", hooks), ("-c", config)):
            if path is not None and (not path.startswith("/") or not _PLAIN.issuperset(path)):
                raise Usage(f"cannot use {option} {path!r}: use an absolute path of letters, digits and . _ - +")
        self.name = name
        self.bridge = bridge
        self.base = base
        self.skeleton = f"{directory}/containers/{name}"
        self.directory = directory
        self.hooks = hooks
        self.config = config
        self.address, self.gateway, last = _network(address, gateway)
        self.number = last if number is None else number
        if not (self.number.isascii() and self.number.isdigit()) or int(self.number) > _ID_MAX:
            raise Usage(f"cannot use --id {self.number!r}: it is the number of an epair(4) that no other jail has")


def _network(address: str, gateway: str | None) -> tuple[str, str | None, str]:
    """Address and gateway as they are written in the end, and the last number of the address."""
    import ipaddress

    try:
        if "/" not in address:
            raise ValueError("it has no prefix length, as in 192.168.7.111/24")
        own = ipaddress.IPv4Interface(address)
        if own.network.prefixlen < 31 and own.ip in (own.network.network_address, own.network.broadcast_address):
            raise ValueError("that is the network's own, or its broadcast address")
    except ValueError as error:
        raise Usage(f"cannot use --address {address!r}: {error}") from None
    if gateway is not None:
        try:
            through = ipaddress.IPv4Address(gateway)
        except ValueError as error:
            raise Usage(f"cannot use --gateway {gateway!r}: {error}") from None
        if through not in own.network or through == own.ip:
            raise Usage(f"cannot use --gateway {gateway}: it is no other address in {own.network}")
        gateway = str(through)
    return str(own), gateway, str(own.ip).rpartition(".")[2]


def conf(jail: Jail) -> str:
    """``/etc/jail.conf.d/NAME.conf``: the seed's layout, with the hooks in place of mount.fstab."""
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
