"""GlusterFS for real: a server in a network of its own, its client, and the hooks; server and client die and come back.

`make proof-gluster` runs this alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from glusterd import ADDRESS, VOLUME, GlusterWorkdir, Server, server_of
from real import DIRECTORIES, PATIENCE, ROOT, Ended, Namespace, ended, lacking, namespace_of, until

_WHY_NOT = lacking("glusterd", "gluster", "glusterfs", "mount.glusterfs", "ip")
pytestmark = [pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT), pytest.mark.alone, pytest.mark.proof]

# Seconds after which a client of its own accord gives a silent server up (network.ping-timeout).
_PING_TIMEOUT = 42
_TIMEOUT = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def namespace(tmp_path: Path, server: Server) -> Iterator[Namespace]:
    with namespace_of(tmp_path, network=True) as namespace:
        server.link(namespace)
        yield namespace


@pytest.fixture
def cbsd(namespace: Namespace) -> GlusterWorkdir:
    return GlusterWorkdir(namespace)


def status(cbsd: GlusterWorkdir) -> tuple[dict[str, tuple[str, str]], float]:
    """State and what is found of each directory, and how long that took."""
    began = time.monotonic()
    argv = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from envstart.cli.main import run; run()",
    ]
    process = cbsd.namespace.popen([*argv, "status", "gluster", "-w", str(cbsd.path), "-j", cbsd.name, "--json"])
    out, err = process.communicate(timeout=PATIENCE)
    assert err == ""
    rows = json.loads(out)["directories"]
    return {row["directory"]: (row["state"], row["found"]) for row in rows}, time.monotonic() - began


def words_of(cbsd: GlusterWorkdir) -> set[str]:
    return {state for state, _ in status(cbsd)[0].values()}


def check_gone(cbsd: GlusterWorkdir) -> None:
    """Nothing is mounted, and the clients end: each hears from the kernel a moment later that its mount has gone."""
    assert cbsd.namespace.points() == []
    until(lambda: cbsd.clients() == [])


def check_all_there(cbsd: GlusterWorkdir) -> None:
    assert cbsd.namespace.points() == cbsd.expected()
    assert all(cbsd.shows(kind) for kind in DIRECTORIES)
    # That of a mount which has gone a moment ago may still be about to end.
    until(lambda: len(cbsd.clients()) == 1)


def check_in_time(result: Ended) -> None:
    assert result.status == os.EX_TEMPFAIL, result
    assert result.seconds < min(_TIMEOUT + 5, _PING_TIMEOUT), result


def test_start_twice_and_stop_twice(cbsd: GlusterWorkdir) -> None:
    for _ in range(2):
        cbsd.start()
        check_all_there(cbsd)
    assert words_of(cbsd) == {"mounted"}
    for _ in range(2):
        cbsd.stop()
        check_gone(cbsd)
    assert words_of(cbsd) == {"not mounted"}
    assert not cbsd.decoyed.exists()


def test_what_is_written_is_on_the_server(cbsd: GlusterWorkdir) -> None:
    cbsd.start()
    cbsd.namespace.run("sh", "-c", f"echo new > {cbsd.point('data')}/written")
    cbsd.stop()
    cbsd.start()
    assert cbsd.namespace.run("cat", f"{cbsd.point('data')}/written") == "new\n"
    cbsd.namespace.run("rm", f"{cbsd.point('data')}/written")


def test_two_environments_have_a_client_each(cbsd: GlusterWorkdir) -> None:
    cbsd.add("j2")
    cbsd.start()
    cbsd.start(name="j2")
    assert len(cbsd.clients()) == 2
    cbsd.stop()
    until(lambda: len(cbsd.clients()) == 1)
    assert cbsd.namespace.points() == cbsd.expected(name="j2")
    assert cbsd.shows("data", name="j2")
    cbsd.stop(name="j2")
    check_gone(cbsd)


def test_a_volume_that_is_not_there(cbsd: GlusterWorkdir) -> None:
    cbsd.configure(GLUSTER_VOLUME="nosuch")
    result = cbsd.run("start")
    assert result.status == os.EX_NOINPUT
    assert "failed to fetch volume file (key:nosuch)" in result.last
    check_gone(cbsd)


def test_a_host_that_the_volume_does_not_allow(cbsd: GlusterWorkdir, server: Server) -> None:
    server.gluster("volume", "set", VOLUME, "auth.reject", "10.77.1.*")
    try:
        result = cbsd.run("start")
    finally:
        server.gluster("volume", "reset", VOLUME, "auth.reject")
    assert result.status == os.EX_NOPERM
    assert "auth.allow" in result.last
    check_gone(cbsd)


def test_an_environment_without_directories_in_the_volume(cbsd: GlusterWorkdir) -> None:
    cbsd.add("j3")
    result = cbsd.run("start", name="j3")
    assert result.status == os.EX_NOINPUT
    assert f"{ADDRESS}:{VOLUME} has no system/j3" in result.last
    check_gone(cbsd)


def test_the_next_server_is_asked(cbsd: GlusterWorkdir) -> None:
    cbsd.configure(GLUSTER_SERVER=f"10.77.0.9 {ADDRESS}")
    cbsd.start()
    check_all_there(cbsd)
    cbsd.stop()


def test_another_volume_is_refused_and_left_alone(cbsd: GlusterWorkdir) -> None:
    cbsd.start()
    before = cbsd.namespace.mounts()
    cbsd.configure(GLUSTER_VOLUME="other")
    result = cbsd.run("start")
    assert result.status == os.EX_CONFIG
    assert f"{ADDRESS}:{VOLUME}" in result.last
    assert f"{ADDRESS}:other" in result.last
    assert cbsd.namespace.mounts() == before
    # A stop goes by the record of the start.
    assert cbsd.run("stop").status == 0
    check_gone(cbsd)


def test_a_server_that_is_killed_while_mounted(cbsd: GlusterWorkdir, server: Server) -> None:
    cbsd.configure(TIMEOUT=_TIMEOUT)
    cbsd.start()
    server.kill()
    try:
        states, _ = status(cbsd)
        assert {word for word, _ in states.values()} == {"broken"}
        assert "Transport endpoint is not connected" in states["data"][1]
        check_in_time(cbsd.run("start"))
        check_gone(cbsd)
    finally:
        server.revive()
    cbsd.start()
    check_all_there(cbsd)
    cbsd.stop()


def test_a_server_that_falls_silent_while_mounted(cbsd: GlusterWorkdir, server: Server) -> None:
    cbsd.configure(TIMEOUT=_TIMEOUT)
    cbsd.start()
    server.cut(cbsd.namespace)
    states, seconds = status(cbsd)
    assert {word for word, _ in states.values()} == {"no answer"}
    assert " waits for " in states["data"][1]
    # One probe's time for all directories, with room for a busy machine.
    assert seconds < _PING_TIMEOUT / 2
    check_in_time(cbsd.run("stop"))
    assert cbsd.namespace.points() == cbsd.expected()
    check_in_time(cbsd.run("start"))
    check_gone(cbsd)
    server.mend(cbsd.namespace)
    cbsd.start()
    check_all_there(cbsd)


def test_a_silent_server_and_a_stop_by_force(cbsd: GlusterWorkdir, server: Server) -> None:
    cbsd.configure(TIMEOUT=_TIMEOUT, STOP_FORCE=1)
    cbsd.start()
    server.cut(cbsd.namespace)
    result = cbsd.run("stop")
    assert result.status == 0, result
    assert result.seconds < _TIMEOUT + 5
    check_gone(cbsd)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_client_is_mounted_anew(cbsd: GlusterWorkdir, number: signal.Signals) -> None:
    """A client that is asked to end takes its own mount away, and leaves those that show its directories."""
    cbsd.start()
    os.kill(cbsd.clients()[0], number)
    until(lambda: cbsd.clients() == [])
    assert words_of(cbsd) == ({"broken"} if number == signal.SIGKILL else {"broken", "not mounted"})
    result = cbsd.run("start")
    assert result.status == 0, result
    check_all_there(cbsd)


def test_a_dead_client_can_be_stopped(cbsd: GlusterWorkdir) -> None:
    cbsd.start()
    os.kill(cbsd.clients()[0], signal.SIGKILL)
    until(lambda: cbsd.clients() == [])
    assert cbsd.run("stop").status == 0
    check_gone(cbsd)


def test_a_dead_client_of_an_environment_in_use_is_left_alone(cbsd: GlusterWorkdir) -> None:
    cbsd.start()
    user = cbsd.namespace.popen(["sh", "-c", f"cd {cbsd.point('data')} && echo there && exec sleep 600"])
    assert user.stdout is not None
    assert user.stdout.readline() == "there\n"
    os.kill(cbsd.clients()[0], signal.SIGKILL)
    until(lambda: cbsd.clients() == [])
    before = cbsd.namespace.mounts()
    result = cbsd.run("start")
    assert result.status == os.EX_TEMPFAIL
    assert "stop it first" in result.last
    assert cbsd.namespace.mounts() == before


def test_a_client_that_was_given_up_mounts_nothing_later(cbsd: GlusterWorkdir, server: Server) -> None:
    """It makes itself a daemon before it has the volume, and would mount it when the server answers at last."""
    cbsd.configure(TIMEOUT=8, GLUSTER_MOUNT_TIMEOUT=3)
    server.freeze()
    try:
        check_in_time(cbsd.run("start"))
        check_gone(cbsd)
    finally:
        server.thaw()
    cbsd.start()
    check_all_there(cbsd)


def killed_while_it_mounts(cbsd: GlusterWorkdir) -> None:
    """Start on a server that is silent, and kill that when its client has mounted what is of no use yet."""
    process, began = cbsd.begin("start"), time.monotonic()
    until(lambda: words_of(cbsd) == {"no answer", "not mounted"})
    process.kill()
    assert ended(process, began).status == -signal.SIGKILL
    assert cbsd.clients() != []


def test_a_hook_is_killed_and_its_client_is_of_use_after_that(cbsd: GlusterWorkdir, server: Server) -> None:
    server.freeze()
    try:
        killed_while_it_mounts(cbsd)
    finally:
        server.thaw()
    until(lambda: words_of(cbsd) == {"mounted", "not mounted"})
    before = cbsd.clients()
    cbsd.start()
    check_all_there(cbsd)
    assert set(cbsd.clients()) <= set(before)
    cbsd.stop()
    check_gone(cbsd)


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_a_hook_is_killed_and_the_next_one_ends_its_client(cbsd: GlusterWorkdir, server: Server, verb: str) -> None:
    server.freeze()
    try:
        killed_while_it_mounts(cbsd)
        before = cbsd.clients()
        process, began = cbsd.begin(verb), time.monotonic()
        until(lambda: not set(before) & set(cbsd.clients()))
    finally:
        server.thaw()
    result = ended(process, began)
    assert result.status == 0, result
    if verb == "start":
        check_all_there(cbsd)
        cbsd.stop()
    check_gone(cbsd)
