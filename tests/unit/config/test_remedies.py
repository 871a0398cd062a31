"""Command lines in messages can be pasted (docs/cases.md, C8)."""

from __future__ import annotations

from pathlib import Path

import pasted
import pytest

from envstart.config import remedies
from envstart.environment import Environment, in_workdir

JAIL = in_workdir("jail1", "/usr/jails")


def test_names_and_directories_are_quoted() -> None:
    assert remedies.known("install", ["*"], ["/my jails"]) == f"{remedies.tool()} install '*' -w '/my jails'"


def test_a_configuration_is_named_only_if_it_lies_elsewhere() -> None:
    line = remedies.of("nfs", JAIL, "/usr/jails/etc/env_start_nfs.conf", "start")
    assert line.endswith("/envstart start nfs -w /usr/jails -j jail1")
    assert "-c /x.conf" in remedies.of("nfs", JAIL, "/x.conf", "start")


def test_without_a_workdir_the_directories_are_named() -> None:
    jail = Environment("j", "/a/data", "/a/system", "/a/fstab")
    line = remedies.of("nfs", jail, None, "config check")
    assert line.endswith(" config check nfs -d /a/data -s /a/system -f /a/fstab -j j")
    assert len(pasted.command_lines(line)) == 1


def test_for_others_than_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    assert remedies.known("check", [], ["/usr/jails"]).startswith("sudo ")


def test_the_tool_is_named_by_its_path_unless_it_is_where_the_system_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(remedies.__file__).parents[2] / "hooks" / "envstart"
    monkeypatch.setattr("envstart.system.runner.SYSTEM_PATH", (str(tmp_path),))
    assert remedies.tool() == str(own)
    (tmp_path / "envstart").touch()
    assert remedies.tool() == str(own), "another one of that name"
    (tmp_path / "envstart").unlink()
    (tmp_path / "envstart").symlink_to(own)
    assert remedies.tool() == "envstart"
