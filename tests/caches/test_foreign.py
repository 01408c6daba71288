from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cachecontrol.caches
import pytest
from cachecontrol.cache import DictCache as TheirDictCache

from stillfresh.caches.base import BaseCache
from stillfresh.caches.foreign import ClassicCache, adapt
from stillfresh.caches.memory import MemoryCache
from stillfresh.errors import BodyLost, CacheClosed, CacheUnavailable, ConfigError, CorruptEntry
from stillfresh.events import Event, StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance
from stillfresh.testing.conformance.tools import load, store


class Least:
    """The least that a cache can be."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        del self.values[key]


class Most(Least):
    """All that `adapt` makes use of."""

    closed = False
    expiries: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.expiries = []

    def set(self, key: str, value: bytes, expires: int | None = None) -> None:
        self.expiries.append(expires)
        super().set(key, value)

    def keys(self) -> Any:
        return self.values.keys()

    def clear(self) -> None:
        self.values.clear()

    def close(self) -> None:
        self.closed = True


@pytest.mark.one_in(3)
class TestConformanceOfTheLeast(CacheConformance):
    persistent = False
    can_list = False
    can_clear = False
    swaps_atomically = False

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        return adapt(Least(), clock=clock)


class TestConformanceOfTheMost(CacheConformance):
    persistent = False
    swaps_atomically = False

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        return adapt(Most(), clock=clock)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: TheirDictCache(),
        cachecontrol.caches.FileCache,
        cachecontrol.caches.SeparateBodyFileCache,
    ],
    ids=["DictCache", "FileCache", "SeparateBodyFileCache"],
)
def test_the_caches_of_cachecontrol_can_be_adapted(
    tmp_path: Path, make: Callable[[Path], ClassicCache]
) -> None:
    cache = adapt(make(tmp_path))
    version = store(cache, "key", b"metadata", bytes(100_000))
    assert load(cache, "key") == (b"metadata", bytes(100_000))
    assert cache.update("key", b"new", version=version)
    assert cache.get("key") == b"new"
    assert cache.delete("key") is True
    assert cache.delete("key") is False
    assert cache.open("key") is None


def test_what_is_a_cache_already_stays_as_it_is() -> None:
    cache = MemoryCache()
    assert adapt(cache) is cache


@pytest.mark.parametrize("thing", [None, {}, object(), "file:///tmp"])
def test_what_lacks_a_method_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigError, match="get, set and delete"):
        adapt(thing)


def test_a_value_of_another_program_is_handed_out_as_it_is() -> None:
    inner = Least()
    inner.values = {"key": b"cc=4,\x80", "empty": b"", "view": memoryview(b"bytes")}
    cache = adapt(inner)
    assert cache.get("key") == b"cc=4,\x80"
    assert cache.get("empty") == b""
    assert cache.get("view") == b"bytes"
    assert load(cache, "key") == (b"cc=4,\x80", None)
    entry = cache.open("key")
    assert entry is not None
    assert cache.update("key", b"new", version=entry.version) is False
    assert cache.get("key") == b"cc=4,\x80"


def test_a_value_that_is_damaged_is_never_handed_out() -> None:
    inner = Least()
    cache = adapt(inner)
    store(cache, "key", b"metadata", b"the body")
    whole = inner.values["key"]
    for at in range(len(whole)):
        inner.values["key"] = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        with pytest.raises((CorruptEntry, BodyLost)):
            load(cache, "key")
        assert cache.get("key") in {None, b"metadata"}
    for size in range(1, len(whole)):
        inner.values["key"] = whole[:size]
        with pytest.raises(CorruptEntry):
            load(cache, "key")
        assert cache.get("key") is None


def test_a_value_of_another_key_is_not_taken() -> None:
    inner = Least()
    cache = adapt(inner)
    store(cache, "key", b"metadata", b"the body")
    inner.values["other"] = inner.values["key"]
    with pytest.raises(CorruptEntry, match="another key"):
        cache.open("other")
    assert cache.get("other") is None


def test_what_is_not_bytes_is_corrupt() -> None:
    inner = Least()
    inner.values["key"] = "text"
    cache = adapt(inner)
    with pytest.raises(CorruptEntry, match="a str"):
        cache.open("key")


def test_whatever_the_object_raises_is_an_event_and_a_miss() -> None:
    class Down:
        def get(self, key: str) -> bytes:
            raise ConnectionError("no route")

        set = delete = get

    told: list[Event] = []
    cache = adapt(Down())
    cache.hook = told.append
    assert cache.get("key") is None
    cache.set("key", b"value")
    assert cache.delete("key") is False
    assert [event.operation for event in told if isinstance(event, StoreFailed)] == [
        "get",
        "set",
        "delete",
    ]
    with pytest.raises(CacheUnavailable, match="no route") as caught:
        cache.open("key")
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_expires_is_passed_on_in_whole_seconds_where_it_is_taken() -> None:
    clock, inner = ManualClock(), Most()
    cache = adapt(inner, clock=clock)
    cache.set("key", b"value", expires=59.5)
    cache.set("key", b"value", expires=0.001)
    cache.set("key", b"value")
    assert inner.expiries == [60, 1, None]


def test_expires_is_honoured_where_the_object_knows_nothing_of_it() -> None:
    clock = ManualClock()
    cache = adapt(Least(), clock=clock)
    cache.set("key", b"value", expires=60)
    clock.advance(60)
    assert cache.get("key") is None


def test_what_the_object_can_not_do_is_said() -> None:
    cache = adapt(Least())
    with pytest.raises(CacheUnavailable, match="has no clear"):
        cache.clear()
    with pytest.raises(CacheUnavailable, match="has no keys"):
        list(cache.entries())


def test_a_listing_tells_another_programs_values() -> None:
    inner = Most()
    cache = adapt(inner)
    inner.values["theirs"] = b"cc=4,\x80"
    store(cache, "ours", b"metadata", b"body")
    assert {info.key: info.foreign for info in cache.entries()} == {"theirs": True, "ours": False}


def test_closing_closes_the_object() -> None:
    inner = Most()
    adapt(inner).close()
    assert inner.closed


def test_a_cache_whose_object_fails_to_close_is_closed() -> None:
    class Stuck(Most):
        def close(self) -> None:
            raise OSError

    cache = adapt(Stuck())
    with pytest.raises(CacheUnavailable):
        cache.close()
    with pytest.raises(CacheClosed):
        cache.get("key")


@pytest.mark.parametrize("expires", [timedelta.max, 1e17, datetime.max.replace(tzinfo=UTC)])
def test_what_ends_in_ages_is_kept_without_an_end(expires: Any) -> None:
    most = Most()
    with adapt(most) as cache:
        cache.set("key", b"value", expires=expires)
        assert cache.get("key") == b"value"
    assert most.expiries == [None]
