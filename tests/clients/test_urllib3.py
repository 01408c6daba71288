"""`CachedPoolManager`: the common behaviours, and what is particular to urllib3."""

from __future__ import annotations

import gc
import gzip
import io
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import urllib3

from stillfresh import (
    BaseCache,
    BodyLost,
    CacheClosed,
    CacheInfo,
    ConfigError,
    MemoryCache,
    Policy,
    Reason,
    SeparateBodyFileCache,
    SQLiteCache,
)
from stillfresh.clients.urllib3 import (
    CachedPoolManager,
    CachedProxyManager,
    CachedResponse,
    StoredBodyLost,
)
from stillfresh.events import Event, Hook, NotStored, Stored
from stillfresh.testing import ManualClock
from tests.clients.behaviours import ClientBehaviours, OneThread
from tests.clients.behaviours.stale import Held
from tests.clients.urllib3_driver import Urllib3Driver
from tests.clients.waiting import slowly
from tests.origin import Document, Origin, Reply


class TestInMemory(ClientBehaviours, OneThread):
    sampled = True
    driver = Urllib3Driver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> Urllib3Driver:
        return Urllib3Driver(CachedPoolManager(cache=cache, policy=policy, hook=hook, clock=clock))


FRESH = {"Cache-Control": "max-age=60"}
TAGGED = FRESH | {"ETag": '"1"'}
LONG = bytes(range(256)) * 6000
TEXT = b"".join(b"line %d\n" % number for number in range(9000))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Iterator[MemoryCache]:
    with MemoryCache(clock=clock) as cache:
        yield cache


@pytest.fixture
def manager(cache: MemoryCache, clock: ManualClock) -> Iterator[CachedPoolManager]:
    with CachedPoolManager(cache=cache, clock=clock, timeout=10) as manager:
        yield manager


def info(response: urllib3.BaseHTTPResponse) -> CacheInfo:
    found = vars(response)["cache"]
    assert isinstance(found, CacheInfo)
    assert vars(response)["from_cache"] is found.from_cache
    return found


def stored(response: urllib3.BaseHTTPResponse) -> bool:
    return info(response).from_cache


# A response is urllib3's own.


def by_stream(response: urllib3.BaseHTTPResponse) -> bytes:
    return b"".join(response.stream(1000))


def by_file(response: urllib3.BaseHTTPResponse) -> bytes:
    return io.BufferedReader(cast("io.RawIOBase", response)).read()


WAYS: dict[str, Callable[[urllib3.BaseHTTPResponse], bytes]] = {
    "data": lambda r: r.data,
    "read": lambda r: r.read(),
    "read(1000)": lambda r: b"".join(iter(lambda: r.read(1000), b"")),
    "read1": lambda r: b"".join(iter(r.read1, b"")),
    "stream": by_stream,
    "file": by_file,
    "iter": b"".join,
}
KINDS = {
    "length": Reply(headers=FRESH, body=TEXT),
    "chunked": Reply(headers=FRESH, body=[TEXT[:9], TEXT[9:5000], TEXT[5000:]]),
    "gzip": Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=gzip.compress(TEXT)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"preload_content": False}, {"decode_content": False}])
def test_every_way_to_read_gives_what_urllib3_gives(
    origin: Origin, manager: CachedPoolManager, kind: str, options: dict[str, bool]
) -> None:
    url = origin.on("/", KINDS[kind])
    with urllib3.PoolManager() as plain:
        for name, read in WAYS.items():
            if options != {"preload_content": False} and name != "data":
                continue
            expected = read(plain.request("GET", url, **options))  # type: ignore[arg-type]
            manager.cache.clear()
            for from_cache in (False, True):
                response = manager.request("GET", url, **options)  # type: ignore[arg-type]
                assert read(response) == expected, name
                assert stored(response) is from_cache, name


