"""What goes first from a database that is full, beside a model that keeps a list."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from stillfresh import DryRun, SQLiteCache
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.tools import load, store
from tests.caches.helpers import stranger

if TYPE_CHECKING:
    from pathlib import Path

# Longer than what counts as the same use.
_LATER = 7200.0
_BODY = bytes(4000)
_DEEDS = ("store",) * 8 + ("use",) * 3 + ("remove", "remove the last")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Model:
    """The keys of a cache, the one that goes first before the others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.keys: list[str] = []

    def store(self, key: str) -> None:
        self.use(key)
        if len(self.keys) > self.most:
            # So much goes that the next one has its room.
            del self.keys[: len(self.keys) - self.most + 1]

    def use(self, key: str) -> None:
        self.remove(key)
        self.keys.append(key)

    def remove(self, key: str) -> None:
        if key in self.keys:
            self.keys.remove(key)


@pytest.mark.parametrize("seed", range(8))
def test_the_least_recently_used_goes_first_whatever_was_done_before(root: Path, seed: int) -> None:
    chance, clock = random.Random(seed), ManualClock()
    with SQLiteCache(root, max_bytes=None) as cache:
        store(cache, "000", b"metadata", _BODY)
        size = cache.stats().bytes
        cache.remove("000")
    most = 60
    model = Model(most)
    # An entry is so small a part of it that it is stored before another one goes.
    with SQLiteCache(root, max_bytes=most * size, clock=clock) as cache:
        for _ in range(500):
            clock.advance(_LATER)
            key = f"{chance.randrange(100):03}"
            match chance.choice(_DEEDS):
                case "store":
                    store(cache, key, b"metadata", _BODY)
                    model.store(key)
                case "use":
                    assert (load(cache, key) is None) == (key not in model.keys)
                    if key in model.keys:
                        model.use(key)
                case "remove":
                    assert cache.remove(key) == (key in model.keys)
                    model.remove(key)
                case "remove the last" if model.keys:
                    # Then its number is given to another one.
                    last = max(cache.entries(), key=lambda entry: int(entry.name)).key
                    assert last is not None
                    cache.remove(last)
                    model.remove(last)
            assert {entry.key for entry in cache.entries()} == set(model.keys)
            assert cache.stats().bytes == len(model.keys) * size


def full(root: Path, clock: ManualClock, count: int = 60) -> SQLiteCache:
    """Make a cache that has no room for another one."""
    with SQLiteCache(root, max_bytes=None, clock=clock) as cache:
        for number in range(count):
            clock.advance(_LATER)
            store(cache, f"{number:03}", b"metadata", _BODY)
        size = cache.stats().bytes
    return SQLiteCache(root, max_bytes=size, clock=clock)


def gone(cache: SQLiteCache, count: int = 60) -> set[str]:
    return {f"{number:03}" for number in range(count)} - {str(one.key) for one in cache.entries()}


def test_a_use_before_it_was_stored_anew_makes_an_entry_no_older(root: Path) -> None:
    clock = ManualClock()
    with full(root, clock) as cache:
        clock.advance(_LATER)
        assert load(cache, "059") is not None
        for number in range(60):
            clock.advance(_LATER)
            store(cache, f"{number:03}", b"metadata", _BODY)
        assert gone(cache) == set()
        store(cache, "060", b"metadata", _BODY)
        assert gone(cache) == {"000", "001"}


def test_what_has_the_number_of_a_removed_one_is_as_old_as_it_is(root: Path) -> None:
    clock = ManualClock()
    with full(root, clock) as cache:
        # All of them are used, and some of these go.
        for number in range(60):
            clock.advance(_LATER)
            store(cache, f"{number:03}", b"metadata", _BODY)
        store(cache, "060", b"metadata", _BODY)
        assert gone(cache, 61) == {"000", "001"}
        cache.remove("060")
        cache.remove("059")
        clock.advance(-100 * _LATER)
        store(cache, "old", b"metadata", _BODY)
        clock.advance(200 * _LATER)
        for number in range(61, 64):
            store(cache, f"{number:03}", b"metadata", _BODY)
        assert cache.open("old") is None
        assert gone(cache, 59) <= {"000", "001", "002"}


def test_overwriting_what_has_just_come_keeps_to_the_bound_and_near_it(root: Path) -> None:
    chance, most = random.Random(7), 1_500_000
    with SQLiteCache(root, max_bytes=most) as cache:
        for number in range(4000):
            # Often one of the last few, which nobody has counted yet.
            key = number - chance.randrange(4)
            store(cache, f"{key}", b"metadata", bytes(chance.randrange(2000)))
        assert 0.95 * most < cache.stats().bytes <= 1.05 * most


def test_what_came_while_the_clock_was_ahead_goes_in_its_turn(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_bytes=None, clock=clock) as cache:
        store(cache, "first", b"metadata", _BODY)
        size = cache.stats().bytes
        clock.advance(365 * 86_400)
        store(cache, "ahead", b"metadata", _BODY)
        clock.advance(-365 * 86_400 + _LATER)
        store(cache, "used", b"metadata", _BODY)
        clock.advance(_LATER)
        load(cache, "used")
        store(cache, "last", b"metadata", _BODY)
    with SQLiteCache(root, max_bytes=4 * size, clock=clock) as cache:
        for count, gone in enumerate(("first", "ahead"), 1):
            store(cache, f"more {count}", b"metadata", _BODY[:3_990])
            assert gone not in {entry.key for entry in cache.entries()}
        assert {entry.key for entry in cache.entries()} >= {"used", "last"}


