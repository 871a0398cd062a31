"""A file system on a real device of Linux: loop devices with ext4, looked at, mended, mounted, a tree of it bound."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real import Ended, Mounted, Namespace, Workdir, ended, namespace_of, until, why_not

HOOK = Path(__file__).resolve().parents[1] / "helpers" / "volume_hook.py"
_PROGRAMS = ("losetup", "mkfs.ext4", "e2fsck", "debugfs", "blkid", "mkswap", "flock")
_SIZE = 8 << 20


def why_no_loop() -> str:
    """Why there are no devices of our own; empty if there are."""
    reason = why_not()
    if reason or os.geteuid() != 0:
        return reason or "not root, who alone has loop devices"
    if not os.path.exists("/dev/loop-control"):
        return "/dev/loop-control is missing"
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    if lacking:
        # As in why_not(): where all else is there, a skip would hide that nothing was tested.
        raise RuntimeError(f"cannot test volumes: {', '.join(lacking)} is not installed (util-linux, e2fsprogs)")
    return ""


_WHY_NOT = why_no_loop()
pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)


class Volumes:
    """Images in a directory, their loop devices, and an environment that is to have one of them."""

    def __init__(self, top: Path, attached: list[str]) -> None:
        self.top = top
        self._attached = attached
        # While the namespace lasts its mounts keep a loop device busy; so it ends first, and they after it.
        self.namespace: Namespace
        self.cbsd: Workdir

    def enter(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.cbsd = Workdir(namespace)
        self.conf = self.cbsd.path / "etc" / "volume.conf"
        # What Workdir has made is for nullfs.
        shutil.rmtree(self.cbsd.store)

    # Images and devices.

    def image(self, name: str = "image") -> Path:
        path = self.top / name
        with path.open("wb") as file:
            file.truncate(_SIZE)
        return path

    def ext4(self, name: str = "image", *, tree: bool = False) -> Path:
        """Return an image with a file system in it, which no kernel has yet to complete in the background."""
        files = self.top / f"{name}-files"
        for which in ("data", "system", "fstab") if tree else ("",):
            (files / which / "etc").mkdir(parents=True)
            (files / which / "from-volume").write_text(f"{which or 'data'}\n")
        path = self.image(name)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        run("mkfs.ext4", "-q", "-E", lazy, "-d", str(files), str(path))
        return path

    def device(self, image: Path, *options: str) -> str:
        """Return a loop device of the image."""
        device = run("losetup", "--find", "--show", *options, str(image)).strip()
        self._attached.append(device)
        return device

    def dirty(self, image: Path) -> Path:
        """Copy the image while it is mounted and written to: as a host leaves it whose power fails."""
        device, point = self.device(image), self.top / "elsewhere"
        point.mkdir()
        self.namespace.run("mount", "-t", "ext4", device, str(point))
        # Written in this namespace, so from inside.
        self.namespace.run("sh", "-c", f"echo new > {point}/new && sync -f {point}/new")
        copy = self.top / f"{image.name}-dirty"
        shutil.copy(image, copy)
        self.namespace.run("umount", str(point))
        point.rmdir()
        return copy

    # The environment.

    def configure(self, device: str, **keys: object) -> None:
        quick = {"TIMEOUT": 20, "PROBE_TIMEOUT": 5, "FSCK_TIMEOUT": 10, "LOG_FACILITY": "none"}
        fixed = {"GELI_PROVIDER": device, "VOLUME_FSTYPE": "ext4", "VOLUME_DIR": self.top / "run" / "volumes"}
        values = {**fixed, **quick, **keys}
        self.conf.write_text("".join(f'{key}="{value}"\n' for key, value in values.items()))

    def begin(self, verb: str, name: str = "") -> subprocess.Popen[str]:
        argv = [sys.executable, str(HOOK), verb, str(self.conf), *self.cbsd.argv(name=name)]
        return self.namespace.popen(argv)

    def run(self, verb: str, name: str = "") -> Ended:
        began = time.monotonic()
        return ended(self.begin(verb, name), began)

    def fine(self, verb: str, name: str = "") -> None:
        """Run the hook; it must succeed in silence."""
        result = self.run(verb, name)
        assert (result.status, result.out, result.err) == (0, "", "")

    def states(self) -> dict[str, str]:
        result = self.run("status")
        assert (result.status, result.err) == (0, "")
        return {row["directory"]: row["state"] for row in json.loads(result.out)}

    # What there is.

    @property
    def private(self) -> Path:
        """Where the volume of a tree is mounted; there is none but ours."""
        (found,) = (self.top / "run" / "volumes").iterdir()
        return found

    def points(self) -> list[str]:
        return self.namespace.points()

    def shows(self, kind: str) -> str:
        """Return what the directory shows, seen from inside."""
        process = self.namespace.popen(["cat", f"{self.cbsd.point(kind)}/from-volume"])
        return str(process.communicate(timeout=20)[0]).strip()

    def holder(self, directory: Path) -> subprocess.Popen[str]:
        """Return a process with an open file in there."""
        script = 'exec 3< "$1/from-volume" && echo there && exec sleep 1000'
        process = self.namespace.popen(["sh", "-c", script, "sh", str(directory)])
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    attached: list[str] = []
    made = Volumes(tmp_path.resolve(), attached)
    try:
        with namespace_of(tmp_path) as namespace:
            made.enter(namespace)
            yield made
    finally:
        for device in attached:
            run("losetup", "--detach", device)


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def debugfs(image: Path, *commands: str) -> None:
    for command in commands:
        run("debugfs", "-w", "-R", command, str(image))


def digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()


def identity(image: Path) -> str:
    """Its type and the number that it was made with: another one would mean that it was made anew."""
    return run("blkid", "-p", "-s", "TYPE", "-s", "UUID", str(image))


def recovers(image: Path) -> bool:
    """Whether the journal has still to be played back."""
    return "needs_recovery" in run("debugfs", "-R", "stats", str(image))


DATA = ["jails/jails-data/j1-data"]
BOUND = ["jails/jails-data/j1-data", "jails/jails-fstab/j1", "jails/jails-system/j1"]
TREE = ("system", "fstab", "data")


def without_numbers(mounts: list[Mounted]) -> list[tuple[str, ...]]:
    return sorted(mounted[1:] for mounted in mounts)


# The ordinary life.


def test_data(volumes: Volumes) -> None:
    volumes.configure(volumes.device(volumes.ext4()))
    assert volumes.states() == {"provider": "ready", "fsck": "not ready", "data": "not mounted"}
    volumes.fine("start")
    before = volumes.namespace.mounts()
    assert volumes.points() == DATA
    assert volumes.shows("data") == "data"
    volumes.fine("start")
    assert volumes.namespace.mounts() == before
    assert volumes.states() == {"provider": "ready", "fsck": "ready", "data": "mounted"}
    for _ in range(2):
        volumes.fine("stop")
        assert volumes.points() == []
    volumes.fine("start")
    assert volumes.points() == DATA


def test_tree(volumes: Volumes) -> None:
    volumes.configure(volumes.device(volumes.ext4(tree=True)), VOLUME_LAYOUT="tree")
    volumes.fine("start")
    before = volumes.namespace.mounts()
    assert volumes.points() == [*BOUND, str(volumes.private.relative_to(volumes.top))]
    assert [volumes.shows(kind) for kind in TREE] == list(TREE)
    # Whoever may look into it would see what all environments have on it.
    assert volumes.private.parent.stat().st_mode & 0o777 == 0o700
    volumes.fine("start")
    assert volumes.namespace.mounts() == before
    assert set(volumes.states().values()) == {"ready", "mounted"}
    for _ in range(2):
        volumes.fine("stop")
        assert volumes.points() == []


def test_what_is_written_is_there_after_the_next_start(volumes: Volumes) -> None:
    volumes.configure(volumes.device(volumes.ext4(tree=True)), VOLUME_LAYOUT="tree")
    volumes.fine("start")
    volumes.namespace.run("cp", "/etc/hostname", f"{volumes.cbsd.point('data')}/etc/written")
    volumes.fine("stop")
    volumes.fine("start")
    volumes.namespace.run("test", "-e", f"{volumes.cbsd.point('data')}/etc/written")


def test_a_device_by_another_name(volumes: Volumes) -> None:
    """As in /dev/disk: the mount table has the name that the link leads to."""
    link = volumes.top / "by-label"
    link.symlink_to(volumes.device(volumes.ext4()))
    volumes.configure(str(link))
    for _ in range(2):
        volumes.fine("start")
        assert volumes.points() == DATA
    for _ in range(2):
        volumes.fine("stop")
        assert volumes.points() == []


def test_two_volumes(volumes: Volumes) -> None:
    volumes.cbsd.store.mkdir()
    volumes.cbsd.add("j2")
    configured = {}
    for name in ("j1", "j2"):
        volumes.configure(volumes.device(volumes.ext4(name, tree=True)), VOLUME_LAYOUT="tree")
        configured[name] = volumes.conf.read_text()
    for name in ("j2", "j1"):
        volumes.conf.write_text(configured[name])
        volumes.fine("start", name)
    assert len(volumes.points()) == 8
    volumes.fine("stop", "j1")
    assert len(volumes.points()) == 4
    assert all("j2" in point for point in volumes.points())


# Not cleanly unmounted.


@pytest.mark.parametrize("policy", ["preen", "skip"])
def test_fault_85_a_dirty_journal_is_played_back(volumes: Volumes, policy: str) -> None:
    image = volumes.dirty(volumes.ext4())
    assert recovers(image)
    volumes.configure(volumes.device(image), FSCK=policy)
    volumes.fine("start")
    assert volumes.shows("data") == "data"
    volumes.namespace.run("test", "-s", f"{volumes.cbsd.point('data')}/new")
    volumes.fine("start")
    volumes.fine("stop")
    assert not recovers(image)


def test_fault_85_a_dirty_journal_is_refused_where_that_is_wanted(volumes: Volumes) -> None:
    image = volumes.dirty(volumes.ext4())
    before = digest(image)
    volumes.configure(volumes.device(image), FSCK="refuse")
    result = volumes.run("start")
    assert result.status == os.EX_CONFIG
    assert "not cleanly unmounted" in result.last
    assert (volumes.points(), digest(image)) == ([], before)
    # Mended by hand, as it says.
    run("e2fsck", "-p", str(image))
    volumes.fine("start")
    assert volumes.points() == DATA


@pytest.mark.parametrize("policy", ["preen", "refuse", "skip"])
def test_a_clean_one_is_mounted_whatever_the_policy_is(volumes: Volumes, policy: str) -> None:
    volumes.configure(volumes.device(volumes.ext4()), FSCK=policy)
    volumes.fine("start")
    assert volumes.points() == DATA


def test_what_fsck_mends_by_itself_is_mended(volumes: Volumes) -> None:
    image = volumes.ext4()
    # An error was seen, and the count of free blocks is wrong: e2fsck -p mends that, and says so by status 1.
    debugfs(image, "set_super_value state 2", "set_super_value free_blocks_count 1")
    volumes.configure(volumes.device(image))
    volumes.fine("start")
    assert volumes.shows("data") == "data"


# Damaged.


@pytest.mark.parametrize("layout", ["data", "tree"])
def test_fault_86_what_fsck_does_not_mend_by_itself_is_left_alone(volumes: Volumes, layout: str) -> None:
    image = volumes.ext4(tree=layout == "tree")
    debugfs(image, "clri <2>", "set_super_value state 2")
    before = identity(image)
    volumes.configure(volumes.device(image), VOLUME_LAYOUT=layout)
    result = volumes.run("start")
    assert result.status == os.EX_IOERR
    assert "fsck by hand" in result.last
    assert volumes.points() == []
    assert not (volumes.top / "run").exists()
    assert identity(image) == before


def test_damage_that_nobody_has_noted_is_found_by_the_mount(volumes: Volumes) -> None:
    image = volumes.ext4()
    debugfs(image, "clri <2>")
    volumes.configure(volumes.device(image))
    result = volumes.run("start")
    assert result.status not in (0, os.EX_SOFTWARE)
    assert volumes.points() == []


def test_a_superblock_that_is_half_gone(volumes: Volumes) -> None:
    image = volumes.ext4()
    with image.open("r+b") as file:
        file.seek(1024)
        # Sizes and counts; the magic number stays.
        file.write(b"\xff" * 56)
    volumes.configure(volumes.device(image))
    result = volumes.run("start")
    assert result.status in (os.EX_IOERR, os.EX_CONFIG)
    assert volumes.points() == []


def test_a_superblock_that_is_gone(volumes: Volumes) -> None:
    image = volumes.ext4()
    with image.open("r+b") as file:
        file.write(bytes(4096))
    before = digest(image)
    volumes.configure(volumes.device(image))
    result = volumes.run("start")
    assert result.status == os.EX_CONFIG
    assert "never makes a file system" in result.last
    assert (volumes.points(), digest(image)) == ([], before)


# fsck itself.


def due(image: Path) -> Path:
    """Clean, and mounted so often that e2fsck would look all the same."""
    debugfs(image, "set_super_value max_mnt_count 1", "set_super_value mnt_count 1")
    return image


def slow_fsck(volumes: Volumes) -> Path:
    """Make fsck do nothing for a long while, and return the file that says that it has begun."""
    begun = volumes.top / "begun"
    volumes.namespace.in_front("e2fsck", f': > "{begun}"; sleep 1000')
    return begun


def test_fault_85_fsck_has_a_time_limit(volumes: Volumes) -> None:
    slow_fsck(volumes)
    volumes.configure(volumes.device(due(volumes.ext4())), FSCK_TIMEOUT=1)
    result = volumes.run("start")
    assert result.status == 1
    assert "raise FSCK_TIMEOUT" in result.last
    assert volumes.points() == []
    settled(volumes)


def test_a_signal_while_fsck_works(volumes: Volumes) -> None:
    begun = slow_fsck(volumes)
    volumes.configure(volumes.device(due(volumes.ext4(tree=True))), VOLUME_LAYOUT="tree")
    process, began = volumes.begin("start"), time.monotonic()
    until(begun.exists)
    process.terminate()
    result = ended(process, began)
    assert result.status == 128 + signal.SIGTERM
    assert volumes.points() == []
    settled(volumes)


def test_fsck_that_is_not_installed(volumes: Volumes) -> None:
    program = shutil.which("e2fsck")
    assert program is not None
    volumes.namespace.run("mount", "--bind", "/dev/null", os.path.realpath(program))
    device = volumes.device(due(volumes.ext4()))
    volumes.configure(device)
    result = volumes.run("start")
    assert result.status == os.EX_UNAVAILABLE
    assert "cannot run e2fsck: it is not installed" in result.last
    assert volumes.points() == []
    volumes.configure(device, FSCK="refuse")
    volumes.fine("start")
    assert volumes.points() == DATA


def test_case_a5_what_is_clean_is_mounted_without_fsck(volumes: Volumes) -> None:
    begun = slow_fsck(volumes)
    volumes.configure(volumes.device(volumes.ext4()))
    volumes.fine("start")
    assert volumes.points() == DATA
    assert not begun.exists()


def test_a_device_that_a_process_keeps_for_itself(volumes: Volumes) -> None:
    device = volumes.device(volumes.ext4())
    volumes.configure(device)
    # What a file system, or a mapping on top of it, does.
    holding = os.open(device, os.O_RDWR | os.O_EXCL)
    try:
        for policy in ("preen", "skip"):
            volumes.configure(device, FSCK=policy, TIMEOUT=3)
            result = volumes.run("start")
            assert result.status == os.EX_TEMPFAIL
            assert device in result.last
            assert volumes.points() == []
    finally:
        os.close(holding)
    volumes.fine("start")
    assert volumes.points() == DATA


# Something else, or nothing.


def blank(image: Path) -> None:
    """Leave the volume as it was made."""


def swap(image: Path) -> None:
    run("mkswap", str(image))


def luks(image: Path) -> None:
    put(image, 0, b"LUKS\xba\xbe\0\1")


def squashfs(image: Path) -> None:
    put(image, 0, b"hsqs" + bytes(24) + b"\4\0\0\0" + bytes(8) + (4096).to_bytes(8, "little"))


def ext2(image: Path) -> None:
    """Not what is wanted, but so near that only the type differs; the kernel's ext4 mounts it."""
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image))


