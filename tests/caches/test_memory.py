from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stillfresh.caches.base import Entry, Expires
from stillfresh.caches.memory import DictCache, MemoryCache
from stillfresh.caches.pruning import Cause, DryRun, PruneReport
from stillfresh.errors import CacheFull, ConfigError
from stillfresh.events import Event, StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance
from stillfresh.testing.conformance.tools import load, store

if TYPE_CHECKING:
    from typing_extensions import Buffer

KIB = 1024
# Of an entry whose key is one letter, with no metadata and no body.
EMPTY = 513


class TestConformance(CacheConformance):
    persistent = False

    def make_cache(self, place: Path, clock: ManualClock) -> MemoryCache:
        return MemoryCache(clock=clock)


def keys(cache: MemoryCache) -> list[str | None]:
    return [info.key for info in cache.entries()]


def test_the_least_recently_used_go_first() -> None:
    cache = MemoryCache(max_bytes=4 * (EMPTY + KIB))
    for key in "abcd":
        store(cache, key, b"", bytes(KIB))
    cache.get("a")
    load(cache, "b")
    store(cache, "e", b"", bytes(KIB))
    assert keys(cache) == ["d", "a", "b", "e"]
    store(cache, "f", b"", bytes(2 * KIB))
    assert keys(cache) == ["b", "e", "f"]


def test_an_update_counts_as_use_and_may_push_others_out() -> None:
    cache = MemoryCache(max_bytes=3 * (EMPTY + KIB))
    version = store(cache, "a", b"", bytes(KIB))
    for key in "bc":
        store(cache, key, b"", bytes(KIB))
    assert cache.update("a", bytes(10), version=version)
    assert keys(cache) == ["c", "a"]


def test_looking_for_what_is_not_there_is_no_use() -> None:
    cache = MemoryCache(max_bytes=2 * (EMPTY + KIB))
    store(cache, "a", b"", bytes(KIB))
    cache.get("b")
    cache.delete("b")
    assert keys(cache) == ["a"]
    assert len(cache) == 1


def test_the_bound_holds_whatever_is_stored() -> None:
    cache = MemoryCache(max_bytes=20 * KIB)
    for number in range(200):
        store(cache, f"key {number % 30}", bytes(number), bytes(number * 37 % (8 * KIB)))
        assert cache.size <= 20 * KIB
        assert cache.size == sum(info.size for info in cache.entries())


def test_size_counts_what_is_stored_and_nothing_else() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock=clock)
    assert cache.size == 0
    version = store(cache, "a", b"12", b"345")
    assert cache.size == EMPTY + 5
    cache.update("a", b"1", version=version)
    assert cache.size == EMPTY + 4
    with cache.writer("a") as writer:
        writer.write(bytes(KIB))
    assert cache.size == EMPTY + 4
    store(cache, "b", b"", b"", expires=60)
    assert cache.size == 2 * EMPTY + 4
    clock.advance(60)
    assert cache.get("b") is None
    assert cache.size == EMPTY + 4
    cache.delete("a")
    assert cache.size == 0
    store(cache, "a", b"", b"")
    cache.clear()
    assert (cache.size, len(cache)) == (0, 0)


def test_what_alone_is_larger_than_the_bound_is_refused() -> None:
    cache = MemoryCache(max_bytes=10 * KIB)
    old = store(cache, "a", b"old", b"body")
    with cache.writer("a") as writer:
        for _ in range(10):
            writer.write(bytes(KIB))
        with pytest.raises(CacheFull):
            writer.write(b"1")
    with pytest.raises(CacheFull):
        store(cache, "a", bytes(10 * KIB), None)
    with pytest.raises(CacheFull):
        cache.update("a", bytes(10 * KIB), version=old)
    assert load(cache, "a") == (b"old", b"body")


def test_set_of_what_is_too_large_tells_an_event_and_no_more() -> None:
    told: list[Event] = []
    cache = MemoryCache(max_bytes=KIB)
    cache.hook = told.append
    cache.set("a", bytes(KIB))
    assert cache.get("a") is None
    match told:
        case [StoreFailed(key="a", operation="set", error=CacheFull())]:
            pass
        case _:
            pytest.fail(repr(told))


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_bound_is_positive(max_bytes: int) -> None:
    with pytest.raises(ConfigError):
        MemoryCache(max_bytes=max_bytes)


def test_the_classic_name_takes_a_dict_to_start_with() -> None:
    given = {"a": b"1", "b": b"2"}
    cache = DictCache(given)
    assert (cache.get("a"), cache.get("b")) == (b"1", b"2")
    cache.set("c", b"3")
    cache.delete("a")
    given["b"] = b"changed"
    assert given == {"a": b"1", "b": b"changed"}
    assert cache.get("b") == b"2"
    assert DictCache().get("a") is None


def test_an_empty_cache_is_not_taken_for_none() -> None:
    assert MemoryCache()


def test_closing_gives_the_memory_back() -> None:
    cache = MemoryCache()
    store(cache, "a", b"", bytes(KIB))
    cache.close()
    assert (cache.size, len(cache)) == (0, 0)


