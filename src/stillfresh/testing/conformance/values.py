"""Keys, values and how long they last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import (
    BYTES_LIKE,
    IN_A_MINUTE,
    KEYS,
    NEVER,
    PAST,
    content,
    load,
    opened,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.expiry import Expires
    from stillfresh.testing.clock import ManualClock

_WRONG: Final[dict[str, Any]] = {"text": "60", "list": [60], "not a number": float("nan")}


class Values(Suite):
    """The classic interface."""

    def test_a_key_that_was_never_set_has_no_value(self, cache: BaseCache) -> None:
        assert cache.get("key") is None
        assert cache.open("key") is None

    @pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
    def test_any_text_is_a_key(self, cache: BaseCache, key: str) -> None:
        cache.set(key, b"value")
        assert cache.get(key) == b"value"
        store(cache, key, b"metadata", b"body")
        assert load(cache, key) == (b"metadata", b"body")
        assert cache.delete(key) is True
        assert cache.get(key) is None

    def test_keys_that_look_alike_are_different(self, cache: BaseCache) -> None:
        for key in KEYS.values():
            store(cache, key, b"metadata of " + repr(key).encode(), repr(key).encode())
        for key in KEYS.values():
            assert load(cache, key) == (b"metadata of " + repr(key).encode(), repr(key).encode())

    @pytest.mark.parametrize("kind", BYTES_LIKE.values(), ids=BYTES_LIKE)
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


class Expiry(Suite):
    """`expires`, in every form."""

    @pytest.mark.parametrize("form", IN_A_MINUTE.values(), ids=IN_A_MINUTE)
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

    @pytest.mark.parametrize("form", IN_A_MINUTE.values(), ids=IN_A_MINUTE)
    def test_classic_calls_take_expires_by_position(
        self, cache: BaseCache, clock: ManualClock, form: Callable[[float], Expires]
    ) -> None:
        cache.set("key", b"value", form(clock()))
        assert cache.get("key") == b"value"

    @pytest.mark.parametrize("expires", NEVER.values(), ids=NEVER)
    def test_what_has_no_end_lasts(
        self, cache: BaseCache, clock: ManualClock, expires: Expires
    ) -> None:
        cache.set("key", b"value", expires=expires)
        store(cache, "entry", b"metadata", b"body", expires=expires)
        clock.advance(100 * 365 * 86_400)
        assert cache.get("key") == b"value"
        assert load(cache, "entry") == (b"metadata", b"body")

    @pytest.mark.parametrize("form", PAST.values(), ids=PAST)
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
        with opened(cache, "key") as entry:
            assert entry.expires_at is None
        clock.advance(3600)
        assert load(cache, "key") == (b"new", b"body")

    def test_an_entry_says_when_it_expires(self, cache: BaseCache, clock: ManualClock) -> None:
        store(cache, "key", b"metadata", b"body", expires=60)
        with opened(cache, "key") as entry:
            assert entry.expires_at == pytest.approx(clock() + 60, abs=1)
