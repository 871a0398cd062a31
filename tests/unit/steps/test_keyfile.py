"""Who could read a secret, or put another one in its place: on real files."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envstart.errors import PermissionDeniedError
from envstart.steps import keyfile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are trusted, and only root can make them")

NOBODY = 65534
_WAYS: tuple[Callable[[str], object], ...] = (lambda path: keyfile.refuse_untrusted([path]), keyfile.first_line)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a directory of root's whose way is trusted, as far as pytest's own directories are."""
    directory = tmp_path / "keys"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


@pytest.fixture
def key(keys: Path) -> Path:
    path = keys / "key"
    path.write_bytes(b"swordfish\n")
    path.chmod(0o600)
    return path


def wrong(path: Path) -> str:
    """Return the refusal of a key file; both ways of reading must say the same."""
    said = {refusal(way, str(path)) for way in _WAYS}
    return said.pop() if len(said) == 1 else str(said)


def refusal(way: Callable[[str], object], path: str) -> str:
    """Return why a file is not trusted, "" if it is."""
    try:
        way(path)
    except PermissionDeniedError as error:
        return str(error)
    return ""


def missing(path: Path) -> str:
    """Return a path without a file; a file that is missing is another case than one that others have."""
    said = set()
    for way in _WAYS:
        with pytest.raises(FileNotFoundError) as caught:
            way(str(path))
        said.add(caught.value.strerror)
    return str(said.pop() if len(said) == 1 else said)


