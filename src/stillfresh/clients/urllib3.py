"""urllib3: `CachedPoolManager`, and `CachedProxyManager` where there is a proxy.

What sits on urllib3 asks a manager for a URL, or for a pool and that for a path; so the pools are
what caches. Retries are urllib3's and lie behind the cache; redirects are followed in front of it,
so that each hop is stored for itself.
"""

from __future__ import annotations

import ssl
import threading
import time
from abc import ABCMeta
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

try:
    from urllib3 import (
        HTTPConnectionPool,
        HTTPHeaderDict,
        HTTPResponse,
        HTTPSConnectionPool,
        PoolManager,
        ProxyManager,
        Retry,
    )
    from urllib3.exceptions import (
        LocationParseError,
        MaxRetryError,
        NewConnectionError,
        ProtocolError,
        ProxyError,
        SSLError,
        TimeoutError,  # noqa: A004 - its own
    )
    from urllib3.util import SKIP_HEADER
    from urllib3.util.request import set_file_position
    from urllib3.util.ssl_ import resolve_cert_reqs
except ImportError as error:
    msg = "stillfresh.clients.urllib3 needs urllib3: pip install 'stillfresh[urllib3]'"
    raise ImportError(msg) from error

from stillfresh.clients import _urllib3
from stillfresh.clients._base import CacheSide, ClientPorts, credential, for_cache, unverified
from stillfresh.clients._urllib3 import CHUNK, Sent, Upstream
from stillfresh.engine.behind import Behind
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.engine.waiting import ThreadSignal
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import BaseHTTPResponse

    from stillfresh import events
    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._base import Line, taking_what
    from stillfresh.clients._urllib3 import FromOrigin
    from stillfresh.engine.answers import CacheInfo
    from stillfresh.rfc9111.policy import Policy

    _theirs: Final = PoolManager()

__all__ = ["CachedPoolManager", "CachedProxyManager", "CachedResponse", "StoredBodyLost"]


class StoredBodyLost(ProtocolError, BodyLost):
    """A stored body broke off or turned out to be wrong while it was being read."""