def xfs(image: Path) -> None:
    """Write the superblock of an empty XFS, as blkid(8) checks it (Linux' fs/xfs/libxfs/xfs_format.h)."""
    fields = b"XFSB" + (4096).to_bytes(4, "big") + (2048).to_bytes(8, "big") + bytes(64)
    fields += (
        (1).to_bytes(4, "big")
        + (1024).to_bytes(4, "big")
        + (2).to_bytes(4, "big")
        + bytes(4)
        + (512).to_bytes(4, "big")
    )
    fields += (0xB4A5).to_bytes(2, "big") + (512).to_bytes(2, "big") + (512).to_bytes(2, "big")
    fields += (8).to_bytes(2, "big") + bytes(12) + bytes([12, 9, 9, 3, 10, 0, 0, 25])
    put(image, 0, fields)


def put(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (blank, "no file system that is known"),
        (swap, "swap"),
        (squashfs, "squashfs"),
        (luks, "crypto_LUKS"),
        (xfs, "xfs"),
    ],
)
@pytest.mark.parametrize("policy", ["preen", "skip"])
def test_fault_87_what_it_holds_instead_is_told_and_left_alone(
    volumes: Volumes, make: Callable[[Path], None], told: str, policy: str
) -> None:
    image = volumes.image()
    make(image)
    before = digest(image)
    volumes.configure(volumes.device(image), FSCK=policy)
    for _ in range(2):
        result = volumes.run("start")
        assert result.status == os.EX_CONFIG
        assert f"it holds {told}, and VOLUME_FSTYPE is ext4" in result.last
        assert volumes.points() == []
        assert digest(image) == before
    volumes.fine("stop")
    assert digest(image) == before


