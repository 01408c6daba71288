"""One request through a transport and the cache before it, whichever library and world it is of."""

from __future__ import annotations

import ssl
import time
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from stillfresh.clients._base import (
    CacheSide,
    ClientPorts,
    UnverifiedError,
    credential,
    decoded,
    encoded,
    encoded_lines,
    unverified,
)
from stillfresh.engine.behind import LEFT_OUT
from stillfresh.engine.delivery import Delivery, short_body
from stillfresh.engine.exchange import exchange
from stillfresh.engine.offload import OffloadedCachePorts
from stillfresh.engine.ports import AsyncCachePorts, LocalCachePorts
from stillfresh.errors import BodyLost, ConfigError
from stillfresh.rfc9111.messages import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stillfresh import events
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._base import Line
    from stillfresh.engine.answers import Answer
    from stillfresh.engine.delivery import Chunks
    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.policy import Policy

# The extension of a request by which a client says that the body is wanted as a whole.
WHOLE: Final = "stillfresh_whole"
_VERSIONS: Final = {10: b"HTTP/1.0", 11: b"HTTP/1.1", 20: b"HTTP/2", 30: b"HTTP/3"}
_NUMBERS: Final = {name: number for number, name in _VERSIONS.items()}


class _Headers(Protocol):
    def __contains__(self, name: Any, /) -> bool: ...
    @property
    def raw(self) -> list[tuple[bytes, bytes]]: ...


class _Request(Protocol):
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> Any: ...
    @property
    def headers(self) -> _Headers: ...
    @property
    def stream(self) -> Any: ...
    @property
    def content(self) -> bytes: ...

    extensions: dict[str, Any]


class _Response(Protocol):
    @property
    def status_code(self) -> int: ...
    @property
    def is_stream_consumed(self) -> bool: ...

    stream: Any
    headers: Any
    extensions: dict[str, Any]


Q = TypeVar("Q", bound=_Request)
A = TypeVar("A", bound=_Response)


@dataclass(frozen=True, slots=True)
class Library(Generic[Q, A]):
    """What is made of a library's, and known by it.

    Attributes:
        headers: makes the library's mapping of header lines.
        blocking_transport, async_transport: make the library's own, with its defaults.
        blocking_stream, async_stream: make a stream of a delivery.
        replayable: a stream of bytes, which can be read twice.
        unreachable: the errors that say that an origin can't be reached.
        lost: the error that says that a stored body is damaged.
    """

    request: Callable[..., Q]
    response: Callable[..., A]
    headers: Callable[[list[tuple[bytes, bytes]]], Any]
    blocking_transport: Callable[[], Any]
    async_transport: Callable[[], Any]
    blocking_stream: Callable[[Delivery[Any, Any]], Any]
    async_stream: Callable[[Delivery[Any, Any]], Any]
    replayable: type[Any]
    unreachable: tuple[type[Exception], ...]
    lost: type[BodyLost]

    def headers_of_stored(self, fields: Fields) -> Any:
        """Return the library's mapping of a stored response's lines; callers get copies of it.

        A client takes cookies from what it sees in the head. What is stored has been heard once,
        and setting it again could undo what came after.
        """
        lines = encoded_lines(fields)
        if "set-cookie" in fields:
            lines = [line for line in lines if line[0].lower() != b"set-cookie"]
        return self.headers(lines)


@dataclass(frozen=True, slots=True)
class Connections:
    """What is known of the connections of a transport, and concerns the cache.

    Attributes:
        identity: tells its requests apart from those of others, as a client certificate does.
        verified: whether the certificates of servers are looked at.
    """

    identity: object = None
    verified: bool = True


class _Upstream(Generic[A]):
    """A response of the origin's."""

    __slots__ = ("chunks", "message", "response")

    def __init__(self, message: A, chunks: Chunks) -> None:
        self.message = message
        self.chunks = chunks
        extensions = message.extensions
        self.response = Response(
            message.status_code,
            decoded(message.headers.raw),
            extensions.get("reason_phrase", b"").decode("latin-1"),
            _NUMBERS.get(extensions.get("http_version", b"HTTP/1.1"), 0),
        )


