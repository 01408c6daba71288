"""Bodies on their way: through a tee into the cache, and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stillfresh import BodyLost, Entry, EntryWriter, MemoryCache, Why
from stillfresh.caches.base import InMemory
from stillfresh.engine.body import BlockingBody, BlockingTee, Recorder
from stillfresh.engine.guard import Guard
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.events import Event

KEY = "http://origin.example/"
Tee = BlockingTee[Entry, EntryWriter]


class Wire:
    """A body as an HTTP library reads it: in pieces, and maybe not to its end."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._left = b"".join(pieces)
        self._pieces = list(pieces)
        self._error = error
        self.is_open = True

    def read(self, amt: int | None) -> bytes:
        assert self.is_open
        size = len(self._left) if amt is None or amt < 0 else amt
        return self._take(size)

    def read1(self, amt: int | None) -> bytes:
        assert self.is_open
        size = len(self._pieces[0]) if self._pieces else 0
        return self._take(size if amt is None or amt < 0 else min(size, amt))

    def close(self) -> None:
        self.is_open = False

    def _take(self, size: int) -> bytes:
        if self._error is not None and size >= len(self._left):
            raise self._error
        chunk, self._left = self._left[:size], self._left[size:]
        taken = len(chunk)
        while taken and self._pieces:
            part = min(taken, len(self._pieces[0]))
            self._pieces[0] = self._pieces[0][part:]
            taken -= part
            if not self._pieces[0]:
                self._pieces.pop(0)
        return chunk


class Bench:
    """A cache, and tees that record into it."""

    def __init__(self) -> None:
        self.cache = MemoryCache()
        self.events: list[Event] = []
        self.ended: list[tuple[Why | None, int]] = []

    def tee(self, wire: Wire, expected: int | None = None, limit: int | None = None) -> Tee:
        ports = LocalCachePorts(self.cache)
        guard = Guard(ports, self.events.append)
        writer = run(ports.writer(KEY))
        recorder = Recorder(
            guard,
            ports.abort,
            KEY,
            writer,
            b"metadata",
            expected=expected,
            limit=limit,
            ended=lambda reason, size: self.ended.append((reason, size)),
        )
        return BlockingTee(wire, recorder)

    @property
    def stored(self) -> bytes | None:
        entry = self.cache.open(KEY)
        if entry is None:
            return None
        with entry:
            assert entry.metadata == b"metadata"
            return entry.read()


@pytest.fixture
def bench() -> Bench:
    return Bench()


