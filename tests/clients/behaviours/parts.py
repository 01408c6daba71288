"""Parts of bodies: given from what is stored, and downloads that go on where they broke off."""

from __future__ import annotations

import email
import gzip
import hashlib
import random
import re

import pytest

from stillfresh import (
    BodyLost,
    CacheFull,
    CacheUnavailable,
    MemoryCache,
    Outcome,
    Policy,
    Reason,
)
from stillfresh.events import Hit, Miss, Stored, StoreFailed
from stillfresh.testing import Fault, FaultyCache, ManualClock, Operation
from tests.clients.behaviours.suite import Driver, Heard, NewClient, Suite, fresh
from tests.origin import Cut, Document, Framing, Origin, Received, Reply

TEXT = b"".join(b"line %d\n" % number for number in range(100))
SMALL = random.Random(6).randbytes(200_000)
# Too long to be checked as a whole while it is streamed.
LONG = random.Random(7).randbytes((1 << 20) + 300_000)
FRAMINGS = [Framing.LENGTH, Framing.CHUNKED]


def of(wanted: str) -> dict[str, str]:
    return {"Range": f"bytes={wanted}"}


def digest(body: bytes) -> str:
    """Return what is short enough to be shown where it differs."""
    return hashlib.sha256(body).hexdigest()


def resumed_at(request: Received) -> int:
    """Return the byte from which on a request asks for the rest."""
    match = re.fullmatch("bytes=([0-9]+)-", request.header("Range") or "")
    assert match is not None
    return int(match[1])


