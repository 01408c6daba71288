"""The two calls that write and the two that read, which are one version all the same."""

from __future__ import annotations

import gc
import io
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from stillfresh.errors import CacheClosed
from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import (
    BYTES_LIKE,
    KEYS,
    PAST,
    SIZES,
    content,
    elsewhere,
    in_child,
    load,
    load_pair,
    store,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer

    from stillfresh.caches.base import SeparateBodyBaseCache
    from stillfresh.caches.expiry import Expires
    from stillfresh.testing.clock import ManualClock

_ANY_BODY_USE: Final[dict[str, Callable[[SeparateBodyBaseCache], object]]] = {
    "get_body": lambda cache: cache.get_body("key"),
    "set_body": lambda cache: cache.set_body("key", b"body"),
}


class Bodies(Suite):
    """Values and bodies, in one thread."""

    @pytest.mark.parametrize("size", SIZES)
    def test_value_and_body_come_back(self, cache: SeparateBodyBaseCache, size: int) -> None:
        body = content("body", size)
        cache.set("key", b"value")
        cache.set_body("key", body)
        assert load_pair(cache, "key") == (b"value", body)
        assert load(cache, "key") == (b"value", body)

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    def test_any_text_is_a_key_of_a_body(self, cache: SeparateBodyBaseCache, key: str) -> None:
        cache.set(key, b"value")
        cache.set_body(key, content("body", 20_000))
        assert load_pair(cache, key) == (b"value", content("body", 20_000))
        assert cache.delete(key) is True
        assert cache.get(key) is None
        assert cache.get_body(key) is None

    @pytest.mark.parametrize("kind", BYTES_LIKE.values(), ids=BYTES_LIKE)
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

    @pytest.mark.parametrize("form", PAST.values(), ids=PAST)
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
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if part := super().read(size):
                    return part
                raise ConnectionResetError

        cache.set("old", b"value")
        cache.set_body("old", b"body")
        for key in ("old", "new"):
            cache.set(key, b"new value")
            with pytest.raises(ConnectionResetError):
                cache.set_body(key, Broken(content("part", 400_000)))
        assert load_pair(cache, "old") == (b"value", b"body")
        assert cache.get("new") is None
        assert cache.get_body("new") is None

    @pytest.mark.parametrize("use", _ANY_BODY_USE.values(), ids=_ANY_BODY_USE)
    def test_a_closed_cache_has_no_bodies(
        self, cache: SeparateBodyBaseCache, use: Callable[[SeparateBodyBaseCache], object]
    ) -> None:
        self.needs("closes")
        cache.close()
        with pytest.raises(CacheClosed):
            use(cache)


class WritersCalls(Suite):
    """`set`, then `set_body`, or not."""

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
        other = open_cache()
        other.set("page", b"old")
        other.set_body("page", b"body")
        for key in ("page", "value"):
            with open_cache() as cache:
                if end == "close":
                    cache.set(key, b"new")
                else:
                    elsewhere(partial(cache.set, key, b"new"))
                    assert other.get(key) == b"new"
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


class ReadersCalls(Suite):
    """`get`, then `get_body`."""

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
        store(cache, "key", *next(iter(bodies.items())))
        writers = 2
        done: list[bool] = []

        def write() -> None:
            try:
                for value, body in list(bodies.items()) * 5:
                    cache.set("key", value)
                    cache.set_body("key", body)
            finally:
                done.append(True)

        def read() -> None:
            rounds = 0
            while len(done) < writers or rounds < 20:
                rounds += 1
                pair = load_pair(cache, "key")
                assert pair is not None
                assert pair[1] == bodies[pair[0]]

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
