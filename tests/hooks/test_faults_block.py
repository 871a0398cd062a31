"""What a file system and GELI can do to an environment that lies on them (failure catalogue B.4, 85 to 92)."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import GELI, GELI_IMAGE, HAST_GELI, ISCSI, ISCSI_GELI, ISCSI_TREE, KEY, RBD, BlockSite
from cbsd import Variant, last_line
from harmless import by_hooks, image_of, scene, sessions
from pace import in_time

TIMEOUT = 6
# Seconds a busy machine may need on top of it.
SLACK = 6

stacks = pytest.mark.parametrize("variant", [ISCSI, ISCSI_TREE, ISCSI_GELI], ids=lambda variant: variant.title)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, ISCSI) as site:
        yield site


@pytest.fixture
def geli(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, GELI) as site:
        yield site


def volume_of(site: BlockSite) -> str:
    """Return the image that holds jail1's file system."""
    return f"{image_of(site)}.eli" if site.encrypted else str(image_of(site))


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def nothing_is_left(site: BlockSite) -> bool:
    found = site.footprint()
    luns = found["reservations"].values()
    free = all(holder == "" and keys == [] for holder, keys in luns)
    return free and not any(found[what] for what in ("table", "sessions", "elis", "units"))


# 85, 86: file systems that were not cleanly unmounted


@pytest.mark.first(1)
@stacks
def test_fault_85_preened(tmp_path: Path, variant: Variant) -> None:
    with scene(tmp_path, variant) as site:
        site.world.newfs(volume_of(site), clean=False, soft_updates=False)
        if variant is ISCSI_TREE:
            for which in ("data/etc", "system", "fstab"):
                (site.world.files(volume_of(site)) / which).mkdir(parents=True)
        else:
            (site.world.files(volume_of(site)) / "etc").mkdir()
        ended = site.start()
        assert ended.returncode == 0, ended.stderr
        assert site.is_all_there()
        assert [argv[:2] for argv in by_hooks(site, "fsck_ffs")] == [["fsck_ffs", "-p"]]
        assert site.stop().returncode == 0
        assert site.world.superblock(volume_of(site))["clean"]


def test_fault_85_refused_by_policy(site: BlockSite) -> None:
    site.world.newfs(volume_of(site), clean=False)
    site.configure(FSCK="refuse")
    before = digest(volume_of(site))
    ended = site.start()
    assert ended.returncode == 78
    assert "not cleanly unmounted" in last_line(ended)
    assert "FSCK=preen" in last_line(ended)
    assert not by_hooks(site, "fsck_ffs")
    assert (nothing_is_left(site), digest(volume_of(site))) == (True, before)


def test_fault_85_clean_is_not_refused(site: BlockSite) -> None:
    site.configure(FSCK="refuse")
    assert site.start().returncode == 0
    assert not by_hooks(site, "fsck_ffs")


@pytest.mark.parametrize("soft_updates", [True, False])
def test_fault_85_skipped_and_left_to_the_kernel(site: BlockSite, *, soft_updates: bool) -> None:
    """Plain UFS is refused by the kernel then, and nothing forces it."""
    site.world.newfs(volume_of(site), clean=False, soft_updates=soft_updates)
    (site.world.files(volume_of(site)) / "etc").mkdir()
    site.configure(FSCK="skip")
    ended = site.start()
    assert ended.returncode == (0 if soft_updates else 78)
    assert not by_hooks(site, "fsck_ffs")
    if not soft_updates:
        assert "FSCK=preen" in last_line(ended)
        assert nothing_is_left(site)


def test_fault_85_time_limit(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI_GELI, fsck_seconds=3600.0) as site:
        site.world.newfs(volume_of(site), clean=False)
        site.configure(FSCK_TIMEOUT="1")
        began = time.monotonic()
        ended = site.start()
        assert ended.returncode not in (0, 78)
        assert in_time(began, SLACK, waiting=20)
        assert "FSCK_TIMEOUT" in last_line(ended)
        assert nothing_is_left(site)


def test_fault_85_read_only_is_not_mended(site: BlockSite) -> None:
    site.world.newfs(volume_of(site), clean=False)
    (site.world.files(volume_of(site)) / "etc").mkdir()
    site.configure(VOLUME_OPTIONS="ro")
    before = digest(volume_of(site))
    for verb in (site.start, site.start, site.stop):
        ended = verb()
        assert ended.returncode == 0, ended.stderr
    assert not by_hooks(site, "fsck_ffs")
    assert digest(volume_of(site)) == before


