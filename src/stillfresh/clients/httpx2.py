"""httpx2: `CachedClient` and `AsyncCachedClient`, or a transport for a client of one's own.

    httpx2.Client(transport=CacheTransport(httpx2.HTTPTransport(), cache=...))

`response.extensions["cache"]` says what happened. Redirects, cookies, authentication and decoding
stay the client's business: the cache is a transport around a transport.
"""

from __future__ import annotations

try:
    import httpx2
except ImportError as error:
    msg = "stillfresh.clients.httpx2 needs httpx2: pip install 'stillfresh[httpx2]'"
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


class StoredBodyLost(httpx2.ReadError, BodyLost):
    """A stored body broke off or turned out to be wrong while it was being read."""


class _Stream(_httpx.BlockingStream, httpx2.SyncByteStream):
    lost = StoredBodyLost


class _AsyncStream(_httpx.AsyncStream, httpx2.AsyncByteStream):
    lost = StoredBodyLost


_LIBRARY = _httpx.Library(
    request=httpx2.Request,
    response=httpx2.Response,
    headers=httpx2.Headers,
    blocking_transport=httpx2.HTTPTransport,
    async_transport=httpx2.AsyncHTTPTransport,
    blocking_stream=_Stream,
    async_stream=_AsyncStream,
    replayable=httpx2.ByteStream,
    unreachable=(
        httpx2.NetworkError,
        httpx2.ProxyError,
        httpx2.RemoteProtocolError,
        httpx2.TimeoutException,
    ),
    lost=StoredBodyLost,
)


class CacheTransport(
    _httpx.BlockingTransport[httpx2.Request, httpx2.Response], httpx2.BaseTransport
):
    """Answers a client's requests from a cache where it may."""

    library = _LIBRARY


class AsyncCacheTransport(
    _httpx.AsyncTransport[httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """Answers an async client's requests from a cache where it may; for asyncio and trio."""

    library = _LIBRARY


class CachedClient(_httpx.BlockingClient, httpx2.Client):
    """An `httpx2.Client` with a cache."""

    kind = CacheTransport


class AsyncCachedClient(_httpx.AsyncClient, httpx2.AsyncClient):
    """An `httpx2.AsyncClient` with a cache; for asyncio and trio."""

    kind = AsyncCacheTransport
