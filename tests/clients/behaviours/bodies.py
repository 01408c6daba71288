"""Bodies: whole and in order for the caller, stored whole or not at all (RFC 9111 §3.3)."""

from __future__ import annotations

import gzip
import random
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillfresh import BaseCache, Outcome, Policy, Reason
from stillfresh.events import NotStored, Stored
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import ManualClock
from stillfresh.testing.clock import START
from tests.clients.behaviours.suite import Driver, Heard, NewClient, Suite, fresh
from tests.origin import Cut, Document, Framing, Origin, Raw, Received, Reply

FRESH = {"Date": format_date(START), "Cache-Control": "max-age=60"}
PAGE = b"".join(b"line %d of a page\n" % number for number in range(5000))
NOISE = random.Random(0).randbytes(300_000)


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


class Bodies(Suite):
    @pytest.mark.parametrize("framing", list(Framing), ids=lambda framing: framing.name)
    @pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 65_537, 300_000])
    def test_any_framing_and_any_size(
        self, origin: Origin, client: Driver, framing: Framing, size: int
    ) -> None:
        url = origin.on("/", Reply(headers=FRESH, body=NOISE[:size], framing=framing))
        miss, hit = client.get(url), client.get(url)
        assert miss.body == NOISE[:size]
        assert hit.body == NOISE[:size]
        assert hit.from_cache
        assert hit.all("Transfer-Encoding") == hit.all("Connection") == []

    @pytest.mark.parametrize("status", [204, 205, 200])
    def test_without_a_body(self, origin: Origin, client: Driver, status: int) -> None:
        url = origin.on("/", Reply(status, FRESH))
        for from_cache in (False, True):
            answer = client.get(url)
            assert (answer.status, answer.body) == (status, b"")
            assert answer.from_cache is from_cache

    @pytest.mark.parametrize(
        ("coding", "encode"),
        [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated)],
        ids=["gzip", "zlib", "deflate"],
    )
    @pytest.mark.parametrize("size", [None, 100], ids=["length", "chunked"])
    def test_encoded_bodies_are_stored_as_they_came(
        self,
        origin: Origin,
        client: Driver,
        cache: BaseCache,
        coding: str,
        encode: Callable[[bytes], bytes],
        size: int | None,
    ) -> None:
        encoded = encode(PAGE)
        body = encoded if size is None else pieces(encoded, size)
        url = origin.on("/", fresh(body, content_encoding=coding, etag='"1"'))
        for from_cache in (False, True):
            answer = client.get(url)
            assert answer.from_cache is from_cache
            assert answer.body == PAGE
            assert answer["Content-Encoding"] == coding
        entry = cache.open(url)
        assert entry is not None
        with entry:
            assert entry.read() == encoded

    def test_a_coding_nobody_knows(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh(b"\x00\x01", content_encoding="x-secret"))
        assert [client.get(url).body for _ in range(2)] == [b"\x00\x01"] * 2

    def test_streamed_hits_are_whole(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh(NOISE))
        for from_cache in (False, True):
            stream = client.stream(url)
            assert stream.head.from_cache is from_cache
            assert stream.rest() == NOISE
            stream.close()

    def test_the_first_bytes_arrive_before_the_rest_is_sent(
        self, origin: Origin, client: Driver
    ) -> None:
        gate = origin.gate()

        def answer(_: Received) -> Reply:
            def body() -> Iterator[bytes]:
                yield b"first"
                assert gate.wait(10)
                yield b"second"

            return Reply(headers=FRESH, body=body())

        stream = client.stream(origin.on("/", answer))
        assert stream.read() == b"first"
        gate.set()
        assert stream.rest() == b"second"
        stream.close()
        assert client.get(origin.url("/")).body == b"firstsecond"
        assert len(origin.received) == 1

    def test_the_first_bytes_of_a_compressed_stream(self, origin: Origin, client: Driver) -> None:
        gate = origin.gate()
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

        def answer(_: Received) -> Reply:
            def body() -> Iterator[bytes]:
                yield packer.compress(b"first") + packer.flush(zlib.Z_SYNC_FLUSH)
                assert gate.wait(10)
                yield packer.compress(b"second") + packer.flush()

            return Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=body())

        stream = client.stream(origin.on("/", answer))
        assert stream.read() == b"first"
        gate.set()
        assert stream.rest() == b"second"
        stream.close()
        assert client.get(origin.url("/")).body == b"firstsecond"

    def test_memory_does_not_grow_with_the_body(
        self, origin: Origin, client: Driver, cache: BaseCache
    ) -> None:
        size, step = 24 << 20, bytes(1 << 16)
        if type(cache).__name__ == "MemoryCache":
            pytest.skip("that is where the body goes")
        headers = FRESH | {"Content-Length": str(size)}
        steps = size // len(step)
        url = origin.on("/", lambda _: Reply(headers=headers, body=(step for _ in range(steps))))
        tracemalloc.start()
        try:
            for from_cache in (False, True):
                stream = client.stream(url)
                assert stream.head.from_cache is from_cache
                assert sum(len(chunk) for chunk in iter(stream.read, b"")) == size
                stream.close()
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()

    def test_a_connection_is_used_again(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        """Also after a body of unknown length, a 304, and an answer without a body."""
        pages = [origin.on("/length", fresh(NOISE)), origin.on("/chunked", fresh([NOISE] * 2))]
        url = origin.on("/", Document(b"document"))
        for _ in range(2):
            for page in (*pages, url):
                client.get(page, {"Cache-Control": "no-cache"})
            client.head(url, {"Cache-Control": "no-cache"})
            clock.advance(61)
            assert client.get(url).info.outcome is Outcome.REVALIDATED
        assert {request.connection for request in origin.received} == {1}


class BrokenBodies(Suite):
    @pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED], ids=lambda f: f.name)
    def test_a_body_left_unread_is_not_stored(
        self, origin: Origin, client: Driver, heard: Heard, framing: Framing
    ) -> None:
        gate = origin.gate()

        def answer(_: Received) -> Reply:
            def body() -> Iterator[bytes]:
                yield NOISE
                gate.wait(10)
                yield b"x"

            length = {"Content-Length": str(len(NOISE) + 1)} if framing is Framing.LENGTH else {}
            return Reply(headers=FRESH | length, body=body(), framing=framing)

        url = origin.on("/", answer, Reply(headers=FRESH, body=b"whole"))
        stream = client.stream(url)
        assert stream.read()
        stream.close()
        gate.set()
        assert not heard.of(Stored)
        assert [event.status for event in heard.of(NotStored)] == [200]
        assert stream.head.info.storing is not None
        assert stream.head.info.storing.reason is Reason.BROKEN_OFF
        assert client.get(url).body == b"whole"

    @pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED], ids=lambda f: f.name)
    def test_a_body_of_which_nothing_is_read(
        self, origin: Origin, client: Driver, heard: Heard, framing: Framing
    ) -> None:
        whole = Reply(headers=FRESH, body=b"whole", framing=framing)
        url = origin.on("/", whole)
        client.stream(url).close()
        assert not heard.of(Stored)
        assert not client.get(url).from_cache

    def test_a_stored_body_left_unread_stays(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh(NOISE))
        client.get(url)
        stream = client.stream(url)
        stream.read()
        stream.close()
        assert client.get(url).body == NOISE
        assert len(origin.received) == 1

    @pytest.mark.parametrize("cut_by", list(Cut), ids=lambda cut: cut.name)
    @pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED], ids=lambda f: f.name)
    @pytest.mark.parametrize("after", [0, 1, 1000, 150_000])
    def test_a_connection_that_breaks(
        self,
        origin: Origin,
        client: Driver,
        heard: Heard,
        framing: Framing,
        cut_by: Cut,
        after: int,
    ) -> None:
        body: bytes | list[bytes] = NOISE if framing is Framing.LENGTH else pieces(NOISE, 700)
        broken = Reply(headers=FRESH, body=body, framing=framing, cut_after=after, cut_by=cut_by)
        url = origin.on("/", broken, Reply(headers=FRESH, body=b"whole"))
        with pytest.raises(client.broken):
            client.get(url)
        assert not heard.of(Stored)
        assert client.get(url).body == b"whole"

    def test_chunks_without_their_end(self, origin: Origin, client: Driver) -> None:
        # Every byte of the body has come, but for the chunk that says so.
        broken = Reply(headers=FRESH, body=[b"abc", b"def"], cut_after=6)
        url = origin.on("/", broken, Reply(headers=FRESH, body=b"whole"))
        with pytest.raises(client.broken):
            client.get(url)
        assert client.get(url).body == b"whole"

    def test_a_break_while_revalidating_forgets_nothing(
        self, origin: Origin, client: Driver
    ) -> None:
        stored = Reply(headers={"Cache-Control": "no-cache", "ETag": '"1"'}, body=b"old")
        broken = Reply(headers=FRESH, body=NOISE, cut_after=1000)
        url = origin.on("/", stored, broken, Reply(304))
        client.get(url)
        with pytest.raises(client.broken):
            client.get(url)
        assert client.get(url).body == b"old"

    def test_a_length_that_is_too_long(self, origin: Origin, client: Driver) -> None:
        headers = FRESH | {"Content-Length": "6"}
        url = origin.on("/", Reply(headers=headers, body=b"hello"), fresh(b"whole"))
        with pytest.raises(client.broken):
            client.get(url)
        assert client.get(url).body == b"whole"

    def test_a_length_that_is_too_short(self, origin: Origin, client: Driver) -> None:
        headers = FRESH | {"Content-Length": "4"}
        url = origin.on("/", Reply(headers=headers, body=b"hello"))
        assert client.get(url).body == b"hell"
        assert client.get(url).body == b"hell"

    @pytest.mark.parametrize("length", ["3", "6", "100"])
    def test_chunks_say_more_than_a_length(
        self, origin: Origin, client: Driver, length: str
    ) -> None:
        # RFC 9112 §6.3: Transfer-Encoding overrides Content-Length.
        headers = FRESH | {"Content-Length": length, "Transfer-Encoding": "chunked"}
        reply = Reply(headers=headers, body=[b"abc", b"def"], framing=Framing.CHUNKED)
        url = origin.on("/", reply)
        assert client.get(url).body == b"abcdef"
        again = client.get(url)
        assert again.body == b"abcdef"
        assert again["Content-Length"] in {"", "6"}


