"""httpx and httpx2, blocking and async: the common behaviours, and what is particular to them."""

from __future__ import annotations

import gc
import gzip
import pickle
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import httpx2
import pytest

import stillfresh.clients.httpx
import stillfresh.clients.httpx2
from stillfresh import (
    BaseCache,
    BodyLost,
    CacheClosed,
    ConfigError,
    MemoryCache,
    Outcome,
    Policy,
    Reason,
    SeparateBodyFileCache,
)
from stillfresh.events import Event, Hook, NotStored, RefreshFailed, Stored
from stillfresh.testing import ManualClock
from tests.clients.behaviours import (
    ClientBehaviours,
    Driver,
    FlowBehaviours,
    OneThread,
)
from tests.clients.behaviours.stale import Held
from tests.clients.httpx_driver import AsyncHttpxDriver, HttpxDriver
from tests.clients.waiting import slowly
from tests.origin import Document, Origin, Raw, Received, Reply

# Made once: what it loads takes longer than most of the tests.
TLS = ssl.create_default_context()
FRESH = {"Cache-Control": "max-age=60"}
TAGGED = FRESH | {"ETag": '"1"'}
LONG = bytes(range(256)) * 6000


def make_client(
    self: Any,
    cache: BaseCache,
    *,
    policy: Policy | None,
    hook: Hook,
    clock: Callable[[], float],
) -> Driver:
    client = self.clients.CachedClient(
        cache, policy=policy, hook=hook, clock=clock, trust_env=False, verify=TLS
    )
    return HttpxDriver(self.library, client)


def make_async_client(
    self: Any,
    cache: BaseCache,
    *,
    policy: Policy | None,
    hook: Hook,
    clock: Callable[[], float],
) -> Driver:
    client = self.clients.AsyncCachedClient(
        cache,
        offload=getattr(self, "offload", False),
        policy=policy,
        hook=hook,
        clock=clock,
        trust_env=False,
        verify=TLS,
    )
    return AsyncHttpxDriver(self.library, client, self.loop)


class TestHttpx(ClientBehaviours, OneThread):
    sampled = True
    driver = HttpxDriver
    library = httpx
    clients = stillfresh.clients.httpx
    make_client = make_client

    def test_it_goes_without_waiting_for_the_collector(
        self, origin: Origin, client: Driver
    ) -> None:
        if self.library is httpx:
            pytest.skip("httpx's responses and streams keep each other, with a cache or without")
        super().test_it_goes_without_waiting_for_the_collector(origin, client)


@pytest.mark.one_in(4)
class TestHttpx2(TestHttpx):
    library = httpx2
    clients = stillfresh.clients.httpx2


@pytest.mark.one_in(4)
class TestAsyncio(FlowBehaviours):
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx
    clients = stillfresh.clients.httpx
    loop = "asyncio"
    make_client = make_async_client


@pytest.mark.one_in(4)
class TestAsyncio2(ClientBehaviours):
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx2
    clients = stillfresh.clients.httpx2
    loop = "asyncio"
    make_client = make_async_client


# The libraries leave generators of theirs to the garbage collector where a body isn't read to its
# end, which trio tells. None of them is the cache's.
THEIRS = (
    "ignore:Exception ignored in. .async_generator object {}"
    ":pytest.PytestUnraisableExceptionWarning"
)
OF_HTTPX = (
    "AsyncHTTP11Connection",
    "AsyncResponseStream",
    "BoundAsyncStream",
    "HTTP11ConnectionByteStream",
    "PoolByteStream",
    "Response",
)


@pytest.mark.filterwarnings(*map(THEIRS.format, OF_HTTPX))
@pytest.mark.one_in(4)
class TestTrio(FlowBehaviours):
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx
    clients = stillfresh.clients.httpx
    loop = "trio"
    make_client = make_async_client


@pytest.mark.filterwarnings(THEIRS.format("PoolByteStream"))
@pytest.mark.one_in(4)
class TestTrio2(TestAsyncio2):
    loop = "trio"


class TestOffloaded(FlowBehaviours):
    """With a cache that is called in threads."""

    offload = True
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx2
    clients = stillfresh.clients.httpx2
    loop = "asyncio"
    make_client = make_async_client


class TestOnFiles(FlowBehaviours):
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx2
    clients = stillfresh.clients.httpx2
    loop = "asyncio"
    make_client = make_async_client

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        return SeparateBodyFileCache(place, clock=clock)


