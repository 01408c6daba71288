"""Responses of aiohttp's kind whose bodies the cache records or stored, and how they are made.

Two things here lean on what aiohttp doesn't promise, and a test pins each. `fabricated` makes a
response without a connection. And bodies are stored as they came: aiohttp takes content codings off
while it reads, before anybody sees the body, so `CachedResponse.start` has the connection's parser
leave them on, and `Content` takes them off for the caller.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from functools import lru_cache
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import (
    ClientPayloadError,
    ClientResponse,
    ClientResponseError,
    HttpVersion,
    StreamReader,
    hdrs,
)
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import reify
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.http_parser import DeflateBuffer
from multidict import CIMultiDict, CIMultiDictProxy

from stillfresh.clients._base import encoded, encoded_lines
from stillfresh.clients._tasks import checkpoint
from stillfresh.engine.ports import run
from stillfresh.errors import BodyLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import ClientRequest
    from aiohttp.connector import Connection

    from stillfresh.clients._base import Line
    from stillfresh.engine.answers import CacheInfo
    from stillfresh.engine.delivery import Delivery
    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.messages import Response

# The codings that aiohttp takes off, and only where there is no other.
_CODINGS: Final = frozenset({"br", "deflate", "gzip", "zstd"})
# How much of a body that has come is taken at once.
STEP: Final = 1 << 16
# What was written of a request that was not sent.
_NOTHING_WRITTEN: Final = SimpleNamespace(output_size=0)
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
    _fields: Fields | None = None
    is_unverified = False
    _delivery: Delivery[Any, Any] | None = None
    _suspends = False
    _closing: asyncio.Task[None] | None = None

    @reify
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The field lines as they stood on the wire, and what the cache has to say."""
        return self._raw_headers if self._fields is None else tuple(encoded_lines(self._fields))

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

    def deliver(
        self, delivery: Delivery[Any, Any] | None, coding: str | None, *, suspends: bool = False
    ) -> None:
        """Hand out what `delivery` brings without its `coding`; None is nothing at all.

        One that `suspends` is closed by a task, where a response is closed without being awaited.
        """
        self._delivery, self._suspends = delivery, suspends
        try:
            self.content = Content(delivery, coding, self._loop)
        except ContentEncodingError as error:
            # What takes the coding off is not installed.
            self.close()
            info, history = self.request_info, self.history
            raise ClientResponseError(
                info, history, status=400, message=error.message, headers=self.headers
            ) from error
        # As `start` has it: at the end the connection is let go of.
        self.content.on_eof(self._response_eof)

    def hand_out(self, body: bytes, lost: BodyLost | None = None) -> None:
        """Give all of a body at once, which has no coding; or tell its reader that it is lost."""
        self.content = content = StreamReader(_Unpaused(self._loop), STEP, loop=self._loop)
        if lost is None:
            content.feed_data(body)
            content.feed_eof()
            self._response_eof()
        else:
            told = StoredBodyLost(str(lost))
            told.__cause__ = lost
            content.set_exception(told)

    def close(self) -> None:
        self._let_go()
        super().close()

    def release(self) -> Any:
        self._let_go()
        return super().release()

    def _let_go(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            return
        if self._suspends:
            task = self._closing = self._loop.create_task(delivery.close())
            _closing.add(task)
            task.add_done_callback(_closing.discard)
        else:
            run(delivery.close())

    async def wait_for_close(self) -> None:
        await super().wait_for_close()
        if self._closing is not None:
            await asyncio.wait([self._closing])


# What closes deliveries, kept until it is done: a loop doesn't.
_closing: Final[set[asyncio.Task[None]]] = set()


class _Unpaused(BaseProtocol):
    """Stands where a reader has its connection: there is nothing to pause, as it isn't pushed."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, resume_parser: bool = True) -> None:
        pass


class Content(StreamReader):
    """A body that is fetched when its reader waits for it, without its content coding."""

    def __init__(
        self,
        delivery: Delivery[Any, Any] | None,
        coding: str | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(_Unpaused(loop), STEP, loop=loop)
        self._delivery = delivery
        self._since = 0
        self._has_more = False
        self._decoder = None if coding is None else DeflateBuffer(self, coding)
        if delivery is None:
            self.feed_eof()

    def feed_eof(self) -> None:
        super().feed_eof()
        # It leads back to the response whose body this is.
        self._delivery = None

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


def fabricated(
    request: ClientRequest, head: Response, info: CacheInfo, heard: ClientResponse | None
) -> CachedResponse:
    """Make a response without a connection; its body is still to be delivered.

    `heard` is the origin's that refreshed it, or brings the end of its body, if there is one.
    """
    kind = kind_of(request.response_class)
    given: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": request._timer,  # noqa: SLF001 - as `ClientRequest.send` has it
        "request_info": request.request_info,
        "traces": request._traces,  # noqa: SLF001
        "loop": request.loop,
        "session": request.session,
        "stream_writer": _NOTHING_WRITTEN,
    }
    if not given.keys() <= _parameters(kind.__init__):
        given = {name: given[name] for name in given.keys() & _parameters(kind.__init__)}
    response = kind(request.method, request.original_url, **given)
    response.version = _version(head.version)
    response.status = head.status
    response.reason = head.reason if head.reason.isascii() else _as_read(head.reason)
    response._closed = False  # noqa: SLF001 - these are what `ClientResponse.start` sets
    describe(response, head.fields, info)
    if heard is not None:
        # A session takes cookies from here. A Set-Cookie that was stored has been heard once, and
        # setting it again could undo what came after.
        cookies = heard.headers.getall(hdrs.SET_COOKIE, ())
        response._raw_cookie_headers = tuple(cookies) or None  # noqa: SLF001
        response._connection = heard.connection  # noqa: SLF001
    return response


def describe(response: ClientResponse, fields: Fields, info: CacheInfo) -> None:
    """Give a response its head, and what the cache has to say."""
    if isinstance(response, CachedResponse):
        response._fields = fields
    else:
        raw = tuple(encoded_lines(fields))
        response._raw_headers = raw  # noqa: SLF001 - as `ClientResponse.start` does
    response._headers = fields.known(_headers)  # noqa: SLF001
    response._cache.clear()  # noqa: SLF001 - what has been looked at is remembered there
    shown: Any = response
    shown.from_cache = info.from_cache
    shown.cache = info


def _headers(fields: Fields) -> CIMultiDictProxy[str]:
    """Return field lines as aiohttp shows them, which nobody can change."""
    lines = fields.lines
    shown: Iterable[Line] = lines
    if not "".join(chain.from_iterable(lines)).isascii():
        shown = [(name, _as_read(value)) for name, value in lines]
    return CIMultiDictProxy(CIMultiDict(shown))


def _as_read(text: str) -> str:
    """Return what aiohttp reads where `text` is stored."""
    return encoded(text).decode("utf-8", "surrogateescape")


@lru_cache(maxsize=16)
def _version(number: int) -> HttpVersion:
    return HttpVersion(*divmod(number, 10))


def coding_of(request: ClientRequest, response: ClientResponse) -> str | None:
    """Return the content coding to take off, as aiohttp's parser would."""
    if not request.session.auto_decompress or request.method == hdrs.METH_HEAD:
        return None
    coding = response.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    return coding if coding in _CODINGS else None


_KINDS: Final[dict[type, type[CachedResponse]]] = {ClientResponse: CachedResponse}


def kind_of(given: type[ClientResponse]) -> type[CachedResponse]:
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


def on_the_wire(text: str) -> bytes:
    """Return the bytes that aiohttp reads as `text`, or writes for it."""
    return text.encode("utf-8", "surrogateescape")
