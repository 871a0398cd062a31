"""Look at what the host itself must have for the backends in use: rights, programs, modules, services, an identity."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from envstart.backends.nfs import version
from envstart.cli.doctor import finding
from envstart.cli.doctor.finding import CRITICAL, HOST, NOTE, WARNING, Check, Checks, Context, Finding
from envstart.config import remedies
from envstart.engine.plan import Step
from envstart.errors import EnvstartError, TemporaryError
from envstart.steps import nfs_failure
from envstart.steps.mount import Mount
from envstart.storage import iscsi_keys
from envstart.system import rundir
from envstart.system.command import Result
from envstart.system.files import read_text
from envstart.system.host import Host

# Programs that a step of this kind runs, and the module that the kernel needs for it, as kldstat -m calls it; its
# file, if that has another name. What mount(8) or a daemon loads by itself must at least be there to load.
_PROGRAMS = {
    "freebsd": {
        "nfs": ("mount_nfs",),
        "nullfs": ("mount_nullfs",),
        "ufs": ("mount", "fsck_ffs"),
        "geli": ("geli",),
        "md": ("mdconfig",),
        "iscsi": ("iscsictl", "camcontrol"),
        "hast": ("hastctl",),
        "glusterfs": ("mount_glusterfs",),
        "ceph-fuse": ("ceph-fuse",),
        "rbd": ("rbd", "rbd-ggate"),
        "zfs": ("mount", "zfs"),
    },
    "linux": {
        "nfs": ("mount.nfs",),
        "nullfs": ("mount",),
        "ext4": ("mount", "e2fsck"),
        "iscsi": ("iscsiadm",),
        "scsi3": ("sg_persist",),
        "glusterfs": ("mount.glusterfs",),
        "ceph-fuse": ("ceph-fuse",),
        "ceph": ("mount.ceph", "ceph-authtool"),
        "rbd": ("rbd",),
    },
}
_MODULES = {"nfs": "nfscl", "nullfs": "nullfs", "geli": "g_eli", "iscsi": "iscsi"}
_MODULES |= dict.fromkeys(("glusterfs", "ceph-fuse"), "fusefs")
_FILES = {"g_eli": "geom_eli"}
# CBSD's own scripts have names of system commands (docs/cbsd.md#process).
_CBSD = "/usr/local/cbsd"
_SYSCTLS = ("security.jail.jailed", "kern.securelevel", "kern.module_path", "kern.hostuuid", "kern.hostid")
# What boards without an identity of their own say: rc.d/hostid refuses these.
_NOT_UNIQUE = frozenset(
    "00020003-0004-0005-0006-000700080009 03000200-0400-0500-0006-000700080009 07090201-0103-0301-0807-060504030201 "
    "11111111-1111-1111-1111-111111111111 11111111-2222-3333-4444-555555555555 4c4c4544-0000-2010-8020-80c04f202020 "
    "58585858-5858-5858-5858-585858585858 890e2d14-cacd-45d1-ae66-bc80e8bfeb0f 8e275844-178f-44a8-aceb-a7d7e5178c63 "
    "dc698397-fa54-4cf2-82c8-b1b5307a6a7f fefefefe-fefe-fefe-fefe-fefefefefefe".split()
)
_NOT_UNIQUE_END = "-ffff-ffff-ffff-ffffffffffff"
# Without these there is no device; without the others only locks, or tickets, fail.
_DAEMONS = ("iscsid", "hastd")
# What empties /var/run at each boot.
_CLEANVAR = "/etc/rc.d/cleanvar"
# Seconds for a command that only asks.
_TIMEOUT = 4.0


def checks(host: Host, context: Context) -> Checks:
    """Return the checks of this host."""
    yield "this host", _own(host, context)
    if host.platform != "freebsd":
        return
    yield "rc.d/cleanvar", _cleaned(context)
    if not context.subjects:
        return
    yield "the kernel", _kernel(host, context)
    for fstype in sorted(context.fstypes() & set(_MODULES)):
        yield "kernel modules", _module(host, _MODULES[fstype])
    for name, users in finding.users(context, _services).items():
        yield f"the service {name}", _service(host, name, users)
    yield "the clock", _clock(host)
    yield "locks of NFS", _locks(context)


async def _locks(context: Context) -> Check:
    """Tell who has NFSv3 with locks on the server, which rpc.lockd(8) serves: see umount(8), -f."""
    mounts = [(each.name, step) for each in context.subjects for step in each.plan.steps if isinstance(step, Mount)]
    users = list(dict.fromkeys(name for name, mount in mounts if mount.spec.lockd))
    if users:
        text = "NFSv3 without nolockd: while rpc.lockd runs, a forced unmount can crash the host (umount(8))"
        remedy = "add -onolockd to MOUNT_NFS_OPT, or use NFSv4, unless hosts lock files against each other"
        yield finding.of_several(NOTE, users, text, remedy)


async def _own(host: Host, context: Context) -> Check:
    """Look at what can be told without asking anybody."""
    if os.geteuid() != 0:
        again = remedies.known("doctor", [], [inventory.workdir for inventory in context.inventories])
        yield Finding(WARNING, HOST, "not all can be seen by others than root", again)
    elif os.path.lexists(rundir.DIR):
        try:
            rundir.directory()
        except EnvstartError as error:
            yield finding.of_error(CRITICAL, HOST, error)
    commands = _PROGRAMS[host.platform]
    programs = sorted({program for fstype in context.fstypes() for program in commands.get(fstype, ())})
    theirs = (f"{_CBSD}/", *(f"{inventory.workdir}/" for inventory in context.inventories))
    for program in programs:
        path = host.find(program)
        if path is None:
            yield Finding(CRITICAL, HOST, f"{program} is not installed", f"install what {program} comes with")
        elif os.path.realpath(path).startswith(theirs):
            text = f"{path} is CBSD's script, not the system's {program}"
            yield Finding(CRITICAL, HOST, text, f"take {path} away: CBSD finds its own without it")


async def _cleaned(context: Context) -> Check:
    """Find what rc.d/cleanvar of FreeBSD 12 and 13 would delete: without -x find(1) goes down into what is mounted."""
    points = sorted(point for point in context.mounts.points if point.startswith("/var/run/"))
    lines = [line.split() for line in (read_text(_CLEANVAR) if points else "").splitlines()]
    finds = [words[1 : words.index("/var/run")] for words in lines if words[:1] == ["find"] and "/var/run" in words]
    if not all("x" in "".join(flags) for flags in finds):
        mounted = f"what is mounted below /var/run ({finding.several(points)})"
        text = f"{_CLEANVAR} deletes files in {mounted}: its find has no -x"
        remedy = "stop the jails and VMs and start them again: envstart mounts below /var/db/envstart by now"
        yield Finding(CRITICAL, HOST, text, f"{remedy}; or add the -x")


async def _sysctls(host: Host) -> dict[str, str]:
    """Return the values that are looked at here; what this kernel does not know is missing."""

    def parse(result: Result) -> dict[str, str]:
        rows = [line.partition(": ") for line in result.out.splitlines()]
        if not rows:
            raise ValueError(result.words)
        return {name: value.strip() for name, _, value in rows}

    values: dict[str, str] = await host.ask(("sysctl", *_SYSCTLS), parse, lasting=True)
    return values


async def _kernel(host: Host, context: Context) -> Check:
    values = await _sysctls(host)
    if values.get("security.jail.jailed", "0") != "0":
        text = "this is a jail: nothing can be mounted from here as CBSD wants it"
        yield Finding(CRITICAL, HOST, text, "run CBSD and its hooks on the host")
    users = [subject.name for subject in context.subjects if any(map(_tells_hosts_apart, subject.plan.steps))]
    if users and (wrong := _wrong_identity(values)):
        text = f"{wrong}: two such hosts take each other's files away, and reservations if they have one name"
        yield finding.of_several(CRITICAL, users, text, "service hostid reset, while no jail or VM runs")


def _wrong_identity(values: Mapping[str, str]) -> str:
    """Return what is wrong with /etc/hostid, by which servers and disks tell hosts (docs/freebsd.md#nfs-limits)."""
    uuid = values.get("kern.hostuuid", "").lower()
    if not uuid.replace("-", "").strip("0"):
        return "kern.hostuuid is not set"
    if uuid in _NOT_UNIQUE or uuid.endswith(_NOT_UNIQUE_END):
        return f"kern.hostuuid is {uuid}, which many boards have"
    return "kern.hostid is 0" if values.get("kern.hostid", "") in ("", "0") else ""


def _tells_hosts_apart(step: Step) -> bool:
    return step.fstype == "iscsi" or (step.fstype == "nfs" and version(getattr(step, "options", ())) == "4")


async def _module(host: Host, name: str) -> Check:
    file = _FILES.get(name, name)
    if (await _asked(host, "kldstat", "-q", "-m", name)).status == 0:
        return
    values = await _sysctls(host)
    if values.get("kern.securelevel", "-1") not in ("-1", "0"):
        text = f"the kernel has no {name}, and kern.securelevel forbids to load it"
        yield Finding(CRITICAL, HOST, text, f'sysrc kld_list+="{file}", and boot')
        return
    directories = [path for path in values.get("kern.module_path", "").split(";") if path]
    if not any(os.path.exists(f"{directory}/{file}.ko") for directory in directories):
        text = f"the kernel has no {name}, and {file}.ko is nowhere in kern.module_path"
        yield Finding(CRITICAL, HOST, text, "install the kernel with its modules")


def _services(subject: finding.Subject) -> Iterator[str]:
    """Return the services that must run."""
    for step in subject.plan.steps:
        options: tuple[str, ...] = getattr(step, "options", ())
        if step.fstype == "iscsi" and not subject.plan.config[iscsi_keys.ISCSI_START_DAEMON]:
            yield "iscsid"
        elif step.fstype == "hast":
            yield "hastd"
        elif step.fstype == "nfs":
            if version(options) != "4" and "nolockd" not in options:
                # Else a lock in the jail or VM fails: No locks available (docs/freebsd.md#nfs-mounted).
                yield from ("rpcbind", "statd", "lockd")
            yield from nfs_failure.daemons(options)


async def _service(host: Host, name: str, users: list[str]) -> Check:
    if (await _asked(host, "service", name, "onestatus")).status != 0:
        text = f"the service {name} does not run"
        yield finding.of_several(CRITICAL if name in _DAEMONS else WARNING, users, text, f"service {name} onestart")
    if (await _asked(host, "service", name, "enabled")).status != 0:
        text = f"the service {name} is not enabled: it will not run after a boot"
        yield finding.of_several(WARNING, users, text, f"service {name} enable")


async def _clock(host: Host) -> Check:
    if (await _asked(host, "service", "ntpd", "onestatus")).status != 0:
        text = "ntpd does not run: leases and times of files are compared with those of other hosts"
        remedy = "service ntpd enable; service ntpd start; or nothing, if something else does it"
        yield Finding(NOTE, HOST, text, remedy)


async def _asked(host: Host, *argv: str) -> Result:
    """Run a command that only asks; TemporaryError without an answer."""
    result = await host.run(argv, timeout=_TIMEOUT, read_only=True)
    if result.status is None:
        raise TemporaryError(f"cannot tell: {' '.join(argv)}: {result.words}", hint="try again")
    return result