def test_what_the_cache_has_had_a_say_in_is_known_by_its_class(
    origin: Origin, manager: CachedPoolManager
) -> None:
    stored, passed_on = origin.on("/s", Reply(headers=FRESH)), origin.on("/p", Reply())
    beside = manager.connection_from_url(stored)
    for url, path in ((stored, "/s"), (passed_on, "/p")):
        for preload in (True, False):
            first = manager.request("GET", url, preload_content=preload)
            then = beside.request("GET", path, preload_content=preload)
            for response in (first, then):
                assert isinstance(response, CachedResponse)
                assert isinstance(response.cache, CacheInfo)
                assert response.from_cache is response.cache.from_cache
                response.close()
    with urllib3.PoolManager() as plain:
        assert not isinstance(plain.request("GET", stored), CachedResponse)
    whole_server = beside.urlopen("OPTIONS", "*", assert_same_host=False)
    assert not isinstance(whole_server, CachedResponse)

    class Another(CachedResponse):
        """A user's own."""

    assert not isinstance(manager.request("GET", stored), Another)


def test_nothing_comes_between_a_manager_and_urllib3() -> None:
    for name in ("request", "request_encode_url", "request_encode_body", "urlopen"):
        assert getattr(CachedPoolManager, name) is getattr(urllib3.PoolManager, name)


def test_a_hit_has_all_that_a_miss_has(origin: Origin, manager: CachedPoolManager) -> None:
    headers = TAGGED | {"Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Content-Type": "application/json"}
    url = origin.on("/p", Reply(headers=headers, body=b'{"a": [1]}', reason="Quite So"))
    own = {"age", "cache-status"}

    def facts(manager: urllib3.PoolManager) -> dict[str, object]:
        response = manager.request("GET", url + "?q=1", preload_content=False)
        found: dict[str, object] = {
            "kind": isinstance(response, urllib3.HTTPResponse),
            "head": (response.status, response.reason, response.version, response.version_string),
            "headers": sorted(
                line for line in response.headers.iteritems() if line[0].lower() not in own
            ),
            "urls": (response.geturl(), response.url),
            "retries": response.retries == urllib3.Retry.from_int(None),
            "closed": response.closed,
            "json": response.json(),
        }
        return found | {"after": response.closed, "told": response.tell()}

    with urllib3.PoolManager() as plain:
        expected = facts(plain)
    assert [facts(manager) for _ in range(2)] == [expected] * 2
    assert len(origin.received) == 2


def test_redirects_are_stored_hop_by_hop(origin: Origin, manager: CachedPoolManager) -> None:
    start = origin.on("/1", Reply(301, FRESH | {"Location": "/2"}, b"moved"))
    origin.on("/2", Reply(302, FRESH | {"Location": "/3"}))
    end = origin.on("/3", Reply(headers=FRESH, body=b"here"))
    for _ in range(2):
        response = manager.request("GET", start)
        assert (response.data, response.geturl()) == (b"here", "/3")
        assert response.retries is not None
        assert [hop.status for hop in response.retries.history] == [301, 302]
    assert stored(response)
    assert stored(manager.request("GET", end))
    assert len(origin.received) == 3
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", start, retries=1)


def test_retries_lie_behind_the_cache(origin: Origin, manager: CachedPoolManager) -> None:
    retries = urllib3.Retry(total=2, status_forcelist=[503], backoff_factor=0)
    url = origin.on("/", Reply(503), Reply(503), Reply(headers=FRESH, body=b"third"))
    response = manager.request("GET", url, retries=retries)
    assert response.data == b"third"
    assert response.retries is not None
    assert len(response.retries.history) == 2
    assert stored(manager.request("GET", url))
    assert len(origin.received) == 3
    down = origin.on("/down", Reply(503))
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", down, retries=retries)
    assert manager.request("GET", down, retries=False).status == 503


def test_an_origin_that_fails_too_often_may_be_stood_in_for(
    origin: Origin, manager: CachedPoolManager, clock: ManualClock
) -> None:
    retries = urllib3.Retry(total=1, status_forcelist=[503], backoff_factor=0)
    headers = {"Cache-Control": "max-age=60, stale-if-error=30"}
    url = origin.on("/", Reply(headers=headers, body=b"old"), Reply(503))
    manager.request("GET", url)
    clock.advance(61)
    response = manager.request("GET", url, retries=retries)
    assert (response.data, info(response).why.reason) == (b"old", Reason.STALE_IF_ERROR)
    assert len(origin.received) == 3


