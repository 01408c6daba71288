"""`CacheMiddleware`: the common behaviours, and what is particular to aiohttp."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import ClientResponse, hdrs

from stillfresh import (
    BaseCache,
    BodyLost,
    CacheClosed,
    ConfigError,
    MemoryCache,
    Outcome,
    Policy,
    Reason,
    Rule,
    SeparateBodyFileCache,
    SQLiteCache,
)
from stillfresh.clients._base import AsyncCacheSide
from stillfresh.clients.aiohttp import CachedResponse, CacheMiddleware, StoredBodyLost
from stillfresh.events import Event, Hook, NotStored, RefreshFailed, Stored
from stillfresh.testing import Fault, FaultyCache, ManualClock, Operation
from tests.clients.aiohttp_driver import AiohttpDriver
from tests.clients.behaviours import ClientBehaviours, FlowBehaviours
from tests.clients.behaviours.stale import Held
from tests.origin import Document, Framing, Origin, Raw, Received, Reply

T = TypeVar("T")
FRESH = {"Cache-Control": "max-age=60"}
TAGGED = FRESH | {"ETag": '"1"'}
LONG = bytes(range(256)) * 6000
TEXT = b"".join(b"line %d\n" % number for number in range(9000))


class TestInMemory(ClientBehaviours):
    sampled = True
    driver = AiohttpDriver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> AiohttpDriver:
        return AiohttpDriver(lambda: CacheMiddleware(cache, policy=policy, hook=hook, clock=clock))


class TestOffloaded(FlowBehaviours):
    """With a cache that is called in threads."""

    sampled = True
    driver = AiohttpDriver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> AiohttpDriver:
        return AiohttpDriver(
            lambda: CacheMiddleware(cache, offload=True, policy=policy, hook=hook, clock=clock)
        )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Iterator[MemoryCache]:
    with MemoryCache(clock=clock) as cache:
        yield cache


@asynccontextmanager
async def session_with(
    cache: BaseCache,
    *,
    policy: Policy | None = None,
    hook: Hook | None = None,
    clock: Callable[[], float],
    **options: Any,
) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        CacheMiddleware(cache, policy=policy, hook=hook, clock=clock) as middleware,
        aiohttp.ClientSession(
            middlewares=[middleware], **{"timeout": aiohttp.ClientTimeout(10), **options}
        ) as session,
    ):
        yield session


def ours(response: ClientResponse) -> CachedResponse:
    assert isinstance(response, CachedResponse)
    return response


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop that tells of responses left open."""
    return asyncio.run(main(), debug=True)


# A response is aiohttp's own.


async def until_empty(read: Callable[[], Awaitable[bytes]]) -> bytes:
    got = b""
    while chunk := await read():
        got += chunk
    return got


async def by_chunks(response: ClientResponse) -> bytes:
    return b"".join([chunk async for chunk, _ in response.content.iter_chunks()])


async def exactly_then_the_rest(response: ClientResponse) -> bytes:
    return await response.content.readexactly(5) + await response.content.read()


async def by_lines(response: ClientResponse) -> bytes:
    return b"".join([line async for line in response.content])


async def by_size(response: ClientResponse) -> bytes:
    return b"".join([chunk async for chunk in response.content.iter_chunked(1000)])


async def text(response: ClientResponse) -> bytes:
    return (await response.text()).encode()


