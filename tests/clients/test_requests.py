"""`CachedSession` and `CacheAdapter`: the common behaviours, and what is particular to requests."""

from __future__ import annotations

import copy
import datetime as dt
import gc
import gzip
import logging
import os
import pickle
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from requests.structures import CaseInsensitiveDict
from urllib3.util.retry import Retry

from stillfresh import (
    BaseCache,
    BodyLost,
    CacheClosed,
    CacheFull,
    CacheInfo,
    CacheUnavailable,
    ConfigError,
    FileCache,
    MemoryCache,
    Outcome,
    Policy,
    Reason,
    Rule,
    SeparateBodyFileCache,
    SQLiteCache,
    Verdict,
)
from stillfresh.caches.urls import CacheLike
from stillfresh.clients.requests import (
    CacheAdapter,
    CachedResponse,
    CachedSession,
    StoredBodyLost,
)
from stillfresh.events import (
    Event,
    Hook,
    LoggingHook,
    NotStored,
    RefreshFailed,
    Stored,
    StoreFailed,
)
from stillfresh.rfc9111.dates import format_date
from stillfresh.testing import Fault, FaultyCache, ManualClock, Operation
from stillfresh.testing.clock import START
from tests.clients.behaviours import (
    ClientBehaviours,
    OneThread,
    PartBehaviours,
    StorageBehaviours,
)
from tests.clients.behaviours.stale import Held
from tests.clients.requests_driver import RequestsDriver
from tests.faults.children import in_child, needs_fork
from tests.origin import Document, Framing, Origin, Received, Reply

FRESH = {"Cache-Control": "max-age=60"}
TAGGED = FRESH | {"ETag": '"1"'}
LONG = bytes(range(256)) * 6000


class TestInMemory(ClientBehaviours, OneThread):
    driver = RequestsDriver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> RequestsDriver:
        return RequestsDriver(CachedSession(cache, policy=policy, hook=hook, clock=clock))


@pytest.mark.one_in(2)
class TestOnFiles(StorageBehaviours):
    driver = RequestsDriver
    make_client = TestInMemory.make_client

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        return SeparateBodyFileCache(place, clock=clock)


@pytest.mark.one_in(2)
class TestInOneFile(PartBehaviours):
    """Header and body in one file, or in two: it matters where a body is read from its middle."""

    driver = RequestsDriver
    make_client = TestInMemory.make_client

    def make_cache(self, place: Path, clock: ManualClock) -> BaseCache:
        return FileCache(place, clock=clock)


def in_a_clean_room(session: CachedSession) -> CachedSession:
    """Have neither proxies nor passwords from the environment."""
    session.trust_env = False
    return session


def test_nothing_comes_between_a_session_and_requests() -> None:
    # What type checkers are told of these is told to nobody else.
    for name in ("request", "get", "options", "head", "post", "put", "patch", "delete", "send"):
        assert getattr(CachedSession, name) is getattr(requests.Session, name)


def get(session: requests.Session, url: str, **options: Any) -> CachedResponse:
    response = session.get(url, timeout=10, **options)
    assert isinstance(response, CachedResponse)
    return response


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Iterator[MemoryCache]:
    with MemoryCache(clock=clock) as cache:
        yield cache


@pytest.fixture
def session(cache: MemoryCache, clock: ManualClock) -> Iterator[CachedSession]:
    with in_a_clean_room(CachedSession(cache, clock=clock)) as session:
        yield session


# Which cache.


def test_a_session_makes_its_cache_in_the_platforms_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "mine"))
    with CachedSession() as session:
        assert isinstance(session.cache, SQLiteCache)
        assert Path(session.cache.directory).is_relative_to(tmp_path / "mine")


@pytest.mark.parametrize("form", ["path", "url", "url inside", "memory", "object"])
def test_a_cache_may_be_named(origin: Origin, tmp_path: Path, form: str) -> None:
    kinds: dict[str, tuple[Any, type[BaseCache]]] = {
        "path": (tmp_path / "a", SeparateBodyFileCache),
        "url": ((tmp_path / "a").as_uri(), SeparateBodyFileCache),
        "url inside": ((tmp_path / "a").as_uri() + "?body=inside", FileCache),
        "memory": ("memory:", MemoryCache),
        "object": (Classic(), BaseCache),
    }
    given, kind = kinds[form]
    url = origin.on("/", Reply(headers=FRESH))
    with in_a_clean_room(CachedSession(given)) as session:
        assert isinstance(session.cache, kind)
        get(session, url)
        assert get(session, url).from_cache


class Classic:
    """The least a cache can be."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.is_open = True

    def get(self, key: str) -> bytes | None:
        assert self.is_open
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        assert self.is_open
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def close(self) -> None:
        self.is_open = False


class BrokenClassic(Classic):
    """Any cache of anybody's, on a bad day."""

    def get(self, key: str) -> bytes | None:
        raise ConnectionError

    def set(self, key: str, value: bytes) -> None:
        raise ConnectionError

    def delete(self, key: str) -> None:
        raise ConnectionError

    def close(self) -> None:
        raise ConnectionError


def test_an_object_that_fails_is_gone_without(origin: Origin) -> None:
    events: list[Event] = []
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    with in_a_clean_room(CachedSession(BrokenClassic(), hook=events.append)) as session:
        assert get(session, url).content == b"body"
        assert get(session, url, auth=("me", "secret")).content == b"body"
        assert session.post(url).content == b"body"
    assert any(isinstance(event, StoreFailed) for event in events)


@pytest.mark.parametrize("given", ["nonsense", "ftp://host/", "file://host/a", "", 3, object()])
@pytest.mark.parametrize("kind", [CachedSession, CacheAdapter])
def test_a_cache_that_makes_no_sense_is_refused(kind: Callable[[Any], object], given: Any) -> None:
    with pytest.raises(ConfigError):
        kind(given)


def test_a_directory_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        CachedSession(tmp_path / "file")


# Closing.


def test_a_cache_of_the_callers_stays_open(cache: MemoryCache) -> None:
    CachedSession(cache).close()
    cache.set("key", b"value")


def test_an_object_of_the_callers_stays_open() -> None:
    classic = Classic()
    CachedSession(classic).close()
    assert classic.is_open


def test_a_cache_of_the_sessions_is_closed_with_it(tmp_path: Path) -> None:
    session = CachedSession(tmp_path / "cache")
    cache = session.cache
    session.close()
    with pytest.raises(CacheClosed):
        cache.get("key")


def test_a_session_may_be_used_after_it_was_closed(origin: Origin, tmp_path: Path) -> None:
    url = origin.on("/", Reply(headers=FRESH))
    session = in_a_clean_room(CachedSession(tmp_path / "cache"))
    get(session, url)
    session.close()
    assert get(session, url).from_cache
    session.close()


def test_a_body_may_be_read_after_its_session_was_closed(origin: Origin, tmp_path: Path) -> None:
    """As with requests, where `with Session()` may end before `stream=True` has."""
    url = origin.on("/", Reply(headers=FRESH, body=[LONG, LONG]))
    for _ in range(2):
        with in_a_clean_room(CachedSession(tmp_path / "cache")) as session:
            response = get(session, url, stream=True)
        assert response.content == LONG + LONG


# The adapter.


