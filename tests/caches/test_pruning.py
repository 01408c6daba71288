"""What a plan lets go: a pure function of a listing, the bounds and the time."""

import math
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillfresh.caches.base import EntryInfo
from stillfresh.caches.pruning import Bounds, Cause, PruneReport, Stats, VerifyReport, plan
from stillfresh.errors import ConfigError

NOW = 1_700_000_000.0
DAY = 86_400.0
# Ages, counted from a second on, are told apart to within this factor.
STEP = 2 ** (1 / 64)


def entry(
    name: str = "one",
    *,
    size: int = 10,
    idle: float = 0.0,
    expires_in: float | None = None,
    key: str | None = None,
) -> EntryInfo:
    """Describe an entry that was stored and used `idle` seconds ago."""
    return EntryInfo(
        key=key,
        name=name,
        size=size,
        body_size=size,
        stored_at=NOW - idle,
        used_at=NOW - idle,
        expires_at=None if expires_in is None else NOW + expires_in,
    )


def days_apart(names: str) -> list[EntryInfo]:
    """Describe entries of ten bytes, the first used now, each other one a day before the last."""
    return [entry(name, idle=day * DAY) for day, name in enumerate(names)]


def gone(
    entries: Iterable[EntryInfo],
    max_bytes: int | None = None,
    max_age: float | None = None,
    *,
    spare: Callable[[EntryInfo], bool] = lambda _: False,
) -> dict[str, Cause]:
    """Plan, carry it out, and tell why which of the entries are gone."""
    listed = list(entries)
    bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
    verdicts = plan(iter(listed), bounds, NOW).carried_out()
    causes = {}
    for one in listed:
        cause = verdicts.cause(one)
        if cause is not None and spare(one):
            verdicts.spared(one)
        elif cause is not None:
            causes[one.name] = cause
    return causes


# Which ones go.


@pytest.mark.parametrize(
    ("max_bytes", "names"),
    [
        (None, ""),
        (41, ""),
        (40, ""),
        (39, "d"),
        (30, "d"),
        (29, "cd"),
        (11, "bcd"),
        (10, "bcd"),
        (9, "abcd"),
        (0, "abcd"),
    ],
)
def test_the_least_recently_used_go_until_the_rest_fits(max_bytes: int | None, names: str) -> None:
    entries = days_apart("abcd")
    for listed in (entries, entries[::-1]):
        assert gone(listed, max_bytes) == dict.fromkeys(names, Cause.OVER_SIZE)


@pytest.mark.parametrize(
    ("max_age", "names"),
    [(None, ""), (4 * DAY, ""), (3 * DAY, ""), (2.5 * DAY, "d"), (0, "bcd"), (math.inf, "")],
)
def test_those_that_were_not_used_for_longer_than_max_age_go(
    max_age: float | None, names: str
) -> None:
    assert gone(days_apart("abcd"), max_age=max_age) == dict.fromkeys(names, Cause.OVER_AGE)


@pytest.mark.parametrize("expires_in", [0.0, -1.0, -1e12, -math.inf])
def test_the_expired_go_whatever_the_bounds(expires_in: float) -> None:
    entries = [entry("expired", expires_in=expires_in), entry("stays", expires_in=1.0)]
    for max_bytes in (None, 20, 10):
        assert gone(entries, max_bytes) == {"expired": Cause.EXPIRED}


def test_the_expired_go_before_any_other_has_to() -> None:
    # The one that has expired was used last.
    entries = [entry("old", idle=30 * DAY), entry("older", idle=40 * DAY)]
    entries.append(entry("expired", size=50, expires_in=-1))
    assert gone(entries, 20) == {"expired": Cause.EXPIRED}
    assert gone(entries, 19) == {"expired": Cause.EXPIRED, "older": Cause.OVER_SIZE}


def test_those_over_the_age_make_room_too() -> None:
    entries = [entry("new"), entry("old", size=90, idle=2 * DAY), entry("newer", idle=-1)]
    assert gone(entries, 20, DAY) == {"old": Cause.OVER_AGE}


