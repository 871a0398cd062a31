"""Servers that a FreeBSD runs for itself alone, on loopback: NFS, an iSCSI target, two hastd(8)."""

from __future__ import annotations

from pathlib import Path

from freebsd_machine import NAME, Machine, disk, image, new_ufs, sessions, told, until

ADDRESS = "127.0.0.1"
TARGET = f"iqn.2026-11.local.{NAME}:disk0"
# The configuration that hastctl(8) reads by itself; ours is known by its first line.
HAST_CONF = "/etc/hast.conf"
MARK = f"# made by the tests of envstart ({NAME}), and removed by them\n"
_HAST_PORTS = {"a": 8457, "b": 8458}


# Files. Pure.


def exports(directory: Path) -> str:
    """Return what exports a file system that is mounted on this directory, by NFSv3 and by NFSv4.

    To NFSv4 that directory is /, so that no other file system lies on the way to it, which would have to be exported
    too, were it ZFS (nfsv4(4)).
    """
    return f"{directory} -alldirs -maproot=root {ADDRESS}\nV4: {directory} {ADDRESS}\n"


def ctl_conf(file: Path, pidfile: Path) -> str:
    """Return ctl.conf(5) of one target with one LUN."""
    return f"""\
pidfile {pidfile}
portal-group pg0 {{
	discovery-auth-group no-authentication
	listen {ADDRESS}:3260
}}
target {TARGET} {{
	auth-group no-authentication
	portal-group pg0
	lun 0 {{
		path {file}
		serial {NAME}
	}}
}}
"""


def hast_conf(own: str, other: str, file: Path, node: str, top: Path) -> str:
    """Return hast.conf(5) of one of two daemons on one host, "a" or "b".

    Each has a resource of its own name, as loopback allows, so that "a" is degraded while it is primary. "a" listens
    where hastctl(8) looks without being told.
    """
    name = NAME if own == "a" else f"{NAME}_b"
    control = "" if own == "a" else f"control uds://{top}/hast-{own}.ctl\n"
    return f"""\
{MARK}{control}pidfile {top}/hastd-{own}.pid
listen tcp4://{ADDRESS}:{_HAST_PORTS[own]}
resource {name} {{
	name {name}
	on {node} {{
		local {file}
		remote tcp4://{ADDRESS}:{_HAST_PORTS[other]}
	}}
	on other {{
		local /none
		remote none
	}}
}}
"""


# What is started is noted, so that nobody else's daemon is ended.


def _begin(machine: Machine, daemon: str, *argv: str | Path) -> None:
    with (machine.top / "started").open("a") as stream:
        stream.write(f"{daemon}\n")
    told(machine, *argv)


def started(machine: Machine) -> list[str]:
    note = machine.top / "started"
    return note.read_text().split() if note.exists() else []


NFS_NEEDS = ("kernel:nfscl", "kernel:nfsd", "idle:nfsd", "idle:mountd")


def serve_nfs(machine: Machine, *directories: str) -> Path:
    """Serve a file system of this host, and return the directory that it is mounted on."""
    top = machine.top / "srv"
    top.mkdir()
    unit = disk(machine, image(machine, "srv.img", 64))
    new_ufs(machine, f"/dev/{unit}", directories)
    told(machine, "mount", f"/dev/{unit}", top)
    (machine.top / "exports").write_text(exports(top))
    # These two may run for a client.
    for daemon, words in (("rpcbind", ("-h", ADDRESS)), ("nfsuserd", ("-domain", "lab"))):
        if machine.run("pgrep", "-x", daemon).status != 0:
            _begin(machine, daemon, daemon, *words)
    _begin(machine, "mountd", "mountd", "-r", machine.top / "exports")
    limit = told(machine, "sysctl", "-n", "vfs.nfsd.server_max_nfsvers").strip()
    (machine.top / "versions").write_text(limit)
    told(machine, "sysctl", "vfs.nfsd.server_max_nfsvers=4")
    begin_nfsd(machine)
    return top


