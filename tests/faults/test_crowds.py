"""Crowds: processes and threads that get, set, delete, prune and clear at the same time."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stillfresh import CacheUnavailable
from stillfresh.testing.conformance.tools import together
from tests.faults.children import PATIENCE, Child, needs_fork
from tests.faults.conftest import Effort
from tests.faults.kinds import Keeps, Kind, each_cache, sweep
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Way, each_way, judge, value_of

pytestmark = needs_fork

SEED: Final = 4
KEYS: Final = [f"https://example.org/{number}" for number in range(200)]
# What each does, how often of a hundred times.
OFTEN: Final = {"load": 50, "store": 35, "refresh": 8, "remove": 5, "prune": 1, "clear": 1}
# Small ones, so that they meet.
SOME: Final = (*SIZES[:3] * 5, SIZES[3])


def step(tally: Tally, user: Way, chance: random.Random, number: int) -> None:
    """Do one thing or the other."""
    key, what = chance.choice(KEYS), chance.choices(list(OFTEN), list(OFTEN.values()))[0]
    value = value_of(key, number, chance.choice(SOME))
    bound = chance.choice((None, 3_000_000))
    tally.tried("operations")
    match what:
        case "load":
            judge(tally, user, key)
        case "store":
            tally.attempt(user.store, key, value)
        case "refresh":
            # One that loses a race gives up.
            tally.attempt_or(CacheUnavailable, user.refresh, key, number)
        case "remove":
            tally.attempt(user.remove, key)
        case "prune":
            # One at a time: who comes second is told so.
            tally.attempt_or(CacheUnavailable, user.cache.prune, max_bytes=bound)
        case "clear":
            tally.attempt(user.cache.clear)


def mingle_for(seconds: float, ways: list[Way], seed: str) -> Tally:
    """Let a thread for each way mingle with all others."""
    until = time.monotonic() + seconds
    tallies = [Tally() for _ in ways]

    def thread(at: int) -> Callable[[], None]:
        def run() -> None:
            chance = random.Random(f"{seed} {at}")
            number = 0
            while time.monotonic() < until:
                step(tallies[at], ways[at], chance, number)
                number += 1
            tallies[at].tried("failures told", ways[at].failures())

        return run

    together(*map(thread, range(len(ways))))
    whole = Tally()
    for each in tallies:
        whole.add(each)
    return whole


@each_cache
@each_way
def test_a_crowd(kind: Kind, way: type[Way], tmp_path: Path, effort: Effort, tally: Tally) -> None:
    tally.expect_no("wrong", "exceptions", "leftover bytes")
    place = tmp_path / "cache"
    seconds = effort(1, soak=20)
    processes = 1 if kind.keeps is Keeps.IN_MEMORY else effort(4, soak=8)
    threads = effort(2, soak=4) if kind.keeps is not Keeps.IN_MEMORY else 4

    # Among so many on two cores, one's turn comes later than a request would wait for it.
    settings = {"timeout": PATIENCE} if kind.keeps is Keeps.IN_A_DATABASE else {}

    def job(number: int) -> Tally:
        # The threads of one process share a cache; those of every other process have one each.
        shared = kind(place, **settings)
        caches = [shared if number % 2 else kind(place, **settings) for _ in range(threads)]
        return mingle_for(seconds, [way(cache) for cache in caches], f"{SEED} {number}")

    children = [Child(functools.partial(job, number)) for number in range(processes)]
    for child in children:
        tally.add(child.answer(seconds + PATIENCE))
    sweep(tally, kind, place)
    with kind(place) as cache:
        for key in KEYS:
            judge(tally, way(cache), key)
    assert tally.blamed == []
