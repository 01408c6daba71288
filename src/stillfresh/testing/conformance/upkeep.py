"""Counted, kept within bounds, and checked."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from stillfresh.caches.pruning import Cause, DryRun, Repair
from stillfresh.errors import CacheClosed, ConfigError, StoreError
from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import content, load, store, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.base import BaseCache
    from stillfresh.testing.clock import ManualClock

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_SIZE: Final = 30_000

_QUESTIONS: Final[dict[str, Callable[[BaseCache], object]]] = {
    "stats": lambda cache: cache.stats(),
    "prune": lambda cache: cache.prune(max_bytes=0),
    "verify": lambda cache: cache.verify(),
}


def _fill(cache: BaseCache, prefix: str, count: int) -> list[str]:
    keys = [f"{prefix} {number}" for number in range(count)]
    for key in keys:
        store(cache, key, key.encode(), content(key, _SIZE))
    return keys


def _is_there(cache: BaseCache, key: str) -> bool:
    """Tell whether an entry is there, which is whole then."""
    found = load(cache, key)
    assert found in {None, (key.encode(), content(key, _SIZE))}
    return found is not None


def _left(cache: BaseCache, keys: list[str]) -> list[str]:
    return [key for key in keys if _is_there(cache, key)]


class _Progress:
    """Is told how far something is, which only grows."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        assert not self.told or done >= self.told[-1][0]
        assert total is None or done <= total
        self.told.append((done, total))


