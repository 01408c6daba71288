"""What a program that uses httpx or httpx2 says to a type checker: never run, read by mypy."""

from pathlib import Path
from typing import assert_type

import httpx
import httpx2

from stillfresh import BaseCache, CacheInfo, MemoryCache
from stillfresh.clients import httpx as with_httpx
from stillfresh.clients import httpx2 as with_httpx2

URL = "https://example.org/"


def responses_say_what_the_cache_did() -> None:
    client = with_httpx.CachedClient()
    r = client.get(URL)
    assert_type(r, httpx.Response)
    info: CacheInfo = r.extensions["cache"]
    assert_type(info.from_cache, bool)
    assert_type(r.headers["Cache-Status"], str)
    assert_type(client.cache, BaseCache)


def the_same_with_httpx2() -> None:
    with with_httpx2.CachedClient(Path("web"), timeout=5) as client:
        r = client.get(URL)
        assert_type(r, httpx2.Response)
        info: CacheInfo = r.extensions["cache"]
        assert_type(info.from_cache, bool)


def what_is_sent_is_a_request_and_brings_a_response(
    client: with_httpx.CachedClient, client2: with_httpx2.CachedClient
) -> None:
    assert_type(client.send(client.build_request("GET", URL), stream=True), httpx.Response)
    assert_type(client2.send(client2.build_request("GET", URL)), httpx2.Response)
    client.send(URL)  # type: ignore[arg-type]
    client2.send(client2.build_request("GET", URL), streams=True)  # type: ignore[call-arg]


async def the_same_to_be_awaited() -> None:
    async with with_httpx.AsyncCachedClient("memory:", offload=True) as client:
        assert_type(await client.get(URL), httpx.Response)
        assert_type(await client.send(client.build_request("GET", URL)), httpx.Response)
        await client.send(URL)  # type: ignore[arg-type]
    async with with_httpx2.AsyncCachedClient() as client2:
        r = await client2.get(URL)
        assert_type(r, httpx2.Response)
        assert_type(await client2.send(client2.build_request("GET", URL)), httpx2.Response)
        info: CacheInfo = r.extensions["cache"]
        assert_type(info.why.sentence, str)


def transports_for_clients_of_ones_own() -> tuple[httpx.Client, httpx2.AsyncClient]:
    blocking = with_httpx.CacheTransport(httpx.HTTPTransport(), cache=MemoryCache())
    awaited = with_httpx2.AsyncCacheTransport(httpx2.AsyncHTTPTransport(), cache=MemoryCache())
    with_httpx.CacheTransport(MemoryCache())  # type: ignore[arg-type]
    with_httpx.AsyncCacheTransport(httpx.HTTPTransport())  # type: ignore[arg-type]
    return httpx.Client(transport=blocking), httpx2.AsyncClient(transport=awaited)
