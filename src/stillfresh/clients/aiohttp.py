"""aiohttp: `CacheMiddleware`, for the `middlewares` of a `ClientSession`.

    async with aiohttp.ClientSession(middlewares=[CacheMiddleware()]) as session:
        async with session.get("https://example.org/") as response:
            response.from_cache

Middlewares stand between a session and the connection: redirects and cookies are followed and kept
in front of the cache, and each hop is stored for itself.

Two things here lean on what aiohttp doesn't promise, and a test pins each. `_fabricated` makes a
response of aiohttp's kind without a connection. And bodies are stored as they came: aiohttp takes
content codings off while it reads, before anybody sees the body, so `CachedResponse.start` has the
connection's parser leave them on, and `_Content` takes them off for the caller.
"""

from __future__ import annotations

import copy
import inspect
import ssl
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Self

try:
    import aiohttp
    from aiohttp import ClientPayloadError, ClientResponse, HttpVersion, StreamReader, hdrs
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_exceptions import ContentEncodingError
    from aiohttp.http_parser import DeflateBuffer
    from aiohttp.payload import BytesPayload
    from multidict import CIMultiDict, CIMultiDictProxy
except ImportError as error:
    msg = "stillfresh.clients.aiohttp needs aiohttp 3.12: pip install 'stillfresh[aiohttp]'"
    raise ImportError(msg) from error

from stillfresh.clients._base import (
    CacheSide,
    ClientPorts,
    UnverifiedError,
    credential,
    decoded,
    encoded,
    encoded_lines,
    for_cache,
    unverified,
)
from stillfresh.clients._tasks import TasksBehind, checkpoint
from stillfresh.engine.body import Delivery
from stillfresh.engine.exchange import exchange
from stillfresh.engine.ports import LocalCachePorts, run
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request, Response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from aiohttp import ClientHandlerType, ClientRequest
    from aiohttp.connector import Connection

    from stillfresh import events
    from stillfresh.caches.base import BaseCache, Entry, EntryWriter
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._base import Line
    from stillfresh.engine.answers import Answer, CacheInfo
    from stillfresh.rfc9111.policy import Policy

__all__ = ["CacheMiddleware", "CachedResponse", "StoredBodyLost"]

# The codings that aiohttp takes off, and only where there is no other.
_CODINGS: Final = frozenset({"br", "deflate", "gzip", "zstd"})
# A session lets go of a redirect without reading it. So much of one is read before, to be stored.
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_OF_A_REDIRECT: Final = 1 << 16
# How much of a body that has come is taken at once.
_STEP: Final = 1 << 16
# How much of a stored body is handed out before other tasks have their turn.
_TURN: Final = 1 << 20


class StoredBodyLost(ClientPayloadError, BodyLost):
    """A stored body broke off or turned out to be wrong while it was being read."""