def test_an_ext4_without_a_journal(volumes: Volumes) -> None:
    image = volumes.image()
    ext2(image)
    volumes.configure(volumes.device(image))
    volumes.fine("start")
    assert volumes.points() == DATA


def test_no_device(volumes: Volumes) -> None:
    volumes.configure("/dev/no-such-device", PROBE_TIMEOUT=1)
    result = volumes.run("start")
    assert result.status == os.EX_NOINPUT
    assert "/dev/no-such-device" in result.last
    volumes.fine("stop")


# Read-only.


@pytest.mark.parametrize("layout", ["data", "tree"])
def test_read_only_writes_nothing(volumes: Volumes, layout: str) -> None:
    image = volumes.ext4(tree=layout == "tree")
    before = digest(image)
    volumes.configure(volumes.device(image), VOLUME_OPTIONS="ro", VOLUME_LAYOUT=layout)
    volumes.fine("start")
    assert all("ro" in mounted.options.split(",") for mounted in volumes.namespace.mounts())
    process = volumes.namespace.popen(["touch", f"{volumes.cbsd.point('data')}/new"])
    assert "Read-only file system" in process.communicate()[1]
    volumes.fine("start")
    volumes.fine("stop")
    assert digest(image) == before


@pytest.mark.parametrize("policy", ["preen", "skip"])
def test_read_only_writes_nothing_although_it_is_dirty(volumes: Volumes, policy: str) -> None:
    """ext4 plays its journal back for a mount that is read-only too."""
    image = volumes.dirty(volumes.ext4())
    before = digest(image)
    volumes.configure(volumes.device(image), VOLUME_OPTIONS="ro", FSCK=policy)
    started = volumes.run("start").status == 0
    assert volumes.points() == (DATA if started else [])
    volumes.fine("stop")
    assert digest(image) == before