@pytest.fixture(
    params=[(httpx, stillfresh.clients.httpx), (httpx2, stillfresh.clients.httpx2)],
    ids=["httpx", "httpx2"],
)
def both(request: pytest.FixtureRequest) -> tuple[ModuleType, ModuleType]:
    """Each library with our client for it."""
    pair: tuple[ModuleType, ModuleType] = request.param
    return pair


@pytest.fixture
def library(both: tuple[ModuleType, ModuleType]) -> Any:
    return both[0]


@pytest.fixture
def ours(both: tuple[ModuleType, ModuleType]) -> Any:
    return both[1]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Iterator[MemoryCache]:
    with MemoryCache(clock=clock) as cache:
        yield cache


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def client(ours: Any, cache: MemoryCache, clock: ManualClock, told: list[Event]) -> Iterator[Any]:
    with ours.CachedClient(
        cache, clock=clock, hook=told.append, trust_env=False, verify=TLS
    ) as client:
        yield client


# What the libraries give.


def test_redirects_come_from_the_cache_with_their_history(origin: Origin, client: Any) -> None:
    start = origin.on("/1", Reply(301, FRESH | {"Location": "/2"}, b"moved"))
    end = origin.on("/2", Reply(headers=FRESH, body=b"here"))
    for from_cache in (False, True):
        response = client.get(start, follow_redirects=True)
        assert (str(response.url), response.content) == (end, b"here")
        assert [hop.status_code for hop in response.history] == [301]
        for hop in (*response.history, response):
            assert hop.extensions["cache"].from_cache is from_cache
    assert len(origin.received) == 2