WAYS: dict[str, Callable[[ClientResponse], Awaitable[bytes]]] = {
    "read": lambda r: r.read(),
    "text": text,
    "content.read": lambda r: r.content.read(),
    "content.read(7)": lambda r: until_empty(lambda: r.content.read(7000)),
    "content.readany": lambda r: until_empty(r.content.readany),
    "readexactly": exactly_then_the_rest,
    "iter_chunked": by_size,
    "iter_chunks": by_chunks,
    "lines": by_lines,
}
KINDS = {
    "length": Reply(headers=FRESH, body=TEXT),
    "chunked": Reply(headers=FRESH, body=[TEXT[:9], TEXT[9:5000], TEXT[5000:]]),
    "closed": Reply(headers=FRESH, body=TEXT, framing=Framing.CLOSE),
    "gzip": Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=gzip.compress(TEXT)),
    "deflate": Reply(headers=FRESH | {"Content-Encoding": "deflate"}, body=zlib.compress(TEXT)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_read_gives_what_aiohttp_gives(
    origin: Origin, cache: MemoryCache, clock: ManualClock, kind: str
) -> None:
    url = origin.on("/", KINDS[kind])

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            for way, read in WAYS.items():
                cache.clear()
                for from_cache in (False, True):
                    async with session.get(url) as response:
                        assert await read(response) == TEXT, way
                        assert ours(response).from_cache is from_cache, way
                        assert response.content.at_eof()

    run(main)


def test_a_hit_has_all_that_a_miss_has(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """This pins what `_fabricated` relies on, with which versions of aiohttp may be tried."""
    headers = [
        *FRESH.items(),
        ("Content-Type", "application/json; charset=utf-8"),
        ("Content-Disposition", 'attachment; filename="a.json"'),
        ("Link", '</next>; rel="next"'),
        ("X-Latin", "\xe9\xff"),
        ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ]
    url = origin.on("/p", Reply(headers=headers, body=b'{"a": [1]}', reason="Quite So"))

    async def facts(session: aiohttp.ClientSession) -> dict[str, object]:
        async with session.get(url + "?q=1#part", headers={"X-Mine": "1"}) as response:
            response.raise_for_status()
            own = {"age", "cache-status"}
            found = {
                "class": isinstance(response, ClientResponse),
                "head": (response.status, response.reason, response.version, response.ok),
                "urls": (response.url, response.real_url, response.method, response.host),
                "headers": sorted(
                    item for item in response.headers.items() if item[0].lower() not in own
                ),
                "raw": sorted(
                    item for item in response.raw_headers if item[0].lower().decode() not in own
                ),
                "type": (response.content_type, response.charset, response.content_length),
                "disposition": response.content_disposition,
                "links": str(response.links),
                "history": (response.history, dict(response.cookies)),
                "asked": (
                    response.request_info.url,
                    response.request_info.headers["X-Mine"],
                    response.request_info.real_url,
                ),
                "json": await response.json(),
                "again": await response.read(),
                "encoding": response.get_encoding(),
                "closed": response.closed,
                "repr": repr(response).splitlines()[0],
            }
        return found | {"connection": response.connection, "after": response.closed}

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            plain = await facts(session)
        async with session_with(cache, clock=clock) as session:
            for _ in range(2):
                assert await facts(session) == plain
        assert len(origin.received) == 2

    run(main)


def test_what_is_stored_is_what_was_sent(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """This pins how the parser is told to leave content codings on."""
    packed = gzip.compress(TEXT)
    url = origin.on("/", Document(packed, headers={"Content-Encoding": "gzip"}))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            async with session.get(url) as response:
                assert await response.read() == TEXT
            entry = cache.open(url)
            assert entry is not None
            with entry:
                assert entry.read() == packed
            async with session.get(url, headers={"Range": "bytes=10-19"}) as response:
                assert (response.status, ours(response).from_cache) == (206, True)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
        async with session_with(cache, clock=clock, auto_decompress=False) as session:
            response = await session.get(url)
            assert ours(response).from_cache
            assert await response.read() == packed

    run(main)


@pytest.mark.parametrize("kind", ["no gzip", "half of it"])
def test_a_coding_that_is_wrong_fails_as_without_a_cache(
    origin: Origin, cache: MemoryCache, clock: ManualClock, kind: str
) -> None:
    body = {"no gzip": TEXT, "half of it": zlib.compress(TEXT)[:500]}[kind]
    coding = {"no gzip": "gzip", "half of it": "deflate"}[kind]
    url = origin.on("/", Reply(headers=FRESH | {"Content-Encoding": coding}, body=body))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            for _ in range(3):
                async with session.get(url) as response:
                    for _ in range(2):
                        with pytest.raises(aiohttp.ClientPayloadError):
                            await response.content.read()

    run(main)


def test_the_options_of_a_session_stay(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """Making the parser anew must not undo them."""
    url = origin.on("/", Reply(headers=FRESH | {"X-Long": "x" * 20_000}))
    gate = origin.gate()

    def late(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"a"
            gate.wait(10)
            yield b"b"

        return Reply(headers=FRESH, body=body())

    slow = origin.on("/slow", late)

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            with pytest.raises(aiohttp.ClientResponseError):
                await session.get(url)
        async with session_with(cache, clock=clock, max_field_size=40_000) as session:
            response = await session.get(url)
            assert len(response.headers["X-Long"]) == 20_000
        async with session_with(cache, clock=clock) as session:
            short = aiohttp.ClientTimeout(sock_read=0.3)
            async with session.get(slow, timeout=short) as response:
                assert await response.content.readany() == b"a"
                with pytest.raises(aiohttp.SocketTimeoutError):
                    await response.content.readany()
                with pytest.raises(aiohttp.SocketTimeoutError):
                    await response.content.readany()
            async with session.get(slow, timeout=aiohttp.ClientTimeout(1)) as response:
                with pytest.raises(TimeoutError):
                    await response.read()
        gate.set()

    run(main)
    assert cache.open(slow) is None


def test_a_caller_has_no_more_patience_than_its_session(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """However long the policy would have it wait for another."""
    held = Held(origin, Reply(headers=FRESH))
    url = origin.on("/", held)
    policy = Policy(collapse_wait=600)
    hasty = aiohttp.ClientTimeout(10, sock_read=0.1)

    async def main() -> None:
        async with (
            session_with(cache, policy=policy, clock=clock) as session,
            session_with(cache, policy=policy, clock=clock, timeout=hasty) as other,
        ):
            first = asyncio.create_task(session.get(url))
            assert await asyncio.to_thread(held.asked.wait, 10)
            with pytest.raises(aiohttp.SocketTimeoutError):
                await other.get(url)
            held.let_go()
            assert (await first).status == 200

    run(main)


def test_a_session_may_have_a_class_of_responses(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    class Mine(ClientResponse):
        def shout(self) -> str:
            return f"{self.status}!"

    url = origin.on("/", Reply(headers=FRESH))

    async def main() -> None:
        async with session_with(cache, clock=clock, response_class=Mine) as session:
            for from_cache in (False, True):
                async with session.get(url) as response:
                    assert isinstance(response, Mine)
                    assert response.shout() == "200!"
                    assert ours(response).from_cache is from_cache

    run(main)


def test_redirects_and_cookies(origin: Origin, cache: MemoryCache, clock: ManualClock) -> None:
    moved = FRESH | {"Location": "/2", "Set-Cookie": "a=1; Path=/"}
    start = origin.on("/1", Reply(301, moved, b"moved"))
    origin.on("/2", Reply(headers=TAGGED, body=b"here"), Reply(304, {"Set-Cookie": "b=2"}))

    async def main() -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with session_with(cache, clock=clock, cookie_jar=jar) as session:
            for from_cache in (False, True):
                async with session.get(start) as response:
                    assert await response.read() == b"here"
                    hops = [ours(hop) for hop in (*response.history, response)]
                    assert [hop.status for hop in hops] == [301, 200]
                    assert [hop.from_cache for hop in hops] == [from_cache] * 2
                    assert hops[0].headers.getall("Set-Cookie") == ["a=1; Path=/"]
                assert len(jar) == (not from_cache)
                jar.clear()
            clock.advance(61)
            async with session.get(origin.url("/2")) as response:
                assert ours(response).cache.outcome is Outcome.REVALIDATED
                assert dict(response.cookies).keys() == {"b"}
            assert len(jar) == 1

    run(main)
    assert len(origin.received) == 3


def test_other_middlewares_stay_in_the_chain(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    seen = []

    async def signing(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> ClientResponse:
        seen.append(request.headers.get("If-None-Match"))
        request.headers["X-Signed"] = "yes"
        return await handler(request)

    url = origin.on("/", Reply(headers=TAGGED), Reply(304))

    async def main() -> None:
        async with (
            CacheMiddleware(cache, clock=clock) as caching,
            aiohttp.ClientSession(middlewares=[caching, signing]) as session,
        ):
            for _ in range(3):
                async with session.get(url) as response:
                    assert "If-None-Match" not in response.request_info.headers
                clock.advance(61)

    run(main)
    assert seen == [None, '"1"', '"1"']
    assert {asked.header("X-Signed") for asked in origin.received} == {"yes"}


def test_an_answer_of_a_middlewares_own_is_not_stored(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """aiohttp has decoded it before we get to see it."""
    packed = Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=gzip.compress(TEXT))
    url = origin.on("/other", packed)

    async def main() -> None:
        async with aiohttp.ClientSession() as another:

            async def answering(
                request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
            ) -> ClientResponse:
                return await another.get(url)

            async with (
                CacheMiddleware(cache, clock=clock) as caching,
                aiohttp.ClientSession(middlewares=[caching, answering]) as session,
            ):
                for _ in range(2):
                    async with session.get(origin.url("/")) as response:
                        assert await response.read() == TEXT
                        assert vars(response)["from_cache"] is False
                        assert not vars(response)["cache"].stored

    run(main)
    assert len(origin.received) == 2


def test_an_upgrade_is_let_through(cache: MemoryCache, clock: ManualClock, origin: Origin) -> None:
    url = origin.on("/", Reply(200, FRESH))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(url)

    run(main)
    assert list(cache.entries()) == []


def test_content_that_a_rule_makes_a_part_of_the_key(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    url = origin.on("/graphql", lambda request: Reply(headers=FRESH, body=request.body))
    policy = Policy(rules=(Rule(url="*/graphql", key_with_content=True, fresh_for=60),))

    async def main() -> None:
        async with session_with(cache, clock=clock, policy=policy) as session:
            for from_cache in (False, True):
                for question in ({"json": {"a": 1}}, {"data": b"b"}, {"data": {"c": "d"}}):
                    async with session.post(url, **question) as response:
                        assert await response.read()
                        assert ours(response).from_cache is from_cache

    run(main)
    assert len(origin.received) == 3


# Which cache, and whose.


def test_without_a_cache_it_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "mine"))

    async def main() -> BaseCache:
        async with CacheMiddleware() as middleware:
            mine = middleware.cache
            assert isinstance(mine, SQLiteCache)
            assert Path(mine.directory).is_relative_to(tmp_path / "mine")
        return mine

    with pytest.raises(CacheClosed):
        run(main).get("key")
    with pytest.raises(ConfigError):
        CacheMiddleware("nonsense")


def test_an_identity_keeps_users_apart_and_is_never_sent(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=TAGGED, body=b"body"))

    async def main() -> list[bool]:
        found = []
        for identity in ("alice", "alice", "bob", None):
            middleware = CacheMiddleware(cache, clock=clock, identity=identity)
            async with aiohttp.ClientSession(middlewares=[middleware]) as session:
                response = await session.get(url)
                await response.read()
                found.append(ours(response).from_cache)
        return found

    assert run(main) == [False, True, False, False]
    assert {asked.header("Authorization") for asked in origin.received} == {None}


@pytest.mark.parametrize("by", ["request", "connector", "context"])
def test_what_nobody_has_verified_goes_by_the_cache(
    tls_origin: Origin, tls: Path, cache: MemoryCache, clock: ManualClock, by: str
) -> None:
    url = tls_origin.on(
        "/",
        Reply(headers=TAGGED, body=b"secure"),
        lambda request: Reply(304 if request.header("If-None-Match") else 200, TAGGED, b"forged"),
    )
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    trusting = ssl.create_default_context(cafile=str(tls))

    async def main() -> None:
        async with (
            session_with(cache, clock=clock) as session,
            session.get(url, ssl=trusting) as response,
        ):
            assert await response.read() == b"secure"
        clock.advance(61)
        connector = aiohttp.TCPConnector(ssl=False) if by == "connector" else None
        options: dict[str, Any] = {"request": {"ssl": False}, "context": {"ssl": careless}}
        async with session_with(cache, clock=clock, connector=connector) as session:
            for _ in range(2):
                async with session.get(url, **options.get(by, {})) as response:
                    assert ours(response).cache.why.reason is Reason.UNVERIFIED
                    assert await response.read() == b"forged"
        async with session_with(cache, clock=clock) as session:
            asked = {"Cache-Control": "only-if-cached, max-stale"}
            response = await session.get(url, headers=asked, ssl=trusting)
            assert await response.read() == b"secure"

    run(main)


def test_a_certificate_that_fails_is_no_reason_for_what_is_stored(
    tls_origin: Origin, tls: Path, cache: MemoryCache, clock: ManualClock
) -> None:
    headers = {"Cache-Control": "max-age=60, stale-if-error=3600", "ETag": '"1"'}
    url = tls_origin.on("/", Reply(headers=headers, body=b"hello"))
    trusting = ssl.create_default_context(cafile=str(tls))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            response = await session.get(url, ssl=trusting)
            await response.read()
        clock.advance(61)
        async with session_with(cache, clock=clock) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)

    run(main)


# Leaving early.


# Of a response that nobody closes aiohttp says so itself.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. .function Connection.__del__"
    ":pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("end", ["block", "close", "release", "forgotten", "session"])
def test_a_body_left_unread_leaves_nothing(
    origin: Origin, tmp_path: Path, clock: ManualClock, end: str
) -> None:
    gate = origin.gate()
    told: list[Event] = []

    def answer(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield LONG
            gate.wait(10)
            yield b"x"

        return Reply(headers=FRESH, body=body())

    url = origin.on("/", answer)

    async def main() -> None:
        with SeparateBodyFileCache(tmp_path / "cache", clock=clock) as cache:
            async with session_with(cache, clock=clock, hook=told.append) as session:
                response = await session.get(url)
                assert await response.content.read(100)
                if end == "block":
                    async with response:
                        pass
                elif end == "close":
                    response.close()
                elif end == "release":
                    response.release()
                elif end == "forgotten":
                    del response
                gate.set()
            if end == "session":
                response.close()
            # Until its connection is closed aiohttp keeps a response that nobody else does.
            gc.collect()
            assert list(cache.entries()) == []
        files = [path for path in (tmp_path / "cache").rglob("*/*") if path.is_file()]
        assert files == []

    asyncio.run(main())
    kinds = [type(event) for event in told if isinstance(event, Stored | NotStored)]
    assert kinds == [NotStored]


def test_a_read_that_timed_out_may_be_gone_on_with(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """As without a cache: the wait was cancelled, not the body."""
    gate = origin.gate()

    def answer(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"first"
            gate.wait(10)
            yield b"second"

        return Reply(headers=FRESH, body=body())

    url = origin.on("/", answer)

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            response = await session.get(url)
            async with response:
                assert await response.content.readany() == b"first"
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(response.content.readany(), 0.02)
                gate.set()
                assert await response.content.read() == b"second"
            async with session.get(url) as response:
                assert ours(response).from_cache
                assert await response.read() == b"firstsecond"

    run(main)


def test_what_came_before_a_connection_broke_is_not_lost(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """This pins how what aiohttp has in hand then is taken from it."""
    document = Document(LONG, cuts=[50_000])
    url = origin.on("/", document)

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            response = ours(await session.get(url))
            assert response.connection is not None
            protocol = response.connection.protocol
            assert protocol is not None
            async with asyncio.timeout(10):
                while protocol.connected:  # noqa: ASYNC110 - nothing tells of its end
                    await asyncio.sleep(0)
            assert await response.content.read(50_000) == LONG[:50_000]
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read(1)
            response.close()
            assert await (await session.get(url)).read() == LONG

    run(main)
    assert document.sent == [(200, len(LONG)), (206, len(LONG) - 50_000)]


@pytest.mark.parametrize("stale", [False, True])
def test_cancelled_at_any_suspension_nothing_is_left(
    origin: Origin, clock: ManualClock, tmp_path: Path, stale: bool
) -> None:
    url = origin.on("/", Document(bytes(5000)))

    async def main() -> None:
        finished, number = False, 0
        while not finished:
            with SeparateBodyFileCache(tmp_path / str(number), clock=clock) as cache:
                async with session_with(cache, clock=clock) as session:
                    if stale:
                        await ask(session)
                        clock.advance(61)
                    at = CancelledAt(ask(session), number)
                    await asyncio.wait([asyncio.create_task(at.run())])
                    finished = at.ended
                    connector = session.connector
                    assert connector is not None
                    # None is still in use.
                    assert not connector._acquired  # noqa: SLF001 - nothing public tells
                    assert await ask(session) == bytes(5000)
                    assert len(list(cache.entries())) == 1
            number += 1
        assert number > 1

    async def ask(session: aiohttp.ClientSession) -> bytes:
        async with session.get(url) as response:
            return await response.read()

    asyncio.run(main())


class CancelledAt:
    """A coroutine that is cancelled where it suspends for the nth time, the first being 0."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], number: int) -> None:
        self._coroutine = coroutine
        self._number = number
        self.ended = False

    async def run(self) -> None:
        await self
        self.ended = True

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        number = 0
        with suppress(StopIteration):
            waited_for = self._coroutine.send(None)
            while True:
                if number == self._number:
                    task.cancel()
                number += 1
                try:
                    yield waited_for
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                    waited_for = self._coroutine.throw(error)
                else:
                    waited_for = self._coroutine.send(None)


def test_a_refresh_under_way_is_dropped_at_close(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    gate, asked = origin.gate(), threading.Event()
    told: list[Event] = []

    def held(_: Received) -> Reply:
        asked.set()
        gate.wait(10)
        return Reply(headers=FRESH)

    url = origin.on("/", Document(b"old"), held)

    async def main() -> None:
        policy = Policy(stale_while_revalidate=60)
        middleware = CacheMiddleware(cache, policy=policy, clock=clock, hook=told.append)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            response = await session.get(url)
            await response.read()
            clock.advance(70)
            response = await session.get(url)
            assert await response.read() == b"old"
            assert await asyncio.to_thread(asked.wait, 10)
            await middleware.close()

    run(main)
    gate.set()
    assert not [event for event in told if isinstance(event, RefreshFailed)]


def test_what_got_credentials_behind_the_cache_is_nobody_elses(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    def whose(request: Received) -> Reply:
        return Reply(headers=FRESH, body=(request.header("Authorization") or "nobody").encode())

    url = origin.on("/", whose)

    async def signing(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> ClientResponse:
        request.headers["Authorization"] = "Bearer s3cret"
        return await handler(request)

    async def main() -> None:
        async with (
            CacheMiddleware(cache, clock=clock) as caching,
            aiohttp.ClientSession(middlewares=[caching, signing]) as alice,
            aiohttp.ClientSession(middlewares=[caching]) as nobody,
        ):
            for _ in range(2):
                async with alice.get(url) as response:
                    assert await response.read() == b"Bearer s3cret"
                    assert ours(response).cache.why.reason is Reason.UNSEEN
            async with nobody.get(url) as response:
                assert await response.read() == b"nobody"
                assert ours(response).cache.outcome is Outcome.MISS
            async with nobody.get(url) as response:
                assert ours(response).from_cache

    run(main)
    assert len(origin.received) == 3


def test_who_reads_hears_that_it_was_closed(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    gate = origin.gate()

    def endless(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"a"
            gate.wait(10)

        return Reply(headers=FRESH, body=body())

    url = origin.on("/", endless)

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            response = await session.get(url)
            assert await response.content.readany() == b"a"
            reading = asyncio.ensure_future(response.content.readany())
            await asyncio.sleep(0)
            response.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await asyncio.wait_for(reading, 10)
        gate.set()

    run(main)


def test_a_refresh_takes_no_longer_than_a_request(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    gate = origin.gate()
    told: list[Event] = []

    def held(_: Received) -> Reply:
        gate.wait(10)
        return Reply(headers=FRESH)

    url = origin.on("/", Document(b"old"), held)

    async def main() -> None:
        policy = Policy(stale_while_revalidate=60)
        middleware = CacheMiddleware(cache, policy=policy, clock=clock, hook=told.append)
        timeout = aiohttp.ClientTimeout(1)
        async with (
            middleware,
            aiohttp.ClientSession(middlewares=[middleware], timeout=timeout) as session,
        ):
            async with session.get(url) as response:
                await response.read()
            clock.advance(70)
            async with session.get(url) as response:
                assert await response.read() == b"old"
            await asyncio.wait_for(middleware.settle(), 10)
        gate.set()

    run(main)
    failures = [event.error for event in told if isinstance(event, RefreshFailed)]
    assert [isinstance(error, TimeoutError) for error in failures] == [True]


def test_a_coding_that_nothing_takes_off_fails_as_without_a_cache(
    origin: Origin, cache: MemoryCache, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp.http_parser.HAS_BROTLI", False)
    url = origin.on("/", Reply(headers=FRESH | {"Content-Encoding": "br"}, body=b"\x0b\x02\x80hi"))

    async def main() -> None:
        async with aiohttp.ClientSession() as plain, session_with(cache, clock=clock) as session:
            for each in (plain, session, session):
                with pytest.raises(aiohttp.ClientResponseError) as caught:
                    async with each.get(url) as response:
                        await response.read()
                assert caught.value.status == 400

    run(main)


@pytest.mark.parametrize("way", ["breaks off", "stalls"])
def test_a_redirect_is_followed_whatever_its_body_does(
    origin: Origin, cache: MemoryCache, clock: ManualClock, way: str
) -> None:
    gate = origin.gate()

    def stalled(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"moved"
            gate.wait(10)

        return Reply(302, FRESH | {"Location": "/2"}, body())

    broken = Reply(302, FRESH | {"Location": "/2"}, LONG, cut_after=1000)
    url = origin.on("/1", broken if way == "breaks off" else stalled)
    origin.on("/2", Reply(headers=FRESH, body=b"here"))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session, session.get(url) as response:
            assert await response.read() == b"here"
        gate.set()

    run(main)


def test_chunks_end_where_they_were_sent_if_nothing_is_stored(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers={"Cache-Control": "no-store"}, body=[b"one", b"two"]))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session, session.get(url) as response:
            got = [chunk async for chunk in response.content.iter_chunks()]
            assert [chunk for chunk in got if chunk[0]] == [(b"one", True), (b"two", True)]

    run(main)


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GET", Reply(204, FRESH)),
        ("GET", Reply(304, FRESH)),
        ("HEAD", Reply(200, FRESH, b"hello")),
        ("DELETE", Reply(204)),
    ],
    ids=str,
)
def test_an_empty_body_may_be_read_at_any_time(
    origin: Origin, cache: MemoryCache, clock: ManualClock, method: str, reply: Reply
) -> None:
    url = origin.on("/", reply)

    async def main() -> None:
        async with aiohttp.ClientSession() as plain, session_with(cache, clock=clock) as session:
            for each in (plain, session, session):
                async with each.request(method, url) as response:
                    pass
                assert await response.read() == b""
                assert await response.text() == ""

    run(main)


def test_a_connection_that_was_idle_too_long_is_no_failure(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """As a session sees it, which asks again."""
    may_fail = FRESH | {"Cache-Control": "max-age=60, stale-if-error=600"}
    url = origin.on("/", Reply(headers=may_fail, body=b"old"))

    async def main() -> None:
        async with session_with(cache, clock=clock) as session:
            async with session.get(url) as response:
                assert await response.read() == b"old"
            clock.advance(70)
            origin.on("/", Raw(), Reply(headers=may_fail, body=b"new"))
            async with session.get(url) as response:
                assert await response.read() == b"new"

    run(main)
    assert len(origin.received) == 3


def test_a_middleware_closed_under_a_request_breaks_nothing(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    held = Held(origin, Reply(headers=FRESH, body=LONG))
    url = origin.on("/", held)

    async def main() -> None:
        middleware = CacheMiddleware(tmp_path / "cache", clock=clock)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            asking = asyncio.ensure_future(session.get(url))
            assert await asyncio.to_thread(held.asked.wait, 10)
            await middleware.close()
            held.let_go()
            async with await asking as response:
                assert await response.read() == LONG
        await middleware.close()

    run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_threads_for_a_cache_are_a_childs_own(tmp_path: Path, clock: ManualClock) -> None:
    with SQLiteCache(tmp_path / "cache", clock=clock) as cache:
        side = AsyncCacheSide(cache, offload=True)
        assert side.executor.submit(os.getpid).result(10) == os.getpid()
        child = os.fork()
        if child == 0:
            done = False
            with suppress(BaseException):
                done = side.executor.submit(os.getpid).result(10) == os.getpid()
            os._exit(0 if done else 1)
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(side.close())


def test_a_long_stored_body_that_is_damaged(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))

    async def main() -> None:
        with SeparateBodyFileCache(tmp_path / "cache", clock=clock) as cache:
            async with session_with(cache, clock=clock) as session:
                async with session.get(url) as response:
                    await response.read()
                (body,) = (tmp_path / "cache").rglob("*.body")
                body.write_bytes(LONG[:-1] + b"\x00")
                async with session.get(url) as response:
                    with pytest.raises(StoredBodyLost):
                        await response.read()
                async with session.get(url) as response:
                    assert await response.read() == LONG
                    assert hdrs.AGE not in response.headers

    run(main)


def test_a_short_stored_body_that_cannot_be_read(origin: Origin, clock: ManualClock) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"hello"))
    lost = Fault(Operation.READ, BodyLost, nth=1)

    async def main() -> None:
        with FaultyCache(MemoryCache(clock=clock), [lost]) as cache:
            async with session_with(cache, clock=clock) as session:
                async with session.get(url) as response:
                    await response.read()
                async with session.get(url) as response:
                    assert response.status == 200
                    with pytest.raises(StoredBodyLost) as caught:
                        await response.read()
                assert isinstance(caught.value.__cause__, BodyLost)
                async with session.get(url) as response:
                    assert await response.read() == b"hello"
                    assert hdrs.AGE not in response.headers

    run(main)
