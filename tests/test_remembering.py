"""What is remembered of messages takes no more memory for there being many, or long ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import count, islice

from stillfresh import Outcome
from tests.engine.world import URL, World, told

KIB = 1024
MIB = 1024 * KIB
# As long as a field may be for most clients. Whoever keeps all of these keeps 7.5 MiB.
LONG = 60 * KIB
MANY = 128
# What may be in use at any time, generously.
MOST = 4 * MIB
# No test has what another one has had, and what may be remembered from then.
NUMBERS = count()


def long(number: int) -> str:
    """Return one long token."""
    return f"{number:x}{'x' * LONG}"[:LONG]


def most_kept(each: Callable[[int], None], times: int = MANY) -> int:
    """Return how many bytes were in use at most while something was done so many times."""
    # What is made once, by whoever comes first, doesn't count.
    each(next(NUMBERS))
    tracemalloc.start()
    try:
        for number in islice(NUMBERS, times):
            each(number)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_long_requests_that_get_what_is_remembered_nothing_is_kept() -> None:
    world = World(told())

    def each(number: int) -> None:
        url = f"{URL}{number}"
        world.get(url=url)
        assert world.get({"X-Kind": long(number)}, url)[1].outcome is Outcome.HIT
        world.forget()

    assert most_kept(each) < MOST