def test_cookies_are_heard_once(origin: Origin, client: Any, clock: ManualClock) -> None:
    cookies = [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")]
    url = origin.on(
        "/", Reply(headers=[*TAGGED.items(), *cookies]), Reply(304, {"Set-Cookie": "a=3; Path=/"})
    )
    assert dict(client.get(url).cookies) == {"a": "1", "b": "2"}
    client.cookies.clear()
    client.cookies.set("a", "of a later page", domain="127.0.0.1")
    hit = client.get(url)
    assert hit.extensions["cache"].from_cache
    assert dict(hit.cookies) == {}
    assert dict(client.cookies) == {"a": "of a later page"}
    client.cookies.clear()
    clock.advance(61)
    revalidated = client.get(url)
    assert revalidated.extensions["cache"].outcome is Outcome.REVALIDATED
    assert dict(revalidated.cookies) == dict(client.cookies) == {"a": "3"}
    assert dict(client.get(url).cookies) == {}


def test_a_hit_has_all_that_a_miss_has(origin: Origin, client: Any) -> None:
    packed = gzip.compress(b'{"a": 1}' * 1000)
    headers = FRESH | {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=latin-1"}
    url = origin.on("/", Reply(headers=headers, body=packed, reason="Quite So"))
    seen = []
    for _ in range(2):
        response = client.get(url)
        own = {"age", "cache-status", "date"}
        seen.append(
            (
                response.status_code,
                response.reason_phrase,
                response.http_version,
                response.encoding,
                response.text,
                response.num_bytes_downloaded,
                response.is_success,
                response.is_closed,
                response.elapsed >= response.elapsed.min,
                str(response.request.url),
                sorted(
                    line for line in response.headers.raw if line[0].decode().lower() not in own
                ),
            )
        )
        with client.stream("GET", url) as streamed:
            assert b"".join(streamed.iter_raw()) == packed
    assert seen[0] == seen[1]
    assert seen[0][1:3] == ("Quite So", "HTTP/1.1")


def test_a_caller_may_change_the_headers_that_it_gets(origin: Origin, client: Any) -> None:
    url = origin.on("/", Reply(headers=FRESH | {"X-Site": "caf\xe9"}, body=b"hello"))
    client.get(url)
    given = client.get(url).headers
    before = given.multi_items(), given.encoding
    given["X-Site"] = given["X-Mine"] = "changed"
    del given["Content-Length"]
    after = client.get(url).headers
    assert (after.multi_items(), after.encoding) == before


def test_a_response_survives_pickling(origin: Origin, client: Any) -> None:
    """Without its extensions, which the libraries leave out."""
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(client.get(url)))  # noqa: S301 - our own
        assert (copy.content, copy.status_code, str(copy.url)) == (b"body", 200, url)
        assert "Cache-Status" in copy.headers


def test_a_request_is_left_as_it_was(origin: Origin, client: Any, clock: ManualClock) -> None:
    url = origin.on("/", Reply(headers=TAGGED), Reply(304))
    request = client.build_request("GET", url, headers={"X-Mine": "1"})
    headers = request.headers.raw
    for _ in range(3):
        assert client.send(request).request is request
        assert request.headers.raw == headers
        clock.advance(61)
    assert [got.header("If-None-Match") for got in origin.received] == [None, '"1"', '"1"']


def test_timeouts_and_errors_are_the_librarys(
    origin: Origin, client: Any, library: Any, clock: ManualClock
) -> None:
    gate = origin.gate()

    def late(_: Received) -> Reply:
        gate.wait(10)
        return Reply()

    url = origin.on("/late", late)
    with pytest.raises(library.ReadTimeout) as caught:
        client.get(url, timeout=0.05)
    assert str(caught.value.request.url) == url
    for wrong in ("gopher://host/", "no-scheme", "http:///path"):
        with pytest.raises((library.UnsupportedProtocol, library.LocalProtocolError)):
            client.get(wrong)


def test_the_caller_speaks_to_the_cache_in_http(origin: Origin, client: Any) -> None:
    url = origin.on("/", Reply(headers=FRESH))
    refused = client.get(url, headers={"Cache-Control": "only-if-cached"})
    assert refused.status_code == 504
    with pytest.raises(Exception, match="504"):
        refused.raise_for_status()


def test_a_stored_body_that_is_damaged(
    origin: Origin, ours: Any, library: Any, tmp_path: Path
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    with (
        SeparateBodyFileCache(tmp_path / "cache") as cache,
        ours.CachedClient(cache, trust_env=False, verify=TLS) as client,
    ):
        client.get(url)
        (body,) = (tmp_path / "cache").rglob("*.body")
        body.write_bytes(LONG[:-1] + b"\x00")
        with client.stream("GET", url) as response, pytest.raises(ours.StoredBodyLost) as caught:
            response.read()
        assert isinstance(caught.value, BodyLost)
        assert isinstance(caught.value, library.ReadError)
        assert str(caught.value.request.url) == url
        assert client.get(url).content == LONG


# Which cache, and whose.


def test_without_a_cache_it_is_the_platforms(
    ours: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "mine"))
    with ours.CachedClient(verify=TLS) as client:
        assert Path(client.cache.directory).is_relative_to(tmp_path / "mine")
        mine = client.cache
    with pytest.raises(CacheClosed):
        mine.get("key")
    with pytest.raises(ConfigError):
        ours.CacheTransport(None, "nonsense")


def test_a_cache_of_the_callers_stays_open(ours: Any, cache: MemoryCache) -> None:
    with ours.CachedClient(cache, verify=TLS), ours.CacheTransport(None, cache) as transport:
        assert transport.cache is cache
    cache.set("key", b"value")


def test_a_proxy_is_gone_through_behind_the_cache(
    origin: Origin, ours: Any, cache: MemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.on("/page", Reply(headers=FRESH, body=b"by proxy"))
    with ours.CachedClient(cache, verify=TLS, trust_env=False, proxy=origin.url("")) as client:
        got = [client.get("http://far.invalid/page").extensions["cache"] for _ in range(2)]
        assert [info.from_cache for info in got] == [False, True]
    monkeypatch.setenv("HTTP_PROXY", origin.url(""))
    with ours.CachedClient(cache, verify=TLS) as client:
        assert client.get("http://far.invalid/page").extensions["cache"].from_cache
    assert [asked.target for asked in origin.received] == ["http://far.invalid/page"]


# Any transport.


def test_any_transport_may_be_inside(library: Any, ours: Any, cache: MemoryCache) -> None:
    asked = []

    def answer(request: Any) -> Any:
        asked.append(request)
        return library.Response(200, headers=FRESH, content=b"made up")

    transport = ours.CacheTransport(library.MockTransport(answer), cache)
    with library.Client(transport=transport) as client:
        for _ in range(3):
            assert client.get("http://a.invalid/").content == b"made up"
    assert len(asked) == 1


def test_what_a_transport_has_read_itself_is_not_stored(
    origin: Origin, library: Any, ours: Any, cache: MemoryCache
) -> None:
    """It has decoded it, and the bytes that came are gone."""

    class Reading(library.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            response.read()
            return response

    packed = Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=gzip.compress(b"body"))
    url = origin.on("/", packed)
    with library.Client(transport=ours.CacheTransport(Reading(verify=TLS), cache)) as client:
        for _ in range(2):
            response = client.get(url)
            assert response.content == b"body"
            assert not response.extensions["cache"].stored
            assert "Cache-Status" in response.headers
    assert len(origin.received) == 2


def test_a_transport_inside_is_entered_and_left(
    library: Any, ours: Any, cache: MemoryCache
) -> None:
    called = []

    class Inside(library.BaseTransport):  # type: ignore[misc]
        def __enter__(self) -> Any:
            called.append("enter")
            return self

        def close(self) -> None:
            called.append("close")

    with library.Client(transport=ours.CacheTransport(Inside(), cache)):
        assert called == ["enter"]
    assert called == ["enter", "close"]


def test_an_upgrade_is_let_through(origin: Origin, client: Any) -> None:
    """What is stored of a page is no answer to who wants a connection."""
    url = origin.on("/", Reply(headers=FRESH, body=b"a page"))
    client.get(url)
    asked = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert "cache" not in client.get(url, headers=asked).extensions
    assert len(origin.received) == 2


def test_what_its_url_does_not_say_is_let_through(origin: Origin, client: Any) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"a page"))
    origin.on("/odd", Reply(headers=FRESH, body=b"odd"))
    client.get(url)
    for _ in range(2):
        assert client.get(url, extensions={"target": b"/odd"}).content == b"odd"
    assert client.get(url).content == b"a page"
    assert [asked.target for asked in origin.received] == ["/", "/odd", "/odd"]