def test_an_adapter_caches_what_it_is_mounted_for(origin: Origin, cache: MemoryCache) -> None:
    origin.on("/cached/a", Reply(headers=FRESH))
    origin.on("/plain", Reply(headers=FRESH))
    with requests.Session() as session:
        session.trust_env = False
        session.mount(origin.url("/cached/"), CacheAdapter(cache))
        for _ in range(2):
            session.get(origin.url("/cached/a"))
            response = session.get(origin.url("/plain"))
    assert not isinstance(response, CachedResponse)
    assert len(origin.received_for("/cached/a")) == 1
    assert len(origin.received_for("/plain")) == 2


def test_a_session_knows_when_its_adapter_has_been_replaced(cache: MemoryCache) -> None:
    with CachedSession(cache) as session:
        session.mount("https://", requests.adapters.HTTPAdapter())
        with pytest.raises(ConfigError):
            session.cache  # noqa: B018


def test_options_reach_the_origins_adapter(
    origin: Origin, cache: MemoryCache, tmp_path: Path
) -> None:
    seen: list[Mapping[str, Any]] = []

    class Watching(CacheAdapter):
        def send_uncached(
            self, request: requests.PreparedRequest, options: Mapping[str, Any]
        ) -> requests.Response:
            seen.append(dict(options))
            return super().send_uncached(request, options)

    url = origin.on("/", Reply(headers=FRESH))
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Watching(cache, pool_maxsize=3, pool_connections=2))
        cert = (str(tmp_path), str(tmp_path))
        session.get(url, timeout=(3, 4), verify=False, cert=cert, stream=True).close()
    assert seen == [
        {"stream": True, "timeout": (3, 4), "verify": False, "cert": cert, "proxies": {}}
    ]


@pytest.mark.parametrize("own", [False, True])
def test_an_adapter_may_build_responses_in_its_own_way(
    origin: Origin, cache: MemoryCache, clock: ManualClock, own: bool
) -> None:
    class Marking(CacheAdapter):
        def build_response(self, req: requests.PreparedRequest, resp: Any) -> CachedResponse:
            if own and "Cache-Status" not in resp.headers:
                # What comes from the origin it builds without ours.
                made: Any = HTTPAdapter.build_response(self, req, resp)
            else:
                made = super().build_response(req, resp)
            made.headers["X-Mark"] = made.reason
            vars(made)["mark"] = req.url
            found: CachedResponse = made
            return found

    url = origin.on("/", Document(b"page", headers=FRESH | {"Set-Cookie": "name=value"}))
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Marking(cache, clock=clock))
        for expected in ("fwd=uri-miss", "hit", "fwd=stale"):
            clock.advance(100 if expected == "fwd=stale" else 0)
            request = session.prepare_request(requests.Request("GET", url))
            response = session.send(request)
            assert isinstance(response, CachedResponse)
            assert (response.content, response.status_code) == (b"page", 200)
            assert expected in response.headers["Cache-Status"]
            assert response.request is request
            assert vars(response)["mark"] == url
            assert response.headers["X-Mark"] == "OK"
            assert response.cookies.get_dict() == ({} if expected == "hit" else {"name": "value"})


def test_an_adapter_may_look_at_what_the_origin_has_answered(
    origin: Origin, cache: MemoryCache
) -> None:
    seen: list[requests.Response] = []

    class Watching(CacheAdapter):
        def send_uncached(
            self, request: requests.PreparedRequest, options: Mapping[str, Any]
        ) -> requests.Response:
            seen.append(super().send_uncached(request, options))
            return seen[-1]

    url = origin.on("/", Reply(headers=FRESH, body=b"page"))
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", Watching(cache))
        response = session.get(url)
    assert seen == [response]
    assert seen[0].headers["Cache-Control"] == "max-age=60"