def begin_nfsd(machine: Machine) -> None:
    _begin(machine, "nfsd", "nfsd", "-u", "-t", "-n", "4", "-h", ADDRESS)
    until(lambda: machine.run("rpcinfo", "-n", "2049", "-t", ADDRESS, "nfs", "4").status == 0, "nfsd does not serve")
    until(lambda: str(machine.top) in machine.run("showmount", "-e", ADDRESS).out, "mountd does not serve")


ISCSI_NEEDS = ("kernel:iscsi", "kernel:ctl", "ctld", "iscsid", "iscsictl", "idle:ctld")


def serve_iscsi(machine: Machine) -> None:
    """Serve a LUN with a file system in it."""
    conf = machine.top / "ctl.conf"
    conf.write_text(ctl_conf(image(machine, "lun0.img", 32), machine.top / "ctld.pid"))
    conf.chmod(0o600)
    _begin(machine, "ctld", "ctld", "-f", conf)
    if machine.run("pgrep", "-x", "iscsid").status != 0:
        _begin(machine, "iscsid", "iscsid", "-P", machine.top / "iscsid.pid")
    until(lambda: NAME in machine.run("ctladm", "devlist").out, "ctld serves no LUN")
    told(machine, "iscsictl", "-A", "-w", "30", "-p", ADDRESS, "-t", TARGET)
    until(lambda: "da" in sessions(machine).get(TARGET, ""), "the session has no disk")
    new_ufs(machine, f"/dev/{sessions(machine)[TARGET].split()[-1]}", ())
    told(machine, "iscsictl", "-R", "-t", TARGET)
    until(lambda: not sessions(machine), "the session does not end")


HAST_NEEDS = ("kernel:g_gate=geom_gate", "hastd", "hastctl", "idle:hastd", f"no:{HAST_CONF}")


def serve_hast(machine: Machine) -> None:
    """Run both ends, and leave a file system on the one that hooks ask."""
    node = told(machine, "hostname").strip()
    hosts_conf = machine.real(HAST_CONF)
    for own, other in (("b", "a"), ("a", "b")):
        text = hast_conf(own, other, image(machine, f"hast-{own}.img", 16), node, machine.top)
        conf = machine.top / f"hast-{own}.conf"
        conf.write_text(text)
        if own == "a":
            hosts_conf.parent.mkdir(exist_ok=True)
            hosts_conf.write_text(text)
        told(machine, "hastctl", "create", "-c", conf, NAME if own == "a" else f"{NAME}_b")
        _begin(machine, f"hastd-{own}", "hastd", "-c", conf, "-P", machine.top / f"hastd-{own}.pid")
    until(lambda: machine.run("hastctl", "role", "primary", NAME).status == 0, "hastd does not answer")
    until(lambda: machine.exists(f"/dev/hast/{NAME}"), "the device does not appear")
    new_ufs(machine, f"/dev/hast/{NAME}", ())
    told(machine, "hastctl", "role", "secondary", NAME)
    until(lambda: not machine.exists(f"/dev/hast/{NAME}"), "the device does not go")


def end_services(machine: Machine) -> None:
    """End each daemon that the tests have started, in the order of loopback: clients' before the disks below."""
    there = started(machine)
    for daemon, number in (("nfsd", "USR1"), ("mountd", "TERM"), ("nfsuserd", "USR1"), ("rpcbind", "TERM")):
        if daemon in there:
            # Two of them are deaf to TERM (nfsd(8), nfsuserd(8)).
            machine.run("pkill", f"-{number}", "-x", daemon)
            until(lambda: machine.run("pgrep", "-x", daemon).status != 0, f"{daemon} does not end")  # noqa: B023
    for daemon in ("iscsid", "ctld", "hastd-a", "hastd-b"):
        pidfile = machine.top / f"{daemon}.pid"
        if daemon in there and pidfile.exists():
            pid = pidfile.read_text().strip()
            machine.run("kill", pid)
            until(lambda: machine.run("kill", "-0", pid).status != 0, f"{daemon} does not end")  # noqa: B023
    conf = machine.real(HAST_CONF)
    if conf.exists() and conf.read_text().startswith(MARK):
        conf.unlink()
    versions = machine.top / "versions"
    if versions.exists():
        machine.run("sysctl", f"vfs.nfsd.server_max_nfsvers={versions.read_text()}")
    (machine.top / "started").unlink(missing_ok=True)
