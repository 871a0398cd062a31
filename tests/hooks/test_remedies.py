"""What a message tells somebody to type can be pasted as it is (docs/cases.md, C8).

tests/helpers/pasted.py holds the output of all hooks and of the tool in all other tests against the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pasted
import pytest
from cbsd import NFS4, SERVER, Ended, Site, last_line
from toy import Toy


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a host whose workdir must be quoted."""
    with Site(tmp_path / "a b", NFS4, getfsstat=True) as site:
        yield site


def printed(site: Site, ended: Ended) -> list[list[str]]:
    """Return the command lines of the tool in its output, which all name the workdir."""
    pasted.check(ended, str(site.workdir))
    return pasted.command_lines(ended.stdout) + pasted.command_lines(ended.stderr)


def test_case_c8_an_orphan_is_stopped_by_what_check_prints(site: Site) -> None:
    Toy(site)
    site.preset()
    ended = site.hand("check", "-w", str(site.workdir))
    lines = printed(site, ended)
    assert {tuple(words) for words in lines} == {("orphans", "--stop", "jail1", "-w", str(site.workdir))}
    assert site.hand(*lines[0], "--grace", "0").returncode == 0
    assert site.table == []


def test_case_c8_links_that_are_lacking(site: Site) -> None:
    Toy(site)
    site.preset()
    site.world.jail("jail1", 1)
    ended = site.hand("status", "-w", str(site.workdir))
    assert ["install", "jail1", "-w", str(site.workdir)] in printed(site, ended)


def test_case_c8_a_start_after_a_recovery_has_the_configuration_that_was_given(site: Site) -> None:
    site.preset()
    other = site.conf.rename(site.workdir / "other file.conf")
    site.world.freeze(SERVER)
    place = ("-w", str(site.workdir), "-j", "jail1")
    ended = site.hand("recover", "-n", "--remount", "nfs", "-c", str(other), *place)
    assert printed(site, ended) == [["start", "nfs", "-c", str(other), *place]]


def test_case_c8_the_only_user_is_told_the_whole_line_for_root(site: Site) -> None:
    site.world.set(uid=1001)
    for words in (site.args(), ["-v", *site.args()]):
        told = last_line(site.world.run("env_start_nfs", *words)).partition("try: ")[2]
        root, program, *rest = shlex.split(told)
        assert (root, Path(program).name, rest) == ("sudo", "env_start_nfs", words)
    place = ["nfs", "-w", str(site.workdir), "-j", "jail1"]
    assert shlex.split(last_line(site.hand("start", *place)).partition("try: ")[2])[2:] == ["start", *place]


def test_case_c8_the_server_that_was_down_a_moment_ago(site: Site) -> None:
    site.configure(BREAKER="60", TIMEOUT="3")
    site.world.freeze(SERVER)
    site.start()
    (line,) = printed(site, site.start())
    assert line == ["start", "nfs", "-w", str(site.workdir), "-j", "jail1"]