# The file itself.


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o000, 0o700])
def test_fault_91_what_only_root_can_use_is_trusted(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert wrong(key) == ""
    assert keyfile.first_line(str(key)) == "swordfish"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_fault_91_what_others_can_use_is_not(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert wrong(key) == f"{key} can be used by others than root; chmod 600 {key}"


def test_the_file_of_another_user(key: Path) -> None:
    os.chown(key, NOBODY, 0)
    assert str(NOBODY) in wrong(key)
    assert str(key) in wrong(key)


def test_the_group_does_not_matter_when_it_has_no_access(key: Path) -> None:
    os.chown(key, 0, NOBODY)
    assert wrong(key) == ""


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
def test_what_is_no_regular_file(keys: Path, kind: str) -> None:
    """A FIFO would keep us waiting for somebody who writes, and a device has no end."""
    path = keys / kind
    if kind == "directory":
        path.mkdir(0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        path.chmod(0o600)
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("no devices can be made here")
    # A socket cannot even be opened, and where devices are forbidden, neither can they.
    said = wrong(path)
    assert str(path) in said
    assert said.endswith(" is no regular file") or kind in ("socket", "device")


def test_what_is_not_there(keys: Path) -> None:
    assert missing(keys / "none") == f"{keys}/none: No such file or directory"
    assert missing(keys / "none" / "key") == f"{keys}/none/key: No such file or directory"


def test_a_file_on_the_way(key: Path) -> None:
    assert str(key / "below") in wrong(key / "below")


def test_a_size_that_no_key_has(key: Path) -> None:
    os.truncate(key, (1 << 20) + 1)
    assert "more than 1048576 bytes" in wrong(key)
    os.truncate(key, 1 << 20)
    assert wrong(key) == ""


def test_the_first_that_is_wrong_is_told(keys: Path, key: Path) -> None:
    other = keys / "other"
    other.write_bytes(b"")
    other.chmod(0o644)
    with pytest.raises(PermissionDeniedError) as caught:
        keyfile.refuse_untrusted([str(key), str(other), str(keys / "none")])
    assert caught.value.message == f"{other} can be used by others than root"
    assert caught.value.hint == f"chmod 600 {other}"
    keyfile.refuse_untrusted([])


# The way to it.


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_directory_that_others_can_write(keys: Path, key: Path, mode: int) -> None:
    keys.chmod(mode)
    assert wrong(key) == f"{key}: others than root can write {keys}; chmod go-w it"


@pytest.mark.parametrize("mode", [0o1777, 0o1775, 0o1757])
def test_the_sticky_bit_protects_what_is_roots(keys: Path, key: Path, mode: int) -> None:
    keys.chmod(mode)
    assert wrong(key) == ""


def test_an_entry_of_somebody_else_in_a_sticky_directory(keys: Path) -> None:
    keys.chmod(0o1777)
    theirs = keys / "theirs"
    theirs.mkdir()
    path = theirs / "key"
    path.write_bytes(b"x")
    path.chmod(0o600)
    os.chown(theirs, NOBODY, 0)
    assert wrong(path) != ""


def test_a_directory_of_another_user(keys: Path, key: Path) -> None:
    os.chown(keys, NOBODY, 0)
    assert str(keys) in wrong(key)


def test_a_directory_further_up(keys: Path) -> None:
    below = keys / "a" / "b"
    below.mkdir(parents=True)
    path = below / "key"
    path.write_bytes(b"x")
    path.chmod(0o600)
    assert wrong(path) == ""
    (keys / "a").chmod(0o777)
    assert wrong(path) == f"{path}: others than root can write {keys}/a; chmod go-w it"


# Links.


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_of_roots_is_followed(keys: Path, key: Path, *, absolute: bool) -> None:
    link = keys / "link"
    link.symlink_to(key if absolute else "key")
    assert wrong(link) == ""
    assert keyfile.first_line(str(link)) == "swordfish"


def test_a_link_of_roots_in_a_directory_of_all(tmp_path: Path, key: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    (public / "link").symlink_to(key)
    public.chmod(0o777)
    assert wrong(public / "link") == f"{public}/link: others than root can write {public}; chmod go-w it"
    public.chmod(0o1777)
    assert wrong(public / "link") == ""
    os.lchown(public / "link", NOBODY, 0)
    assert str(NOBODY) in wrong(public / "link")


def test_a_link_to_a_directory_that_others_can_write(tmp_path: Path, keys: Path, key: Path) -> None:
    (tmp_path / "link").symlink_to(keys)
    assert wrong(tmp_path / "link" / "key") == ""
    keys.chmod(0o777)
    assert f"others than root can write {keys};" in wrong(tmp_path / "link" / "key")


def test_a_link_by_way_of_the_parent(tmp_path: Path, key: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "link").symlink_to("../keys/./key")
    assert wrong(other / "link") == ""
    assert keyfile.first_line(str(other / "link")) == "swordfish"


def test_a_chain_of_links_each_of_which_is_looked_at(tmp_path: Path, keys: Path, key: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    (public / "middle").symlink_to(key)
    (keys / "first").symlink_to(public / "middle")
    assert wrong(keys / "first") == ""
    public.chmod(0o777)
    assert f"others than root can write {public};" in wrong(keys / "first")


def test_a_link_that_leads_to_itself(keys: Path) -> None:
    (keys / "loop").symlink_to("loop")
    assert "symbolic links" in wrong(keys / "loop")


def test_a_link_that_leads_nowhere(keys: Path) -> None:
    (keys / "dangling").symlink_to("gone")
    assert missing(keys / "dangling") == f"{keys}/dangling: No such file or directory"


# What is read.


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"swordfish", "swordfish"),
        (b"swordfish\n", "swordfish"),
        (b"swordfish\r\n", "swordfish"),
        (b"swordfish\nsecond\n", "swordfish"),
        (b"two words \n", "two words "),
        (b"\nswordfish\n", ""),
        (b"", ""),
        (b"x" * 4000, "x" * 4000),
    ],
)
def test_the_first_line(key: Path, content: bytes, line: str) -> None:
    key.write_bytes(content)
    assert keyfile.first_line(str(key)) == line


def test_characters_that_are_none_of_ascii(key: Path) -> None:
    key.write_bytes("schlüssel\n".encode())
    assert refusal(keyfile.first_line, str(key)) == f"{key} has characters that iscsi.conf(5) cannot hold"


def test_what_is_wrong_never_tells_the_secret(keys: Path, key: Path) -> None:
    key.write_bytes(b"swordfish\xff\n")
    assert "swordfish" not in refusal(keyfile.first_line, str(key))
    key.chmod(0o644)
    assert "swordfish" not in wrong(key)


def test_no_descriptor_is_left_open(keys: Path, key: Path) -> None:
    (keys / "open").write_bytes(b"x")
    (keys / "open").chmod(0o666)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    for path in (key, keys / "open", keys, keys / "none"):
        for way in _WAYS:
            with contextlib.suppress(FileNotFoundError, PermissionDeniedError):
                way(str(path))
    again = os.open(os.devnull, os.O_RDONLY)
    os.close(again)
    assert again == probe


@pytest.fixture
def swapper(keys: Path, key: Path) -> Iterator[Path]:
    """Yield a name that is a trusted key at one moment, and another file the next."""
    evil = keys / "evil"
    evil.write_bytes(b"evil\n")
    evil.chmod(0o644)
    script = (
        "import os, sys\n"
        "good, evil, name = sys.argv[1:]\n"
        "while True:\n"
        "    for target in (good, evil):\n"
        "        os.symlink(target, name + '.new')\n"
        "        os.rename(name + '.new', name)\n"
    )
    name = keys / "name"
    name.symlink_to(key)
    process = subprocess.Popen([sys.executable, "-I", "-c", script, str(key), str(evil), str(name)])
    yield name
    process.kill()
    process.wait()


def test_what_is_read_is_what_was_checked(swapper: Path) -> None:
    seen = set()
    for _ in range(2000):
        with contextlib.suppress(PermissionDeniedError):
            seen.add(keyfile.first_line(str(swapper)))
    assert seen <= {"swordfish"}
