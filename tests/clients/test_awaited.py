"""Async clients with a cache that is awaited: AsyncRedisCache, on a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from stillfresh.caches.redis import AsyncRedisCache, RedisCache
from stillfresh.clients import httpx, httpx2
from stillfresh.clients.aiohttp import CacheMiddleware
from tests.origin import Document, Origin, Reply
from tests.redis_servers import RedisServer, needs_redis

pytestmark = needs_redis

FRESH = {"Cache-Control": "max-age=60"}
# A page, what a row of Redis holds, and what takes several pieces.
BODIES = (b"hello", bytes(range(256)) * 256, bytes(range(256)) * 6000)
PATIENT = 10.0
_numbers = itertools.count()


class Httpx:
    """A client of httpx's, by what is done with it here."""

    library = httpx

    def __init__(self, cache: Any) -> None:
        self._client = self.library.AsyncCachedClient(cache, trust_env=False, timeout=30)
        self.cache = self._client.cache

    async def get(self, url: str) -> tuple[bytes, Any]:
        response = await self._client.get(url)
        return response.content, response.extensions["cache"]

    async def begin(self, url: str) -> None:
        async with self._client.stream("GET", url) as response:
            async for _ in response.aiter_bytes():
                break

    async def close(self) -> None:
        await self._client.aclose()


class Httpx2(Httpx):
    library = httpx2


class Aiohttp:
    """A session of aiohttp's, likewise."""

    def __init__(self, cache: Any) -> None:
        self._middleware = CacheMiddleware(cache)
        self._session = aiohttp.ClientSession(middlewares=[self._middleware])
        self.cache = self._middleware.cache

    async def get(self, url: str) -> tuple[bytes, Any]:
        async with self._session.get(url) as response:
            return await response.read(), response.cache  # type: ignore[attr-defined]

    async def begin(self, url: str) -> None:
        async with self._session.get(url) as response:
            await response.content.read(1)

    async def close(self) -> None:
        await self._session.close()
        await self._middleware.close()


@pytest.fixture(params=[Httpx, Httpx2, Aiohttp])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def place(redis_server: RedisServer) -> str:
    return f"{redis_server.url}?prefix=awaited-{next(_numbers)}:&timeout={PATIENT}"


@pytest.fixture
def run(kind: Any, place: str) -> Callable[[Callable[[Any], Awaitable[None]]], None]:
    """Return what uses a client in a loop of its own; all is closed behind it."""

    def in_loop(use: Callable[[Any], Awaitable[None]]) -> None:
        async def main() -> None:
            async with AsyncRedisCache.from_url(place) as cache:
                client = kind(cache)
                try:
                    await use(client)
                finally:
                    await client.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert others == set()

        asyncio.run(main())

    return in_loop


def keys(place: str) -> list[str | None]:
    with RedisCache.from_url(place) as cache:
        return [entry.key for entry in cache.entries()]


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_is_stored_is_served(run: Any, origin: Origin, place: str, body: bytes) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=body))

    async def use(client: Any) -> None:
        for from_cache in (False, True):
            content, info = await client.get(url)
            assert content == body
            assert info.from_cache is from_cache

    run(use)
    assert len(origin.received) == 1
    assert keys(place) == [url]


def test_what_is_stale_is_asked_about(run: Any, origin: Origin, place: str) -> None:
    url = origin.on("/", Document(b"hello", headers={"Cache-Control": "no-cache"}))

    async def use(client: Any) -> None:
        for outcome in ("miss", "revalidated", "revalidated"):
            content, info = await client.get(url)
            assert content == b"hello"
            assert info.outcome.value == outcome

    run(use)
    assert len(origin.received) == 3
    assert keys(place) == [url]


def test_who_stops_reading_leaves_nothing(run: Any, origin: Origin, place: str) -> None:
    long = BODIES[-1] * 4
    url = origin.on("/", Reply(headers=FRESH, body=long))

    async def use(client: Any) -> None:
        await client.begin(url)
        content, info = await client.get(url)
        assert content == long
        await client.begin(url)
        content, info = await client.get(url)
        assert (content, info.from_cache) == (long, True)

    run(use)
    assert keys(place) == [url]


def test_many_at_once_make_one_request(run: Any, origin: Origin) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=BODIES[1]))

    async def use(client: Any) -> None:
        answers = await asyncio.gather(*(client.get(url) for _ in range(50)))
        assert {content for content, _ in answers} == {BODIES[1]}

    run(use)
    assert len(origin.received) == 1


def test_a_url_makes_a_cache_that_is_awaited(kind: Any, origin: Origin, place: str) -> None:
    url = origin.on("/", Reply(headers=FRESH, body=b"hello"))

    async def main() -> None:
        for from_cache in (False, True):
            client = kind(place)
            assert isinstance(client.cache, AsyncRedisCache)
            _, info = await client.get(url)
            assert info.from_cache is from_cache
            await client.close()

    asyncio.run(main())
