"""httpx: `CachedClient` and `AsyncCachedClient`, or a transport for a client of one's own.

    httpx.Client(transport=CacheTransport(httpx.HTTPTransport(), cache=...))

`response.extensions["cache"]` says what happened. Redirects, cookies, authentication and decoding
stay the client's business: the cache is a transport around a transport.
"""

from __future__ import annotations

try:
    import httpx
except ImportError as error:
    msg = "stillfresh.clients.httpx needs httpx: pip install 'stillfresh[httpx]'"
    raise ImportError(msg) from error

from stillfresh.clients import _httpx
from stillfresh.errors import BodyLost

__all__ = [
    "AsyncCacheTransport",
    "AsyncCachedClient",
    "CacheTransport",
    "CachedClient",
    "StoredBodyLost",
]


class StoredBodyLost(httpx.ReadError, BodyLost):
    """A stored body broke off or turned out to be wrong while it was being read."""


class _Stream(_httpx.BlockingStream, httpx.SyncByteStream):
    lost = StoredBodyLost


class _AsyncStream(_httpx.AsyncStream, httpx.AsyncByteStream):
    lost = StoredBodyLost


_LIBRARY = _httpx.Library(
    request=httpx.Request,
    response=httpx.Response,
    headers=httpx.Headers,
    blocking_transport=httpx.HTTPTransport,
    async_transport=httpx.AsyncHTTPTransport,
    blocking_stream=_Stream,
    async_stream=_AsyncStream,
    replayable=httpx.ByteStream,
    unreachable=(
        httpx.NetworkError,
        httpx.ProxyError,
        httpx.RemoteProtocolError,
        httpx.TimeoutException,
    ),
    lost=StoredBodyLost,
)


class CacheTransport(_httpx.BlockingTransport[httpx.Request, httpx.Response], httpx.BaseTransport):
    """Answers a client's requests from a cache where it may."""

    library = _LIBRARY


class AsyncCacheTransport(
    _httpx.AsyncTransport[httpx.Request, httpx.Response], httpx.AsyncBaseTransport
):
    """Answers an async client's requests from a cache where it may; for asyncio and trio."""

    library = _LIBRARY


class CachedClient(_httpx.BlockingClient, httpx.Client):
    """An `httpx.Client` with a cache."""

    kind = CacheTransport


class AsyncCachedClient(_httpx.AsyncClient, httpx.AsyncClient):
    """An `httpx.AsyncClient` with a cache; for asyncio and trio."""

    kind = AsyncCacheTransport
