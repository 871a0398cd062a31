"""The simulated FreeBSD is held to what a live one answered."""

from __future__ import annotations

import fcntl
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from sim.replay import EXCEPTIONS, STORY, Outcome, replay

LEAST_AGREEMENT = 0.95

Outcomes = dict[str, list[Outcome]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """All transcripts side by side: most of the time goes by in waiting for what must stay blocked.

    Once for all processes of a run.
    """
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    with open(top / "replayed", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not file.tell():
            directory = tmp_path_factory.mktemp("replay")
            with ThreadPoolExecutor(len(STORY)) as pool:
                told = dict(zip(STORY, pool.map(lambda name: list(replay(name, directory)), STORY)))
            file.write(pickle.dumps(told))
        file.seek(0)
        outcomes: Outcomes = pickle.loads(file.read())
        return outcomes


@pytest.mark.parametrize("transcript", STORY)
def test_agreement(outcomes: Outcomes, transcript: str) -> None:
    concerned = [outcome for outcome in outcomes[transcript] if outcome.exception is None]
    differing = [outcome for outcome in concerned if not outcome.agrees]
    told = "\n".join(f"{outcome.name}\n{outcome.difference()}" for outcome in differing)
    assert len(differing) <= len(concerned) * (1 - LEAST_AGREEMENT), told


@pytest.mark.parametrize("transcript", EXCEPTIONS)
def test_every_exception_is_needed(outcomes: Outcomes, transcript: str) -> None:
    excepted = [outcome for outcome in outcomes[transcript] if outcome.exception is not None]
    assert len(excepted) == len(EXCEPTIONS[transcript])
    assert [outcome.name for outcome in excepted if outcome.agrees] == []