class _Told(ABCMeta):
    """Knows the responses that the cache has said something of."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is not CachedResponse:
            return super().__instancecheck__(instance)
        return isinstance(instance, HTTPResponse) and "cache" in vars(instance)


class CachedResponse(HTTPResponse, metaclass=_Told):
    """A `urllib3.HTTPResponse` that knows what the cache did.

    `isinstance` tells those that do. That is all which this class is for: what needs no recording
    is handed out as urllib3 has made it, and is of this class nevertheless.

    Attributes:
        from_cache: whether the body came out of the cache.
        cache: what happened, and why.
    """

    from_cache: bool
    cache: CacheInfo


class _Caching:
    """What a caching manager is, beside a manager of urllib3's."""

    if TYPE_CHECKING:

        @taking_what(_theirs.request)
        def request(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.request_encode_url)
        def request_encode_url(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.request_encode_body)
        def request_encode_body(self, *args: Any, **options: Any) -> CachedResponse: ...

        @taking_what(_theirs.urlopen)
        def urlopen(self, *args: Any, **options: Any) -> CachedResponse: ...

    def __init__(
        self,
        *args: Any,
        cache: CacheLike | None = None,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
        **options: Any,
    ) -> None:
        """Answer from `cache` where that may be; all else is as urllib3 has it.

        Args:
            args: what urllib3's manager takes.
            cache: a cache, a URL or path of one, or an object with `get`, `set` and `delete`;
                None is the default cache in the platform's cache folder. A cache object stays
                open when the manager is cleared; one that the manager made is closed with it.
            policy: the user's settings.
            hook: is given every event; the default logs to the logger `stillfresh`.
            clock: the time, in seconds since the epoch.
            identity: who the connections say they are by a client certificate in an
                `ssl_context`, say: what is stored for it is kept apart as by Authorization.
            options: what urllib3's manager takes.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        self._side = CacheSide(cache, policy=policy, hook=hook, clock=clock)
        self._identity = identity
        self._behind = Behind(self._side.tell_failed)
        super().__init__(*args, **options)
        manager = cast("PoolManager", self)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if the manager made it and was cleared."""
        return self._side.cache

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no refresh is under way, `timeout` seconds at most; tell whether none is."""
        return self._behind.settle(timeout)

    def clear(self) -> None:
        """Close the connections, and the cache if the manager made it."""
        self._side.closings += 1
        super().clear()  # type: ignore[misc]
        self._side.close()

    def _new_pool(self, *args: Any, **options: Any) -> Any:
        pool = super()._new_pool(*args, **options)  # type: ignore[misc]
        pool.cache_with(self._side, self._behind, self._identity)
        return pool


class CachedPoolManager(_Caching, PoolManager):  # type: ignore[misc]  # `urlopen`, as urllib3's
    """A `urllib3.PoolManager` with a cache, whose responses are `CachedResponse`s."""


class CachedProxyManager(_Caching, ProxyManager):  # type: ignore[misc]
    """A `urllib3.ProxyManager` with a cache: as `CachedPoolManager`, through a proxy."""


class _Pool:
    """What a caching pool is, beside a pool of urllib3's."""

    def cache_with(self, side: CacheSide, behind: Behind, identity: str | None) -> None:
        """Take what the manager has for all of its pools."""
        self.side = side
        self._behind = behind
        self._identity = identity
        # Set while a thread is on its way to the origin: urllib3 retries by calling itself.
        self._on_the_way = threading.local()

    def urlopen(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        retries: Retry | bool | int | None = None,
        redirect: bool = True,
        **options: Any,
    ) -> BaseHTTPResponse:
        """Answer from the cache, from the origin, or from both."""
        # Whoever sends it again, after a redirect too, begins where it begins now.
        options["body_pos"] = set_file_position(body, options.get("body_pos"))
        sent = {"body": body, "headers": headers, "retries": retries, **options}
        if getattr(self._on_the_way, "is_set", False):
            return self.urlopen_uncached(method, url, redirect=redirect, **sent)
        pool = cast("HTTPConnectionPool", self)
        if _is_for_urllib3(pool, url, options):
            return self.urlopen_uncached(method, url, redirect=redirect, **sent)
        attempts = Retry.from_int(retries, redirect=redirect, default=pool.retries)
        while True:
            sent["retries"] = attempts
            response = self.answer(method, url, sent, self.side.policy)
            try:
                if sent.get("preload_content", True):
                    decodes = sent.get("decode_content", True)
                    response.read(decode_content=decodes, cache_content=True)
                break
            except (ProtocolError, TimeoutError) as error:
                # Where all of a body is wanted, it is asked for again when it breaks off.
                response.close()
                attempts = attempts.increment(method, url, error=error, _pool=pool)
                attempts.sleep()
                set_file_position(body, options["body_pos"])
        location = redirect and response.get_redirect_location()
        if not location:
            return response
        return self._follow(response, method, url, location, sent)

    def answer(
        self, method: str, url: str, sent: Mapping[str, Any], policy: Policy
    ) -> HTTPResponse:
        """Answer one request, and follow no redirect."""
        ports = _Ports(self, method, url, sent)
        bypass = unverified() if not self._is_verified() else None
        try:
            answer = run(exchange(ports.request, policy, ports, bypass=bypass))
        except ConfigError as error:
            raise LocationParseError(ports.request.url) from error
        return _build(answer, url, sent, ports.request.method)

    def urlopen_uncached(self, method: str, url: str, **options: Any) -> HTTPResponse:
        """Send a request to the origin, as urllib3 does."""
        before = getattr(self._on_the_way, "is_set", False)
        self._on_the_way.is_set = True
        try:
            response: HTTPResponse = super().urlopen(method, url, **options)  # type: ignore[misc]
            return response
        finally:
            self._on_the_way.is_set = before

    def refresh_behind(self, key: str, method: str, url: str, sent: Mapping[str, Any]) -> None:
        """Make a request again in a thread."""
        lines = for_cache(_lines(sent["headers"], cast("HTTPConnectionPool", self)))
        again = {**sent, "headers": HTTPHeaderDict(lines), "preload_content": False}
        policy = replace(self.side.policy, stale_while_revalidate=0)
        closings = self.side.closings

        def work() -> None:
            if self.side.closings != closings:
                return
            response = self.answer(method, url, again, policy)
            try:
                for _ in response.stream(CHUNK, decode_content=False):
                    pass
            finally:
                response.close()
                response.release_conn()

        self._behind.start(key, work)

    def absolute(self, url: str) -> str:
        """Return the URL of what a pool is asked for by its path, or by all of it."""
        if not url.startswith("/"):
            return url
        pool = cast("HTTPConnectionPool", self)
        host = f"[{pool.host}]" if ":" in pool.host else pool.host
        port = "" if pool.port is None else f":{pool.port}"
        return f"{pool.scheme}://{host}{port}{url}"

    @property
    def identity(self) -> object:
        """Who the connections say they are, by a client certificate; None is nobody."""
        return self._identity or getattr(self, "cert_file", None)

    def _is_verified(self) -> bool:
        """Tell whether the certificates of servers are looked at, where they have any."""
        if not isinstance(self, HTTPSConnectionPool):
            return True
        wanted, context = self.cert_reqs, self.conn_kw.get("ssl_context")
        if wanted is None and context is not None:
            wanted = context.verify_mode
        looks = resolve_cert_reqs(wanted) != ssl.CERT_NONE
        return looks or self.assert_fingerprint is not None

    def _follow(
        self,
        response: HTTPResponse,
        method: str,
        url: str,
        location: str,
        sent: Mapping[str, Any],
    ) -> BaseHTTPResponse:
        """Follow a redirect, for whoever asks the pool itself: a manager follows by itself.

        A pool knows one host only, and refuses another unless its caller says otherwise.
        """
        pool = cast("HTTPConnectionPool", self)
        headers = HTTPHeaderDict(_lines(sent["headers"], pool))
        then = dict(sent)
        if response.status == 303:
            # RFC 9110 §15.4.4: a GET, which brings none of the content, nor of what describes it.
            method, then["body"], then["chunked"] = "GET", None, False
            then["body_pos"] = None
            for name in list(headers):
                if name.lower().startswith("content-") or name.lower() == "transfer-encoding":
                    del headers[name]
        attempts: Retry = sent["retries"]
        if not pool.is_same_host(location):
            for name in list(headers):
                if name.lower() in attempts.remove_headers_on_redirect:
                    del headers[name]
        try:
            attempts = attempts.increment(method, url, response=response, _pool=pool)
        except MaxRetryError:
            if attempts.raise_on_redirect:
                response.drain_conn()
                raise
            return response
        response.drain_conn()
        then |= {"headers": headers, "retries": attempts, "redirect": True}
        return self.urlopen(method, location, **then)


