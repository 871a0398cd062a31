"""The disk of a guest: Debian with its cloud kernel, made once from its packages, and kept outside the tree."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
import tenacity

_SYSTEM = (
    "linux-image-cloud-amd64", "busybox-static", "cpio", "kmod", "udev", "iproute2", "procps", "psmisc", "e2fsprogs",
    "python3", "python3-configobj", "python3-psutil",
)  # fmt: skip
# What is on each kind of disk.
PACKAGES = {
    "storage": (
        "nfs-kernel-server", "nfs-common", "open-iscsi", "sg3-utils", "glusterfs-server", "glusterfs-client",
    ),
    "ceph": ("ceph-mon", "ceph-osd", "ceph-mds", "ceph-common", "ceph-fuse", "python3-pytest"),
}  # fmt: skip
# What a guest never reads.
USELESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/lib/apt/lists")
SIZE = "3G"
# The root file system is on the one, and the other finds it; Debian's kernel has ext4 in itself.
DRIVERS = ("virtio_pci", "virtio_blk")
PROGRAMS = ("qemu-system-x86_64", "debootstrap", "mke2fs")
# In a mount namespace, so that nothing stays mounted; root directory, packages.
INSTALL = """
mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && cp /etc/resolv.conf "$1/etc/" || exit 1
root=$1; shift
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get update -q && chroot "$root" apt-get install -q -y --no-install-recommends "$@"
"""
# What the first programs of the guest do until its own disk is there; the agent is process 1 from then on.
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module; done
while ! [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox cp /agent.py /root/agent.py
exec /bin/busybox switch_root /root /usr/bin/python3 /agent.py
"""


class Image(NamedTuple):
    """What a guest is started from; it is never written to."""

    kernel: Path
    initrd: Path
    disk: Path


def why_not() -> str:
    """Why no guests can run on this machine; empty if they can."""
    if platform.machine() != "x86_64" or _debian() == "":
        return "the guests are Debian on x86_64, and made on such a machine"
    if os.geteuid():
        return "only root can make the guests' disk"
    lacking = [program for program in PROGRAMS if not shutil.which(program)]
    return f"{', '.join(lacking)} not installed" if lacking else ""


def demanded() -> bool:
    """Whether the lab must not be left out."""
    return PROGRAMS[0] in os.environ.get("ENVSTART_REAL", "").split()


def image(kind: str = "storage") -> Image:
    """Return a disk as this file describes it, made if it is not there yet (a minute or two)."""
    recipe = (_debian(), _SYSTEM, PACKAGES[kind], INSTALL, USELESS, SIZE, DRIVERS, INIT, version("tenacity"))
    key = f"{kind}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{key}.lock", "w") as lock:
        # It waits while another run makes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = cache / key
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _make(Path(scratch), PACKAGES[kind])
                os.rename(Path(scratch) / "made", made)
        return Image(made / "vmlinuz", _pack_initrd(made), made / "disk")


def _cache() -> Path:
    given = os.environ.get("ENVSTART_LAB_CACHE")
    return Path(given or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "envstart-lab"))


def _debian() -> str:
    """Return the release of Debian that this machine has; empty if it is no Debian."""
    try:
        words = Path("/etc/os-release").read_text().split()
    except OSError:
        return ""
    said = dict(word.partition("=")[::2] for word in words)
    return said.get("VERSION_CODENAME", "") if said.get("ID") == "debian" else ""


def _make(scratch: Path, packages: Iterable[str]) -> None:
    root, made = scratch / "root", scratch / "made"
    made.mkdir()
    _run("debootstrap", "--variant=minbase", f"--include={','.join(_SYSTEM)}", _debian(), str(root))
    # apt-get knows the order in which many packages can be set up, and debootstrap does not.
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    _run("unshare", "-m", "--propagation", "private", "sh", "-c", INSTALL, "sh", str(root), *packages)
    # Debian's own is older than what the hooks need; it is of Python alone.
    shutil.copytree(Path(tenacity.__file__).parent, root / "usr/lib/python3/dist-packages/tenacity", dirs_exist_ok=True)
    shutil.copy(next((root / "boot").glob("vmlinuz-*")), made / "vmlinuz")
    _gather_initrd(root, made / "early")
    for directory in USELESS:
        shutil.rmtree(root / directory)
    for path in [*(root / "boot").iterdir(), *(root / "var/cache/apt/archives").glob("*.deb")]:
        path.unlink()
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(made / "disk"), SIZE)


def _gather_initrd(root: Path, early: Path) -> None:
    """Gather what the kernel starts from, without the agent, which changes more often."""
    for directory in ("bin", "dev", "proc", "root", "modules"):
        (early / directory).mkdir(parents=True)
    for program in ("busybox", "cpio"):
        shutil.copy(root / "bin" / program, early / "bin")
    modules = next((root / "lib/modules").iterdir())
    needs = dict(line.split(":") for line in (modules / "modules.dep").read_text().splitlines())
    order: list[str] = []
    for driver in DRIVERS:
        path = next(path for path in needs if path.endswith(f"/{driver}.ko"))
        order += [need for need in [*reversed(needs[path].split()), path] if need not in order]
    for path in order:
        shutil.copy(modules / path, early / "modules")
    (early / "init").write_text(INIT.format(modules=" ".join(os.path.basename(path) for path in order)))
    (early / "init").chmod(0o755)


def _pack_initrd(made: Path) -> Path:
    """With the agent of this tree: other trees share the cache."""
    agent = (Path(__file__).parent / "agent.py").read_bytes()
    packed = made / f"initrd-{hashlib.sha256(agent).hexdigest()[:12]}"
    if not packed.exists():
        early = made / "early"
        (early / "agent.py").write_bytes(agent)
        names = "\n".join(str(path.relative_to(early)) for path in sorted(early.rglob("*")))
        argv = [str(early / "bin/cpio"), "--quiet", "-o", "-H", "newc"]
        archive = subprocess.run(argv, input=names.encode(), cwd=early, check=True, stdout=subprocess.PIPE).stdout
        (made / "initrd.new").write_bytes(gzip.compress(archive, 1))
        os.rename(made / "initrd.new", packed)
    return packed


def _run(*argv: str) -> None:
    ended = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ended.returncode:
        why = f"{argv[0]} failed:\n{ended.stdout[-2000:]}"
        if demanded():
            raise RuntimeError(why)
        # Where Debian's packages are out of reach all else can still be tested.
        pytest.skip(f"the guests' disk could not be made: {why}")