def test_who_patches_requests_own_adapter_is_handed_whole_responses(
    origin: Origin, session: CachedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[requests.Response] = []
    send = HTTPAdapter.send

    def watched(*args: Any, **options: Any) -> requests.Response:
        seen.append(send(*args, **options))
        return seen[-1]

    monkeypatch.setattr(HTTPAdapter, "send", watched)
    url = origin.on("/", Reply(headers=FRESH, body=b"page"))
    response = get(session, url)
    assert seen == [response]
    assert seen[0].headers["Cache-Control"] == "max-age=60"


def test_a_request_of_a_kind_of_its_own_is_what_is_sent(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    class Elsewhere(requests.PreparedRequest):
        @property
        def path_url(self) -> str:
            return "/elsewhere"

    origin.on("/elsewhere", Document(b"page", headers=FRESH))
    for expected in ("fwd=uri-miss", "fwd=stale"):
        request = Elsewhere()
        request.prepare("GET", origin.url("/page"), headers={})
        response = session.send(request)
        assert (response.status_code, response.content) == (200, b"page")
        assert expected in response.headers["Cache-Status"]
        assert response.request is request
        clock.advance(100)


def test_a_proxy_is_gone_through(
    origin: Origin, session: CachedSession, cache: MemoryCache
) -> None:
    origin.on("/page", Reply(headers=FRESH, body=b"by proxy"))
    proxies = {"http": origin.url("").replace("//", "//me:pr0xy-secret@")}
    for from_cache in (False, True):
        response = get(session, "http://far.invalid/page", proxies=proxies)
        assert response.content == b"by proxy"
        assert response.from_cache is from_cache
    (asked,) = origin.received
    assert asked.target == "http://far.invalid/page"
    assert asked.header("Proxy-Authorization")
    assert cache.open("http://far.invalid/page") is not None


# What requests gives.


def test_redirects_come_from_the_cache_with_their_history(
    origin: Origin, session: CachedSession
) -> None:
    start = origin.on("/1", Reply(301, FRESH | {"Location": "/2"}, b"moved"))
    origin.on("/2", Reply(302, FRESH | {"Location": "/3"}))
    end = origin.on("/3", Reply(headers=FRESH, body=b"here"))
    for from_cache in (False, True):
        response = get(session, start)
        assert (response.url, response.content) == (end, b"here")
        hops = [*response.history, response]
        assert [hop.status_code for hop in hops] == [301, 302, 200]
        assert [getattr(hop, "from_cache", None) for hop in hops] == [from_cache] * 3
        assert response.history[0].content == b"moved"
    assert len(origin.received) == 3


def test_a_redirect_after_a_post(origin: Origin, session: CachedSession) -> None:
    page = origin.on("/page", Reply(headers=FRESH, body=b"1"), Reply(headers=FRESH, body=b"2"))
    form = origin.on("/form", Reply(303, {"Location": "/page"}))
    assert get(session, page).content == b"1"
    # Its Location is thrown out (RFC 9111 §4.4), so the poster sees what it has done.
    assert session.post(form, data={"a": "b"}).content == b"2"
    assert get(session, page).from_cache


def test_a_stored_redirect_may_be_left_alone(origin: Origin, session: CachedSession) -> None:
    url = origin.on("/", Reply(301, FRESH | {"Location": "/2"}))
    get(session, url, allow_redirects=False)
    response = get(session, url, allow_redirects=False)
    assert response.from_cache
    assert response.next is not None
    assert response.next.url == origin.url("/2")


def test_cookies_are_heard_once(origin: Origin, session: CachedSession, clock: ManualClock) -> None:
    url = origin.on(
        "/",
        Reply(headers=[*TAGGED.items(), ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")]),
        Reply(304, {"Set-Cookie": "a=3; Path=/"}),
    )
    assert dict(get(session, url).cookies) == {"a": "1", "b": "2"}
    assert dict(session.cookies) == {"a": "1", "b": "2"}
    session.cookies.clear()
    session.cookies.set("a", "of a later page")
    hit = get(session, url)
    assert hit.from_cache
    assert hit.raw.headers.getlist("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert dict(hit.cookies) == {}
    assert dict(session.cookies) == {"a": "of a later page"}
    session.cookies.clear()
    clock.advance(61)
    revalidated = get(session, url)
    assert revalidated.from_cache
    assert dict(revalidated.cookies) == {"a": "3"}
    assert dict(session.cookies) == {"a": "3"}
    assert dict(get(session, url).cookies) == {}


def test_a_stored_redirect_sets_no_cookie(origin: Origin, session: CachedSession) -> None:
    headers = FRESH | {"Location": "/2", "Set-Cookie": "a=1; Path=/"}
    url = origin.on("/", Reply(302, headers))
    origin.on("/2", Reply())
    get(session, url)
    assert origin.received[-1].header("Cookie") == "a=1"
    session.cookies.clear()
    get(session, url)
    assert origin.received[-1].header("Cookie") is None
    assert dict(session.cookies) == {}


def test_repeated_headers_of_a_hit(origin: Origin, session: CachedSession) -> None:
    links = [("Link", "<a>; rel=next"), ("Link", "<b>; rel=last")]
    url = origin.on("/", Reply(headers=[*FRESH.items(), *links]))
    get(session, url)
    hit = get(session, url)
    assert hit.raw.headers.getlist("link") == ["<a>; rel=next", "<b>; rel=last"]
    assert hit.headers["LINK"] == "<a>; rel=next, <b>; rel=last"
    assert set(hit.links) == {"next", "last"}


def test_small_things_of_a_hit(origin: Origin, session: CachedSession) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b'{"a": 1}', reason="Quite So"))
    get(session, url)
    hit = get(session, url)
    assert isinstance(hit.elapsed, dt.timedelta)
    assert (hit.reason, hit.raw.reason, hit.raw.version) == ("Quite So", "Quite So", 11)
    assert hit.json() == {"a": 1}
    assert hit.connection is session.get_adapter(url)
    assert repr(hit) == "<Response [200]>"
    assert isinstance(hit.cache, CacheInfo)
    assert str(hit.cache) == "hit: fresh: max-age=60, age 0 (RFC 9111 §4.2)"


def test_response_hooks_are_called_for_hits_too(origin: Origin, session: CachedSession) -> None:
    called: list[bool] = []

    def hook(response: CachedResponse, **_: Any) -> None:
        called.append(response.from_cache)

    url = origin.on("/", Reply(headers=FRESH))
    for _ in range(2):
        get(session, url, hooks={"response": hook})
    assert called == [False, True]


def test_a_prepared_request_is_left_as_it_was(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=TAGGED), Reply(304), Reply(headers=TAGGED))
    prepared = session.prepare_request(requests.Request("GET", url, headers={"X-Mine": "1"}))
    headers = dict(prepared.headers)
    for _ in range(3):
        response = session.send(prepared)
        assert dict(prepared.headers) == headers
        assert dict(response.request.headers) == headers
        clock.advance(61)
    assert [request.header("If-None-Match") for request in origin.received] == [
        None,
        '"1"',
        '"1"',
    ]


def test_an_answer_to_a_challenge_carries_no_condition_of_the_caches(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    """requests' digest authentication sends `response.request` again."""

    def answer(request: Received) -> Reply:
        if request.header("Authorization") is None and len(origin.received) > 1:
            return Reply(401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'})
        return Reply(304) if request.header("If-None-Match") else Reply(headers=TAGGED, body=b"x")

    url = origin.on("/", answer)
    get(session, url)
    clock.advance(61)
    response = get(session, url, auth=HTTPDigestAuth("me", "secret"))
    assert (response.status_code, response.content) == (200, b"x")


@pytest.mark.parametrize(
    "alice",
    [
        {"headers": {"Authorization": "Basic YWxpY2U6cHc="}},
        {"headers": {"authorization": b"Basic YWxpY2U6cHc="}},
        {"auth": ("alice", "pw")},
    ],
    ids=["text", "bytes", "auth"],
)
def test_users_are_told_apart_however_they_say_who_they_are(
    origin: Origin, session: CachedSession, alice: dict[str, Any]
) -> None:
    url = origin.on("/", lambda request: Reply(headers=FRESH, body=str(request.headers).encode()))
    mine = get(session, url, **alice).content
    assert b"YWxpY2U6cHc=" in mine
    assert b"YWxpY2U6cHc=" not in get(session, url).content
    assert b"YWxpY2U6cHc=" not in get(session, url, auth=("bob", "pw")).content
    assert get(session, url, headers={"Authorization": "Basic YWxpY2U6cHc="}).content == mine
    with_userinfo = url.replace("//", "//alice:pw@")
    assert get(session, with_userinfo).content == mine
    assert len(origin.received) == 3


def test_a_client_certificate_is_never_sent_in_the_place_of_credentials(
    origin: Origin, session: CachedSession, clock: ManualClock, tmp_path: Path
) -> None:
    url = origin.on("/", Reply(headers=TAGGED, body=b"body"), Reply(304))
    for _ in range(2):
        get(session, url, cert=(str(tmp_path), str(tmp_path)), auth=("me", "secret"))
        clock.advance(61)
    assert [request.header("Authorization") for request in origin.received] == [
        "Basic bWU6c2VjcmV0"
    ] * 2
    assert origin.received[-1].header("If-None-Match") == '"1"'


# Errors.


def test_errors_of_the_connection_are_those_of_requests(session: CachedSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    request = session.prepare_request(requests.Request("GET", f"http://127.0.0.1:{port}/"))
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        session.send(request)
    assert type(caught.value) is requests.exceptions.ConnectionError
    assert caught.value.request is request


def test_a_connection_that_fails_while_revalidating(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=TAGGED, body=b"old"))
    get(session, url)
    clock.advance(61)
    session.get_adapter(url).close()
    origin.close()
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(url)
    assert get(session, url, headers={"Cache-Control": "max-stale"}).content == b"old"


def test_timeouts_are_those_of_requests(origin: Origin, session: CachedSession) -> None:
    gate = origin.gate()

    def late(_: Received) -> Reply:
        gate.wait(10)
        return Reply()

    def stuck(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"a"
            gate.wait(10)
            yield b"b"

        return Reply(headers=FRESH, body=body())

    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(origin.on("/late", late), timeout=0.05)
    url = origin.on("/stuck", stuck, Reply(headers=FRESH, body=b"whole"))
    with pytest.raises(requests.exceptions.ConnectionError, match="timed out"):
        session.get(url, timeout=0.05)
    assert get(session, url).content == b"whole"


def test_retries_are_urllib3s(origin: Origin, cache: MemoryCache, clock: ManualClock) -> None:
    retries = Retry(total=2, status_forcelist=[503], backoff_factor=0)
    url = origin.on("/", Reply(503), Reply(503), Reply(headers=FRESH, body=b"third"))
    down = origin.on("/down", Reply(503))
    with in_a_clean_room(CachedSession(cache, clock=clock, max_retries=retries)) as session:
        response = get(session, url)
        assert response.content == b"third"
        assert len(response.raw.retries.history) == 2
        assert get(session, url).from_cache
        with pytest.raises(requests.exceptions.RetryError):
            session.get(down)


@pytest.mark.parametrize(
    "url", ["no-scheme", "http://", "http:///path", "gopher://host/", "http://host:99999999/"]
)
def test_urls_that_make_no_sense(session: CachedSession, url: str) -> None:
    with requests.Session() as plain, pytest.raises(ValueError, match=r".") as expected:
        plain.get(url)
    with pytest.raises(type(expected.value)):
        session.get(url)


def test_a_url_that_only_the_adapter_sees(origin: Origin, cache: MemoryCache) -> None:
    prepared = requests.Request("GET", origin.url("/")).prepare()
    prepared.url = "http:///no-host"
    with pytest.raises(requests.exceptions.InvalidURL):
        CacheAdapter(cache).send(prepared)


@pytest.mark.timeout(20)
def test_a_304_that_claims_to_be_chunked_is_not_waited_for(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    wrong = Reply(304, {"Transfer-Encoding": "chunked"})
    url = origin.on("/", Reply(headers=TAGGED, body=b"body"), wrong)
    get(session, url)
    clock.advance(61)
    response = session.get(url)
    assert (response.status_code, response.content) == (200, b"body")
    assert get(session, url).from_cache


def test_a_body_that_came_with_205(origin: Origin, session: CachedSession) -> None:
    url = origin.on("/", Reply(205, FRESH, b"not to be here"))
    assert [get(session, url).content for _ in range(2)] == [b"not to be here"] * 2


# Streams.


@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED], ids=lambda f: f.name)
def test_a_response_that_is_forgotten_leaves_nothing(
    origin: Origin, cache: MemoryCache, framing: Framing
) -> None:
    events: list[Event] = []
    with in_a_clean_room(CachedSession(cache, hook=events.append)) as session:
        url = origin.on("/", Reply(headers=FRESH, body=LONG, framing=framing))
        response = get(session, url, stream=True)
        next(response.iter_content(10))
        del response
        gc.collect()
        assert [type(event) for event in events if isinstance(event, Stored | NotStored)] == [
            NotStored
        ]
        assert not get(session, url).from_cache


@pytest.mark.parametrize("from_cache", [False, True])
def test_a_block_closes(origin: Origin, session: CachedSession, *, from_cache: bool) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    if from_cache:
        get(session, url)
    with get(session, url, stream=True) as response:
        assert next(response.iter_content(10)) == LONG[:10]
        assert not response.raw.closed
    assert response.raw.closed
    assert get(session, url).from_cache is from_cache


def test_a_length_read_to_its_last_byte_is_stored_at_once(
    origin: Origin, session: CachedSession
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"hello"))
    response = get(session, url, stream=True)
    assert response.raw.read(5) == b"hello"
    assert response.cache.stored
    response.close()
    assert get(session, url).from_cache


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_are_closed_when_a_body_has_been_read(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    url = origin.on("/", Reply(headers=TAGGED, body=LONG), Reply(304))
    with (
        SeparateBodyFileCache(tmp_path / "cache", clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock)) as session,
    ):
        get(session, url)
        before = open_files()
        kept = [get(session, url), session.head(url)]
        clock.advance(61)
        kept += [get(session, url), session.get(url, stream=True)]
        assert kept[-1].raw.read(len(LONG)) == LONG
        assert open_files() == before


def test_a_long_stored_body_that_is_damaged(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=LONG))
    place = tmp_path / "cache"
    with (
        SeparateBodyFileCache(place, clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock)) as session,
    ):

        def damage() -> None:
            get(session, url)
            (body,) = place.rglob("*.body")
            with body.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x00")

        damage()
        assert get(session, url).content == LONG
        damage()
        with pytest.raises(StoredBodyLost) as caught:
            _ = get(session, url, stream=True).content
        assert isinstance(caught.value, BodyLost)
        assert isinstance(caught.value, requests.exceptions.RequestException)
        assert isinstance(caught.value, requests.exceptions.ChunkedEncodingError)
        damage()
        response = get(session, url, stream=True)
        got = b""
        with pytest.raises(StoredBodyLost):  # noqa: PT012 - it comes after good pieces
            for chunk in response.iter_content(100_000):
                got += chunk
        assert LONG.startswith(got)
        assert got != LONG
        damage()
        response = get(session, url, stream=True)
        with pytest.raises(urllib3.exceptions.ProtocolError) as from_raw:
            response.raw.read()
        assert isinstance(from_raw.value.__cause__, BodyLost)


def test_a_long_compressed_body_that_is_damaged(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    """What was decoded so far was right; the damage shows before the end."""
    packed = gzip.compress(random.Random(4).randbytes(2_000_000))
    url = origin.on("/", Reply(headers=FRESH | {"Content-Encoding": "gzip"}, body=packed))
    place = tmp_path / "cache"
    with (
        SeparateBodyFileCache(place, clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock)) as session,
    ):
        whole = get(session, url).content
        (body,) = place.rglob("*.body")
        with body.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        response = get(session, url, stream=True)
        got = b""
        with pytest.raises(StoredBodyLost):  # noqa: PT012 - it comes after good pieces
            for chunk in response.iter_content(100_000):
                got += chunk
        assert whole.startswith(got)
        assert get(session, url).content == whole


def test_what_concerns_the_connection_is_the_connections(
    origin: Origin, session: CachedSession
) -> None:
    gate = origin.gate()

    def answer(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"first"
            gate.wait(10)
            yield b"second"

        return Reply(headers=FRESH, body=body())

    url = origin.on("/", answer, Reply(headers=FRESH, body=b"whole"))
    response = get(session, url, stream=True)
    chunks = response.raw.read_chunked()
    assert next(chunks) == b"first"
    assert response.raw.connection is not None
    response.raw.shutdown()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(chunks)
    assert get(session, url).content == b"whole"


def test_a_connection_that_its_reader_ends_is_no_end_of_a_body(
    origin: Origin, session: CachedSession
) -> None:
    """Where nothing but the end of the connection says where a body ends."""
    gate = origin.gate()

    def answer(_: Received) -> Reply:
        def body() -> Iterator[bytes]:
            yield b"first"
            gate.wait(10)
            yield b"second"

        return Reply(headers=FRESH, body=body(), framing=Framing.CLOSE)

    url = origin.on("/", answer, Reply(headers=FRESH, body=b"whole"))
    response = get(session, url, stream=True)
    assert response.raw.read(5) == b"first"
    response.raw.shutdown()
    assert response.raw.read() == b""
    response = get(session, url)
    assert response.content == b"whole"
    assert not response.from_cache


def test_where_there_is_no_connection_there_is_none_to_end(
    origin: Origin, session: CachedSession
) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"hello"))
    get(session, url)
    response = get(session, url, stream=True)
    assert response.from_cache
    response.raw.shutdown()
    assert response.content == b"hello"


