"""When what can heal is tried again, on a clock that only the attempts and the pauses move."""

from __future__ import annotations

import random
import sys
from typing import cast

import pytest
from stubs import Stub, done

from envstart.engine import retry
from envstart.errors import DeadlineExceededError, EnvstartError, TemporaryError, UnavailableError
from envstart.system import host, scheduler

TIMEOUT = 20.0
# TIMEOUT without the reserve of the roll back.
LIMIT = 15.0
# What a look at the clock costs, and many of them.
TICK, TICKS = 1e-6, 1e-3


class Clock:
    """It stands in for the module time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += TICK
        return self.now


class Scene(Stub):
    """Attempts that take ``takes`` seconds each, and fail; the last of them over and over."""

    def __init__(self, clock: Clock, *takes: float) -> None:
        super().__init__()
        self.clock = clock
        self.deadline = scheduler.Deadline(clock.now, TIMEOUT)
        self.takes = list(takes)
        # When each attempt began, since the run began.
        self.began: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.clock.now += seconds

    async def attempt(self) -> None:
        self.began.append(self.deadline.elapsed())
        takes = self.takes.pop(0) if len(self.takes) > 1 else self.takes[0]
        left = self.deadline.left()
        self.clock.now += min(takes, left)
        if takes > left:
            raise DeadlineExceededError("no answer in the time that was left")
        raise TemporaryError("Connection refused")

    def run_out(self, attempts: int = 0) -> EnvstartError:
        with pytest.raises(EnvstartError) as raised:
            done(retry.until_it_heals(self.attempt, cast(host.Host, self), "/data", attempts))
        return raised.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    return clock


@pytest.mark.parametrize("takes", [0.0, 0.01, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(25))
def test_case_b4_the_last_attempt_is_made_as_late_as_it_has_its_time(clock: Clock, seed: int, takes: float) -> None:
    random.seed(seed)
    scene = Scene(clock, takes)
    assert str(scene.run_out()) == "Connection refused"
    last = scene.began[-1]
    needed = min(takes, 0.5) + 0.5
    assert last <= LIMIT - needed + TICKS, "it could only say that it had no time"
    assert last >= LIMIT - takes - needed - TICKS, "it gave up while there was time for another one"
    assert 3 <= len(scene.began) <= 30


@pytest.mark.parametrize("seed", range(25))
def test_case_b4_an_attempt_that_took_long_is_made_again_with_less_time(clock: Clock, seed: int) -> None:
    """A server that gave no answer for 10 s can give one in a moment when it is back."""
    random.seed(seed)
    scene = Scene(clock, 10.0)
    assert str(scene.run_out()) == "Connection refused", "why it failed is hidden by the lack of time"
    assert len(scene.began) == 2
    assert scene.began[1] == pytest.approx(10.0, abs=TICKS), "it has no time for a pause"


def test_case_b4_the_pauses_still_grow(clock: Clock) -> None:
    counts = []
    for seed in range(50):
        random.seed(seed)
        scene = Scene(clock, 0.0)
        scene.run_out()
        counts.append(len(scene.began))
    assert 4 <= sum(counts) / len(counts) <= 12


def test_as_often_as_configured(clock: Clock) -> None:
    for attempts in (1, 2, 3):
        scene = Scene(clock, 0.0)
        scene.run_out(attempts)
        assert len(scene.began) == attempts


def test_case_b4_without_tenacity_nothing_is_tried_again_and_that_is_an_error(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tenacity"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tenacity", None)
    scene = Scene(clock, 0.0)
    error = scene.run_out()
    assert isinstance(error, UnavailableError)
    assert error.status == 69
    assert str(error).startswith("Connection refused; it is not tried again, since Python's tenacity is missing: ")
    assert len(scene.began) == 1
    # Where nothing would have been tried again it is not missed.
    assert str(Scene(clock, 0.0).run_out(attempts=1)) == "Connection refused"


@pytest.mark.parametrize("patience", [5.0, 60.0])
def test_case_b4_the_last_look_at_a_device_has_time_of_its_own(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(host, "time", clock)
    scene = Scene(clock, 0.0)
    began = scene.deadline.elapsed()
    looks = host.Polling(cast(host.Host, scene), patience, "a disk")
    while done(looks.again()):
        pass
    assert scene.deadline.elapsed() - began == pytest.approx(min(patience, LIMIT - 0.25), abs=TICKS)