class Upkeep(Suite):
    """`stats`, `prune` and `verify`."""

    def damage(self, place: Any, cache: BaseCache, key: str) -> bool:
        """Change a byte of what is stored under `key`; override it where that can be done.

        Answers False where it can't.
        """
        del place, cache, key
        return False

    def test_statistics_count_what_is_stored(self, cache: BaseCache, clock: ManualClock) -> None:
        self.needs("can_list")
        empty = cache.stats()
        assert (empty.entries, empty.bytes, empty.hosts) == (0, 0, {})
        assert (empty.oldest, empty.newest) == (None, None)
        store(cache, "https://example.org/a", b"metadata", content("a", _SIZE))
        store(cache, "https://example.org/b", b"metadata", b"")
        first = clock()
        clock.advance(_DAY)
        store(cache, "https://example.com/", b"metadata", None)
        store(cache, "no url", b"metadata", b"body")
        stats = cache.stats(progress=_Progress())
        assert stats.entries == 4
        assert stats.bytes == sum(info.size for info in cache.entries()) > _SIZE
        assert stats.oldest == pytest.approx(first, abs=1)
        assert stats.newest == pytest.approx(clock(), abs=1)
        assert {host: count for host, (count, _) in stats.hosts.items()} == {
            "example.org": 2,
            "example.com": 1,
            "": 1,
        }
        assert sum(size for _, size in stats.hosts.values()) == stats.bytes

    def test_statistics_leave_out_what_is_not_there_any_more(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        _fill(cache, "stays", 2)
        store(cache, "expires", b"metadata", b"body", expires=60)
        store(cache, "deleted", b"metadata", b"body")
        cache.delete("deleted")
        assert cache.stats().entries == 3
        clock.advance(60)
        assert cache.stats().entries == 2

    def test_a_host_is_listed_with_its_port(self, cache: BaseCache) -> None:
        self.needs("can_list")
        of_host = ("http://a.example/1", "http://a.example/{2}", "http://a.example/{}")
        for key in (*of_host, "http://a.example:81/", "http://a.example.org/", "a.exam"):
            store(cache, key, b"metadata", b"body")
        for host, count in {"a.example": 3, "a.example:81": 1, "": 1, "b.example": 0}.items():
            listed = list(cache.entries_of(host))
            assert [entry.host for entry in listed] == [host] * count
            assert {entry.key for entry in listed} <= {entry.key for entry in cache.entries()}

    def test_who_peeks_gets_what_is_there(self, cache: BaseCache) -> None:
        assert cache.peek("key") is None
        body = content("body", 200_000)
        version = store(cache, "key", b"metadata", body)
        entry = cache.peek("key")
        assert entry is not None
        with entry:
            assert (entry.metadata, entry.version, entry.read()) == (b"metadata", version, body)

    def test_peeking_is_no_use(self, cache: BaseCache, clock: ManualClock) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        _fill(cache, "key", 2)
        before = {entry.key: entry.used_at for entry in cache.entries()}
        clock.advance(_DAY)
        entry = cache.peek("key 0")
        assert entry is not None
        with entry:
            entry.read()
        # Some backends have a clock of their own.
        after = {entry.key: entry.used_at for entry in cache.entries()}
        assert after == pytest.approx(before, abs=_HOUR)

    def test_pruning_leaves_as_many_bytes_as_it_is_told(self, cache: BaseCache) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 8)
        before = cache.stats().bytes
        bound = before // 2
        report = cache.prune(max_bytes=bound, progress=_Progress())
        after = cache.stats()
        assert bound - 2 * _SIZE < after.bytes <= bound
        left = _left(cache, keys)
        assert len(left) == after.entries == report.kept
        assert report.removed == {Cause.OVER_SIZE: 8 - len(left)}
        assert (report.removed_bytes, report.kept_bytes) == (before - after.bytes, after.bytes)
        assert cache.prune(max_bytes=bound).removed == {}
        assert _left(cache, keys) == left
        cache.prune(max_bytes=0)
        assert _left(cache, keys) == []
        assert list(cache.entries()) == []

    def test_pruning_without_a_bound_removes_nothing(self, cache: BaseCache) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 3)
        assert cache.prune().removed == {}
        assert cache.prune(max_bytes=1 << 40, max_age=1000 * _DAY).removed == {}
        assert _left(cache, keys) == keys

    def test_what_was_stored_and_read_lately_stays(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        # When an entry was used may be what a file system says, in its time.
        clock.set(time.time())
        old = _fill(cache, "old", 4)
        clock.advance(2 * _HOUR)
        new = _fill(cache, "new", 4)
        assert _left(cache, new) == new
        report = cache.prune(max_bytes=cache.stats().bytes // 2)
        assert report.removed == {Cause.OVER_SIZE: 4}
        assert (_left(cache, old), _left(cache, new)) == ([], new)

    def test_what_was_not_used_for_too_long_goes(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        clock.set(time.time())
        old = _fill(cache, "old", 3)
        clock.advance(10 * _DAY)
        new = _fill(cache, "new", 3)
        assert _left(cache, new) == new
        assert cache.prune(max_age=20 * _DAY).removed == {}
        assert cache.prune(max_age=5 * _DAY).removed == {Cause.OVER_AGE: 3}
        assert (_left(cache, old), _left(cache, new)) == ([], new)

    def test_nothing_has_to_go_for_what_has_expired(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        keys = _fill(cache, "key", 3)
        bound = cache.stats().bytes
        for number in range(3):
            store(cache, f"expires {number}", b"metadata", content("body", _SIZE), expires=60)
        clock.advance(60)
        report = cache.prune(max_bytes=bound)
        assert report.removed.keys() <= {Cause.EXPIRED}
        assert _left(cache, keys) == keys
        assert cache.stats().entries == 3

    def test_a_dry_run_removes_nothing(self, cache: BaseCache) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 6)
        before = cache.stats()
        foretold = cache.prune(max_bytes=before.bytes // 2, dry_run=DryRun.YES)
        assert foretold.removed[Cause.OVER_SIZE] >= 3
        assert cache.stats() == before
        assert _left(cache, keys) == keys
        done = cache.prune(max_bytes=before.bytes // 2)
        assert (done.removed, done.removed_bytes) == (foretold.removed, foretold.removed_bytes)

    def test_true_is_not_taken_for_no_dry_run(self, cache: BaseCache) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 3)
        yes: Any = True
        with suppress(ConfigError, TypeError, ValueError):
            cache.prune(max_bytes=0, dry_run=yes)
        assert _left(cache, keys) == keys

    @pytest.mark.parametrize("bounds", [{"max_bytes": -1}, {"max_age": -1}], ids=str)
    def test_a_negative_bound_is_refused_and_removes_nothing(
        self, cache: BaseCache, bounds: dict[str, int]
    ) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 2)
        with pytest.raises(ConfigError):
            cache.prune(max_bytes=bounds.get("max_bytes"), max_age=bounds.get("max_age"))
        assert _left(cache, keys) == keys

    def test_what_is_whole_is_found_right_and_stays(self, cache: BaseCache) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 3)
        store(cache, "long", b"metadata", content("long", (2 << 20) + 3))
        store(cache, "empty", b"metadata", b"")
        cache.set("value", b"value")
        for repair in Repair:
            report = cache.verify(repair=repair, progress=_Progress())
            assert (report.checked, report.unchecked, report.repaired) == (6, 0, 0)
            assert report.is_sound
        assert _left(cache, keys) == keys
        assert load(cache, "long") == (b"metadata", content("long", (2 << 20) + 3))
        assert cache.get("value") == b"value"

    def test_what_is_damaged_is_found_and_removed_if_asked_to(
        self, cache: BaseCache, place: Any
    ) -> None:
        self.needs("can_list")
        keys = _fill(cache, "key", 5)
        if not all(self.damage(place, cache, key) for key in keys[:2]):
            pytest.skip("what is stored can't be damaged here")
        report = cache.verify()
        assert (report.checked, report.unchecked, report.repaired) == (3, 0, 0)
        assert len(report.damaged) == 2
        assert all(report.damaged.values())
        assert not report.is_sound
        assert cache.verify().damaged == report.damaged
        repaired = cache.verify(repair=Repair.REMOVE)
        assert (repaired.damaged, repaired.repaired) == (report.damaged, 2)
        assert _left(cache, keys) == keys[2:]
        assert cache.verify().is_sound
        assert cache.stats().entries == 3
        _fill(cache, "key", 2)
        assert _left(cache, keys) == keys

    @pytest.mark.parametrize("question", _QUESTIONS.values(), ids=_QUESTIONS)
    def test_entries_may_change_meanwhile(
        self, cache: BaseCache, question: Callable[[BaseCache], object]
    ) -> None:
        self.needs("can_list")
        stop = threading.Event()

        def ask() -> None:
            try:
                for _ in range(10):
                    question(cache)
            finally:
                stop.set()

        def change(name: str) -> None:
            while not stop.is_set():
                for number, size in enumerate((10, _SIZE, 300_000)):
                    key = f"{name} {number}"
                    # Of a cache that can't do both at once.
                    with suppress(StoreError):
                        store(cache, key, key.encode(), content(key, size))
                        assert load(cache, key) in {None, (key.encode(), content(key, size))}
                        cache.delete(key)

        together(ask, lambda: change("a"), lambda: change("b"))
        assert cache.verify().is_sound

    @pytest.mark.parametrize("question", _QUESTIONS.values(), ids=_QUESTIONS)
    def test_of_a_closed_cache_nothing_can_be_asked(
        self, cache: BaseCache, question: Callable[[BaseCache], object]
    ) -> None:
        self.needs("closes")
        cache.set("key", b"value")
        cache.close()
        with pytest.raises(CacheClosed):
            question(cache)
