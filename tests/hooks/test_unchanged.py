"""The short way of a start says the same as the long one, whatever there is."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cbsd import SERVER, Ended, Site

from envstart.hooks import remember, unchanged


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """All is mounted, and a start has written down what it took for that."""
    with Site(tmp_path, getfsstat=True) as site:
        site.preset()
        assert site.start().returncode == 0
        assert note(site).exists()
        yield site


def note(site: Site) -> Path:
    return site.world.path / "run" / "jail1.env_start_nfs"


def ended(site: Site) -> tuple[int, str, list[Any]]:
    done: Ended = site.start()
    return done.returncode, done.stderr, site.table


def test_the_short_way_asks_nobody_else(site: Site) -> None:
    site.world.forget_calls()
    inode = note(site).stat().st_ctime_ns
    for _ in range(3):
        assert ended(site) == (0, "", site.wanted())
    assert site.world.calls() == []
    # The long way would have written it again.
    assert note(site).stat().st_ctime_ns == inode


def other_server(site: Site) -> None:
    site.configure(NFS_SERVER="172.16.0.9")


def nearer_file(site: Site) -> None:
    site.conf.rename(site.world.path / "root/etc" / site.conf.name)
    site.start()
    nearer = site.world.path / "usr/local/etc/envstart" / site.conf.name
    nearer.write_text('NFS_SERVER="172.16.0.9"\n')


def unmounted(site: Site) -> None:
    site.world.command("umount", str(site.point("data")))


def stacked(site: Site) -> None:
    site.world.mount("tmpfs", site.point("data"), "tmpfs")


def elsewhere(site: Site) -> None:
    unmounted(site)
    stacked(site)


def read_only(site: Site) -> None:
    unmounted(site)
    site.world.mount(site.source("data"), site.point("data"), opts=["ro"])


def other_node(site: Site) -> None:
    (site.held("system") / "locked").write_text("node2.example.com\n")


def stale(site: Site) -> None:
    site.world.stale(site.point("data"))


def not_trusted(site: Site) -> None:
    site.conf.chmod(0o666)


def writable_state(site: Site) -> None:
    (site.world.path / "run").chmod(0o777)


def other_maker(site: Site) -> None:
    note(site).write_bytes(b"\xe9\x00\x00\x00\x00")


def wants_a_name(site: Site) -> None:
    site.configure(REQUIRE_DATA="nothing-like-this")


def read_by_a_link(site: Site) -> None:
    real = site.conf.with_name("real.conf")
    site.conf.rename(real)
    site.conf.symlink_to(real)
    site.start()
    other = site.conf.with_name("other.conf")
    other.write_text('NFS_SERVER="172.16.0.9"\n')
    site.conf.unlink()
    site.conf.symlink_to(other)


CHANGES = [other_server, nearer_file, unmounted, stacked, elsewhere, read_only, other_node, stale, not_trusted,
           writable_state, other_maker, wants_a_name, read_by_a_link]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_has_changed_both_ways_say_the_same(tmp_path: Path, change: Callable[[Site], None]) -> None:
    found = []
    for way in ("short", "long"):
        with Site(tmp_path / way, getfsstat=True) as site:
            site.preset()
            site.start()
            change(site)
            if way == "long":
                note(site).unlink(missing_ok=True)
            status, words, table = ended(site)
            found.append((status, words.replace(str(tmp_path / way), ""), len(table)))
    assert found[0] == found[1]


@pytest.mark.parametrize("nearer", [False, True], ids=["changed", "a nearer one"])
def test_a_configuration_that_comes_while_a_start_waits(site: Site, *, nearer: bool) -> None:
    """Who sees a start hang corrects the file: what is mounted is not what that says."""
    note(site).unlink()
    later = site.conf.read_text().replace(SERVER, "172.16.0.9")
    if nearer:
        site.conf.rename(site.world.path / "root/etc" / site.conf.name)
    (lock,) = (site.world.path / "run").glob("jail1.*.lock")
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = site.world.popen("env_start_nfs", *site.args())
        time.sleep(1)
        site.conf.write_text(later)
        # More than makes a file one that has settled.
        time.sleep(remember.SETTLED + 0.2)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert not note(site).exists()
    status, words, _ = ended(site)
    assert (status, "is mounted there" in words) == (78, True)


def test_a_dead_server_is_noticed(site: Site) -> None:
    site.configure(TIMEOUT="6", PROBE_TIMEOUT="1")
    site.start()
    site.world.freeze(SERVER)
    status, words, _ = ended(site)
    assert status == 75
    assert "bug" not in words


def test_somebody_else_works_on_it(site: Site) -> None:
    (lock,) = (site.world.path / "run").glob("jail1.*.lock")
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        process = site.world.popen("env_start_nfs", *site.args())
        time.sleep(0.5)
        assert process.poll() is None
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert time.monotonic() - began >= 0.5


@pytest.mark.proof
def test_a_note_that_was_cut_anywhere(site: Site) -> None:
    whole = note(site).read_bytes()
    for size in range(0, len(whole), 97):
        note(site).write_bytes(whole[:size])
        assert ended(site) == (0, "", site.wanted())
        assert note(site).read_bytes() == whole


def test_a_note_in_which_anything_was_changed(site: Site) -> None:
    whole = note(site).read_bytes()
    for at in range(len(whole)):
        for bit in (1, 128):
            with pytest.raises(ValueError, match="it was changed"):
                unchanged.unseal(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
    # A dictionary with a tuple as its key that is not yet complete: marshal ends the interpreter by it.
    for text in (b"\xa9\x01{r\0\0\0\0r\0\0\0\0", b"", whole[:4], whole[4:]):
        note(site).write_bytes(text)
        assert ended(site) == (0, "", site.wanted())
        assert note(site).read_bytes() == whole


def test_values_in_the_words_of_their_options(site: Site) -> None:
    """As getopt(3) takes them, and CBSD's sample writes them (docs/cbsd.md#arguments)."""
    words = site.args()
    glued = [f"{option}{value}" for option, value in zip(words[::2], words[1::2])]
    for argv in (glued, [*words, f"-c{site.conf}"], [*glued, "-c", str(site.conf)], words):
        for _ in range(2):
            done = site.world.run("env_start_nfs", *argv)
            assert (done.returncode, done.stderr, site.table) == (0, "", site.wanted())


def test_it_is_started_in_either_way(site: Site) -> None:
    """For the reaper, which must not take what CBSD is about to run."""
    (mark,) = (site.world.path / "run").glob("jail1.*.started")
    before = mark.read_text()
    assert ended(site)[0] == 0
    assert mark.read_text() != before
