"""Whole entries: written, read, and given other metadata."""

from __future__ import annotations

import gc
from array import array
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import (
    BYTES_LIKE,
    PAST,
    SIZES,
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


class Writing(Suite):
    """A version is whole and visible at its commit, or never."""

    @pytest.mark.parametrize("size", SIZES)
    def test_metadata_and_body_come_back(self, cache: BaseCache, size: int) -> None:
        body = content("body", size)
        version = store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
            assert entry.metadata == b"metadata"
            assert entry.version == version
            assert entry.size == size
            assert entry.has_body
            assert entry.read() == body
            assert entry.read() == b""

    @pytest.mark.parametrize("kind", BYTES_LIKE.values(), ids=BYTES_LIKE)
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
        if end == "forget":
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


class Reading(Suite):
    """A reader has one version and gets all of it."""

    @pytest.mark.parametrize("size", [70_000, (1 << 20) + 1, (2 << 20) + 3])
    @pytest.mark.parametrize("step", [997, 65_536, 1 << 20, 5 << 20])
    def test_a_body_reads_the_same_in_steps_of_any_size(
        self, cache: BaseCache, size: int, step: int
    ) -> None:
        body = content("body", size)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
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
            with opened(cache, "key") as entry:
                assert entry.read(7) == body[:7]
                assert entry.read(-1) == body[7:]

    def test_readinto_fills_any_buffer(self, cache: BaseCache) -> None:
        body = content("body", 2_000_002)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
            plain = bytearray(1_000_001)
            assert entry.readinto(plain) == 1_000_001
            words = array("H", bytes(600_000))
            assert entry.readinto(words) == 600_000
            rest = bytearray(b"x" * 500_000)
            assert entry.readinto(rest) == 400_001
            assert entry.readinto(bytearray(5)) == 0
        assert plain + words.tobytes() + rest[:400_001] == body
        assert rest[400_001:] == b"x" * 99_999

    @pytest.mark.parametrize("size", [0, 100, 100_000, 2 << 20])
    def test_a_body_that_is_right_can_be_checked_at_any_time(
        self, cache: BaseCache, size: int
    ) -> None:
        body = content("body", size)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
            entry.check()
            assert entry.read(50) == body[:50]
            entry.check()
            assert entry.read() == body[50:]
            entry.check()
        with pytest.raises(ValueError, match="closed"):
            entry.check()

    def test_two_readers_do_not_move_each_other(self, cache: BaseCache) -> None:
        body = content("body", 2 << 20)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as one, opened(cache, "key") as other:
            assert one.read(1000) == body[:1000]
            assert other.read() == body
            assert one.read() == body[1000:]

    def test_a_closed_entry_can_not_be_read(self, cache: BaseCache) -> None:
        store(cache, "key", b"metadata", b"body")
        with opened(cache, "key") as entry:
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
        with opened(cache, "key") as entry:
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


class Seeking(Suite):
    """A reader may go on anywhere in the body."""

    @pytest.mark.parametrize("size", [1, 100, 1 << 16, 1 << 20, (1 << 20) + 1, (3 << 20) + 17])
    def test_reading_goes_on_where_it_is_told(self, cache: BaseCache, size: int) -> None:
        body = content("body", size)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
            for offset in (size // 2, 0, size - 1, size // 3, size // 3, size):
                entry.seek(offset)
                assert entry.read(0) == b""
                assert entry.read(10) == body[offset : offset + 10]
                assert entry.read(70_000) == body[offset + 10 : offset + 70_010]
            entry.seek(size // 7)
            assert entry.read() == body[size // 7 :]
            assert entry.read() == b""
            entry.seek(0)
            assert entry.read() == body

    @pytest.mark.parametrize("size", [100, 3 << 20])
    @pytest.mark.parametrize("read", [0, 50, None])
    def test_also_when_some_or_all_of_it_has_been_read(
        self, cache: BaseCache, size: int, read: int | None
    ) -> None:
        body = content("body", size)
        store(cache, "key", b"metadata", body)
        with opened(cache, "key") as entry:
            assert entry.read(-1 if read is None else read) == body[:read]
            for offset in (size - 20, 20):
                entry.seek(offset)
                assert entry.read(10) == body[offset : offset + 10]
            entry.check()
            buffer = bytearray(10)
            assert entry.readinto(buffer) == 10
            assert bytes(buffer) == body[30:40]

    @pytest.mark.parametrize("size", [None, 0, 100, 2 << 20])
    def test_there_is_nothing_before_the_first_byte_or_behind_the_last(
        self, cache: BaseCache, size: int | None
    ) -> None:
        body = content("body", size or 0)
        store(cache, "key", b"metadata", None if size is None else body)
        with opened(cache, "key") as entry:
            assert entry.read(5) == body[:5]
            for offset in (-1, len(body) + 1, 1 << 62):
                with pytest.raises(ValueError, match=str(offset)):
                    entry.seek(offset)
            # It has gone nowhere.
            assert entry.read(5) == body[5:10]
            entry.seek(len(body))
            assert entry.read() == b""
            entry.seek(0)
            assert entry.read() == body

    def test_one_reader_moves_no_other(self, cache: BaseCache) -> None:
        for size in (1000, 2 << 20):
            body = content("body", size)
            store(cache, "key", b"metadata", body)
            with opened(cache, "key") as one, opened(cache, "key") as other:
                one.seek(500)
                assert other.read(10) == body[:10]
                other.seek(700)
                assert one.read(10) == body[500:510]
                assert other.read() == body[700:]

    @pytest.mark.parametrize("size", [100, 100_000, 3 << 20])
    def test_a_reader_moves_in_its_own_version(self, cache: BaseCache, size: int) -> None:
        body = content("old", size)
        store(cache, "key", b"old", body)
        with opened(cache, "key") as entry:
            store(cache, "key", b"new", content("new", size))
            entry.seek(50)
            assert entry.read() == body[50:]
            cache.delete("key")
            entry.seek(20)
            assert entry.read() == body[20:]

    @pytest.mark.parametrize("size", [100, 2 << 20])
    def test_a_closed_entry_can_not_be_moved(self, cache: BaseCache, size: int) -> None:
        store(cache, "key", b"metadata", content("body", size))
        with opened(cache, "key") as untouched:
            pass
        with opened(cache, "key") as moved:
            moved.seek(10)
        for entry in (untouched, moved):
            with pytest.raises(ValueError, match="closed"):
                entry.seek(5)


class Updating(Suite):
    """`update` compares and swaps."""

    @pytest.mark.parametrize("size", [None, 0, 10, 50_000, 200_000, 3 << 20])
    def test_update_swaps_metadata_and_nothing_else(
        self, cache: BaseCache, size: int | None
    ) -> None:
        body = None if size is None else content("body", size)
        version = store(cache, "key", b"old", body)
        for metadata in (b"new", content("long", 100_000), b"", bytearray(b"newest")):
            assert cache.update("key", metadata, version=version) is True
            assert load(cache, "key") == (metadata, body)
            with opened(cache, "key") as entry:
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
        with opened(cache, "key") as entry:
            assert entry.expires_at == pytest.approx(clock() + 120, abs=1)
        assert cache.update("key", b"newer", version=version)
        clock.advance(3600)
        assert load(cache, "key") == (b"newer", b"body")

    @pytest.mark.parametrize("form", PAST.values(), ids=PAST)
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
        assert cache.swap("key", b"old", b"new", version=version) is False
        assert cache.open("key") is None

    def test_swap_changes_what_it_was_told_of(self, cache: BaseCache) -> None:
        version = store(cache, "key", b"old", b"body")
        for old, new in ((b"old", b"new"), (b"new", b""), (b"", bytearray(b"newest"))):
            assert cache.swap("key", b"something else", b"no", version=version) is False
            assert load(cache, "key") == (old, b"body")
            assert cache.swap("key", old, new, version=version) is True
            assert load(cache, "key") == (new, b"body")
        # Of that it was not told.
        assert cache.update("key", b"changed", version=version)
        assert cache.swap("key", b"newest", b"no", version=version) is False
        assert load(cache, "key") == (b"changed", b"body")

    def test_swap_leaves_another_version_alone(self, cache: BaseCache) -> None:
        old = store(cache, "key", b"metadata", b"old body")
        store(cache, "key", b"metadata", b"new body")
        assert cache.swap("key", b"metadata", b"newer", version=old) is False
        assert cache.swap("never", b"metadata", b"newer", version=old) is False
        assert load(cache, "key") == (b"metadata", b"new body")
        assert cache.open("never") is None

    def test_swap_gives_a_new_expiry(self, cache: BaseCache, clock: ManualClock) -> None:
        version = store(cache, "key", b"old", b"body", expires=60)
        assert cache.swap("key", b"old", b"new", version=version, expires=120)
        with opened(cache, "key") as entry:
            assert entry.expires_at == pytest.approx(clock() + 120, abs=1)
        assert cache.swap("key", b"new", b"newer", version=version, expires=-1) is True
        assert cache.open("key") is None