# Parts.


@pytest.mark.parametrize("stream", [False, True])
def test_a_part_of_an_encoded_body_is_as_it_is_stored(
    origin: Origin, session: CachedSession, stream: bool
) -> None:
    """What can be made of it is up to who has the rest, as it is without a cache."""
    packed = gzip.compress(LONG)
    url = origin.on("/", Document(packed, headers={"Content-Encoding": "gzip"}))
    get(session, url)
    headers = {"Range": "bytes=100-199"}
    response = get(session, url, headers=headers, stream=True)
    assert response.from_cache
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Content-Length"] == "100"
    assert response.raw.read(decode_content=False) == packed[100:200]
    with requests.Session() as plain:
        plain.trust_env = False
        with pytest.raises(requests.exceptions.RequestException) as error:
            _ = plain.get(url, headers=headers, stream=stream).content
    with pytest.raises(type(error.value)):
        _ = get(session, url, headers=headers, stream=stream).content


def test_several_parts_of_an_encoded_body_are_as_they_are_stored(
    origin: Origin, session: CachedSession
) -> None:
    """The parts are coded, their frame is not (RFC 9110 §14.6)."""
    packed = gzip.compress(LONG)
    url = origin.on("/", Document(packed, headers={"Content-Encoding": "gzip"}))
    get(session, url)
    response = get(session, url, headers={"Range": "bytes=0-9,100-109"})
    assert "Content-Encoding" not in response.headers
    assert response.content.count(b"Content-Encoding: gzip\r\n") == 2
    assert packed[:10] in response.content
    assert packed[100:110] in response.content
    assert len(origin.received) == 1