class _Ports(ClientPorts, Generic[Q, A]):
    """What one exchange needs, but for the ports of a cache."""

    def __init__(self, transport: Transport[Q, A], request: Q) -> None:
        headers = transport.side.fields_of(request.headers.raw, decoded)
        connections = transport.connections
        self._own: Line | None = None
        if connections.identity is not None:
            self._own = credential(connections.identity)
            headers = headers.adding(*self._own)
        method, url = request.method, str(request.url)
        content = _content(request) if transport.side.wants_content(method, url) else None
        ClientPorts.__init__(self, transport.side, Request(method, url, headers, content))
        self.signal = transport.signal
        self._transport = transport
        self._given = request
        # Who wants all of it at once is given none of it before it is known to be right.
        self.whole = bool(request.extensions.get(WHOLE))
        self._is_secure = request.url.scheme == "https"
        self._kept: A | None = None
        self.bypass = unverified() if self._is_secure and not connections.verified else None

    async def send(self, request: Request) -> _Upstream[A]:
        transport, given = self._transport, self._given
        kept, self._kept = self._kept, None
        if kept is None:
            sent = given if request is self.request else self._with_fields(request)
            kept = await transport.forward(sent)
            if self._is_secure and self.bypass is None and _is_unverified(kept):
                await self._learn_that_it_is_unverified(kept, plain=sent is given)
        return _Upstream(kept, transport.chunks_of(kept))

    @property
    def patience(self) -> float | None:
        read: float | None = self._given.extensions.get("timeout", {}).get("read")
        return read

    async def discard(self, upstream: _Upstream[A]) -> None:
        head = upstream.response
        with suppress(Exception):
            try:
                if head.status == 304 or head.fields.get("content-length") == "0":
                    # A connection can be used again when the end has been read.
                    await upstream.chunks.next()
            finally:
                await upstream.chunks.close()

    def is_failure(self, error: Exception) -> bool:
        return isinstance(error, self._transport.library.unreachable) and not _is_about_tls(error)

    def refresh(self, key: str) -> None:
        self._transport.refresh_behind(key, self._given)

    def _with_fields(self, request: Request) -> Q:
        """Return the caller's request with the fields that the cache wants sent."""
        given, own = self._given, self._own
        lines = [(encoded(name), encoded(value)) for name, value in request.fields]
        if own is not None:
            lines.remove((encoded(own[0]), encoded(own[1])))
        return self._transport.like(given, lines)

    async def _learn_that_it_is_unverified(self, message: A, *, plain: bool) -> None:
        """Have the exchange begun anew, past the cache, and this response used if it fits."""
        self._transport.distrust()
        self.bypass = unverified()
        if plain:
            self._kept = message
        else:
            await self._transport.chunks_of(message).close()
        raise UnverifiedError


class LocalPorts(_Ports[Q, A], LocalCachePorts):
    """What an exchange needs with a cache that is called inline."""

    def __init__(self, transport: Transport[Q, A], request: Q) -> None:
        _Ports.__init__(self, transport, request)
        LocalCachePorts.__init__(self, transport.side.cache)


class OffloadedPorts(_Ports[Q, A], OffloadedCachePorts):
    """What an exchange needs with a cache that is called in threads."""

    def __init__(self, transport: Transport[Q, A], request: Q) -> None:
        _Ports.__init__(self, transport, request)
        OffloadedCachePorts.__init__(self, transport.side.cache, transport.side.executor)


class AwaitedPorts(_Ports[Q, A], AsyncCachePorts):
    """What an exchange needs with a cache that is awaited."""

    def __init__(self, transport: Transport[Q, A], request: Q) -> None:
        _Ports.__init__(self, transport, request)
        AsyncCachePorts.__init__(self, transport.side.cache)


class Blocking(Protocol):
    """A blocking transport of a library's, or anybody's."""

    def handle_request(self, request: Any, /) -> Any: ...


class Awaited(Protocol):
    """An async transport of a library's, or anybody's."""

    def handle_async_request(self, request: Any, /) -> Awaitable[Any]: ...


