"""Each client as the proxy uses it: a request goes in as lines and bytes, a response comes out.

They send no fields of their own, leave bodies encoded, and keep lines of one name apart (but for
requests, which has a mapping for what is sent). httpx is driven as a blocking client and httpx2 as
an async one, since the twins share all that matters; aiohttp has a loop as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import aiohttp
import httpx
import httpx2
import requests
import urllib3
import yarl
from anyio.from_thread import start_blocking_portal
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

import stillfresh.clients.httpx
import stillfresh.clients.httpx2
from stillfresh import BaseCache, Policy
from stillfresh.clients.aiohttp import CachedResponse, CacheMiddleware
from stillfresh.clients.requests import CacheAdapter
from stillfresh.clients.urllib3 import CachedPoolManager

Lines: TypeAlias = list[tuple[str, str]]

# Seconds: to connect to the origin and to wait for it.
_PATIENCE: Final = (5.0, 30.0)
_NOT_ADDED: Final = ("User-Agent", "Accept-Encoding")
_STEP: Final = 65536


class UnreachableError(Exception):
    """There is no response, or no more of it."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A response on its way.

    Attributes:
        body: its bytes as they came; raises `UnreachableError` where they break off.
        close: lets go of it.
    """

    status: int
    reason: str
    lines: Lines
    from_cache: bool
    body: Iterator[bytes]
    close: Callable[[], object]


class Client(ABC):
    """A client with a cache."""

    # What its library raises where the origin can't be reached, or breaks off.
    errors: tuple[type[Exception], ...]

    def send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        """Ask for `url`.

        Raises:
            UnreachableError: there is no response.
        """
        try:
            relayed = self._send(method, url, lines, body)
        except self.errors as error:
            raise UnreachableError(str(error)) from error
        return Relayed(
            relayed.status,
            relayed.reason,
            relayed.lines,
            relayed.from_cache,
            self._watched(relayed.body),
            relayed.close,
        )

    def _watched(self, body: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from body
        except self.errors as error:
            raise UnreachableError(str(error)) from error

    @abstractmethod
    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed: ...

    @abstractmethod
    def close(self) -> None: ...


class _Verbatim(CacheAdapter):
    """Keeps urllib3 from sending fields that the request doesn't have."""

    def add_headers(self, request: requests.PreparedRequest, **kwargs: Any) -> None:
        for name in _NOT_ADDED:
            request.headers.setdefault(name, SKIP_HEADER)


class _Requests(Client):
    errors = (requests.RequestException, HTTPError)

    def __init__(self, cache: BaseCache, policy: Policy) -> None:
        self._adapter = _Verbatim(cache, policy=policy, pool_maxsize=128)

    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.body = method, url, body
        # A mapping that joins lines, as requests makes of a response's.
        prepared.headers = CaseInsensitiveDict(HTTPHeaderDict(lines))
        response = self._adapter.send(prepared, stream=True, timeout=_PATIENCE)
        return Relayed(
            response.status_code,
            response.reason or "",
            list(response.raw.headers.items()),
            vars(response)["from_cache"],
            response.raw.stream(_STEP, decode_content=False),
            response.close,
        )

    def close(self) -> None:
        self._adapter.close()


class _Urllib3(Client):
    errors = (HTTPError,)

    def __init__(self, cache: BaseCache, policy: Policy) -> None:
        self._manager = CachedPoolManager(cache=cache, policy=policy, maxsize=128)

    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        headers = HTTPHeaderDict(lines)
        for name in _NOT_ADDED:
            headers.setdefault(name, SKIP_HEADER)
        response = self._manager.urlopen(
            method,
            url,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=_PATIENCE[0], read=_PATIENCE[1]),
        )

        def close() -> None:
            response.close()
            response.release_conn()

        return Relayed(
            response.status,
            response.reason or "",
            list(response.headers.iteritems()),
            vars(response)["from_cache"],
            response.stream(_STEP),
            close,
        )

    def close(self) -> None:
        self._manager.clear()


# httpx may send by a connection that the origin has just closed, and doesn't send again then.
_LIMITS: Final = {"max_connections": None, "max_keepalive_connections": 0}