class _HTTPPool(_Pool, HTTPConnectionPool):  # type: ignore[misc]  # all of its parameters, by `options`
    """A pool of a caching manager's."""


class _HTTPSPool(_Pool, HTTPSConnectionPool):  # type: ignore[misc]
    """A pool of a caching manager's."""


class _Ports(ClientPorts, LocalCachePorts):
    """What one exchange needs."""

    signal = ThreadSignal

    def __init__(self, pool: _Pool, method: str, url: str, sent: Mapping[str, Any]) -> None:
        side = pool.side
        target = pool.absolute(url)
        self._lines = _lines(sent["headers"], cast("HTTPConnectionPool", pool))
        own = [] if pool.identity is None else [credential(pool.identity)]
        content = _content(sent["body"]) if side.wants_content(method, target) else None
        said = [line for line in self._lines if line[1] != SKIP_HEADER]
        fields = Fields([*said, *_framing(sent["body"]), *own])
        request = Request(method, target, fields, content)
        ClientPorts.__init__(self, side, request)
        LocalCachePorts.__init__(self, side.cache)
        # With it the caller is returned the whole body.
        self.whole = bool(sent.get("preload_content", True))
        self._pool = pool
        self._url = url
        self._sent = sent

    async def send(self, request: Request) -> Upstream:
        options = {**self._sent, "preload_content": False, "redirect": False}
        # Its body is to be read by the cache first.
        options.pop("release_conn", None)
        if request is not self.request:
            known = frozenset(self.request.fields)
            headers = HTTPHeaderDict(self._lines)
            for name, value in request.fields:
                if (name, value) not in known:
                    headers[name] = value
            options["headers"] = headers
        return Upstream(self._pool.urlopen_uncached(request.method, self._url, **options))

    @property
    def patience(self) -> float | None:
        pool = cast("HTTPConnectionPool", self._pool)
        return _urllib3.patience(self._sent.get("timeout", pool.timeout))

    def is_failure(self, error: Exception) -> bool:
        if isinstance(error, MaxRetryError):
            # Its reason may be what the origin said, once too often.
            return error.reason is None or not _is_about_tls(error.reason)
        unreachable = isinstance(
            error, NewConnectionError | ProtocolError | ProxyError | TimeoutError
        )
        return unreachable and not _is_about_tls(error)

    def refresh(self, key: str) -> None:
        self._pool.refresh_behind(key, self.request.method, self._url, self._sent)

    async def discard(self, upstream: Upstream) -> None:
        upstream.discard()