class Transport(Generic[Q, A]):
    """What blocking and async transports have in common.

    Attributes:
        library: what is made, and of what.
        behind: keeps the refreshes behind callers' backs.
        signal: makes what is waited for where somebody else asks for the same.
        inner: the transport that what has to go to the origin goes through.
        side: the cache's side.
        connections: what is known of `inner`.
    """

    library: ClassVar[Library[Any, Any]]
    behind: ClassVar[type[Any]]
    signal: ClassVar[Any]
    inner: Any
    side: Any
    connections: Connections

    def __init__(
        self,
        transport: Blocking | None = None,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
    ) -> None:
        """Answer from `cache`, and by `transport` what has to go to the origin.

        Args:
            transport: of the library, or anybody's; closed with this one. None is the library's
                own with its defaults.
            cache: a cache, a URL or path of one, or an object with `get`, `set` and `delete`;
                None is the default cache in the platform's cache folder. A cache object stays
                open when the transport is closed; one that the transport made is closed with it.
            policy: the user's settings.
            hook: is given every event; the default logs to the logger `stillfresh`.
            clock: the time, in seconds since the epoch.
            identity: who `transport` says it is by a client certificate, say: what is stored for
                it is kept apart as by Authorization.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        side = CacheSide(cache, policy=policy, hook=hook, clock=clock)
        self._begin_over(transport, side, identity)

    def _begin_over(self, transport: Any, side: Any, identity: str | None) -> None:
        inner = self.plain() if transport is None else transport
        self._begin(inner, side, self.behind(side.tell_failed), Connections(identity))

    @classmethod
    def over(cls, inner: Any, side: Any, behind: Any, connections: Connections) -> Self:
        """Make one that shares its cache with others."""
        transport = cls.__new__(cls)
        transport._begin(inner, side, behind, connections)  # noqa: SLF001 - our own
        return transport

    def _begin(self, inner: Any, side: Any, behind: Any, connections: Connections) -> None:
        self.inner, self.side, self.connections = inner, side, connections
        self._behind = behind

    @abstractmethod
    def ports_for(self, request: Q) -> Any:
        """Return what an exchange about `request` needs."""

    @abstractmethod
    def plain(self) -> Any:
        """Make the library's own transport."""

    @abstractmethod
    async def forward(self, request: Q) -> A:
        """Send a request by the transport inside."""

    @abstractmethod
    def chunks_of(self, message: A) -> Chunks:
        """Return the body of a response of the origin's."""

    @abstractmethod
    def stream_of(self, delivery: Delivery[Any, Any]) -> Any:
        """Return what the library reads a body from."""

    @abstractmethod
    def refresh_behind(self, key: str, request: Q) -> None:
        """Make `request` again behind its caller's back."""

    def distrust(self) -> None:
        """Remember that servers are not verified."""
        self.connections = replace(self.connections, verified=False)

    def like(self, given: Q, lines: list[tuple[bytes, bytes]]) -> Q:
        """Return a request as `given`, with other header lines."""
        made: Q = self.library.request(
            given.method,
            given.url,
            headers=lines,
            stream=given.stream,
            extensions=given.extensions,
        )
        return made

    def again(self, given: Q) -> Q:
        """Return a request for the cache of what somebody has asked for."""
        lines = [
            line for line in given.headers.raw if line[0].decode("latin-1").lower() not in LEFT_OUT
        ]
        request = self.like(given, lines)
        request.extensions = {k: v for k, v in given.extensions.items() if k != WHOLE}
        return request

    async def respond(self, request: Q, policy: Policy) -> A:
        """Answer `request` from the cache, from the origin, or from both."""
        ports = self.ports_for(request)
        if "upgrade" in ports.request.fields or request.method == "CONNECT":
            # What is asked for is a connection.
            return await self.forward(request)
        if "target" in request.extensions:
            # What is asked for is not what the URL says.
            return await self.forward(request)
        try:
            answer = await exchange(ports.request, policy, ports, bypass=ports.bypass)
        except ConfigError:
            # The library knows best what is wrong with a URL.
            return await self.forward(request)
        except UnverifiedError:
            answer = await exchange(ports.request, policy, ports, bypass=ports.bypass)
        upstream = answer.upstream
        if upstream is None or answer.info.from_cache:
            return await self._stored(ports, answer, None)
        if answer.entry is not None:
            return await self._stored(ports, answer, upstream.chunks)
        return await self._passed_on(ports, answer, upstream)

    async def _passed_on(
        self,
        ports: Any,
        answer: Answer[Any, Any, _Upstream[A]],
        upstream: _Upstream[A],
    ) -> A:
        """Add what the cache has to say to a response of the origin's, and record its body."""
        message, recorder = upstream.message, answer.recorder
        headers = self._told(message, answer.response)
        extensions = {**message.extensions, "cache": answer.info}
        if recorder is not None and not self._is_there(message):
            # Somebody in between has read it, and decoded it: the bytes that came are gone.
            await recorder.abort()
            recorder = None
        if recorder is not None:
            stream = self.stream_of(Delivery(ports, answer, upstream.chunks))
            if message.is_stream_consumed:
                # What has its content by now would never read it from a stream.
                return self._made(message.status_code, headers, stream, extensions)
            # As the library's clients do it.
            message.stream = stream
        message.headers = headers
        message.extensions = extensions
        return message

    def _told(self, message: A, head: Response) -> Any:
        """Return the headers of a response of the origin's, and what the cache has to say."""
        name, member = head.fields.lines[-1]
        headers = message.headers
        if name in headers:
            # Caches nearer to the origin have spoken before.
            return self.library.headers([*headers.raw, (encoded(name), encoded(member))])
        told = headers.copy()
        told[name] = member
        return told

    async def _stored(
        self,
        ports: Any,
        answer: Answer[Any, Any, _Upstream[A]],
        rest: Chunks | None,
    ) -> A:
        """Make a response of a stored one."""
        head, upstream = answer.response, answer.upstream
        headers = head.fields.known(self.library.headers_of_stored)
        if upstream is not None and (heard := upstream.response.fields.get_all("set-cookie")):
            lines = [(b"Set-Cookie", encoded(value)) for value in heard]
            headers = self.library.headers([*headers.raw, *lines])
        extensions: dict[str, Any] = {"cache": answer.info}
        if head.version in _VERSIONS:
            extensions["http_version"] = _VERSIONS[head.version]
        if head.reason or head.version < 20:
            extensions["reason_phrase"] = encoded(head.reason)
        library = self.library
        try:
            short = b"" if answer.entry is None else None
            if short is None and rest is None:
                short = await short_body(ports, answer)
        except BodyLost as lost:
            raise library.lost(str(lost)) from lost
        if short is None:
            stream = self.stream_of(Delivery(ports, answer, rest))
        else:
            stream = library.replayable(short)
        return self._made(head.status, headers, stream, extensions)

    def _made(self, status: int, headers: Any, stream: Any, extensions: dict[str, Any]) -> A:
        """Make a response with a copy of the library's own mapping of headers."""
        made: A = self.library.response(
            status, headers=headers, stream=stream, extensions=extensions
        )
        # Or it would look through all of them to find that out.
        made.headers.encoding = headers.encoding
        return made

    def _is_there(self, message: A) -> bool:
        """Tell whether a body can still be read as it came."""
        return not message.is_stream_consumed or isinstance(message.stream, self.library.replayable)


def _content(request: _Request) -> bytes | None:
    """Return the request's content if it is at hand; a stream is not."""
    with suppress(Exception):  # of a class that each library has for itself
        return request.content
    return None


def _is_unverified(message: _Response) -> bool:
    """Tell whether a response came by a connection of which nobody has looked at the certificate.

    A transport that doesn't tell about its connections is believed.
    """
    network = message.extensions.get("network_stream")
    connection = None if network is None else network.get_extra_info("ssl_object")
    context = getattr(connection, "context", None)
    return isinstance(context, ssl.SSLContext) and context.verify_mode is ssl.CERT_NONE


def _is_about_tls(error: BaseException | None) -> bool:
    """Tell whether it is about certificates: nothing to get over with what is stored."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
