"""Listing, clearing, closing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from stillfresh.errors import CacheClosed
from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import (
    KEYS,
    content,
    load,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.base import BaseCache
    from stillfresh.testing.clock import ManualClock

_ANY_USE: Final[dict[str, Callable[[BaseCache], object]]] = {
    "get": lambda cache: cache.get("key"),
    "set": lambda cache: cache.set("key", b"value"),
    "delete": lambda cache: cache.delete("key"),
    "open": lambda cache: cache.open("key"),
    "writer": lambda cache: cache.writer("key"),
    "update": lambda cache: cache.update("key", b"", version="0" * 16),
    "swap": lambda cache: cache.swap("key", b"", b"", version="0" * 16),
    "remove": lambda cache: cache.remove("key"),
    "entries": lambda cache: list(cache.entries()),
    "clear": lambda cache: cache.clear(),
}


class Lifetime(Suite):
    """What becomes of all entries, and of the cache."""

    def test_entries_lists_what_is_stored(self, cache: BaseCache, clock: ManualClock) -> None:
        self.needs("can_list")
        assert list(cache.entries()) == []
        store(cache, "page", b"metadata", content("page", 1000))
        store(cache, "wheel", b"metadata", content("wheel", 300_000), expires=60)
        store(cache, "gone", b"metadata", b"body")
        cache.delete("gone")
        cache.set("value", b"value")
        found = {info.key: info for info in cache.entries()}
        assert found.keys() == {"page", "wheel", "value"}
        assert [found[key].body_size for key in ("page", "wheel", "value")] == [1000, 300_000, 0]
        assert found["page"].size >= 1000
        assert found["wheel"].size >= 300_000
        assert found["page"].stored_at == pytest.approx(clock(), abs=1)
        assert found["page"].expires_at is None
        assert found["wheel"].expires_at == pytest.approx(clock() + 60, abs=1)
        assert not any(info.foreign for info in found.values())
        assert len({info.name for info in found.values()}) == 3

    def test_entries_names_every_kind_of_key(self, cache: BaseCache) -> None:
        self.needs("can_list")
        for key in KEYS.values():
            store(cache, key, b"metadata", b"body")
        listed = [info.key for info in cache.entries()]
        assert len(listed) == len(KEYS)
        assert set(listed) == set(KEYS.values())

    def test_entries_leaves_out_what_has_expired(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("can_list")
        self.needs("takes_clock")
        store(cache, "short", b"metadata", b"body", expires=60)
        store(cache, "long", b"metadata", b"body", expires=3600)
        clock.advance(60)
        assert [info.key for info in cache.entries()] == ["long"]

    def test_a_listing_survives_changes_under_its_hands(self, cache: BaseCache) -> None:
        self.needs("can_list")
        for number in range(20):
            store(cache, f"key {number}", b"metadata", b"body")
        seen = []
        for info in cache.entries():
            assert info.key is not None
            seen.append(info.key)
            cache.delete(info.key)
            cache.set("another", b"value")
        assert set(seen) - {"another"} == {f"key {number}" for number in range(20)}
        assert [info.key for info in cache.entries()] == ["another"]

    def test_clear_removes_everything(self, cache: BaseCache) -> None:
        self.needs("can_clear")
        cache.clear()
        cache.set("value", b"value")
        store(cache, "page", b"metadata", b"body")
        store(cache, "wheel", b"metadata", content("wheel", 300_000))
        cache.clear()
        for key in ("value", "page", "wheel"):
            assert cache.open(key) is None
            assert cache.delete(key) is False
        if self.can_list:
            assert list(cache.entries()) == []
        store(cache, "page", b"again", b"body")
        assert load(cache, "page") == (b"again", b"body")

    @pytest.mark.parametrize("use", _ANY_USE.values(), ids=_ANY_USE)
    def test_a_closed_cache_can_not_be_used(
        self, cache: BaseCache, use: Callable[[BaseCache], object]
    ) -> None:
        self.needs("closes")
        cache.set("key", b"value")
        cache.close()
        cache.close()
        with pytest.raises(CacheClosed):
            use(cache)

    def test_a_block_closes_its_cache(self, cache: BaseCache) -> None:
        self.needs("closes")
        with cache as same:
            assert same is cache
            cache.set("key", b"value")
        with pytest.raises(CacheClosed):
            cache.get("key")

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_version_begun_before_close_can_not_be_committed(
        self, open_cache: Callable[[], BaseCache], size: int
    ) -> None:
        self.needs("closes")
        cache = open_cache()
        writer = cache.writer("key")
        writer.write(content("body", size))
        cache.close()
        with pytest.raises(CacheClosed):
            writer.commit(b"metadata")
        if self.persistent:
            assert open_cache().open("key") is None