def test_a_caller_has_no_more_patience_than_it_says(
    origin: Origin, ours: Any, library: Any, cache: MemoryCache, clock: ManualClock
) -> None:
    """However long the policy would have it wait for another."""
    held = Held(origin, Reply(headers=FRESH))
    url = origin.on("/", held)
    policy = Policy(collapse_wait=600)
    with (
        ours.CachedClient(cache, clock=clock, policy=policy, verify=TLS) as client,
        ThreadPoolExecutor(1) as another,
    ):
        first = another.submit(client.get, url, timeout=10)
        assert held.asked.wait(10)
        with pytest.raises(library.ReadTimeout):
            client.get(url, timeout=0.1)
        held.let_go()
        assert first.result(10).status_code == 200


def test_a_refresh_that_begins_too_late_opens_nothing_again(
    origin: Origin, ours: Any, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()
    slowly(late, monkeypatch)
    url = origin.on("/", Reply(headers=FRESH))
    policy = Policy(stale_while_revalidate=60)
    client = ours.CachedClient(tmp_path / "cache", clock=clock, policy=policy, verify=TLS)
    client.get(url)
    clock.advance(70)
    assert client.get(url).extensions["cache"].outcome is Outcome.HIT
    client.close()
    late.set()
    assert client.settle(10)
    assert len(origin.received) == 1


def test_an_identity_keeps_users_apart_and_is_never_sent(
    origin: Origin, ours: Any, library: Any, cache: MemoryCache, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=TAGGED, body=b"body"), Reply(304))

    def outcomes(identity: str | None) -> list[Outcome]:
        transport = ours.CacheTransport(
            library.HTTPTransport(verify=TLS), cache, clock=clock, identity=identity
        )
        with library.Client(transport=transport) as client:
            return [client.get(url).extensions["cache"].outcome for _ in range(2)]

    assert outcomes("alice") == [Outcome.MISS, Outcome.HIT]
    assert outcomes("alice") == [Outcome.HIT, Outcome.HIT]
    clock.advance(61)
    assert outcomes("alice") == [Outcome.REVALIDATED, Outcome.HIT]
    origin.on("/", Reply(headers=TAGGED, body=b"another"))
    assert outcomes("bob") == [Outcome.MISS, Outcome.HIT]
    assert outcomes(None) == [Outcome.MISS, Outcome.HIT]
    assert {asked.header("Authorization") for asked in origin.received} == {None}


# Leaving early.