class Ranges(Suite):
    """RFC 9110 §14, from what is stored."""

    @pytest.fixture
    def whole_text(self, origin: Origin, client: Driver) -> str:
        """A page that is stored."""
        document = Document(TEXT, headers={"Content-Type": "text/plain", "X-End": "1"})
        url = origin.on("/", document, Reply(500))
        client.get(url)
        return url

    @pytest.mark.parametrize(
        ("wanted", "part"),
        [
            ("0-0", slice(0, 1)),
            ("5-99", slice(5, 100)),
            ("700-", slice(700, None)),
            ("-10", slice(-10, None)),
            ("0-", slice(0, None)),
            ("5-9999", slice(5, None)),
            ("0-9,10-19", slice(0, 20)),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
    def test_one_part(
        self,
        origin: Origin,
        client: Driver,
        heard: Heard,
        whole_text: str,
        wanted: str,
        part: slice,
        streamed: bool,
    ) -> None:
        heard.events.clear()
        if streamed:
            stream = client.stream(whole_text, of(wanted))
            head, body = stream.head, stream.rest()
            stream.close()
        else:
            head = answer = client.get(whole_text, of(wanted))
            body = answer.body
        expected = TEXT[part]
        first = TEXT.index(expected) if len(expected) > 1 else 0
        assert body == expected
        assert (head.status, head.reason) == (206, "Partial Content")
        place = f"bytes {first}-{first + len(expected) - 1}/{len(TEXT)}"
        assert head["Content-Range"] == place
        assert head["Content-Length"] == str(len(expected))
        assert (head["ETag"], head["X-End"], head["Content-Type"]) == ('"1"', "1", "text/plain")
        assert head.from_cache
        assert head.info.outcome is Outcome.HIT
        assert [type(event) for event in heard.events] == [Hit]
        assert len(origin.received) == 1

    @pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
    def test_several_parts(
        self, origin: Origin, client: Driver, whole_text: str, streamed: bool
    ) -> None:
        if streamed:
            stream = client.stream(whole_text, of("100-149,0-9,-20"))
            head, body = stream.head, stream.rest()
            stream.close()
        else:
            head = answer = client.get(whole_text, of("100-149,0-9,-20"))
            body = answer.body
        assert (head.status, head["Content-Length"]) == (206, str(len(body)))
        assert head["Content-Range"] == ""
        kind = f"Content-Type: {head['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(kind + body)
        assert message.get_content_type() == "multipart/byteranges"
        got = []
        for part in message.walk():
            if part.is_multipart():
                continue
            assert part.get_content_type() == "text/plain"
            got.append((part["Content-Range"], part.get_payload(decode=True)))
        size = len(TEXT)
        assert got == [
            (f"bytes 100-149/{size}", TEXT[100:150]),
            (f"bytes 0-9/{size}", TEXT[:10]),
            (f"bytes {size - 20}-{size - 1}/{size}", TEXT[-20:]),
        ]
        assert head.from_cache
        assert len(origin.received) == 1

    def test_none_that_there_is(self, origin: Origin, client: Driver, whole_text: str) -> None:
        answer = client.get(whole_text, of(f"{len(TEXT)}-"))
        assert (answer.status, answer.reason) == (416, "Range Not Satisfiable")
        assert answer["Content-Range"] == f"bytes */{len(TEXT)}"
        assert answer.body == b""
        assert answer.from_cache
        assert len(origin.received) == 1

    @pytest.mark.parametrize("wanted", ["5-2", "x", "", "1-2,x"])
    def test_what_makes_no_sense_is_all_of_it(
        self, origin: Origin, client: Driver, whole_text: str, wanted: str
    ) -> None:
        answer = client.get(whole_text, of(wanted))
        assert (answer.status, answer.body) == (200, TEXT)
        assert len(origin.received) == 1

    def test_on_the_condition_that_it_is_the_same(
        self, origin: Origin, client: Driver, whole_text: str
    ) -> None:
        assert client.get(whole_text, of("0-4") | {"If-Range": '"1"'}).body == TEXT[:5]
        assert client.get(whole_text, of("0-4") | {"If-Range": '"2"'}).body == TEXT
        assert len(origin.received) == 1

    @pytest.mark.parametrize("size", [1 << 20, (2 << 20) + 1])
    def test_of_a_long_body(
        self, origin: Origin, client: Driver, clock: ManualClock, size: int
    ) -> None:
        body = random.Random(size).randbytes(size)
        url = origin.on("/", fresh(body))
        client.get(url)
        for wanted, part in (
            ("0-0", body[:1]),
            ("500000-1000000", body[500_000:1_000_001]),
            (f"{size - 9}-", body[-9:]),
        ):
            assert digest(client.get(url, of(wanted)).body) == digest(part)
            stream = client.stream(url, of(wanted))
            assert digest(stream.rest()) == digest(part)
            stream.close()
        stream = client.stream(url, of("1000-"))
        assert body[1000:].startswith(stream.read())
        stream.close()
        assert client.get(url).body == body
        assert len(origin.received) == 1

    def test_what_is_stale_is_asked_about(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        url = origin.on("/", Document(TEXT))
        client.get(url)
        clock.advance(61)
        answer = client.get(url, of("5-9"))
        assert (answer.status, answer.body) == (206, TEXT[5:10])
        assert answer.info.outcome is Outcome.REVALIDATED
        assert origin.received[-1].header("If-None-Match") == '"1"'
        assert client.get(url).info.outcome is Outcome.HIT

    def test_a_part_that_is_not_stored_comes_from_the_origin(
        self, origin: Origin, client: Driver
    ) -> None:
        document = Document(TEXT)
        url = origin.on("/", document)
        answer = client.get(url, of("100-199"))
        assert (answer.status, answer.body) == (206, TEXT[100:200])
        assert not answer.from_cache
        # It is stored by itself, and answers for what is in it.
        inside = client.get(url, of("150-159"))
        assert inside.from_cache
        assert (inside.body, inside["Content-Range"]) == (
            TEXT[150:160],
            f"bytes 150-159/{len(TEXT)}",
        )
        # What is next to it joins it.
        assert client.get(url, of("200-299")).body == TEXT[200:300]
        assert client.get(url, of("50-120")).body == TEXT[50:121]
        assert client.get(url, of("50-299")).from_cache
        assert client.get(url, of("0-49")).body == TEXT[:50]
        assert client.get(url).body == TEXT
        assert resumed_at(origin.received[-1]) == 300
        assert client.get(url).from_cache
        assert document.sent == [
            (206, 100),
            (206, 100),
            (206, 71),
            (206, 50),
            (206, len(TEXT) - 300),
        ]

    def test_a_chunked_part_that_is_not_as_long_as_it_says(
        self, origin: Origin, client: Driver, heard: Heard
    ) -> None:
        headers = {"Cache-Control": "max-age=60", "ETag": '"1"'}
        headers["Content-Range"] = f"bytes 0-99/{len(TEXT)}"
        for body in (TEXT[:100] + b"what is this?", TEXT[:50]):
            wrong = Reply(206, headers, [body])
            url = origin.on("/", wrong, Document(TEXT))
            assert client.get(url, of("0-99")).body == body
            assert client.get(url).body == TEXT
            client.request("DELETE", url)
        assert not heard.of(StoreFailed)

    @pytest.mark.parametrize(
        "operation", [Operation.OPEN, Operation.CHECK, Operation.WRITER, Operation.COMMIT]
    )
    def test_whatever_fails_the_part_is_right(
        self, origin: Origin, new_client: NewClient, clock: ManualClock, operation: Operation
    ) -> None:
        with FaultyCache(MemoryCache(clock=clock), clock=clock) as faulty:
            client = new_client(cache=faulty)
            url = origin.on("/", Document(TEXT))
            client.get(url)
            faulty.faults.append(Fault(operation, CacheUnavailable))
            for wanted, part in (("5-9", TEXT[5:10]), ("-7", TEXT[-7:])):
                answer = client.get(url, of(wanted))
                assert (answer.status, answer.body) == (206, part)


class Resuming(Suite):
    """A download that breaks off goes on where it did (RFC 9111 §3.3, §3.4)."""

    def begin(
        self, origin: Origin, client: Driver, document: Document, after: int
    ) -> tuple[str, int]:
        """Have a download break off; return its URL, and how much of it is stored."""
        document.cuts.append(after)
        url = origin.on("/", document)
        with pytest.raises(client.broken):
            client.get(url)
        stored = client.head(url)
        assert stored.from_cache
        return url, self.stored(client, url)

    def stored(self, client: Driver, url: str) -> int:
        """Return how many bytes from the first one on can be had from the cache."""
        only = {"Cache-Control": "only-if-cached"}
        low, high = 0, 1 << 22
        while high - low > 1:
            middle = (low + high) // 2
            answer = client.get(url, of(f"0-{middle - 1}") | only)
            low, high = (middle, high) if answer.status == 206 else (low, middle)
        return low

    @pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
    @pytest.mark.parametrize(
        ("body", "after"), [(SMALL, 150_000), (LONG, 1_200_000)], ids=["small", "long"]
    )
    def test_only_the_rest_is_sent(
        self,
        origin: Origin,
        client: Driver,
        heard: Heard,
        framing: Framing,
        body: bytes,
        after: int,
    ) -> None:
        document = Document(body, framing=framing)
        url, stored = self.begin(origin, client, document, after)
        assert 0 < stored <= after
        assert [event.size for event in heard.of(Stored)] == [stored]
        assert "cut off" in heard.of(Stored)[0].why
        heard.events.clear()
        answer = client.get(url)
        assert digest(answer.body) == digest(body)
        assert (answer.status, answer.reason) == (200, "OK")
        assert answer["Content-Range"] == ""
        assert answer["Content-Length"] in {str(len(body)), ""}
        assert answer.info.outcome is Outcome.COMPLETED
        assert not answer.from_cache
        assert "fwd=partial; fwd-status=206; stored" in answer["Cache-Status"]
        assert resumed_at(origin.received[-1]) == stored
        assert origin.received[-1].header("If-Range") == '"1"'
        assert document.sent == [(200, len(body)), (206, len(body) - stored)]
        assert [type(event) for event in heard.events] == [Miss, Stored]
        again = client.get(url)
        assert again.from_cache
        assert digest(again.body) == digest(body)
        assert again["Content-Length"] == str(len(body))
        assert len(origin.received) == 2

    @pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
    def test_the_rest_may_be_streamed(
        self, origin: Origin, client: Driver, framing: Framing
    ) -> None:
        url, stored = self.begin(origin, client, Document(LONG, framing=framing), 1_200_000)
        stream = client.stream(url)
        assert stream.head.info.outcome is Outcome.COMPLETED
        assert LONG.startswith(stream.read())
        assert not stream.head.info.stored
        stream.close()
        # What was read of it is less than what is stored.
        assert self.stored(client, url) == stored
        stream = client.stream(url)
        assert digest(stream.rest()) == digest(LONG)
        assert stream.head.info.stored
        stream.close()
        assert client.get(url).from_cache

    def test_what_the_caller_left_unread_is_asked_for_when_somebody_wants_it(
        self, origin: Origin, client: Driver
    ) -> None:
        document = Document(SMALL)
        url = origin.on("/", document)
        stream = client.stream(url)
        first = stream.read()
        stream.close()
        assert stream.head.info.storing is not None
        assert stream.head.info.storing.reason is Reason.CUT_OFF
        assert digest(client.get(url).body) == digest(SMALL)
        assert document.sent == [(200, len(SMALL)), (206, len(SMALL) - len(first))]

    @pytest.mark.parametrize("cut_by", list(Cut), ids=lambda cut: cut.name)
    def test_however_the_connection_ends(self, origin: Origin, client: Driver, cut_by: Cut) -> None:
        headers = {"ETag": '"1"', "Cache-Control": "max-age=60"}
        broken = Reply(headers=headers, body=SMALL, cut_after=150_000, cut_by=cut_by)
        url = origin.on("/", broken, Document(SMALL))
        with pytest.raises(client.broken):
            client.get(url)
        assert digest(client.get(url).body) == digest(SMALL)
        assert digest(client.get(url).body) == digest(SMALL)
        assert len(origin.received) == 2

    def test_what_has_changed_meanwhile_comes_whole(self, origin: Origin, client: Driver) -> None:
        document = Document(SMALL)
        url, stored = self.begin(origin, client, document, 150_000)
        document.body, document.etag = SMALL[::-1], '"2"'
        answer = client.get(url)
        assert digest(answer.body) == digest(SMALL[::-1])
        assert answer.info.outcome is Outcome.MISS
        assert resumed_at(origin.received[-1]) == stored
        assert document.sent[-1] == (200, len(SMALL))
        again = client.get(url)
        assert again.from_cache
        assert (again["ETag"], digest(again.body)) == ('"2"', digest(SMALL[::-1]))

    @pytest.mark.parametrize(
        "answer",
        [
            Reply(416, {"Content-Range": "bytes */5"}),
            Reply(206, {"ETag": '"1"', "Content-Range": "bytes 7-9/200000"}, b"abc"),
            Reply(206, {"ETag": '"2"', "Content-Range": "bytes 7-9/200000"}, b"abc"),
            Reply(206, {"ETag": '"1"'}, b"abc"),
        ],
        ids=["416", "other bytes", "other tag", "no place"],
    )
    def test_an_answer_that_does_not_fit_is_asked_for_again(
        self, origin: Origin, client: Driver, answer: Reply
    ) -> None:
        document = Document(SMALL)
        url, _ = self.begin(origin, client, document, 150_000)
        origin.on("/", answer, document)
        assert digest(client.get(url).body) == digest(SMALL)
        assert origin.received[-1].header("Range") is None
        assert client.get(url).from_cache

    @pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
    def test_broken_off_again_there_is_more_than_before(
        self, origin: Origin, client: Driver, framing: Framing
    ) -> None:
        document = Document(LONG, framing=framing)
        url, stored = self.begin(origin, client, document, 400_000)
        document.cuts.append(500_000)
        with pytest.raises(client.broken):
            client.get(url)
        more = self.stored(client, url)
        assert stored < more <= stored + 500_000
        assert digest(client.get(url).body) == digest(LONG)
        asked = [resumed_at(request) for request in origin.received[1:]]
        assert asked == [stored, more]
        assert client.get(url).from_cache

    def test_broken_off_before_its_first_byte_there_is_what_there_was(
        self, origin: Origin, client: Driver, heard: Heard
    ) -> None:
        document = Document(SMALL)
        url, stored = self.begin(origin, client, document, 150_000)
        document.cuts.append(0)
        with pytest.raises(client.broken):
            client.get(url)
        assert self.stored(client, url) == stored
        assert digest(client.get(url).body) == digest(SMALL)
        assert not heard.of(StoreFailed)

    def test_an_encoded_body_goes_on_where_it_was(self, origin: Origin, client: Driver) -> None:
        packed = gzip.compress(SMALL)
        document = Document(packed, headers={"Content-Encoding": "gzip"})
        url, _ = self.begin(origin, client, document, 150_000)
        for outcome in (Outcome.COMPLETED, Outcome.HIT):
            answer = client.get(url)
            assert digest(answer.body) == digest(SMALL)
            assert answer.info.outcome is outcome
        assert len(origin.received) == 2

    @pytest.mark.parametrize("etag", [None, 'W/"1"'])
    def test_without_a_strong_validator_it_begins_anew(
        self, origin: Origin, client: Driver, heard: Heard, etag: str | None
    ) -> None:
        document = Document(SMALL, etag=etag, cuts=[150_000])
        url = origin.on("/", document)
        with pytest.raises(client.broken):
            client.get(url)
        assert not heard.of(Stored)
        assert digest(client.get(url).body) == digest(SMALL)
        assert document.sent == [(200, len(SMALL))] * 2

    def test_head_knows_it_from_what_is_stored(self, origin: Origin, client: Driver) -> None:
        url, _ = self.begin(origin, client, Document(SMALL), 150_000)
        answer = client.head(url)
        assert answer.from_cache
        assert (answer.status, answer["Content-Length"]) == (200, str(len(SMALL)))
        assert answer["Content-Range"] == ""
        assert len(origin.received) == 1

    def test_a_part_of_it_is_given_where_it_is_there(self, origin: Origin, client: Driver) -> None:
        document = Document(SMALL)
        url, stored = self.begin(origin, client, document, 150_000)
        inside = client.get(url, of("1000-1999"))
        assert inside.from_cache
        assert (inside.status, inside.body) == (206, SMALL[1000:2000])
        outside = client.get(url, of(f"{stored - 10}-{stored + 9}"))
        assert not outside.from_cache
        assert (outside.status, outside.body) == (206, SMALL[stored - 10 : stored + 10])
        assert self.stored(client, url) == stored + 10
        assert digest(client.get(url).body) == digest(SMALL)
        assert [size for _, size in document.sent] == [
            len(SMALL),
            20,
            len(SMALL) - stored - 10,
        ]

    def test_a_stale_beginning_is_completed_too(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        document = Document(SMALL)
        url, _ = self.begin(origin, client, document, 150_000)
        clock.advance(3600)
        answer = client.get(url)
        assert answer.info.outcome is Outcome.COMPLETED
        assert digest(answer.body) == digest(SMALL)
        assert client.get(url)["Age"] == "0"

    def test_an_error_of_the_origins_leaves_what_there_is(
        self, origin: Origin, client: Driver
    ) -> None:
        document = Document(SMALL)
        url, stored = self.begin(origin, client, document, 150_000)
        origin.on("/", Reply(503, body=b"no"), document)
        assert client.get(url).status == 503
        assert digest(client.get(url).body) == digest(SMALL)
        assert resumed_at(origin.received[-1]) == stored

    def test_what_may_not_be_stored_is_never_kept_in_part(
        self, origin: Origin, client: Driver, heard: Heard
    ) -> None:
        document = Document(SMALL, cuts=[150_000, 150_000])
        url = origin.on("/", document)
        with pytest.raises(client.broken):
            client.get(url, {"Cache-Control": "no-store"})
        document.headers["Cache-Control"] = "no-store"
        with pytest.raises(client.broken):
            client.get(url)
        assert not heard.of(Stored)
        assert digest(client.get(url).body) == digest(SMALL)
        assert document.sent == [(200, len(SMALL))] * 3

    @pytest.mark.parametrize(
        "operation",
        [
            Operation.OPEN,
            Operation.CHECK,
            Operation.WRITER,
            Operation.WRITE,
            Operation.COMMIT,
            Operation.REMOVE,
        ],
    )
    def test_whatever_fails_the_body_is_right(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        operation: Operation,
    ) -> None:
        with FaultyCache(MemoryCache(clock=clock), clock=clock) as faulty:
            client = new_client(cache=faulty)
            url, _ = self.begin(origin, client, Document(SMALL), 150_000)
            faulty.faults.append(Fault(operation, CacheFull))
            for _ in range(2):
                assert digest(client.get(url).body) == digest(SMALL)
                stream = client.stream(url)
                assert digest(stream.rest()) == digest(SMALL)
                stream.close()
            faulty.faults.clear()
            assert digest(client.get(url).body) == digest(SMALL)

    @pytest.mark.parametrize("at", [0, 100_000])
    def test_a_beginning_that_is_lost_under_its_reader(
        self, origin: Origin, new_client: NewClient, clock: ManualClock, heard: Heard, at: int
    ) -> None:
        with FaultyCache(MemoryCache(clock=clock), clock=clock) as faulty:
            client = new_client(cache=faulty)
            url, _ = self.begin(origin, client, Document(SMALL), 150_000)
            faulty.faults.append(Fault(Operation.READ, BodyLost, at_byte=at))
            stream = client.stream(url)
            with pytest.raises(client.lost) as caught:
                stream.rest()
            assert isinstance(caught.value, BodyLost)
            stream.close()
            assert [event.operation for event in heard.of(StoreFailed)] == ["read"]
            faulty.faults.clear()
            answer = client.get(url)
            assert digest(answer.body) == digest(SMALL)
            assert origin.received[-1].header("Range") is None

    def test_a_policy_that_takes_no_such_body(self, origin: Origin, new_client: NewClient) -> None:
        client = new_client(Policy(max_body=len(SMALL) - 1))
        document = Document(SMALL, framing=Framing.CHUNKED, cuts=[150_000])
        url = origin.on("/", document)
        with pytest.raises(client.broken):
            client.get(url)
        for _ in range(2):
            assert digest(client.get(url).body) == digest(SMALL)
        assert not client.get(url).from_cache
