"""What an error carries, how it is printed, and that a child passes it on whole."""

from __future__ import annotations

import os
import pickle

import pytest

from envstart.errors import ConfigError, EnvstartError, SignalError, TemporaryError
from envstart.storage.fsck_preen import DamagedError
from envstart.system import process
from envstart.system.host import Host
from envstart.system.log import Report


@pytest.mark.parametrize(
    ("hint", "notes", "line"),
    [
        ("", [], "cannot X: reason"),
        ("do Y", [], "cannot X: reason; do Y"),
        ("do Y", ["and Z"], "cannot X: reason; do Y; and Z"),
        ("", ["and Z", "so it is"], "cannot X: reason; and Z; so it is"),
    ],
)
def test_the_reporter_prints_the_details_and_one_line(
    hint: str, notes: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    error = ConfigError("cannot X: reason", hint=hint, details=["first", "second"])
    for note in notes:
        error.add_note(note)
    Report("program").fail(error)
    assert capfd.readouterr().err.splitlines() == ["program: first", "program: second", f"program: {line}"]


def refuse() -> None:
    error = DamagedError("cannot X: reason; more", hint="do Y; then Z", details=("first",))
    error.add_note("and W")
    raise error


def refuse_with_status() -> None:
    error = TemporaryError("cannot X")
    error.status = 99
    raise error


def test_an_error_of_a_child_is_raised_whole() -> None:
    host = Host(Report("program"))
    with pytest.raises(DamagedError) as caught:
        host.complete(host.call_with_timeout(refuse, timeout=10.0))
    error = caught.value
    assert (error.message, error.hint, error.details) == ("cannot X: reason; more", "do Y; then Z", ("first",))
    assert (error.__notes__, error.status) == (["and W"], os.EX_IOERR)
    with pytest.raises(TemporaryError) as other:
        host.complete(host.call_with_timeout(refuse_with_status, timeout=10.0))
    assert other.value.status == 99


def test_errors_of_items_are_told_apart_from_answers_and_from_others() -> None:
    def of(item: str) -> str:
        if item == "error":
            refuse()
        return str(os.stat(item).st_mode) if item != "text" else "text"

    host = Host(Report("program"))
    answers, _ = host.complete(host.map_with_timeout(of, ["error", "/nothing", "text"], timeout=10.0))
    error, missing, none = (process.raised(*answer) for answer in answers)
    assert isinstance(error, EnvstartError)
    assert error.hint == "do Y; then Z"
    assert isinstance(missing, FileNotFoundError)
    assert none is None


def test_a_signal_is_passed_on_with_its_number() -> None:
    error = pickle.loads(pickle.dumps(SignalError(15)))
    assert (error.status, str(error)) == (143, str(SignalError(15)))
