"""A cache never breaks a request, and never hands out a wrong byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from stillfresh import (
    BaseCache,
    BodyLost,
    CacheClosed,
    CacheFull,
    CacheUnavailable,
    CorruptEntry,
    FileCache,
    MemoryCache,
    Outcome,
    Policy,
    Reason,
    SeparateBodyFileCache,
    StoreError,
)
from stillfresh.events import Event, NotStored, StoreFailed
from stillfresh.testing import Fault, FaultyCache, ManualClock, Operation
from tests.clients.behaviours.suite import Driver, Heard, NewClient, Suite, fresh
from tests.origin import Document, Origin, Reply

STORE_ERRORS: list[type[Exception]] = [
    StoreError,
    CorruptEntry,
    BodyLost,
    CacheFull,
    CacheUnavailable,
]
# A cache of anybody's has bugs of its own.
BUGS: list[type[Exception]] = [
    OSError,
    MemoryError,
    RuntimeError,
    KeyError,
    TypeError,
    NotImplementedError,
]
USED = [Operation.OPEN, Operation.CHECK, Operation.WRITER, Operation.WRITE, Operation.COMMIT]
USED += [Operation.UPDATE, Operation.REMOVE]
ALICE = {"Authorization": "Bearer alice"}


def failing(operation: Operation, error: type[Exception], nth: int | None = None) -> Fault:
    return Fault(operation, cast("type[StoreError]", error), nth)


def told_as(operation: Operation) -> str:
    """To check a body is to read it."""
    return "read" if operation is Operation.CHECK else operation.value


class Failures(Suite):
    @pytest.fixture
    def faulty(self, clock: ManualClock) -> Iterator[FaultyCache]:
        with FaultyCache(MemoryCache(clock=clock), clock=clock) as cache:
            yield cache

    @staticmethod
    def use(origin: Origin, client: Driver, clock: ManualClock, path: str = "/") -> None:
        """Have every operation of a cache done, and see that all answers are right."""
        url = origin.on(
            path,
            fresh(b"first", etag='"1"', vary="X-A"),
            lambda request: Reply(304) if request.header("If-None-Match") else fresh(b"first"),
        )
        for _ in range(2):
            assert client.get(url).body == b"first"
        assert client.get(url, {"X-A": "1"}).body == b"first"
        clock.advance(61)
        for _ in range(2):
            assert client.get(url).body == b"first"
        assert client.get(url, ALICE).body == b"first"
        clock.advance(61)
        assert client.head(url).status == 200
        assert client.request("POST", url, body=b"x").status == 200
        assert client.get(url).body == b"first"

    @pytest.mark.parametrize("operation", USED, ids=lambda operation: operation.value)
    @pytest.mark.parametrize("error", STORE_ERRORS + BUGS)
    def test_whatever_fails_the_answers_are_right(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        heard: Heard,
        faulty: FaultyCache,
        operation: Operation,
        error: type[Exception],
    ) -> None:
        faulty.faults.append(failing(operation, error))
        self.use(origin, new_client(cache=faulty), clock)
        failures = heard.of(StoreFailed)
        assert {event.operation for event in failures} == {told_as(operation)}
        for event in failures:
            assert isinstance(event.error, StoreError)
            assert error in {type(event.error), type(event.error.__cause__)}

    @pytest.mark.parametrize("operation", USED, ids=lambda operation: operation.value)
    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_one_failure_is_one_event(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        heard: Heard,
        faulty: FaultyCache,
        operation: Operation,
        nth: int,
    ) -> None:
        faulty.faults.append(failing(operation, CacheUnavailable, nth))
        client = new_client(cache=faulty)
        for path in ("/1", "/2", "/3"):
            self.use(origin, client, clock, path)
        assert [event.operation for event in heard.of(StoreFailed)] == [told_as(operation)]

    def test_everything_fails(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        faulty: FaultyCache,
    ) -> None:
        for operation in Operation:
            faulty.faults.append(failing(operation, CacheUnavailable))
        self.use(origin, new_client(cache=faulty), clock)

    def test_the_answer_says_that_the_cache_failed(
        self, origin: Origin, new_client: NewClient, faulty: FaultyCache
    ) -> None:
        client = new_client(cache=faulty)
        url = origin.on("/", fresh())
        faulty.faults.append(failing(Operation.OPEN, CacheUnavailable))
        assert client.get(url).info.why.reason is Reason.CACHE_FAILED
        faulty.faults[:] = [failing(Operation.COMMIT, CacheFull)]
        answer = client.get(origin.on("/other", fresh()))
        assert not answer.info.stored
        assert answer.info.storing is not None
        assert answer.info.storing.reason is Reason.NOT_KEPT

    def test_it_is_stored_when_the_cache_works_again(
        self, origin: Origin, new_client: NewClient, faulty: FaultyCache
    ) -> None:
        client = new_client(cache=faulty)
        url = origin.on("/", fresh())
        faulty.faults.append(failing(Operation.COMMIT, CacheFull))
        client.get(url)
        faulty.faults.clear()
        client.get(url)
        assert client.get(url).from_cache

    def test_a_write_that_fails_in_the_middle(
        self, origin: Origin, new_client: NewClient, heard: Heard, faulty: FaultyCache
    ) -> None:
        client = new_client(cache=faulty)
        url = origin.on("/", fresh(b"x" * 500_000))
        faulty.faults.append(Fault(Operation.WRITE, CacheFull, at_byte=300_000))
        assert client.get(url).body == b"x" * 500_000
        assert len(heard.of(StoreFailed)) == 1
        assert len(heard.of(NotStored)) == 1
        assert not client.get(url).from_cache

    @pytest.mark.parametrize("size", [10, 1 << 20])
    def test_a_small_body_that_cannot_be_read_is_a_miss(
        self,
        origin: Origin,
        new_client: NewClient,
        heard: Heard,
        faulty: FaultyCache,
        size: int,
    ) -> None:
        client = new_client(cache=faulty)
        url = origin.on("/", fresh(b"x" * size))
        client.get(url)
        faulty.faults.append(Fault(Operation.CHECK, BodyLost))
        answer = client.get(url)
        assert answer.body == b"x" * size
        assert answer.info.outcome is Outcome.MISS
        assert [event.operation for event in heard.of(StoreFailed)] == ["read"]

    def test_a_hook_that_raises_is_no_reason_to_fail(
        self, origin: Origin, new_client: NewClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        def hook(event: Event) -> None:
            raise ZeroDivisionError

        client = new_client(hook=hook)
        url = origin.on("/", fresh())
        assert [client.get(url).from_cache for _ in range(2)] == [False, True]
        assert "ZeroDivisionError" in caplog.text

    def test_a_cache_that_has_been_closed_says_so(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        cache = MemoryCache(clock=clock)
        client = new_client(cache=cache)
        url = origin.on("/", fresh())
        client.get(url)
        cache.close()
        with pytest.raises(CacheClosed):
            client.get(url)

    @pytest.mark.parametrize("reply", [fresh(b"x" * 9), fresh([b"xxx"] * 3)], ids=["len", "chunks"])
    def test_a_cache_closed_under_a_body_lets_it_pass(
        self, origin: Origin, new_client: NewClient, clock: ManualClock, reply: Reply
    ) -> None:
        """The request was right when it was made; that it isn't stored breaks nothing."""
        cache = MemoryCache(clock=clock)
        stream = new_client(cache=cache).stream(origin.on("/", reply))
        cache.close()
        assert stream.rest() == b"x" * 9
        stream.close()

    def test_a_cache_stays_open_when_its_client_is_closed(
        self, origin: Origin, new_client: NewClient, cache: BaseCache
    ) -> None:
        url = origin.on("/", fresh())
        client = new_client()
        client.get(url)
        client.close()
        assert new_client().get(url).from_cache


