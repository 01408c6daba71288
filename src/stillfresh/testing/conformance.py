"""What every cache must do, as tests to inherit.

`CacheConformance` is for any cache, `SeparateBodyCacheConformance` for one with `get_body` and
`set_body` too. A subclass says how a cache is made, and in its flags what the cache can't do; it
may override the fixtures `place` and `clock` where a directory and a manual clock are not what the
cache works with. No test waits for time to pass, and all are bounded.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import threading
import traceback
import warnings
from array import array
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import pytest

from stillfresh.caches.base import BaseCache, SeparateBodyBaseCache
from stillfresh.errors import CacheClosed, CacheError
from stillfresh.testing.clock import START, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer

    from stillfresh.caches.expiry import Expires

__all__ = ["CacheConformance", "SeparateBodyCacheConformance"]

_T = TypeVar("_T")

_KEYS: Final = {
    "empty": "",
    "url": "https://example.org/a?b=c&d=%20#e",
    "dots": "../../../../etc/passwd",
    "dot": ".",
    "absolute": "/etc/passwd",
    "backslash": "..\\..\\boot.ini",
    "nul": "a\0b",
    "only nul": "\0",
    "newlines": "a\r\nb: c\n",
    "spaces": "  ",
    "percent": "%00%2e%2e%2f",
    "glob": "*?[a-z]",
    "latin-1": "caf\xe9",
    "decomposed": "cafe\u0301",
    "astral": "\U0001f370",
    "lone surrogate": "\ud800",
    "surrogateescape": b"/caf\xe9".decode("ascii", "surrogateescape"),
    "upper": "ABC",
    "lower": "abc",
    "64 KiB": "k" * 65_536,
    "64 KiB and one": "k" * 65_537,
}

_BYTES_LIKE: Final[dict[str, Callable[[bytes], Buffer]]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"<" + data + b">")[1:-1],
    "array of words": lambda data: array("H", data),
}

# Around every size at which a cache may change its ways: ours do at 16 KiB, 64 KiB and 1 MiB.
_SIZES: Final = (
    0,
    1,
    4095,
    (1 << 14) - 1,
    1 << 14,
    (1 << 14) + 1,
    1 << 16,
    (1 << 16) + 1,
    1 << 20,
    (1 << 20) + 1,
    (3 << 20) + 17,
)

_MINUTE_FROM_START: Final = datetime.fromtimestamp(START + 60, UTC)

_IN_A_MINUTE: Final[dict[str, Callable[[float], Expires]]] = {
    "int": lambda _: 60,
    "float": lambda _: 60.0,
    "timedelta": lambda _: timedelta(minutes=1),
    "aware datetime": lambda now: datetime.fromtimestamp(now + 60, UTC),
    "datetime elsewhere": lambda now: datetime.fromtimestamp(
        now + 60, timezone(timedelta(hours=-7))
    ),
    "naive datetime": lambda now: datetime.fromtimestamp(now + 60, UTC).replace(tzinfo=None),
}

_PAST: Final[dict[str, Callable[[float], Expires]]] = {
    "0": lambda _: 0,
    "0.0": lambda _: 0.0,
    "negative": lambda _: -1,
    "negative float": lambda _: -0.5,
    "huge negative": lambda _: -(10**400),
    "negative infinity": lambda _: float("-inf"),
    "no timedelta": lambda _: timedelta(0),
    "negative timedelta": lambda _: timedelta(days=-1),
    "aware datetime": lambda now: datetime.fromtimestamp(now - 1, UTC),
    "naive datetime": lambda now: datetime.fromtimestamp(now - 1, UTC).replace(tzinfo=None),
    "first datetime": lambda _: datetime.min,  # noqa: DTZ901 - naive is one of the forms
}

_NEVER: Final[dict[str, Expires]] = {
    "None": None,
    "huge": 10**400,
    "infinity": float("inf"),
    "last datetime": datetime.max,  # noqa: DTZ901 - naive is one of the forms
}

_WRONG: Final[dict[str, Any]] = {"text": "60", "list": [60], "not a number": float("nan")}

_ANY_USE: Final[dict[str, Callable[[BaseCache], object]]] = {
    "get": lambda cache: cache.get("key"),
    "set": lambda cache: cache.set("key", b"value"),
    "delete": lambda cache: cache.delete("key"),
    "open": lambda cache: cache.open("key"),
    "writer": lambda cache: cache.writer("key"),
    "update": lambda cache: cache.update("key", b"", version="0" * 16),
    "remove": lambda cache: cache.remove("key"),
    "entries": lambda cache: list(cache.entries()),
    "clear": lambda cache: cache.clear(),
}

_ANY_BODY_USE: Final[dict[str, Callable[[SeparateBodyBaseCache], object]]] = {
    "get_body": lambda cache: cache.get_body("key"),
    "set_body": lambda cache: cache.set_body("key", b"body"),
}


def content(seed: str, size: int) -> bytes:
    """Make `size` bytes that only `seed` gives."""
    return hashlib.shake_128(seed.encode()).digest(size)


def store(
    cache: BaseCache, key: str, metadata: bytes, body: bytes | None, expires: Expires = None
) -> str:
    """Commit an entry, without a body where that is None, and return its version."""
    with cache.writer(key) as writer:
        if body is not None:
            writer.write(body)
        return writer.commit(metadata, expires=expires)


def load(cache: BaseCache, key: str) -> tuple[bytes, bytes | None] | None:
    """Read a whole entry: its metadata, and its body or None where it has none."""
    entry = cache.open(key)
    if entry is None:
        return None
    with entry:
        body = entry.read()
        assert len(body) == entry.size
        return entry.metadata, body if entry.has_body else None


def load_pair(cache: SeparateBodyBaseCache, key: str) -> tuple[bytes, bytes | None] | None:
    """Read a value and its body by the two classic calls."""
    value = cache.get(key)
    if value is None:
        return None
    body = cache.get_body(key)
    if body is None:
        return value, None
    with body:
        return value, body.read()


def together(*jobs: Callable[[], object]) -> None:
    """Run each job in a thread of its own, at the same time, and raise what one raised."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


