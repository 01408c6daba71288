"""Clocks that jump: what is stored stays right, and what has expired is gone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest

from stillfresh import BaseCache
from stillfresh.testing import ManualClock
from stillfresh.testing.clock import START
from stillfresh.testing.conformance.tools import store
from tests.faults.conftest import Effort
from tests.faults.kinds import Kind, each_cache
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Visitor, Way, each_way, judge, manages, pages, value_of
from tests.origin import Origin

SEED: Final = 4
DAY: Final = 86_400.0
YEAR: Final = 365 * DAY
JUMPS: Final = {
    "back a day": (-DAY,),
    "forward a year": (YEAR,),
    "back a day and forward a year": (-DAY, YEAR),
    "forward a year and back": (YEAR, -YEAR),
    "to the epoch": (-START,),
    "to before the epoch": (-START - YEAR,),
    "forward a hundred years": (100 * YEAR,),
}
each_jump: Final = pytest.mark.parametrize("jumps", JUMPS.values(), ids=JUMPS)


@each_cache
@each_way
@each_jump
def test_a_cache_whose_clock_jumps(
    kind: Kind, way: type[Way], tmp_path: Path, jumps: tuple[float, ...], tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "outlived", "exceptions")
    clock = ManualClock()
    with kind(tmp_path / "cache", clock=clock, max_bytes=50_000_000) as cache:
        user = way(cache)
        for size in SIZES:
            user.store(f"lasting {size}", value_of(f"lasting {size}", 0, size))
            store(cache, f"hour {size}", b"metadata", bytes(size), expires=3600)
        for number, jump in enumerate(jumps, 1):
            clock.advance(jump)
            tally.tried("jumps")
            look_around(tally, cache, expired=clock() >= START + 3600)
            for size in SIZES:
                key = f"lasting {size}"
                found = judge(tally, user, key)
                tally.blame_unless(found == number - 1, "lost", f"{key}: {found}")
                refreshed = manages(tally, user, user.refresh, key, number)
                tally.blame_unless(refreshed, "lost", f"{key} not refreshed")
                found = judge(tally, user, key)
                tally.blame_unless(found == number, "lost", f"{key}: {found} now")
        tally.attempt(cache.prune)
        for size in SIZES:
            found = judge(tally, user, f"lasting {size}")
            tally.blame_unless(found == len(jumps), "lost", f"lasting {size}: {found} pruned")
        clock.advance(2)
        tally.attempt(cache.prune, max_age=1)
        tally.attempt(cache.prune, max_bytes=0)
        left = [entry.key for entry in cache.entries()]
        tally.blame_unless(left == [], "outlived", left)
    assert tally.blamed == []


def look_around(tally: Tally, cache: BaseCache, *, expired: bool) -> None:
    for size in SIZES:
        key = f"hour {size}"
        entry = tally.attempt(cache.open, key)
        tally.blame_unless(not (expired and entry), "outlived", key)
        if entry is not None:
            with entry:
                tally.blame_unless(entry.read() == bytes(size), "wrong", key)
    for listed in cache.entries():
        hour = listed.key is not None and listed.key.startswith("hour")
        tally.blame_unless(not (expired and hour), "outlived", f"{listed.key} in the list")
    tally.attempt(cache.stats)
    tally.attempt(cache.verify)


@each_cache
@each_jump
def test_a_session_whose_clock_jumps(
    kind: Kind, tmp_path: Path, origin: Origin, jumps: tuple[float, ...], tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "stale", "not recovered")
    clock = ManualClock()
    urls = pages(origin, len(SIZES))
    with kind(tmp_path / "cache", clock=clock) as cache:
        visitor = Visitor(cache, clock)
        for url in urls:
            visitor.visit(tally, url)
        for jump in jumps:
            clock.advance(jump)
            tally.tried("jumps")
            asked = len(origin.received)
            for url in urls:
                visitor.visit(tally, url)
            # They were fresh for a thousand seconds.
            answered = len(origin.received) - asked
            tally.blame_unless(jump < 0 or answered == len(urls), "stale", f"{answered} asked")
            for url in urls:
                tally.blame_unless(visitor.visit(tally, url), "not recovered", url)
    assert tally.blamed == []


@each_cache
@each_way
def test_a_clock_that_never_stands_still(
    kind: Kind, way: type[Way], tmp_path: Path, effort: Effort, tally: Tally
) -> None:
    """A bounded cache goes on pruning itself whatever time it is."""
    tally.expect_no("wrong", "lost", "exceptions")
    chance, clock = random.Random(SEED), ManualClock()
    bounds = {"max_bytes": 3_000_000, "max_age": 10 * DAY}
    with kind(tmp_path / "cache", clock=clock, **bounds) as cache:
        user = way(cache)
        for number in range(effort(100, soak=3000)):
            clock.advance(chance.choice((-DAY, -3600.0, 1.0, DAY, YEAR)))
            tally.tried("jumps")
            key = f"key {chance.randrange(20)}"
            value = value_of(key, number, chance.choice(SIZES[:3]))
            tally.attempt(user.store, key, value)
            judge(tally, user, key)
            judge(tally, user, f"key {chance.randrange(20)}")
        size = tally.attempt(cache.stats)
        tally.blame_unless(size and size.bytes <= 3_000_000 * 1.1, "exceptions", size)
    assert tally.blamed == []
