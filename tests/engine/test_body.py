"""Bodies on their way: through a tee into the cache, and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stillfresh import BodyLost, CacheFull, Entry, EntryWriter, MemoryCache, Reason, Why
from stillfresh.caches import frames
from stillfresh.caches.base import BaseCache, InMemory
from stillfresh.engine.body import BlockingBody, BlockingTee, Following, Source
from stillfresh.engine.guard import Guard
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.engine.recorder import Recorder
from stillfresh.events import Event, StoreFailed
from stillfresh.rfc9111.ranges import Span
from stillfresh.testing import Fault, FaultyCache, Operation

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


class Noting:
    """The plan of one body: what comes of it is noted."""

    def __init__(self, bench: Bench, cut_off: Callable[[int], bytes | None] | None) -> None:
        self._bench = bench
        self._cut_off = cut_off

    def useful(self) -> float:
        return 60.0

    def overtaken(self) -> None:
        """Nothing is invalidated here."""

    def committing(self) -> None:
        """Nothing hangs on it here."""

    def cut_off(self, size: int) -> bytes | None:
        return None if self._cut_off is None else self._cut_off(size)

    async def outdone(self, size: int) -> bool:
        assert size > 0
        return False

    def ended(self, reason: Why | None, size: int) -> None:
        self._bench.ended.append((reason, size))


class Bench:
    """A cache, and tees that record into it."""

    def __init__(self, *faults: Fault) -> None:
        self.cache: BaseCache = FaultyCache(MemoryCache(), faults) if faults else MemoryCache()
        self.events: list[Event] = []
        self.ended: list[tuple[Why | None, int]] = []

    def tee(
        self,
        wire: Source,
        expected: int | None = None,
        limit: int | None = None,
        cut_off: Callable[[int], bytes | None] | None = None,
        behind: bytes = b"",
    ) -> Tee:
        ports = LocalCachePorts(self.cache)
        guard = Guard(ports, self.events.append)
        writer = run(ports.writer(KEY))
        recorder = Recorder(
            guard,
            ports.abort,
            KEY,
            writer,
            b"metadata",
            plan=Noting(self, cut_off),
            expected=expected,
            limit=limit,
            behind=behind,
        )
        return BlockingTee(wire, recorder)

    @property
    def stored(self) -> bytes | None:
        found = self.found
        assert found is None or found[0] == b"metadata"
        return None if found is None else found[1]

    @property
    def found(self) -> tuple[bytes, bytes] | None:
        """Metadata and body, if there are any."""
        entry = self.cache.open(KEY)
        if entry is None:
            return None
        with entry:
            return entry.metadata, entry.read()

    @property
    def reason(self) -> Reason | None:
        """Why what was recorded was not stored, or not whole."""
        ((why, _),) = self.ended
        return None if why is None else why.reason


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


@pytest.mark.parametrize("way", ["read", "read1"])
def test_it_is_closed_with_the_last_byte_where_that_is_known(bench: Bench, way: str) -> None:
    """Nobody has to ask for more to learn that there is nothing."""
    wire = Wire(b"abc", b"def")
    tee = bench.tee(wire, 6)
    for _ in range(5):
        getattr(tee, way)(1)
    assert (tee.closed, wire.is_open) == (False, True)
    getattr(tee, way)(1)
    assert (tee.closed, wire.is_open) == (True, False)
    assert bench.stored == b"abcdef"
    assert tee.read() == tee.read1() == b""
    assert tee.tell() == 6


def as_part(size: int) -> bytes:
    return b"part of %d" % size


class TestCutOff:
    """What has come before the body broke off is kept with metadata of its own."""

    @pytest.mark.parametrize("end", ["closed", "forgotten", "broken"])
    @pytest.mark.parametrize("expected", [None, 7])
    def test_it_is_kept(self, bench: Bench, end: str, expected: int | None) -> None:
        error = ConnectionResetError() if end == "broken" else None
        tee = bench.tee(Wire(b"abc", b"def", b"g", error=error), expected, cut_off=as_part)
        assert tee.read(4) == b"abcd"
        if end == "closed":
            tee.close()
        elif end == "broken":
            with pytest.raises(ConnectionResetError):
                tee.read()
        del tee
        assert bench.found == (b"part of 4", b"abcd")
        assert bench.reason is Reason.CUT_OFF
        assert bench.ended[0][1] == 4

    def test_a_body_that_ends_too_early_is_one_that_broke_off(self, bench: Bench) -> None:
        tee = bench.tee(Wire(b"abc", b"def"), 7, cut_off=as_part)
        assert tee.read() == b"abcdef"
        assert bench.found == (b"part of 6", b"abcdef")
        assert "6 of 7 bytes" in str(bench.ended[0][0])

    @pytest.mark.parametrize("way", ["read", "read1"])
    def test_one_that_does_not_end_where_it_should_is_not_kept(
        self, bench: Bench, way: str
    ) -> None:
        tee = bench.tee(Wire(b"abcdef"), 5, cut_off=as_part)
        while getattr(tee, way)(9):
            pass
        assert bench.found is None
        assert bench.reason is Reason.BROKEN_OFF

    def test_it_may_not_be_worth_it(self, bench: Bench) -> None:
        tee = bench.tee(Wire(b"abcdef"), 7, cut_off=lambda size: None)
        tee.read(3)
        tee.close()
        assert bench.found is None
        assert bench.reason is Reason.BROKEN_OFF

    def test_all_of_it_is_no_part(self, bench: Bench) -> None:
        tee = bench.tee(Wire(b"abcdef"), 6, cut_off=as_part)
        tee.read(6)
        tee.close()
        assert bench.stored == b"abcdef"
        assert bench.reason is None

    def test_the_cache_may_fail(self) -> None:
        bench = Bench(Fault(Operation.COMMIT, CacheFull))
        tee = bench.tee(Wire(b"abcdef"), 7, cut_off=as_part)
        tee.read(3)
        tee.close()
        assert bench.found is None
        assert bench.reason is Reason.NOT_KEPT
        assert [type(event) for event in bench.events] == [StoreFailed]

    def test_it_may_be_closed_meanwhile(self, bench: Bench) -> None:
        tee = bench.tee(Wire(b"abcdef"), 7, cut_off=as_part)
        tee.read(3)
        bench.cache.close()
        tee.close()
        assert bench.reason is Reason.NOT_KEPT

    @pytest.mark.parametrize("way", ["read", "read1"])
    def test_too_much_is_not_kept_in_part(self, bench: Bench, way: str) -> None:
        tee = bench.tee(Wire(b"abcdef"), limit=3, cut_off=as_part)
        assert getattr(tee, way)(4) == b"abcd"
        assert getattr(tee, way)(4) == b"ef"
        assert getattr(tee, way)(4) == b""
        assert tee.closed
        assert bench.found is None
        assert bench.reason is Reason.TOO_LARGE

    def test_interrupted_in_the_cache_it_is_given_up(self, bench: Bench) -> None:
        """As by Ctrl-C, in the middle of a write."""

        class Interrupting(LocalCachePorts):
            async def write(self, writer: EntryWriter, chunk: bytes) -> None:
                raise KeyboardInterrupt

        ports = Interrupting(bench.cache)
        recorder = Recorder(
            Guard(ports, bench.events.append),
            ports.abort,
            KEY,
            run(ports.writer(KEY)),
            b"metadata",
            plan=Noting(bench, as_part),
            expected=7,
            limit=None,
        )
        tee = BlockingTee(Wire(b"abcdef"), recorder)
        with pytest.raises(KeyboardInterrupt):
            tee.read(3)
        tee.close()
        assert bench.found is None
        assert not bench.events
        assert bench.reason is Reason.BROKEN_OFF


class TestBehind:
    """What goes behind a body goes there when its last byte has come."""

    @pytest.mark.parametrize("expected", [None, 6])
    def test_it_goes_there(self, bench: Bench, expected: int | None) -> None:
        tee = bench.tee(Wire(b"abc", b"def"), expected, behind=b"ghi")
        assert tee.read() == b"abcdef"
        assert bench.stored == b"abcdefghi"

    def test_it_goes_nowhere_before(self, bench: Bench) -> None:
        tee = bench.tee(Wire(b"abc", b"def"), 6, behind=b"ghi")
        tee.read(5)
        tee.close()
        assert bench.found is None

    def test_the_cache_may_fail(self) -> None:
        bench = Bench(Fault(Operation.WRITE, CacheFull, at_byte=6))
        tee = bench.tee(Wire(b"abcdef"), 6, behind=b"ghi")
        assert tee.read() == b"abcdef"
        assert bench.found is None
        assert bench.reason is Reason.NOT_KEPT
        assert [type(event) for event in bench.events] == [StoreFailed]


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


PIECES = (b"<", Span(1, 2), b"|", Span(0, 0), Span(4, 5), b"", b">")


@pytest.mark.parametrize("read", BODIES.values(), ids=BODIES)
def test_pieces_of_a_stored_body(entry: Entry, read: Callable[[BlockingBody], list[bytes]]) -> None:
    body = BlockingBody(entry, pieces=(b"<", Span(1, 2), b"|", Span(5, 5), b">"))
    assert b"".join(read(body)) == b"<bc|f>"
    assert body.tell() == 6
    assert body.closed
    assert body.read() == body.read(1) == b""
    with pytest.raises(ValueError, match="closed"):
        entry.read()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100, -1])
def test_pieces_in_steps_of_any_size(entry: Entry, size: int) -> None:
    """As many bytes as are wanted, over the ends of pieces; fewer only at the end."""
    body = BlockingBody(entry, pieces=PIECES)
    whole = b"<bc|aef>"
    for at in range(0, len(whole), size if size > 0 else len(whole)):
        assert body.read(0) == b""
        assert body.read(size) == (whole[at : at + size] if size > 0 else whole)
    assert body.read(size) == b""
    assert body.closed


def test_pieces_may_be_closed_early(entry: Entry) -> None:
    body = BlockingBody(entry, pieces=PIECES)
    assert body.read(2) == b"<b"
    body.close()
    assert body.read() == b""


@pytest.mark.parametrize("damaged", [b"abcdeX", b"abc"], ids=["wrong", "short"])
def test_of_pieces_of_a_damaged_body_none_is_given(damaged: bytes) -> None:
    lost: list[Exception] = []

    async def tell(error: Exception) -> BodyLost:
        lost.append(error)
        assert isinstance(error, BodyLost)
        return error

    source, digest = InMemory(damaged), frames.digest(b"abcdef")
    entry = Entry(b"metadata", version="1", size=6, source=source, digest=digest)
    body = BlockingBody(entry, tell, (Span(0, 1),))
    with pytest.raises(BodyLost):
        body.read(1)
    assert len(lost) == 1
    assert body.closed


class TestFollowing:
    """First what is stored, then what comes."""

    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    def test_it_is_one_body(
        self, bench: Bench, entry: Entry, read: Callable[[Tee], object]
    ) -> None:
        wire = Wire(b"ghi", b"jkl")
        tee = bench.tee(Following(BlockingBody(entry), wire, 12), 12)
        read(tee)
        assert bench.stored == b"abcdefghijkl"
        assert tee.closed
        assert not wire.is_open
        with pytest.raises(ValueError, match="closed"):
            entry.read()

    @pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 11, 12, 13])
    def test_a_read_goes_over_the_seam(self, entry: Entry, size: int) -> None:
        """urllib3 takes fewer bytes than it asked for to be the end."""
        both = Following(BlockingBody(entry), Wire(b"ghi", b"jkl"), 12)
        whole = b"abcdefghijkl"
        for at in range(0, len(whole), size):
            assert both.read(0) == b""
            assert both.read(size) == whole[at : at + size]
            assert both.tell() == min(len(whole), at + size)
        assert both.read(size) == b""

    def test_what_is_there_is_not_waited_for(self, entry: Entry) -> None:
        both = Following(BlockingBody(entry), Wire(b"ghi", b"jkl"), 12)
        assert both.read1(0) == b""
        assert [both.read1(4), both.read1(4), both.read1(4)] == [b"abcd", b"ef", b"ghi"]
        assert [both.read1(None), both.read1(None)] == [b"jkl", b""]
        assert both.tell() == 12

    def test_it_may_be_closed_at_any_time(self, entry: Entry) -> None:
        wire = Wire(b"ghi")
        both = Following(BlockingBody(entry), wire, 12)
        assert both.read(4) == b"abcd"
        both.close()
        both.close()
        assert both.closed
        assert not wire.is_open
        assert both.read() == both.read(3) == both.read1(3) == b""
        with pytest.raises(ValueError, match="closed"):
            entry.read()

    @pytest.mark.parametrize("size", [None, -1, 3])
    def test_at_its_end_it_is_closed_as_http_client_is(self, entry: Entry, size: int) -> None:
        """urllib3's `stream(None)` asks for more until it is, also of what nobody records."""
        both = Following(BlockingBody(entry), Wire(b"ghi", b"jkl"), 12)
        for _ in range(10):
            both.read(size)
        assert both.closed

    def test_what_breaks_off_is_longer_than_before(self, bench: Bench, entry: Entry) -> None:
        wire = Wire(b"ghi", b"jkl", error=ConnectionResetError())
        tee = bench.tee(Following(BlockingBody(entry), wire, 12), 12, cut_off=as_part)
        assert tee.read(8) == b"abcdefgh"
        with pytest.raises(ConnectionResetError):
            tee.read(8)
        assert bench.found == (b"part of 8", b"abcdefgh")

    @pytest.mark.parametrize("way", ["read", "read1"])
    @pytest.mark.parametrize("size", [None, 1, 4, 100])
    def test_there_is_no_more_of_it_than_was_said(
        self, entry: Entry, way: str, size: int | None
    ) -> None:
        wire = Wire(b"ghi", b"jkl", b"what is this?")
        both = Following(BlockingBody(entry), wire, 12)
        body = b"".join(iter(lambda: getattr(both, way)(size), b""))
        assert body == b"abcdefghijkl"
        assert both.closed
        assert not wire.is_open

    @pytest.mark.parametrize("way", ["read", "read1"])
    @pytest.mark.parametrize("size", [None, 1, 4, 100])
    def test_less_of_it_than_was_said_is_not_the_end(
        self, entry: Entry, way: str, size: int | None
    ) -> None:
        """Nor is it taken for that by who reads to where nothing comes."""
        wire = Wire(b"ghi", b"jkl")
        both = Following(BlockingBody(entry), wire, 20)
        with pytest.raises(BodyLost):
            list(iter(lambda: getattr(both, way)(size), b""))
        assert both.closed
        assert not wire.is_open

    def test_what_is_lost_comes_from_what_is_stored(self, bench: Bench) -> None:
        wire = Wire(b"ghi")
        tee = bench.tee(Following(BlockingBody(Failing(BodyLost("gone"))), wire, 12), 12)
        with pytest.raises(BodyLost, match="gone"):
            tee.read(3)
        assert bench.found is None
        tee.close()
        assert not wire.is_open


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