@pytest.mark.parametrize("unused", [1 << 40, "text"])
def test_what_hides_behind_a_number_that_was_damaged_goes_too(
    root: Path, unused: int | str
) -> None:
    with SQLiteCache(root, max_bytes=200_000) as cache:
        for number in range(40):
            store(cache, f"{number}", b"metadata", _BODY)
        with stranger(root) as database:
            database.execute("UPDATE total SET unused = ?", (unused,))
        for number in range(40, 120):
            store(cache, f"{number}", b"metadata", _BODY)
            assert cache.stats().bytes <= 210_000
        assert cache.open("119") is not None


@pytest.mark.parametrize("jump", [-2 * _LATER, -365 * 86_400])
def test_what_came_while_the_clock_was_ahead_is_not_over_age(root: Path, jump: float) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_age=86_400, clock=clock) as cache:
        store(cache, "long ago", b"metadata", b"body")
        clock.advance(2 * 86_400)
        for key in ("one", "two"):
            store(cache, key, b"metadata", b"body")
        clock.advance(jump)
        assert cache.prune(dry_run=DryRun.YES).removed.total() == 0
        cache.prune()
        store(cache, "three", b"metadata", b"body")
        assert {entry.key for entry in cache.entries()} >= {"one", "two", "three"}


def test_what_came_while_the_clock_was_ahead_hides_nothing_that_is_over_age(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, clock=clock) as cache:
        clock.advance(365 * 86_400)
        store(cache, "ahead", b"metadata", b"body")
        clock.advance(-365 * 86_400)
        for key in ("never used", "used"):
            store(cache, key, b"metadata", b"body")
        clock.advance(_LATER)
        load(cache, "used")
        clock.advance(2 * 86_400)
        store(cache, "new", b"metadata", b"body")
        assert cache.prune(max_age=86_400, dry_run=DryRun.YES).removed.total() == 2
        assert cache.prune(max_age=86_400).removed.total() == 2
        assert {entry.key for entry in cache.entries()} == {"ahead", "new"}


def test_a_use_counts_of_what_came_while_the_clock_was_ahead(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_bytes=None, clock=clock) as cache:
        store(cache, "first", b"metadata", _BODY)
        size = cache.stats().bytes
        clock.advance(365 * 86_400)
        store(cache, "ahead", b"metadata", _BODY)
        clock.advance(-365 * 86_400 + _LATER)
        store(cache, "never used", b"metadata", _BODY)
        clock.advance(_LATER)
        load(cache, "ahead")
        cache.prune(max_bytes=int(1.5 * size))
        assert [entry.key for entry in cache.entries()] == ["ahead"]


@pytest.mark.parametrize(("max_bytes", "max_age"), [(None, 10 * 86_400), (5000, None)])
def test_what_was_used_while_the_clock_was_ahead_is_not_the_last_to_go(
    root: Path, max_bytes: int | None, max_age: float | None
) -> None:
    clock = ManualClock()
    with SQLiteCache(root, clock=clock) as cache:
        for key in ("ahead", "used"):
            store(cache, key, b"metadata", _BODY)
        clock.advance(400 * 86_400)
        load(cache, "ahead")
        cache.stats()
        clock.advance(-400 * 86_400)
        for _ in range(20):
            clock.advance(86_400)
            load(cache, "used")
        cache.prune(max_bytes=max_bytes, max_age=max_age)
        assert [entry.key for entry in cache.entries()] == ["used"]


def test_rows_that_were_all_used_are_walked_over_once(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_age=86_400, clock=clock) as cache:
        for number in range(20):
            store(cache, f"{number}", b"metadata", b"body")
        clock.advance(_LATER)
        for number in range(20):
            load(cache, f"{number}")
        # Nothing goes, and they needn't be looked at the next time.
        assert cache.prune().removed.total() == 0
        with stranger(root) as database:
            assert database.execute("SELECT unused FROM total").fetchone() == (21,)
        store(cache, "20", b"metadata", b"body")
        clock.advance(86_400 + 1)
        assert cache.prune().removed.total() == 21


def test_what_refreshes_add_counts_as_well(root: Path) -> None:
    most = 1_000_000
    with SQLiteCache(root, max_bytes=most) as cache:
        versions = {f"{number}": store(cache, f"{number}", b"", b"body") for number in range(50)}
        for key, version in versions.items():
            cache.update(key, bytes(100_000), version=version)
            assert cache.stats().bytes <= 1.05 * most
        # Those that were not refreshed went first, and then the first that was.
        assert {entry.key for entry in cache.entries()} == {f"{number}" for number in range(1, 10)}


def test_a_large_one_that_is_stored_anew_takes_its_own_place(root: Path) -> None:
    most = 1_000_000
    with SQLiteCache(root, max_bytes=most) as cache:
        for number in range(30):
            store(cache, f"{number}", b"metadata", bytes(10_000))
        store(cache, "large", b"metadata", bytes(600_000))
        for _ in range(3):
            store(cache, "large", b"metadata", bytes(600_000))
        assert len(list(cache.entries())) == 31


def test_a_larger_one_that_is_stored_anew_finds_room_before(root: Path) -> None:
    most, clock = 1_000_000, ManualClock()
    with SQLiteCache(root, max_bytes=most, clock=clock) as cache:
        store(cache, "large", b"metadata", bytes(600_000))
        clock.advance(_LATER)
        for number in range(39):
            store(cache, f"{number}", b"metadata", bytes(10_000))
        most_seen = 0

        def look(*given: int) -> None:
            nonlocal most_seen
            find_room(*given)
            most_seen = cache.stats().bytes + given[-1]

        find_room = cache._housekeeping.find_room  # noqa: SLF001
        cache._housekeeping.find_room = look  # type: ignore[assignment,method-assign]  # noqa: SLF001
        store(cache, "large", b"metadata", bytes(700_000))
        assert 0 < most_seen <= most
        assert cache.open("38") is not None