def test_a_rest_comes_on_a_connection_that_is_used_again(
    origin: Origin, session: CachedSession
) -> None:
    document = Document(LONG)
    url = origin.on("/", document)
    other = origin.on("/other", Reply())
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    for _ in range(2):
        assert get(session, url).content == LONG
        get(session, other)
    assert [request.connection for request in origin.received] == [1, 2, 2, 2]
    session.delete(url)
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    with get(session, url, stream=True) as response:
        response.raw.read(2000)
    # Who knows how long the rest of it is.
    get(session, other)
    connections = [request.connection for request in origin.received[4:]]
    assert connections == [2, 2, 3, 4]
    assert get(session, url).content == LONG
    assert document.sent[-1] == (206, len(LONG) - 2000)


def test_cookies_of_a_rest_are_heard(origin: Origin, session: CachedSession) -> None:
    document = Document(LONG)
    url = origin.on("/", document)
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    document.headers["Set-Cookie"] = "a=1; Path=/"
    completed = get(session, url)
    assert dict(completed.cookies) == dict(session.cookies) == {"a": "1"}
    session.cookies.clear()
    assert dict(get(session, url).cookies) == {}


def test_what_was_asked_for_is_what_the_caller_asked_for(
    origin: Origin, session: CachedSession
) -> None:
    """Neither the rest nor what it depends on is the caller's business."""
    url = origin.on("/", Document(LONG))
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    completed = get(session, url)
    assert origin.received[-1].header("If-Range") == '"1"'
    assert not {"Range", "If-Range"} & completed.request.headers.keys()
    assert completed.url == url
    assert (completed.status_code, completed.reason, completed.ok) == (200, "OK", True)
    assert isinstance(completed.elapsed, dt.timedelta)
    assert str(completed.cache).startswith("completed: only a part is stored: 1000 of")


def test_a_rest_that_does_not_come_in_time(origin: Origin, session: CachedSession) -> None:
    gate = origin.gate()
    document = Document(LONG)

    def stuck(request: Received) -> Reply:
        reply = document(request)
        body = reply.body
        assert isinstance(body, bytes)

        def halves() -> Iterator[bytes]:
            yield body[:100_000]
            gate.wait(10)
            yield body[100_000:]

        return Reply(
            reply.status, dict(reply.headers) | {"Content-Length": str(len(body))}, halves()
        )

    url = origin.on("/", document, stuck, document)
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    with pytest.raises(requests.exceptions.ConnectionError, match="timed out"):
        session.get(url, timeout=0.05)
    gate.set()
    assert get(session, url).content == LONG
    status, size = document.sent[-1]
    assert status == 206
    assert size < len(LONG) - 1000


@pytest.mark.parametrize("by", [-500, 500], ids=["shorter", "longer"])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_rest_that_is_not_as_long_as_it_says(
    origin: Origin, clock: ManualClock, by: int, stored: bool, stream: bool
) -> None:
    """In chunks nothing says so but the place that it is for."""
    whole = LONG + b"the end"
    document = Document(whole)

    def answer(request: Received) -> Reply:
        reply = document(request)
        assert isinstance(reply.body, bytes)
        body = reply.body[:by] if by < 0 else reply.body + bytes(by)
        return Reply(reply.status, reply.headers, [body[:9], body[9:]])

    url = origin.on("/", document, answer, document)
    with (
        FaultyCache(MemoryCache(clock=clock), clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock)) as session,
    ):
        with get(session, url, stream=True) as response:
            response.raw.read(1000)
        if not stored:
            cache.faults.append(Fault(Operation.WRITER, CacheFull))
        if by < 0:
            with pytest.raises(requests.exceptions.RequestException):
                _ = get(session, url, stream=stream).content
        else:
            assert get(session, url, stream=stream).content == whole
        cache.faults.clear()
        assert get(session, url).content == whole
        assert get(session, url).from_cache


def test_a_completed_response_survives_pickling(origin: Origin, session: CachedSession) -> None:
    url = origin.on("/", Document(LONG))
    with get(session, url, stream=True) as response:
        response.raw.read(1000)
    response = get(session, url, stream=True)
    copy = pickle.loads(pickle.dumps(response))  # noqa: S301 - our own
    assert copy.content == LONG
    assert copy.cache.outcome is Outcome.COMPLETED
    assert not copy.from_cache
    assert get(session, url).from_cache


@pytest.fixture
def nothing_stays_open() -> Iterator[None]:
    """See that there are no more open files and connections after a test than before.

    A server of the test's own has to be closed by then.
    """
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    gc.collect()
    before = open_files()
    yield
    assert open_files() <= before


@pytest.mark.usefixtures("nothing_stays_open")
def test_no_file_stays_open_over_parts(tmp_path: Path, clock: ManualClock) -> None:
    kept: list[CachedResponse] = []
    with (
        Origin() as origin,
        SeparateBodyFileCache(tmp_path / "cache", clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock)) as session,
    ):

        def ask(size: int, **headers: str) -> None:
            """Read so much of a body, and keep the response."""
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            response = get(session, url, headers=named, stream=True)
            assert len(response.raw.read(size)) == size
            kept.append(response)

        url = origin.on("/", Document(LONG))
        ask(100_000)
        kept[-1].close()
        ask(10, Range="bytes=10-19")
        ask(10, Range="bytes=200000-200009")
        ask(150_000)
        kept[-1].close()
        ask(len(LONG))
        ask(10, Range="bytes=10-19")
        ask(0, Range="bytes=99999999-")
        ask(0, If_None_Match='"1"')
        ask(10, Range="bytes=0-99,200-299")
        kept[-1].close()
        outcomes = [response.cache.outcome.value for response in kept]
    assert outcomes == ["miss", "hit", "miss", "completed", "completed", *["hit"] * 4]


# Stale.


