"""aiohttp: `CacheMiddleware`, for the `middlewares` of a `ClientSession`.

    async with aiohttp.ClientSession(middlewares=[CacheMiddleware()]) as session:
        async with session.get("https://example.org/") as response:
            response.from_cache

Middlewares stand between a session and the connection: redirects and cookies are followed and kept
in front of the cache, and each hop is stored for itself.
"""

from __future__ import annotations

import asyncio
import copy
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, cast

try:
    import aiohttp
    from aiohttp import ClientError, ClientPayloadError, ClientResponse, HttpVersion, hdrs
    from aiohttp.payload import BytesPayload
    from aiohttp.streams import EMPTY_PAYLOAD
    from multidict import CIMultiDict
except ImportError as error:
    msg = "stillfresh.clients.aiohttp needs aiohttp 3.12: pip install 'stillfresh[aiohttp]'"
    raise ImportError(msg) from error

from stillfresh.clients._aiohttp import (
    STEP,
    CachedResponse,
    Content,
    StoredBodyLost,
    coding_of,
    describe,
    fabricated,
    kind_of,
    on_the_wire,
)
from stillfresh.clients._base import (
    AsyncCacheSide,
    ClientPorts,
    UnverifiedError,
    credential,
    decoded,
    for_cache,
    unverified,
)
from stillfresh.clients._tasks import TasksBehind
from stillfresh.engine.delivery import Delivery, short_body
from stillfresh.engine.exchange import exchange
from stillfresh.engine.offload import OffloadedCachePorts
from stillfresh.engine.ports import AsyncCachePorts, LocalCachePorts
from stillfresh.engine.waiting import task_signal
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.rfc9111.decisions import Reason, why
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp import ClientHandlerType, ClientRequest

    from stillfresh import events
    from stillfresh.caches.asynchronous import AsyncBaseCache
    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._base import Line
    from stillfresh.engine.answers import Answer
    from stillfresh.engine.waiting import Signal
    from stillfresh.rfc9111.policy import Policy

__all__ = ["CacheMiddleware", "CachedResponse", "StoredBodyLost"]

# aiohttp reads no body of these (RFC 9112 §6.3).
_BODILESS: Final = frozenset({204, 304})
# A session lets go of a redirect without reading it. So much of one is read before, to be stored.
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# The body of a redirect is read for the cache's sake: so much of it, for so many seconds.
_MOST_OF_A_REDIRECT: Final = 1 << 16
_PATIENCE: Final = 1.0