READS: dict[str, Callable[[Tee], object]] = {
    "read()": lambda tee: tee.read(),
    "read(-1)": lambda tee: tee.read(-1),
    "read(2)": lambda tee: list(iter(lambda: tee.read(2), b"")),
    "read(99), read(99)": lambda tee: (tee.read(99), tee.read(99)),
    "read1()": lambda tee: list(iter(tee.read1, b"")),
    "read1(-1)": lambda tee: list(iter(lambda: tee.read1(-1), b"")),
    "read1(2)": lambda tee: list(iter(lambda: tee.read1(2), b"")),
    "read(2), read()": lambda tee: (tee.read(2), tee.read()),
    "read(0), read()": lambda tee: (tee.read(0), tee.read()),
    "read1(), read()": lambda tee: (tee.read1(), tee.read()),
}
UNREAD: dict[str, Callable[[Tee], object]] = {
    "nothing": lambda tee: None,
    "read(0)": lambda tee: tee.read(0),
    "read1(0)": lambda tee: tee.read1(0),
    "read(2)": lambda tee: tee.read(2),
    "read1()": lambda tee: tee.read1(),
    "read(6)": lambda tee: tee.read(6),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("expected", [None, 6])
def test_a_body_read_to_its_end_is_stored(
    bench: Bench, read: Callable[[Tee], object], expected: int | None
) -> None:
    wire = Wire(b"abc", b"def")
    tee = bench.tee(wire, expected)
    read(tee)
    assert bench.stored == b"abcdef"
    assert bench.ended == [(None, 6)]
    tee.close()
    assert not wire.is_open
    assert bench.stored == b"abcdef"
    assert bench.ended == [(None, 6)]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_at_its_end_it_is_closed_as_http_client_is(
    bench: Bench, read: Callable[[Tee], object]
) -> None:
    """urllib3's `stream(None)` asks for more until it is."""
    wire = Wire(b"abc", b"def")
    tee = bench.tee(wire)
    read(tee)
    assert tee.closed
    assert not wire.is_open
    assert tee.read() == tee.read1() == tee.read(5) == b""


@pytest.mark.parametrize("read", UNREAD.values(), ids=UNREAD)
@pytest.mark.parametrize("expected", [None, 7])
@pytest.mark.parametrize("end", ["closed", "forgotten"])
def test_a_body_left_unread_is_not_stored(
    bench: Bench, read: Callable[[Tee], object], expected: int | None, end: str
) -> None:
    wire = Wire(b"abc", b"def", b"g")
    tee = bench.tee(wire, expected)
    read(tee)
    if end == "closed":
        tee.close()
        tee.close()
        assert not wire.is_open
    del tee
    assert bench.stored is None
    assert len(bench.ended) == 1
    assert bench.ended[0][0] is not None


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("expected", [None, 6, 7])
def test_a_body_that_breaks_off_is_not_stored(
    bench: Bench, read: Callable[[Tee], object], expected: int | None
) -> None:
    tee = bench.tee(Wire(b"abc", b"def", error=ConnectionResetError()), expected)
    with pytest.raises(ConnectionResetError):
        read(tee)
    assert bench.stored is None
    assert len(bench.ended) == 1


@pytest.mark.parametrize("expected", [0, 5, 7])
def test_a_body_of_another_length_is_not_stored(bench: Bench, expected: int) -> None:
    tee = bench.tee(Wire(b"abc", b"def"), expected)
    assert tee.read() == b"abcdef"
    assert bench.stored is None
    (reason, _) = bench.ended[0]
    assert reason is not None
    assert f"of {expected}" in str(reason)


def test_a_length_is_stored_with_its_last_byte(bench: Bench) -> None:
    tee = bench.tee(Wire(b"abcdef"), 6)
    tee.read(5)
    assert bench.stored is None
    tee.read(1)
    assert bench.stored == b"abcdef"


def test_a_reader_gets_what_it_would_get_without_the_cache(bench: Bench) -> None:
    bench.cache.close()
    broken = Bench()
    tee = broken.tee(Wire(b"abc", b"def"))
    broken.cache.close()
    assert [tee.read1(), tee.read1(), tee.read1()] == [b"abc", b"def", b""]
    assert len(broken.ended) == 1


@pytest.fixture
def entry() -> Iterator[Entry]:
    with MemoryCache() as cache:
        with cache.writer(KEY) as writer:
            writer.write(b"abcdef")
            writer.commit(b"metadata")
        found = cache.open(KEY)
        assert found is not None
        yield found


BODIES: dict[str, Callable[[BlockingBody], list[bytes]]] = {
    "read()": lambda body: [body.read()],
    "read(-1)": lambda body: [body.read(-1)],
    "read(2)": lambda body: list(iter(lambda: body.read(2), b"")),
    "read1()": lambda body: list(iter(body.read1, b"")),
    "read1(4)": lambda body: list(iter(lambda: body.read1(4), b"")),
    "read(0), read(6)": lambda body: [body.read(0), body.read(6)],
}


@pytest.mark.parametrize("read", BODIES.values(), ids=BODIES)
def test_a_stored_body_is_read_and_closed_at_its_end(
    entry: Entry, read: Callable[[BlockingBody], list[bytes]]
) -> None:
    body = BlockingBody(entry)
    assert b"".join(read(body)) == b"abcdef"
    assert body.closed
    assert body.tell() == 6
    assert body.read() == body.read(1) == b""
    with pytest.raises(ValueError, match="closed"):
        entry.read()
    body.close()


def test_a_stored_body_may_be_closed_early(entry: Entry) -> None:
    body = BlockingBody(entry)
    assert body.read(2) == b"ab"
    body.close()
    body.close()
    assert body.read() == b""


class Failing(Entry):
    def __init__(self, error: Exception) -> None:
        super().__init__(b"", version="1", size=6, source=InMemory(b"abcdef"), digest=None)
        self._error = error

    def read(self, size: int = -1, /) -> bytes:
        raise self._error

    def close(self) -> None:
        raise OSError("not even that")


@pytest.mark.parametrize("error", [BodyLost("gone"), OSError("gone"), ZeroDivisionError("gone")])
def test_a_stored_body_that_is_lost_is_told_once(error: Exception) -> None:
    heard = []

    async def lost(error: Exception) -> BodyLost:
        heard.append(error)
        return error if isinstance(error, BodyLost) else BodyLost(str(error))

    body = BlockingBody(Failing(error), lost)
    with pytest.raises(BodyLost, match="gone"):
        body.read(3)
    assert heard == [error]
    assert body.closed
    assert body.read() == b""