FILES = [FileCache, SeparateBodyFileCache]


class Damage(Suite):
    """What lies on the disk is no longer what was written."""

    SMALL = b"small" * 20_000
    LONG = bytes(range(256)) * (5 << 12)

    @pytest.fixture(params=FILES)
    def files(
        self, request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
    ) -> Iterator[FileCache]:
        with request.param(tmp_path / "files", clock=clock) as cache:
            yield cache

    @staticmethod
    def file_with(cache: FileCache, body: bytes) -> Path:
        """Find the file with the body in it."""
        files = [file for file in Path(cache.directory).rglob("*") if file.is_file()]
        return next(file for file in files if body[-1000:] in file.read_bytes())

    @contextmanager
    def changed(self, cache: FileCache, body: bytes) -> Iterator[bytearray]:
        file = self.file_with(cache, body)
        data = bytearray(file.read_bytes())
        yield data
        file.write_bytes(data)

    @pytest.mark.parametrize("at", [0, 50_000, -1])
    def test_a_flipped_bit_in_a_small_body_is_a_miss(
        self, origin: Origin, new_client: NewClient, heard: Heard, files: FileCache, at: int
    ) -> None:
        client = new_client(cache=files)
        url = origin.on("/", fresh(self.SMALL))
        client.get(url)
        with self.changed(files, self.SMALL) as data:
            start = data.index(self.SMALL)
            data[start + (at if at >= 0 else len(self.SMALL) + at)] ^= 1
        answer = client.get(url)
        assert answer.body == self.SMALL
        assert answer.info.outcome is Outcome.MISS
        assert len(heard.of(StoreFailed)) == 1
        assert client.get(url).from_cache

    @pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
    def test_a_truncated_file_is_a_miss(
        self, origin: Origin, new_client: NewClient, files: FileCache, body: bytes
    ) -> None:
        client = new_client(cache=files)
        url = origin.on("/", fresh(body))
        client.get(url)
        with self.changed(files, body) as data:
            del data[-1:]
        assert client.get(url).body == body
        assert client.get(url).from_cache

    def test_a_small_body_damaged_when_it_is_asked_about(
        self, origin: Origin, new_client: NewClient, files: FileCache, clock: ManualClock
    ) -> None:
        """The 304 would bring a body that is lost, so the whole is asked for again."""
        client = new_client(cache=files)
        url = origin.on("/", fresh(self.SMALL, etag='"1"'), Reply(304), fresh(self.SMALL))
        client.get(url)
        with self.changed(files, self.SMALL) as data:
            data[data.index(self.SMALL)] ^= 1
        clock.advance(61)
        answer = client.get(url)
        assert (answer.status, answer.body) == (200, self.SMALL)
        assert client.get(url).from_cache

    def test_a_long_body_damaged_shows_before_its_end(
        self, origin: Origin, new_client: NewClient, heard: Heard, files: FileCache
    ) -> None:
        client = new_client(cache=files)
        url = origin.on("/", fresh(self.LONG))
        client.get(url)
        with self.changed(files, self.LONG) as data:
            data[data.index(self.LONG) + 100] ^= 1
        stream = client.stream(url)
        assert stream.head.from_cache
        with pytest.raises(client.lost) as caught:
            stream.rest()
        assert isinstance(caught.value, BodyLost)
        stream.close()
        assert [event.operation for event in heard.of(StoreFailed)] == ["read"]

    def test_a_long_body_damaged_is_a_miss_where_all_of_it_is_asked_for(
        self, origin: Origin, new_client: NewClient, files: FileCache
    ) -> None:
        client = new_client(cache=files)
        url = origin.on("/", fresh(self.LONG))
        client.get(url)
        with self.changed(files, self.LONG) as data:
            data[data.index(self.LONG) + 100] ^= 1
        answer = client.get(url)
        assert not answer.from_cache
        assert answer.body == self.LONG
        assert client.get(url).from_cache

    @pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
    @pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
    @pytest.mark.parametrize("wanted", ["5-9", "-9", "5-9,100-109"])
    def test_a_part_of_a_damaged_body_is_a_miss(
        self,
        origin: Origin,
        new_client: NewClient,
        heard: Heard,
        files: FileCache,
        body: bytes,
        streamed: bool,
        wanted: str,
    ) -> None:
        """Also of what is right in it: a part can't be checked."""
        client = new_client(cache=files)
        url = origin.on("/", Document(body))
        client.get(url)
        with self.changed(files, body) as data:
            data[data.index(body) + 1000] ^= 1
        headers = {"Range": f"bytes={wanted}"}
        if streamed:
            stream = client.stream(url, headers)
            head, got = stream.head, stream.rest()
            stream.close()
        else:
            head = answer = client.get(url, headers)
            got = answer.body
        assert not head.from_cache
        assert got == {"5-9": body[5:10], "-9": body[-9:]}.get(wanted, body)
        assert [event.operation for event in heard.of(StoreFailed)] == ["read"]
        assert client.get(url).body == body
        assert client.get(url).from_cache

    def begun(self, origin: Origin, client: Driver, files: FileCache, body: bytes) -> str:
        """Have a download break off, and what is stored of it be damaged."""
        url = origin.on("/", Document(body, cuts=[len(body) - 5000]))
        with pytest.raises(client.broken):
            client.get(url)
        with self.changed(files, body[:1000]) as data:
            data[data.index(body[:1000]) + 500] ^= 1
        return url

    @pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
    def test_a_damaged_beginning_is_not_gone_on_with(
        self, origin: Origin, new_client: NewClient, files: FileCache, body: bytes
    ) -> None:
        client = new_client(cache=files)
        url = self.begun(origin, client, files, body)
        assert client.get(url).body == body
        assert origin.received[-1].header("Range") is None
        assert client.get(url).from_cache

    def test_a_long_beginning_damaged_shows_before_its_end(
        self, origin: Origin, new_client: NewClient, files: FileCache
    ) -> None:
        client = new_client(cache=files)
        url = self.begun(origin, client, files, self.LONG)
        stream = client.stream(url)
        with pytest.raises(client.lost) as caught:
            stream.rest()
        assert isinstance(caught.value, BodyLost)
        stream.close()
        assert client.get(url).body == self.LONG
        assert origin.received[-1].header("Range") is None
        assert client.get(url).from_cache

    @pytest.mark.parametrize("lose", [Path.unlink, lambda file: file.write_bytes(b"")])
    @pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
    def test_a_file_that_is_gone_or_empty_is_a_miss(
        self,
        origin: Origin,
        new_client: NewClient,
        files: FileCache,
        body: bytes,
        lose: Callable[[Path], Any],
    ) -> None:
        client = new_client(Policy(), cache=files)
        url = origin.on("/", fresh(body))
        client.get(url)
        lose(self.file_with(files, body))
        assert client.get(url).body == body
        assert client.get(url).from_cache