# As SDKs use it: a pool for a host, asked for paths.


def test_a_pool_of_the_managers_caches(origin: Origin, manager: CachedPoolManager) -> None:
    origin.on("/a", Reply(headers=FRESH, body=b"body"))
    pool = manager.connection_from_url(origin.url("/"))
    for from_cache in (False, True):
        response = pool.urlopen(
            "GET",
            "/a?b=c",
            headers={"X-Mine": "1"},
            retries=urllib3.Retry(False),
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        assert response.read() == b"body"
        assert stored(response) is from_cache
    assert stored(manager.request("GET", origin.url("/a?b=c")))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_pool_follows_as_urllib3s_does(
    origin: Origin, manager: CachedPoolManager, method: str, status: int
) -> None:
    origin.on("/1", Reply(status, FRESH | {"Location": "/2"}))
    origin.on("/2", Reply(headers=FRESH, body=b"here"))

    def asked(pool: urllib3.HTTPConnectionPool) -> list[tuple[object, ...]]:
        del origin.received[:]
        response = pool.urlopen(
            method, "/1", body=b"content" if method == "POST" else None, headers={"X-A": "1"}
        )
        assert response.data == b"here"
        return [
            (got.method, got.path, got.body, got.header("X-A"), got.header("Content-Length"))
            for got in origin.received
        ]

    with urllib3.PoolManager() as plain:
        expected = asked(plain.connection_from_url(origin.url("/")))
    assert asked(manager.connection_from_url(origin.url("/"))) == expected


def test_an_upload_is_sent_again_where_a_redirect_says_so(
    origin: Origin, manager: CachedPoolManager
) -> None:
    origin.on("/1", Reply(307, {"Location": "/2"}))
    origin.on("/2", Reply(body=b"here"))

    def sent(pool: urllib3.HTTPConnectionPool) -> list[bytes]:
        del origin.received[:]
        body = io.BytesIO(b"skipped, content")
        body.seek(len("skipped, "))
        assert pool.urlopen("PUT", "/1", body=body, headers={}).data == b"here"
        return [got.body for got in origin.received]

    with urllib3.PoolManager() as plain:
        expected = sent(plain.connection_from_url(origin.url("/")))
    assert sent(manager.connection_from_url(origin.url("/"))) == expected == [b"content"] * 2


@pytest.mark.parametrize("headers", [{}, FRESH, TAGGED], ids=["no-use", "stored", "tagged"])
def test_a_body_that_breaks_off_is_asked_for_again(
    origin: Origin, manager: CachedPoolManager, headers: dict[str, str]
) -> None:
    broken = Reply(headers=headers, body=LONG, cut_after=100_000)

    def asked(pools: urllib3.PoolManager) -> bytes:
        origin.on("/", broken, Document(LONG, headers=headers))
        return pools.request("GET", origin.url("/")).data

    with urllib3.PoolManager() as plain:
        assert asked(plain) == LONG
    assert asked(manager) == LONG
    assert len(origin.received) == 4


def test_what_breaks_off_too_often_fails_as_in_urllib3(
    origin: Origin, manager: CachedPoolManager
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG, cut_after=100))
    with urllib3.PoolManager() as plain:
        for pools in (plain, manager):
            with pytest.raises(urllib3.exceptions.MaxRetryError) as caught:
                pools.request("GET", url, retries=2)
            assert isinstance(caught.value.reason, urllib3.exceptions.ProtocolError)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                pools.request("GET", url, retries=False)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                pools.request("POST", url)
    assert len(origin.received) == 2 * (3 + 1 + 1)