def test_of_many_used_at_the_same_moment_only_as_many_go_as_have_to() -> None:
    entries = [entry(str(number)) for number in range(100)]
    for max_bytes, count in ((1000, 0), (999, 1), (990, 1), (500, 50), (0, 100)):
        assert len(gone(entries, max_bytes)) == count


def test_one_that_alone_is_larger_than_the_bound_goes() -> None:
    assert gone([entry(size=1000)], 999) == {"one": Cause.OVER_SIZE}
    # Used last, it goes last.
    entries = [entry("large", size=1000), entry("small", size=1, idle=DAY)]
    assert gone(entries, 999).keys() == {"small", "large"}


def test_entries_of_no_size_go_with_what_is_younger_than_they() -> None:
    entries = [entry("new"), entry("nothing", size=0, idle=DAY), entry("old", idle=2 * DAY)]
    assert gone(entries, 10).keys() == {"old"}
    assert gone(entries, 9).keys() == {"old", "nothing", "new"}
    assert gone([entry(str(number), size=0, idle=number) for number in range(10)], 0) == {}


def test_of_nothing_nothing_goes() -> None:
    assert gone([], 0, 0) == {}


@pytest.mark.parametrize("ahead", [1, DAY, 366 * DAY, 1e12])
def test_what_was_used_before_the_clock_was_put_back_counts_as_used_now(ahead: float) -> None:
    entries = [entry("future", idle=-ahead), entry("past", idle=DAY), entry("now")]
    assert gone(entries, 20, 2 * DAY) == {"past": Cause.OVER_SIZE}
    assert gone(entries, max_age=0) == {"past": Cause.OVER_AGE}


def test_moments_at_which_nothing_can_have_been_used_do_no_harm() -> None:
    odd = [entry("never", idle=1e300), entry("epoch", idle=NOW), entry("late", idle=-1e300)]
    assert gone(odd, 10).keys() == {"never", "epoch"}


# While it is carried out.


def test_in_place_of_a_victim_that_is_spared_another_of_its_age_goes() -> None:
    entries = [entry(name) for name in "abcde"]
    assert gone(entries, 30).keys() == {"a", "b"}
    assert gone(entries, 30, spare=lambda one: one.name == "a").keys() == {"b", "c"}
    assert gone(entries, 30, spare=lambda one: one.name in "ac").keys() == {"b", "d"}
    assert gone(entries, 30, spare=lambda _: True) == {}


def test_in_place_of_an_older_victim_that_is_spared_the_next_in_age_go() -> None:
    entries = [*days_apart("ab"), entry("same", idle=DAY), entry("old", idle=9 * DAY)][::-1]
    assert gone(entries, 20).keys() == {"old", "same"}
    assert gone(entries, 20, spare=lambda one: one.name == "old").keys() == {"same", "b"}


@pytest.mark.parametrize("max_bytes", [None, 20, 1000])
@pytest.mark.parametrize(
    "spared",
    [entry("spared", expires_in=-1), entry("spared", idle=10 * DAY)],
    ids=["expired", "old"],
)
def test_in_place_of_a_victim_that_is_spared_nothing_goes_that_has_room(
    spared: EntryInfo, max_bytes: int | None
) -> None:
    for idle in (0.0, 10 * DAY - 1):
        entries = [spared, entry("stays", idle=idle)]
        assert gone(entries, max_bytes, 10 * DAY - 1, spare=lambda one: one is spared) == {}


def test_in_place_of_an_overdue_victim_that_is_spared_others_go_if_there_is_no_room() -> None:
    entries = [entry("spared", expires_in=-1), entry("a"), entry("b")]
    assert gone(entries, 20, spare=lambda one: one.name == "spared").keys() == {"a"}


# Whatever is listed.