@pytest.mark.first(1)
@stacks
def test_fault_86_what_fsck_cannot_mend(tmp_path: Path, variant: Variant) -> None:
    with scene(tmp_path, variant) as site:
        site.world.newfs(volume_of(site), clean=False, broken=True)
        before = digest(volume_of(site))
        ended = site.start()
        assert ended.returncode == 74
        assert "RUN fsck MANUALLY" in last_line(ended)
        assert "by hand" in last_line(ended)
        assert len(by_hooks(site, "fsck_ffs")) == 1
        assert (nothing_is_left(site), digest(volume_of(site))) == (True, before)


# 87: what is no file system, or another one


@pytest.mark.first(5)
@pytest.mark.parametrize("what", ["blank", "zfs", "ext2fs", "geli", "damaged"])
@pytest.mark.parametrize("policy", ["preen", "refuse", "skip"])
def test_fault_87_foreign_or_empty_volume(site: BlockSite, what: str, policy: str) -> None:
    image = str(image_of(site))
    site.world.blank(image)
    if what == "geli":
        site.world.geli_init(image, keys=[KEY])
    elif what in ("zfs", "ext2fs"):
        site.world.foreign(image, what)
    elif what == "damaged":
        with open(image, "r+b") as stream:
            stream.write(os.urandom(1 << 20))
    site.configure(FSCK=policy)
    before = digest(image)
    ended = site.start()
    assert ended.returncode == 78
    assert {"blank": "no file system", "damaged": "no file system"}.get(what, what) in last_line(ended)
    assert "never makes a file system" in last_line(ended)
    assert not by_hooks(site, "fsck_ffs")
    assert (nothing_is_left(site), digest(image)) == (True, before)


def test_fault_87_blank_below_geli(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI_GELI) as site:
        site.world.blank(volume_of(site))
        before = digest(str(image_of(site))), digest(volume_of(site))
        ended = site.start()
        assert ended.returncode == 78
        assert nothing_is_left(site)
        assert (digest(str(image_of(site))), digest(volume_of(site))) == before


def test_fault_87_not_encrypted_at_all(tmp_path: Path) -> None:
    with scene(tmp_path, ISCSI_GELI) as site:
        site.world.blank(str(image_of(site)))
        site.world.newfs(str(image_of(site)))
        before = digest(str(image_of(site)))
        ended = site.start()
        assert ended.returncode == 78
        assert "no GELI provider" in last_line(ended)
        assert (nothing_is_left(site), digest(str(image_of(site)))) == (True, before)


# 88 to 92: GELI


@pytest.mark.parametrize("variant", [GELI, GELI_IMAGE, ISCSI_GELI, HAST_GELI], ids=lambda variant: variant.title)
def test_fault_88_wrong_key(tmp_path: Path, variant: Variant) -> None:
    with scene(tmp_path, variant) as site:
        before = site.footprint()
        site.secret("key", b"another key")
        site.secret("passphrase", b"another passphrase\n")
        ended = site.start()
        assert ended.returncode == 77
        assert "Wrong key" in last_line(ended)
        assert "GELI_KEYFILE" in last_line(ended)
        tried = by_hooks(site, "geli", "attach")
        assert len(tried) == 1, "a wrong key heals by no retry"
        assert "-C" in tried[0], "the provider was touched"
        after = site.footprint()
        # That nobody has asked this node for a role is told apart from the one it was given back.
        after.pop("roles"), before.pop("roles")
        assert after == before


def test_fault_88_keys_in_their_order(geli: BlockSite) -> None:
    image = geli.world.image("gpt/jail1")
    geli.world.geli_init(image, keys=[b"one", b"two"], passphrases=["three", "four"])
    geli.world.newfs(f"{image}.eli")
    (geli.world.files(f"{image}.eli") / "etc").mkdir()
    one, two = geli.secret("one", b"one"), geli.secret("two", b"two")
    three, four = geli.secret("three", b"three\nrest"), geli.secret("four", b"four\n")
    geli.configure(GELI_KEYFILE=f"{two} {one}", GELI_PASSFILE=f"{three} {four}")
    assert geli.start().returncode == 77
    geli.configure(GELI_KEYFILE=f"{one} {two}", GELI_PASSFILE=f"{three} {four}")
    ended = geli.start()
    assert ended.returncode == 0, ended.stderr
    assert geli.is_all_there()


def attach(site: BlockSite, name: str) -> None:
    """As an administrator does it."""
    ended = site.world.command("geli", "attach", "-p", "-k", str(site.secrets / "key"), name)
    assert ended.returncode == 0, ended.stderr


