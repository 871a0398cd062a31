"""Make guests a file server, or nodes that run the hooks as CBSD does (docs/cbsd.md#calls)."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterable
from pathlib import Path

from .guest import Ended, Guest

ROOT = Path(__file__).resolve().parent.parent.parent
HOOKS = "/usr/local/libexec/envstart/hooks"
WORKDIR = "/usr/jails"
EXPORTED = "/srv/nfs"
VOLUME = "gv0"
DIRECTORIES = ("data", "fstab", "system")
# What CBSD has in front of its PATH; the hooks must not find these.
DECOYS = "/usr/local/cbsd/bin"
SHADOWED = ("mount", "umount", "mount.nfs", "mountpoint", "service", "sleep")
# Seconds of a hook, long enough for an emulated machine beside others; and what leaving it may take beyond them.
TIMEOUT = 40
GRACE = 1.0


class Storage(Guest):
    """Serves NFSv4, NFSv3 and GlusterFS."""

    def serve(self, *names: str) -> None:
        """Export the directories of these environments."""
        for name in names:
            self.make(name)
        self.put("/etc/exports", f"{EXPORTED} 10.0.0.0/24(rw,no_root_squash,no_subtree_check,insecure)\n")
        self.do(
            "rpcbind 2>/dev/null; modprobe nfsd; mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd; "
            # After a start nobody gets a lock until this long has passed.
            "exportfs -r; rpc.nfsd -G 10 -L 10 4; pgrep rpc.mountd >/dev/null || rpc.mountd",
            120,
        )

    def make(self, name: str) -> None:
        """Make the directories of an environment on the disk."""
        paths = " ".join(f"{EXPORTED}/{which}/{name}" for which in DIRECTORIES)
        self.do(f"mkdir -p {paths}; mkdir -p {EXPORTED}/data/{name}/etc; echo {name} > {EXPORTED}/data/{name}/etc/name")

    def serve_gluster(self, *names: str) -> None:
        """Serve a GlusterFS volume with these environments' directories; on tmpfs a brick would lack attributes."""
        paths = " ".join(f"/mnt/{which}/{name}" for which in DIRECTORIES for name in names)
        self.do(
            "glusterd; until gluster volume list; do sleep 1; done; mkdir -p /srv/brick; "
            f"gluster --mode=script volume create {VOLUME} {self.address}:/srv/brick force; "
            f"gluster --mode=script volume start {VOLUME}; "
            f"until mount.glusterfs {self.address}:{VOLUME} /mnt && mkdir -p {paths}; do sleep 2; done; umount /mnt",
            240,
        )

    def refuse(self) -> None:
        """Take no connection any more."""
        self.do("rpc.nfsd 0", 120)