ENTRIES = st.builds(
    entry,
    size=st.integers(0, 1000),
    idle=st.one_of(
        st.floats(-DAY, 4000 * DAY),
        # Many of the same age, and many of nearly the same.
        st.sampled_from([0.0, 1.0, DAY, DAY + 1]),
        st.floats(DAY, 1.02 * DAY),
    ),
    expires_in=st.none() | st.floats(-DAY, DAY),
)
LISTINGS = st.lists(ENTRIES, max_size=30).map(
    lambda found: [one._replace(name=str(number)) for number, one in enumerate(found)]
)
SIZES = st.none() | st.integers(0, 10_000)
AGES = st.none() | st.floats(0, 5000 * DAY)


def is_expired(one: EntryInfo) -> bool:
    return one.expires_at is not None and one.expires_at <= NOW


def is_over(one: EntryInfo, max_age: float | None) -> bool:
    return max_age is not None and NOW - one.used_at > max_age


@given(LISTINGS, st.integers(0, 10_000), AGES)
def test_what_stays_fits(entries: list[EntryInfo], max_bytes: int, max_age: float | None) -> None:
    went = gone(entries, max_bytes, max_age)
    assert sum(one.size for one in entries if one.name not in went) <= max_bytes


@given(LISTINGS, SIZES, AGES)
def test_each_goes_for_the_cause_that_it_goes_for(
    entries: list[EntryInfo], max_bytes: int | None, max_age: float | None
) -> None:
    went = gone(entries, max_bytes, max_age)
    for one in entries:
        cause = went.get(one.name)
        assert (cause is Cause.EXPIRED) == is_expired(one)
        assert (cause is Cause.OVER_AGE) == (is_over(one, max_age) and not is_expired(one))
    if max_bytes is None:
        assert Cause.OVER_SIZE not in went.values()


@given(LISTINGS, st.integers(0, 10_000), AGES)
def test_nothing_stays_that_was_used_longer_ago_than_what_went_for_its_size(
    entries: list[EntryInfo], max_bytes: int, max_age: float | None
) -> None:
    went = gone(entries, max_bytes, max_age)
    idle = {one.name: max(0.0, NOW - one.used_at) for one in entries}
    stay = [1 + idle[one.name] for one in entries if one.name not in went and one.size]
    over = [1 + idle[name] for name, cause in went.items() if cause is Cause.OVER_SIZE]
    if stay and over:
        assert max(stay) <= min(over) * STEP * (1 + 1e-9)


@given(LISTINGS, st.integers(0, 10_000), AGES)
def test_no_more_goes_for_its_size_than_has_to(
    entries: list[EntryInfo], max_bytes: int, max_age: float | None
) -> None:
    went = gone(entries, max_bytes, max_age)
    over = [one for one in entries if went.get(one.name) is Cause.OVER_SIZE]
    stays = sum(one.size for one in entries if one.name not in went)
    if over:
        # Without the last of them to go, it would have been too much.
        assert stays + max(one.size for one in over) > max_bytes


@given(LISTINGS, SIZES, AGES)
def test_what_is_left_by_a_plan_needs_no_other(
    entries: list[EntryInfo], max_bytes: int | None, max_age: float | None
) -> None:
    went = gone(entries, max_bytes, max_age)
    left = [one for one in entries if one.name not in went]
    assert gone(left, max_bytes, max_age) == {}


@given(LISTINGS, st.integers(0, 10_000), AGES, st.sets(st.integers(0, 29)))
def test_with_some_spared_no_more_goes_than_has_to(
    entries: list[EntryInfo], max_bytes: int, max_age: float | None, spared: set[int]
) -> None:
    went = gone(entries, max_bytes, max_age, spare=lambda one: int(one.name) in spared)
    over = [one for one in entries if went.get(one.name) is Cause.OVER_SIZE]
    stays = sum(one.size for one in entries if one.name not in went)
    if over:
        assert stays + max(one.size for one in over) > max_bytes


@given(LISTINGS, SIZES, AGES, st.randoms(use_true_random=False))
def test_a_plan_holds_for_a_listing_in_another_order(
    entries: list[EntryInfo], max_bytes: int | None, max_age: float | None, chance: Random
) -> None:
    bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
    one = plan(entries, bounds, NOW)
    chance.shuffle(entries)
    assert plan(entries, bounds, NOW) == one
    verdicts = one.carried_out()
    stays = sum(each.size for each in entries if verdicts.cause(each) is None)
    assert max_bytes is None or stays <= max_bytes


