"""`envstart check` tells a bug, a signal and a lost working directory in the form that was asked for."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from envstart import lifecycle
from envstart.cli import check, main
from envstart.errors import SignalError


@pytest.mark.parametrize("form", [[], ["--nagios"], ["--json"]], ids=["text", "nagios", "json"])
def test_case_c4_a_bug_is_unknown(form: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def bug(*_: object) -> int:
        raise ZeroDivisionError("division | by zero")

    monkeypatch.setattr(check, "look", bug)
    assert main.main(["check", *form, "-w", "/nonexistent"]) == 3
    out, err = capfd.readouterr()
    assert "a bug in envstart, ZeroDivisionError" in err
    if form == ["--nagios"]:
        assert out.startswith(
            "ENVSTART UNKNOWN - cannot go on: a bug in envstart, ZeroDivisionError: division / by zero"
        )
    elif form == ["--json"]:
        assert json.loads(out)["level"] == "unknown"


@pytest.mark.parametrize("caught", [KeyboardInterrupt(), SignalError(signal.SIGTERM)], ids=["^C", "TERM"])
def test_a_signal_is_no_answer(caught: BaseException, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A shell is told which one it was; a plugin has a status of its own for it."""

    def interrupted(*_: object) -> int:
        raise caught

    monkeypatch.setattr(check, "look", interrupted)
    number = signal.SIGTERM if isinstance(caught, SignalError) else signal.SIGINT
    assert main.main(["check", "-w", "/nonexistent"]) == lifecycle.SIGNALLED + number
    assert main.main(["check", "--nagios", "-w", "/nonexistent"]) == 3
    assert capfd.readouterr().out.startswith("ENVSTART UNKNOWN - ")


@pytest.mark.parametrize("words", [["--prometheus", "metrics"], ["nfs", "-l", "list"], ["nfs", "-c", "file"]])
def test_a_relative_path_where_the_working_directory_is_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, words: list[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main.main(["check", *words]) == 3
    assert f"cannot use {words[-1]}: the working directory is no more; give the whole path" in capfd.readouterr().err
    assert main.main(["status", *words]) == os.EX_USAGE
