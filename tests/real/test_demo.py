"""``make demo`` does what it says, and leaves nothing, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import demo
import pytest
from real import why_not

_WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)

_STEPS = 10


def begin(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, demo.__file__],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_nothing_is_left(tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.alone
def test_every_step_is_as_promised(tmp_path: Path) -> None:
    began = time.monotonic()
    out, err = begin(tmp_path).communicate(timeout=60)
    assert err == ""
    assert out.endswith("All steps were as promised.\n")
    assert f"\n{_STEPS}. " in out
    assert time.monotonic() - began < 5
    check_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", range(1, _STEPS + 1, 2))
def test_interrupted_it_leaves_nothing(tmp_path: Path, step: int, number: signal.Signals) -> None:
    process = begin(tmp_path)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(f"{step}. "):
        assert process.poll() is None
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, "ended by signal" in err) == (128 + number, True), err
    check_nothing_is_left(tmp_path)


def test_what_is_not_as_promised_is_noticed(tmp_path: Path) -> None:
    shown = demo.Demo(tmp_path)
    with pytest.raises(demo.BrokenPromiseError, match="exit status"):
        shown.show("", ["/bin/sh", "-c", "exit 3"], 0, [])
    with pytest.raises(demo.BrokenPromiseError, match="mount points"):
        shown.show("", ["/bin/sh", "-c", "exit 0"], 0, ["jails"])
    with pytest.raises(demo.BrokenPromiseError, match="words"):
        shown.show("", ["/bin/sh", "-c", "echo no"], 0, [], "yes")