class CacheMiddleware:
    """Answers a session's requests from a cache where it may.

    It may serve several sessions of one loop. `auto_decompress` is the session's: that of a single
    request is nothing a middleware can see.
    """

    def __init__(
        self,
        cache: CacheLike | AsyncBaseCache | None = None,
        *,
        offload: bool = False,
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
                One that is awaited, as a Redis URL makes one, is awaited.
            offload: call a local cache in threads: slower, but a slow disk doesn't stop the loop.
            policy: the user's settings.
            hook: is given every event; the default logs to the logger `stillfresh`.
            clock: the time, in seconds since the epoch.
            identity: who the connections say they are by a client certificate, say: what is
                stored for it is kept apart as by Authorization.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        self.side = AsyncCacheSide(cache, offload=offload, policy=policy, hook=hook, clock=clock)
        self.identity = identity
        self._behind = TasksBehind(self.side.tell_failed)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Answer `request` from the cache, from the origin, or from both."""
        if hdrs.UPGRADE in request.headers or request.method == hdrs.METH_CONNECT:
            # What is asked for is a connection.
            return await handler(request)
        return await self._answer(request, handler, self.side.policy)

    @property
    def cache(self) -> BaseCache | AsyncBaseCache:
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
            await self.side.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def refresh_behind(self, key: str, request: ClientRequest, handler: ClientHandlerType) -> None:
        """Make `request` again in a task."""
        again = _with_headers(request, for_cache(request.headers.items()))
        policy = replace(self.side.policy, stale_while_revalidate=0)

        async def work() -> None:
            # As long as the session gives any request, since there is nobody to lose patience.
            async with (
                asyncio.timeout(request.session.timeout.total),
                await self._answer(again, handler, policy) as response,
            ):
                async for _ in response.content.iter_any():
                    pass

        self._behind.start(key, work)

    async def _answer(
        self, request: ClientRequest, handler: ClientHandlerType, policy: Policy
    ) -> ClientResponse:
        content = None
        if policy.rules and self.side.wants_content(request.method, str(request.url)):
            content = await _content(request)
        kinds: tuple[Any, Any, Any] = (_LocalPorts, _OffloadedPorts, _AwaitedPorts)
        ports = self.side.choose(*kinds)(self, request, handler, content)
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
            on_the_wire(message.reason or "").decode("latin-1"),
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
        payload = self._payload
        if payload.exception() is not None and payload._buffer:  # noqa: SLF001
            # What has come before a connection broke is worth having; `read` would say first that
            # it broke.
            return payload._read_nowait(STEP)  # noqa: SLF001
        return await payload.read(STEP)

    async def close(self) -> None:
        # At the end aiohttp has released it.
        payload, connection = self._payload, self._message.connection
        if connection is not None and not payload.is_eof():
            connection.close()
            if payload.exception() is None:
                # For whoever waits for more of it.
                payload.set_exception(aiohttp.ClientConnectionError("Connection closed"))

    @property
    def are_as_sent(self) -> bool:
        """Whether no coding has been taken off them."""
        ours = isinstance(self._message, CachedResponse)
        return ours and getattr(self._payload, "total_compressed_bytes", None) is None


class _Ports(ClientPorts):
    """What one exchange needs, but for the ports of a cache."""

    def __init__(
        self,
        middleware: CacheMiddleware,
        request: ClientRequest,
        handler: ClientHandlerType,
        content: bytes | None,
    ) -> None:
        side, identity = middleware.side, middleware.identity
        fields = side.fields_of(list(request.headers.items()), _fields)
        if identity is not None:
            fields = fields.adding(*credential(identity))
        law = Request(request.method, str(request.url), fields, content)
        ClientPorts.__init__(self, side, law)
        self.signal: Callable[[], Signal] | None = task_signal
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
                headers.update(_as_sent(line for line in request.fields if line not in known))
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
            sent_with = kept.request_info.headers
            unseen = self._middleware.side.policy.concealed - self.request.fields.names
            if self.bypass is None and any(name in sent_with for name in unseen):
                # A middleware behind this one has said who asks.
                self.bypass = why(Reason.UNSEEN)
                self._kept = kept
                raise UnverifiedError
        return _Upstream(kept)

    @property
    def patience(self) -> float | None:
        # `total` is counted all the time; that of a single request nobody here can see.
        sock_read: float | None = self._given.session.timeout.sock_read
        return sock_read or None

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
        request.response_class = kind_of(kind)
        try:
            try:
                return await self._handler(request)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD} or request.body:
                    raise
                # The connection may have been idle for too long, which is no failure: a session
                # asks once more, but hears of none that something stored stands in for.
                return await self._handler(request)
        finally:
            request.response_class = kind


class _LocalPorts(_Ports, LocalCachePorts):
    """With a cache that is called inline."""

    def __init__(self, middleware: CacheMiddleware, *about: Any) -> None:
        _Ports.__init__(self, middleware, *about)
        LocalCachePorts.__init__(self, cast("BaseCache", middleware.cache))


class _OffloadedPorts(_Ports, OffloadedCachePorts):
    """With a cache that is called in threads."""

    def __init__(self, middleware: CacheMiddleware, *about: Any) -> None:
        _Ports.__init__(self, middleware, *about)
        cache = cast("BaseCache", middleware.cache)
        OffloadedCachePorts.__init__(self, cache, middleware.side.executor)


class _AwaitedPorts(_Ports, AsyncCachePorts):
    """With a cache that is awaited."""

    def __init__(self, middleware: CacheMiddleware, *about: Any) -> None:
        _Ports.__init__(self, middleware, *about)
        AsyncCachePorts.__init__(self, cast("AsyncBaseCache", middleware.cache))


async def _response(
    ports: Any,
    request: ClientRequest,
    answer: Answer[Any, Any, _Upstream],
) -> ClientResponse:
    """Make of an answer what a session returns."""
    upstream, info = answer.upstream, answer.info
    head = answer.response
    if upstream is None or info.from_cache or answer.entry is not None:
        heard = None if upstream is None else upstream.message
        rest = None if upstream is None or info.from_cache else upstream.chunks
        response = fabricated(request, head, info, heard)
        coding = coding_of(request, response)
        if rest is not None:
            response.deliver(Delivery(ports, answer, rest), coding, suspends=ports.suspends)
            return response
        await _hand_out(ports, answer, response, coding)
        if head.status in _BODILESS or request.method == hdrs.METH_HEAD:
            response.content = EMPTY_PAYLOAD
        return response
    message = upstream.message
    if message.status == 101:
        return message
    describe(message, head.fields, info)
    if not upstream.chunks.are_as_sent or not isinstance(message, CachedResponse):
        # The bytes that came are gone, so there is nothing to be stored.
        if answer.recorder is not None:
            await answer.recorder.abort()
        return message
    coding = coding_of(request, message)
    if answer.recorder is None and coding is None:
        # It comes as it would without a cache.
        return message
    is_bodiless = message.content is EMPTY_PAYLOAD
    message.deliver(Delivery(ports, answer, upstream.chunks), coding, suspends=ports.suspends)
    if isinstance(message.content, Content):
        if is_bodiless:
            # There is nothing to wait for; and this may be read after it was let go of.
            await message.content.fill(1)
            message.content = EMPTY_PAYLOAD
        elif answer.recorder is not None and message.status in _REDIRECTS:
            # aiohttp follows it without a look at its body, which is worth keeping. But that may
            # break off, or not come.
            with suppress(ClientError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await message.content.fill(_MOST_OF_A_REDIRECT)
    return message


async def _hand_out(
    ports: Any, answer: Answer[Any, Any, _Upstream], response: CachedResponse, coding: str | None
) -> None:
    """Give a response its stored body.

    A short one is there at once, as it is where it has come with its head. What is wrong with it is
    told to whoever reads it.
    """
    if coding is None:
        try:
            body = await short_body(ports, answer)
        except BodyLost as lost:
            response.hand_out(b"", lost)
            return
        if body is not None:
            response.hand_out(body)
            return
    delivery = None if answer.entry is None else Delivery(ports, answer)
    response.deliver(delivery, coding, suspends=ports.suspends)
    if isinstance(response.content, Content):
        with suppress(ClientPayloadError):
            await response.content.fill(1)


def _fields(lines: list[Line]) -> Fields:
    """Read the fields of a request."""
    if "".join([value for _, value in lines]).isascii():
        return Fields(lines)
    return Fields([(name, on_the_wire(value).decode("latin-1")) for name, value in lines])


def _as_sent(lines: Iterable[Line]) -> Iterator[Line]:
    """Write values so that aiohttp, which encodes them in UTF-8, sends the bytes they stand for.

    What can't be sent so is left out; it is a validator, without which the answer is a whole one.
    """
    for name, value in lines:
        with suppress(UnicodeError):
            yield name, value if value.isascii() else value.encode("latin-1").decode()


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