def test_a_caller_has_no_more_patience_than_it_says(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """However long the policy would have it wait for another."""
    held = Held(origin, Reply(headers=FRESH))
    url = origin.on("/", held)
    policy = Policy(collapse_wait=600)
    with (
        CachedPoolManager(cache=cache, clock=clock, policy=policy, retries=False) as manager,
        ThreadPoolExecutor(1) as another,
    ):
        first = another.submit(manager.request, "GET", url)
        assert held.asked.wait(10)
        for timeout in (0.1, urllib3.Timeout(0.1), urllib3.Timeout(read=0.1)):
            with pytest.raises(urllib3.exceptions.ReadTimeoutError):
                manager.request("GET", url, timeout=timeout)
        held.let_go()
        assert first.result(10).status == 200


def test_a_refresh_that_begins_too_late_opens_nothing_again(
    origin: Origin, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()
    slowly(late, monkeypatch)
    url = origin.on("/", Reply(headers=FRESH))
    policy = Policy(stale_while_revalidate=60)
    manager = CachedPoolManager(cache=tmp_path / "cache", clock=clock, policy=policy)
    manager.request("GET", url)
    clock.advance(70)
    assert stored(manager.request("GET", url))
    manager.clear()
    late.set()
    assert manager.settle(10)
    assert len(origin.received) == 1


def test_a_manager_cleared_meanwhile_breaks_nothing(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    held = Held(origin, Reply(headers=FRESH, body=LONG))
    url = origin.on("/", held)
    manager = CachedPoolManager(cache=tmp_path / "cache", clock=clock)
    with ThreadPoolExecutor(1) as another:
        first = another.submit(manager.request, "GET", url)
        assert held.asked.wait(10)
        manager.clear()
        held.let_go()
        assert first.result(10).data == LONG


def test_a_pool_refuses_another_host(origin: Origin, manager: CachedPoolManager) -> None:
    origin.on("/1", Reply(302, FRESH | {"Location": "http://other.invalid/"}))
    pool = manager.connection_from_url(origin.url("/"))
    for _ in range(2):
        with pytest.raises(urllib3.exceptions.HostChangedError):
            pool.urlopen("GET", "/1")
        response = pool.urlopen("GET", "/1", redirect=False)
        assert (response.status, stored(response)) == (302, True)
        assert pool.urlopen("GET", "/1", retries=False).status == 302


def test_what_is_stored_of_another_host_is_none_of_a_pools(
    origin: Origin, manager: CachedPoolManager
) -> None:
    url = origin.on("/", Reply(headers=FRESH))
    manager.request("GET", url)
    pool = manager.connection_from_url("http://other.invalid/")
    with pytest.raises(urllib3.exceptions.HostChangedError):
        pool.urlopen("GET", url)
    own = manager.connection_from_url(url)
    assert stored(own.urlopen("GET", url))


def test_what_no_url_names_can_be_asked_for(origin: Origin, manager: CachedPoolManager) -> None:
    pool = manager.connection_from_url(origin.url("/"))
    assert pool.urlopen("OPTIONS", "*", assert_same_host=False).status == 404
    assert [got.target for got in origin.received] == ["*"]


def test_a_proxy_is_gone_through_behind_the_cache(origin: Origin, cache: MemoryCache) -> None:
    origin.on("/page", Reply(headers=FRESH, body=b"by proxy"))
    with CachedProxyManager(origin.url(""), cache=cache) as manager:
        got = [manager.request("GET", "http://far.invalid/page") for _ in range(2)]
    assert [stored(response) for response in got] == [False, True]
    assert [asked.target for asked in origin.received] == ["http://far.invalid/page"]
    assert cache.open("http://far.invalid/page") is not None


def test_header_lines_of_one_name_stay_apart_on_the_way(
    origin: Origin, manager: CachedPoolManager, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=TAGGED), Reply(304))
    headers = urllib3.HTTPHeaderDict([("X-A", "1"), ("X-A", "2")])
    for _ in range(2):
        manager.request("GET", url, headers=headers)
        clock.advance(61)
    for asked in origin.received:
        assert [value for name, value in asked.headers if name == "X-A"] == ["1", "2"]
    assert "If-None-Match" not in headers


# Which cache, and whose.


def test_without_a_cache_it_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: Origin
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "mine"))
    url = origin.on("/", Reply(headers=FRESH))
    with CachedPoolManager() as manager:
        mine = manager.cache
        assert isinstance(mine, SQLiteCache)
        assert Path(mine.directory).is_relative_to(tmp_path / "mine")
        manager.request("GET", url)
    with pytest.raises(CacheClosed):
        mine.get("key")
    assert stored(manager.request("GET", url))
    manager.clear()
    with pytest.raises(ConfigError):
        CachedPoolManager(cache="nonsense")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_what_nobody_has_verified_goes_by_the_cache(
    tls_origin: Origin, tls: Path, cache: MemoryCache, clock: ManualClock
) -> None:
    url = tls_origin.on("/", Reply(headers=FRESH, body=b"secure"))
    careless = urllib3.util.ssl_.create_urllib3_context(cert_reqs=ssl.CERT_NONE)
    for options in ({"cert_reqs": "CERT_NONE"}, {"ssl_context": careless}):
        with CachedPoolManager(cache=cache, clock=clock, **options) as manager:
            for _ in range(2):
                response = manager.request("GET", url)
                assert info(response).why.reason is Reason.UNVERIFIED
    assert list(cache.entries()) == []
    with CachedPoolManager(cache=cache, clock=clock, ca_certs=str(tls)) as manager:
        assert [stored(manager.request("GET", url)) for _ in range(2)] == [False, True]