class _Stored(_urllib3.StoredRaw):
    lost = StoredBodyLost


class _StoredDecoded(_Stored):
    decodes = True


class _RecordedDecoded(_urllib3.RecordedRaw):
    decodes = True


def _build(answer: FromOrigin, url: str, sent: Mapping[str, Any], method: str) -> HTTPResponse:
    """Make of an answer what urllib3 would return."""
    upstream, info = answer.upstream, answer.info
    said = Sent(method, url, sent["retries"])
    decodes = sent.get("decode_content", True)
    response: HTTPResponse
    if answer.entry is not None or upstream is None or info.from_cache:
        response = _urllib3.stored(answer, said, _StoredDecoded if decodes else _Stored)
    else:
        kind = _RecordedDecoded if decodes else _urllib3.RecordedRaw
        response = _urllib3.passed_on(answer, upstream, said, kind)
    vars(response).update(from_cache=info.from_cache, cache=info)
    return response


def _is_for_urllib3(pool: HTTPConnectionPool, url: str, options: Mapping[str, Any]) -> bool:
    """Tell whether a pool is asked for what it refuses, or for what no URL names."""
    if url.startswith("/"):
        return False
    return "://" not in url or (
        options.get("assert_same_host", True) and not pool.is_same_host(url)
    )


def _lines(headers: Mapping[str, Any] | None, pool: HTTPConnectionPool) -> list[Line]:
    """Read the fields of a request; those of one name stand apart where they do in `headers`."""
    given = pool.headers if headers is None else headers
    items = given.iteritems() if isinstance(given, HTTPHeaderDict) else given.items()
    return [
        (name, value if isinstance(value, str) else value.decode("latin-1"))
        for name, value in items
    ]


def _framing(body: object) -> list[Line]:
    """Return the field that tells of a request's content; http.client will add one later."""
    return [] if body is None else [("transfer-encoding", "chunked")]


def _content(body: object) -> bytes | None:
    """Return the request's content if it is at hand; a stream is not."""
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else None


def _is_about_tls(error: BaseException) -> bool:
    """Tell whether it is about certificates: nothing to get over with what is stored."""
    if isinstance(error, ProxyError):
        return isinstance(error.original_error, SSLError | ssl.SSLError)
    return isinstance(error, SSLError)
