from collections.abc import Callable
from pathlib import Path

import pytest

from stillfresh.caches.base import BaseCache, Entry
from stillfresh.caches.file import SeparateBodyFileCache
from stillfresh.caches.memory import MemoryCache
from stillfresh.errors import (
    BodyLost,
    CacheClosed,
    CacheFull,
    CacheUnavailable,
    CorruptEntry,
    StoreError,
)
from stillfresh.events import Event, StoreFailed
from stillfresh.testing import (
    Fault,
    FaultyCache,
    FaultySeparateBodyCache,
    ManualClock,
    Operation,
)
from stillfresh.testing.clock import START
from stillfresh.testing.conformance import CacheConformance, SeparateBodyCacheConformance
from stillfresh.testing.conformance.tools import content, load, load_pair, store, together
from tests.caches.helpers import run


@pytest.mark.one_in(4)
class TestConformanceWithoutFaults(CacheConformance):
    persistent = False

    def make_cache(self, place: Path, clock: ManualClock) -> FaultyCache:
        return FaultyCache(MemoryCache(clock=clock), clock=clock)


@pytest.mark.one_in(4)
class TestSeparateBodyConformanceWithoutFaults(SeparateBodyCacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> FaultySeparateBodyCache:
        return FaultySeparateBodyCache(SeparateBodyFileCache(place, clock=clock), clock=clock)


USES: dict[Operation, Callable[[BaseCache], object]] = {
    Operation.OPEN: lambda cache: cache.open("key"),
    Operation.CHECK: lambda cache: opened(cache).check(),
    Operation.READ: lambda cache: opened(cache).read(),
    Operation.WRITER: lambda cache: cache.writer("key"),
    Operation.WRITE: lambda cache: cache.writer("key").write(b"more"),
    Operation.COMMIT: lambda cache: cache.writer("key").commit(b"new"),
    Operation.UPDATE: lambda cache: cache.update("key", b"new", version="0" * 16),
    Operation.REMOVE: lambda cache: cache.remove("key"),
    Operation.CLEAR: lambda cache: cache.clear(),
    Operation.ENTRIES: lambda cache: list(cache.entries()),
}


def opened(cache: BaseCache) -> Entry:
    entry = cache.open("key")
    assert entry is not None
    return entry


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_can_fail_and_then_has_done_nothing(operation: Operation) -> None:
    inner = MemoryCache()
    store(inner, "key", b"metadata", b"body")
    cache = FaultyCache(inner, [Fault(operation, CacheUnavailable)])
    for _ in range(2):
        with pytest.raises(CacheUnavailable, match=operation.value):
            USES[operation](cache)
    assert load(inner, "key") == (b"metadata", b"body")


@pytest.mark.parametrize("error", [CacheFull, BodyLost, CorruptEntry, StoreError])
def test_it_raises_what_it_is_told(error: type[StoreError]) -> None:
    cache = FaultyCache(MemoryCache(), [Fault(Operation.OPEN, error)])
    with pytest.raises(error) as caught:
        cache.open("key")
    assert type(caught.value) is error


def test_only_the_nth_call_fails() -> None:
    cache = FaultyCache(MemoryCache(), [Fault(Operation.COMMIT, CacheFull, nth=2)])
    store(cache, "key", b"first", b"body")
    with pytest.raises(CacheFull, match="number 2"):
        store(cache, "key", b"second", b"body")
    store(cache, "other", b"third", b"body")
    assert load(cache, "key") == (b"first", b"body")


@pytest.mark.parametrize("size", [2000, 3 << 20])
def test_a_body_is_lost_in_its_middle(size: int) -> None:
    inner, body = MemoryCache(), content("body", size)
    store(inner, "key", b"metadata", body)
    cache = FaultyCache(inner, [Fault(Operation.READ, BodyLost, at_byte=1500)])
    with opened(cache) as entry:
        assert entry.read(1000) == body[:1000]
        assert entry.read(500) == body[1000:1500]
        for _ in range(2):
            with pytest.raises(BodyLost):
                entry.read(1)
    with opened(cache) as entry, pytest.raises(BodyLost):
        entry.read()


@pytest.mark.parametrize("size", [2000, 3 << 20])
def test_who_goes_elsewhere_meets_what_fails_there(size: int) -> None:
    inner, body = MemoryCache(), content("body", size)
    store(inner, "key", b"metadata", body)
    cache = FaultyCache(inner, [Fault(Operation.READ, BodyLost, at_byte=1500)])
    with opened(cache) as entry:
        entry.seek(1501)
        assert entry.read(100) == body[1501:1601]
        entry.seek(1400)
        assert entry.read(100) == body[1400:1500]
        with pytest.raises(BodyLost):
            entry.read(1)
        entry.seek(0)
        assert entry.read(10) == body[:10]


def test_a_body_that_can_not_be_checked_can_not_be_moved_in() -> None:
    inner = MemoryCache()
    store(inner, "key", b"metadata", b"body")
    cache = FaultyCache(inner, [Fault(Operation.CHECK, BodyLost, nth=2)])
    with opened(cache) as entry:
        entry.seek(2)
        with pytest.raises(BodyLost, match="number 2"):
            entry.seek(1)
        assert entry.read() == b"dy"


@pytest.mark.parametrize("offset", [0, 1, 2 << 20])
def test_it_moves_in_no_body_that_is_damaged(tmp_path: Path, offset: int) -> None:
    inner, body = SeparateBodyFileCache(tmp_path / "cache"), content("body", (2 << 20) + 1)
    store(inner, "key", b"metadata", body)
    (file,) = (tmp_path / "cache").rglob("*.body")
    with file.open("r+b") as damaged:
        damaged.write(bytes([body[0] ^ 1]))
    with opened(FaultyCache(inner)) as entry, pytest.raises(BodyLost):
        entry.seek(offset)


def test_a_writer_is_stopped_in_the_middle_of_a_body() -> None:
    cache = FaultyCache(MemoryCache(), [Fault(Operation.WRITE, CacheFull, at_byte=1500)])
    with cache.writer("key") as writer:
        writer.write(bytes(1500))
        with pytest.raises(CacheFull):
            writer.write(b"1")
        with pytest.raises(ValueError, match="ended"):
            writer.commit(b"metadata")
    assert cache.open("key") is None


def test_faults_may_come_and_go() -> None:
    cache = FaultyCache(MemoryCache())
    cache.set("key", b"value")
    cache.faults.append(Fault(Operation.OPEN, CacheUnavailable))
    assert cache.get("key") is None
    cache.faults.clear()
    assert cache.get("key") == b"value"


def test_the_classic_interface_tells_an_event() -> None:
    told: list[Event] = []
    cache = FaultyCache(MemoryCache(), [Fault(Operation.COMMIT, CacheFull)])
    cache.hook = told.append
    cache.set("key", b"value")
    assert cache.get("key") is None
    assert [(type(event), event.key) for event in told] == [(StoreFailed, "key")]


@pytest.mark.parametrize("operation", [Operation.WRITER, Operation.WRITE, Operation.COMMIT])
def test_a_pair_that_can_not_be_stored_leaves_the_old_one(
    tmp_path: Path, operation: Operation
) -> None:
    told: list[Event] = []
    cache = FaultySeparateBodyCache(SeparateBodyFileCache(tmp_path / "cache"))
    cache.hook = told.append
    cache.set("key", b"old")
    cache.set_body("key", b"old body")
    cache.faults.append(Fault(operation, CacheFull))
    for key in ("key", "new"):
        cache.set(key, b"new")
        cache.set_body(key, b"new body")
    assert load_pair(cache, "key") == (b"old", b"old body")
    assert cache.get("new") is None
    assert {(event.key, event.operation) for event in told if isinstance(event, StoreFailed)} >= {
        ("key", "set_body"),
        ("new", "set_body"),
    }


def test_a_refresh_that_fails_is_not_the_fault_of_the_next_call(tmp_path: Path) -> None:
    told: list[Event] = []
    cache = FaultySeparateBodyCache(SeparateBodyFileCache(tmp_path / "cache"))
    cache.hook = told.append
    for key in ("key", "other"):
        cache.set(key, b"old")
        cache.set_body(key, b"body")
    assert cache.get("key") == b"old"
    cache.faults.append(Fault(Operation.UPDATE, CacheFull))
    cache.set("key", b"refreshed")
    assert load_pair(cache, "other") == (b"old", b"body")
    assert load_pair(cache, "key") == (b"old", b"body")
    assert [(event.key, event.operation) for event in told if isinstance(event, StoreFailed)] == [
        ("key", "set")
    ]


def test_a_value_whose_body_is_lost_is_a_miss(tmp_path: Path) -> None:
    # To CacheControl, a value whose body is None is a response with an empty body.
    cache = FaultySeparateBodyCache(SeparateBodyFileCache(tmp_path / "cache"))
    cache.hook = lambda event: None
    cache.set("key", b"value")
    cache.set_body("key", b"body")
    cache.faults.append(Fault(Operation.CHECK, BodyLost))
    assert cache.get("key") is None


def test_closing_closes_the_other_cache() -> None:
    inner = MemoryCache()
    FaultyCache(inner).close()
    with pytest.raises(CacheClosed):
        inner.get("key")


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock()
    assert clock() == clock() == START
    clock.advance(1.5)
    assert clock() == START + 1.5
    clock.set(0)
    assert clock() == 0
    assert ManualClock(5)() == 5


def test_a_manual_clock_loses_no_step_of_any_thread() -> None:
    clock = ManualClock(0)

    def advance() -> None:
        for _ in range(5000):
            clock.advance(1)

    together(advance, advance, advance)
    assert clock() == 15_000


def test_what_tests_use_needs_no_pytest() -> None:
    run("import sys, stillfresh.testing; assert 'pytest' not in sys.modules")


def test_it_checks_what_the_other_cache_checks_and_claims_what_that_claims(tmp_path: Path) -> None:
    inner = SeparateBodyFileCache(tmp_path)
    store(inner, "key", b"metadata", content("body", 3 << 20))
    (file,) = tmp_path.rglob("*.body")
    data = bytearray(file.read_bytes())
    data[2 << 20] ^= 1
    file.write_bytes(data)
    outer = FaultyCache(inner)
    assert not outer.verify().is_sound
    assert outer.place == inner.place
    claim = outer.claim("key", 5)
    assert claim is not None
    assert SeparateBodyFileCache(tmp_path).claim("key", 5) is None
    claim.release()