def test_a_response_that_is_forgotten_leaves_nothing(
    origin: Origin, client: Any, told: list[Event]
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    response = client.send(client.build_request("GET", url), stream=True)
    next(response.iter_bytes())
    del response
    gc.collect()
    kinds = [type(event) for event in told if isinstance(event, Stored | NotStored)]
    assert kinds == [NotStored]


class Steps:
    """An async transport that gives way before each thing it does, and tells what is open."""

    def __init__(self, library: Any, body: bytes) -> None:
        self.library = library
        self.open = 0
        self.asked: list[Any] = []
        self.body = body
        outer = self

        class Stream(library.AsyncByteStream):  # type: ignore[misc]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                for at in range(0, len(outer.body), 1000):
                    await anyio.lowlevel.checkpoint()
                    yield outer.body[at : at + 1000]

            async def aclose(self) -> None:
                outer.open -= 1
                await anyio.lowlevel.checkpoint()

        class Transport(library.AsyncBaseTransport):  # type: ignore[misc]
            async def handle_async_request(self, request: Any) -> Any:
                await anyio.lowlevel.checkpoint()
                outer.asked.append(request)
                outer.open += 1
                if request.headers.get("If-None-Match"):
                    return library.Response(304, headers=TAGGED, stream=Stream())
                headers = FRESH | {"Content-Length": str(len(body))}
                return library.Response(200, headers=headers, stream=Stream())

        self.transport = Transport()


def assert_nothing_lies_about(cache: SeparateBodyFileCache) -> None:
    """See that there is an entry and no more: neither a half one nor a temporary file."""
    assert len(list(cache.entries())) == 1
    files = [path for path in Path(cache.directory).rglob("*/*/*/*/*/*") if path.is_file()]
    assert len(files) == len(list(cache.entries()))


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.filterwarnings(THEIRS.format("(Steps|Response|BoundAsyncStream)"))
def test_cancelled_at_any_suspension_nothing_is_left(
    library: Any, ours: Any, clock: ManualClock, tmp_path: Path, loop: str, stale: bool
) -> None:
    steps = Steps(library, bytes(5000))
    url = "http://a.invalid/"

    async def main() -> None:
        finished = False
        turns = 0
        while not finished:
            with SeparateBodyFileCache(tmp_path / str(turns), clock=clock) as cache:
                transport = ours.AsyncCacheTransport(steps.transport, cache, clock=clock)
                async with library.AsyncClient(transport=transport) as client:
                    finished = await cancelled_after(turns, client)
                    assert steps.open == 0
                    # What is there is the whole of it, or nothing.
                    response = await client.get(url)
                    assert response.content == steps.body
                    assert_nothing_lies_about(cache)
            turns += 1
        assert turns > 5

    async def cancelled_after(turns: int, client: Any) -> bool:
        """Cancel a request after it has given way so many times; tell whether that was too late."""
        if stale:
            await client.get(url)
            clock.advance(61)
        done = False

        async def ask(scope: anyio.CancelScope) -> None:
            nonlocal done
            with scope:
                await client.get(url)
                done = True

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(ask, scope)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        return done

    anyio.run(main, backend=loop)
    gc.collect()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_refresh_under_way_is_dropped_at_close(
    library: Any, ours: Any, clock: ManualClock, cache: MemoryCache, told: list[Event], loop: str
) -> None:
    steps = Steps(library, bytes(5000))
    policy = Policy(stale_while_revalidate=60)

    async def main() -> None:
        transport = ours.AsyncCacheTransport(
            steps.transport, cache, policy=policy, clock=clock, hook=told.append
        )
        async with library.AsyncClient(transport=transport) as client:
            await client.get("http://a.invalid/")
            clock.advance(70)
            stale = await client.get("http://a.invalid/")
            assert stale.extensions["cache"].why.reason is Reason.STALE_WHILE_REVALIDATE
        assert steps.open == 0
        await transport.settle()

    anyio.run(main, backend=loop)
    assert not [event for event in told if isinstance(event, RefreshFailed)]


def test_a_refresh_outlives_neither_its_loop_nor_its_task(
    origin: Origin, ours: Any, cache: MemoryCache, clock: ManualClock
) -> None:
    """A client that nobody closes keeps nothing running."""
    gate, asked = origin.gate(), threading.Event()

    def held(_: Received) -> Reply:
        asked.set()
        gate.wait(10)
        return Reply(headers=FRESH)

    # Nor a connection, which would be the library's to leave open.
    url = origin.on("/", Document(b"old", headers={"Connection": "close"}), held)
    kept = SimpleNamespace()

    async def main() -> None:
        policy = Policy(stale_while_revalidate=60)
        kept.client = ours.AsyncCachedClient(
            cache, policy=policy, clock=clock, trust_env=False, verify=TLS
        )
        await kept.client.get(url)
        clock.advance(70)
        assert (await kept.client.get(url)).content == b"old"
        assert await anyio.to_thread.run_sync(asked.wait, 10)

    anyio.run(main, backend="asyncio")
    gate.set()


# TLS.


def test_what_nobody_has_verified_goes_by_the_cache(
    tls_origin: Origin, tls: Path, library: Any, ours: Any, cache: MemoryCache
) -> None:
    url = tls_origin.on("/", Reply(headers=FRESH, body=b"secure"))
    trusting = ssl.create_default_context(cafile=str(tls))
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    clients = [
        ours.CachedClient(cache, trust_env=False, verify=False),
        ours.CachedClient(cache, trust_env=False, verify=careless),
        library.Client(transport=ours.CacheTransport(library.HTTPTransport(verify=False), cache)),
    ]
    for client in clients:
        with client:
            for _ in range(2):
                response = client.get(url)
                assert response.content == b"secure"
                assert response.extensions["cache"].why.reason is Reason.UNVERIFIED
    assert list(cache.entries()) == []
    assert len(tls_origin.received) == 6
    with ours.CachedClient(cache, trust_env=False, verify=trusting) as client:
        assert [client.get(url).extensions["cache"].from_cache for _ in range(2)] == [False, True]


def test_what_nobody_has_verified_changes_nothing_that_is_stored(
    tls_origin: Origin, tls: Path, library: Any, ours: Any, cache: MemoryCache, clock: ManualClock
) -> None:
    url = tls_origin.on(
        "/",
        Reply(headers=TAGGED, body=b"secure"),
        lambda request: Reply(304 if request.header("If-None-Match") else 200, TAGGED, b"forged"),
    )
    trusting = ssl.create_default_context(cafile=str(tls))
    with ours.CachedClient(cache, clock=clock, trust_env=False, verify=trusting) as client:
        client.get(url)
        clock.advance(61)
        inner = library.HTTPTransport(verify=False)
        transport = ours.CacheTransport(inner, cache, clock=clock)
        with library.Client(transport=transport) as careless:
            response = careless.get(url)
            assert response.content == b"forged"
            assert response.extensions["cache"].why.reason is Reason.UNVERIFIED
        stale = client.get(url, headers={"Cache-Control": "only-if-cached, max-stale"})
        assert stale.content == b"secure"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_unverified_in_async_clients(
    tls_origin: Origin, library: Any, ours: Any, cache: MemoryCache, loop: str
) -> None:
    url = tls_origin.on("/", Reply(headers=FRESH, body=b"secure"))

    async def main() -> None:
        inner = library.AsyncHTTPTransport(verify=False)
        transport = ours.AsyncCacheTransport(inner, cache)
        async with library.AsyncClient(transport=transport) as client:
            for _ in range(2):
                response = await client.get(url)
                assert response.extensions["cache"].why.reason is Reason.UNVERIFIED

    anyio.run(main, backend=loop)
    assert list(cache.entries()) == []


def test_a_certificate_that_fails_is_no_reason_for_what_is_stored(
    tls_origin: Origin, tls: Path, library: Any, ours: Any, cache: MemoryCache, clock: ManualClock
) -> None:
    headers = {"Cache-Control": "max-age=60, stale-if-error=3600", "ETag": '"1"'}
    url = tls_origin.on("/", Reply(headers=headers, body=b"hello"))
    trusting = ssl.create_default_context(cafile=str(tls))
    with ours.CachedClient(cache, clock=clock, trust_env=False, verify=trusting) as client:
        client.get(url)
    clock.advance(61)
    with (
        ours.CachedClient(cache, clock=clock, trust_env=False, verify=TLS) as client,
        pytest.raises(library.ConnectError),
    ):
        client.get(url)


def test_an_interim_response_is_followed_by_the_real_one(origin: Origin, client: Any) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert client.get(origin.on("/", Raw(early))).content == b"ok"