def elsewhere(job: Callable[[], _T]) -> _T:
    """Run `job` in a thread that ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


def in_child(job: Callable[[], bytes]) -> bytes:
    """Run `job` in a child made by `fork()`, and return its answer."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The test runner may have threads; what a cache does in the child is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            answer = b"+" + job()
        except BaseException:  # noqa: BLE001 - whatever it is, the parent tells
            answer = b"-" + traceback.format_exc().encode()
        with contextlib.suppress(OSError), open(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    assert answer.startswith(b"+"), answer.decode()
    return answer[1:]


class CacheConformance:
    """The guarantees of `BaseCache`.

    Attributes:
        persistent: another object made at the same place sees the same entries.
        can_list: `entries` works.
        can_clear: `clear` works.
        swaps_atomically: no other writer can come between the two halves of an `update`.
        takes_clock: expiry follows the clock that `make_cache` is given. Where it doesn't, override
            the fixture `clock` with one that tells the real time.
    """

    persistent: ClassVar[bool] = True
    can_list: ClassVar[bool] = True
    can_clear: ClassVar[bool] = True
    swaps_atomically: ClassVar[bool] = True
    takes_clock: ClassVar[bool] = True

    def make_cache(self, place: Any, clock: ManualClock) -> BaseCache:
        """Make a cache; the suite closes it.

        One that is persistent is made several times at the same `place`, which is new and empty
        for each test.
        """
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> Any:
        """Say where the cache is."""
        return tmp_path / "cache"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def open_cache(self, place: Any, clock: ManualClock) -> Iterator[Callable[[], Any]]:
        """Make one more cache at the same place."""
        with contextlib.ExitStack() as opened:
            yield lambda: opened.enter_context(self.make_cache(place, clock))

    @pytest.fixture
    def cache(self, open_cache: Callable[[], Any]) -> Any:
        return open_cache()

    def needs(self, flag: str) -> None:
        """Skip the test that calls this where the cache can't do what it is about."""
        if not getattr(self, flag):
            pytest.skip(f"{flag} is False")

    # The classic interface.

    def test_a_key_that_was_never_set_has_no_value(self, cache: BaseCache) -> None:
        assert cache.get("key") is None
        assert cache.open("key") is None

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    def test_any_text_is_a_key(self, cache: BaseCache, key: str) -> None:
        cache.set(key, b"value")
        assert cache.get(key) == b"value"
        store(cache, key, b"metadata", b"body")
        assert load(cache, key) == (b"metadata", b"body")
        assert cache.delete(key) is True
        assert cache.get(key) is None

    def test_keys_that_look_alike_are_different(self, cache: BaseCache) -> None:
        for key in _KEYS.values():
            store(cache, key, b"metadata of " + repr(key).encode(), repr(key).encode())
        for key in _KEYS.values():
            assert load(cache, key) == (b"metadata of " + repr(key).encode(), repr(key).encode())

    @pytest.mark.parametrize("kind", _BYTES_LIKE.values(), ids=_BYTES_LIKE)
    @pytest.mark.parametrize("value", [b"", b"\0\xff", content("value", 3 << 20)], ids=len)
    def test_any_bytes_are_a_value(
        self, cache: BaseCache, kind: Callable[[bytes], Buffer], value: bytes
    ) -> None:
        cache.set("key", kind(value))
        got = cache.get("key")
        assert got == value
        assert type(got) is bytes

    @pytest.mark.parametrize("value", ["text", 5, None, [1, 2]], ids=repr)
    def test_what_is_not_bytes_is_refused(self, cache: BaseCache, value: Any) -> None:
        with pytest.raises(TypeError):
            cache.set("key", value)
        with pytest.raises(TypeError), cache.writer("key") as writer:
            writer.write(value)
        with pytest.raises(TypeError), cache.writer("key") as writer:
            writer.commit(value)
        assert cache.open("key") is None

    def test_a_value_does_not_change_with_the_buffer_it_came_from(self, cache: BaseCache) -> None:
        value = bytearray(b"value")
        cache.set("key", value)
        value[:] = b"other"
        assert cache.get("key") == b"value"

    def test_the_last_value_set_is_the_value(self, cache: BaseCache) -> None:
        for value in (b"first", b"the second", b""):
            cache.set("key", value)
        assert cache.get("key") == b""

    def test_delete_says_whether_there_was_anything(self, cache: BaseCache) -> None:
        assert cache.delete("key") is False
        cache.set("key", b"value")
        assert cache.delete("key") is True
        assert cache.delete("key") is False
        store(cache, "key", b"metadata", content("body", 1 << 17))
        assert cache.remove("key") is True
        assert cache.remove("key") is False

    def test_delete_leaves_other_keys_alone(self, cache: BaseCache) -> None:
        cache.set("one", b"1")
        cache.set("two", b"2")
        cache.delete("one")
        assert (cache.get("one"), cache.get("two")) == (None, b"2")

    # Expiry.

    @pytest.mark.parametrize("form", _IN_A_MINUTE.values(), ids=_IN_A_MINUTE)
    def test_a_value_lasts_until_it_expires(
        self, cache: BaseCache, clock: ManualClock, form: Callable[[float], Expires]
    ) -> None:
        cache.set("key", b"value", expires=form(clock()))
        store(cache, "entry", b"metadata", b"body", expires=form(clock()))
        assert cache.get("key") == b"value"
        self.needs("takes_clock")
        clock.advance(59)
        assert cache.get("key") == b"value"
        assert load(cache, "entry") == (b"metadata", b"body")
        clock.advance(1)
        assert cache.get("key") is None
        assert cache.open("entry") is None

    @pytest.mark.parametrize("form", _IN_A_MINUTE.values(), ids=_IN_A_MINUTE)
    def test_classic_calls_take_expires_by_position(
        self, cache: BaseCache, clock: ManualClock, form: Callable[[float], Expires]
    ) -> None:
        cache.set("key", b"value", form(clock()))
        assert cache.get("key") == b"value"

    @pytest.mark.parametrize("expires", _NEVER.values(), ids=_NEVER)
    def test_what_has_no_end_lasts(
        self, cache: BaseCache, clock: ManualClock, expires: Expires
    ) -> None:
        cache.set("key", b"value", expires=expires)
        store(cache, "entry", b"metadata", b"body", expires=expires)
        clock.advance(100 * 365 * 86_400)
        assert cache.get("key") == b"value"
        assert load(cache, "entry") == (b"metadata", b"body")

    @pytest.mark.parametrize("form", _PAST.values(), ids=_PAST)
    def test_a_moment_already_past_stores_nothing_and_leaves_nothing(
        self, cache: BaseCache, clock: ManualClock, form: Callable[[float], Expires]
    ) -> None:
        past = form(clock())
        cache.set("new", b"value", expires=past)
        cache.set("old", b"value")
        cache.set("old", b"another", expires=past)
        store(cache, "new entry", b"metadata", b"body", expires=past)
        store(cache, "old entry", b"metadata", b"body")
        store(cache, "old entry", b"another", b"body", expires=past)
        for key in ("new", "old", "new entry", "old entry"):
            assert cache.get(key) is None
            assert cache.open(key) is None
            assert cache.delete(key) is False

    @pytest.mark.parametrize("expires", _WRONG.values(), ids=_WRONG)
    def test_what_is_no_moment_is_refused_and_changes_nothing(
        self, cache: BaseCache, expires: Any
    ) -> None:
        version = store(cache, "key", b"old", b"body")
        with pytest.raises((TypeError, ValueError)):
            cache.set("key", b"new", expires=expires)
        with pytest.raises((TypeError, ValueError)):
            store(cache, "key", b"new", b"body", expires=expires)
        with pytest.raises((TypeError, ValueError)):
            cache.update("key", b"new", version=version, expires=expires)
        assert load(cache, "key") == (b"old", b"body")

    def test_a_new_version_has_the_expiry_that_it_was_given(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        store(cache, "key", b"old", b"body", expires=60)
        store(cache, "key", b"new", b"body")
        with _opened(cache, "key") as entry:
            assert entry.expires_at is None
        clock.advance(3600)
        assert load(cache, "key") == (b"new", b"body")

    def test_an_entry_says_when_it_expires(self, cache: BaseCache, clock: ManualClock) -> None:
        store(cache, "key", b"metadata", b"body", expires=60)
        with _opened(cache, "key") as entry:
            assert entry.expires_at == pytest.approx(clock() + 60, abs=1)

    # Writing an entry.

    @pytest.mark.parametrize("size", _SIZES)
    def test_metadata_and_body_come_back(self, cache: BaseCache, size: int) -> None:
        body = content("body", size)
        version = store(cache, "key", b"metadata", body)
        with _opened(cache, "key") as entry:
            assert entry.metadata == b"metadata"
            assert entry.version == version
            assert entry.size == size
            assert entry.has_body
            assert entry.read() == body
            assert entry.read() == b""

    @pytest.mark.parametrize("kind", _BYTES_LIKE.values(), ids=_BYTES_LIKE)
    def test_metadata_and_chunks_are_any_bytes(
        self, cache: BaseCache, kind: Callable[[bytes], Buffer]
    ) -> None:
        with cache.writer("key") as writer:
            for chunk in (b"", b"some", b"", b"more!!"):
                writer.write(kind(chunk))
            assert writer.size == 10
            writer.commit(kind(b"metadata"))
        assert load(cache, "key") == (b"metadata", b"somemore!!")

    def test_metadata_may_be_large_or_empty(self, cache: BaseCache) -> None:
        large = content("metadata", 1 << 20)
        for body in (b"", b"body", content("body", 1 << 18)):
            for metadata in (b"", large):
                store(cache, "key", metadata, body)
                assert load(cache, "key") == (metadata, body)

    @pytest.mark.parametrize("step", [1, 999, 1 << 14, 1 << 16, 700_001])
    def test_a_body_is_the_sum_of_its_chunks(self, cache: BaseCache, step: int) -> None:
        body = content("body", min(2_000_003, step * 700 + 1))
        with cache.writer("key") as writer:
            for at in range(0, len(body), step):
                writer.write(body[at : at + step])
            writer.commit(b"metadata")
        assert load(cache, "key") == (b"metadata", body)

    def test_a_writer_keeps_no_hold_of_the_buffer_it_was_given(self, cache: BaseCache) -> None:
        buffer = bytearray(50_000)
        body = content("body", 200_000)
        with cache.writer("key") as writer:
            for at in range(0, len(body), len(buffer)):
                buffer[:] = body[at : at + len(buffer)]
                writer.write(buffer)
            buffer[:] = bytes(len(buffer))
            buffer += b"it can be resized"
            writer.commit(b"metadata")
        assert load(cache, "key") == (b"metadata", body)

    def test_an_empty_body_is_not_the_same_as_none(self, cache: BaseCache) -> None:
        store(cache, "empty", b"metadata", b"")
        store(cache, "none", b"metadata", None)
        assert load(cache, "empty") == (b"metadata", b"")
        assert load(cache, "none") == (b"metadata", None)

    def test_every_commit_is_a_version_of_its_own(self, cache: BaseCache) -> None:
        versions = {store(cache, "key", b"same", b"same") for _ in range(20)}
        assert len(versions) == 20

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_nothing_is_seen_of_a_version_before_its_commit(
        self, cache: BaseCache, size: int
    ) -> None:
        body = content("body", size)
        with cache.writer("key") as writer:
            writer.write(body)
            assert cache.open("key") is None
            writer.commit(b"first")
        with cache.writer("key") as writer:
            writer.write(b"another")
            assert load(cache, "key") == (b"first", body)
            assert cache.get("key") == b"first"
            writer.commit(b"second")
        assert load(cache, "key") == (b"second", b"another")

    @pytest.mark.parametrize("size", [10, 300_000])
    @pytest.mark.parametrize("end", ["leave", "raise", "abort", "forget"])
    def test_a_version_that_is_not_committed_leaves_no_trace(
        self, cache: BaseCache, size: int, end: str
    ) -> None:
        store(cache, "old", b"metadata", b"body")
        for key in ("old", "new"):
            writer = cache.writer(key)
            writer.write(content("other", size))
            match end:
                case "leave":
                    with writer:
                        pass
                case "raise":
                    with pytest.raises(KeyError), writer:
                        raise KeyError
                case "abort":
                    writer.abort()
                    writer.abort()
            del writer
        gc.collect()
        assert load(cache, "old") == (b"metadata", b"body")
        assert cache.open("new") is None
        if self.can_list:
            assert [info.key for info in cache.entries()] == ["old"]

    def test_a_writer_that_has_ended_can_not_be_used(self, cache: BaseCache) -> None:
        committed, aborted = cache.writer("key"), cache.writer("key")
        committed.write(b"body")
        committed.commit(b"metadata")
        aborted.abort()
        committed.abort()
        for writer in (committed, aborted):
            with pytest.raises(ValueError, match="ended"):
                writer.write(b"more")
            with pytest.raises(ValueError, match="ended"):
                writer.commit(b"again")
        assert load(cache, "key") == (b"metadata", b"body")

    def test_of_two_writers_the_last_to_commit_wins(self, cache: BaseCache) -> None:
        for size in (10, 300_000):
            first, second = cache.writer("key"), cache.writer("key")
            second.write(content("second", size))
            first.write(content("first", size))
            second.commit(b"second")
            assert load(cache, "key") == (b"second", content("second", size))
            first.commit(b"first")
            assert load(cache, "key") == (b"first", content("first", size))

    def test_a_delete_before_a_commit_does_not_undo_it(self, cache: BaseCache) -> None:
        for size in (10, 300_000):
            store(cache, "key", b"old", content("old", size))
            with cache.writer("key") as writer:
                writer.write(content("new", size))
                assert cache.delete("key") is True
                assert cache.open("key") is None
                writer.commit(b"new")
            assert load(cache, "key") == (b"new", content("new", size))

    # Reading an entry.

    @pytest.mark.parametrize("size", [70_000, (1 << 20) + 1, (2 << 20) + 3])
    @pytest.mark.parametrize("step", [997, 65_536, 1 << 20, 5 << 20])
    def test_a_body_reads_the_same_in_steps_of_any_size(
        self, cache: BaseCache, size: int, step: int
    ) -> None:
        body = content("body", size)
        store(cache, "key", b"metadata", body)
        with _opened(cache, "key") as entry:
            assert entry.read(0) == b""
            for at in range(0, size, step):
                # Never short before the end.
                assert entry.read(step) == body[at : at + step]
            assert entry.read(step) == b""
            assert entry.read() == b""

    def test_what_is_left_is_read_after_a_part(self, cache: BaseCache) -> None:
        for size in (100, 3 << 20):
            body = content("body", size)
            store(cache, "key", b"metadata", body)
            with _opened(cache, "key") as entry:
                assert entry.read(7) == body[:7]
                assert entry.read(-1) == body[7:]

    def test_readinto_fills_any_buffer(self, cache: BaseCache) -> None:
        body = content("body", 2_000_002)
        store(cache, "key", b"metadata", body)
        with _opened(cache, "key") as entry:
            plain = bytearray(1_000_001)
            assert entry.readinto(plain) == 1_000_001
            words = array("H", bytes(600_000))
            assert entry.readinto(words) == 600_000
            rest = bytearray(b"x" * 500_000)
            assert entry.readinto(rest) == 400_001
            assert entry.readinto(bytearray(5)) == 0
        assert plain + words.tobytes() + rest[:400_001] == body
        assert rest[400_001:] == b"x" * 99_999

    def test_two_readers_do_not_move_each_other(self, cache: BaseCache) -> None:
        body = content("body", 2 << 20)
        store(cache, "key", b"metadata", body)
        with _opened(cache, "key") as one, _opened(cache, "key") as other:
            assert one.read(1000) == body[:1000]
            assert other.read() == body
            assert one.read() == body[1000:]

    def test_a_closed_entry_can_not_be_read(self, cache: BaseCache) -> None:
        store(cache, "key", b"metadata", b"body")
        with _opened(cache, "key") as entry:
            pass
        entry.close()
        with pytest.raises(ValueError, match="closed"):
            entry.read()
        assert entry.metadata == b"metadata"

    @pytest.mark.parametrize("size", [10, 100_000, 3 << 20])
    @pytest.mark.parametrize("change", ["replace", "update", "delete", "clear", "expire"])
    def test_a_reader_keeps_its_version(
        self, cache: BaseCache, clock: ManualClock, size: int, change: str
    ) -> None:
        body = content("old", size)
        version = store(cache, "key", b"old", body, expires=60)
        with _opened(cache, "key") as entry:
            start = entry.read(5)
            match change:
                case "replace":
                    store(cache, "key", b"new", content("new", size))
                case "update":
                    cache.update("key", b"new", version=version)
                case "delete":
                    cache.delete("key")
                case "clear":
                    self.needs("can_clear")
                    cache.clear()
                case "expire":
                    clock.advance(3600)
            assert entry.metadata == b"old"
            assert start + entry.read() == body

    # Swapping metadata.

    @pytest.mark.parametrize("size", [None, 0, 10, 50_000, 200_000, 3 << 20])
    def test_update_swaps_metadata_and_nothing_else(
        self, cache: BaseCache, size: int | None
    ) -> None:
        body = None if size is None else content("body", size)
        version = store(cache, "key", b"old", body)
        for metadata in (b"new", content("long", 100_000), b"", bytearray(b"newest")):
            assert cache.update("key", metadata, version=version) is True
            assert load(cache, "key") == (metadata, body)
            with _opened(cache, "key") as entry:
                assert entry.version == version

    def test_update_leaves_another_version_alone(self, cache: BaseCache) -> None:
        old = store(cache, "key", b"old", b"old body")
        new = store(cache, "key", b"new", b"new body")
        assert cache.update("key", b"newer", version=old) is False
        assert load(cache, "key") == (b"new", b"new body")
        cache.delete("key")
        assert cache.update("key", b"newer", version=new) is False
        assert cache.update("never", b"newer", version=new) is False
        assert cache.open("key") is None
        assert cache.open("never") is None

    def test_update_gives_a_new_expiry(self, cache: BaseCache, clock: ManualClock) -> None:
        version = store(cache, "key", b"old", b"body", expires=60)
        assert cache.update("key", b"new", version=version, expires=timedelta(minutes=2))
        with _opened(cache, "key") as entry:
            assert entry.expires_at == pytest.approx(clock() + 120, abs=1)
        assert cache.update("key", b"newer", version=version)
        clock.advance(3600)
        assert load(cache, "key") == (b"newer", b"body")

    @pytest.mark.parametrize("form", _PAST.values(), ids=_PAST)
    def test_update_to_a_moment_already_past_removes(
        self, cache: BaseCache, clock: ManualClock, form: Callable[[float], Expires]
    ) -> None:
        version = store(cache, "key", b"old", b"body")
        assert cache.update("key", b"no", version="0" * 16, expires=form(clock())) is False
        assert load(cache, "key") == (b"old", b"body")
        assert cache.update("key", b"no", version=version, expires=form(clock())) is True
        assert cache.open("key") is None
        assert cache.delete("key") is False

    def test_what_has_expired_can_not_be_updated(
        self, cache: BaseCache, clock: ManualClock
    ) -> None:
        self.needs("takes_clock")
        version = store(cache, "key", b"old", b"body", expires=60)
        clock.advance(60)
        assert cache.update("key", b"new", version=version) is False
        assert cache.open("key") is None

    # Listing, clearing, closing.

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
        for key in _KEYS.values():
            store(cache, key, b"metadata", b"body")
        listed = [info.key for info in cache.entries()]
        assert len(listed) == len(_KEYS)
        assert set(listed) == set(_KEYS.values())

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
        cache.set("key", b"value")
        cache.close()
        cache.close()
        with pytest.raises(CacheClosed):
            use(cache)

    def test_a_block_closes_its_cache(self, cache: BaseCache) -> None:
        with cache as same:
            assert same is cache
            cache.set("key", b"value")
        with pytest.raises(CacheClosed):
            cache.get("key")

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_version_begun_before_close_can_not_be_committed(
        self, open_cache: Callable[[], BaseCache], size: int
    ) -> None:
        cache = open_cache()
        writer = cache.writer("key")
        writer.write(content("body", size))
        cache.close()
        with pytest.raises(CacheClosed):
            writer.commit(b"metadata")
        if self.persistent:
            assert open_cache().open("key") is None

    # Other objects, threads and processes.

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
        done = threading.Semaphore(0)

        def write() -> None:
            try:
                for metadata, body in list(bodies.items()) * 5:
                    store(cache, "key", metadata, body)
            finally:
                done.release()

        def read() -> None:
            rounds = 0
            while done._value < writers or rounds < 20:  # noqa: SLF001 - nobody acquires it
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
            together(
                lambda size=size: store(cache, "key", b"new", content("new", size)),
                lambda version=version: cache.update("key", b"refreshed", version=version),
            )
            assert load(cache, "key") == (b"new", content("new", size))

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

    def test_clearing_does_not_disturb_those_who_write(self, cache: BaseCache) -> None:
        self.needs("can_clear")

        def write(name: str, size: int) -> None:
            for number in range(60):
                key = f"{name} {number}"
                store(cache, key, key.encode(), content(key, size))
                assert load(cache, key) in {None, (key.encode(), content(key, size))}

        def clear() -> None:
            for _ in range(60):
                cache.clear()

        together(lambda: write("a", 10), lambda: write("b", 40_000), clear, clear)

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

        together(*(lambda name=name: work(name) for name in "abcdefgh"))

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


class SeparateBodyCacheConformance(CacheConformance):
    """The guarantees of `SeparateBodyBaseCache`: two calls, and yet one version."""

    def make_cache(self, place: Any, clock: ManualClock) -> SeparateBodyBaseCache:
        """Make a cache; the suite closes it."""
        raise NotImplementedError

    # One thread.

    @pytest.mark.parametrize("size", _SIZES)
    def test_value_and_body_come_back(self, cache: SeparateBodyBaseCache, size: int) -> None:
        body = content("body", size)
        cache.set("key", b"value")
        cache.set_body("key", body)
        assert load_pair(cache, "key") == (b"value", body)
        assert load(cache, "key") == (b"value", body)

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    def test_any_text_is_a_key_of_a_body(self, cache: SeparateBodyBaseCache, key: str) -> None:
        cache.set(key, b"value")
        cache.set_body(key, content("body", 20_000))
        assert load_pair(cache, key) == (b"value", content("body", 20_000))
        assert cache.delete(key) is True
        assert cache.get(key) is None
        assert cache.get_body(key) is None

    @pytest.mark.parametrize("kind", _BYTES_LIKE.values(), ids=_BYTES_LIKE)
    def test_any_bytes_are_a_body(
        self, cache: SeparateBodyBaseCache, kind: Callable[[bytes], Buffer]
    ) -> None:
        cache.set("key", b"value")
        cache.set_body("key", kind(b"some body!"))
        assert load_pair(cache, "key") == (b"value", b"some body!")

    @pytest.mark.parametrize("size", [0, 100, 3 << 20])
    def test_a_file_is_a_body_from_where_it_stands(
        self, cache: SeparateBodyBaseCache, tmp_path: Path, size: int
    ) -> None:
        body = content("body", size)
        cache.set("memory", b"value")
        cache.set_body("memory", io.BytesIO(body))
        (tmp_path / "body").write_bytes(b"skipped" + body)
        with (tmp_path / "body").open("rb") as file:
            file.seek(7)
            cache.set("file", b"value")
            cache.set_body("file", file)
        assert load_pair(cache, "memory") == (b"value", body)
        assert load_pair(cache, "file") == (b"value", body)

    def test_there_is_no_body_where_none_was_set(
        self, cache: SeparateBodyBaseCache, clock: ManualClock
    ) -> None:
        assert cache.get_body("key") is None
        cache.set("value", b"value")
        assert load_pair(cache, "value") == (b"value", None)
        cache.set("key", b"value", expires=60)
        cache.set_body("key", b"body")
        assert load_pair(cache, "key") == (b"value", b"body")
        self.needs("takes_clock")
        clock.advance(60)
        assert cache.get("key") is None
        assert cache.get_body("key") is None

    @pytest.mark.parametrize("form", _PAST.values(), ids=_PAST)
    def test_a_moment_already_past_leaves_no_body(
        self,
        cache: SeparateBodyBaseCache,
        clock: ManualClock,
        form: Callable[[float], Expires],
    ) -> None:
        cache.set("key", b"old")
        cache.set_body("key", b"old body")
        cache.set("key", b"new", expires=form(clock()))
        cache.set_body("key", b"new body")
        assert cache.get("key") is None
        assert cache.get_body("key") is None
        assert cache.open("key") is None

    @pytest.mark.parametrize("size", [1000, 3 << 20])
    def test_a_body_is_a_binary_file(self, cache: SeparateBodyBaseCache, size: int) -> None:
        body = content("body", size - 4) + b"end\n"
        cache.set("key", b"value")
        cache.set_body("key", body)
        file = cache.get_body("key")
        assert file is not None
        with file:
            assert file.readable()
            assert file.read(10) == body[:10]
            assert file.read() == body[10:]
            assert file.read() == b""
        assert file.closed
        lines = cache.get_body("key")
        assert lines is not None
        with lines:
            assert b"".join(lines) == body

    def test_a_new_pair_replaces_the_old(self, cache: SeparateBodyBaseCache) -> None:
        for number in range(4):
            size = (10, 100_000)[number % 2]
            cache.set("key", f"value {number}".encode())
            cache.set_body("key", content(f"{number}", size))
            assert load_pair(cache, "key") == (
                f"value {number}".encode(),
                content(f"{number}", size),
            )

    def test_pairs_of_several_keys_may_be_read_in_turns(self, cache: SeparateBodyBaseCache) -> None:
        for key in "ab":
            cache.set(key, key.encode())
            cache.set_body(key, content(key, 50_000))
        assert (cache.get("a"), cache.get("b")) == (b"a", b"b")
        for key in "ab":
            body = cache.get_body(key)
            assert body is not None
            with body:
                assert body.read() == content(key, 50_000)

    def test_a_body_that_can_not_be_read_leaves_the_old_pair(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        class Broken(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                if self.tell_once:
                    self.tell_once = False
                    return content("part", 200_000)
                raise ConnectionResetError

            tell_once = True

        cache.set("old", b"value")
        cache.set_body("old", b"body")
        for key in ("old", "new"):
            cache.set(key, b"new value")
            with pytest.raises(ConnectionResetError):
                cache.set_body(key, Broken())
        assert load_pair(cache, "old") == (b"value", b"body")
        assert cache.get("new") is None
        assert cache.get_body("new") is None

    @pytest.mark.parametrize("use", _ANY_BODY_USE.values(), ids=_ANY_BODY_USE)
    def test_a_closed_cache_has_no_bodies(
        self, cache: SeparateBodyBaseCache, use: Callable[[SeparateBodyBaseCache], object]
    ) -> None:
        cache.close()
        with pytest.raises(CacheClosed):
            use(cache)

    # The writer's two calls.

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_others_see_the_old_pair_until_the_new_one_is_whole(
        self, cache: SeparateBodyBaseCache, size: int
    ) -> None:
        old, new = content("old", size), content("new", size)
        cache.set("key", b"old")
        cache.set_body("key", old)
        cache.set("key", b"new")
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"old", old)
        assert elsewhere(lambda: load(cache, "key")) == (b"old", old)
        cache.set_body("key", new)
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"new", new)

    def test_others_see_nothing_of_a_new_key_until_its_pair_is_whole(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        # To CacheControl, a value whose body is None is a response with an empty body.
        cache.set("key", b"value")
        assert elsewhere(lambda: load_pair(cache, "key")) is None
        cache.set_body("key", b"body")
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"value", b"body")

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_value_alone_refreshes_the_pair_at_the_next_call(
        self, cache: SeparateBodyBaseCache, size: int
    ) -> None:
        body = content("body", size)
        cache.set("key", b"old")
        cache.set_body("key", body)
        assert load_pair(cache, "key") == (b"old", body)
        cache.set("key", b"refreshed", expires=60)
        assert cache.get("another") is None
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"refreshed", body)
        assert load_pair(cache, "key") == (b"refreshed", body)

    def test_a_value_alone_has_its_expiry(
        self, cache: SeparateBodyBaseCache, clock: ManualClock
    ) -> None:
        self.needs("takes_clock")
        cache.set("key", b"old")
        cache.set_body("key", b"body")
        cache.set("key", b"refreshed", expires=60)
        assert load_pair(cache, "key") == (b"refreshed", b"body")
        clock.advance(60)
        assert cache.get("key") is None
        assert cache.get_body("key") is None

    @pytest.mark.parametrize("end", ["thread", "close"])
    def test_a_value_alone_takes_effect_when_its_writer_ends(
        self, open_cache: Callable[[], SeparateBodyBaseCache], end: str
    ) -> None:
        self.needs("persistent")
        cache, other = open_cache(), open_cache()
        for key in ("page", "value"):
            if key == "page":
                cache.set(key, b"old")
                cache.set_body(key, b"body")
                assert cache.get(key) == b"old"
            if end == "thread":
                elsewhere(lambda key=key: cache.set(key, b"new"))
            else:
                cache.set(key, b"new")
                cache.close()
                cache = open_cache()
        assert load_pair(other, "page") == (b"new", b"body")
        assert load_pair(other, "value") == (b"new", None)

    def test_a_refresh_never_takes_the_body_of_another_version(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        cache.set("key", b"old")
        cache.set_body("key", b"old body")
        assert load_pair(cache, "key") == (b"old", b"old body")
        elsewhere(lambda: store(cache, "key", b"other", b"other body"))
        cache.set("key", b"old, refreshed")
        assert load_pair(cache, "key") == (b"other", b"other body")
        cache.set("key", b"other, refreshed")
        elsewhere(lambda: store(cache, "key", b"third", b"third body"))
        assert load_pair(cache, "key") == (b"third", b"third body")

    def test_a_refresh_of_what_is_gone_is_not_a_value_without_a_body(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        cache.set("key", b"old")
        cache.set_body("key", b"body")
        assert load_pair(cache, "key") == (b"old", b"body")
        elsewhere(lambda: cache.delete("key"))
        cache.set("key", b"old, refreshed")
        assert load_pair(cache, "key") is None
        cache.set("key", b"new")
        cache.set_body("key", b"new body")
        assert load_pair(cache, "key") == (b"new", b"new body")

    def test_a_value_alone_never_replaces_a_pair_that_came_between(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        cache.set("key", b"value")
        elsewhere(lambda: store(cache, "key", b"other", b"other body"))
        assert load_pair(cache, "key") == (b"other", b"other body")

    def test_the_body_of_one_thread_never_joins_the_value_of_another(
        self, cache: SeparateBodyBaseCache
    ) -> None:
        cache.set("key", b"mine")

        def theirs() -> None:
            cache.set("key", b"theirs")
            cache.set_body("key", b"their body")

        elsewhere(theirs)
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"theirs", b"their body")
        cache.set_body("key", b"my body")
        assert elsewhere(lambda: load_pair(cache, "key")) == (b"mine", b"my body")

    def test_delete_ends_a_pair_that_was_begun(self, cache: SeparateBodyBaseCache) -> None:
        cache.set("key", b"old")
        cache.set_body("key", b"old body")
        cache.set("key", b"new")
        assert cache.delete("key") is True
        assert cache.get("key") is None
        assert cache.get_body("key") is None

    # The reader's two calls.

    @pytest.mark.parametrize("size", [10, 300_000, 3 << 20])
    @pytest.mark.parametrize("change", ["replace", "delete", "clear"])
    def test_a_body_is_of_the_version_whose_value_was_read(
        self, cache: SeparateBodyBaseCache, size: int, change: str
    ) -> None:
        body = content("old", size)
        cache.set("key", b"old")
        cache.set_body("key", body)
        assert cache.get("key") == b"old"
        match change:
            case "replace":
                elsewhere(lambda: store(cache, "key", b"new", content("new", size)))
            case "delete":
                elsewhere(lambda: cache.delete("key"))
            case "clear":
                self.needs("can_clear")
                elsewhere(cache.clear)
        file = cache.get_body("key")
        assert file is not None
        with file:
            assert file.read() == body

    def test_a_version_that_is_gone_has_no_body(self, cache: SeparateBodyBaseCache) -> None:
        for key in ("key", "another"):
            cache.set(key, b"old")
            cache.set_body(key, b"old body")
        assert cache.get("key") == b"old"
        assert cache.get("another") == b"old"
        elsewhere(lambda: store(cache, "key", b"new", b"new body"))
        assert cache.get_body("key") is None
        assert load_pair(cache, "key") == (b"new", b"new body")

    def test_pairs_are_never_mixed_by_threads(self, cache: SeparateBodyBaseCache) -> None:
        bodies = {
            f"{size} {number}".encode(): content(f"{size} {number}", size)
            for size in (50, 30_000, 100_000, 1_200_000)
            for number in range(2)
        }
        writers = 2
        done = threading.Semaphore(0)

        def write() -> None:
            try:
                for value, body in list(bodies.items()) * 5:
                    cache.set("key", value)
                    cache.set_body("key", body)
            finally:
                done.release()

        def read() -> None:
            rounds = 0
            while done._value < writers or rounds < 20:  # noqa: SLF001 - nobody acquires it
                rounds += 1
                pair = load_pair(cache, "key")
                assert pair is None or pair[1] == bodies[pair[0]]
            assert pair is not None

        together(*[write] * writers, *[read] * 2)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_fork_between_two_calls_changes_nothing(
        self, open_cache: Callable[[], SeparateBodyBaseCache]
    ) -> None:
        self.needs("persistent")
        cache, other = open_cache(), open_cache()
        cache.set("key", b"old")
        cache.set_body("key", b"old body")
        assert cache.get("key") == b"old"
        half, go_on = threading.Event(), threading.Event()

        def write() -> None:
            cache.set("key", b"new")
            half.set()
            go_on.wait()
            cache.set_body("key", b"new body")

        def child() -> bytes:
            gc.collect()
            assert load_pair(cache, "key") == (b"old", b"old body")
            cache.close()
            return b"done"

        def fork() -> None:
            half.wait()
            try:
                assert in_child(child) == b"done"
                assert load_pair(other, "key") == (b"old", b"old body")
            finally:
                go_on.set()

        together(write, fork)
        assert load_pair(other, "key") == (b"new", b"new body")

        cache.set("key", b"newest")
        assert in_child(lambda: b"" if cache.get("another") is None else b"?") == b""
        assert load_pair(other, "key") == (b"new", b"new body")
        cache.set_body("key", b"newest body")
        assert load_pair(other, "key") == (b"newest", b"newest body")


@contextlib.contextmanager
def _opened(cache: BaseCache, key: str) -> Iterator[Any]:
    entry = cache.open(key)
    assert entry is not None
    with entry:
        yield entry