def _timeouts() -> dict[str, dict[str, float]]:
    connect, read = _PATIENCE
    return {"timeout": {"connect": connect, "read": read, "write": read, "pool": read}}


def _raw(lines: Lines) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]


def _lines(raw: Any) -> Lines:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


class _Httpx(Client):
    errors = (httpx.TransportError,)

    def __init__(self, cache: BaseCache, policy: Policy) -> None:
        limits = httpx.Limits(**_LIMITS)
        inner = httpx.HTTPTransport(limits=limits)
        self._transport = stillfresh.clients.httpx.CacheTransport(inner, cache, policy=policy)

    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        request = httpx.Request(
            method, url, headers=_raw(lines), content=body, extensions=_timeouts()
        )
        response = self._transport.handle_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)
        return Relayed(
            response.status_code,
            response.reason_phrase,
            _lines(response.headers.raw),
            response.extensions["cache"].from_cache,
            iter(stream),
            stream.close,
        )

    def close(self) -> None:
        self._transport.close()


class _Looped(Client):
    """An async client in a loop of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))

    def _pulled(self, pull: Callable[[], Any]) -> Iterator[bytes]:
        while chunk := self._portal.call(pull):
            yield chunk


class _AsyncHttpx2(_Looped):
    errors = (httpx2.TransportError,)

    def __init__(self, cache: BaseCache, policy: Policy) -> None:
        super().__init__()
        limits = httpx2.Limits(**_LIMITS)
        inner = httpx2.AsyncHTTPTransport(limits=limits)
        self._transport = stillfresh.clients.httpx2.AsyncCacheTransport(inner, cache, policy=policy)

    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        async def ask() -> httpx2.Response:
            request = httpx2.Request(
                method, url, headers=_raw(lines), content=body, extensions=_timeouts()
            )
            return await self._transport.handle_async_request(request)

        response = self._portal.call(ask)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        chunks = aiter(stream)

        async def pull() -> bytes:
            return await anext(chunks, b"")

        return Relayed(
            response.status_code,
            response.reason_phrase,
            _lines(response.headers.raw),
            response.extensions["cache"].from_cache,
            self._pulled(pull),
            lambda: self._portal.call(stream.aclose),
        )

    def close(self) -> None:
        self._portal.call(self._transport.aclose)
        self._stack.close()


def _of_one_case(lines: Lines) -> Lines:
    """Write names of lines that belong together alike, or aiohttp takes one for another."""
    names: dict[str, str] = {}
    return [(names.setdefault(name.lower(), name), value) for name, value in lines]


class _Aiohttp(_Looped):
    errors = (aiohttp.ClientError, TimeoutError)

    def __init__(self, cache: BaseCache, policy: Policy) -> None:
        super().__init__()
        self._middleware = CacheMiddleware(cache, policy=policy)

        async def begin() -> aiohttp.ClientSession:
            connect, read = _PATIENCE
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                middlewares=[self._middleware],
                timeout=aiohttp.ClientTimeout(sock_connect=connect, sock_read=read),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )

        self._session = self._portal.call(begin)

    def _send(self, method: str, url: str, lines: Lines, body: bytes | None) -> Relayed:
        async def ask() -> aiohttp.ClientResponse:
            return await self._session.request(
                method,
                yarl.URL(url, encoded=True),
                headers=_of_one_case(lines),
                data=body,
                skip_auto_headers=[*_NOT_ADDED, "Accept", "Content-Type"],
                allow_redirects=False,
            )

        response = self._portal.call(ask)
        assert isinstance(response, CachedResponse)

        async def close() -> None:
            response.release()

        return Relayed(
            response.status,
            response.reason or "",
            _lines(response.raw_headers),
            response.from_cache,
            self._pulled(response.content.readany),
            lambda: self._portal.call(close),
        )

    def close(self) -> None:
        self._portal.call(self._middleware.close)
        self._portal.call(self._session.close)
        self._stack.close()


CLIENTS: Final[Mapping[str, Callable[[BaseCache, Policy], Client]]] = {
    "requests": _Requests,
    "urllib3": _Urllib3,
    "httpx": _Httpx,
    "httpx2": _AsyncHttpx2,
    "aiohttp": _Aiohttp,
}