# What it costs.


def many(count: int) -> Iterator[EntryInfo]:
    for number in range(count):
        yield entry(f"{number:056x}", size=number % 5000, idle=number * 997 % (3650 * DAY))


def peak_of(job: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_plan_does_not_grow_with_the_number_of_entries() -> None:
    bounds = Bounds(max_bytes=1_000_000, max_age=3000 * DAY)
    few, more = (peak_of(partial(plan, many(count), bounds, NOW)) for count in (2_000, 10_000))
    # A histogram of ages: some thousand steps in all of time.
    assert more - few < 100_000


def test_a_plan_reads_its_entries_once() -> None:
    listed = many(100)
    plan(listed, Bounds(max_bytes=0), NOW)
    assert list(listed) == []


# Bounds, and reports.


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, -math.inf])
def test_a_bound_is_not_negative(value: float) -> None:
    with pytest.raises(ConfigError, match="max_age is a number of seconds"):
        Bounds(max_age=value)
    with pytest.raises(ConfigError, match="max_bytes is a number of bytes"):
        Bounds(max_bytes=value)  # type: ignore[arg-type]


def test_a_bound_of_nothing_is_a_bound() -> None:
    assert not Bounds()
    assert Bounds(max_bytes=0)
    assert Bounds(max_age=0)


def test_a_report_counts_what_went_and_what_stayed() -> None:
    report = PruneReport()
    report.remove(entry(size=3), Cause.EXPIRED)
    report.remove(entry(size=4), Cause.OVER_SIZE)
    report.keep(entry(size=50))
    report.swept, report.swept_bytes = 2, 600
    assert report.removed == Counter({Cause.EXPIRED: 1, Cause.OVER_SIZE: 1})
    assert str(report) == (
        "removed 2 entries (7 bytes) and 2 leftovers (600 bytes); 1 entries (50 bytes) stay"
    )


def test_statistics_know_the_oldest_and_the_newest() -> None:
    stats = Stats()
    assert (stats.entries, stats.bytes, stats.oldest, stats.newest) == (0, 0, None, None)
    for idle in (5, 90, 30):
        stats.add(entry(size=7, idle=idle))
    assert (stats.entries, stats.bytes) == (3, 21)
    assert (stats.oldest, stats.newest) == (NOW - 90, NOW - 5)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("https://example.org/a/b", "example.org"),
        ("http://example.org/", "example.org"),
        ("https://example.org", "example.org"),
        ("https://example.org:8443/", "example.org:8443"),
        ("https://[::1]:80/", "[::1]:80"),
        ("https://EXAMPLE.org/", "example.org"),
        ("https://example.org?query", "example.org"),
        ("https://example.org#fragment", "example.org"),
        ("https://example.org/?to=http://elsewhere.org/", "example.org"),
        ("https://user:secret@example.org/", "example.org"),
        ("https://us@er:secret@example.org/@", "example.org"),
        ("https://example.org/#group=x", "example.org"),
        ("file:///etc/passwd", ""),
        ("", ""),
        ("key", ""),
        ("://", ""),
        ("a key with :// in it", ""),
        ("/path://example.org/", ""),
        (None, ""),
    ],
)
def test_statistics_are_by_host(key: str | None, host: str) -> None:
    stats = Stats()
    stats.add(entry(key=key, size=5))
    stats.add(entry(key=key, size=6))
    assert stats.hosts == {host: (2, 11)}


def test_what_was_found_is_sound_unless_something_is_damaged() -> None:
    report = VerifyReport(checked=3, unchecked=4)
    assert report.is_sound
    report.damaged["name"] = "what is wrong"
    assert not report.is_sound


def test_a_bound_is_a_number() -> None:
    wrong = cast("int", "1G")
    with pytest.raises(ConfigError, match="max_bytes is a number of bytes or None, not '1G'"):
        Bounds(max_bytes=wrong)
    with pytest.raises(ConfigError, match="max_age is a number of seconds"):
        Bounds(max_age=wrong)