# Its bounds of age, and pruning.


ANY_USE: dict[str, Callable[[MemoryCache, str], object]] = {
    "get": lambda cache, version: cache.get("key"),
    "open": lambda cache, version: cache.open("key"),
    "update": lambda cache, version: cache.update("key", b"new", version=version),
    "delete": lambda cache, version: cache.delete("key"),
    "entries": lambda cache, version: list(cache.entries()),
}


@pytest.mark.parametrize("use", ANY_USE.values(), ids=ANY_USE)
def test_what_was_not_used_for_too_long_is_gone_whoever_asks(
    use: Callable[[MemoryCache, str], object],
) -> None:
    clock = ManualClock()
    cache = MemoryCache(max_age=60, clock=clock)
    version = store(cache, "key", b"metadata", b"body")
    clock.advance(60)
    assert load(cache, "key") == (b"metadata", b"body")
    clock.advance(61)
    assert not use(cache, version)
    assert cache.get("key") is None


def test_what_was_not_used_for_too_long_makes_room_when_others_are_stored() -> None:
    clock = ManualClock()
    cache = MemoryCache(max_age=60, clock=clock)
    for key in "abc":
        store(cache, key, b"", bytes(KIB))
    clock.advance(50)
    cache.get("b")
    clock.advance(50)
    assert keys(cache) == ["b"]
    store(cache, "d", b"", b"")
    assert (len(cache), cache.size) == (2, 2 * EMPTY + KIB)


def test_an_update_is_a_use_by_age_too() -> None:
    clock = ManualClock()
    cache = MemoryCache(max_age=60, clock=clock)
    version = store(cache, "key", b"metadata", b"body")
    clock.advance(50)
    cache.update("key", b"new", version=version)
    clock.advance(50)
    assert load(cache, "key") == (b"new", b"body")


@pytest.mark.parametrize("max_age", [-1, float("nan")])
def test_an_age_is_not_negative(max_age: float) -> None:
    with pytest.raises(ConfigError):
        MemoryCache(max_age=max_age)


def test_pruning_drops_the_least_recently_used() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock=clock)
    for key in "abcd":
        store(cache, key, b"", bytes(KIB))
        clock.advance(3600)
    cache.get("a")
    bound = 2 * (EMPTY + KIB)
    foretold = cache.prune(max_bytes=bound, dry_run=DryRun.YES)
    assert keys(cache) == ["b", "c", "d", "a"]
    report = cache.prune(max_bytes=bound)
    assert report == foretold
    assert report.removed == {Cause.OVER_SIZE: 2}
    assert keys(cache) == ["d", "a"]
    assert cache.size == report.kept_bytes == bound
    assert cache.prune(max_bytes=bound) == PruneReport(kept=2, kept_bytes=bound)


def test_pruning_drops_what_has_expired_and_what_is_too_old() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock=clock)
    store(cache, "expires", b"", bytes(KIB), expires=60)
    store(cache, "old", b"", bytes(KIB))
    clock.advance(3600)
    store(cache, "new", b"", bytes(KIB))
    report = cache.prune(max_age=600)
    assert report.removed == {Cause.EXPIRED: 1, Cause.OVER_AGE: 1}
    assert (len(cache), cache.size) == (1, EMPTY + len("new") - 1 + KIB)


def test_pruning_knows_its_own_age() -> None:
    clock = ManualClock()
    cache = MemoryCache(max_age=60, clock=clock)
    store(cache, "old", b"", bytes(KIB))
    clock.advance(61)
    assert cache.prune().removed == {Cause.OVER_AGE: 1}
    assert (len(cache), cache.size) == (0, 0)


def test_what_is_used_or_replaced_while_others_are_dropped_stays() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock=clock)
    for key in "abcd":
        store(cache, key, key.encode(), b"body")
    clock.advance(3600)

    def use(done: int, total: int | None) -> None:
        assert total in {4, None}
        if done == 1:
            cache.get("b")
            store(cache, "c", b"new", b"new body")

    assert cache.prune(max_age=60, progress=use).removed == {Cause.OVER_AGE: 2}
    assert keys(cache) == ["b", "c"]
    assert load(cache, "c") == (b"new", b"new body")


def test_who_changes_what_update_does_is_asked_by_swap_too() -> None:
    class Sealed(MemoryCache):
        """Keeps metadata back to front."""

        def open(self, key: str) -> Entry | None:
            entry = super().open(key)
            if entry is not None:
                entry.metadata = entry.metadata[::-1]
            return entry

        def update(
            self, key: str, metadata: Buffer, *, version: str, expires: Expires = None
        ) -> bool:
            sealed = bytes(metadata)[::-1]
            return super().update(key, sealed, version=version, expires=expires)

    with Sealed() as cache:
        version = store(cache, "key", b"dlo", b"body")
        assert cache.swap("key", b"old", b"new", version=version)
        assert load(cache, "key") == (b"new", b"body")
        assert not cache.swap("key", b"old", b"newer", version=version)