def test_a_certificate_that_fails_is_no_reason_for_what_is_stored(
    tls_origin: Origin, tls: Path, cache: MemoryCache, clock: ManualClock
) -> None:
    headers = {"Cache-Control": "max-age=60, stale-if-error=3600", "ETag": '"1"'}
    url = tls_origin.on("/", Reply(headers=headers, body=b"hello"))
    with CachedPoolManager(cache=cache, clock=clock, ca_certs=str(tls)) as manager:
        manager.request("GET", url)
    clock.advance(61)
    with CachedPoolManager(cache=cache, clock=clock) as manager:
        with pytest.raises(urllib3.exceptions.SSLError):
            manager.request("GET", url, retries=False)
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            manager.request("GET", url, retries=0)


def test_a_client_certificate_keeps_answers_apart_and_is_never_sent(
    tls_origin: Origin,
    tls: Path,
    certificate: tuple[Path, Path],
    cache: MemoryCache,
    clock: ManualClock,
) -> None:
    url = tls_origin.on("/", Reply(headers=FRESH, body=b"hello"))
    mine: dict[str, Any] = {"cert_file": str(certificate[0]), "key_file": str(certificate[1])}
    found = []
    for options in (mine, mine, {}, {"identity": "me"}):
        with CachedPoolManager(cache=cache, clock=clock, ca_certs=str(tls), **options) as manager:
            found.append(stored(manager.request("GET", url)))
    assert found == [False, True, False, False]
    assert {asked.header("Authorization") for asked in tls_origin.received} == {None}


# Leaving early.


def test_a_response_that_is_forgotten_leaves_nothing(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    told: list[Event] = []
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    with CachedPoolManager(cache=cache, clock=clock, hook=told.append) as manager:
        response = manager.request("GET", url, preload_content=False)
        response.read(10)
        del response
        gc.collect()
    assert [type(event) for event in told if isinstance(event, Stored | NotStored)] == [NotStored]


def test_a_long_stored_body_that_is_damaged(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    with (
        SeparateBodyFileCache(tmp_path / "cache", clock=clock) as cache,
        CachedPoolManager(cache=cache, clock=clock) as manager,
    ):
        manager.request("GET", url)
        (body,) = (tmp_path / "cache").rglob("*.body")
        body.write_bytes(LONG[:-1] + b"\x00")
        response = manager.request("GET", url, preload_content=False)
        with pytest.raises(StoredBodyLost) as caught:
            list(response.stream())
        assert isinstance(caught.value, BodyLost)
        assert isinstance(caught.value, urllib3.exceptions.ProtocolError)
        assert manager.request("GET", url).data == LONG