def test_a_device_that_is_read_only_is_said(volumes: Volumes) -> None:
    image = volumes.ext4()
    before = digest(image)
    device = volumes.device(image, "--read-only")
    volumes.configure(device, FSCK="skip")
    result = volumes.run("start")
    # mount(8) says nothing worse than a warning, and mounts it read-only.
    assert "read-only" in result.err
    volumes.fine("stop")
    volumes.configure(device, VOLUME_OPTIONS="ro")
    volumes.fine("start")
    assert volumes.points() == DATA
    volumes.fine("stop")
    assert digest(image) == before


# In use.


def test_a_busy_stop_says_who(volumes: Volumes) -> None:
    volumes.configure(volumes.device(volumes.ext4()), TIMEOUT=3)
    volumes.fine("start")
    before = volumes.namespace.mounts()
    process = volumes.holder(volumes.cbsd.point("data"))
    result = volumes.run("stop")
    assert result.status == os.EX_TEMPFAIL
    assert f"pid {process.pid}, root, sleep 1000" in result.last
    assert volumes.namespace.mounts() == before
    process.kill()
    process.communicate()
    volumes.fine("stop")
    assert volumes.points() == []


@pytest.mark.parametrize("kind", [*TREE, "volume"])
def test_fault_109_a_busy_stop_brings_back_what_it_had_taken_away(volumes: Volumes, kind: str) -> None:
    volumes.configure(volumes.device(volumes.ext4(tree=True)), VOLUME_LAYOUT="tree", TIMEOUT=3)
    volumes.fine("start")
    before = without_numbers(volumes.namespace.mounts())
    directory = volumes.private / "data" if kind == "volume" else volumes.cbsd.point(kind)
    process = volumes.holder(directory)
    result = volumes.run("stop")
    assert result.status == os.EX_TEMPFAIL
    assert f"pid {process.pid}, root, sleep 1000" in result.last
    assert without_numbers(volumes.namespace.mounts()) == before
    volumes.fine("start")
    process.kill()
    process.communicate()
    volumes.fine("stop")
    assert volumes.points() == []


