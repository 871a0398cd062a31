"""Play drawn histories side by side, and tell how many: `make proof-histories`, and as long as one likes `make soak`.

soak.py --histories 2000            the same ones each time; --twice: what does not come again is told, and no failure
soak.py --seconds 3600              others each time; --seed FIRST begins where another run did
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("", "tests", "tests/helpers"))

from hypothesis.errors import Flaky
from machine import draw
from machine.history import COUNTS, LAST, BrokenPromiseError
from machine.scene import KINDS

# Histories that are drawn from one seed.
BATCH = 25
# It hung on how the processes came to run beside each other, on a machine that has much to do.
ONCE = "it did not come again"
# Most of its time a history waits.
PER_CORE = 3


def main() -> int:
    """Tell whether any history broke a promise."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--histories", type=int, default=1 << 30)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", action="store_true", help="begin with any seed")
    parser.add_argument("--only", default="", help="scenes whose title contains this")
    parser.add_argument("--twice", action="store_true", help="end with 1 only for what comes again when it is repeated")
    parser.add_argument("--workers", type=int, default=PER_CORE * (os.cpu_count() or 1))
    given = parser.parse_args()
    first = random.randrange(1 << 30) if given.random else given.seed
    titles = [kind.title for kind in KINDS if given.only in kind.title]
    began = time.monotonic()
    context = multiprocessing.get_context("fork")
    seeds, played, told = context.Value("L", first), context.Value("L", 0), context.SimpleQueue()
    end = given.histories, time.time() + given.seconds
    workers = [
        context.Process(target=_until_told, args=(seeds, played, end, titles, told)) for _ in range(given.workers)
    ]
    for worker in workers:
        worker.start()
    counts, broken, once, at_work, stopped = Counter[str](), 0, 0, len(workers), False
    while at_work:
        try:
            number, new, wrong = told.get()
        except KeyboardInterrupt:
            # The workers have had it too, and put their machines away.
            if stopped:
                raise
            stopped = True
            continue
        counts.update(new)
        at_work -= number is None
        if wrong:
            again = not wrong.startswith(ONCE)
            broken, once = broken + again, once + (not again)
            print(f"seed {number}: {wrong}", flush=True)
    figures = ", ".join(f"{counts[what]} {what}" for what in ("histories", "acts", "again", "promises"))
    seconds = time.monotonic() - began
    print(f"seeds {first} to {seeds.value - 1}: {figures} asked for, {broken} broken, {once} once, {seconds:.0f} s")
    print("\n".join(f"{counts[title]:8} {title}" for title in titles))
    if stopped:
        return 130
    return 1 if broken or (once and not given.twice) else 0


def _until_told(seeds: Any, played: Any, end: tuple[int, float], titles: list[str], told: Any) -> None:
    """_work(), and the word that there comes no more."""
    try:
        _work(seeds, played, end, titles, told)
    except KeyboardInterrupt:
        pass
    finally:
        told.put((None, {}, ""))


def _work(seeds: Any, played: Any, end: tuple[int, float], titles: list[str], told: Any) -> None:
    """Take one seed after the other, until so many histories are played, or are about to be, or it is that late."""
    while True:
        with seeds.get_lock():
            number = seeds.value
            if played.value >= end[0] or time.time() >= end[1]:
                break
            seeds.value += 1
            played.value += BATCH
        COUNTS.clear()
        wrong = ""
        try:
            draw.run(number, BATCH, titles)
        except BrokenPromiseError as problem:
            wrong = str(problem)
        except Flaky:
            wrong = f"{ONCE}: {LAST[-1]}"
        except Exception:
            wrong = traceback.format_exc()
        with seeds.get_lock():
            # Of some seeds fewer can be drawn; one that broke a promise is played again and again.
            played.value -= BATCH - min(COUNTS["histories"], BATCH)
        told.put((number, dict(COUNTS), wrong))


if __name__ == "__main__":
    sys.exit(main())