def test_fault_88_image_whose_path_is_not_ascii(tmp_path: Path) -> None:
    """The kernel writes each byte of it for itself; not found again, it would become a disk once more."""
    with scene(tmp_path, GELI_IMAGE) as site:
        place = site.images / "v\u00f6l & <1>"
        place.mkdir()
        for path in site.images.glob("jail1*"):
            path.rename(place / path.name)
        site.configure(GELI_PROVIDER=str(place / "{name}.img"))
        for _ in range(2):
            ended = site.start()
            assert ended.returncode == 0, ended.stderr
        assert [unit["file"] for unit in site.world.state["units"].values()] == [str(place / "jail1.img")]
        assert site.stop().returncode == 0
        assert nothing_is_left(site)


def test_fault_88_image_that_is_a_disk_by_another_name(tmp_path: Path) -> None:
    """A second mdconfig(8) would make another disk of it without a word."""
    with scene(tmp_path, GELI_IMAGE) as site:
        os.link(site.images / "jail1.img", site.images / "link.img")
        assert site.world.command("mdconfig", "-a", "-t", "vnode", "-f", str(site.images / "link.img")).returncode == 0
        ended = site.start()
        assert ended.returncode == 78
        assert all(words in last_line(ended) for words in ("md0", "link.img", "jail1.img"))
        assert len(site.world.state["units"]) == 1


def test_fault_89_attached_already(geli: BlockSite) -> None:
    attach(geli, "gpt/jail1")
    for _ in range(2):
        ended = geli.start()
        assert (ended.returncode, ended.stderr) == (0, "")
    assert geli.is_all_there()
    assert not by_hooks(geli, "geli", "attach")


def test_fault_89_attached_under_another_name(geli: BlockSite) -> None:
    """On some kernels the second attach is the host's end, whatever it says."""
    attach(geli, "ada1p1")
    ended = geli.start()
    assert ended.returncode in (0, 66, 75)
    assert not [argv for argv in by_hooks(geli, "geli", "attach") if "-C" not in argv]
    if ended.returncode:
        assert "in use" in last_line(ended)
        assert geli.table == []
    assert list(geli.world.state["elis"]) == ["ada1p1.eli"]


def test_fault_89_disk_is_in_use_without_geli(tmp_path: Path) -> None:
    """Read-only, so that it keeps its names; an attach would fail, and harm what is attached already."""
    with scene(tmp_path, GELI) as site:
        site.add("jail2")
        site.preset(name="jail2")
        process = os.getpid()
        site.world.machine.store.change(
            lambda state: state["opens"].append({"name": "gpt/jail1", "pid": process, "writes": True})
        )
        site.configure(TIMEOUT=str(TIMEOUT))
        ended = site.start()
        assert ended.returncode == 75
        assert "in use" in last_line(ended)
        assert not [argv for argv in by_hooks(site, "geli", "attach") if "-C" not in argv and "gpt/jail1" in argv]
        assert (site.is_all_there(), site.is_all_there("jail2")) == (False, True)


def test_fault_90_detach_while_somebody_reads_the_device(geli: BlockSite) -> None:
    geli.preset()
    geli.configure(TIMEOUT=str(TIMEOUT))
    process = os.getpid()
    geli.world.machine.store.change(
        lambda state: state["opens"].append({"name": "gpt/jail1.eli", "pid": process, "writes": False})
    )
    ended = geli.stop()
    assert ended.returncode == 75
    assert "gpt/jail1.eli" in last_line(ended)
    assert geli.is_all_there(), "all or nothing"
    geli.world.machine.store.change(lambda state: state["opens"].clear())
    assert geli.stop().returncode == 0
    assert geli.world.state["elis"] == {}


def test_fault_90_detach_of_a_directory_in_use(geli: BlockSite) -> None:
    geli.preset()
    geli.configure(TIMEOUT=str(TIMEOUT))
    with geli.world.holder(geli.point("data")) as holder:
        ended = geli.stop()
        assert ended.returncode == 75
        assert str(holder.pid) in last_line(ended)
        assert geli.is_all_there()
        assert not by_hooks(geli, "geli", "detach")
    assert geli.stop().returncode == 0


@pytest.mark.parametrize("variant", [GELI, GELI_IMAGE, RBD], ids=lambda variant: variant.title)
def test_fault_48_disk_is_full_and_two_start_at_once(tmp_path: Path, variant: Variant) -> None:
    """A device is attached, made or mapped by one at a time: there is a lock that needs no room."""
    program = "rbd-ggate" if variant is RBD else "geli"
    with scene(tmp_path, variant) as site:
        site.world.set(full=True)
        site.world.fault(program, "slow", seconds=0.3, times=None)
        hooks = [site.begin() for _ in range(3)]
        for hook in hooks:
            with hook:
                hook.communicate()
                assert hook.returncode in (0, 75)
        assert site.start().returncode == 0
        done = [words for words in by_hooks(site, program) if {"attach", "map"} & set(words) and "-C" not in words]
        assert len(done) == 1, done