class ManyAtOnce(Suite):
    def test_threads_get_what_belongs_to_their_url(self, origin: Origin, client: Driver) -> None:
        def answer(request: Received) -> Reply:
            body = request.target.encode() * 500
            return fresh(pieces(body, 1000), 0, x_target=request.target, etag=f'"{request.target}"')

        targets = [f"/{number}" for number in range(8)]
        for target in targets:
            origin.on(target, answer)

        def ask(number: int) -> None:
            target = targets[number % len(targets)]
            got = client.get(origin.url(target))
            assert got["X-Target"] == target
            assert got.body == target.encode() * 500

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(160)))

    def test_one_url_that_changes_all_the_time(self, origin: Origin, client: Driver) -> None:
        """Header and body of an answer are always of one version."""
        lock = threading.Lock()
        numbers = iter(range(10_000))

        def answer(_: Received) -> Reply:
            with lock:
                number = next(numbers)
            body = b"%d," % number * (3000 if number % 2 else 3)
            return fresh(body, number % 3, x_version=str(number), etag=f'"{number}"')

        url = origin.on("/", answer)

        def ask(_: int) -> bool:
            got = client.get(url)
            assert set(got.body.decode().split(",")[:-1]) == {got["X-Version"]}
            assert len(got.body) == int(got["Content-Length"])
            return got.from_cache

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(200)))