@pytest.mark.parametrize("layout", ["data", "tree"])
def test_a_device_that_somebody_has_mounted_elsewhere(volumes: Volumes, layout: str) -> None:
    device = volumes.device(volumes.ext4(tree=layout == "tree"))
    elsewhere = volumes.top / "elsewhere"
    elsewhere.mkdir()
    volumes.namespace.run("mount", "-t", "ext4", device, str(elsewhere))
    volumes.configure(device, VOLUME_LAYOUT=layout)
    for policy in ("preen", "skip"):
        volumes.configure(device, VOLUME_LAYOUT=layout, FSCK=policy)
        result = volumes.run("start")
        assert result.status == os.EX_TEMPFAIL
        assert str(elsewhere) in result.last
        assert volumes.points() == ["elsewhere"]
    volumes.fine("stop")
    assert volumes.points() == ["elsewhere"]


def test_a_device_that_somebody_has_mounted_by_another_name(volumes: Volumes) -> None:
    device = volumes.device(volumes.ext4())
    (volumes.top / "elsewhere").mkdir()
    (volumes.top / "by-label").symlink_to(device)
    volumes.namespace.run("mount", "-t", "ext4", device, str(volumes.top / "elsewhere"))
    for policy in ("preen", "skip"):
        volumes.configure(str(volumes.top / "by-label"), FSCK=policy)
        assert volumes.run("start").status == os.EX_TEMPFAIL
        assert volumes.points() == ["elsewhere"]