BAD_FILES = ("group", "others", "owner", "open directory", "link", "sticky link", "directory", "pipe", "missing")


def spoil(site: BlockSite, how: str) -> Path:
    """Return a file with the right key that cannot be trusted."""
    path = site.secret("spoilt", KEY)
    elsewhere = site.secrets / "elsewhere"
    elsewhere.mkdir()
    if how in ("group", "others"):
        path.chmod(0o640 if how == "group" else 0o604)
    elif how == "owner":
        os.chown(path, 65534, 0)
    elif how == "missing":
        path.unlink()
    elif how in ("directory", "pipe"):
        path.unlink()
        path.mkdir(0o600) if how == "directory" else os.mkfifo(path, 0o600)
    else:
        found = elsewhere / "key"
        if how == "open directory":
            path.rename(found)
        else:
            found.symlink_to(path)
            os.chown(found, 65534 if how == "sticky link" else 0, 0, follow_symlinks=False)
        elsewhere.chmod(0o1777 if how == "sticky link" else 0o777)
        return found
    return path


@pytest.mark.parametrize("how", BAD_FILES)
@pytest.mark.parametrize("key", ["GELI_KEYFILE", "GELI_PASSFILE"])
def test_fault_91_key_file_that_others_could_have(geli: BlockSite, how: str, key: str) -> None:
    path = spoil(geli, how)
    geli.configure(**{key: str(path)})
    ended = geli.start()
    assert ended.returncode == (66 if how == "missing" else 77)
    assert str(path) in last_line(ended)
    assert not by_hooks(geli, "geli")
    assert nothing_is_left(geli)


@pytest.mark.parametrize("how", BAD_FILES)
def test_fault_91_chap_secret_that_others_could_have(site: BlockSite, how: str) -> None:
    path = spoil(site, how)
    site.configure(ISCSI_CHAP_USER="env1", ISCSI_CHAP_SECRET_FILE=str(path))
    ended = site.start()
    assert ended.returncode == (66 if how == "missing" else 77)
    assert str(path) in last_line(ended)
    assert not by_hooks(site, "iscsictl", "-A")
    assert sessions(site) == []


def test_fault_91_link_that_only_root_can_change(geli: BlockSite) -> None:
    link = geli.secrets / "link"
    link.symlink_to("key")
    geli.configure(GELI_KEYFILE=str(link))
    assert geli.start().returncode == 0


def test_fault_92_passphrase_that_nobody_types(geli: BlockSite) -> None:
    image = geli.world.image("gpt/jail1")
    geli.world.geli_init(image, keys=[KEY], passphrases=["typed"])
    began = time.monotonic()
    ended = geli.start()
    assert ended.returncode in (77, 78)
    assert "GELI_PASSFILE" in last_line(ended)
    assert in_time(began, 20), "it waited for somebody"
    assert all(call["stdin_is_null"] and call["session"] == call["pid"] for call in geli.world.calls("geli"))
    assert nothing_is_left(geli)


def test_fault_92_no_key_at_all(geli: BlockSite) -> None:
    geli.configure(GELI_KEYFILE="")
    ended = geli.start()
    assert ended.returncode == 78
    assert "GELI_PASSFILE" in last_line(ended)
    assert geli.world.calls() == []


# Names that are links.


@pytest.mark.parametrize("variant", [ISCSI, ISCSI_TREE], ids=lambda variant: variant.title)
def test_fault_85_directory_of_the_look_is_a_link(tmp_path: Path, variant: Variant) -> None:
    """As /var/run is on Linux, and /var on many a FreeBSD."""
    with BlockSite(tmp_path, variant) as site:
        (site.world.path / "elsewhere").mkdir()
        (site.world.path / "link").symlink_to(site.world.path / "elsewhere")
        site.configure(VOLUME_DIR=str(site.world.path / "link" / "volumes"))
        site.world.newfs(volume_of(site), clean=False, soft_updates=False)
        for which in ("data/etc", "system", "fstab") if site.tree else ("etc",):
            (site.world.files(volume_of(site)) / which).mkdir(parents=True)
        ended = site.start()
        assert (ended.returncode, ended.stderr) == (0, "")
        assert not [row for row in site.table if row[1].endswith(".look")]
        assert site.stop().returncode == 0
        assert site.table == []