class CachedResponse(ClientResponse):
    """An `aiohttp.ClientResponse` that knows what the cache did.

    Attributes:
        from_cache: whether the body came out of the cache.
        cache: what happened, and why.
    """

    from_cache: bool
    cache: CacheInfo
    is_unverified = False
    _delivery: Delivery[Any, Any] | None = None

    async def start(self, connection: Connection) -> ClientResponse:
        """Have the body read as it is sent.

        The request has been written, and nothing of the answer been read: aiohttp has not waited
        since it made the parser that is made anew here.
        """
        transport, protocol = connection.transport, connection.protocol
        context = None if transport is None else transport.get_extra_info("sslcontext")
        self.is_unverified = context is not None and context.verify_mode is ssl.CERT_NONE
        if protocol is not None:
            own: dict[str, Any] = {
                "timer": self._timer,
                "read_until_eof": True,
                "auto_decompress": False,
            }
            for name in _parameters(type(protocol).set_response_params) - own.keys():
                # What this request was sent with, or the session says for all.
                given = protocol if hasattr(protocol, f"_{name}") else self._session
                own[name] = getattr(given, f"_{name}")
            protocol.set_response_params(**own)
        return await super().start(connection)

    def deliver(self, delivery: Delivery[Any, Any] | None, coding: str | None) -> None:
        """Hand out what `delivery` brings without its `coding`; None is nothing at all."""
        self._delivery = delivery
        self.content = _Content(delivery, coding, self._loop)

    def close(self) -> None:
        self._let_go()
        super().close()

    def release(self) -> Any:
        self._let_go()
        return super().release()

    def _let_go(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            run(delivery.close())


class CacheMiddleware:
    """Answers a session's requests from a cache where it may.

    It may serve several sessions of one loop. `auto_decompress` is the session's: that of a single
    request is nothing a middleware can see.
    """

    def __init__(
        self,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
    ) -> None:
        """Answer from `cache`.

        Args:
            cache: a cache, a URL or path of one, or an object with `get`, `set` and `delete`;
                None is the default cache in the platform's cache folder. A cache object stays
                open when the middleware is closed; one that the middleware made is closed with it.
            policy: the user's settings.
            hook: is given every event; the default logs to the logger `stillfresh`.
            clock: the time, in seconds since the epoch.
            identity: who the connections say they are by a client certificate, say: what is
                stored for it is kept apart as by Authorization.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        self.side = CacheSide(cache, policy=policy, hook=hook, clock=clock)
        self.identity = identity
        self._behind = TasksBehind(self.side.tell_failed)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Answer `request` from the cache, from the origin, or from both."""
        if hdrs.UPGRADE in request.headers or request.method == hdrs.METH_CONNECT:
            # What is asked for is a connection.
            return await handler(request)
        return await self._answer(request, handler, self.side.policy)

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if the middleware made it and was closed."""
        return self.side.cache

    async def settle(self) -> None:
        """Wait until no refresh is under way."""
        await self._behind.settle()

    async def close(self) -> None:
        """Drop what is being refreshed, and close the cache if the middleware made it."""
        try:
            await self._behind.drop()
        finally:
            self.side.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def refresh_behind(self, key: str, request: ClientRequest, handler: ClientHandlerType) -> None:
        """Make `request` again in a task."""
        again = _with_headers(request, for_cache(request.headers.items()))
        policy = replace(self.side.policy, stale_while_revalidate=0)

        async def work() -> None:
            async with await self._answer(again, handler, policy) as response:
                async for _ in response.content.iter_any():
                    pass

        self._behind.start(key, work)

    async def _answer(
        self, request: ClientRequest, handler: ClientHandlerType, policy: Policy
    ) -> ClientResponse:
        content = None
        if self.side.wants_content(request.method, str(request.url)):
            content = await _content(request)
        ports = _Ports(self, request, handler, content)
        try:
            answer = await exchange(ports.request, policy, ports, bypass=ports.bypass)
        except ConfigError:
            # aiohttp knows best what is wrong with a URL.
            return await handler(request)
        except UnverifiedError:
            answer = await exchange(ports.request, policy, ports, bypass=ports.bypass)
        try:
            return await _response(ports, request, answer)
        except BaseException:
            if answer.upstream is not None:
                answer.upstream.message.close()
            raise


class _Upstream:
    """A response of the origin's."""

    __slots__ = ("chunks", "message", "response")

    def __init__(self, message: ClientResponse) -> None:
        self.message = message
        self.chunks = _Chunks(message)
        version = message.version or HttpVersion(0, 0)
        self.response = Response(
            message.status,
            decoded(message.raw_headers),
            _on_the_wire(message.reason or "").decode("latin-1"),
            version.major * 10 + version.minor,
        )


class _Chunks:
    """The body of a response of the origin's."""

    __slots__ = ("_message", "_payload", "resumable")

    def __init__(self, message: ClientResponse) -> None:
        self._message = message
        self._payload = message.content
        self.resumable = True

    async def next(self) -> bytes:
        return await self._payload.read(_STEP)

    async def close(self) -> None:
        # At the end aiohttp has released it.
        connection = self._message.connection
        if connection is not None and not self._payload.is_eof():
            connection.close()

    @property
    def are_as_sent(self) -> bool:
        """Whether no coding has been taken off them."""
        ours = isinstance(self._message, CachedResponse)
        return ours and getattr(self._payload, "total_compressed_bytes", None) is None


class _Ports(ClientPorts, LocalCachePorts):
    """What one exchange needs."""

    def __init__(
        self,
        middleware: CacheMiddleware,
        request: ClientRequest,
        handler: ClientHandlerType,
        content: bytes | None,
    ) -> None:
        side, identity = middleware.side, middleware.identity
        lines = [
            (name, value if value.isascii() else _on_the_wire(value).decode("latin-1"))
            for name, value in request.headers.items()
        ]
        if identity is not None:
            lines.append(credential(identity))
        law = Request(request.method, str(request.url), Fields(lines), content)
        ClientPorts.__init__(self, side, law)
        LocalCachePorts.__init__(self, side.cache)
        self._middleware = middleware
        self._given = request
        self._handler = handler
        self._kept: ClientResponse | None = None
        self.bypass = unverified() if request.is_ssl() and request.ssl is False else None

    async def send(self, request: Request) -> _Upstream:
        given = self._given
        kept, self._kept = self._kept, None
        if kept is None:
            sent = given
            if request is not self.request:
                known = frozenset(self.request.fields)
                headers = given.headers.copy()
                headers.update(line for line in request.fields if line not in known)
                sent = _with_headers(given, headers.items())
            kept = await self._asked(sent)
            # A fingerprint may be looked at instead of a certificate.
            looked_at = isinstance(given.ssl, aiohttp.Fingerprint)
            careless = isinstance(kept, CachedResponse) and kept.is_unverified
            if careless and self.bypass is None and not looked_at:
                self.bypass = unverified()
                if sent is given:
                    self._kept = kept
                else:
                    kept.close()
                raise UnverifiedError
        return _Upstream(kept)

    async def discard(self, upstream: _Upstream) -> None:
        if upstream.message.content.is_eof():
            upstream.message.release()
        else:
            # Who knows how long the rest is; a new connection costs less.
            upstream.message.close()

    def is_failure(self, error: Exception) -> bool:
        unreachable = isinstance(
            error, aiohttp.ClientConnectionError | aiohttp.ClientResponseError | TimeoutError
        )
        # A certificate that is wrong is nothing to get over with what is stored.
        return unreachable and not isinstance(error, aiohttp.ClientSSLError)

    def refresh(self, key: str) -> None:
        self._middleware.refresh_behind(key, self._given, self._handler)

    async def _asked(self, request: ClientRequest) -> ClientResponse:
        """Send a request on, and have a response of ours made of the answer.

        It is another where a middleware behind this one has an answer of its own.
        """
        kind = request.response_class
        request.response_class = _kind(kind)
        try:
            return await self._handler(request)
        finally:
            request.response_class = kind


class _Unpaused(BaseProtocol):
    """Stands where a reader has its connection: there is nothing to pause, as it isn't pushed."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, resume_parser: bool = True) -> None:
        pass


class _Content(StreamReader):
    """A body that is fetched when its reader waits for it, without its content coding."""

    def __init__(
        self,
        delivery: Delivery[Any, Any] | None,
        coding: str | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(_Unpaused(loop), _STEP, loop=loop)
        self._delivery = delivery
        self._since = 0
        self._has_more = False
        self._decoder = None if coding is None else DeflateBuffer(self, coding)
        if delivery is None:
            self.feed_eof()

    async def _fetch(self, delivery: Delivery[Any, Any]) -> bytes:
        try:
            return await delivery.next()
        except BodyLost as error:
            lost = StoredBodyLost(str(error))
            self.set_exception(lost)
            raise lost from error
        except BaseException as error:
            if delivery.closed:
                # Who reads on is not to take this for the end.
                broken = aiohttp.ClientConnectionError("Connection closed")
                self.set_exception(error if isinstance(error, Exception) else broken)
            raise

    async def fill(self, size: int) -> None:
        """Fetch the body, but for what is left of it after `size` bytes."""
        while not self.is_eof() and self.total_bytes < size:
            await self._wait("fill")

    async def _wait(self, func_name: str) -> None:
        """Fetch what comes next; every way of reading calls this when it has nothing."""
        delivery = self._delivery
        assert delivery is not None  # noqa: S101 - or the end would have been there
        if self._has_more:
            self._take(b"")
            return
        chunk = await self._fetch(delivery)
        self._take(chunk)
        if chunk and delivery.closed and not self._has_more:
            # That was all of it, as one sees who gets it from a connection.
            self._take(b"")
        self._since += len(chunk)
        if self._since >= _TURN:
            self._since = 0
            await checkpoint()

    def _take(self, chunk: bytes) -> None:
        try:
            if not chunk and not self._has_more:
                (self._decoder or self).feed_eof()
            elif self._decoder is None:
                self.feed_data(chunk)
            else:
                self._has_more = bool(self._decoder.feed_data(chunk, len(chunk)))
        except ContentEncodingError as error:
            broken = ClientPayloadError(f"{error.code}, message={error.message!r}")
            self.set_exception(broken)
            raise broken from error


async def _response(
    ports: _Ports,
    request: ClientRequest,
    answer: Answer[Entry, EntryWriter, _Upstream],
) -> ClientResponse:
    """Make of an answer what a session returns."""
    upstream, info = answer.upstream, answer.info
    if upstream is None or info.from_cache:
        response = _fabricated(ports, request, answer, None)
        if answer.entry is not None and isinstance(response.content, _Content):
            # A short body is there at once, as it is where it has come with its head. What is
            # wrong with it is told to whoever reads it.
            with suppress(ClientPayloadError):
                await response.content.fill(1)
        return response
    if answer.entry is not None:
        return _fabricated(ports, request, answer, upstream.chunks)
    message = upstream.message
    if message.status == 101:
        return message
    _describe(message, answer.response.fields.lines, info)
    if not upstream.chunks.are_as_sent or not isinstance(message, CachedResponse):
        # The bytes that came are gone, so there is nothing to be stored.
        if answer.recorder is not None:
            await answer.recorder.abort()
    else:
        delivery = Delivery(ports, answer, upstream.chunks)
        message.deliver(delivery, _coding(request, message))
        if message.status in _REDIRECTS and isinstance(message.content, _Content):
            await message.content.fill(_MOST_OF_A_REDIRECT)
    return message


def _fabricated(
    ports: _Ports,
    request: ClientRequest,
    answer: Answer[Entry, EntryWriter, _Upstream],
    rest: _Chunks | None,
) -> CachedResponse:
    """Make a response without a connection, or with one that brings the end of its body."""
    head, upstream = answer.response, answer.upstream
    kind = _kind(request.response_class)
    given: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": request._timer,  # noqa: SLF001 - as `ClientRequest.send` has it
        "request_info": request.request_info,
        "traces": request._traces,  # noqa: SLF001
        "loop": request.loop,
        "session": request.session,
        "stream_writer": SimpleNamespace(output_size=0),
    }
    known = _parameters(kind.__init__)
    response = kind(
        request.method,
        request.original_url,
        **{name: value for name, value in given.items() if name in known},
    )
    response.version = HttpVersion(*divmod(head.version, 10))
    response.status = head.status
    response.reason = encoded(head.reason).decode("utf-8", "surrogateescape")
    response._closed = False  # noqa: SLF001 - these are what `ClientResponse.start` sets
    _describe(response, head.fields.lines, answer.info)
    if upstream is not None:
        # A session takes cookies from here. A Set-Cookie that was stored has been heard once, and
        # setting it again could undo what came after.
        heard = upstream.message.headers.getall(hdrs.SET_COOKIE, ())
        response._raw_cookie_headers = tuple(heard) or None  # noqa: SLF001
    if rest is not None and upstream is not None:
        response._connection = upstream.message.connection  # noqa: SLF001
    delivery = None if answer.entry is None else Delivery(ports, answer, rest)
    response.deliver(delivery, _coding(request, response))
    response.content.on_eof(response._response_eof)  # noqa: SLF001
    return response


def _describe(response: ClientResponse, lines: Sequence[Line], info: CacheInfo) -> None:
    """Give a response its head, and what the cache has to say."""
    raw = tuple(encoded_lines(lines))
    headers = CIMultiDict(
        (name, value if value.isascii() else encoded(value).decode("utf-8", "surrogateescape"))
        for name, value in lines
    )
    response._raw_headers = raw  # noqa: SLF001 - as `ClientResponse.start` does
    response._headers = CIMultiDictProxy(headers)  # noqa: SLF001
    # What has been looked at is remembered.
    response._cache.clear()  # noqa: SLF001
    vars(response).update(from_cache=info.from_cache, cache=info)


def _coding(request: ClientRequest, response: ClientResponse) -> str | None:
    """Return the content coding to take off, as aiohttp's parser would."""
    if not request.session.auto_decompress or request.method == hdrs.METH_HEAD:
        return None
    coding = response.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    return coding if coding in _CODINGS else None


_KINDS: Final[dict[type, type[CachedResponse]]] = {ClientResponse: CachedResponse}


def _kind(given: type[ClientResponse]) -> type[CachedResponse]:
    """Return the class of response that a session wants, as one of ours."""
    if issubclass(given, CachedResponse):
        return given
    if given not in _KINDS:
        _KINDS[given] = type(given.__name__, (CachedResponse, given), {})
    return _KINDS[given]


@lru_cache(maxsize=16)
def _parameters(function: Callable[..., object]) -> frozenset[str]:
    """Return the names of what a function takes: newer versions of aiohttp take more."""
    return frozenset(inspect.signature(function).parameters) - {"self"}


def _with_headers(request: ClientRequest, lines: Iterable[Line]) -> ClientRequest:
    """Return a request like `request` with other header lines."""
    again = copy.copy(request)
    again.headers = CIMultiDict(lines)
    return again


async def _content(request: ClientRequest) -> bytes | None:
    """Return the request's content if it is at hand; a stream is not."""
    body = request.body
    if not body:
        return b""
    with suppress(Exception):  # of whatever a payload is made of
        if isinstance(body, BytesPayload):
            return await body.as_bytes()
    return None


def _on_the_wire(text: str) -> bytes:
    """Return the bytes that aiohttp reads as `text`, or writes for it."""
    return text.encode("utf-8", "surrogateescape")