@pytest.mark.parametrize("layout", ["data", "tree"])
def test_another_device_in_its_place_is_refused_and_left_alone(volumes: Volumes, layout: str) -> None:
    tree = layout == "tree"
    wrong, device = volumes.device(volumes.ext4("other", tree=tree)), volumes.device(volumes.ext4(tree=tree))
    volumes.configure(wrong, VOLUME_LAYOUT=layout)
    volumes.fine("start")
    before = volumes.namespace.mounts()
    volumes.configure(device, VOLUME_LAYOUT=layout)
    for verb in ("start", "stop"):
        result = volumes.run(verb)
        assert result.status == os.EX_CONFIG
        assert wrong in result.last
        assert volumes.namespace.mounts() == before
    # What is right is taken away as before.
    volumes.configure(wrong, VOLUME_LAYOUT=layout)
    volumes.fine("stop")
    assert volumes.points() == []


# A start that fails, or is killed.


def files_below(volumes: Volumes) -> list[Path]:
    return sorted(path for path in volumes.top.rglob("*") if not path.is_relative_to(volumes.top / "image-files"))


@pytest.mark.parametrize("missing", TREE)
def test_a_tree_that_lacks_a_directory_is_taken_back(volumes: Volumes, missing: str) -> None:
    image = volumes.ext4(tree=True)
    debugfs(image, f"rm /{missing}/from-volume", f"rmdir /{missing}/etc", f"rmdir /{missing}")
    volumes.configure(volumes.device(image), VOLUME_LAYOUT="tree")
    before = files_below(volumes)
    result = volumes.run("start")
    assert result.status == os.EX_NOINPUT
    assert f"has no {missing}, which VOLUME_LAYOUT=tree asks for" in result.last
    assert volumes.points() == []
    assert files_below(volumes) == before