class Node(Storage):
    """Runs the hooks; it can be a server as well."""

    def set_up(self, *names: str, **keys: str) -> None:
        """Put the program there, CBSD's workdir, environments in it, and the configuration."""
        self.put("/tmp/envstart.tar.gz", packed())
        self.do(
            f"mkdir -p {HOOKS} /var/empty {DECOYS} {WORKDIR}/etc {WORKDIR}/jails-rcconf; "
            f"tar -C {HOOKS}/.. -xzf /tmp/envstart.tar.gz; echo {self.name} > {WORKDIR}/nodename; "
            # What a first mount would wait for on an emulated machine, and what NFSv3 needs for its locks.
            "modprobe -a nfsv3 nfsv4; rpcbind 2>/dev/null; pgrep rpc.statd >/dev/null || rpc.statd",
            120,
        )
        for program in SHADOWED:
            self.put(f"{DECOYS}/{program}", "#!/bin/sh\necho $0 >> /tmp/decoyed\nexit 1\n", 0o755)
        for name in names:
            self.do(f"mkdir -p {' '.join(points(name))}")
        self.configure(**keys)

    def configure(self, more: str = "", backend: str = "nfs", **keys: str) -> None:
        """Write the configuration of a backend's hooks; ``more`` are sections."""
        own = {
            "nfs": {"NFS_SERVER": "10.0.0.1", "NFS_SERVER_ROOT_DIR": EXPORTED, "NFS_MOUNT_TIMEOUT": "12"},
            "gluster": {"GLUSTER_SERVER": "10.0.0.1", "GLUSTER_VOLUME": VOLUME, "GLUSTER_MOUNT_TIMEOUT": "30"},
        }
        values = {**own[backend], "TIMEOUT": str(TIMEOUT), "PROBE_TIMEOUT": "6", "BREAKER": "0", **keys}
        text = "".join(f'{key}="{value}"\n' for key, value in values.items())
        self.put(f"{WORKDIR}/etc/env_start_{backend}.conf", text + more)

    def line(self, verb: str, name: str = "jail1", backend: str = "nfs") -> str:
        """Return the hook as CBSD calls it: its environment, its directory, its umask, its argv."""
        data, fstab, system = points(name)
        path = f"{DECOYS}:/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
        argv = [f"{HOOKS}/env_{verb}_{backend}", "-d", data, "-f", fstab, "-j", name, "-r", f"{WORKDIR}/jails-rcconf"]
        return (
            f"cd /var/empty; umask 002; exec env -i PATH={path} HOME=/root workdir={WORKDIR} NOINTER=1 "
            f"CBSD_APP=j{verb} {shlex.join([*argv, '-s', system])}"
        )

    def hook(self, verb: str, name: str = "jail1", backend: str = "nfs", timeout: float = TIMEOUT) -> Ended:
        """Run it; it must end by itself within its TIMEOUT, whatever the kernel does."""
        ended = self.run(self.line(verb, name, backend), timeout + 20)
        assert ended.status is not None, f"the hook still ran after {ended.seconds:.1f} s"
        assert ended.seconds < timeout + GRACE, ended
        return ended

    def hand(self, words: str, timeout: float = 120.0) -> Ended:
        """Run the tool on the host."""
        return self.run(f"{HOOKS}/envstart {words}", timeout)

    def mounted(self) -> list[tuple[str, str]]:
        """Source and mount point of all that is mounted below the workdir, sorted."""
        rows = []
        for line in self.do("cat /proc/self/mountinfo").splitlines():
            front, _, back = line.partition(" - ")
            if front.split()[4].startswith(f"{WORKDIR}/"):
                rows.append((back.split()[1], front.split()[4]))
        return sorted(rows)

    def has(self, *names: str, server: str = "10.0.0.1") -> bool:
        """Whether exactly the directories of these environments are mounted."""
        return self.mounted() == sorted(row for name in names for row in rows_of(name, server))

    def processes(self) -> list[str]:
        """Of ours and of mount's, those that are left."""
        listed = self.do("ps -eo pid,stat,args").splitlines()[1:]
        # Zombies are the agent's, who waits for no child but its own.
        return [
            line.strip() for line in listed if ("env_st" in line or "mount.nfs" in line) and "<defunct>" not in line
        ]

    def clean(self) -> bool:
        """Unmount everything, by force, and end what is left; whether that was possible."""
        self.run("pkill -9 -f env_st; pkill -9 mount.nfs; true", 10)
        points = [point for _, point in reversed(self.mounted())]
        for point in points:
            self.run(f"umount -f -l {shlex.quote(point)}", 10)
        self.run("rm -rf /run/envstart /var/run/envstart /tmp/decoyed", 10)
        return not self.mounted() and not self.processes()


def points(name: str) -> tuple[str, str, str]:
    """Return the mount points of an environment: data, fstab, system."""
    return f"{WORKDIR}/jails-data/{name}-data", f"{WORKDIR}/jails-fstab/{name}", f"{WORKDIR}/jails-system/{name}"


def rows_of(name: str, server: str = "10.0.0.1") -> list[tuple[str, str]]:
    """Return the mounts of an environment that is started."""
    return [(f"{server}:{EXPORTED}/{which}/{name}", point) for which, point in zip(DIRECTORIES, points(name))]


def packed(names: Iterable[str] = ("envstart", "hooks", "conf")) -> bytes:
    """Return the files of this tree that run on a host."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in names:
            tar.add(ROOT / name, name, filter=lambda one: None if "__pycache__" in one.name else one)
    return stream.getvalue()