BEHIND = {"Cache-Control": "max-age=60, stale-while-revalidate=30", "ETag": '"1"'}
IF_ERROR = {"Cache-Control": "max-age=60, stale-if-error=30", "ETag": '"1"'}


def adapter_of(session: requests.Session) -> CacheAdapter:
    adapter = session.get_adapter("http://")
    assert isinstance(adapter, CacheAdapter)
    return adapter


def test_a_stale_response_is_refreshed_with_what_the_caller_gave(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    seen: list[Mapping[str, Any]] = []

    class Watching(CacheAdapter):
        def send_uncached(
            self, request: requests.PreparedRequest, options: Mapping[str, Any]
        ) -> requests.Response:
            seen.append(dict(options))
            return super().send_uncached(request, options)

    url = origin.on("/", Reply(headers=BEHIND, body=b"old"), Reply(headers=BEHIND, body=b"new"))
    adapter = Watching(cache, clock=clock)
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter)
        options: dict[str, Any] = {"timeout": (3, 4), "auth": ("me", "secret")}
        options["headers"] = {"X-Mine": "1"}
        session.get(url, **options)
        clock.advance(70)
        prepared = session.get(url, **options).request
        assert adapter.settle(10)
        assert [one["timeout"] for one in seen] == [(3, 4)] * 2
        first, second = origin.received
        assert second.header("X-Mine") == "1"
        assert second.header("Authorization") == first.header("Authorization")
        assert second.header("If-None-Match") == '"1"'
        assert "If-None-Match" not in prepared.headers
        assert session.get(url, **options).content == b"new"


def test_a_refresh_tells_the_session_of_no_cookies(
    origin: Origin, session: CachedSession, clock: ManualClock
) -> None:
    """They would come at any time, and belong to nobody's answer."""
    url = origin.on("/", Reply(headers=BEHIND), Reply(304, {"Set-Cookie": "a=1; Path=/"}))
    get(session, url)
    clock.advance(70)
    assert dict(get(session, url).cookies) == {}
    assert adapter_of(session).settle(10)
    assert dict(session.cookies) == {}


HEADERS: dict[str, Callable[[Any], object]] = {
    "get": lambda headers: (headers["link"], headers.get("nothing"), headers.get("X-A", 1)),
    "iterate": list,
    "count": len,
    "items": lambda headers: [*headers.items(), *headers.lower_items()],
    "contains": lambda headers: ("LINK" in headers, "nothing" in headers),
    "show": repr,
    "compare": lambda headers: (headers == {"a": "b"}, headers == CaseInsensitiveDict(headers)),
    "copy": lambda headers: (headers.copy(), copy.copy(headers), copy.deepcopy(headers)),
    "pickle": lambda headers: pickle.loads(pickle.dumps(headers)),  # noqa: S301 - our own
    "change": lambda headers: (headers.update({"X-A": "2"}), headers.pop("x-b"), dict(headers)),
    "delete": lambda headers: (headers.__delitem__("X-A"), dict(headers)),
    "clear": lambda headers: (headers.clear(), dict(headers)),
    "not there": lambda headers: hasattr(headers, "nothing"),
}


@pytest.mark.parametrize("look", HEADERS.values(), ids=list(HEADERS))
def test_the_headers_of_a_hit_are_the_mapping_that_requests_has(
    origin: Origin, cache: MemoryCache, clock: ManualClock, look: Callable[[Any], object]
) -> None:
    date = ("Date", format_date(clock()))
    lines = [*FRESH.items(), date, ("X-A", "1"), ("Link", "<a>"), ("x-b", "2"), ("link", "<b>")]
    url = origin.on("/", Reply(headers=lines))
    with requests.Session() as plain, CachedSession(cache, clock=clock) as session:
        plain.trust_env = False
        expected = plain.get(url, timeout=10).headers
        first = get(in_a_clean_room(session), url)
        hit = get(session, url)
        # They are looked into by `look` first.
        said = get(session, origin.on("/again", Reply(headers=lines))).headers["Cache-Status"]
    assert (first.from_cache, hit.from_cache) == (False, True)
    assert isinstance(first.headers, CaseInsensitiveDict)
    mine = {"Cache-Status": said}
    assert look(first.headers) == look(CaseInsensitiveDict({**expected, **mine}))
    mine = {"Age": "0", "Cache-Status": "stillfresh; hit; ttl=60"}
    assert look(hit.headers) == look(CaseInsensitiveDict({**expected, **mine}))
    assert isinstance(hit.headers, CaseInsensitiveDict)