@pytest.mark.parametrize("spoilt", TREE)
def test_a_bind_mount_that_fails_takes_all_back(volumes: Volumes, spoilt: str) -> None:
    """It is there, but no directory: only the last wave finds out."""
    image = volumes.ext4(tree=True)
    debugfs(image, f"rm /{spoilt}/from-volume", f"rmdir /{spoilt}/etc", f"rmdir /{spoilt}")
    debugfs(image, f"write /etc/hostname {spoilt}")
    volumes.configure(volumes.device(image), VOLUME_LAYOUT="tree")
    volumes.cbsd.point("data").rmdir()
    before = files_below(volumes)
    result = volumes.run("start")
    assert result.status == os.EX_NOINPUT
    assert f"/{spoilt} on {volumes.cbsd.point(spoilt)}" in result.last
    assert volumes.points() == []
    assert files_below(volumes) == before
    assert not (volumes.top / "run").exists()


_DEADLY = """
number=$(flock "{top}/lock" sh -c 'echo "$*" >> "$0" && wc -l < "$0"' "{top}/called" {command} "$@")
if [ "$number" = "$(cat "{top}/deadly")" ]; then
	kill -9 $PPID
	{then}
fi
"""


def deadly(volumes: Volumes, then: str) -> Path:
    """Each command is noted, and the one whose number is in the file kills who has called it."""
    top = volumes.top
    for command in ("umount", "e2fsck", "mount"):
        volumes.namespace.in_front(command, _DEADLY.format(command=command, top=top, then=then))
    return top / "called"


@pytest.mark.parametrize("then", ["exit 1", "sleep 0.2"], ids=["before", "after"])
@pytest.mark.parametrize("layout", ["data", "tree"])
def test_killed_at_any_command_another_run_makes_it_right(volumes: Volumes, layout: str, then: str) -> None:
    image = volumes.dirty(volumes.ext4(tree=layout == "tree"))
    spare = image.read_bytes()
    called = deadly(volumes, then)
    (volumes.top / "deadly").write_text("0")
    volumes.configure(volumes.device(image), VOLUME_LAYOUT=layout)
    called.write_text("")
    volumes.fine("start")
    wanted = volumes.points()
    starting = len(called.read_text().splitlines())
    volumes.fine("stop")
    stopping = len(called.read_text().splitlines()) - starting
    assert (starting, stopping) == ((2, 1) if layout == "data" else (5, 4))
    for number in range(1, starting + stopping + 1):
        # Dirty again, so that there is something to mend; nothing has it open now.
        image.write_bytes(spare)
        volumes.configure(volumes.device(image), VOLUME_LAYOUT=layout)
        called.write_text("")
        (volumes.top / "deadly").write_text(str(number))
        verb = "start" if number <= starting else "stop"
        if verb == "stop":
            volumes.fine("start")
        assert volumes.run(verb).status != 0
        (volumes.top / "deadly").write_text("0")
        settled(volumes)
        volumes.fine("start")
        assert (number, volumes.points()) == (number, wanted)
        assert volumes.shows("data") == "data"
        volumes.fine("stop")
        assert (number, volumes.points()) == (number, [])
        assert not recovers(image)


def settled(volumes: Volumes) -> None:
    """Wait until what a killed hook had begun has ended."""
    until(lambda: len(volumes.namespace.pids()) == 1)