class Uploads(Suite):
    def test_a_streamed_upload(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", Reply(201))
        assert client.request("POST", url, body=(b"%d" % n for n in range(5))).status == 201
        assert origin.received[-1].body == b"01234"

    def test_an_upload_of_bytes(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", Reply(201))
        client.request("PUT", url, body=NOISE)
        assert origin.received[-1].body == NOISE


class HeaderFields(Suite):
    def test_huge_headers(self, origin: Origin, client: Driver) -> None:
        headers = [*FRESH.items(), ("X-Long", "x" * 60_000)]
        headers += [(f"X-{number}", "y" * number) for number in range(80)]
        url = origin.on("/", Reply(headers=headers))
        miss, hit = client.get(url), client.get(url)
        assert hit.from_cache
        assert hit.lasting == miss.lasting
        assert hit["X-Long"] == "x" * 60_000

    def test_repeated_headers_stay_apart(self, origin: Origin, client: Driver) -> None:
        links = ["<a>; rel=x, <b>", "<c>", "<d>"]
        headers = [("Cache-Control", "max-age=60"), *(("Link", value) for value in links)]
        url = origin.on("/", Reply(headers=headers))
        for _ in range(2):
            assert client.get(url).all("Link") == links

    def test_stored_cookies_are_shown(self, origin: Origin, client: Driver) -> None:
        cookies = ["a=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT", "b=2; Path=/"]
        headers = [("Cache-Control", "max-age=60"), *(("Set-Cookie", value) for value in cookies)]
        url = origin.on("/", Reply(headers=headers))
        for _ in range(2):
            assert client.get(url).all("Set-Cookie") == cookies

    @pytest.mark.parametrize("interim", [100, 102, 103])
    def test_an_interim_response_is_not_the_response(
        self, origin: Origin, client: Driver, interim: int
    ) -> None:
        first = f"HTTP/1.1 {interim} Wait\r\nLink: <early>\r\n\r\n"
        whole = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody"
        url = origin.on("/", Raw((first + whole).encode()))
        for from_cache in (False, True):
            answer = client.get(url)
            assert (answer.status, answer.body) == (200, b"body")
            assert answer.all("Link") == []
            assert answer.from_cache is from_cache

    def test_trailers_are_no_part_of_the_head(self, origin: Origin, client: Driver) -> None:
        head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n"
        body = 'Trailer: X-End, ETag\r\n\r\n4\r\nbody\r\n0\r\nX-End: 1\r\nETag: "1"\r\n\r\n'
        url = origin.on("/", Raw((head + body).encode()))
        for from_cache in (False, True):
            answer = client.get(url)
            assert answer.body == b"body"
            assert answer.all("X-End") == answer.all("ETag") == []
            assert answer.from_cache is from_cache

    def test_cache_control_in_several_lines(self, origin: Origin, client: Driver) -> None:
        headers = [("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")]
        url = origin.on("/", Reply(headers=headers))
        client.get(url)
        assert not client.get(url).from_cache

    def test_bytes_beyond_ascii(self, origin: Origin, client: Driver) -> None:
        everything = "".join(chr(octet) for octet in range(0xA1, 0x100))
        headers = [("Cache-Control", "max-age=60"), ("X-Latin", everything)]
        url = origin.on("/", Reply(headers=headers, reason="Tr\u00e8s Bien"))
        miss, hit = client.get(url), client.get(url)
        assert hit.from_cache
        assert hit["X-Latin"] == miss["X-Latin"] == everything
        assert hit.reason == miss.reason

    def test_odd_values(self, origin: Origin, client: Driver) -> None:
        headers = [*FRESH.items(), ("X-Empty", ""), ("X-Tab", "a\tb"), ("Vary", "")]
        url = origin.on("/", Reply(headers=headers))
        miss, hit = client.get(url), client.get(url)
        assert hit.from_cache
        assert hit.lasting == miss.lasting

    def test_fields_about_the_connection_are_not_stored(
        self, origin: Origin, client: Driver
    ) -> None:
        headers = FRESH | {
            "Connection": "keep-alive, X-Hop",
            "Keep-Alive": "timeout=5",
            "X-Hop": "1",
            "X-End": "2",
        }
        url = origin.on("/", Reply(headers=headers))
        client.get(url)
        hit = client.get(url)
        assert [hit.all(name) for name in ("Connection", "Keep-Alive", "X-Hop")] == [[], [], []]
        assert hit["X-End"] == "2"


class TwoClients(Suite):
    def test_a_response_is_seen_when_its_body_has_been_read(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        gate = origin.gate()

        def answer(_: Received) -> Reply:
            def body() -> Iterator[bytes]:
                yield b"first"
                assert gate.wait(10)
                yield b"second"

            return Reply(headers=FRESH, body=body())

        url = origin.on("/", answer, fresh(b"other"))
        stream = new_client().stream(url)
        assert stream.read() == b"first"
        other = new_client(policy=Policy(collapse_wait=0))
        assert other.get(url).body == b"other"
        gate.set()
        assert stream.rest() == b"second"
        stream.close()
        assert other.get(url).body == b"firstsecond"