def test_headers_are_pickled_as_those_of_requests(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """Who takes them out again need not have this library."""
    url = origin.on("/", Reply(headers=FRESH))
    with CachedSession(cache, clock=clock) as session:
        for _ in range(2):
            headers = get(in_a_clean_room(session), url).headers
            copied = pickle.loads(pickle.dumps(headers))  # noqa: S301 - our own
            assert type(copied) is CaseInsensitiveDict
            assert copied == headers


def test_a_caller_has_no_more_patience_than_it_says(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    """However long the policy would have it wait for another."""
    held = Held(origin, Reply(headers=FRESH))
    url = origin.on("/", held)
    with (
        CachedSession(cache, clock=clock, policy=Policy(collapse_wait=600)) as session,
        ThreadPoolExecutor(1) as another,
    ):
        first = another.submit(get, in_a_clean_room(session), url)
        assert held.asked.wait(10)
        timeouts: tuple[Any, ...] = (0.1, (10, 0.1), urllib3.Timeout(0.1))
        for timeout in timeouts:
            with pytest.raises(requests.ReadTimeout):
                session.get(url, timeout=timeout)
        held.let_go()
        assert first.result(10).status_code == 200


def test_a_redirect_whose_body_breaks_off_is_followed(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    start = origin.on("/1", Reply(302, FRESH | {"Location": "/2"}, LONG, cut_after=1000))
    origin.on("/2", Reply(headers=FRESH, body=b"here"))
    with requests.Session() as plain, CachedSession(cache, clock=clock) as session:
        for each in (plain, session):
            each.trust_env = False
            assert each.get(start, timeout=10).content == b"here"


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_session_closed_under_a_request_breaks_nothing(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    held = Held(origin, Reply(headers=FRESH, body=LONG))
    url = origin.on("/", held)
    session = in_a_clean_room(CachedSession(tmp_path / "cache", clock=clock))
    with ThreadPoolExecutor(1) as another:
        first = another.submit(get, session, url)
        assert held.asked.wait(10)
        session.close()
        held.let_go()
        assert first.result(10).content == LONG
    session.close()


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_session_that_many_open_again_has_one_cache(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    url = origin.on("/", Reply(headers=FRESH))
    session = in_a_clean_room(CachedSession(tmp_path / "cache", clock=clock))
    together = threading.Barrier(8)

    def used() -> BaseCache:
        together.wait(10)
        return session.cache

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            session.close()
            caches = [made.result(10) for made in [pool.submit(used) for _ in range(8)]]
            assert len(set(map(id, caches))) == 1
    assert get(session, url).status_code == 200
    session.close()


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_session_closed_while_it_refreshes_leaves_nothing_open(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The cache is the session's own, so it is closed with it."""
    asked = threading.Event()

    def held(_: Received) -> Reply:
        asked.set()
        assert gate.wait(10)
        return Reply(headers=BEHIND, body=LONG)

    # Not the events themselves: an error's traceback leads to all that was under way.
    failures: list[tuple[type[Event], type]] = []

    def note(event: Event) -> None:
        if isinstance(event, StoreFailed):
            failures.append((StoreFailed, type(event.error.__cause__)))
        elif isinstance(event, RefreshFailed):
            failures.append((RefreshFailed, type(event.error)))

    with Origin() as origin:
        gate = origin.gate()
        url = origin.on("/", Reply(headers=BEHIND, body=b"old"), held)
        session = CachedSession(tmp_path / "cache", clock=clock, hook=note)
        get(in_a_clean_room(session), url)
        clock.advance(70)
        assert get(session, url).content == b"old"
        assert asked.wait(10)
        adapter = adapter_of(session)
        session.close()
        gate.set()
        assert adapter.settle(10)
    assert failures == [(StoreFailed, CacheClosed)]


@pytest.mark.usefixtures("nothing_stays_open")
def test_a_refresh_that_begins_after_its_session_was_closed_opens_nothing_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    gate = threading.Event()

    class Slow(CacheAdapter):
        """One whose threads take their time."""

        @property
        def cache(self) -> BaseCache:
            if threading.current_thread() is not threading.main_thread():
                assert gate.wait(10)
            return super().cache

    with Origin() as origin:
        url = origin.on("/", Reply(headers=BEHIND, body=b"old"))
        adapter = Slow(tmp_path / "cache", clock=clock, hook=tell_nothing)
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", adapter)
            get(session, url)
            clock.advance(70)
            assert get(session, url).content == b"old"
        gate.set()
        assert adapter.settle(10)


@pytest.mark.parametrize("served", [True, False])
def test_an_origin_that_does_not_answer_in_time(
    origin: Origin, session: CachedSession, clock: ManualClock, served: bool
) -> None:
    gate = origin.gate()

    def late(_: Received) -> Reply:
        gate.wait(10)
        return Reply()

    headers = IF_ERROR if served else TAGGED
    url = origin.on("/", Reply(headers=headers, body=b"old"), late)
    get(session, url)
    clock.advance(70)
    if served:
        response = session.get(url, timeout=0.05)
        assert response.content == b"old"
    else:
        with pytest.raises(requests.exceptions.ReadTimeout):
            session.get(url, timeout=0.05)


def test_an_origin_that_fails_at_each_of_urllib3s_retries(
    origin: Origin, cache: MemoryCache, clock: ManualClock
) -> None:
    retries = Retry(total=2, status_forcelist=[503], backoff_factor=0)
    url = origin.on("/", Reply(headers=IF_ERROR, body=b"old"), Reply(503))
    with in_a_clean_room(CachedSession(cache, clock=clock, max_retries=retries)) as session:
        get(session, url)
        clock.advance(70)
        response = get(session, url)
    assert response.content == b"old"
    assert response.cache.why.reason is Reason.STALE_IF_ERROR
    assert len(origin.received) == 4


@pytest.mark.parametrize("wrong", ["http://", "gopher://host/"])
def test_a_request_that_makes_no_sense_is_no_failure_of_the_origins(
    session: CachedSession, wrong: str
) -> None:
    with pytest.raises(ValueError, match=r"."):
        session.get(wrong, headers={"Cache-Control": "stale-if-error=100"})


# Pickling.


def test_an_adapter_survives_pickling_while_it_refreshes(
    origin: Origin, tmp_path: Path, clock: ManualClock
) -> None:
    """What is under way stays where it is."""
    asked, gate = threading.Event(), origin.gate()

    def held(_: Received) -> Reply:
        asked.set()
        assert gate.wait(10)
        return Reply(304)

    url = origin.on("/", Reply(headers=BEHIND), held)
    adapter = CacheAdapter(tmp_path / "cache", clock=clock, hook=tell_nothing)
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter)
        get(session, url)
        clock.advance(70)
        get(session, url)
        assert asked.wait(10)
        assert not adapter.settle(0)
        clock_of_its_own = CacheAdapter(tmp_path / "cache", clock=always_the_same)
        copy = pickle.loads(pickle.dumps(clock_of_its_own))  # noqa: S301 - our own
        assert copy.settle(0)
        gate.set()
        assert adapter.settle(10)
    clock_of_its_own.close()
    copy.close()


def test_the_copy_of_an_adapter_refreshes_by_itself(origin: Origin, tmp_path: Path) -> None:
    policy = Policy(stale_while_revalidate=60)
    headers = {"Cache-Control": "max-age=0", "ETag": '"1"'}
    url = origin.on("/", Reply(headers=headers, body=b"old"), Reply(headers=headers, body=b"new"))
    first = CacheAdapter(
        tmp_path / "cache", policy=policy, hook=tell_nothing, clock=always_the_same
    )
    adapter = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter)
        get(session, url)
        assert get(session, url).content == b"old"
        assert adapter.settle(10)
        assert first.settle(0)
        assert get(session, url).content == b"new"
        assert adapter.settle(10)
    first.close()


@pytest.mark.parametrize("late", [0, 1, 61])
def test_a_response_survives_pickling(
    origin: Origin, session: CachedSession, clock: ManualClock, late: int
) -> None:
    start = origin.on("/start", Reply(301, FRESH | {"Location": "/"}))
    origin.on("/", Reply(headers=TAGGED, body=b"body"), Reply(304))
    if late:
        get(session, start)
    clock.advance(late)
    response = get(session, start, stream=True)
    copy = pickle.loads(pickle.dumps(response))  # noqa: S301 - our own
    assert isinstance(copy, CachedResponse)
    outcome = {0: Outcome.MISS, 1: Outcome.HIT, 61: Outcome.REVALIDATED}[late]
    for one in (response, copy):
        assert one.cache.outcome is outcome
        assert one.from_cache is bool(late)
        assert (one.content, one.status_code, one.url) == (b"body", 200, origin.url("/"))
        assert one.cache.why.reason is response.cache.why.reason
        assert [hop.from_cache for hop in one.history] == [late == 1]  # type: ignore[attr-defined]
    assert copy.headers == response.headers
    assert copy.cache == response.cache


def tell_nothing(event: Event) -> None:
    """Be a hook that can be pickled."""


def always_the_same() -> float:
    """Be a clock that can be pickled."""
    return START


@pytest.mark.parametrize("by", ["object", "path", "url"])
def test_a_session_survives_pickling(origin: Origin, tmp_path: Path, by: str) -> None:
    place = tmp_path / "cache"
    forms: dict[str, CacheLike] = {
        "object": SeparateBodyFileCache(place),
        "path": place,
        "url": place.as_uri(),
    }
    policy = Policy(shared=True, max_body=10, secret=b"0123456789abcdef")
    url = origin.on("/", Reply(headers=FRESH, body=b"body"))
    large = origin.on("/large", Reply(headers=FRESH, body=b"more than ten bytes"))
    first = in_a_clean_room(
        CachedSession(
            forms[by], policy=policy, hook=tell_nothing, clock=always_the_same, pool_maxsize=3
        )
    )
    get(first, url)
    second = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    assert get(second, url).from_cache
    assert get(second, url).headers["Age"] == "0"
    get(second, large)
    assert get(second, large).cache.storing is not None
    for scheme in ("http://", "https://"):
        adapter = second.get_adapter(scheme)
        assert isinstance(adapter, CacheAdapter)
        assert adapter.policy == policy
    for session in (first, second):
        session.close()


# Logging.


def test_what_happens_is_logged(
    origin: Origin, session: CachedSession, caplog: pytest.LogCaptureFixture
) -> None:
    url = origin.on("/", Reply(headers=FRESH))
    get(session, url)
    assert not caplog.records
    caplog.set_level(logging.DEBUG, "stillfresh")
    get(session, url)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("stillfresh", logging.DEBUG)
    assert record.getMessage() == f"hit GET {url}: fresh: max-age=60, age 0 (RFC 9111 §4.2)"


def test_a_failure_is_warned_of_once(
    origin: Origin, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [Fault(Operation.OPEN, CacheUnavailable), Fault(Operation.COMMIT, CacheFull)]
    with (
        FaultyCache(MemoryCache(clock=clock), faults, clock=clock) as cache,
        in_a_clean_room(CachedSession(cache, clock=clock, hook=LoggingHook())) as session,
    ):
        for path in ("/1", "/2", "/3"):
            get(session, origin.on(path, Reply(headers=FRESH)))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["stillfresh"] * 2
    assert "cache failed at open of" in warnings[0].getMessage()
    assert "cache failed at commit of" in warnings[1].getMessage()


def test_why_says_it_with_its_section(origin: Origin, session: CachedSession) -> None:
    url = origin.on("/", Reply(headers={"Cache-Control": "no-store"}))
    response = get(session, url)
    assert response.cache.why.reason is Reason.NO_STORED
    assert response.cache.storing is not None
    assert response.cache.storing.reason is Reason.RESPONSE_NO_STORE
    assert response.cache.storing.section == "RFC 9111 §5.2.2.5"


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ({"policy": {"shared": True}}, "policy is a Policy"),
        ({"policy": Policy}, "policy is a Policy"),
        ({"hook": 5}, "hook is called with each event"),
        ({"cache": SQLiteCache}, "is a class, not a cache"),
        ({"cache": MemoryCache}, "is a class, not a cache"),
    ],
)
def test_what_no_request_could_go_by_is_refused_at_once(
    wrong: dict[str, Any], because: str
) -> None:
    with pytest.raises(ConfigError, match=because):
        CachedSession(**wrong)


class SlowPath(os.PathLike[str]):
    """A path that says which it is only when it may."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked, self.may = threading.Event(), threading.Event()
        self.may.set()

    def __fspath__(self) -> str:
        self.asked.set()
        assert self.may.wait(30)
        return str(self.path)


@needs_fork
def test_a_child_does_not_wait_for_a_thread_of_its_parent(tmp_path: Path) -> None:
    place = SlowPath(tmp_path / "cache")
    session = CachedSession(place)
    session.close()
    place.may.clear()
    place.asked.clear()
    opening = threading.Thread(target=lambda: session.cache)
    opening.start()
    assert place.asked.wait(30)

    def job() -> bool:
        place.may = threading.Event()
        place.may.set()
        return session.cache is not None

    try:
        assert in_child(job)
    finally:
        place.may.set()
        opening.join()
        session.close()


# What would be done.


def test_a_session_says_what_it_would_do_and_does_not_do_it(origin: Origin) -> None:
    fields = {"Cache-Control": "max-age=60", "Vary": "Accept-Encoding, X-Mine"}
    url = origin.on("/", Reply(headers=fields, body=b"body"))
    with MemoryCache() as cache, CachedSession(cache) as session:
        assert session.explain("GET", url).why.reason is Reason.NO_STORED
        assert session.inspect(url).variants == ()
        assert origin.received == []
        session.headers["X-Mine"] = "1"
        response = session.get(url)
        told = session.explain("GET", url)
        assert (told.verdict, told.selected) == (Verdict.SERVE, told.stored)
        # With the headers that requests adds.
        kept = dict(session.inspect(url).variants[0].selection)
        assert "gzip" in (kept.pop("accept-encoding") or "")
        assert kept == {"authorization": None, "x-mine": "1"}
        assert session.explain("GET", url, headers={"X-Mine": "2"}).differing == ("x-mine",)
        assert session.inspect(url, headers={"X-Mine": "2"}).selected is None
        assert session.explain("GET", url, auth=("me", "pw")).selected is None
        assert session.explain("POST", url, data=b"x").why.reason is Reason.METHOD
        assert response.request.headers["X-Mine"] == "1"
    assert len(origin.received) == 1


def test_a_session_explains_by_host_and_by_its_own_policy(origin: Origin) -> None:
    url = origin.on("/", Reply(body=b"body"))
    policy = Policy(rules=(Rule(fresh_for=500),))
    with MemoryCache() as cache, CachedSession(cache, policy=policy) as session:
        session.get(url, headers={"Host": "other.example"})
        told = session.explain("GET", url, headers={"Host": "other.example"})
        assert (told.verdict, told.key) == (Verdict.SERVE, "http://other.example/")
        assert session.explain("GET", url).verdict is Verdict.FORWARD


def test_a_session_explains_as_whom_and_to_whom_it_speaks() -> None:
    url = "https://a.example/"
    with MemoryCache() as cache, CachedSession(cache) as session:
        assert session.explain("GET", url).why.reason is Reason.NO_STORED
        assert session.explain("GET", url, verify=False).why.reason is Reason.UNVERIFIED
        assert session.explain("GET", "http://a.example/", verify=False).asked == ()
        # Or a bundle that the environment names would go before it.
        session.trust_env = False
        session.verify = False
        told = session.explain("GET", url)
        assert (told.verdict, told.why.reason) == (Verdict.FORWARD, Reason.UNVERIFIED)
        assert (told.asked, told.stored, told.key) == ((), None, url)
        headers = {"Cache-Control": "only-if-cached"}
        told = session.explain("GET", url, headers=headers)
        assert (told.verdict, told.status) == (Verdict.UNSATISFIABLE, 504)
        assert session.get(url, headers=headers).cache.why == told.why
        assert session.explain("POST", url, headers=headers).verdict is Verdict.FORWARD


def test_a_session_explains_with_its_certificate(origin: Origin, tmp_path: Path) -> None:
    url = origin.on("/", Reply(headers={"Cache-Control": "max-age=60"}, body=b"body"))
    mine = str(tmp_path / "mine.pem")
    Path(mine).touch()
    with MemoryCache() as cache, CachedSession(cache) as session:
        session.get(url, cert=mine)
        assert session.explain("GET", url).differing == ("authorization",)
        assert session.explain("GET", url, cert=mine).verdict is Verdict.SERVE
        assert session.inspect(url, cert=mine).selected is not None
        session.cert = mine
        assert session.explain("GET", url).verdict is Verdict.SERVE
        assert session.inspect(url).selected is not None
        assert session.get(url).from_cache


def test_who_has_mounted_another_adapter_is_told_so() -> None:
    with MemoryCache() as cache, CachedSession(cache) as session:
        session.mount("http://a.example/", HTTPAdapter())
        with pytest.raises(ConfigError, match="another adapter"):
            session.explain("GET", "http://a.example/")
        assert session.explain("GET", "http://b.example/").verdict is Verdict.FORWARD
