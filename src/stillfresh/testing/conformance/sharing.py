"""Other objects at the same place, threads, and children after `fork()`."""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from stillfresh.caches.base import BaseCache
from stillfresh.errors import CacheError, StoreError
from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import (
    content,
    in_child,
    load,
    opened,
    store,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.testing.clock import ManualClock


class Sharing(Suite):
    """Nobody sees half of what another one does."""

    def test_another_cache_at_the_same_place_sees_the_same(
        self, open_cache: Callable[[], BaseCache]
    ) -> None:
        self.needs("persistent")
        one, other = open_cache(), open_cache()
        for size in (10, 300_000):
            version = store(one, "key", b"old", content("old", size))
            assert load(other, "key") == (b"old", content("old", size))
            assert other.update("key", b"new", version=version) is True
            assert load(one, "key") == (b"new", content("old", size))
            assert other.delete("key") is True
            assert one.open("key") is None

    def test_values_and_their_expiry_outlive_the_cache(
        self, open_cache: Callable[[], BaseCache], clock: ManualClock
    ) -> None:
        self.needs("persistent")
        with open_cache() as first:
            first.set("short", b"value", expires=60)
            first.set("long", b"value")
        second = open_cache()
        assert (second.get("short"), second.get("long")) == (b"value", b"value")
        self.needs("takes_clock")
        clock.advance(60)
        assert (second.get("short"), second.get("long")) == (None, b"value")

    def test_metadata_and_body_are_never_mixed_by_concurrent_writers(
        self, cache: BaseCache
    ) -> None:
        bodies = {
            f"{size} {number}".encode(): content(f"{size} {number}", size)
            for size in (50, 30_000, 100_000, 1_200_000)
            for number in range(2)
        }
        store(cache, "key", *next(iter(bodies.items())))
        writers = 2
        done: list[bool] = []

        def write() -> None:
            try:
                for metadata, body in list(bodies.items()) * 5:
                    store(cache, "key", metadata, body)
            finally:
                done.append(True)

        def read() -> None:
            rounds = 0
            while len(done) < writers or rounds < 20:
                rounds += 1
                got = load(cache, "key")
                assert got is not None
                assert got[1] == bodies[got[0]]

        together(*[write] * writers, *[read] * 2)

    def test_update_never_undoes_a_commit(self, cache: BaseCache) -> None:
        self.needs("swaps_atomically")
        for number in range(60):
            size = (10, 30_000, 400_000)[number % 3]
            version = store(cache, "key", b"old", content("old", size))

            def update(version: str = version) -> None:
                # One that can't be sure may refuse.
                with contextlib.suppress(StoreError):
                    cache.update("key", b"refreshed", version=version)

            together(partial(store, cache, "key", b"new", content("new", size)), update)
            assert load(cache, "key") == (b"new", content("new", size))

    @pytest.mark.parametrize("padding", [0, 5000])
    def test_swaps_never_undo_each_other(self, cache: BaseCache, padding: int) -> None:
        self.needs("swaps_atomically")
        if type(cache).swap is BaseCache.swap:
            pytest.skip(
                "between the two halves of the `swap` that it has inherited others may come"
            )
        body = content("body", 30_000)
        rest = content("rest", padding).hex().encode()
        version = store(cache, "key", b"1000 " + rest, body)

        def count() -> None:
            done = 0
            while done < 25:
                with opened(cache, "key") as entry:
                    old = entry.metadata
                new = b"%d %b" % (int(old.split()[0]) + 1, rest)
                # One that can't be sure may refuse.
                with contextlib.suppress(StoreError):
                    done += cache.swap("key", old, new, version=version)

        together(*[count] * 4)
        assert load(cache, "key") == (b"1100 " + rest, body)

    def test_removal_never_leaves_half_an_entry(self, cache: BaseCache) -> None:
        body = content("body", 100_000)

        def write() -> None:
            for _ in range(60):
                store(cache, "key", b"metadata", body)

        def remove() -> None:
            for _ in range(60):
                cache.remove("key")
                assert load(cache, "key") in {None, (b"metadata", body)}

        together(write, remove, remove)
        write()
        assert load(cache, "key") == (b"metadata", body)

    def test_clearing_never_leaves_half_an_entry(self, cache: BaseCache) -> None:
        self.needs("can_clear")

        def write(name: str, size: int) -> None:
            for number in range(60):
                key = f"{name} {number}"
                # A version that is cleared before its commit is lost.
                with contextlib.suppress(StoreError):
                    store(cache, key, key.encode(), content(key, size))
                    assert load(cache, key) in {None, (key.encode(), content(key, size))}

        def clear() -> None:
            for _ in range(60):
                cache.clear()

        together(lambda: write("a", 10), lambda: write("b", 100_000), clear, clear)
        store(cache, "a", b"metadata", b"body")
        assert load(cache, "a") == (b"metadata", b"body")

    def test_many_threads_may_use_one_cache(self, cache: BaseCache) -> None:
        def work(name: str) -> None:
            for number in range(30):
                key = f"{name} {number % 5}"
                value = f"{key} {number}".encode()
                cache.set(key, value)
                assert cache.get(key) == value
                if number % 3 == 0:
                    assert cache.delete(key) is True
                    assert cache.get(key) is None

        together(*(partial(work, name) for name in "abcdefgh"))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_child_may_go_on_using_the_cache(self, cache: BaseCache) -> None:
        large = content("large", 3 << 20)
        cache.set("value", b"value")
        store(cache, "page", b"metadata", b"body")
        store(cache, "wheel", b"metadata", large)
        kept = cache.open("wheel")
        assert kept is not None

        def child() -> bytes:
            assert cache.get("value") == b"value"
            assert load(cache, "page") == (b"metadata", b"body")
            assert kept.read() == large
            cache.set("value", b"child's")
            assert cache.get("value") == b"child's"
            store(cache, "page", b"child's", large)
            assert load(cache, "page") == (b"child's", large)
            assert cache.delete("wheel") is True
            return b"done"

        assert in_child(child) == b"done"
        with kept:
            assert kept.read() == large
        expected = (b"child's", large) if self.persistent else (b"metadata", b"body")
        assert load(cache, "page") == expected
        store(cache, "page", b"parent's", b"body")
        assert load(cache, "page") == (b"parent's", b"body")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_writer_stays_with_the_process_that_made_it(
        self, cache: BaseCache, size: int
    ) -> None:
        body = content("body", size)
        with cache.writer("key") as writer:
            writer.write(body)

            def child() -> bytes:
                with pytest.raises(CacheError):
                    writer.write(b"more")
                writer.abort()
                return b"done"

            assert in_child(child) == b"done"
            writer.commit(b"metadata")
        assert load(cache, "key") == (b"metadata", body)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_fork_among_busy_threads_leaves_a_usable_cache(self, cache: BaseCache) -> None:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                cache.set("busy", b"value")
                cache.get("busy")

        def child() -> bytes:
            store(cache, "child", b"metadata", b"body")
            assert load(cache, "child") == (b"metadata", b"body")
            cache.set("busy", b"value")
            assert cache.delete("child") is True
            return b"done"

        def fork() -> None:
            try:
                for _ in range(5):
                    assert in_child(child) == b"done"
            finally:
                stop.set()

        together(work, work, fork)
