"""When a server is left alone, and for how long."""

from __future__ import annotations

import pytest

from stillfresh.caches.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker
from stillfresh.errors import CacheUnavailable
from stillfresh.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(clock=clock)


def is_open(breaker: Breaker) -> bool:
    try:
        breaker.enter()
    except CacheUnavailable:
        return True
    return False


def test_a_server_that_answers_is_always_asked(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.enter()
        breaker.succeeded()


def test_after_a_failure_nobody_asks_for_a_while(breaker: Breaker, clock: ManualClock) -> None:
    breaker.failed("refused")
    assert is_open(breaker)
    clock.advance(FIRST_PAUSE - 0.01)
    assert is_open(breaker)
    clock.advance(0.01)
    assert not is_open(breaker)


def test_one_tries_and_the_others_go_on_waiting(breaker: Breaker, clock: ManualClock) -> None:
    breaker.failed("refused")
    clock.advance(FIRST_PAUSE)
    assert [is_open(breaker) for _ in range(5)] == [False, True, True, True, True]


def test_the_pauses_double_up_to_a_limit(breaker: Breaker, clock: ManualClock) -> None:
    breaker.failed("refused")
    pauses = []
    for _ in range(8):
        waited = 0.0
        while is_open(breaker):
            clock.advance(0.5)
            waited += 0.5
        breaker.failed("refused")
        pauses.append(waited)
    assert pauses == [FIRST_PAUSE, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_an_answer_ends_the_outage(breaker: Breaker, clock: ManualClock) -> None:
    first = breaker.failed("refused").outage
    clock.advance(FIRST_PAUSE)
    breaker.enter()
    breaker.succeeded()
    assert not is_open(breaker)
    second = breaker.failed("refused again")
    assert second.outage is not first
    clock.advance(FIRST_PAUSE)
    assert not is_open(breaker)


def test_all_errors_of_an_outage_name_it_and_why_it_began(breaker: Breaker) -> None:
    first = breaker.failed("refused")
    others = [breaker.failed("timed out")]
    with pytest.raises(CacheUnavailable, match="refused") as caught:
        breaker.enter()
    others.append(caught.value)
    assert first.outage is not None
    assert {error.outage for error in others} == {first.outage}


def test_who_tries_may_never_tell_how_it_went(breaker: Breaker, clock: ManualClock) -> None:
    breaker.failed("refused")
    clock.advance(FIRST_PAUSE)
    breaker.enter()
    clock.advance(2 * FIRST_PAUSE)
    assert not is_open(breaker)


def test_who_comes_again_is_let_through_again(breaker: Breaker, clock: ManualClock) -> None:
    breaker.failed("refused")
    clock.advance(FIRST_PAUSE)
    for _ in range(3):
        breaker.enter()
        breaker.left()
    breaker.enter()
    assert is_open(breaker)
    clock.advance(2 * FIRST_PAUSE)
    assert not is_open(breaker)
    breaker.succeeded()
    breaker.left()
    assert not is_open(breaker)
